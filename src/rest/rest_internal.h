/*
 * rest_internal: what the files of the API gateway's service share. Nobody else includes it.
 * Thread: the worker's.
 *
 *   rest.c     which route a request takes
 *   call.c     a call through to its service: session, permission, transcoding
 *   stream.c   answers that are streams: NDJSON and Server-Sent Events
 *   ask.c      ValidateSession and CheckPermission
 *   sign_on.c  login, callback, logout
 *   answer.c   headers and bodies of answers
 *   rest_metrics.c  what is counted, by name
 *   web.c      gRPC-Web: which call, and of a service behind the gateway the call itself
 */
#ifndef REST_REST_INTERNAL_H
#define REST_REST_INTERNAL_H

#include "auth/ids.h"
#include "log/log.h"
#include "rest/identities.h"
#include "rest/origins.h"
#include "rest/plan.h"
#include "rest/rest.h"
#include "rest/transcode.h"

#define REST_BODY_BYTES_MAX   (4u << 20)  /* of a request */
#define REST_ANSWER_BYTES_MAX (64u << 20) /* of JSON; the message limit comes long before */

/* Labels of gateway_sign_on_total. */
enum sign_on_result {
	SIGN_ON_BEGUN,
	SIGN_ON_BAD_NEXT,
	SIGN_ON_SIGNED_IN,
	SIGN_ON_NO_COOKIE,
	SIGN_ON_BAD_COOKIE,
	SIGN_ON_EXPIRED,
	SIGN_ON_WRONG_STATE,
	SIGN_ON_USED,
	SIGN_ON_PROVIDER_ERROR,
	SIGN_ON_MALFORMED,
	SIGN_ON_REFUSED,
	SIGN_ON_REDIS_UNAVAILABLE,
	SIGN_ON_STATES_FULL,
	SIGN_ON_AUTH_UNAVAILABLE,
	SIGN_ON_SIGNED_OUT,
	SIGN_ON_SIGN_OUT_FAILED,
	SIGN_ON_RESULTS
};

struct rest {
	struct rest_options options;
	struct identities identities;
	struct list questions; /* ValidateSession calls under way */
	struct list calls;
	struct id_pool ids;	      /* of requests that came without */
	struct buf message, answer; /* while they are made */
	bool is_draining; /* no stream begins any more */
	struct route web_rpc; /* any method of a service behind the gateway, over gRPC-Web */
	struct {
		struct metric_counter forbidden, unauthenticated, foreign_origin;
		struct metric_counter sign_on[SIGN_ON_RESULTS];
		struct metric_counter web_calls[GRPC_STATUS_COUNT];
	} metrics;
};

/* ---- rest_metrics.c ---- */

/* Cells that find no room in the registry are not rendered. */
void rest_metrics_register(struct rest *rest);
void rest_metrics_finish(struct rest *rest);

/* ---- rest.c ---- */

/* route.refuse, with an error body; the context is the rest. */
void rest_refuse(struct request *request, enum err err, const struct reply_header *headers,
		 size_t header_count);

/* To an OPTIONS that only asks what a page of another origin may; `allow`: methods. */
bool answer_is_preflight(struct request *request);
void answer_preflight(struct request *request, const struct plan *plan, const char *allow);
void answer_no_method(struct request *request, const struct plan *plan, const char *allow);

/* ---- answer.c ---- */

/* What an answer has besides its body. */
struct answer_head {
	int status;
	const char *content_type; /* NULL: application/json */
	struct reply_header more[6];
	size_t more_count;
};

/* With x-request-id, cache-control and CORS. Ends the request: nothing of its arena is there after.
 */
void answer_reply(struct request *request, const struct plan *plan, const struct answer_head *head,
		  struct span body);
/* {"error":…} */
void answer_error(struct request *request, const struct plan *plan, int status,
		  const char *message);
/* With more in its head; `details`: grpc-status-details-bin. */
void answer_error_as(struct request *request, const struct plan *plan,
		     const struct answer_head *head, struct span message, struct span details);

/* The headers that every answer has; room for REPLY_HEADERS_MAX. Returns how many. */
size_t answer_headers(struct request *request, const struct plan *plan,
		      const struct answer_head *head, struct reply_header *headers);

/* ---- call.c ---- */

struct sign_on;

/* In the request's arena, from its start on. */
struct rest_call {
	struct request *request;
	struct rest *rest;
	struct config_file *file; /* a reference: plan and route are its */
	bool holds;		  /* its services: it has not called its own yet */
	const struct plan *plan;
	const struct plan_route *route;
	struct table_match match;
	struct list link; /* in rest->calls while it runs */
	struct identity_waiter waiter;
	struct identity *identity; /* a reference; NULL: public */
	struct upstream_call upstream;
	struct sign_on *sign_on; /* NULL: no callback */
	struct upstream_header headers[6]; /* rest_call_collect_headers */
	size_t header_count;
	/* of a streamed answer */
	struct identity_follower follower;
	bool is_events; /* Server-Sent Events, not NDJSON */
	bool has_begun; /* its head is out */
	bool is_web;	/* gRPC-Web: `request` is the call that edge/grpc_web makes of another */
};

/* A client that names its request keeps the name. */
void rest_call_ensure_id(struct rest *rest, struct request *request);

/* The whole request is there. Owns: the call's reference to its file. */
void rest_call_start(struct rest_call *call);
void rest_call_cancel(struct rest_call *call);

/* Lets go of everything but the request, which is answered last: its arena holds the call. */
void rest_call_finish(struct rest_call *call);

/* Its service has been called, or will not be. No-op when it was told before. */
void rest_call_release(struct rest_call *call);

/* Ends it with an error body; `details`: grpc-status-details-bin. */
void rest_call_answer_error(struct rest_call *call, int status, struct span text,
			    struct span details);
void rest_call_fail(struct rest_call *call, int status, const char *message);

/*
 * Appends the service's message as JSON. Returns 200, or the status that the call ends with, its
 * text REST_UNUSABLE: logged.
 */
#define REST_UNUSABLE "the service's answer cannot be used"
int rest_call_write(struct rest_call *call, struct span message, struct buf *out);

/* By a bearer token or the cookie. `*token` lent; TOKEN_NONE: there is none. */
enum token_source { TOKEN_NONE, TOKEN_BEARER, TOKEN_COOKIE };
enum token_source rest_call_token(struct rest_call *call, struct span *token);

/* What goes upstream of the client's headers. Once. */
void rest_call_collect_headers(struct rest_call *call);

/* What a result other than OK is to a client. `*text` static or of the result. */
int rest_call_status(const struct upstream_result *result, struct span *text);

/* ---- stream.c ---- */

/* The call's answer is a stream: before it is sent on. */
void rest_stream_prepare(struct rest_call *call);

/* upstream_request.message_received and done of such a call. */
void rest_stream_message(struct upstream_call *upstream, struct span message);
void rest_stream_done(struct upstream_call *upstream, const struct upstream_result *result);

/* The client takes more. */
void rest_stream_pull(struct rest_call *call);

/* The process ends: so does it, visibly. */
void rest_stream_shut_down(struct rest_call *call);

/* ---- sign_on.c ---- */

void sign_on_register(struct rest *rest);

/* PLAN_LOGIN and PLAN_CALLBACK. */
void sign_on_start(struct rest_call *call);
void sign_on_finish(struct rest_call *call);

/* PLAN_LOGOUT, once the session is known to be good; or known to be over, and nothing left to ask.
 */
void sign_out_start(struct rest_call *call);
void sign_out_done(struct rest_call *call);

/* ---- web.c ---- */

void web_init(struct rest *rest);

/* The HTTP route of a request for a service of rest.grpc_web; NULL: it is for none. */
const struct route *web_find(const struct rest *rest, struct request *request);

/* Whether it is a gRPC-Web request for one, whatever route its path may have else. */
bool web_claims(const struct plan *plan, struct request *request);

/* Its route from now on; request->context is the rest. */
void web_take(struct request *request);

/* What call.c asks of a call that is_web. */
int web_call_read(struct rest_call *call, struct payload **message);
void web_call_follow(struct rest_call *call);
void web_call_message(struct upstream_call *upstream, struct span message);
void web_call_done(struct upstream_call *upstream, const struct upstream_result *result);
void web_call_fail(struct rest_call *call, int http_status, struct span text);

/* ---- ask.c ---- */

/* By the file that a call began with: another may be current by now. NULL: none is configured. */
struct upstream *ask_auth_service(const struct rest *rest, const struct config_file *file);
/* A message of texts, numbered from 1, behind its prefix. NULL: no memory. */
struct payload *ask_message(const struct span *texts, size_t count);

/* identities_options.ask */
int ask_session(void *context, struct identity_lookup *lookup, struct span token);
/* Those that are under way are given up. */
void ask_finish(struct rest *rest);

/*
 * Asks CheckPermission by call->upstream; `told` follows once. Returns 0 or a negative code:
 * unavailable.
 */
enum permission { PERMISSION_GRANTED, PERMISSION_DENIED, PERMISSION_UNKNOWN };
int ask_permission(struct rest_call *call, upstream_done_fn *done);
enum permission permission_of(const struct upstream_result *result);

#endif
