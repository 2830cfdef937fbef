/*
 * push_crew: one thread of the generator with its connections and streams. Thread: its own, but
 * for the counters, which any thread reads.
 */
#ifndef RINGBENCH_PUSH_CREW_H
#define RINGBENCH_PUSH_CREW_H

#include "push_check.h"
#include "push_conn.h"

struct push_rest; /* the beginning of a message whose end is still to come */

enum push_stream_state {
	PUSH_STREAM_CLOSED, /* never opened, or closed by us */
	PUSH_STREAM_OPENING,
	PUSH_STREAM_OPEN,
	PUSH_STREAM_ENDED
};

/* Instead of a gRPC status. */
#define PUSH_STATUS_NONE  17 /* END_STREAM or RST_STREAM without one */
#define PUSH_STATUS_LOST  18 /* the connection ended */
#define PUSH_STATUS_COUNT 19

struct push_stream {
	uint64_t next; /* sequence of its user's next event */
	struct push_rest *rest;
	uint32_t user;
	uint32_t window_used;
	uint8_t state, status;
	bool stalled; /* its latency says nothing */
};

struct push_crew;

struct push_handler {
	/* All of the connection's streams have had their first event, or have ended without. */
	void (*settled)(struct push_crew *crew, struct push_conn *conn);
	void (*closed)(struct push_crew *crew, struct push_conn *conn);
};

struct push_crew {
	struct worker *worker;
	const struct push_handler *handler;
	void *context; /* whoever set the handler */
	struct push_conn *conns;
	struct push_stream *streams;
	uint32_t conn_count, stream_count;
	bool leaving; /* we close: no stream is lost by it */
	struct push_check check;
	struct span known_reply; /* block of the usual response headers */
	uint8_t reply_bytes[256];
	char fault[160]; /* the first thing that went wrong, for people */
	struct metric_counter ready, refused, ended;
	struct metric_counter receives, received_bytes;
	struct metric_counter delivered, delivered_stalled; /* events of ours */
	struct metric_counter ended_by[PUSH_STATUS_COUNT];
};

/* `worker` has been made ready by the caller. Returns 0 or -ENOMEM. */
int push_crew_init(struct push_crew *crew, struct worker *worker, uint32_t conn_count,
		   uint32_t stream_count);
void push_crew_finish(struct push_crew *crew);

/* Remembers the first one. */
void push_crew_blame(struct push_crew *crew, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- for push_conn ---- */

void push_stream_open(struct push_stream *stream);
void push_stream_take(struct push_crew *crew, struct push_conn *conn, struct push_stream *stream,
		      struct span bytes);
void push_stream_headers(struct push_crew *crew, struct push_conn *conn,
			 struct push_stream *stream, struct span block, bool is_last);
void push_stream_end(struct push_crew *crew, struct push_conn *conn, struct push_stream *stream,
		     uint8_t status);

#endif
