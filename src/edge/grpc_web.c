#include "edge/grpc_web.h"

#include "base/base64.h"
#include "base/check.h"
#include "codec/grpc.h"
#include "edge/connection.h"

#include <errno.h>
#include <stdlib.h>

#define TRAILERS_BYTES_MAX (64u << 10) /* a message three times as long, and details */
/* Of grpc-message before it is encoded. */
#define MESSAGE_BYTES_MAX 2048
/* Above this the other part of a text is not decoded: the message limit comes before. */
#define TEXT_BYTES_SLACK 64

/* One for each call. */
struct grpc_web {
	struct request call; /* as the method's handlers see it */
	struct request *http;
	void *http_context; /* as it was */
	struct grpc_web_options options;
	enum grpc_web_kind answer_kind;
	struct deadline deadline; /* grpc-timeout; or at once, when broken */
	struct buf text;	  /* decoded */
	struct grpc_deframer deframer;
	bool has_begun, is_broken;
};

static const struct face_operations operations;

static struct grpc_web *web_of(struct request *call)
{
	CHECK(call->face == &operations);
	return CONTAINER_OF(call, struct grpc_web, call);
}

static void web_free(struct grpc_web *web)
{
	deadline_disarm(web->call.worker, &web->deadline);
	grpc_deframer_finish(&web->deframer);
	buf_finish(&web->text);
	arena_finish(&web->call.arena);
	free(web);
}

/* ---- answers ---- */

static void count(const struct grpc_web_options *options, int status)
{
	if (options->calls)
		metric_add(&options->calls[status < GRPC_STATUS_COUNT ? status : GRPC_UNKNOWN], 1);
}

static struct span shortened(struct span message)
{
	return message.len > MESSAGE_BYTES_MAX ? span_first(message, MESSAGE_BYTES_MAX) : message;
}

/* The status in the header, no body. Ends the HTTP request. */
static void reply_trailers_only(struct request *http, const struct grpc_web_options *options,
				enum grpc_web_kind kind, const struct grpc_web_trailers *trailers)
{
	struct reply_header headers[REPLY_HEADERS_MAX];
	char status[SPAN_DECIMAL_BYTES], retry[SPAN_DECIMAL_BYTES];
	size_t added = options->header_count;
	struct buf encoded;

	CHECK(options->header_count <= GRPC_WEB_HEADERS_MAX);
	if (options->header_count > 0)
		memcpy(headers, options->headers, options->header_count * sizeof(headers[0]));
	buf_init(&encoded, (size_t)MESSAGE_BYTES_MAX * 3);
	headers[added++] = (struct reply_header){
		"grpc-status", span_write_uint64(status, (uint64_t)trailers->status)};
	/* Without memory for it the status still goes out. */
	if (trailers->message.len > 0 && grpc_encode_message(&encoded, trailers->message) == 0)
		headers[added++] = (struct reply_header){"grpc-message", buf_span(&encoded)};
	if (trailers->details.len > 0)
		headers[added++] =
			(struct reply_header){"grpc-status-details-bin", trailers->details};
	if (trailers->retry_after_ms > 0)
		headers[added++] = (struct reply_header){
			"retry-after-ms", span_write_uint64(retry, trailers->retry_after_ms)};
	request_reply(http, &(struct reply){
				    .status = 200,
				    .content_type = grpc_web_media_type(kind),
				    .headers = headers,
				    .header_count = added,
			    });
	buf_finish(&encoded);
}

static void begin(struct grpc_web *web)
{
	if (web->has_begun)
		return;
	web->has_begun = true;
	http_begin(web->http, &(struct reply){
				      .status = 200,
				      .content_type = grpc_web_media_type(web->answer_kind),
				      .headers = web->options.headers,
				      .header_count = web->options.header_count,
			      });
}

/* NULL: no memory. */
static struct payload *text_of(struct span bytes)
{
	struct payload *text = payload_create(BASE64_CHARS(bytes.len));

	if (text)
		(void)base64_write(text->data, bytes);
	return text;
}

/* Its service is busy with the call: it is told, and the call ended, from the next deadlines on. */
static void break_later(struct grpc_web *web)
{
	web->is_broken = true;
	deadline_arm(web->call.worker, &web->deadline, 0);
}

static bool give_text(struct grpc_web *web, struct payload_slice slice)
{
	struct payload *text = text_of(span_make(slice.payload->data + slice.offset, slice.len));

	payload_put(slice.payload);
	if (!text) {
		break_later(web);
		return false;
	}
	if (web->options.copied_bytes)
		metric_add(web->options.copied_bytes, slice.len);
	return http_give(web->http, text);
}

static bool web_give(struct request *call, struct payload_slice slice)
{
	struct grpc_web *web = web_of(call);

	if (web->is_broken || web->http->ended) {
		payload_put(slice.payload);
		return false;
	}
	begin(web);
	call->sent_bytes += slice.len;
	if (web->answer_kind == GRPC_WEB_TEXT)
		return give_text(web, slice);
	return web->http->face->give(web->http, slice);
}

/* The last frame. Returns whether it is with the transport. */
static bool give_trailers(struct grpc_web *web, const struct grpc_web_trailers *trailers)
{
	struct payload *payload = NULL;
	struct buf frame;

	buf_init(&frame, TRAILERS_BYTES_MAX);
	if (grpc_web_append_trailers(&frame, trailers) == 0)
		payload = web->answer_kind == GRPC_WEB_TEXT ? text_of(buf_span(&frame))
							    : payload_copy(buf_span(&frame));
	buf_finish(&frame);
	if (payload)
		(void)http_give(web->http, payload);
	return payload;
}

/* What the access log says of the call is the service's. */
static void name_request(struct grpc_web *web)
{
	struct request *http = web->http;
	const struct request *call = &web->call;

	if (call->request_id.len > 0 && !span_equal(call->request_id, http->request_id))
		http->request_id = arena_copy(&http->arena, call->request_id);
	if (call->trace_id.len > 0 && !span_equal(call->trace_id, http->trace_id))
		http->trace_id = arena_copy(&http->arena, call->trace_id);
}

static void finish(struct grpc_web *web, const struct grpc_web_trailers *trailers)
{
	struct request *http = web->http;
	const struct grpc_web_trailers broken = {
		.status = GRPC_RESOURCE_EXHAUSTED,
		.message = span_from_cstr(err_row(ERR_OUT_OF_MEMORY)->text),
	};

	/* A message is missing: whatever its service says, this is no good end. */
	if (web->is_broken)
		trailers = &broken;
	web->call.ended = true;
	count(&web->options, trailers->status);
	name_request(web);
	if (web->has_begun)
		http_end(http, give_trailers(web, trailers));
	else
		reply_trailers_only(http, &web->options, web->answer_kind, trailers);
	web_free(web);
}

static void web_finish(struct request *call, int grpc_status, struct span message,
		       uint64_t retry_after_ms)
{
	finish(web_of(call), &(struct grpc_web_trailers){
				     .status = grpc_status,
				     .message = shortened(message),
				     .retry_after_ms = retry_after_ms,
			     });
}

void grpc_web_finish(struct request *call, int grpc_status, struct span message,
		     struct span details)
{
	if (!call->ended)
		finish(web_of(call), &(struct grpc_web_trailers){
					     .status = grpc_status,
					     .message = shortened(message),
					     .details = details,
				     });
}

/* Text is in pieces that do not tell where a message ends. */
static void web_drop_queue(struct request *call)
{
	struct grpc_web *web = web_of(call);
	struct request *http = web->http;

	if (web->has_begun && web->answer_kind == GRPC_WEB_BINARY && http->face->drop_queue)
		http->face->drop_queue(http);
}

static void web_resume(struct request *call)
{
	struct grpc_web *web = web_of(call);

	begin(web);
	http_resume(web->http);
}

/* Its header fields go with the HTTP request's memory: the answer's head leaves now. */
static void web_settle(struct request *call)
{
	struct grpc_web *web = web_of(call);

	begin(web);
	name_request(web);
	grpc_deframer_finish(&web->deframer);
	buf_finish(&web->text);
	request_settle(web->http);
}

static const struct face_operations operations = {
	.give = web_give,
	.finish = web_finish,
	.drop_queue = web_drop_queue,
	.resume = web_resume,
	.settle = web_settle,
};

/* ---- the end from outside ---- */

/* The service lets go; whatever it does inside is no answer. */
static void let_go(struct grpc_web *web)
{
	struct request *call = &web->call;

	call->ended = true;
	if (call->route->cancelled)
		call->route->cancelled(call);
}

static void expired(struct deadline *deadline)
{
	struct grpc_web *web = CONTAINER_OF(deadline, struct grpc_web, deadline);

	let_go(web);
	web->call.ended = false;
	rpc_cut(&web->call, web->is_broken ? ERR_OUT_OF_MEMORY : ERR_DEADLINE);
}

void grpc_web_cancelled(struct request *http)
{
	struct grpc_web *web = http->context;

	let_go(web);
	http->context = web->http_context;
	count(&web->options, GRPC_CANCELLED);
	web_free(web);
}

void grpc_web_pull(struct request *http)
{
	struct grpc_web *web = http->context;

	if (!web->is_broken && web->call.route->pull)
		web->call.route->pull(&web->call);
}

/* ---- the request ---- */

static enum err err_of_framing(ptrdiff_t code)
{
	if (code == -EMSGSIZE)
		return ERR_MESSAGE_TOO_LARGE;
	return code == -ENOMEM ? ERR_OUT_OF_MEMORY : ERR_MESSAGE_MALFORMED;
}

/* The body, or what its text says. */
static enum err read_body(struct grpc_web *web, struct span *body)
{
	struct grpc_web_text text = {0};

	*body = web->http->body;
	if (web->options.kind != GRPC_WEB_TEXT)
		return ERR_NONE;

	int code = grpc_web_text_take(&text, *body, &web->text);

	if (code == 0 && !grpc_web_text_is_idle(&text))
		code = -EPROTO;
	*body = buf_span(&web->text);
	return code ? err_of_framing(code) : ERR_NONE;
}

/* The one message. It lies in the HTTP request's body, in `text`, or in the deframer. */
static enum err read_message(struct grpc_web *web)
{
	struct span body, message = SPAN_EMPTY;
	enum err err = read_body(web, &body);

	if (err != ERR_NONE)
		return err;

	ptrdiff_t taken = body.len > 0 ? grpc_deframer_take(&web->deframer, body, &message) : 0;

	if (taken < 0)
		return err_of_framing(taken);
	if (!message.data)
		return body.len > 0 ? ERR_MESSAGE_MALFORMED : ERR_CARDINALITY;
	web->call.body = message;
	return (size_t)taken < body.len ? ERR_CARDINALITY : ERR_NONE;
}

static enum err read_encoding(struct grpc_web *web, enum grpc_encoding *encoding)
{
	struct span value = request_find_header(web->http, SPAN("grpc-encoding"));

	*encoding = GRPC_IDENTITY;
	if (span_equal(value, SPAN("gzip")))
		*encoding = GRPC_GZIP;
	else if (value.len > 0 && !span_equal(value, SPAN("identity")))
		return ERR_ENCODING_UNKNOWN;
	return ERR_NONE;
}

/* From now on, as in HTTP/2's face. */
static enum err read_timeout(struct grpc_web *web)
{
	struct span value = request_find_header(web->http, SPAN("grpc-timeout"));
	uint64_t now_us = web->call.worker->now_us;

	if (value.len == 0)
		return ERR_NONE;

	int64_t us = grpc_parse_timeout(value);

	if (us < 0)
		return ERR_BAD_REQUEST;
	web->call.deadline_us = now_us + (uint64_t)us;
	deadline_arm(web->call.worker, &web->deadline, ((uint64_t)us + 999) / 1000);
	return us == 0 ? ERR_DEADLINE : ERR_NONE;
}

static enum err read_request(struct grpc_web *web)
{
	size_t message_max = web->options.route->body_bytes_max;
	enum grpc_encoding encoding;
	enum err err = read_encoding(web, &encoding);

	buf_init(&web->text, message_max + TEXT_BYTES_SLACK);
	grpc_deframer_init(&web->deframer, encoding,
			   message_max < UINT32_MAX ? (uint32_t)message_max : UINT32_MAX);
	if (err == ERR_NONE)
		err = read_timeout(web);
	return err == ERR_NONE ? read_message(web) : err;
}

/* As the face begins one: its own arena, the rest is the HTTP request's. */
static void open_call(struct grpc_web *web, struct request *http)
{
	web->call = (struct request){
		.route = web->options.route,
		.face = &operations,
		.worker = http->worker,
		.peer = http->peer,
		.service = http->service,
		.context = web->options.context,
		.method = http->method,
		.path = http->path,
		.query = http->query,
		.request_id = http->request_id,
		.trace_id = http->trace_id,
		.accept = http->accept,
		.headers = http->headers,
		.started_us = http->started_us,
	};
	arena_init(&web->call.arena, REQUEST_ARENA_BYTES_MAX);
}

void grpc_web_refuse(struct request *http, const struct grpc_web_options *options,
		     enum grpc_status status, const char *message)
{
	count(options, (int)status);
	reply_trailers_only(http, options, grpc_web_answer_kind(http->accept, options->kind),
			    &(struct grpc_web_trailers){
				    .status = (int)status,
				    .message = span_from_cstr(message),
			    });
}

void grpc_web_start(struct request *http, const struct grpc_web_options *options)
{
	const struct route *route = options->route;
	struct grpc_web *web = calloc(1, sizeof(*web));

	CHECK(options->kind != GRPC_WEB_NONE && route->kind == ROUTE_GRPC && !route->message);
	CHECK(http->route->long_lived || !route->long_lived);
	if (!web) {
		grpc_web_refuse(http, options, GRPC_RESOURCE_EXHAUSTED,
				err_row(ERR_OUT_OF_MEMORY)->text);
		return;
	}
	web->http = http;
	web->options = *options;
	web->answer_kind = grpc_web_answer_kind(http->accept, options->kind);
	deadline_init(&web->deadline, expired);
	open_call(web, http);
	web->http_context = http->context;
	http->context = web;
	enum err err = read_request(web);

	if (err != ERR_NONE)
		rpc_fail(&web->call, err, NULL, 0);
	else
		route->start(&web->call);
}
