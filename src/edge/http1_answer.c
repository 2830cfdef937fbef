/*
 * http1_answer: answers on HTTP/1.1, whole or in chunks. Thread: the worker's. Source: RFC 9112 §6,
 * §7.
 */
#include "base/check.h"
#include "edge/face_http1.h"

#include <errno.h>
#include <stdio.h>

/* Answers up to here are copied behind their head; a larger body is handed on as there is room. */
#define COPIED_BODY_BYTES_MAX (4u << 10)
#define BODY_SLICE_BYTES      (64u << 10)

/* A part of a stream up to here goes to the transport in one piece; a larger one as a large body
 * does, for it may be more than a connection's queue can hold. */
#define PART_BYTES_MAX (256u << 10)

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

/* Head and small body in one piece; the rest waits in `answer`. Returns 0 or a negative errno. */
static int send_answer(struct http1 *http1, const struct reply *reply)
{
	bool with_body =
		!status_has_no_body(reply->status) && !span_equal(http1->request.method, SPAN("HEAD"));
	struct span body = with_body ? reply->body : SPAN_EMPTY;
	struct buf *head = &http1->connection->server->answer;
	int code;

	write_head(http1, reply, false, head);
	if (body.len > COPIED_BODY_BYTES_MAX) {
		http1->answer = payload_copy(body);
		http1->answer_end = (uint32_t)body.len;
	} else {
		buf_append(head, body);
	}
	if (head->failed || (body.len > COPIED_BODY_BYTES_MAX && !http1->answer))
		code = -ENOMEM;
	else
		code = conn_send(&http1->connection->conn, buf_span(head));
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

/* Whether no part is on its way any more. */
static bool send_part(struct http1 *http1)
{
	if (!http1->answer)
		return true;
	if (!http1_send_rest(http1))
		return false;
	payload_put(http1->answer);
	http1->answer = NULL;
	return true;
}

void http1_pull(struct http1 *http1)
{
	struct request *request = &http1->request;

	if (http1->state != HTTP1_STREAM || request->ended ||
	    !conn_has_room(&http1->connection->conn) || !send_part(http1) ||
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
	write_head(http1, head, true, text);

	int code = text->failed ? -ENOMEM : conn_send(&http1->connection->conn, buf_span(text));

	buf_clear(text, ANSWER_BYTES_MAX);
	if (code)
		http1_fail(http1, OUTCOME_RESOURCE);
	else if (!http1->is_advancing)
		conn_wants_flush(&http1->connection->conn);
}

/* A chunk's first line, as RFC 9112 §7.1 has it; nothing to HTTP/1.0. */
static struct span chunk_line(const struct http1 *http1, uint32_t bytes, char line[24])
{
	int len = snprintf(line, 24, "%x\r\n", bytes);

	return span_make(line, http1->is_http10 ? 0 : (size_t)len);
}

/* Returns 0 or a negative errno; the reference is taken over either way, as by the next two. */
static int send_chunk(struct http1 *http1, struct payload_slice slice)
{
	struct conn *conn = &http1->connection->conn;
	char line[24];
	int code = conn_send(conn, chunk_line(http1, slice.len, line));

	if (code) {
		payload_put(slice.payload);
		return code;
	}
	code = conn_give_slice(conn, slice);
	if (code)
		payload_put(slice.payload);
	else if (!http1->is_http10)
		code = conn_send(conn, SPAN("\r\n"));
	return code;
}

/* Begins a part that goes out as there is room. */
static int begin_part(struct http1 *http1, struct payload_slice slice)
{
	char line[24];
	int code = conn_send(&http1->connection->conn, chunk_line(http1, slice.len, line));

	if (!code && !http1->is_http10)
		code = buf_append(&http1->behind, SPAN("\r\n"));
	http1->answer = slice.payload;
	http1->answer_sent = slice.offset;
	http1->answer_end = slice.offset + slice.len;
	if (!code && !send_part(http1) && http1->state != HTTP1_STREAM)
		code = -ENOMEM;
	return code;
}

/* Behind a part that is on its way: last words, of whom has been told to wait. */
static int keep_behind(struct http1 *http1, struct payload_slice slice)
{
	struct buf *behind = &http1->behind;
	char line[24];

	buf_append(behind, chunk_line(http1, slice.len, line));
	buf_append(behind, span_make(slice.payload->data + slice.offset, slice.len));
	if (!http1->is_http10)
		buf_append(behind, SPAN("\r\n"));
	payload_put(slice.payload);
	return behind->failed ? -ENOMEM : 0;
}

static int give_slice(struct http1 *http1, struct payload_slice slice)
{
	if (http1->answer)
		return keep_behind(http1, slice);
	return slice.len > PART_BYTES_MAX ? begin_part(http1, slice) : send_chunk(http1, slice);
}

static bool http1_give(struct request *request, struct payload_slice slice)
{
	struct http1 *http1 = CONTAINER_OF(request, struct http1, request);
	struct conn *conn = &http1->connection->conn;

	if (http1->state != HTTP1_STREAM) {
		payload_put(slice.payload);
		return false;
	}
	request->sent_bytes += slice.len;
	if (give_slice(http1, slice) != 0) {
		http1_fail(http1, OUTCOME_RESOURCE);
		return false;
	}

	bool has_room = conn_has_room(conn) && !http1->answer;

	http1_wait_for(http1, has_room ? WAIT_NOTHING : WAIT_SEND);
	if (!http1->is_advancing)
		conn_wants_flush(conn);
	return has_room;
}

/* The last chunk. */
static int send_last(struct http1 *http1)
{
	struct span last = SPAN("0\r\n\r\n");

	if (http1->is_http10 || span_equal(http1->request.method, SPAN("HEAD")))
		return 0;
	return http1->answer ? buf_append(&http1->behind, last)
			     : conn_send(&http1->connection->conn, last);
}

static void http1_end(struct request *request, bool whole)
{
	struct http1 *http1 = CONTAINER_OF(request, struct http1, request);
	struct connection *connection = http1->connection;

	request->ended = true;
	account_call(connection->server->account, request, ROUTE_HTTP);
	if (http1->state != HTTP1_STREAM)
		return; /* failed before */
	http1->state = HTTP1_ANSWER;
	if (!whole || send_last(http1) != 0)
		http1_fail(http1, whole ? OUTCOME_RESOURCE : OUTCOME_CLOSED);
	else
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

bool http1_send_rest(struct http1 *http1)
{
	struct conn *conn = &http1->connection->conn;

	if (!http1->answer)
		return true;
	while (http1->answer_sent < http1->answer_end && conn_has_room(conn)) {
		uint32_t left = http1->answer_end - http1->answer_sent;
		struct payload_slice slice = {
			.payload = http1->answer,
			.offset = http1->answer_sent,
			.len = left < BODY_SLICE_BYTES ? left : BODY_SLICE_BYTES,
		};

		if (conn_send_slice(conn, slice) != 0) {
			http1_fail(http1, OUTCOME_RESOURCE);
			return false;
		}
		http1->answer_sent += slice.len;
		http1_wait_for(http1, WAIT_SEND);
	}
	if (http1->answer_sent < http1->answer_end)
		return false;

	if (http1->behind.len > 0 && conn_send(conn, buf_span(&http1->behind)) != 0) {
		http1_fail(http1, OUTCOME_RESOURCE);
		return false;
	}
	buf_finish(&http1->behind);
	return true;
}
