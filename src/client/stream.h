/*
 * stream: one gRPC call over a connection of its own: one message out, any number back. Thread: the
 * loop's.
 *
 *   OFF ─ stream_open ─► DIALING ─► OPEN ─► ENDED: ended()
 */
#ifndef CLIENT_STREAM_H
#define CLIENT_STREAM_H

#include "client/loop.h"
#include "codec/grpc.h"
#include "codec/h2.h"
#include "net/conn.h"
#include "net/dial.h"

struct stream;

struct stream_end {
	enum grpc_status status;
	struct span message;	 /* lent until return */
	uint64_t retry_after_ms; /* 0: not told */
};

struct stream_handler {
	/* Lent until return. stream_close inside is allowed. */
	void (*message)(struct stream *stream, struct span message);
	/* Last call, once, unless closed before. The stream closes itself afterwards. */
	void (*ended)(struct stream *stream, const struct stream_end *end);
};

struct stream_target {
	struct endpoint endpoint;
	const char *path;
	struct payload *message; /* with its 5-byte prefix; a reference is taken */
	uint64_t begin_ms; /* for the connection, and without timeout_ms for the answer's headers */
	uint64_t timeout_ms; /* for all of it, sent as grpc-timeout; 0: none */
};

struct stream { /* lives until loop_destroy */
	struct loop *loop;
	const struct stream_handler *handler;
	struct stream_target target;
	char authority[ENDPOINT_TEXT_MAX];
	struct dial dial;
	struct conn conn;
	struct h2_session *session; /* NULL: no connection */
	struct h2_stream h2;
	struct grpc_deframer deframer;
	struct buf status_message;
	struct deadline deadline;
	uint64_t due_ms, retry_after_ms;
	uint8_t state;
	bool is_grpc, has_status;
	enum grpc_status status;
};

void stream_open(struct stream *stream, struct loop *loop, const struct stream_target *target,
		 const struct stream_handler *handler);

/* RST_STREAM CANCEL if it has not ended. `ended` is not called any more. Safe when ended. */
void stream_close(struct stream *stream);

#endif
