/*
 * Two ways for a gRPC-Web request. To a service behind the gateway:
 *
 *   HTTP ─► edge/grpc_web ─► rest_call: (origin) ─► session ─► permission ─► service ─► messages
 *
 * and to the edge gateway's own, whose envelopes are signed: no session, its method's handlers take
 * it.
 */
#include "rest/rest_internal.h"

#include "base/check.h"
#include "codec/grpc.h"
#include "edge/grpc_web.h"

#include <errno.h>

/* The largest message that may be configured, in base64; the listener's own bound comes before. */
#define BODY_BYTES_MAX ((size_t)PAYLOAD_BYTES_MAX / 3 * 4 + 64)

#define METHODS "POST, OPTIONS"

static void web_start(struct request *http);
static void web_refuse(struct request *http, enum err err, const struct reply_header *headers,
		       size_t header_count);

/* clang-format off */
#define WEB_ROUTE \
	.kind = ROUTE_HTTP, .method = "POST", .path = "/*", .body_bytes_max = BODY_BYTES_MAX, \
	.keeps_headers = true, .ends_with_peer = true, .start = web_start, \
	.cancelled = grpc_web_cancelled, .pull = grpc_web_pull, .refuse = web_refuse
/* clang-format on */

static const struct route web_route = {WEB_ROUTE};

/* Of a method of the edge's whose calls live long. */
static const struct route web_lasting_route = {WEB_ROUTE, .long_lived = true};

/* ---- which requests ---- */

static const struct plan *plan_now(const struct rest *rest)
{
	const struct config_file *file = rest->options.upstreams->current.file;

	return file ? plan_of(file) : NULL;
}

/* NULL: the edge has no such method. */
static const struct route *find_rpc(const struct rest *rest, struct span path)
{
	char allow[ROUTER_ALLOW_MAX];
	enum err err;

	return rest->options.rpcs ? router_find(rest->options.rpcs, SPAN("POST"), path, &err, allow)
				  : NULL;
}

/* NULL: the service has no such method. */
static const struct plan_route *find_method(const struct plan_web_service *web, struct span name)
{
	const struct schema_method *rpc = schema_service_method(web->service, name);

	return rpc ? &web->routes[rpc - web->service->methods] : NULL;
}

const struct route *web_find(const struct rest *rest, struct request *request)
{
	struct span method;
	const struct plan_web_service *web =
		plan_find_web_service(plan_now(rest), request->path, &method);
	const struct route *rpc = web && !web->service ? find_rpc(rest, request->path) : NULL;

	if (!web)
		return NULL;
	if (rpc || (web->service && find_method(web, method)))
		request_set_label(request, request->path);
	return rpc && rpc->long_lived ? &web_lasting_route : &web_route;
}

static enum grpc_web_kind kind_of(struct request *request)
{
	return grpc_web_kind_of(request_find_header(request, SPAN("content-type")));
}

bool web_claims(const struct plan *plan, struct request *request)
{
	struct span method;

	return plan->web_service_count > 0 && span_equal(request->method, SPAN("POST")) &&
	       plan_find_web_service(plan, request->path, &method) &&
	       kind_of(request) != GRPC_WEB_NONE;
}

void web_take(struct request *request)
{
	request->route = web_find(request->context, request);
	web_start(request);
}

/* ---- a call to a service behind the gateway ---- */

static void call_start(struct request *request)
{
	struct rest_call *call = request->context;

	call->request = request;
	call->holds = true;
	(void)config_file_get(call->file);
	upstreams_hold(call->rest->options.upstreams);
	rest_call_start(call);
}

static void call_cancelled(struct request *request)
{
	rest_call_cancel(request->context);
}

static void call_pull(struct request *request)
{
	rest_stream_pull(request->context);
}

/* In the HTTP request's arena. NULL: no memory. */
static struct rest_call *call_create(struct rest *rest, struct request *http,
				     const struct plan_route *route)
{
	struct rest_call *call = arena_alloc(&http->arena, sizeof(*call));
	struct config_file *file = rest->options.upstreams->current.file;

	if (call)
		*call = (struct rest_call){
			.rest = rest,
			.file = file,
			.plan = plan_of(file),
			.route = route,
			.is_web = true,
		};
	return call;
}

/* Ends it; the request last, whose memory the call is in. */
static void end(struct rest_call *call, enum grpc_status status, struct span text,
		struct span details)
{
	struct config_file *file = call->file;

	rest_call_finish(call);
	grpc_web_finish(call->request, (int)status, text, details);
	config_file_put(file);
}

void web_call_fail(struct rest_call *call, int http_status, struct span text)
{
	static const struct {
		int http_status;
		enum grpc_status status;
	} rows[] = {
		{400, GRPC_INVALID_ARGUMENT},  {401, GRPC_UNAUTHENTICATED},
		{403, GRPC_PERMISSION_DENIED}, {413, GRPC_RESOURCE_EXHAUSTED},
		{503, GRPC_UNAVAILABLE},
	};
	enum grpc_status status = GRPC_INTERNAL;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].http_status == http_status)
			status = rows[i].status;
	end(call, status, text, SPAN_EMPTY);
}

/* A copy behind its prefix. NULL: no memory. */
static struct payload *framed(struct span message)
{
	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + message.len);

	if (!payload)
		return NULL;
	grpc_write_prefix(payload->data, (uint32_t)message.len);
	if (message.len > 0)
		memcpy(payload->data + GRPC_PREFIX_BYTES, message.data, message.len);
	return payload;
}

int web_call_read(struct rest_call *call, struct payload **message)
{
	*message = framed(call->request->body);
	return *message ? 0 : -ENOMEM;
}

static void revoked(struct identity_follower *follower)
{
	end(CONTAINER_OF(follower, struct rest_call, follower), GRPC_UNAUTHENTICATED,
	    SPAN("session is not valid"), SPAN_EMPTY);
}

void web_call_follow(struct rest_call *call)
{
	call->follower.revoked = revoked;
	if (call->identity)
		identity_follow(call->identity, &call->follower);
}

/* Returns whether the client gets it. */
static bool give(struct rest_call *call, struct span message)
{
	struct payload *payload = framed(message);

	if (!payload) {
		end(call, GRPC_RESOURCE_EXHAUSTED, SPAN("out of memory"), SPAN_EMPTY);
		return false;
	}
	if (!rpc_give(call->request, payload))
		upstream_call_pause(&call->upstream);
	return true;
}

void web_call_message(struct upstream_call *upstream, struct span message)
{
	(void)give(CONTAINER_OF(upstream, struct rest_call, upstream), message);
}

void web_call_done(struct upstream_call *upstream, const struct upstream_result *result)
{
	struct rest_call *call = CONTAINER_OF(upstream, struct rest_call, upstream);
	struct span text = SPAN_EMPTY;

	switch (result->outcome) {
	case UPSTREAM_OK:
		if (!call->route->rpc->server_streams && !give(call, result->message))
			return;
		end(call, GRPC_OK, SPAN_EMPTY, SPAN_EMPTY);
		return;
	case UPSTREAM_STATUS:
		end(call, result->status, result->message, result->details);
		return;
	case UPSTREAM_TIMEOUT:
		end(call, GRPC_DEADLINE_EXCEEDED, SPAN("service did not answer in time"),
		    SPAN_EMPTY);
		return;
	case UPSTREAM_UNAVAILABLE:
	case UPSTREAM_BUSY:
	case UPSTREAM_MALFORMED:
	case UPSTREAM_OUTCOME_COUNT:
		break;
	}
	(void)rest_call_status(result, &text);
	end(call, result->outcome == UPSTREAM_MALFORMED ? GRPC_INTERNAL : GRPC_UNAVAILABLE, text,
	    SPAN_EMPTY);
}

/* ---- start ---- */

static void start_own(struct rest *rest, struct request *http, struct grpc_web_options *options)
{
	options->route = find_rpc(rest, http->path);
	/* What was begun for one that does not live long has no place for one that does. */
	if (!options->route || options->route->message ||
	    (options->route->long_lived && !http->route->long_lived))
		grpc_web_refuse(http, options, GRPC_UNIMPLEMENTED,
				err_row(ERR_METHOD_UNKNOWN)->text);
	else
		grpc_web_start(http, options);
}

static void start_foreign(struct rest *rest, struct request *http, struct grpc_web_options *options,
			  const struct plan_route *route)
{
	if (route->rpc->client_streams) {
		grpc_web_refuse(http, options, GRPC_UNIMPLEMENTED,
				"a client cannot stream over gRPC-Web");
		return;
	}
	options->route = &rest->web_rpc;
	options->context = call_create(rest, http, route);
	if (options->context)
		grpc_web_start(http, options);
	else
		grpc_web_refuse(http, options, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

/* What all answers have. Returns 0 or -ENOMEM, also when there is none to see the kind by, which is
 * looked at anew. */
static int make_options(struct rest *rest, struct request *http, struct grpc_web_options *options)
{
	struct reply_header *headers =
		arena_alloc(&http->arena, REPLY_HEADERS_MAX * sizeof(*headers));

	if (!headers)
		return -ENOMEM;
	rest_call_ensure_id(rest, http);
	*options = (struct grpc_web_options){
		.kind = kind_of(http),
		.headers = headers,
		.copied_bytes = rest->options.copied_bytes,
		.calls = rest->metrics.web_calls,
	};
	options->header_count =
		answer_headers(http, plan_now(rest), &(struct answer_head){0}, headers);
	return options->kind == GRPC_WEB_NONE ? -ENOMEM : 0;
}

static void start(struct rest *rest, struct request *http, const struct plan_web_service *web,
		  struct span method)
{
	struct grpc_web_options options;

	if (make_options(rest, http, &options) != 0) {
		answer_error(http, plan_now(rest), 503, "out of memory");
		return;
	}
	const struct plan_route *route = web->service ? find_method(web, method) : NULL;

	if (!web->service)
		start_own(rest, http, &options);
	else if (route)
		start_foreign(rest, http, &options, route);
	else
		grpc_web_refuse(http, &options, GRPC_UNIMPLEMENTED,
				err_row(ERR_METHOD_UNKNOWN)->text);
}

/* In the client's own terms, but for 429, which says when to come again. */
static void web_refuse(struct request *http, enum err err, const struct reply_header *headers,
		       size_t header_count)
{
	struct rest *rest = http->context;
	struct grpc_web_options options;

	if (err == ERR_TOO_MANY_REQUESTS || !plan_now(rest) || kind_of(http) == GRPC_WEB_NONE ||
	    !span_equal(http->method, SPAN("POST")) || make_options(rest, http, &options) != 0)
		rest_refuse(http, err, headers, header_count);
	else
		grpc_web_refuse(http, &options, err_row(err)->grpc, err_row(err)->text);
}

/* The services may have changed since the head was there: they are asked again. */
static void web_start(struct request *http)
{
	struct rest *rest = http->context;
	const struct plan *plan = plan_now(rest);
	struct span method;
	const struct plan_web_service *web =
		plan ? plan_find_web_service(plan, http->path, &method) : NULL;

	if (!web)
		request_reply_error(http, ERR_NOT_FOUND, NULL, 0);
	else if (answer_is_preflight(http))
		answer_preflight(http, plan, METHODS);
	else if (!span_equal(http->method, SPAN("POST")))
		answer_no_method(http, plan, METHODS);
	else if (kind_of(http) == GRPC_WEB_NONE)
		answer_error(http, plan, 415, "content-type must be application/grpc-web");
	else
		start(rest, http, web, method);
}

void web_init(struct rest *rest)
{
	rest->web_rpc = (struct route){
		.kind = ROUTE_GRPC,
		.method = "POST",
		.path = "/*",
		.body_bytes_max = (size_t)rest->options.config->grpc_max_message_bytes,
		.start = call_start,
		.cancelled = call_cancelled,
		.pull = call_pull,
	};
}
