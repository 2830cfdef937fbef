/*
 * request: one HTTP request or gRPC call as a service sees it, whatever the protocol face.
 * Thread: the worker's.
 *
 *   face ─ start(request) ─► service ─┬─ request_reply…  (HTTP)
 *                                     ├─ http_begin + http_give* + http_end  (HTTP, streamed)
 *                                     └─ rpc_send* + rpc_finish (gRPC)
 *                                        either ends the service's part
 *   face ─ cancelled(request) ─► the client or its deadline is gone: the service lets go at
 *                                once, answers nothing
 *
 * The face owns the request. A service holds it from start until it ends it or is told cancelled,
 * whichever is first.
 */
#ifndef EDGE_REQUEST_H
#define EDGE_REQUEST_H

#include "base/arena.h"
#include "base/err.h"
#include "base/payload.h"
#include "net/address.h"
#include "uring/worker.h"

struct request;
struct route;
struct face_operations;
struct reply_header;

enum route_kind { ROUTE_HTTP, ROUTE_GRPC };

/* Immutable; lives as long as the router. */
struct route {
	enum route_kind kind;
	const char *method; /* "GET"; "POST" for gRPC. GET takes HEAD too */
	const char *path;   /* exact: "/healthz", "/galaxy.gateway.v1.EdgeGateway/ExecuteCommand" */
	size_t body_bytes_max; /* HTTP body, or one gRPC message; over it the face answers by itself
				*/
	/* The whole body (the first message of a gRPC call, which ends the client's side) is there.
	 */
	void (*start)(struct request *request);
	/* The client reset the stream or is gone, or grpc-timeout ran out. May be NULL for routes
	 * that answer inside start. */
	void (*cancelled)(struct request *request);
	/* A streaming answer may send now: rpc_send or http_give until it returns false or there is
	 * nothing. NULL for routes that answer at once. */
	void (*pull)(struct request *request);
	/*
	 * For gRPC routes whose client streams: `start` comes with the headers, then each message
	 * (lent until return), then `half_closed` unless the call has ended. NULL: one message, one
	 * `start`.
	 */
	void (*message)(struct request *request, struct span message);
	void (*half_closed)(struct request *request);
	/* The face refuses the request before `start` (too large, too slow, malformed, too many):
	 * answers in the route's own form, with these headers too. NULL: request_reply_error. */
	void (*refuse)(struct request *request, enum err err, const struct reply_header *headers,
		       size_t header_count);
	/* HTTP/1.1: a client that ends its side while it is being served has gone, as in front of most
	 * servers; else it may still wait for the answer. */
	bool ends_with_peer;
	/* All header fields are kept for request_find_header: paths of server_options.find. */
	bool keeps_headers;
	/* Not counted as a call in flight at shutdown, and not logged per call: health Watch,
	 * streams. */
	bool long_lived;
};

/* A field of the request's header, in its arena. */
struct request_header {
	struct request_header *next;
	struct span name, value; /* name in lower case */
};

struct request {
	const struct route *route;
	const struct face_operations *face;
	struct worker *worker;
	const struct address *peer;
	void *service; /* state of the worker's service: server_options.service (server_options) */
	void *context; /* the handler's own */
	struct span method, path, query; /* path without query */
	const char *label; /* request_set_label, in arena; NULL: the route's path */
	struct span request_id; /* x-request-id or the service's; for the access log; in arena */
	struct span trace_id;
	struct span accept; /* the header, when it is not longer than usual; in arena */
	struct span body;   /* lent until the request ends */
	struct request_header *headers; /* the last one first; if route->keeps_headers */
	uint64_t started_us;
	uint64_t deadline_us; /* monotonic; 0: none (grpc-timeout) */
	struct arena arena;   /* the request's small memory */
	uint64_t sent_bytes;
	int status;    /* HTTP or gRPC, once answered */
	bool ended;    /* the service's part is over */
	bool is_begun; /* a streamed answer's head has left */
};

/*
 * What the path is called in metrics and the access log, for routes of server_options.find that
 * stand for many: a text of the configuration ("/users/{user_id}"), never what a client sent; empty:
 * the route's path. Copied.
 */
void request_set_label(struct request *request, struct span label);

struct reply_header {
	const char *name; /* lower case */
	struct span value;
};

struct reply {
	int status;
	const char *content_type; /* "application/json" */
	struct span body;	  /* copied */
	const struct reply_header *headers;
	size_t header_count; /* ≤ REPLY_HEADERS_MAX */
};

#define REPLY_HEADERS_MAX 16 /* besides date, content-type, content-length and connection */

/* What a face does for a request; private to edge. */
struct face_operations {
	void (*reply)(struct request *request, const struct reply *reply);
	bool (*give)(struct request *request, struct payload_slice slice); /* as rpc_give */
	void (*finish)(struct request *request, int grpc_status, struct span message,
		       uint64_t retry_after_ms);
	void (*drop_queue)(struct request *request); /* NULL: what is queued cannot be told apart */
	void (*resume)(struct request *request);
	void (*fetch)(struct request *request, unsigned step); /* as rpc_fetch; may be NULL */
	void (*settle)(struct request *request); /* NULL: nothing to give back */
	void (*begin)(struct request *request, const struct reply *head);
	void (*end)(struct request *request, bool whole);
};

/* Answers an HTTP request and ends it. HEAD's body is left out by the face. */
void request_reply(struct request *request, const struct reply *reply);

/* {"error":{"code":"…","message":"…"}} of the row; `headers` may be NULL. Ends the request. */
void request_reply_error(struct request *request, enum err err, const struct reply_header *headers,
			 size_t header_count);

/*
 * The value of the first field with this name (lower case), fields of the same name joined by ", " as
 * RFC 9110 §5.3 has it (cookies by "; "). Empty when there is none, or no memory to join. In the arena.
 */
struct span request_find_header(struct request *request, struct span name);

/*
 * Begins a streamed answer of an HTTP route; the head's body is not looked at. HEAD's answer ends with
 * it.
 */
void http_begin(struct request *request, const struct reply *head);

/*
 * One part of it, not empty. Owns: the caller's reference from now on. Returns whether more may follow
 * at once: false means wait for route->pull.
 */
bool http_give(struct request *request, struct payload *part);

/* Ends it. Not whole: the connection or stream is broken off, so that the client sees it. */
void http_end(struct request *request, bool whole);

/* As rpc_resume. */
void http_resume(struct request *request);

/*
 * Sends one message of a gRPC answer (its 5-byte prefix included); headers leave with the first
 * one. Takes a reference of its own. Returns whether more may follow at once: false means wait for
 * route->pull.
 */
bool rpc_send(struct request *request, struct payload_slice message);

/*
 * As rpc_send with a whole payload of one message or several, each behind its prefix. Owns: the
 * caller's reference from now on, whatever it returns.
 */
bool rpc_give(struct request *request, struct payload *messages);

/* Ends the call. Without a message before: trailers only. `message` is percent-encoded here. */
void rpc_finish(struct request *request, int grpc_status, struct span message);

/* Ends the call with an err row; `argument` fills its %s (NULL: none). retry_after_ms > 0 adds the
 * trailer retry-after-ms. */
void rpc_fail(struct request *request, enum err err, const char *argument, uint64_t retry_after_ms);

/*
 * As rpc_fail, ahead of what is queued: messages not begun are dropped, one partly sent is
 * completed. RST_STREAM only after 30 s without window.
 */
void rpc_cut(struct request *request, enum err err);

/* A streaming route has something to send again: pull follows in this turn. */
void rpc_resume(struct request *request);

/*
 * A long-lived call has taken in what it was asked: body and header fields are given back, but for
 * request_id, trace_id, and method and path, which are the route's text now. What the service has
 * in the arena goes too. Of a call over gRPC-Web the same goes for its HTTP request.
 */
void request_settle(struct request *request);

/*
 * Tells the processor what rpc_resume and the send that follows will touch; changes nothing. Each
 * step follows the pointers that the one before has fetched: do a step for all of several requests,
 * then the next.
 */
#define RPC_FETCH_STEPS 4
void rpc_fetch(struct request *request, unsigned step);

/* Milliseconds left until the caller's deadline, at least 1; 0: no deadline. */
uint64_t request_time_left_ms(const struct request *request);

#endif
