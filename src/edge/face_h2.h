/*
 * face_h2: HTTP/2 on one connection: its nghttp2 session (face_h2.c) and its calls (call.c).
 * Private to edge. Thread: the worker's.
 */
#ifndef EDGE_FACE_H2_H
#define EDGE_FACE_H2_H

#include "codec/grpc.h"
#include "codec/h2.h"
#include "edge/connection.h"
#include "edge/manners.h"

/*
 * Bytes of request bodies that one connection may have in memory, for calls that are being received
 * or served; and of answers that have not been taken, where the client streams. At the bound the
 * call whose bytes cross it is refused. Sixteen of the largest default messages.
 */
#define HTTP2_BODY_BYTES_MAX (64u << 20)

/* And of answers that are whole, and that its client has not taken; at the bound the call whose
 * answer crosses it is reset. Thirty-two of the largest default messages. */
#define HTTP2_ANSWER_BYTES_MAX (128u << 20)

struct http2 {
	struct connection *connection;
	struct h2_session *session; /* NULL: over */
	struct list calls;	    /* call.link */
	struct list attention;	    /* call.attention: pull or cut before the next frames */
	uint32_t body_bytes;	    /* of all calls, in memory */
	uint32_t answer_bytes;	    /* of all calls that are answered and not over */
	uint32_t taken_bytes;	    /* low bits: of bodies, all in all */
	struct manners manners;
	uint64_t armed_ms;  /* connection->deadline: at the latest when it is needed */
	uint64_t notice_ms; /* when the second step of leaving comes at the latest */
	struct glitches glitches;
	uint32_t awaited_ms;	      /* low bits of by when it must be there, with is_awaiting */
	bool is_awaiting;	      /* the first SETTINGS, or the rest of a header block */
	bool has_settings;	      /* the client's first have come */
	bool is_busy;		      /* inside h2_produce: what is queued now leaves by itself */
	bool has_noticed, has_goaway; /* the two steps of leaving */
	bool is_punished;	      /* for its manners, not for a broken frame */
	uint16_t awaited_bodies;      /* calls with awaits_body */
};

/* One for each open stream, idle or not, so its bytes count. */
struct call {
	struct request request;	 /* 224 */
	struct h2_stream stream; /* 184: an inline queue of 64 */
	struct http2 *http2;
	struct list link, attention;
	struct deadline deadline; /* body, grpc-timeout; after the answer: stalled */
	struct grpc_deframer deframer;
	struct buf body;	/* of HTTP, or a gRPC message that lay whole in a frame */
	uint32_t charged_bytes; /* in http2->body_bytes */
	union {
		struct { /* with awaits_body */
			uint32_t window_bytes; /* of the body, since the window began */
			uint32_t window_taken; /* http2->taken_bytes when it did */
			uint32_t body_due_ms;  /* low bits */
		};
		struct { /* after the answer */
			uint32_t stall_bytes; /* queued when the stall timer was armed, if it is */
			uint32_t discarded_bytes; /* of the body */
			uint32_t answer_bytes;	  /* in http2->answer_bytes, until it is over */
		};
	};
	uint64_t content_length;
	struct server_gate gate;
	uint64_t timeout_us; /* grpc-timeout */
	struct span message; /* gRPC: the one message */
	enum grpc_encoding encoding;
	uint8_t header_error; /* enum err; found in the header fields, or ERR_NONE */
	uint8_t route_error;  /* enum err; with is_routed */
	bool content_is_grpc, has_timeout, has_content_length;
	bool expects_continue, expects_more; /* more: something that we do not know */
	bool is_routed;
	bool is_grpc; /* how it is answered */
	bool headers_done, has_message, is_started, is_responded, is_broken;
	bool awaits_body; /* its end, which is due */
	struct span allow; /* in the arena; with ERR_METHOD_NOT_ALLOWED */
};
_Static_assert(sizeof(struct call) <= 704, "bench/README.md's table of bytes per idle stream");
_Static_assert(sizeof(struct http2) <= 176, "as above; 192 of malloc's for each connection");

/* Frames wait: they leave in this turn's flush step. */
void http2_wake(struct http2 *http2);

/*
 * Counts it, unless it is paid for, and holds it against the client; at the threshold the
 * connection ends.
 */
void http2_take_glitch(struct http2 *http2, enum glitch glitch);

/* A call's stream is over, whoever ended it. */
void http2_note_closed(struct http2 *http2, const struct call *call, uint32_t code);

/* ---- what call.c and call_http.c share ---- */

static inline struct call *call_of(struct request *request)
{
	return CONTAINER_OF(request, struct call, request);
}

static inline struct server *server_of(const struct call *call)
{
	return call->http2->connection->server;
}

/* RST_STREAM. */
void call_reset(struct call *call, uint32_t code);

/* The answer is whole, in the stream's queue; `code`: of what queued it. */
void call_answered(struct call *call, int status, int code);

/* call_attend follows before the next frames are made. */
void call_ask_attention(struct call *call);

/* face_operations of HTTP routes. */
void call_reply(struct request *request, const struct reply *reply);
void call_begin(struct request *request, const struct reply *head);
void call_end(struct request *request, bool whole);

/* ---- call_memory.c: what a call holds in memory ---- */

/* Of its body; 0: nothing any more. */
void call_charge(struct call *call, size_t bytes);

/* Of one whose client streams. It asks again before it has taken what it asked for: answers count,
 * too. */
void call_charge_streamed(struct call *call);

/* Whether the connection may have as much as it has; else it is counted, and the row to answer. */
enum err call_judge_memory(struct call *call);

/* Its answer is whole, and is kept until the call is over. Returns whether the connection may have
 * it beside those that its client has not taken; else it is counted. */
bool call_keep_answer(struct call *call);
void call_forget_answer(struct call *call);

/* ---- call_due.c: what a call waits for ---- */

/* The nearest of: the caller's deadline, `body_ms` (0: nothing of the body is awaited). */
void call_arm(struct call *call, uint64_t body_ms);

/* The body must be there in GATEWAY_HTTP_BODY_TIMEOUT, and come fast enough meanwhile. */
void call_await_body(struct call *call);

/* It has come, or is not awaited any longer. */
void call_end_body(struct call *call);

/* A part of it came. */
void call_take_body(struct call *call, size_t bytes);

/* When the deadline is there: whether the body may take longer; the next look is armed. */
bool call_watch_body(struct call *call);

/* Whether it has had all its time. */
bool call_body_is_due(const struct call *call);

/* ---- call.c ---- */

/* h2_handler's part that concerns one stream. */
struct h2_stream *call_open(struct h2_session *session, int32_t stream_id);
int call_take_header(struct h2_stream *stream, struct span name, struct span value);
void call_take_headers(struct h2_stream *stream, enum h2_headers_kind kind, bool end_stream);
void call_take_data(struct h2_stream *stream, struct span bytes);
void call_take_end(struct h2_stream *stream);
bool call_pull(struct h2_stream *stream);
void call_closed(struct h2_stream *stream, uint32_t code);

/* What call.attention was set for. */
void call_attend(struct call *call);

/* Whether its service has still to answer. Not one that waits for the client's window, nor one that
 * lasts until either side ends it. */
bool call_is_owed(const struct call *call);

/* Shutdown: a long-lived call that its service has not ended is ended now. */
void call_end_long_lived(struct call *call);

#endif
