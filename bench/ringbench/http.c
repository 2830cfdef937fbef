/*
 * http: GET, or POST of JSON, over HTTP/1.1 keep-alive, one request at a time on each connection.
 * What is expected is given, or the first answer, as codec/http1 reads it; a later one that is not the
 * same bytes is read again and must have the same status and body.
 */
#include "link.h"
#include "works.h"

#include "codec/http1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES_MAX  (1u << 20)
#define REQUEST_BYTES_MAX (1u << 20)

struct http_slot {
	struct link link;
	struct buf partial; /* of an answer cut by the transport */
	uint64_t sent_us;   /* or due */
	uint64_t due_count, sent_count;
	bool is_waiting;
};

struct http_lane {
	struct http_slot *slots;
	uint32_t connected_count;
	struct buf answer; /* the last good one, whole */
	struct buf body;   /* the expected */
	bool has_body;
};

struct http_shared {
	struct buf request;
};

static struct http_slot *slot_of(struct conn *conn)
{
	return CONTAINER_OF(link_of(conn), struct http_slot, link);
}

/* ---- requests ---- */

static void slot_send(struct http_slot *slot, uint64_t since_us)
{
	struct lane *lane = slot->link.lane;
	const struct http_shared *shared = lane->run->shared;

	if (slot->is_waiting || !lane_may_send(lane) ||
	    conn_send(&slot->link.conn, buf_span(&shared->request)) != 0)
		return;
	slot->is_waiting = true;
	slot->sent_us = since_us;
	slot->sent_count++;
	lane->waiting++;
}

static void slot_send_due(struct http_slot *slot)
{
	struct lane *lane = slot->link.lane;
	uint32_t index = (uint32_t)(slot - ((struct http_lane *)lane->work)->slots);

	if (slot->sent_count < slot->due_count)
		slot_send(slot, lane_due_us(lane, index, slot->sent_count));
}

static void http_begin(struct lane *lane)
{
	const struct http_lane *http = lane->work;

	for (uint32_t i = 0; i < lane->slot_count; i++)
		slot_send(&http->slots[i], lane->worker->now_us);
}

static void http_due(struct lane *lane, uint32_t index)
{
	struct http_slot *slot = &((struct http_lane *)lane->work)->slots[index];

	slot->due_count++;
	slot_send_due(slot);
}

static uint64_t http_sent(const struct lane *lane, uint32_t index)
{
	return ((const struct http_lane *)lane->work)->slots[index].sent_count;
}

/* ---- answers ---- */

/* Returns the answer's length, 0 when bytes are missing, -EPROTO when it is not the right one. */
static ptrdiff_t read_answer(struct http_lane *http, struct span bytes)
{
	static const struct http1_limits limits = {.head_bytes_max = 65536, .line_bytes_max = 8192};
	struct http1_body_reader reader;
	struct http1_head head;
	ptrdiff_t taken = http1_parse_response(bytes, &limits, SPAN("GET"), &head);
	struct buf body;

	if (taken <= 0)
		return taken == 0 ? 0 : -EPROTO;
	if (head.status != 200 || !head.keep_alive)
		return -EPROTO;
	http1_body_init(&reader, &head);
	buf_init(&body, ANSWER_BYTES_MAX);

	size_t at = (size_t)taken;

	while (!reader.finished) {
		struct span content;

		taken = http1_body_take(&reader, span_from(bytes, at), &content);
		if (taken < 0 || (taken == 0 && !reader.finished))
			break;
		at += (size_t)taken;
		buf_append(&body, content);
	}
	ptrdiff_t result = taken < 0 ? -EPROTO : reader.finished ? (ptrdiff_t)at : 0;

	if (result > 0 && !http->has_body) {
		buf_append(&http->body, buf_span(&body));
		http->has_body = true;
	} else if (result > 0 && !span_equal(buf_span(&body), buf_span(&http->body))) {
		result = -EPROTO;
	}
	buf_finish(&body);
	return result;
}

/* As read_answer; compares only when these bytes have been read before. */
static ptrdiff_t check_answer(struct http_lane *http, struct span bytes)
{
	if (http->answer.len > 0 && bytes.len >= http->answer.len &&
	    span_equal(span_first(bytes, http->answer.len), buf_span(&http->answer)))
		return (ptrdiff_t)http->answer.len;

	ptrdiff_t taken = read_answer(http, bytes);

	if (taken > 0) {
		buf_clear(&http->answer, ANSWER_BYTES_MAX);
		buf_append(&http->answer, span_first(bytes, (size_t)taken));
	}
	return taken;
}

static void slot_wrong(struct http_slot *slot)
{
	struct lane *lane = slot->link.lane;

	lane->stats.wrong++;
	if (slot->is_waiting)
		lane->waiting--;
	slot->is_waiting = false;
	/* what comes behind it could not be told apart any more */
	lane_fail(lane, "a wrong answer: no 200, another body, or more than was asked for");
}

static void slot_received(struct conn *conn, struct span bytes)
{
	struct http_slot *slot = slot_of(conn);
	struct lane *lane = slot->link.lane;
	struct http_lane *http = lane->work;
	bool is_partial = slot->partial.len > 0;

	if (is_partial) {
		buf_append(&slot->partial, bytes);
		bytes = buf_span(&slot->partial);
	}
	ptrdiff_t taken =
		slot->partial.failed || !slot->is_waiting ? -EPROTO : check_answer(http, bytes);

	if (taken < 0 || (taken > 0 && (size_t)taken < bytes.len)) {
		slot_wrong(slot);
		return;
	}
	if (taken == 0) {
		if (!is_partial)
			buf_append(&slot->partial, bytes);
		return;
	}
	buf_clear(&slot->partial, ANSWER_BYTES_MAX);
	slot->is_waiting = false;
	lane->waiting--;
	lane_count_unit(lane, slot->sent_us);
	if (lane->due_step_us > 0)
		slot_send_due(slot);
	else
		slot_send(slot, lane->worker->now_us);
}

/* ---- life ---- */

static void slot_closed(struct conn *conn, enum conn_end end, int error)
{
	struct http_slot *slot = slot_of(conn);
	struct lane *lane = slot->link.lane;

	(void)end;
	(void)error;
	if (slot->is_waiting && lane->waiting > 0) {
		slot->is_waiting = false;
		lane->waiting--;
		lane->stats.lost++;
	}
	if (lane->is_stopping)
		return;
	lane->stats.ended++;
	lane_fail(lane, "the server ended a connection");
}

static void slot_connected(struct link *link)
{
	struct lane *lane = link->lane;
	struct http_lane *http = lane->work;

	if (++http->connected_count == lane->slot_count)
		lane_is_ready(lane);
}

static const struct link_handler slot_handler = {
	.conn = {.received = slot_received, .closed = slot_closed},
	.connected = slot_connected,
};

static int http_open(struct lane *lane)
{
	struct http_lane *http = calloc(1, sizeof(*http));
	uint32_t first;

	if (!http)
		return -ENOMEM;
	lane->work = http;
	lane->slot_count = lane_share(lane, lane->options->connections, &first);
	http->slots = calloc(lane->slot_count + 1, sizeof(*http->slots));
	if (!http->slots)
		return -ENOMEM;
	buf_init(&http->answer, ANSWER_BYTES_MAX);
	buf_init(&http->body, ANSWER_BYTES_MAX);
	if (lane->options->answer.data) {
		http->has_body = true;
		if (buf_append(&http->body, lane->options->answer) != 0)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < lane->slot_count; i++) {
		buf_init(&http->slots[i].partial, ANSWER_BYTES_MAX);
		link_open(&http->slots[i].link, lane, first + i, &slot_handler);
	}
	if (lane->slot_count == 0)
		lane_is_ready(lane);
	return 0;
}

static void http_close(struct lane *lane)
{
	const struct http_lane *http = lane->work;

	for (uint32_t i = 0; http && http->slots && i < lane->slot_count; i++)
		link_close(&http->slots[i].link);
}

static void http_free(struct lane *lane)
{
	struct http_lane *http = lane->work;

	if (!http)
		return;
	for (uint32_t i = 0; http->slots && i < lane->slot_count; i++)
		buf_finish(&http->slots[i].partial);
	buf_finish(&http->answer);
	buf_finish(&http->body);
	free(http->slots);
	free(http);
}

static const struct lane_ops http_ops = {
	.open = http_open,
	.begin = http_begin,
	.due = http_due,
	.sent = http_sent,
	.close = http_close,
	.free = http_free,
};

int http_run(const struct options *options)
{
	struct http_shared shared;
	char authority[ENDPOINT_TEXT_MAX];
	struct run run;
	int code;

	endpoint_format(&options->target_endpoint, authority);
	buf_init(&shared.request, REQUEST_BYTES_MAX);
	buf_printf(&shared.request, "%s %s HTTP/1.1\r\nHost: %s\r\n",
		   options->body.data ? "POST" : "GET", options->path,
		   options->target_endpoint.kind == ENDPOINT_UNIX ? "localhost" : authority);
	if (options->body.data)
		buf_printf(&shared.request,
			   "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			   options->body.len);
	buf_append(&shared.request, SPAN("\r\n"));
	if (options->body.data)
		buf_append(&shared.request, options->body);
	if (shared.request.failed) {
		tell("--body is too long");
		buf_finish(&shared.request);
		return 2;
	}
	code = run_start(&run, options, &http_ops, &shared);
	code = run_report(&run, code, SPAN_EMPTY);
	run_finish(&run);
	buf_finish(&shared.request);
	return code;
}
