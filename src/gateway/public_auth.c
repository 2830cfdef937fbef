#include "gateway/public_auth.h"

#include "codec/json.h"
#include "gateway/auth_form.h"
#include "gateway/node.h"
#include "os/limits.h"
#include "upstream/http.h"

#include <errno.h>
#include <stdio.h>

/* In metrics and logs; no upstream of the configuration file can be called so: it has a blank. */
#define PUBLIC_AUTH_NAME "sign-in service"

/* per worker: a sign-in sends an e-mail, so it takes a while */
#define CONNECTIONS_MAX 32
/* at 32 at once and 100 ms each, what is behind these would hardly be in time */
#define WAITING_MAX 256
#define ANSWER_BYTES_MAX	(64u << 10)
#define REPLY_BYTES_MAX		4096 /* code and message of the longest, escaped */
#define REQUEST_ID_RANDOM_BYTES 16
#define RETRY_AFTER_S_MAX	86400

struct auth_call {
	struct http_exchange exchange;
	struct request *request;
	enum auth_form form;
};

static const char *const paths[AUTH_FORM_COUNT] = {
	[AUTH_SEND_CODE] = PUBLIC_AUTH_SEND_PATH,
	[AUTH_CONFIRM_CODE] = PUBLIC_AUTH_CONFIRM_PATH,
};

static const enum budget budgets[AUTH_FORM_COUNT] = {
	[AUTH_SEND_CODE] = BUDGET_SEND_IDENTITY,
	[AUTH_CONFIRM_CODE] = BUDGET_CONFIRM_IDENTITY,
};

int public_auth_open(struct node *node, struct http_pool **pool)
{
	const struct config *config = node->shared->config;
	const struct http_pool_options options = {
		.name = PUBLIC_AUTH_NAME,
		.url = &config->auth_base_url,
		.timeout_ms = config->auth_timeout_ms,
		.connections_max = CONNECTIONS_MAX,
		.waiting_max = WAITING_MAX,
		.body_bytes_max = ANSWER_BYTES_MAX,
		.breaker = &config_breaker_default,
		.dns = node->dns,
		.metrics = node->shared->metrics,
	};

	*pool = NULL;
	return config->auth_base_url.set ? http_pool_create(pool, node->worker, &options) : 0;
}

/* ---- replies ---- */

/* `retry_after`: seconds, or empty. */
static void reply(struct request *request, int status, const struct buf *body,
		  struct span retry_after)
{
	struct reply_header headers[3] = {{"cache-control", SPAN("no-store")}};
	size_t count = 1;

	if (request->request_id.len > 0)
		headers[count++] = (struct reply_header){"x-request-id", request->request_id};
	if (retry_after.len > 0)
		headers[count++] = (struct reply_header){"retry-after", retry_after};
	request_reply(request,
		      &(struct reply){
			      .status = status,
			      .content_type = "application/json",
			      /* without memory for a body the status alone has to say it */
			      .body = body->failed ? SPAN_EMPTY : buf_span(body),
			      .headers = headers,
			      .header_count = count,
		      });
}

struct failure {
	int status;
	struct span code, message, retry_after;
};

static void reply_failure(struct request *request, const struct failure *failure)
{
	struct buf body;

	buf_init(&body, REPLY_BYTES_MAX);
	buf_append(&body, SPAN("{\"error\":{\"code\":"));
	(void)json_append_string(&body, failure->code);
	buf_append(&body, SPAN(",\"message\":"));
	(void)json_append_string(&body, failure->message);
	buf_append(&body, SPAN("}}"));
	reply(request, failure->status, &body, failure->retry_after);
	buf_finish(&body);
}

static struct failure failure_of(enum err err)
{
	const struct err_row *row = err_row(err);

	return (struct failure){
		.status = row->http_status,
		.code = span_from_cstr(row->http_code),
		.message = span_from_cstr(row->text),
	};
}

static void reply_row(struct request *request, enum err err)
{
	struct failure failure = failure_of(err);

	reply_failure(request, &failure);
}

static void reply_id(struct request *request, const char *name, struct span id)
{
	struct buf body;

	buf_init(&body, REPLY_BYTES_MAX);
	buf_printf(&body, "{\"%s\":", name);
	(void)json_append_string(&body, id);
	buf_append_byte(&body, '}');
	if (body.failed)
		reply_row(request, ERR_OUT_OF_MEMORY);
	else
		reply(request, 200, &body, SPAN_EMPTY);
	buf_finish(&body);
}

/* ---- the service's answer ---- */

static void reply_unusable(struct request *request, int status, const char *why)
{
	LOG(LOG_WARN, "public_auth", "the auth service's answer cannot be used",
	    LOG_INT("status", status), LOG_TEXT("reason", why));
	reply_row(request, ERR_SERVICE_UNAVAILABLE);
}

static void pass_success(const struct auth_call *call, int status, struct span body)
{
	const char *name = auth_form_answer(call->form);
	struct json_document *document;
	struct span id;

	if (json_parse_object(&document, body, ANSWER_BYTES_MAX) != 0) {
		reply_unusable(call->request, status, "it is no JSON object");
		return;
	}
	if (json_get_string(document, name, &id) && auth_id_is_valid(id))
		reply_id(call->request, name, id);
	else
		reply_unusable(call->request, status, "it has no id, or a bad one");
	json_free(document);
}

/* Code of our own for a status that came without one. */
static struct span code_of_status(int status)
{
	switch (status) {
	case 401:
		return SPAN("unauthenticated");
	case 403:
		return SPAN("forbidden");
	case 404:
		return SPAN("not_found");
	case 409:
		return SPAN("conflict");
	case 413:
		return SPAN("request_too_large");
	case 429:
		return SPAN("rate_limited");
	default:
		return SPAN("invalid_request");
	}
}

/* Both, or neither: a code of ours with a message of the service's could contradict it. */
static void keep_safe_texts(const struct json_document *document, struct failure *failure)
{
	const struct json_document *error = json_get_object(document, "error");
	struct span code, message;

	if (error && json_get_string(error, "code", &code) &&
	    json_get_string(error, "message", &message) && auth_code_is_safe(code) &&
	    auth_message_is_safe(message)) {
		failure->code = code;
		failure->message = message;
	}
}

/* A number of seconds; dates are left out. */
static struct span find_retry_after(const struct http1_head *head)
{
	const struct http1_header *field = http1_find_header(head, SPAN("retry-after"));
	uint64_t seconds;

	if (!field || !span_to_uint64(field->value, &seconds) || seconds > RETRY_AFTER_S_MAX)
		return SPAN_EMPTY;
	return field->value;
}

static void pass_refusal(const struct auth_call *call, const struct http_response *response)
{
	int status = response->head->status;
	struct failure failure = {
		.status = status,
		.code = code_of_status(status),
		.message = SPAN("request was refused"),
		.retry_after = find_retry_after(response->head),
	};
	struct json_document *document = NULL;

	if (json_parse_object(&document, response->body, ANSWER_BYTES_MAX) == 0)
		keep_safe_texts(document, &failure);
	reply_failure(call->request, &failure);
	if (document)
		json_free(document);
}

static void pass_fault(const struct auth_call *call, int status)
{
	enum err err = status == 504 ? ERR_UPSTREAM_TIMEOUT : ERR_SERVICE_UNAVAILABLE;
	struct failure failure = failure_of(err);

	LOG(LOG_WARN, "public_auth", "the auth service failed", LOG_INT("status", status));
	failure.status = status;
	reply_failure(call->request, &failure);
}

static void pass_answer(const struct auth_call *call, const struct http_response *response)
{
	int status = response->head->status;

	switch (status / 100) {
	case 2:
		pass_success(call, status, response->body);
		return;
	case 4:
		pass_refusal(call, response);
		return;
	case 5:
		pass_fault(call, status);
		return;
	default:
		reply_unusable(call->request, status, "its status means nothing here");
		return;
	}
}

static void answered(struct http_exchange *exchange, const struct http_response *response)
{
	struct auth_call *call = CONTAINER_OF(exchange, struct auth_call, exchange);

	if (response->outcome == HTTP_ANSWERED)
		pass_answer(call, response);
	else if (response->outcome == HTTP_TIMEOUT)
		reply_row(call->request, ERR_UPSTREAM_TIMEOUT);
	else
		reply_row(call->request, ERR_SERVICE_UNAVAILABLE);
}

/* ---- requests ---- */

static void set_request_id(struct request *request)
{
	uint8_t random[REQUEST_ID_RANDOM_BYTES];
	char text[REQUEST_ID_RANDOM_BYTES * 2 + 1];

	if (request->request_id.len > 0)
		return;
	limits_random(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(text + 2 * i, 3, "%02x", random[i]);
	request->request_id = arena_copy(&request->arena, span_make(text, sizeof(text) - 1));
}

/* Returns 0 when granted, else the milliseconds to wait. */
static uint64_t charge(const struct node *node, enum auth_form form, struct span identity)
{
	struct node_shared *shared = node->shared;

	return bucket_charge(shared->buckets, &shared->budget_rules[budgets[form]], identity,
			     node->worker->now_ms);
}

static void reply_limited(struct request *request, uint64_t wait_ms)
{
	struct failure failure = failure_of(ERR_TOO_MANY_REQUESTS);
	char text[SPAN_DECIMAL_BYTES];

	failure.retry_after = span_write_uint64(text, wait_ms / 1000 + (wait_ms % 1000 != 0));
	reply_failure(request, &failure);
}

static void forward(struct request *request, enum auth_form form, struct span body)
{
	const struct node *node = request->service;
	struct auth_call *call = arena_alloc(&request->arena, sizeof(*call));
	const struct http1_header headers[] = {
		{SPAN("content-type"), SPAN("application/json")},
		{SPAN("accept"), SPAN("application/json")},
		{SPAN("x-request-id"), request->request_id},
	};
	const struct http_request http_request = {
		.method = "POST",
		.path = span_from_cstr(paths[form]),
		.headers = headers,
		.header_count = ARRAY_LEN(headers),
		.body = body,
	};

	if (!call || request->request_id.len == 0) {
		reply_row(request, ERR_OUT_OF_MEMORY);
		return;
	}
	call->request = request;
	call->form = form;
	request->context = call;
	if (http_exchange_start(node->auth, &call->exchange, answered, &http_request) != 0)
		reply_row(request, ERR_SERVICE_UNAVAILABLE);
}

static void judge(struct request *request, enum auth_form form, struct buf *body,
		  struct buf *identity)
{
	const char *why;
	enum err err = auth_form_read(form, request->body, body, identity, &why);

	if (err != ERR_NONE) {
		struct failure failure = failure_of(err);

		if (why)
			failure.message = span_from_cstr(why);
		reply_failure(request, &failure);
		return;
	}
	uint64_t wait_ms = charge(request->service, form, buf_span(identity));

	if (wait_ms > 0)
		reply_limited(request, wait_ms);
	else
		forward(request, form, buf_span(body));
}

static void start(struct request *request, enum auth_form form)
{
	const struct node *node = request->service;
	struct buf body, identity;

	set_request_id(request);
	if (!node->auth) {
		reply_row(request, ERR_SERVICE_UNAVAILABLE);
		return;
	}
	buf_init(&body, AUTH_FORM_BYTES_MAX);
	buf_init(&identity, AUTH_FORM_BYTES_MAX);
	judge(request, form, &body, &identity);
	buf_finish(&body);
	buf_finish(&identity);
}

void public_auth_send(struct request *request)
{
	start(request, AUTH_SEND_CODE);
}

void public_auth_confirm(struct request *request)
{
	start(request, AUTH_CONFIRM_CODE);
}

void public_auth_cancelled(struct request *request)
{
	struct auth_call *call = request->context;

	http_exchange_cancel(&call->exchange);
}
