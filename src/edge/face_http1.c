/*
 * face_http1: HTTP/1.1 on one connection, one request after the other, answers in order.
 * Thread: the worker's.
 *
 *   HEAD ─ parsed ─► BODY ─ whole ─► SERVICE ─ request_reply ─► ANSWER ─ all with conn ─► HEAD
 *     │                                  └─ http_begin ─► STREAM ─ http_end ─┘ │
 *     └─ refused, in any state before SERVICE ───────────────────────────────┘  └─ the last ─► OVER
 *
 * What arrives during SERVICE and ANSWER, or in HEAD while the answers before it have filled the send
 * queue, waits in `ahead`; beyond PIPELINE_BYTES_ROOM receiving pauses until they have left. So a
 * client that sends requests without end and reads nothing holds a full send queue, `ahead` and two
 * kernel buffers, until GATEWAY_HTTP_IDLE_TIMEOUT or TCP_USER_TIMEOUT; one that reads later loses
 * nothing.
 */
#include "edge/face_http1.h"

#include <errno.h>
#include <stdlib.h>

/* Bytes ahead of the request in progress at which receiving pauses; below it a peer's reset is
 * still heard at once. */
#define PIPELINE_BYTES_ROOM (16u << 10)
/* What the kernel had handed over when it paused may still come: at most all receive buffers of the
 * worker (NODE_BUFFERS), some hundred KiB where a multishot receive takes turns (kernel ≥ 6.3). */
#define PIPELINE_BYTES_MAX ((8u << 20) + PIPELINE_BYTES_ROOM)
/* A body that nobody wants (404, 405) is read up to here to keep the connection; a larger one ends
 * it. */
#define UNWANTED_BYTES_MAX (64u << 10)
/* Memory an idle connection may keep. */
#define KEEP_BYTES 1024

static const struct config *config_of(const struct http1 *http1)
{
	return http1->connection->server->options.config;
}

/* ---- waiting ---- */

/* A deadline that comes too early is left: it costs one look, and nothing is moved with every
 * request. */
static void http1_set_due(struct http1 *http1, uint64_t wait_ms)
{
	struct worker *worker = http1->connection->server->worker;
	struct deadline *deadline = &http1->connection->deadline;

	http1->due_ms = (worker->now_us + 999) / 1000 + wait_ms; /* rounded up: never too early */
	if (!deadline_is_armed(deadline) || deadline->timer.due_ms > http1->due_ms)
		deadline_arm(worker, deadline, wait_ms);
}

/* The next look at the body: after a window, or at its end. */
static void http1_begin_window(struct http1 *http1)
{
	uint64_t now_ms = http1->connection->server->worker->now_ms;
	uint64_t left_ms = http1->body_due_ms > now_ms ? http1->body_due_ms - now_ms : 0;

	http1->window_bytes = 0;
	if (left_ms > BODY_WINDOW_MS && config_of(http1)->http_min_body_rate > 0)
		http1_set_due(http1, BODY_WINDOW_MS);
	else
		http1->due_ms = http1->body_due_ms;
}

void http1_wait_for(struct http1 *http1, enum http1_wait wait)
{
	const struct config *config = config_of(http1);

	/* A part of a head does not prolong its time; an answer has it anew with each step. */
	if (wait == http1->wait && wait != WAIT_SEND)
		return;
	http1->wait = wait;
	switch (wait) {
	case WAIT_NOTHING:
		break;
	case WAIT_HEAD:
		http1_set_due(http1, config->http_header_timeout_ms);
		break;
	case WAIT_BODY:
		http1_set_due(http1, config->http_body_timeout_ms);
		http1->body_due_ms = http1->due_ms;
		http1_begin_window(http1);
		break;
	case WAIT_IDLE:
	case WAIT_SEND:
		http1_set_due(http1, config->http_idle_timeout_ms);
		break;
	}
}

/* ---- the request's end ---- */

static void http1_clear_request(struct http1 *http1)
{
	arena_finish(&http1->request.arena);
	buf_finish(&http1->body);
	http1_drop_rest(http1);
	http1->is_started = false;
	http1->request = (struct request){0};
}

static void http1_finish(struct http1 *http1)
{
	http1->state = HTTP1_OVER;
	if (http1->peer_finished)
		connection_set_outcome(http1->connection, OUTCOME_PEER);
	buf_finish(&http1->ahead);
	conn_finish_sending(&http1->connection->conn);
}

void http1_fail(struct http1 *http1, enum connection_outcome outcome)
{
	http1->state = HTTP1_OVER;
	connection_set_outcome(http1->connection, outcome);
	conn_close(&http1->connection->conn);
}

/* ---- a request's steps; each returns the bytes it took ---- */

static const struct {
	const char *text;
	size_t len;
} standing_methods[] = {{"GET", 3},    {"HEAD", 4},  {"POST", 4},   {"PUT", 3},
			{"DELETE", 6}, {"PATCH", 5}, {"OPTIONS", 7}};

/* Copies what must outlive the head's bytes. Returns 0 or -ENOMEM. */
static int keep_head(struct http1 *http1, const struct http1_head *head)
{
	struct request *request = &http1->request;
	struct span target;

	request->method = SPAN_EMPTY;
	for (size_t i = 0; i < ARRAY_LEN(standing_methods) && request->method.len == 0; i++) {
		struct span method = span_make(standing_methods[i].text, standing_methods[i].len);

		if (span_equal(head->method, method))
			request->method = method;
	}
	if (request->method.len == 0)
		request->method = arena_copy(&request->arena, head->method);
	request->path = arena_copy(&request->arena, head->path);
	target = arena_copy(&request->arena, head->query);
	request->query = target;
	for (size_t i = 0; i < head->header_count; i++)
		request_note_header(request, head->headers[i].name, head->headers[i].value);
	return request->method.data && request->path.data && target.data ? 0 : -ENOMEM;
}

static void keep_headers(struct http1 *http1, const struct http1_head *head)
{
	for (size_t i = 0; i < head->header_count; i++)
		request_keep_header(&http1->request, head->headers[i].name,
				    head->headers[i].value);
}

static void find_route(struct http1 *http1)
{
	struct request *request = &http1->request;

	request->route =
		connection_find_route(http1->connection, request, &http1->refusal, http1->allow);
	if (request->route && request->route->kind == ROUTE_GRPC) {
		request->route = NULL;
		http1->refusal = ERR_HTTP_VERSION;
	}
	http1->gate = connection_ask_gate(http1->connection, request);
	http1->body_bytes_max = http1->gate.body_bytes_max;
	if (request->route && request->route->body_bytes_max < http1->body_bytes_max)
		http1->body_bytes_max = request->route->body_bytes_max;
	if (http1->gate.wait_ms > 0)
		http1->refusal = ERR_TOO_MANY_REQUESTS;
}

/* The head is there: looks the route up, and whether its body is wanted. */
static void begin_body(struct http1 *http1, const struct http1_head *head)
{
	bool is_long =
		head->body == HTTP1_BODY_LENGTH && head->content_length > http1->body_bytes_max;

	http1_body_init(&http1->reader, head);
	http1->state = HTTP1_BODY;
	if (http1->reader.finished)
		return;
	http1_wait_for(http1, WAIT_BODY);
	/* 429 says that nothing was looked at, and stays. */
	if (is_long && http1->refusal != ERR_TOO_MANY_REQUESTS)
		http1->refusal = ERR_BODY_TOO_LARGE;
	/* A client that waits to be asked for its body gets the refusal instead, and sends none. */
	if (http1->refusal != ERR_NONE &&
	    (head->expect_continue || http1->refusal == ERR_BODY_TOO_LARGE ||
	     (head->body == HTTP1_BODY_LENGTH && head->content_length > UNWANTED_BYTES_MAX)))
		http1_refuse_last(http1, http1->refusal);
	else if (head->expect_continue &&
		 conn_send(&http1->connection->conn, SPAN("HTTP/1.1 100 Continue\r\n\r\n")) != 0)
		http1_fail(http1, OUTCOME_RESOURCE);
}

static size_t take_head(struct http1 *http1, struct span bytes)
{
	const struct config *config = config_of(http1);
	struct http1_limits limits = {
		.head_bytes_max = (size_t)config->http_max_header_bytes,
		.line_bytes_max = (size_t)config->http_max_header_bytes,
	};
	struct http1_head head;
	ptrdiff_t taken = http1_parse_request(bytes, &limits, &head);

	if (taken == 0) {
		http1_wait_for(http1, WAIT_HEAD);
		return 0;
	}
	connection_begin_request(http1->connection, &http1->request, &http1_operations);
	http1->allow[0] = '\0';
	http1->unwanted_bytes = 0;
	http1_wait_for(http1, WAIT_NOTHING);
	if (taken < 0) {
		account_http1_fault(http1->connection->server->account, head.fault);
		connection_set_outcome(http1->connection, OUTCOME_PROTOCOL);
		http1_refuse_last(http1, (enum err) - taken);
		return bytes.len;
	}
	http1->is_http10 = head.minor_version == 0;
	http1->last = !head.keep_alive;
	if (keep_head(http1, &head) != 0) {
		http1_refuse_last(http1, ERR_OUT_OF_MEMORY);
		return bytes.len;
	}
	find_route(http1);
	if (http1->request.route && http1->request.route->keeps_headers)
		keep_headers(http1, &head);
	buf_init(&http1->body, http1->body_bytes_max);
	begin_body(http1, &head);
	return (size_t)taken;
}

static void start_service(struct http1 *http1)
{
	http1_wait_for(http1, WAIT_NOTHING);
	if (http1->refusal != ERR_NONE) {
		http1_refuse(http1, http1->refusal);
		return;
	}
	http1->state = HTTP1_SERVICE;
	http1->is_started = true;
	http1->request.body = buf_span(&http1->body);
	http1->request.route->start(&http1->request);
}

/* One more part of the body. Returns whether the request may go on. */
static bool keep_content(struct http1 *http1, struct span content)
{
	if (http1->refusal != ERR_NONE) {
		http1->unwanted_bytes += content.len;
		if (http1->unwanted_bytes > http1->body_bytes_max &&
		    http1->refusal != ERR_TOO_MANY_REQUESTS)
			http1->refusal = ERR_BODY_TOO_LARGE;
		else if (http1->unwanted_bytes <= UNWANTED_BYTES_MAX)
			return true;
		http1_refuse_last(http1, http1->refusal);
		return false;
	}

	int code = buf_append(&http1->body, content);

	if (code)
		http1_refuse_last(http1,
				  code == -EMSGSIZE ? ERR_BODY_TOO_LARGE : ERR_OUT_OF_MEMORY);
	return code == 0;
}

static size_t take_body(struct http1 *http1, struct span bytes)
{
	size_t taken = 0;

	while (!http1->reader.finished && taken < bytes.len) {
		struct span content = SPAN_EMPTY;
		ptrdiff_t part = http1_body_take(&http1->reader, span_from(bytes, taken), &content);

		if (part < 0) {
			account_http1_fault(http1->connection->server->account,
					    (enum http1_fault)http1->reader.fault);
			connection_set_outcome(http1->connection, OUTCOME_PROTOCOL);
			http1_refuse_last(http1, (enum err) - part);
			return bytes.len;
		}
		if (!keep_content(http1, content))
			return bytes.len;
		http1->window_bytes += (size_t)part;
		taken += (size_t)part;
		if (part == 0)
			break;
	}
	if (http1->reader.finished)
		start_service(http1);
	return taken;
}

/* The answer is with the transport: on to the next request, or the end. */
static void next_request(struct http1 *http1)
{
	http1_clear_request(http1);
	if (http1->last || http1->connection->draining) {
		http1_finish(http1);
		return;
	}
	http1->state = HTTP1_HEAD;
}

/* Nothing more can be done with these bytes now: false. */
static bool http1_step(struct http1 *http1, struct span bytes, size_t *taken)
{
	*taken = 0;
	switch (http1->state) {
	case HTTP1_HEAD:
		if (bytes.len == 0 || !conn_has_room(&http1->connection->conn))
			return false;
		*taken = take_head(http1, bytes);
		return *taken > 0 || http1->state != HTTP1_HEAD;
	case HTTP1_BODY:
		*taken = take_body(http1, bytes);
		return http1->state != HTTP1_BODY;
	case HTTP1_SERVICE:
	case HTTP1_STREAM:
		return false;
	case HTTP1_ANSWER:
		if (!http1_send_rest(http1))
			return http1->state == HTTP1_OVER;
		next_request(http1);
		return true;
	case HTTP1_OVER:
		*taken = bytes.len;
		return false;
	}
	UNREACHABLE("every state returns");
}

/* Goes as far as these bytes and the answers allow. Returns bytes taken. */
static size_t http1_advance(struct http1 *http1, struct span bytes)
{
	size_t taken = 0, step = 0;
	bool more;

	http1->is_advancing = true;
	do {
		more = http1_step(http1, span_from(bytes, taken), &step);
		taken += step;
	} while (more);
	http1->is_advancing = false;
	return taken;
}

/* Whether bytes of the peer could be used now. Else answers have to leave first. */
static bool wants_bytes(const struct http1 *http1)
{
	return http1->state == HTTP1_BODY ||
	       (http1->state == HTTP1_HEAD && conn_has_room(&http1->connection->conn));
}

static void http1_pause(struct http1 *http1)
{
	struct conn *conn = &http1->connection->conn;

	if (!conn->receive_paused)
		account_glitch(http1->connection->server->account, GLITCH_AHEAD);
	conn_pause_receive(conn);
}

/* After bytes were taken: what to wait for, and whether to receive. */
static void http1_settle(struct http1 *http1)
{
	struct conn *conn = &http1->connection->conn;
	bool needs_bytes = wants_bytes(http1);

	if (http1->state == HTTP1_OVER)
		return;
	if (needs_bytes && http1->peer_finished && conn_has_room(conn)) {
		http1_finish(http1);
		return;
	}
	if (!conn_has_room(conn) && http1->wait == WAIT_NOTHING && http1->state != HTTP1_SERVICE)
		http1_wait_for(http1, WAIT_SEND);
	else if (http1->state == HTTP1_HEAD && http1->ahead.len == 0 && needs_bytes) {
		buf_clear(&http1->ahead, KEEP_BYTES);
		http1_wait_for(http1, WAIT_IDLE);
	}
	if (http1->ahead.len > PIPELINE_BYTES_ROOM && !needs_bytes)
		http1_pause(http1);
	else
		conn_resume_receive(conn);
}

static void http1_advance_ahead(struct http1 *http1)
{
	size_t taken = http1_advance(http1, buf_span(&http1->ahead));

	/* http1_finish has given them back. */
	if (http1->state != HTTP1_OVER)
		buf_consume(&http1->ahead, taken);
	http1_settle(http1);
}

/* ---- as the connection's face ---- */

/* A head that trickles in is not parsed again for bytes that cannot end it. */
static bool may_complete(const struct http1 *http1, struct span bytes)
{
	return http1->state != HTTP1_HEAD || span_find_byte(bytes, '\n') >= 0 ||
	       http1->ahead.len + bytes.len > config_of(http1)->http_max_header_bytes;
}

static void http1_received(struct connection *connection, struct span bytes)
{
	struct http1 *http1 = connection->http1;
	bool is_behind = http1->ahead.len > 0;
	bool is_useful = may_complete(http1, bytes);
	size_t taken = 0;

	if (http1->state == HTTP1_OVER)
		return;
	/* Bytes that follow others must wait for them; else they are parsed where they lie. */
	if (!is_behind)
		taken = http1_advance(http1, bytes);
	if (http1->state == HTTP1_OVER)
		return;
	if (taken < bytes.len && buf_append(&http1->ahead, span_from(bytes, taken)) != 0) {
		account_glitch(connection->server->account, GLITCH_PIPELINE);
		http1_fail(http1, OUTCOME_PROTOCOL);
		return;
	}
	if (is_behind && is_useful)
		http1_advance_ahead(http1);
	else
		http1_settle(http1);
}

static void http1_peer_finished(struct connection *connection)
{
	struct http1 *http1 = connection->http1;

	/* It may well wait for its answers; what it still owes will not come. But who ends while a
	 * stream is under way has gone: nothing else would tell before the next part. */
	http1->peer_finished = true;
	if (http1->state == HTTP1_STREAM ||
	    (http1->state == HTTP1_SERVICE && http1->request.route->ends_with_peer)) {
		http1_fail(http1, OUTCOME_PEER);
		return;
	}
	/* Requests that wait for room may have got it in this turn. */
	http1_advance_ahead(http1);
}

static void http1_produce(struct connection *connection)
{
	struct http1 *http1 = connection->http1;

	/* Mostly the flush is for an answer that is whole with the transport. */
	if (http1->state == HTTP1_HEAD && http1->ahead.len == 0 && !http1->peer_finished &&
	    http1->wait != WAIT_SEND)
		return;
	if (http1->state == HTTP1_STREAM)
		http1_pull(http1);
	else if (http1->state != HTTP1_OVER && http1->state != HTTP1_SERVICE)
		http1_advance_ahead(http1);
}

/* The body is not due yet, and comes fast enough to go on with. */
static bool http1_body_flows(const struct http1 *http1, uint64_t now_ms)
{
	return now_ms < http1->body_due_ms &&
	       http1->window_bytes >=
		       config_of(http1)->http_min_body_rate * (BODY_WINDOW_MS / 1000);
}

static void http1_wait_on(struct http1 *http1, uint64_t now_ms)
{
	deadline_arm(http1->connection->server->worker, &http1->connection->deadline,
		     http1->due_ms - now_ms);
}

/* The peer has not read its answers, or not sent its request. */
static void http1_give_up(struct http1 *http1, enum http1_wait wait, enum glitch glitch)
{
	struct connection *connection = http1->connection;

	account_glitch(connection->server->account, glitch);
	if (wait == WAIT_SEND || http1->state == HTTP1_ANSWER) {
		http1_fail(http1, OUTCOME_TIMEOUT);
		return;
	}
	connection_set_outcome(connection, OUTCOME_TIMEOUT);
	if (http1->state == HTTP1_HEAD)
		connection_begin_request(connection, &http1->request, &http1_operations);
	http1_refuse_last(http1, ERR_REQUEST_TIMEOUT);
}

static void http1_expired(struct connection *connection)
{
	struct http1 *http1 = connection->http1;
	enum http1_wait wait = http1->wait;
	uint64_t now_ms = connection->server->worker->now_ms;
	enum glitch glitch = wait == WAIT_SEND ? GLITCH_STALL : GLITCH_TIMEOUT;

	if (wait == WAIT_NOTHING || http1->state == HTTP1_OVER)
		return;
	if (now_ms < http1->due_ms) {
		http1_wait_on(http1, now_ms);
		return;
	}
	if (wait == WAIT_BODY && http1_body_flows(http1, now_ms)) {
		http1_begin_window(http1);
		if (!deadline_is_armed(&connection->deadline))
			http1_wait_on(http1, now_ms);
		return;
	}
	if (wait == WAIT_BODY && now_ms < http1->body_due_ms)
		glitch = GLITCH_SLOW;
	http1->wait = WAIT_NOTHING;
	if (wait == WAIT_IDLE)
		http1_finish(http1);
	else
		http1_give_up(http1, wait, glitch);
}

static void http1_drain(struct connection *connection)
{
	struct http1 *http1 = connection->http1;

	if (http1->state == HTTP1_HEAD && http1->ahead.len == 0) {
		connection_hurry(connection);
		http1_finish(http1);
	}
}

static bool http1_owes(const struct connection *connection)
{
	const struct http1 *http1 = connection->http1;

	return http1->state == HTTP1_SERVICE || http1->state == HTTP1_STREAM;
}

static void http1_release(struct connection *connection)
{
	struct http1 *http1 = connection->http1;
	struct request *request = &http1->request;

	if (http1->is_started && !request->ended) {
		request->ended = true;
		request->status = HTTP_CLIENT_GONE;
		account_call(connection->server->account, request, ROUTE_HTTP);
		if (request->route->cancelled)
			request->route->cancelled(request);
	}
	http1_clear_request(http1);
	buf_finish(&http1->ahead);
	free(http1);
}

const struct face face_http1 = {
	.received = http1_received,
	.peer_finished = http1_peer_finished,
	.produce = http1_produce,
	.expired = http1_expired,
	.drain = http1_drain,
	.owes = http1_owes,
	.release = http1_release,
};

int http1_open(struct connection *connection)
{
	struct http1 *http1 = calloc(1, sizeof(*http1));

	if (!http1)
		return -ENOMEM;
	http1->connection = connection;
	http1->wait = WAIT_HEAD; /* armed at the accept */
	http1->due_ms = connection->deadline.timer.due_ms;
	buf_init(&http1->ahead, PIPELINE_BYTES_MAX);
	buf_init(&http1->body, 0);
	connection->http1 = http1;
	return 0;
}
