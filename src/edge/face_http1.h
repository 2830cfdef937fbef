/*
 * face_http1: what the files of the HTTP/1.1 face share: a connection's requests (face_http1.c) and
 * its answers (http1_answer.c). Private to edge. Thread: the worker's.
 */
#ifndef EDGE_FACE_HTTP1_H
#define EDGE_FACE_HTTP1_H

#include "codec/http1.h"
#include "edge/connection.h"

enum http1_state { HTTP1_HEAD, HTTP1_BODY, HTTP1_SERVICE, HTTP1_STREAM, HTTP1_ANSWER, HTTP1_OVER };

enum http1_wait { WAIT_NOTHING, WAIT_IDLE, WAIT_HEAD, WAIT_BODY, WAIT_SEND };

struct http1_part;

struct http1 {
	struct connection *connection;
	enum http1_state state;
	enum http1_wait wait;
	uint64_t due_ms;       /* when `wait` is over; connection->deadline may come earlier */
	uint64_t body_due_ms;  /* WAIT_BODY: when the whole body is due, whatever its rate */
	uint64_t window_bytes; /* of the body's wire bytes, in this RATE_WINDOW_MS */
	bool last;	       /* this answer ends the connection */
	bool peer_finished;
	bool is_advancing; /* inside http1_advance: it sees itself what an answer changes */
	bool is_started;   /* the service has the request */
	bool is_http10;
	enum err
		refusal; /* answered instead of a service, once the body is there; ERR_NONE: none */
	char allow[ROUTER_ALLOW_MAX];
	struct buf ahead;
	struct buf body;
	struct http1_body_reader reader;
	uint64_t body_bytes_max; /* of the route, if there is one, and the gate */
	struct server_gate gate;
	uint64_t unwanted_bytes;
	struct http1_part *parts; /* of the answer's body, not with the transport yet */
	bool is_chunked;	  /* the answer is, and so is each of its parts */
	bool owes_last_chunk;	  /* behind them */
	struct request request;
};

/* What is waited for from now on, in the configuration's time for it. */
void http1_wait_for(struct http1 *http1, enum http1_wait wait);

/* Closes at once. */
void http1_fail(struct http1 *http1, enum connection_outcome outcome);

/* ---- http1_answer.c ---- */

extern const struct face_operations http1_operations;

/* Answers an error row by ourselves. */
void http1_refuse(struct http1 *http1, enum err err);

/* As http1_refuse, when the rest of the bytes cannot be told apart any more. */
void http1_refuse_last(struct http1 *http1, enum err err);

/* Hands on what there is room for. Returns whether all there is of the answer has left. */
bool http1_send_rest(struct http1 *http1);

/* The rest is not sent. */
void http1_drop_rest(struct http1 *http1);

/* Asks the service of a streamed answer for more, if there is room. */
void http1_pull(struct http1 *http1);

#endif
