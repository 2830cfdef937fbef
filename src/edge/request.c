#include "edge/request.h"

#include "codec/json.h"
#include "edge/connection.h"

#define ERROR_BODY_BYTES_MAX 2048 /* the longest text of err.def, escaped, many times over */
#define FAIL_TEXT_BYTES_MAX  512  /* a row's text with its argument */

void request_set_label(struct request *request, struct span label)
{
	/* without memory for it the call counts as its route's */
	request->label = label.len > 0 ? (const char *)arena_copy(&request->arena, label).data : NULL;
}

void request_reply(struct request *request, const struct reply *reply)
{
	if (!request->ended)
		request->face->reply(request, reply);
}

void request_reply_error(struct request *request, enum err err, const struct reply_header *headers,
			 size_t header_count)
{
	const struct err_row *row = err_row(err);
	struct buf body;

	if (request->ended)
		return;
	buf_init(&body, ERROR_BODY_BYTES_MAX);
	buf_append(&body, SPAN("{\"error\":{\"code\":"));
	(void)json_append_string(&body, span_from_cstr(row->http_code));
	buf_append(&body, SPAN(",\"message\":"));
	(void)json_append_string(&body, span_from_cstr(row->text));
	buf_append(&body, SPAN("}}"));
	/* Without memory for a body the status alone has to say it. */
	if (body.failed)
		buf_clear(&body, 0);
	request->face->reply(request, &(struct reply){
					      .status = row->http_status,
					      .content_type = "application/json",
					      .body = buf_span(&body),
					      .headers = headers,
					      .header_count = header_count,
				      });
	buf_finish(&body);
}

void http_begin(struct request *request, const struct reply *head)
{
	if (request->ended)
		return;
	request->is_begun = true;
	request->face->begin(request, head);
	if (!request->ended && span_equal(request->method, SPAN("HEAD")))
		request->face->end(request, true);
}

bool http_give(struct request *request, struct payload *part)
{
	return rpc_give(request, part);
}

void http_end(struct request *request, bool whole)
{
	if (!request->ended)
		request->face->end(request, whole);
}

void http_resume(struct request *request)
{
	rpc_resume(request);
}

bool rpc_send(struct request *request, struct payload_slice message)
{
	if (request->ended)
		return false;
	payload_get(message.payload, 1);
	return request->face->give(request, message);
}

bool rpc_give(struct request *request, struct payload *messages)
{
	if (!request->ended)
		return request->face->give(request, (struct payload_slice){
							    .payload = messages,
							    .len = messages->len,
						    });
	payload_put(messages);
	return false;
}

void rpc_finish(struct request *request, int grpc_status, struct span message)
{
	if (!request->ended)
		request->face->finish(request, grpc_status, message, 0);
}

void rpc_fetch(struct request *request, unsigned step)
{
	if (step == 0)
		__builtin_prefetch(request);
	else if (request->face->fetch)
		request->face->fetch(request, step);
}

/* The row's text, its "%s" replaced; cut where the bound is. Returns its length. */
static size_t text_fill(char text[FAIL_TEXT_BYTES_MAX], const char *pattern, const char *argument)
{
	struct buf out;
	const char *hole = strstr(pattern, "%s");

	buf_init(&out, FAIL_TEXT_BYTES_MAX);
	if (!hole) {
		buf_append(&out, span_from_cstr(pattern));
	} else {
		buf_append(&out, span_make(pattern, (size_t)(hole - pattern)));
		buf_append(&out, span_from_cstr(argument));
		buf_append(&out, span_from_cstr(hole + 2));
	}

	size_t len = out.len;

	if (len > 0)
		memcpy(text, out.data, len);
	buf_finish(&out);
	return len;
}

void rpc_fail(struct request *request, enum err err, const char *argument, uint64_t retry_after_ms)
{
	const struct err_row *row = err_row(err);
	char text[FAIL_TEXT_BYTES_MAX];

	if (request->ended)
		return;

	size_t len = text_fill(text, row->text, argument);

	request->face->finish(request, (int)row->grpc, span_make(text, len), retry_after_ms);
}

void rpc_cut(struct request *request, enum err err)
{
	const struct err_row *row = err_row(err);

	if (request->ended)
		return;
	request->face->drop_queue(request);
	request->face->finish(request, (int)row->grpc, span_from_cstr(row->text), 0);
}

void rpc_resume(struct request *request)
{
	if (!request->ended)
		request->face->resume(request);
}

uint64_t request_time_left_ms(const struct request *request)
{
	uint64_t now_us = request->worker->now_us;

	if (request->deadline_us == 0)
		return 0;
	if (request->deadline_us < now_us + 1000)
		return 1;
	return (request->deadline_us - now_us) / 1000;
}

/* ---- for the faces ---- */

void request_refuse(struct request *request, enum err err, const struct reply_header *headers,
		    size_t header_count)
{
	if (!request->ended && request->route && request->route->refuse)
		request->route->refuse(request, err, headers, header_count);
	else
		request_reply_error(request, err, headers, header_count);
}

#define REQUEST_ID_BYTES_MAX 128
#define ACCEPT_BYTES_MAX     1024 /* browsers and scrapers send a few hundred */
#define TRACEPARENT_BYTES                                                                          \
	55 /* "00-" 32 hex digits "-" 16 hex digits "-" 2 hex digits: W3C Trace Context §3.2.2 */
#define TRACE_ID_BYTES 32

static bool is_visible_ascii(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] < 0x21 || text.data[i] > 0x7e)
			return false;
	return text.len > 0;
}

static bool is_hex(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!(text.data[i] >= '0' && text.data[i] <= '9') &&
		    !(text.data[i] >= 'a' && text.data[i] <= 'f'))
			return false;
	return true;
}

/* Without memory it is as if the client had not sent it. */
void request_keep_header(struct request *request, struct span name, struct span value)
{
	struct request_header *header = arena_alloc(&request->arena, sizeof(*header));

	if (!header)
		return;
	header->name = arena_copy(&request->arena, name);
	header->value = arena_copy(&request->arena, value);
	if (!header->name.data || !header->value.data)
		return;
	for (size_t i = 0; i < header->name.len; i++) {
		uint8_t *byte = (uint8_t *)(uintptr_t)&header->name.data[i];

		if (*byte >= 'A' && *byte <= 'Z')
			*byte |= 0x20;
	}
	header->next = request->headers;
	request->headers = header;
}

static uint8_t *put_before(uint8_t *end, struct span text)
{
	if (text.len > 0)
		memcpy(end - text.len, text.data, text.len);
	return end - text.len;
}

struct span request_find_header(struct request *request, struct span name)
{
	struct span separator = span_equal(name, SPAN("cookie")) ? SPAN("; ") : SPAN(", ");
	struct span found = SPAN_EMPTY;
	size_t len = 0, count = 0;

	for (const struct request_header *header = request->headers; header;
	     header = header->next) {
		if (!span_equal(header->name, name))
			continue;
		found = header->value;
		len += found.len + (count++ > 0 ? separator.len : 0);
	}
	if (count < 2)
		return found;

	/* at once: a cookie field comes in as many pieces as it has cookies */
	uint8_t *joined = arena_alloc(&request->arena, len);

	if (!joined)
		return SPAN_EMPTY;

	uint8_t *at = joined + len;

	for (const struct request_header *header = request->headers; header;
	     header = header->next) {
		if (!span_equal(header->name, name))
			continue;
		at = put_before(at, header->value);
		if (--count > 0)
			at = put_before(at, separator);
	}
	return span_make(joined, len);
}

void request_note_header(struct request *request, struct span name, struct span value)
{
	if (span_equal_nocase(name, SPAN("x-request-id"))) {
		if (value.len <= REQUEST_ID_BYTES_MAX && is_visible_ascii(value))
			request->request_id = arena_copy(&request->arena, value);
	} else if (span_equal_nocase(name, SPAN("accept"))) {
		if (value.len <= ACCEPT_BYTES_MAX)
			request->accept = arena_copy(&request->arena, value);
	} else if (span_equal_nocase(name, SPAN("traceparent"))) {
		struct span id = value.len >= TRACEPARENT_BYTES
					 ? span_make(value.data + 3, TRACE_ID_BYTES)
					 : SPAN_EMPTY;

		if (id.len > 0 && is_hex(id))
			request->trace_id = arena_copy(&request->arena, id);
	}
}

void request_set_target(struct request *request, struct span target)
{
	ptrdiff_t mark = span_find_byte(target, '?');

	request->path = mark < 0 ? target : span_first(target, (size_t)mark);
	request->query = mark < 0 ? SPAN_EMPTY : span_from(target, (size_t)mark + 1);
}

void request_settle(struct request *request)
{
	struct span label = span_from_cstr(request->label ? request->label : "");
	struct span *const kept[] = {&request->request_id, &request->trace_id, &label};

	CHECK(request->route && request->route->long_lived);
	request->method = span_from_cstr(request->route->method);
	request->path = span_from_cstr(request->route->path);
	request->query = request->accept = request->body = SPAN_EMPTY;
	request->headers = NULL;
	arena_keep(&request->arena, kept, ARRAY_LEN(kept));
	request->label = request->label ? (const char *)label.data : NULL;
	if (request->face->settle)
		request->face->settle(request);
}
