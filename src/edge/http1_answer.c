/*
 * http1_answer: answers on HTTP/1.1, whole or in chunks. Thread: the worker's. Source: RFC 9112 §6,
 * §7.
 */
#include "base/check.h"
#include "edge/face_http1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Answers up to here are copied behind their head; a larger body is handed on as there is room. */
#define COPIED_BODY_BYTES_MAX (4u << 10)
#define BODY_SLICE_BYTES      (64u << 10)
/* A service is told to wait with the first that waits; what it has taken up before, and an end with
 * a reason, may still come behind it. */
#define PARTS_MAX 64

/* ---- what waits for room ---- */

struct http1_part {
	struct http1_part *next;
	struct payload_slice slice;
};

/* Returns 0 or -ENOMEM; the reference is taken over either way. */
static int add_part(struct http1 *http1, struct payload_slice slice)
{
	struct http1_part **end = &http1->parts, *part;
	size_t count = 0;

	for (; *end; end = &(*end)->next)
		count++;
	part = count < PARTS_MAX ? malloc(sizeof(*part)) : NULL;
	if (!part) {
		payload_put(slice.payload);
		return -ENOMEM;
	}
	*part = (struct http1_part){.slice = slice};
	*end = part;
	return 0;
}

static void drop_part(struct http1 *http1)
{
	struct http1_part *part = http1->parts;

	http1->parts = part->next;
	payload_put(part->slice.payload);
	free(part);
}

void http1_drop_rest(struct http1 *http1)
{
	while (http1->parts)
		drop_part(http1);
	http1->is_chunked = http1->owes_last_chunk = false;
}

/* As one chunk, if the answer has chunks: RFC 9112 §7.1. Returns 0 or a negative errno; the
 * reference is taken over either way. */
static int send_slice(struct http1 *http1, struct payload_slice slice)
{
	struct conn *conn = &http1->connection->conn;
	char size[24];
	int len = snprintf(size, sizeof(size), "%x\r\n", slice.len);
	int code = http1->is_chunked ? conn_send(conn, span_make(size, (size_t)len)) : 0;

	if (code) {
		payload_put(slice.payload);
		return code;
	}
	code = conn_give_slice(conn, slice);
	if (code)
		payload_put(slice.payload);
	else if (http1->is_chunked)
		code = conn_send(conn, SPAN("\r\n"));
	return code;
}

/* Some of the first part. */
static int send_of_part(struct http1 *http1)
{
	struct payload_slice *left = &http1->parts->slice, slice = *left;

	if (slice.len > BODY_SLICE_BYTES)
		slice.len = BODY_SLICE_BYTES;
	payload_get(slice.payload, 1);

	int code = send_slice(http1, slice);

	left->offset += slice.len;
	left->len -= slice.len;
	if (left->len == 0)
		drop_part(http1);
	return code;
}

bool http1_send_rest(struct http1 *http1)
{
	struct conn *conn = &http1->connection->conn;
	int code = 0;

	while (http1->parts && conn_has_room(conn) && code == 0) {
		code = send_of_part(http1);
		http1_wait_for(http1, WAIT_SEND);
	}
	if (code == 0 && !http1->parts && http1->owes_last_chunk) {
		http1->owes_last_chunk = false;
		code = conn_send(conn, SPAN("0\r\n\r\n"));
	}
	if (code)
		http1_fail(http1, OUTCOME_RESOURCE);
	return code == 0 && !http1->parts;
}

/* ---- whole ---- */

static void append_line(struct buf *head, struct span name, struct span value)
{
	/* A line break in a value would let it write headers of its own. */
	if (span_find_byte(value, '\r') >= 0 || span_find_byte(value, '\n') >= 0)
		return;
	buf_append(head, name);
	buf_append(head, SPAN(": "));
	buf_append(head, value);
	buf_append(head, SPAN("\r\n"));
}

static void write_head(struct http1 *http1, const struct reply *reply, bool is_streamed,
		       struct buf *head)
{
	buf_append(head, SPAN("HTTP/1.1 "));
	buf_append_uint(head, (uint64_t)reply->status);
	buf_append_byte(head, ' ');
	buf_append(head, span_from_cstr(http1_reason(reply->status)));
	buf_append(head, SPAN("\r\n"));
	buf_append(head, SPAN("date: "));
	buf_append(head, server_date(http1->connection->server));
	buf_append(head, SPAN("\r\n"));
	if (!status_has_no_body(reply->status)) {
		if (reply->content_type)
			append_line(head, SPAN("content-type"),
				    span_from_cstr(reply->content_type));
		if (!is_streamed) {
			buf_append(head, SPAN("content-length: "));
			buf_append_uint(head, reply->body.len);
			buf_append(head, SPAN("\r\n"));
		} else if (!http1->is_http10) {
			buf_append(head, SPAN("transfer-encoding: chunked\r\n"));
		}
	}
	for (size_t i = 0; i < reply->header_count; i++)
		append_line(head, span_from_cstr(reply->headers[i].name), reply->headers[i].value);
	if (http1->last)
		buf_append(head, SPAN("connection: close\r\n"));
	else if (http1->is_http10)
		buf_append(head, SPAN("connection: keep-alive\r\n"));
	buf_append(head, SPAN("\r\n"));
}

static int keep_body(struct http1 *http1, struct span body)
{
	struct payload *payload = payload_copy(body);

	return payload ? add_part(http1, (struct payload_slice){payload, 0, payload->len})
		       : -ENOMEM;
}

/* Head and small body in one piece; a larger one waits. Returns 0 or a negative errno. */
static int send_answer(struct http1 *http1, const struct reply *reply)
{
	bool with_body =
		!status_has_no_body(reply->status) && !span_equal(http1->request.method, SPAN("HEAD"));
	struct span body = with_body ? reply->body : SPAN_EMPTY;
	struct buf *head = &http1->connection->server->answer;
	int code = 0;

	write_head(http1, reply, false, head);
	if (body.len > COPIED_BODY_BYTES_MAX)
		code = keep_body(http1, body);
	else
		buf_append(head, body);
	if (code == 0)
		code = head->failed ? -ENOMEM : conn_send(&http1->connection->conn, buf_span(head));
	http1->request.sent_bytes = body.len;
	buf_clear(head, ANSWER_BYTES_MAX);
	return code;
}

static void answer_is_queued(struct http1 *http1)
{
	struct connection *connection = http1->connection;

	/* The loop that called the service goes on by itself; else in this turn's flush step, or
	 * when there is room again. */
	if (http1->is_advancing)
		return;
	if (!conn_has_room(&connection->conn))
		http1_wait_for(http1, WAIT_SEND);
	conn_wants_flush(&connection->conn);
}

static void http1_reply(struct request *request, const struct reply *reply)
{
	struct http1 *http1 = CONTAINER_OF(request, struct http1, request);
	struct connection *connection = http1->connection;

	request->ended = true;
	request->status = reply->status;
	if (connection->server->draining)
		http1->last = true;
	http1->state = HTTP1_ANSWER;

	int code = send_answer(http1, reply);

	account_call(connection->server->account, request, ROUTE_HTTP);
	if (code) {
		http1_fail(http1, OUTCOME_RESOURCE);
		return;
	}
	answer_is_queued(http1);
}

/* ---- streamed ---- */

void http1_pull(struct http1 *http1)
{
	struct request *request = &http1->request;

	if (http1->state != HTTP1_STREAM || request->ended || !http1_send_rest(http1) ||
	    !conn_has_room(&http1->connection->conn))
		return;
	http1_wait_for(http1, WAIT_NOTHING);
	if (request->route->pull)
		request->route->pull(request);
}

static void http1_begin(struct request *request, const struct reply *head)
{
	struct http1 *http1 = CONTAINER_OF(request, struct http1, request);
	struct buf *text = &http1->connection->server->answer;

	request->status = head->status;
	http1->state = HTTP1_STREAM;
	account_begun(http1->connection->server->account, request);
	/* HTTP/1.0 knows no chunks: the end of the connection is the answer's. RFC 9112 §6.3 */
	if (http1->connection->server->draining || http1->is_http10)
		http1->last = true;
	http1->is_chunked = !http1->is_http10;
	write_head(http1, head, true, text);

	int code = text->failed ? -ENOMEM : conn_send(&http1->connection->conn, buf_span(text));

	buf_clear(text, ANSWER_BYTES_MAX);
	if (code)
		http1_fail(http1, OUTCOME_RESOURCE);
	else if (!http1->is_advancing)
		conn_wants_flush(&http1->connection->conn);
}

static bool http1_give(struct request *request, struct payload_slice slice)
{
	struct http1 *http1 = CONTAINER_OF(request, struct http1, request);
	struct conn *conn = &http1->connection->conn;
	bool waits = http1->parts || slice.len > BODY_SLICE_BYTES;

	if (http1->state != HTTP1_STREAM) {
		payload_put(slice.payload);
		return false;
	}
	request->sent_bytes += slice.len;
	if ((waits ? add_part(http1, slice) : send_slice(http1, slice)) != 0) {
		http1_fail(http1, OUTCOME_RESOURCE);
		return false;
	}

	bool takes_more = http1_send_rest(http1) && conn_has_room(conn);

	if (http1->state != HTTP1_STREAM)
		return false;
	http1_wait_for(http1, takes_more ? WAIT_NOTHING : WAIT_SEND);
	if (!http1->is_advancing)
		conn_wants_flush(conn);
	return takes_more;
}

static void http1_end(struct request *request, bool whole)
{
	struct http1 *http1 = CONTAINER_OF(request, struct http1, request);

	request->ended = true;
	account_call(http1->connection->server->account, request, ROUTE_HTTP);
	if (http1->state != HTTP1_STREAM)
		return; /* failed before */
	http1->state = HTTP1_ANSWER;
	http1->owes_last_chunk = http1->is_chunked && !span_equal(request->method, SPAN("HEAD"));
	if (!whole)
		http1_fail(http1, OUTCOME_CLOSED);
	else if (http1->parts || http1_send_rest(http1))
		answer_is_queued(http1);
}

static void http1_rpc_finish(struct request *request, int grpc_status, struct span message,
			     uint64_t retry_after_ms)
{
	(void)request, (void)grpc_status, (void)message, (void)retry_after_ms;
	UNREACHABLE("a gRPC route is refused on HTTP/1.1");
}

static void http1_resume(struct request *request)
{
	struct http1 *http1 = CONTAINER_OF(request, struct http1, request);

	conn_wants_flush(&http1->connection->conn);
}

static void http1_give_back(struct request *request)
{
	buf_finish(&CONTAINER_OF(request, struct http1, request)->body);
}

const struct face_operations http1_operations = {
	.reply = http1_reply,
	.give = http1_give,
	.finish = http1_rpc_finish,
	.resume = http1_resume,
	.begin = http1_begin,
	.end = http1_end,
	.settle = http1_give_back,
};

void http1_refuse(struct http1 *http1, enum err err)
{
	struct reply_header headers[2] = {{"cache-control", SPAN("no-store")}};
	char retry_after[RETRY_AFTER_BYTES_MAX];
	size_t count = 1;

	if (err == ERR_METHOD_NOT_ALLOWED)
		headers[count++] = (struct reply_header){"allow", span_from_cstr(http1->allow)};
	else if (err == ERR_TOO_MANY_REQUESTS)
		headers[count++] = (struct reply_header){
			"retry-after", retry_after_write(retry_after, http1->gate.wait_ms)};
	request_refuse(&http1->request, err, headers, count);
}

void http1_refuse_last(struct http1 *http1, enum err err)
{
	http1->last = true;
	http1_refuse(http1, err);
}
