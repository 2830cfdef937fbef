/*
 *   start ─► (origin) ─► session ─► permission ─► transcoded ─► service ─► answer
 *              403       401, 503    403, 503        400, 413
 */
#include "rest/rest_internal.h"

#include "base/check.h"
#include "codec/grpc.h"
#include "rest/fields.h"

#include <errno.h>

#define USER_AGENT_BYTES_MAX 400  /* of the client's */
#define PASSED_BYTES_MAX     1024 /* of one field: services bound their metadata, often to 8 KiB */

/* ---- the end ---- */

void rest_call_release(struct rest_call *call)
{
	if (call->holds)
		upstreams_release(call->rest->options.upstreams, call->file);
	call->holds = false;
}

void rest_call_finish(struct rest_call *call)
{
	rest_call_release(call);
	upstream_call_cancel(&call->upstream);
	sign_on_finish(call);
	identities_cancel(&call->waiter);
	identity_unfollow(&call->follower);
	identity_put(call->identity);
	call->identity = NULL;
	list_remove(&call->link);
}

/* `text` may be of the upstream's result or of the call: both are there until the answer is. */
void rest_call_answer_error(struct rest_call *call, int status, struct span text,
			    struct span details)
{
	struct config_file *file = call->file;

	if (call->is_web) {
		web_call_fail(call, status, text);
		return;
	}
	rest_call_finish(call);
	answer_error_as(call->request, call->plan, &(struct answer_head){.status = status}, text,
			details);
	config_file_put(file);
}

void rest_call_fail(struct rest_call *call, int status, const char *message)
{
	rest_call_answer_error(call, status, span_from_cstr(message), SPAN_EMPTY);
}

void rest_call_cancel(struct rest_call *call)
{
	rest_call_finish(call);
	config_file_put(call->file);
}

/* ---- the service's answer ---- */

int rest_call_write(struct rest_call *call, struct span message, struct buf *out)
{
	struct transcode_error why;
	int code = transcode_write(call->plan, call->route, message, out, &why);

	if (code == 0)
		return 200;
	LOG(LOG_WARN, "rest", "an answer has no JSON form",
	    LOG_BYTES("rpc", call->route->rpc->path), LOG_TEXT("reason", why.text));
	return code == -ENOMEM ? 503 : 502;
}

static void pass_message(struct rest_call *call, struct span message)
{
	struct config_file *file = call->file;
	struct buf *body = &call->rest->answer;
	int status = rest_call_write(call, message, body);

	if (status != 200) {
		rest_call_fail(call, status, REST_UNUSABLE);
	} else {
		rest_call_finish(call);
		answer_reply(call->request, call->plan, &(struct answer_head){.status = status},
			     buf_span(body));
		config_file_put(file);
	}
	buf_clear(body, TRANSCODE_KEEP_BYTES);
}

int rest_call_status(const struct upstream_result *result, struct span *text)
{
	switch (result->outcome) {
	case UPSTREAM_OK:
	case UPSTREAM_OUTCOME_COUNT:
		break;
	case UPSTREAM_STATUS:
		*text = result->message;
		return transcode_http_status(result->status);
	case UPSTREAM_UNAVAILABLE:
		*text = SPAN("service is unavailable");
		return 503;
	case UPSTREAM_TIMEOUT:
		*text = SPAN("service did not answer in time");
		return 504;
	case UPSTREAM_BUSY:
		*text = SPAN("service is busy");
		return 503;
	case UPSTREAM_MALFORMED:
		*text = SPAN(REST_UNUSABLE);
		return 502;
	}
	UNREACHABLE("every outcome has its case");
}

static void service_done(struct upstream_call *upstream, const struct upstream_result *result)
{
	struct rest_call *call = CONTAINER_OF(upstream, struct rest_call, upstream);
	struct span text;

	if (result->outcome == UPSTREAM_OK) {
		pass_message(call, result->message);
		return;
	}

	int status = rest_call_status(result, &text);

	rest_call_answer_error(call, status, text, result->details);
}

/* ---- to the service ---- */

static void add_header(struct rest_call *call, struct span name, struct span value)
{
	CHECK(call->header_count < ARRAY_LEN(call->headers));
	if (value.len > 0)
		call->headers[call->header_count++] = (struct upstream_header){name, value};
}

/* What a service would refuse a call for is left out. */
static void pass_header(struct rest_call *call, struct span name)
{
	struct span value = request_find_header(call->request, name);

	if (value.len <= PASSED_BYTES_MAX && text_is_printable(value))
		add_header(call, name, value);
}

static struct span user_agent(struct request *request)
{
	struct span ours = SPAN("ringway/" RINGWAY_VERSION);
	struct span client = request_find_header(request, SPAN("user-agent"));

	if (client.len > USER_AGENT_BYTES_MAX)
		client = span_first(client, USER_AGENT_BYTES_MAX);

	uint8_t *text = client.len > 0 && text_is_printable(client)
				? arena_alloc(&request->arena, ours.len + 1 + client.len)
				: NULL;

	if (!text)
		return ours;
	memcpy(text, ours.data, ours.len);
	text[ours.len] = ' ';
	memcpy(text + ours.len + 1, client.data, client.len);
	return span_make(text, ours.len + 1 + client.len);
}

/* api.md §3: a client's x-user-id and x-session-id go nowhere. */
void rest_call_collect_headers(struct rest_call *call)
{
	pass_header(call, SPAN("traceparent"));
	pass_header(call, SPAN("tracestate"));
	pass_header(call, SPAN("accept-language"));
	add_header(call, SPAN("user-agent"), user_agent(call->request));
	if (!call->identity)
		return;
	add_header(call, SPAN("x-user-id"), identity_user(call->identity));
	add_header(call, SPAN("x-session-id"), identity_session(call->identity));
}

/* What the client gives the call, in milliseconds; 0: nothing. */
static uint64_t client_deadline_ms(struct request *request)
{
	struct span value = request_find_header(request, SPAN("grpc-timeout"));

	if (request->deadline_us > 0)
		return request_time_left_ms(request);

	int64_t us = value.len > 0 ? grpc_parse_timeout(value) : -1;

	return us < 0 ? request_time_left_ms(request) : (uint64_t)us / 1000 + 1;
}

/* Who hears of the answer: of a stream, or of one message. */
static upstream_message_fn *message_told(const struct rest_call *call)
{
	if (!call->route->rpc->server_streams)
		return NULL;
	return call->is_web ? web_call_message : rest_stream_message;
}

static upstream_done_fn *done_told(const struct rest_call *call)
{
	if (call->is_web)
		return web_call_done;
	return call->route->rpc->server_streams ? rest_stream_done : service_done;
}

static void send_on(struct rest_call *call, struct payload *message)
{
	struct upstream *upstream =
		upstreams_at(call->rest->options.upstreams, call->file, call->route->upstream);
	const struct upstream_request request = {
		.path = call->route->rpc->path,
		.message = message,
		.deadline_ms = client_deadline_ms(call->request),
		.request_id = call->request->request_id,
		.headers = call->headers,
		.header_count = call->header_count,
		.message_received = message_told(call),
	};
	int code = upstream ? upstream_call_start(upstream, &call->upstream, done_told(call),
						  &request)
			    : -UPSTREAM_UNAVAILABLE;

	/* what is under way stays, though a file without its service may come */
	rest_call_release(call);
	if (code)
		rest_call_fail(call, 503,
			       code == -UPSTREAM_BUSY ? "service is busy"
						      : "service is unavailable");
}

static void start_service(struct rest_call *call, struct payload *message)
{
	bool is_stream = call->route->rpc->server_streams;

	if (is_stream && call->rest->is_draining) {
		rest_stream_shut_down(call);
		return;
	}
	rest_call_collect_headers(call);
	if (is_stream && call->is_web)
		web_call_follow(call);
	else if (is_stream)
		rest_stream_prepare(call);
	send_on(call, message);
}

/* A message comes from JSON, or as it is. Returns as transcode_read. */
static int read_message(struct rest_call *call, struct payload **message,
			struct transcode_error *error)
{
	const struct request *request = call->request;
	const struct transcode_request transcode = {
		.route = call->route,
		.values = call->match.values,
		.query = request->query,
		.body = request->body,
		.room = &call->rest->message,
	};

	if (call->is_web)
		return web_call_read(call, message);
	return transcode_read(call->plan, &transcode,
			      call->rest->options.config->grpc_max_message_bytes, message, error);
}

static void call_go(struct rest_call *call)
{
	struct payload *message = NULL;
	struct transcode_error error;
	int code = read_message(call, &message, &error);

	if (code == -EINVAL) {
		rest_call_fail(call, 400, error.text);
	} else if (code) {
		rest_call_fail(call, code == -EMSGSIZE ? 413 : 503,
			       code == -EMSGSIZE ? "request is too large" : "out of memory");
	} else {
		start_service(call, message);
		payload_put(message);
	}
}

/* ---- who asks, and may they ---- */

static void refuse_session(struct rest_call *call)
{
	metric_add(&call->rest->metrics.unauthenticated, 1);
	rest_call_fail(call, 401, "session is not valid");
}

static void permission_told(struct upstream_call *upstream, const struct upstream_result *result)
{
	struct rest_call *call = CONTAINER_OF(upstream, struct rest_call, upstream);

	switch (permission_of(result)) {
	case PERMISSION_GRANTED:
		/* whoever was told of it meanwhile did not know of this call */
		if (call->identity->is_revoked)
			refuse_session(call);
		else
			call_go(call);
		return;
	case PERMISSION_DENIED:
		metric_add(&call->rest->metrics.forbidden, 1);
		rest_call_fail(call, 403, "you do not have permission to perform this action");
		return;
	case PERMISSION_UNKNOWN:
		rest_call_fail(call, 503, "auth service is unavailable");
		return;
	}
	UNREACHABLE("every answer has its case");
}

static void session_told(struct rest_call *call, enum identity_answer answer,
			 struct identity *identity)
{
	switch (answer) {
	case IDENTITY_PENDING:
		return;
	case IDENTITY_REFUSED:
		if (call->route->kind == PLAN_LOGOUT) {
			sign_out_done(call);
			return;
		}
		refuse_session(call);
		return;
	case IDENTITY_UNAVAILABLE:
		rest_call_fail(call, 503, "auth service is unavailable");
		return;
	case IDENTITY_FOUND:
		break;
	}
	identity_get(identity);
	call->identity = identity;
	if (call->route->kind == PLAN_LOGOUT)
		sign_out_start(call);
	else if (call->route->permission.len == 0)
		call_go(call);
	else if (ask_permission(call, permission_told) != 0)
		rest_call_fail(call, 503, "auth service is unavailable");
}

static void waiter_told(struct identity_waiter *waiter, enum identity_answer answer,
			struct identity *identity)
{
	session_told(CONTAINER_OF(waiter, struct rest_call, waiter), answer, identity);
}

static bool is_write(struct span method)
{
	return !span_equal(method, SPAN("GET")) && !span_equal(method, SPAN("HEAD")) &&
	       !span_equal(method, SPAN("OPTIONS"));
}

/* Cookies go along with whatever page asks: such a write needs one of ours. */
static bool is_foreign_write(struct rest_call *call)
{
	struct request *request = call->request;

	return is_write(request->method) &&
	       !origins_vouch(&call->plan->rest->allowed_origins,
			      request_find_header(request, SPAN("origin")),
			      request_find_header(request, SPAN("referer")));
}

enum token_source rest_call_token(struct rest_call *call, struct span *token)
{
	struct request *request = call->request;

	if (bearer_find(request_find_header(request, SPAN("authorization")), token))
		return TOKEN_BEARER;
	if (cookie_find(request_find_header(request, SPAN("cookie")),
			span_from_cstr(call->plan->rest->auth.cookie), token) &&
	    token->len > 0)
		return TOKEN_COOKIE;
	*token = SPAN_EMPTY;
	return TOKEN_NONE;
}

static void authenticate(struct rest_call *call)
{
	struct span token;
	struct identity *identity = NULL;
	enum token_source source = rest_call_token(call, &token);

	if (source == TOKEN_NONE) {
		metric_add(&call->rest->metrics.unauthenticated, 1);
		rest_call_fail(call, 401, "a session is needed");
		return;
	}
	if (source == TOKEN_COOKIE && is_foreign_write(call)) {
		metric_add(&call->rest->metrics.foreign_origin, 1);
		rest_call_fail(call, 403, "requests from this origin are not allowed");
		return;
	}
	call->rest->identities.keep_ms = call->plan->rest->auth.validate_cache_ms;
	enum identity_answer answer =
		identities_find(&call->rest->identities, token, call->request->worker->now_ms,
				&call->waiter, &identity);

	session_told(call, answer, identity);
}

void rest_call_ensure_id(struct rest *rest, struct request *request)
{
	char id[ID_BYTES];

	if (request->request_id.len > 0)
		return;
	id_draw(&rest->ids, id);
	request->request_id = arena_copy(&request->arena, span_make(id, sizeof(id)));
}

void rest_call_start(struct rest_call *call)
{
	list_push_back(&call->rest->calls, &call->link);
	list_init(&call->waiter.link);
	list_init(&call->follower.link);
	call->waiter.told = waiter_told;
	rest_call_ensure_id(call->rest, call->request);
	if (call->route->kind == PLAN_LOGIN || call->route->kind == PLAN_CALLBACK)
		sign_on_start(call);
	else if (call->route->is_public)
		call_go(call);
	else
		authenticate(call);
}
