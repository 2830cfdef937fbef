/*
 * grpc_web: an HTTP request of a browser as a call of a gRPC method: the method's handlers get a
 * request of its own kind, whose answer goes out as the HTTP request's, over either protocol.
 * Thread: the worker's.
 *
 *   face ─ start(HTTP request) ─► service ─ grpc_web_start ─► route->start(call)
 *   face ◄─ http_begin, http_give*, http_end ◄─ rpc_send*, rpc_finish ◄─┘
 *
 * Messages of a binary answer are handed on as they are; those of a text answer are copied, and
 * counted. An answer without a message is its header alone (trailers-only), with an empty body;
 * after a message the status is the body's last frame. Source: grpc/doc/PROTOCOL-WEB.md, api.md §5.
 */
#ifndef EDGE_GRPC_WEB_H
#define EDGE_GRPC_WEB_H

#include "base/metric.h"
#include "codec/grpc_web.h"
#include "edge/request.h"

struct grpc_web_options {
	enum grpc_web_kind kind; /* of the request; not NONE */
	/* Of the method, kind ROUTE_GRPC; its body_bytes_max bounds the message. Outlives the call.
	 */
	const struct route *route;
	void *context; /* the call's request->context at its start */
	/* Of the answer, besides gRPC's own; they and their values live in the HTTP request's
	 * arena, or for ever. */
	const struct reply_header *headers;
	size_t header_count;		     /* ≤ GRPC_WEB_HEADERS_MAX */
	struct metric_counter *copied_bytes; /* of payloads to text; may be NULL */
	struct metric_counter *calls;	     /* by status; may be NULL */
};

#define GRPC_WEB_HEADERS_MAX (REPLY_HEADERS_MAX - 4)

/*
 * Begins the call; the HTTP request is answered by it, or at once when it is no call: a body that
 * is not one message, a timeout that is over. The route of the HTTP request, which is a POST, must
 * have grpc_web_cancelled and grpc_web_pull, and be long_lived if the method's is. Owns
 * http->context until then; cancelled, it is as before.
 */
void grpc_web_start(struct request *http, const struct grpc_web_options *options);

/* Answers without a call; options->route is not looked at. */
void grpc_web_refuse(struct request *http, const struct grpc_web_options *options,
		     enum grpc_status status, const char *message);

/* For the HTTP request's route. */
void grpc_web_cancelled(struct request *http);
void grpc_web_pull(struct request *http);

/* As rpc_finish, for a call of grpc_web_start only; `details`: grpc-status-details-bin, in base64.
 */
void grpc_web_finish(struct request *call, int grpc_status, struct span message,
		     struct span details);

#endif
