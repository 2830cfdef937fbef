/*
 *   login ─► 302 to the provider, with the sealed cookie
 *              400: next
 *   callback ─► cookie, state ─► only once ─► AuthService ─► 302, with the session's cookie
 *                 400              400, 503            400 …, 503
 *   logout ─► (call.c: origin, session) ─► AuthService ─► 204, the session's cookie gone
 *               403, 401, 503                503
 */
#include "rest/rest_internal.h"

#include "base/check.h"
#include "codec/pb.h"
#include "rest/fields.h"
#include "rest/login.h"
#include "rest/set_cookie.h"
#include "rest/states.h"

#include <errno.h>
#include <stdio.h>

#define CALLBACK_PATH SPAN("/auth.v1.AuthService/HandleGoogleAuthCallback")
#define LOGOUT_PATH   SPAN("/auth.v1.AuthService/Logout")

#define STATE_KEY_PREFIX "gateway:sso:"
#define STATE_LIFE_MS	 "600000"

_Static_assert(LOGIN_MINUTES * 60 * 1000 == 600000, "a state is remembered as long as it is good");

#define COOKIE_BYTES_MAX   (IDENTITY_TOKEN_MAX + 2048) /* with its name, path and attributes */
#define LOCATION_BYTES_MAX (3 * LOGIN_NEXT_MAX + REST_TEXT_MAX)

/* proto/auth/v1/auth_service.proto */
enum { SIGNED_IN_TOKEN = 1, SIGNED_IN_EXPIRES = 3 };

/* Of a callback, while it waits. In the request's arena. */
struct sign_on {
	struct rest_call *call;
	struct login login;
	struct span code;
	struct redis_call reserve;
};

/* ---- what became of it ---- */

static const struct metric_family results_family = {
	"gateway_sign_on_total", "Sign-ons begun and ended, and sign-outs, by what became of them.",
	METRIC_COUNTER};

static const char *const result_names[SIGN_ON_RESULTS] = {
	[SIGN_ON_BEGUN] = "begun",
	[SIGN_ON_BAD_NEXT] = "bad_next",
	[SIGN_ON_SIGNED_IN] = "signed_in",
	[SIGN_ON_NO_COOKIE] = "no_cookie",
	[SIGN_ON_BAD_COOKIE] = "bad_cookie",
	[SIGN_ON_EXPIRED] = "expired",
	[SIGN_ON_WRONG_STATE] = "wrong_state",
	[SIGN_ON_USED] = "used",
	[SIGN_ON_PROVIDER_ERROR] = "provider_error",
	[SIGN_ON_MALFORMED] = "malformed",
	[SIGN_ON_REFUSED] = "refused",
	[SIGN_ON_REDIS_UNAVAILABLE] = "redis_unavailable",
	[SIGN_ON_STATES_FULL] = "states_full",
	[SIGN_ON_AUTH_UNAVAILABLE] = "auth_unavailable",
	[SIGN_ON_SIGNED_OUT] = "signed_out",
	[SIGN_ON_SIGN_OUT_FAILED] = "sign_out_failed",
};

void sign_on_register(struct rest *rest)
{
	for (int result = 0; rest->options.metrics && result < SIGN_ON_RESULTS; result++) {
		char labels[64];

		snprintf(labels, sizeof(labels), "result=\"%s\"", result_names[result]);
		metric_register(rest->options.metrics, &results_family, labels,
				&rest->metrics.sign_on[result]);
	}
}

static void note(struct rest_call *call, enum sign_on_result result)
{
	metric_add(&call->rest->metrics.sign_on[result], 1);
}

static void give_up(struct rest_call *call, enum sign_on_result result, int status,
		    const char *message)
{
	note(call, result);
	rest_call_fail(call, status, message);
}

void sign_on_finish(struct rest_call *call)
{
	if (call->sign_on)
		redis_call_cancel(&call->sign_on->reserve);
}

static uint64_t now_s(const struct rest_call *call)
{
	return (uint64_t)call->rest->options.worker->wall_ms / 1000;
}

/* Ends the call without a body. */
static void end_with(struct rest_call *call, const struct answer_head *head)
{
	struct config_file *file = call->file;

	rest_call_finish(call);
	answer_reply(call->request, call->plan, head, SPAN_EMPTY);
	config_file_put(file);
}

/* ---- login ---- */

/* Returns 0, -EINVAL, or a buf's code. */
static int begin(struct rest_call *call, struct buf *next, struct buf *location, struct buf *cookie)
{
	const struct config_rest_sso *sso = &call->plan->rest->sso;
	struct login login;
	struct buf sealed;
	int code = query_find(call->request->query, SPAN("next"), next);

	if (code == -ENOENT)
		code = 0;
	else if (code == -EMSGSIZE ||
		 (code == 0 && next->len > 0 && !path_is_local(buf_span(next))))
		code = -EINVAL;
	if (code)
		return code;
	buf_init(&sealed, SEAL_TEXT_BYTES(SEAL_PLAIN_MAX));
	login_begin(&login, now_s(call), buf_span(next));
	code = login_seal(&login, call->plan->seal, &sealed);
	if (code == 0)
		code = login_location(&login, sso, location);
	if (code == 0)
		code = set_cookie_write(
			&(struct set_cookie){
				.name = LOGIN_COOKIE,
				.value = buf_span(&sealed),
				.path = sso->callback_path,
				.now_s = now_s(call),
				.expires_s = login.expires_s,
			},
			cookie);
	buf_finish(&sealed);
	return code;
}

static void login_start(struct rest_call *call)
{
	struct buf next, location, cookie;

	buf_init(&next, LOGIN_NEXT_MAX);
	buf_init(&location, LOGIN_LOCATION_MAX);
	buf_init(&cookie, COOKIE_BYTES_MAX);

	int code = begin(call, &next, &location, &cookie);

	if (code == -EINVAL) {
		give_up(call, SIGN_ON_BAD_NEXT, 400, "next must be a local path");
	} else if (code) {
		rest_call_fail(call, 503, "out of memory");
	} else {
		note(call, SIGN_ON_BEGUN);
		end_with(call, &(struct answer_head){
				       .status = 302,
				       .more = {{"location", buf_span(&location)},
						{"set-cookie", buf_span(&cookie)}},
				       .more_count = 2,
			       });
	}
	buf_finish(&next);
	buf_finish(&location);
	buf_finish(&cookie);
}

/* ---- AuthService ---- */

/* What a result other than OK is to the browser. */
static void auth_failed(struct rest_call *call, enum sign_on_result refused,
			const struct upstream_result *result)
{
	struct span text;
	int status = rest_call_status(result, &text);

	if (result->outcome != UPSTREAM_STATUS && result->outcome != UPSTREAM_MALFORMED) {
		status = 503;
		text = SPAN("auth service is unavailable");
	}
	/* Nobody was asked for a session: it is the code that is no good. */
	if (status == 401)
		status = 400;
	note(call, status >= 500 ? SIGN_ON_AUTH_UNAVAILABLE : refused);
	rest_call_answer_error(call, status, text, result->details);
}

/* `texts`: the message's fields, from 1 on. */
static void ask_auth(struct rest_call *call, struct span path, upstream_done_fn *done,
		     const struct span texts[4])
{
	struct upstream *upstream = ask_auth_service(call->rest, call->file);
	struct payload *message = upstream ? ask_message(texts, 4) : NULL;
	int code = -ENOMEM;

	if (message) {
		rest_call_collect_headers(call);
		code = upstream_call_start(upstream, &call->upstream, done,
					   &(struct upstream_request){
						   .path = path,
						   .message = message,
						   .request_id = call->request->request_id,
						   .headers = call->headers,
						   .header_count = call->header_count,
					   });
	}
	payload_put(message);
	if (code)
		give_up(call, SIGN_ON_AUTH_UNAVAILABLE, 503, "auth service is unavailable");
}

/* ---- callback ---- */

/* Returns whether the message is one and its token can be a cookie. `*expires_ms` since 1970; 0:
 * none.
 */
static bool read_signed_in(struct span message, struct span *token, int64_t *expires_ms)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;
	int more;

	*token = SPAN_EMPTY;
	*expires_ms = 0;
	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number == SIGNED_IN_TOKEN && field.wire == PB_BYTES)
			*token = field.bytes;
		else if (field.number == SIGNED_IN_EXPIRES && field.wire == PB_VARINT)
			*expires_ms = (int64_t)field.value;
	}
	return more == 0 && token->len <= IDENTITY_TOKEN_MAX && set_cookie_can_hold(*token);
}

/* Writes the two cookies and where to go. Returns a buf's code. */
static int write_signed_in(struct rest_call *call, const struct set_cookie *session,
			   struct buf out[3])
{
	const struct config_rest_sso *sso = &call->plan->rest->sso;
	const char *next = call->sign_on->login.next;
	const struct set_cookie gone = {
		.name = LOGIN_COOKIE,
		.path = sso->callback_path,
		.now_s = session->now_s,
		.expires_s = 1,
	};
	int code = location_of_path(span_from_cstr(next[0] ? next : sso->after_login), &out[0]);

	if (code == 0)
		code = set_cookie_write(session, &out[1]);
	return code ? code : set_cookie_write(&gone, &out[2]);
}

static void signed_in(struct rest_call *call, struct span token, int64_t expires_ms)
{
	const struct set_cookie session = {
		.name = call->plan->rest->auth.cookie,
		.value = token,
		.path = "/",
		.now_s = now_s(call),
		.expires_s = (uint64_t)expires_ms / 1000,
	};
	struct buf out[3];

	buf_init(&out[0], LOCATION_BYTES_MAX);
	buf_init(&out[1], COOKIE_BYTES_MAX);
	buf_init(&out[2], COOKIE_BYTES_MAX);
	if (write_signed_in(call, &session, out) != 0) {
		rest_call_fail(call, 503, "out of memory");
	} else {
		note(call, SIGN_ON_SIGNED_IN);
		end_with(call, &(struct answer_head){
				       .status = 302,
				       .more = {{"location", buf_span(&out[0])},
						{"set-cookie", buf_span(&out[1])},
						{"set-cookie", buf_span(&out[2])}},
				       .more_count = 3,
			       });
	}
	for (size_t i = 0; i < ARRAY_LEN(out); i++)
		buf_finish(&out[i]);
}

static void exchanged(struct upstream_call *upstream, const struct upstream_result *result)
{
	struct rest_call *call = CONTAINER_OF(upstream, struct rest_call, upstream);
	struct span token;
	int64_t expires_ms;

	if (result->outcome != UPSTREAM_OK)
		auth_failed(call, SIGN_ON_REFUSED, result);
	else if (!read_signed_in(result->message, &token, &expires_ms) ||
		 (expires_ms != 0 && expires_ms / 1000 <= (int64_t)now_s(call)))
		give_up(call, SIGN_ON_AUTH_UNAVAILABLE, 502, REST_UNUSABLE);
	else
		signed_in(call, token, expires_ms);
}

static void exchange(struct rest_call *call)
{
	const struct sign_on *sign_on = call->sign_on;
	const struct span texts[4] = {
		sign_on->code,
		span_from_cstr(sign_on->login.verifier),
		span_from_cstr(call->plan->rest->sso.redirect_url),
		span_from_cstr(sign_on->login.nonce),
	};

	ask_auth(call, CALLBACK_PATH, exchanged, texts);
}

#define USED	    "this sign-in was used already"
#define UNAVAILABLE "sign-on is unavailable"

static void reserved(struct redis_call *reserve, enum redis_outcome outcome,
		     const struct resp_value *value)
{
	struct sign_on *sign_on = CONTAINER_OF(reserve, struct sign_on, reserve);
	struct rest_call *call = sign_on->call;

	if (outcome == REDIS_REPLY && resp_is_status(value, "OK"))
		exchange(call);
	else if (outcome == REDIS_REPLY && value->type == RESP_NIL)
		give_up(call, SIGN_ON_USED, 400, USED);
	else
		give_up(call, SIGN_ON_REDIS_UNAVAILABLE, 503, UNAVAILABLE);
}

/* Once, on whatever instance. */
static void reserve_in_redis(struct rest_call *call)
{
	const struct rest_options *options = &call->rest->options;
	char key[sizeof(STATE_KEY_PREFIX) + LOGIN_TEXT_BYTES];

	snprintf(key, sizeof(key), STATE_KEY_PREFIX "%s", call->sign_on->login.state);

	const struct span args[] = {SPAN("SET"), span_from_cstr(key), SPAN("1"),
				    SPAN("NX"),	 SPAN("PX"),	      SPAN(STATE_LIFE_MS)};
	const struct redis_command command = {
		.args = args,
		.count = ARRAY_LEN(args),
		.role = REDIS_REPLAY,
		.timeout_ms = (uint32_t)options->config->replay_reserve_timeout_ms,
	};

	if (redis_call_start(options->redis, &call->sign_on->reserve, reserved, &command) != 0)
		give_up(call, SIGN_ON_REDIS_UNAVAILABLE, 503, UNAVAILABLE);
}

/* Once, on whatever worker. */
static void reserve_here(struct rest_call *call, struct states *states)
{
	switch (states_spend(states, call->sign_on->login.state,
			     call->rest->options.worker->now_ms)) {
	case STATES_SPENT:
		exchange(call);
		return;
	case STATES_USED:
		give_up(call, SIGN_ON_USED, 400, USED);
		return;
	case STATES_FULL:
		give_up(call, SIGN_ON_STATES_FULL, 503, UNAVAILABLE);
		return;
	}
	UNREACHABLE("every answer has its case");
}

/* api.md §4. */
static void reserve(struct rest_call *call)
{
	struct states *states = call->rest->options.shared->states;

	if (states)
		reserve_here(call, states);
	else
		reserve_in_redis(call);
}

static void provider_failed(struct rest_call *call, struct span error)
{
	LOG(LOG_INFO, "rest", "the provider refused a sign-in", LOG_BYTES("error", error));
	give_up(call, SIGN_ON_PROVIDER_ERROR, 400,
		span_equal(error, SPAN("access_denied")) ? "sign-in was refused at the provider"
							 : "the provider reported an error");
}

/* Whether the browser began this sign-in, and not too long ago; else it has answered. */
static bool is_ours(struct rest_call *call, struct span state)
{
	struct span cookie;

	if (!cookie_find(request_find_header(call->request, SPAN("cookie")), SPAN(LOGIN_COOKIE),
			 &cookie)) {
		give_up(call, SIGN_ON_NO_COOKIE, 400,
			"this sign-in was not begun in this browser, or too long ago");
		return false;
	}
	switch (login_open(&call->sign_on->login, call->plan->seal, cookie, now_s(call), state)) {
	case LOGIN_GOOD:
		return true;
	case LOGIN_UNREADABLE:
		give_up(call, SIGN_ON_BAD_COOKIE, 400, "the sign-in's cookie is not valid");
		return false;
	case LOGIN_EXPIRED:
		give_up(call, SIGN_ON_EXPIRED, 400, "this sign-in was begun too long ago");
		return false;
	case LOGIN_OTHER_STATE:
		give_up(call, SIGN_ON_WRONG_STATE, 400, "state is not this sign-in's");
		return false;
	case LOGIN_NO_MEMORY:
		rest_call_fail(call, 503, "out of memory");
		return false;
	}
	UNREACHABLE("every fault has its case");
}

static void callback_go(struct rest_call *call, const struct callback *callback)
{
	if (!is_ours(call, buf_span(&callback->state)))
		return;
	if (callback->error.len > 0) {
		provider_failed(call, buf_span(&callback->error));
		return;
	}
	call->sign_on->code = arena_copy(&call->request->arena, buf_span(&callback->code));
	if (callback->code.len == 0)
		give_up(call, SIGN_ON_MALFORMED, 400, "code is missing");
	else if (!call->sign_on->code.data)
		rest_call_fail(call, 503, "out of memory");
	else
		reserve(call);
}

static void callback_start(struct rest_call *call)
{
	struct sign_on *sign_on = arena_alloc(&call->request->arena, sizeof(*sign_on));
	struct callback callback;

	if (!sign_on) {
		rest_call_fail(call, 503, "out of memory");
		return;
	}
	*sign_on = (struct sign_on){.call = call};
	call->sign_on = sign_on;

	int code = callback_read(&callback, call->request->query);

	if (code == -EINVAL)
		give_up(call, SIGN_ON_MALFORMED, 400, "the provider's answer is malformed");
	else if (code)
		rest_call_fail(call, 503, "out of memory");
	else
		callback_go(call, &callback);
	callback_finish(&callback);
}

void sign_on_start(struct rest_call *call)
{
	/* The table gives GET's routes to HEAD; these do what cannot be done twice. */
	if (!span_equal(call->request->method, SPAN("GET")))
		end_with(call, &(struct answer_head){
				       .status = 405,
				       .more = {{"allow", SPAN("GET")}},
				       .more_count = 1,
			       });
	else if (call->route->kind == PLAN_LOGIN)
		login_start(call);
	else
		callback_start(call);
}

/* ---- logout ---- */

void sign_out_done(struct rest_call *call)
{
	const struct set_cookie gone = {
		.name = call->plan->rest->auth.cookie,
		.path = "/",
		.now_s = now_s(call),
		.expires_s = 1,
	};
	struct buf cookie;

	buf_init(&cookie, COOKIE_BYTES_MAX);
	note(call, SIGN_ON_SIGNED_OUT);
	if (set_cookie_write(&gone, &cookie) != 0)
		rest_call_fail(call, 503, "out of memory");
	else
		end_with(call, &(struct answer_head){
				       .status = 204,
				       .more = {{"set-cookie", buf_span(&cookie)}},
				       .more_count = 1,
			       });
	buf_finish(&cookie);
}

static void logged_out(struct upstream_call *upstream, const struct upstream_result *result)
{
	struct rest_call *call = CONTAINER_OF(upstream, struct rest_call, upstream);
	bool is_over =
		result->outcome == UPSTREAM_OK ||
		(result->outcome == UPSTREAM_STATUS &&
		 (result->status == GRPC_UNAUTHENTICATED || result->status == GRPC_NOT_FOUND));
	struct span token;

	if (!is_over) {
		auth_failed(call, SIGN_ON_SIGN_OUT_FAILED, result);
		return;
	}
	if (rest_call_token(call, &token) != TOKEN_NONE)
		identities_depart(&call->rest->identities, token);
	sign_out_done(call);
}

void sign_out_start(struct rest_call *call)
{
	struct span texts[4] = {SPAN_EMPTY};

	(void)rest_call_token(call, &texts[0]);
	ask_auth(call, LOGOUT_PATH, logged_out, texts);
}
