#include "base/check.h"
#include "base/fsm.h"
#include "upstream/http_internal.h"

#include <errno.h>
#include <stdlib.h>

#define QUEUE_BYTES_MAX (HTTP_REQUEST_BYTES_MAX + (64u << 10))
#define LEAVE_MS	1000
#define KEEP_BYTES	1024 /* of the head's memory, while idle */
/* Receive buffers are smaller: what lies behind a head came with it. */
#define BEHIND_HEAD_BYTES_MAX (256u << 10)

static const char *const state_names[HTTP_LINK_STATES] = {
	[HTTP_LINK_NEW] = "new",   [HTTP_LINK_DIALING] = "dialing", [HTTP_LINK_BUSY] = "busy",
	[HTTP_LINK_IDLE] = "idle", [HTTP_LINK_CLOSING] = "closing",
};

static const uint32_t state_moves[HTTP_LINK_STATES] = {
	[HTTP_LINK_NEW] = FSM_TO(HTTP_LINK_DIALING),
	[HTTP_LINK_DIALING] = FSM_TO(HTTP_LINK_BUSY) | FSM_TO(HTTP_LINK_CLOSING),
	[HTTP_LINK_BUSY] = FSM_TO(HTTP_LINK_IDLE) | FSM_TO(HTTP_LINK_CLOSING),
	[HTTP_LINK_IDLE] = FSM_TO(HTTP_LINK_BUSY) | FSM_TO(HTTP_LINK_CLOSING),
};

static const struct fsm link_fsm = {
	.name = "http link",
	.state_count = HTTP_LINK_STATES,
	.state_names = state_names,
	.moves = state_moves,
};

static void link_move(struct http_link *link, enum http_link_state next)
{
	fsm_move(&link_fsm, &link->state, (uint8_t)next);
}

/* ---- the end ---- */

static void link_free(struct http_link *link)
{
	struct http_pool *pool = link->pool;

	list_remove(&link->link);
	buf_finish(&link->received);
	free(link);
	pool->link_count--;
	metric_gauge_set(&pool->metrics.connections, pool->link_count);
	pool_pump_later(pool);
	pool_settle_later(pool);
}

/* Its exchange, if any, hears of it when the connection is closed. */
static void link_close(struct http_link *link)
{
	if (link->state == HTTP_LINK_CLOSING)
		return;
	link_move(link, HTTP_LINK_CLOSING);
	list_remove(&link->idle);
	deadline_disarm(link->pool->worker, &link->deadline);
	conn_close(&link->conn);
}

static struct http_exchange *detach(struct http_link *link)
{
	struct http_exchange *exchange = link->exchange;

	link->exchange = NULL;
	if (exchange)
		exchange->on = NULL;
	return exchange;
}

void link_leave(struct http_link *link)
{
	detach(link);
	link_close(link);
}

static void fail_malformed(struct http_link *link, const char *why)
{
	struct http_pool *pool = link->pool;
	struct http_exchange *exchange = detach(link);

	metric_add(&pool->metrics.protocol_errors, 1);
	pool_log(pool, LOG_WARN, "no usable response", why);
	link_close(link);
	exchange_fail(exchange, HTTP_MALFORMED);
}

/* Of the exchange's request, by the sends that have completed. */
static uint64_t sent_bytes(const struct http_link *link)
{
	return metric_value(&link->counters.sent_bytes) - link->sent_before;
}

/* ---- between two exchanges ---- */

/* The time that a Keep-Alive field promises ("timeout=5, max=100"), less a second for the way, or
 * the usual. RFC 2068 §19.7.1.1, which is where it is written down. */
static uint64_t idle_ms(const struct http1_head *head)
{
	const struct http1_header *field = http1_find_header(head, SPAN("keep-alive"));
	struct span rest = field ? field->value : SPAN_EMPTY;
	struct span name = SPAN("timeout=");
	uint64_t seconds;

	while (rest.len > 0) {
		ptrdiff_t comma = span_find_byte(rest, ',');
		struct span part = span_trim(comma < 0 ? rest : span_first(rest, (size_t)comma));

		rest = comma < 0 ? SPAN_EMPTY : span_from(rest, (size_t)comma + 1);
		if (part.len > name.len && span_equal_nocase(span_first(part, name.len), name) &&
		    span_to_uint64(span_from(part, name.len), &seconds) &&
		    seconds <= HTTP_IDLE_MS / 1000)
			return seconds > 0 ? (seconds - 1) * 1000 : 0;
	}
	return HTTP_IDLE_MS;
}

/* It is open and free: for who waits longest, or idle. */
static void link_offer(struct http_link *link, uint64_t rest_ms)
{
	struct http_pool *pool = link->pool;
	struct http_exchange *exchange = pool_take_waiting(pool, link);

	buf_clear(&link->received, KEEP_BYTES);
	if (rest_ms == 0 && !exchange) {
		link_close(link);
		return;
	}
	link_move(link, HTTP_LINK_IDLE);
	list_push_front(&pool->idle, &link->idle);
	deadline_arm(pool->worker, &link->deadline, rest_ms);
	if (exchange && link_take(link, exchange) != 0)
		exchange_fail(exchange, HTTP_UNAVAILABLE);
}

int link_take(struct http_link *link, struct http_exchange *exchange)
{
	struct http_pool *pool = link->pool;

	link_move(link, HTTP_LINK_BUSY);
	list_remove(&link->idle);
	deadline_disarm(pool->worker, &link->deadline);
	link->sent_before = metric_value(&link->counters.sent_bytes);
	link->has_head = false;
	link->has_received = false;
	link->interim_count = 0;
	if (conn_send(&link->conn, buf_span(&exchange->request)) != 0) {
		link_close(link);
		return -ENOMEM;
	}
	if (link->is_used)
		metric_add(&pool->metrics.reuses, 1);
	link->exchange = exchange;
	exchange->on = link;
	return 0;
}

/* The response is whole; `has_rest`: bytes came behind it that nobody asked for. */
static void link_answered(struct http_link *link, bool has_rest)
{
	struct http_exchange *exchange = link->exchange;
	const struct http_response response = {
		.outcome = HTTP_ANSWERED,
		.head = &link->head,
		.body = buf_span(&exchange->body),
	};
	/* an answer to half a request: the rest would be read as the next one */
	bool is_sent = sent_bytes(link) >= exchange->request.len;
	bool is_reusable = link->head.keep_alive && !has_rest && is_sent;
	uint64_t rest_ms = idle_ms(&link->head);

	detach(link);
	link->is_used = true;
	exchange_end(exchange, &response);
	if (link->state != HTTP_LINK_BUSY)
		return;
	if (is_reusable && conn_is_open(&link->conn) && link->pool->is_running)
		link_offer(link, rest_ms);
	else
		link_close(link);
}

/* ---- the response ---- */

#define TOO_LARGE "the response is larger than the limit"

/* Each takes from the start of `bytes`. Returns bytes taken, or -1 with the reason. */

static ptrdiff_t take_final_head(struct http_link *link, size_t taken, const char **why)
{
	const struct http1_head *head = &link->head;

	if (head->body == HTTP1_BODY_LENGTH &&
	    head->content_length > link->pool->options.body_bytes_max) {
		*why = TOO_LARGE;
		return -1;
	}
	link->has_head = true;
	http1_body_init(&link->reader, head);
	return (ptrdiff_t)taken;
}

static ptrdiff_t take_head(struct http_link *link, struct span bytes, const char **why)
{
	static const struct http1_limits limits = {
		.head_bytes_max = HTTP_HEAD_BYTES_MAX,
		.line_bytes_max = HTTP_HEAD_BYTES_MAX,
	};
	size_t before = link->received.len;

	*why = "out of memory for the response";
	if (buf_append(&link->received, bytes) != 0)
		return -1;
	/* a head that trickles in is not parsed again for bytes that cannot end it */
	if (before > 0 && span_find_byte(bytes, '\n') < 0 &&
	    link->received.len <= HTTP_HEAD_BYTES_MAX)
		return (ptrdiff_t)bytes.len;

	struct span method = link->exchange->is_head ? SPAN("HEAD") : SPAN("POST");
	ptrdiff_t len =
		http1_parse_response(buf_span(&link->received), &limits, method, &link->head);

	*why = "what came is no HTTP/1.1 response";
	if (len <= 0)
		return len < 0 ? -1 : (ptrdiff_t)bytes.len;
	CHECK((size_t)len > before);
	link->received.len = (size_t)len;
	if (link->head.status >= 200)
		return take_final_head(link, (size_t)len - before, why);
	/* nobody asked for another protocol: RFC 9110 §15.2.2 */
	if (link->head.status == 101 || ++link->interim_count > HTTP_INTERIM_MAX)
		return -1;
	buf_clear(&link->received, KEEP_BYTES);
	return len - (ptrdiff_t)before;
}

static ptrdiff_t take_body(struct http_link *link, struct span bytes, const char **why)
{
	struct span content;
	ptrdiff_t taken = http1_body_take(&link->reader, bytes, &content);

	*why = "the response's body is malformed";
	if (taken < 0)
		return -1;

	int code = buf_append(&link->exchange->body, content);

	*why = code == -EMSGSIZE ? TOO_LARGE : "out of memory for the response";
	return code ? -1 : taken;
}

static void on_received(struct conn *conn, struct span bytes)
{
	struct http_link *link = CONTAINER_OF(conn, struct http_link, conn);

	if (link->state == HTTP_LINK_CLOSING)
		return;
	/*
	 * What comes before a byte of the request can have left answers nothing: a word of parting
	 * (408), or an answer too many. The exchange goes over another connection.
	 */
	if (link->state == HTTP_LINK_IDLE || (sent_bytes(link) == 0 && !conn_is_sending(&link->conn))) {
		link_close(link);
		return;
	}
	link->has_received = true;
	while (bytes.len > 0) {
		const char *why;
		ptrdiff_t taken = link->has_head ? take_body(link, bytes, &why)
						 : take_head(link, bytes, &why);

		if (taken < 0) {
			fail_malformed(link, why);
			return;
		}
		bytes = span_from(bytes, (size_t)taken);
		if (link->has_head && link->reader.finished) {
			link_answered(link, bytes.len > 0);
			return;
		}
	}
}

static void on_peer_finished(struct conn *conn)
{
	struct http_link *link = CONTAINER_OF(conn, struct http_link, conn);

	if (link->state == HTTP_LINK_BUSY && link->has_head &&
	    link->reader.kind == HTTP1_BODY_UNTIL_CLOSE)
		link_answered(link, false);
	else
		link_close(link);
}

/* Every send has completed: what has left is known now. */
static void on_closed(struct conn *conn, enum conn_end end, int error)
{
	struct http_link *link = CONTAINER_OF(conn, struct http_link, conn);
	struct http_pool *pool = link->pool;

	(void)end, (void)error;
	link_close(link);

	struct http_exchange *exchange = detach(link);

	if (exchange && link->has_received) {
		metric_add(&pool->metrics.protocol_errors, 1);
		pool_log(pool, LOG_WARN, "no usable response", "it ended in the middle");
		exchange_fail(exchange, HTTP_MALFORMED);
	} else if (exchange && sent_bytes(link) == 0) {
		exchange_retry(exchange);
	} else if (exchange) {
		pool_log(pool, LOG_WARN, "connection lost", "closed before the response");
		exchange_fail(exchange, HTTP_UNAVAILABLE);
	}
	link_free(link);
}

static const struct conn_handler conn_handler = {
	.received = on_received,
	.peer_finished = on_peer_finished,
	.closed = on_closed,
};

static void link_expired(struct deadline *deadline)
{
	link_close(CONTAINER_OF(deadline, struct http_link, deadline));
}

/* ---- the beginning ---- */

static void dialed(struct dial *dial, int error, struct file_ref file, const struct address *peer)
{
	static const struct conn_options options = {
		.queue_bytes_max = QUEUE_BYTES_MAX,
		.queue_bytes_room = QUEUE_BYTES_MAX,
		.linger_ms = LEAVE_MS,
	};
	struct http_link *link = CONTAINER_OF(dial, struct http_link, dial);
	struct http_pool *pool = link->pool;

	(void)peer;
	pool->dialing_count--;
	if (!error)
		error = conn_open(&link->conn, pool->worker, file, &conn_handler, &options);
	if (!error) {
		metric_add(&pool->metrics.connected, 1);
		link->conn.counters = &link->counters;
		link_move(link, HTTP_LINK_BUSY);
		link_offer(link, HTTP_IDLE_MS);
		return;
	}
	metric_add(&pool->metrics.connect_failed, 1);
	pool_log(pool, LOG_WARN, "cannot connect",
		 endpoint_error_text(&pool->options.url->endpoint, error));
	link_free(link);
	/* when time runs out, it is each exchange's own that counts */
	if (error != -ETIMEDOUT)
		pool_dial_failed(pool);
}

bool link_dial(struct http_pool *pool)
{
	struct http_link *link = calloc(1, sizeof(*link));
	uint64_t timeout_ms = pool->options.timeout_ms;

	if (!link)
		return false;
	link->pool = pool;
	list_init(&link->idle);
	list_push_back(&pool->links, &link->link);
	deadline_init(&link->deadline, link_expired);
	buf_init(&link->received, HTTP_HEAD_BYTES_MAX + BEHIND_HEAD_BYTES_MAX);
	link_move(link, HTTP_LINK_DIALING);
	pool->dialing_count++;
	pool->link_count++;
	metric_gauge_set(&pool->metrics.connections, pool->link_count);
	dial_start(&link->dial, pool->worker, pool->options.dns, &pool->options.url->endpoint,
		   timeout_ms < UINT32_MAX ? (uint32_t)timeout_ms : UINT32_MAX, dialed);
	return true;
}

static void dial_ended(struct dial *dial)
{
	struct http_link *link = CONTAINER_OF(dial, struct http_link, dial);

	link->pool->dialing_count--;
	link_free(link);
}

void link_stop(struct http_link *link)
{
	struct http_exchange *exchange = detach(link);

	if (link->state == HTTP_LINK_DIALING) {
		dial_cancel(&link->dial, dial_ended);
		return;
	}
	link_close(link);
	if (exchange)
		exchange_fail(exchange, HTTP_UNAVAILABLE);
}
