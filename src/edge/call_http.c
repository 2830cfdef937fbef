/*
 * call_http: answers to HTTP requests on HTTP/2 streams, whole or streamed. Thread: the worker's.
 * Source: RFC 9113 §8.
 */
#include "base/check.h"
#include "edge/face_h2.h"

#include <errno.h>

static int push_body(struct call *call, struct span body)
{
	struct payload *payload = payload_copy(body);

	if (!payload)
		return -ENOMEM;

	struct payload_slice slice = {.payload = payload, .len = payload->len};
	int code = h2_stream_push(&call->stream, slice);

	payload_put(payload);
	return code ? code : h2_stream_finish(&call->stream, NULL, 0);
}

/* `length`: of the body, or NULL when its end will tell. Returns 0 or a negative errno. */
static int respond(struct call *call, const struct reply *reply, const size_t *length,
		   bool end_stream)
{
	struct h2_header headers[REPLY_HEADERS_MAX + 4];
	char status[SPAN_DECIMAL_BYTES], bytes[SPAN_DECIMAL_BYTES];
	size_t count = 0;

	CHECK(reply->header_count <= REPLY_HEADERS_MAX && !call->is_responded);
	headers[count++] = (struct h2_header){SPAN(":status"),
					      span_write_uint64(status, (uint64_t)reply->status)};
	headers[count++] = (struct h2_header){SPAN("date"), server_date(server_of(call))};
	if (!status_has_no_body(reply->status) && reply->content_type)
		headers[count++] = (struct h2_header){SPAN("content-type"),
						      span_from_cstr(reply->content_type)};
	if (!status_has_no_body(reply->status) && length)
		headers[count++] = (struct h2_header){SPAN("content-length"),
						      span_write_uint64(bytes, *length)};
	for (size_t i = 0; i < reply->header_count; i++)
		headers[count++] = (struct h2_header){span_from_cstr(reply->headers[i].name),
						      reply->headers[i].value};
	call->is_responded = true;
	return h2_respond(&call->stream, headers, count, end_stream);
}

void call_reply(struct request *request, const struct reply *reply)
{
	struct call *call = call_of(request);
	bool with_body = !status_has_no_body(reply->status) && reply->body.len > 0 &&
			 !span_equal(request->method, SPAN("HEAD"));
	int code = respond(call, reply, &reply->body.len, !with_body);

	if (code == 0 && with_body) {
		request->sent_bytes = reply->body.len;
		code = push_body(call, reply->body);
	}
	call_answered(call, reply->status, code);
}

void call_begin(struct request *request, const struct reply *head)
{
	struct call *call = call_of(request);

	request->status = head->status;
	account_begun(server_of(call)->account, request);
	/* The service is busy with its call: it is told later, and parts go nowhere until then. */
	call->is_broken = respond(call, head, NULL, false) != 0;
	if (call->is_broken)
		call_ask_attention(call);
	http2_wake(call->http2);
}

void call_end(struct request *request, bool whole)
{
	struct call *call = call_of(request);

	call_answered(call, request->status,
		      whole && !call->is_broken ? h2_stream_finish(&call->stream, NULL, 0)
						: -EPIPE);
}
