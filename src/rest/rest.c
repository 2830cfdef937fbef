#include "rest/rest_internal.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>

/* ---- which requests are ours ---- */

enum claim { CLAIM_NONE, CLAIM_CALL, CLAIM_PREFLIGHT, CLAIM_NO_METHOD, CLAIM_UNKNOWN };

/* A path of the API that has no route still has its kind of answer. */
static bool is_below(struct span path, const char *base)
{
	struct span prefix = span_from_cstr(base);

	return prefix.len > 0 && span_starts_with(path, prefix) &&
	       (path.len == prefix.len || path.data[prefix.len] == '/');
}

/* Fetch §3.2.2: an OPTIONS that only asks what another request might. */
bool answer_is_preflight(struct request *request)
{
	return span_equal(request->method, SPAN("OPTIONS")) &&
	       request_find_header(request, SPAN("origin")).len > 0 &&
	       request_find_header(request, SPAN("access-control-request-method")).len > 0;
}

static enum claim claim(const struct plan *plan, struct request *request, struct table_match *match,
			char allow[TABLE_ALLOW_MAX])
{
	if (request->path.len == 0 || request->path.data[0] != '/')
		return CLAIM_NONE;
	switch (table_find(plan->table, request->method, request->path, match, allow)) {
	case TABLE_FOUND:
		return CLAIM_CALL;
	case TABLE_NO_METHOD:
		return answer_is_preflight(request) ? CLAIM_PREFLIGHT : CLAIM_NO_METHOD;
	case TABLE_NO_PATH:
		break;
	}
	return is_below(request->path, plan->rest->base_path) ? CLAIM_UNKNOWN : CLAIM_NONE;
}

static void rest_start(struct request *request);
static void rest_cancelled(struct request *request);
static void rest_pull(struct request *request);

static const struct route rest_route = {
	.kind = ROUTE_HTTP,
	.method = "*",
	.path = "/*",
	.body_bytes_max = REST_BODY_BYTES_MAX,
	.keeps_headers = true,
	.ends_with_peer = true,
	.start = rest_start,
	.cancelled = rest_cancelled,
	.pull = rest_pull,
	.refuse = rest_refuse,
};

static struct config_file *file_of(const struct rest *rest)
{
	return rest->options.upstreams->current.file;
}

/* Of the route's template; what has none counts as unmatched. */
static void set_label(struct request *request, enum claim claimed, const struct table_match *match)
{
	if (claimed == CLAIM_CALL || claimed == CLAIM_PREFLIGHT || claimed == CLAIM_NO_METHOD)
		request_set_label(
			request, span_from_cstr(((const struct plan_route *)match->target)->label));
}

const struct route *rest_find(struct rest *rest, struct request *request)
{
	const struct config_file *file = file_of(rest);
	struct table_match match;
	char allow[TABLE_ALLOW_MAX];

	if (!file || !plan_of(file))
		return NULL;

	enum claim claimed = claim(plan_of(file), request, &match, allow);

	request->context = rest;
	if (claimed == CLAIM_NONE)
		return web_find(rest, request);
	set_label(request, claimed, &match);
	return &rest_route;
}

/* ---- answers of our own ---- */

void answer_preflight(struct request *request, const struct plan *plan, const char *allow)
{
	char age[SPAN_DECIMAL_BYTES];
	struct answer_head head = {.status = 204};

	if (cors_judge(&plan->rest->cors, request_find_header(request, SPAN("origin")))
		    .allow_origin.len > 0) {
		head.more[head.more_count++] = (struct reply_header){"access-control-allow-methods",
								     span_from_cstr(allow)};
		head.more[head.more_count++] = (struct reply_header){
			"access-control-allow-headers",
			request_find_header(request, SPAN("access-control-request-headers"))};
		head.more[head.more_count++] =
			(struct reply_header){"access-control-max-age",
					      span_write_uint64(age, plan->rest->cors.max_age_s)};
	}
	answer_reply(request, plan, &head, SPAN_EMPTY);
}

void answer_no_method(struct request *request, const struct plan *plan, const char *allow)
{
	struct answer_head head = {
		.status = 405,
		.more = {{"allow", span_from_cstr(allow)}},
		.more_count = 1,
	};

	answer_error_as(request, plan, &head, SPAN("method is not allowed for this route"),
			SPAN_EMPTY);
}

/* The context is what rest_find or rest_cancelled has left. */
void rest_refuse(struct request *request, enum err err, const struct reply_header *headers,
		 size_t header_count)
{
	const struct plan *plan = plan_of(file_of(request->context));
	struct answer_head head = {.status = err_row(err)->http_status};

	if (!plan) {
		request_reply_error(request, err, headers, header_count);
		return;
	}
	for (size_t i = 0; i < header_count && head.more_count < ARRAY_LEN(head.more); i++) {
		/* Every answer of ours has that one. */
		if (strcmp(headers[i].name, "cache-control") != 0)
			head.more[head.more_count++] = headers[i];
	}
	answer_error_as(request, plan, &head, span_from_cstr(err_row(err)->text), SPAN_EMPTY);
}

/* ---- start ---- */

static void start_call(struct rest *rest, struct request *request, const struct table_match *match)
{
	struct rest_call *call = arena_alloc(&request->arena, sizeof(*call));
	struct config_file *file = file_of(rest);

	if (!call) {
		answer_error(request, plan_of(file), 503, "out of memory");
		return;
	}
	*call = (struct rest_call){
		.request = request,
		.rest = rest,
		.file = config_file_get(file),
		.holds = true,
		.plan = plan_of(file),
		.route = match->target,
		.match = *match,
	};
	upstreams_hold(rest->options.upstreams);
	request->context = call;
	rest_call_start(call);
}

/* The routes may have changed since the head was there: they are asked again. */
static void rest_start(struct request *request)
{
	struct rest *rest = request->context;
	const struct plan *plan = plan_of(file_of(rest));
	struct table_match match;
	char allow[TABLE_ALLOW_MAX];

	if (plan && web_claims(plan, request)) {
		web_take(request);
		return;
	}
	request->context = NULL;
	if (!plan) {
		request_reply_error(request, ERR_NOT_FOUND, NULL, 0);
		return;
	}
	switch (claim(plan, request, &match, allow)) {
	case CLAIM_CALL:
		start_call(rest, request, &match);
		return;
	case CLAIM_PREFLIGHT:
		answer_preflight(request, plan, allow);
		return;
	case CLAIM_NO_METHOD:
		answer_no_method(request, plan, allow);
		return;
	case CLAIM_UNKNOWN:
	case CLAIM_NONE:
		answer_error(request, plan, 404, "no such route");
		return;
	}
	UNREACHABLE("every claim has its case");
}

/* Only calls outlive rest_start. The face may refuse what it has cancelled. */
static void rest_cancelled(struct request *request)
{
	struct rest_call *call = request->context;

	request->context = call->rest;
	rest_call_cancel(call);
}

static void rest_pull(struct request *request)
{
	if (request->context)
		rest_stream_pull(request->context);
}

/* ---- the end ---- */

void rest_drain(struct rest *rest)
{
	rest->is_draining = true;
	LIST_FOR_EACH (&rest->calls, link) {
		struct rest_call *call = CONTAINER_OF(link, struct rest_call, link);

		/* what has no session yet is told when it has one */
		if (call->route->kind == PLAN_RPC && call->route->rpc->server_streams &&
		    !call->holds)
			rest_stream_shut_down(call);
	}
}

/* ---- sessions ---- */

void rest_session_revoked(struct rest *rest, struct span session)
{
	identities_revoke(&rest->identities, session);
}

void rest_sessions_forgotten(struct rest *rest)
{
	identities_forget_all(&rest->identities);
}

/* ---- life ---- */

int rest_create(struct rest **created, const struct rest_options *options)
{
	struct rest *rest = calloc(1, sizeof(*rest));
	const struct identities_options of_identities = {
		.secret = options->secret,
		.ask = ask_session,
		.context = rest,
		.departed = options->shared->departed,
	};

	*created = rest;
	if (!rest)
		return -ENOMEM;
	rest->options = *options;
	list_init(&rest->questions);
	list_init(&rest->calls);
	buf_init(&rest->message, 0); /* transcode_read sets its bound */
	buf_init(&rest->answer, REST_ANSWER_BYTES_MAX);

	int code = identities_init(&rest->identities, &of_identities);

	web_init(rest);
	if (code == 0) {
		rest_metrics_register(rest);
		sign_on_register(rest);
	}
	return code;
}

void rest_destroy(struct rest *rest)
{
	if (!rest)
		return;
	CHECK(list_is_empty(&rest->calls));
	ask_finish(rest);
	identities_finish(&rest->identities);
	rest_metrics_finish(rest);
	buf_finish(&rest->message);
	buf_finish(&rest->answer);
	free(rest);
}
