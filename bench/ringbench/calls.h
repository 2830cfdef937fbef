/*
 * calls: requests over HTTP/2, so many at a time on each of so many connections, by a closed loop
 * or a schedule. A work says what is asked next and whether an answer is right.
 */
#ifndef RINGBENCH_CALLS_H
#define RINGBENCH_CALLS_H

#include "wire.h"

struct call {
	struct wire_stream stream;
	struct wire *wire;
	struct wire_head head; /* of the answer; trailers' grpc_status replaces the headers' */
	struct buf body;
	struct span asked; /* body of the request that the window held up */
	uint64_t sent_us;  /* or due */
	uint64_t due_count, sent_count;
	uint64_t tag; /* the work's: which request this is */
	bool is_waiting, is_held;
};

enum calls_verdict { CALLS_RIGHT, CALLS_WRONG, CALLS_FAILED };

struct calls_kind {
	const char *name;
	bool is_grpc;
	/*
	 * The next request's body (lent until the answer) and tag. Returns false when there are no
	 * more: the window ends. Thread: the lane's.
	 */
	bool (*next)(struct lane *lane, struct call *call, struct span *body);
	/* A whole answer with :status 200 (and grpc-status 0, if it is gRPC). */
	enum calls_verdict (*judge)(struct lane *lane, struct call *call);
};

/* What all lanes share: run->shared. */
struct calls {
	const struct calls_kind *kind;
	struct wire_request request;
	void *work; /* the kind's own */
	/* of all lanes */
	_Atomic bool has_run_out;
};

/* A POST of application/grpc, or a GET, to options->target. Returns 0 or -EMSGSIZE, told. */
int calls_init(struct calls *calls, const struct options *options, const struct calls_kind *kind,
	       const char *path);

/* Runs and reports. Returns the exit code. */
int calls_run(struct calls *calls, const struct options *options);

static inline struct calls *calls_of(const struct lane *lane)
{
	return lane->run->shared;
}

#endif
