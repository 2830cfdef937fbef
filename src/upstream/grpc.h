/*
 * grpc: calls to services behind the gateway, whose answer is one message or a stream of them: a
 * pool of HTTP/2 connections per worker and
 * upstream, round robin over healthy addresses, deadlines, reconnects. Thread: the worker's.
 * Source: edge.md §2.3.
 *
 * An address takes calls while it has a connection that is up (the peer's SETTINGS have come) and,
 * where health checks are on, its last Check said SERVING or UNIMPLEMENTED; until the first Check
 * of a new connection is answered, calls wait. The metric upstream_healthy is 1 in such a worker,
 * so its sum is the number of workers that would call the address. A service's own
 * DEADLINE_EXCEEDED or CANCELLED in the last 20 ms of the deadline that we gave it is
 * UPSTREAM_TIMEOUT. HTTP errors without grpc-status and RST_STREAM are UPSTREAM_STATUS with the
 * status that gRPC gives them, no message.
 *
 * A breaker (upstream/breaker.h, config breaker) refuses calls with UPSTREAM_UNAVAILABLE while the
 * service fails; health checks pass it by.
 */
#ifndef UPSTREAM_GRPC_H
#define UPSTREAM_GRPC_H

#include "base/err.h"
#include "base/payload.h"
#include "config/config.h"
#include "net/dial.h"

struct upstream;
struct upstream_call;

enum upstream_outcome {
	UPSTREAM_OK,	      /* message is the answer */
	UPSTREAM_STATUS,      /* the service's own status other than OK, and its message */
	UPSTREAM_UNAVAILABLE, /* refused, reset, no healthy address */
	UPSTREAM_TIMEOUT,     /* no answer in time */
	UPSTREAM_BUSY,	      /* max_in_flight: refused at once */
	UPSTREAM_MALFORMED,   /* an answer that is no gRPC, or over the message limit */
	UPSTREAM_OUTCOME_COUNT
};

struct upstream_result {
	enum upstream_outcome outcome;
	enum grpc_status status;
	struct span message; /* UPSTREAM_OK: the answer's bytes, of a stream none;
				UPSTREAM_STATUS: grpc-message, decoded. Lent */
	struct span details; /* grpc-status-details-bin as it came, in base64; or empty. Lent */
};

/* Never called inside upstream_call_start. */
typedef void upstream_done_fn(struct upstream_call *call, const struct upstream_result *result);

/* One message of a streaming answer; lent. Never called inside upstream_call_start. */
typedef void upstream_message_fn(struct upstream_call *call, struct span message);

/* Embedded in who waits. */
struct upstream_call {
	upstream_done_fn *done;
	upstream_message_fn *message;	/* NULL: the answer is one message */
	struct upstream_stream *stream; /* NULL: idle */
};

#define UPSTREAM_HEADERS_MAX 16

struct upstream_header {
	struct span name, value; /* lower case; printable ASCII */
};

struct upstream_request {
	struct span path; /* "/galaxy.gateway.v1.CommandHandler/Handle"; the call's lifetime */
	struct payload *message; /* with its 5-byte gRPC prefix; a reference is taken */
	uint64_t deadline_ms; /* from now; the upstream's own deadline applies as well. 0: only that
			       */
	struct span request_id; /* sent as x-request-id when not empty */
	/* More metadata, and user-agent if it is not to be ours alone; the call's lifetime. */
	const struct upstream_header *headers;
	size_t header_count; /* ≤ UPSTREAM_HEADERS_MAX */
	upstream_message_fn *message_received; /* NULL: the answer is one message */
};

struct upstream_options {
	const struct config_upstream *config; /* immutable; the upstream's lifetime */
	uint32_t message_bytes_max;
	struct dns *dns;
	struct metric_registry *metrics;
};

int upstream_create(struct upstream **upstream, struct worker *worker,
		    const struct upstream_options *options);

/* The path's metrics are there from now on, not from its first call. */
void upstream_announce(struct upstream *upstream, struct span path);

/* Begins to dial and to check health. */
void upstream_start(struct upstream *upstream);

/*
 * Lifetime of the request: the call. Returns 0 (`done` follows once), or the outcome that it would
 * have been as a negative number: -UPSTREAM_UNAVAILABLE, -UPSTREAM_BUSY; nothing was sent then. A
 * call waits for a connection being dialled, within its deadline; if there is none by then, it was
 * UPSTREAM_UNAVAILABLE. A call is sent again to another
 * connection only when it is certain that the service did not see it (REFUSED_STREAM, or GOAWAY
 * below its stream).
 */
int upstream_call_start(struct upstream *upstream, struct upstream_call *call,
			upstream_done_fn *done, const struct upstream_request *request);

/*
 * Of a streaming answer: no message and no end is told until upstream_call_resume, and the service is
 * held back by the stream's window. Resuming tells what is there at once, inside. Safe on an idle call.
 */
void upstream_call_pause(struct upstream_call *call);
void upstream_call_resume(struct upstream_call *call);

/* RST_STREAM CANCEL; `done` will not be called. Safe on an idle call. */
void upstream_call_cancel(struct upstream_call *call);

/* Whether an address could take a call now: for tests and dumps. */
bool upstream_is_ready(const struct upstream *upstream);

/*
 * Takes no calls any more, and is not healthy; those in flight or waiting go on as before. `stopped`
 * follows when the last has ended and the connections are closed. upstream_stop may cut it short.
 */
void upstream_retire(struct upstream *upstream, void (*stopped)(void *context), void *context);

/* Cancels what is in flight (UPSTREAM_UNAVAILABLE), closes, then calls `stopped`; upstream_destroy
 * may follow. */
void upstream_stop(struct upstream *upstream, void (*stopped)(void *context), void *context);
void upstream_destroy(struct upstream *upstream);

#endif
