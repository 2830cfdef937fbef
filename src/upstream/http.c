#include "base/check.h"
#include "upstream/http_internal.h"

#include <errno.h>
#include <stdlib.h>

#define PORT_DEFAULT 80

/* ---- an exchange's end ---- */

static void stop_waiting(struct http_exchange *exchange)
{
	if (list_is_empty(&exchange->link))
		return;
	list_remove(&exchange->link);
	exchange->pool->waiting_count--;
}

/* Leaves it idle, but for `body`, which is the caller's now. */
static struct buf exchange_clear(struct http_exchange *exchange)
{
	struct http_pool *pool = exchange->pool;
	struct buf body = exchange->body;

	CHECK(exchange->on == NULL);
	stop_waiting(exchange);
	deadline_disarm(pool->worker, &exchange->deadline);
	buf_finish(&exchange->request);
	buf_init(&exchange->body, 0);
	exchange->pool = NULL;
	pool->in_flight_count--;
	metric_gauge_set(&pool->metrics.in_flight, pool->in_flight_count);
	metric_observe_us(&pool->metrics.latency, pool->worker->now_us - exchange->started_us);
	return body;
}

static void count(struct http_pool *pool, const struct http_response *response)
{
	struct http_metrics *metrics = &pool->metrics;

	if (response->outcome == HTTP_ANSWERED)
		metric_add(&metrics->answered[response->head->status / 100], 1);
	else
		metric_add(&metrics->ended[response->outcome], 1);
}

static enum breaker_verdict judge(const struct http_exchange *exchange,
				  const struct http_response *response)
{
	switch (response->outcome) {
	case HTTP_ANSWERED:
		return response->head->status >= 502 && response->head->status <= 504
			       ? BREAKER_FAILED
			       : BREAKER_ANSWERED;
	case HTTP_MALFORMED:
		return BREAKER_ANSWERED;
	case HTTP_UNAVAILABLE:
		return BREAKER_FAILED;
	case HTTP_TIMEOUT:
		return exchange->is_shortened ? BREAKER_UNTOLD : BREAKER_FAILED;
	case HTTP_BUSY:
	case HTTP_CANCELLED:
	case HTTP_OUTCOME_COUNT:
		break;
	}
	return BREAKER_UNTOLD;
}

void exchange_end(struct http_exchange *exchange, const struct http_response *response)
{
	count(exchange->pool, response);
	guard_report(&exchange->pool->guard, exchange->pass, judge(exchange, response));

	struct buf body = exchange_clear(exchange);

	exchange->done(exchange, response);
	buf_finish(&body);
}

void exchange_fail(struct http_exchange *exchange, enum http_outcome outcome)
{
	exchange_end(exchange, &(struct http_response){.outcome = outcome});
}

void exchange_retry(struct http_exchange *exchange)
{
	struct http_pool *pool = exchange->pool;

	if (exchange->was_unsent || !pool->is_running) {
		exchange_fail(exchange, HTTP_UNAVAILABLE);
		return;
	}
	exchange->was_unsent = true;
	metric_add(&pool->metrics.retries, 1);
	list_push_front(&pool->waiting, &exchange->link);
	pool->waiting_count++;
	pool_pump_later(pool);
}

static void exchange_expired(struct deadline *deadline)
{
	struct http_exchange *exchange = CONTAINER_OF(deadline, struct http_exchange, deadline);

	pool_log(exchange->pool, LOG_WARN, "no response in time",
		 exchange->on ? "the service is late" : "no connection became free");
	if (exchange->on)
		link_leave(exchange->on);
	exchange_fail(exchange, HTTP_TIMEOUT);
}

/* ---- exchanges that wait ---- */

struct http_exchange *pool_take_waiting(struct http_pool *pool, const struct http_link *link)
{
	LIST_FOR_EACH (&pool->waiting, node) {
		struct http_exchange *exchange = CONTAINER_OF(node, struct http_exchange, link);

		if (exchange->was_unsent && link->is_used)
			continue;
		stop_waiting(exchange);
		return exchange;
	}
	return NULL;
}

static void fail_oldest(struct http_pool *pool)
{
	exchange_fail(CONTAINER_OF(pool->waiting.next, struct http_exchange, link),
		      HTTP_UNAVAILABLE);
}

void pool_dial_failed(struct http_pool *pool)
{
	if (pool->waiting_count > pool->dialing_count)
		fail_oldest(pool);
	pool_pump_later(pool);
}

/* One that the transport has not lost meanwhile. */
static struct http_link *pick_idle(struct http_pool *pool)
{
	LIST_FOR_EACH (&pool->idle, node) {
		struct http_link *link = CONTAINER_OF(node, struct http_link, idle);

		if (conn_is_open(&link->conn))
			return link;
	}
	return NULL;
}

static bool may_dial(const struct http_pool *pool)
{
	return pool->dialing_count < pool->waiting_count &&
	       pool->link_count < pool->options.connections_max;
}

static void pump(struct task *task)
{
	struct http_pool *pool = CONTAINER_OF(task, struct http_pool, pump);

	/* `done` may start and cancel exchanges: each step looks anew */
	for (;;) {
		struct http_link *link = pick_idle(pool);
		struct http_exchange *exchange = link ? pool_take_waiting(pool, link) : NULL;

		if (!exchange)
			break;
		if (link_take(link, exchange) != 0)
			exchange_fail(exchange, HTTP_UNAVAILABLE);
	}
	while (may_dial(pool)) {
		if (link_dial(pool))
			continue;
		/* without memory: those that are there may yet serve who waits */
		if (pool->link_count > 0)
			break;
		fail_oldest(pool);
	}
}

void pool_pump_later(struct http_pool *pool)
{
	if (!list_is_empty(&pool->waiting))
		worker_flush_later(pool->worker, &pool->pump);
}

/* ---- requests ---- */

static bool is_field_value(struct span value)
{
	return span_find_byte(value, '\r') < 0 && span_find_byte(value, '\n') < 0 &&
	       span_find_byte(value, '\0') < 0;
}

static bool has_content(const struct http_request *request)
{
	struct span method = span_from_cstr(request->method);

	return request->body.len > 0 || span_equal(method, SPAN("POST")) ||
	       span_equal(method, SPAN("PUT")) || span_equal(method, SPAN("PATCH"));
}

/* Returns 0 or buf's code. */
static int write_request(const struct http_pool *pool, const struct http_request *request,
			 struct buf *out)
{
	CHECK(request->path.len > 0 && request->path.data[0] == '/');
	buf_append(out, span_from_cstr(request->method));
	buf_append_byte(out, ' ');
	buf_append(out, span_from_cstr(pool->options.url->path));
	buf_append(out, request->path);
	buf_append(out, SPAN(" HTTP/1.1\r\nhost: "));
	buf_append(out, span_from_cstr(pool->authority));
	buf_append(out, SPAN("\r\n"));
	for (size_t i = 0; i < request->header_count; i++) {
		if (!is_field_value(request->headers[i].value))
			continue;
		buf_append(out, request->headers[i].name);
		buf_append(out, SPAN(": "));
		buf_append(out, request->headers[i].value);
		buf_append(out, SPAN("\r\n"));
	}
	if (has_content(request)) {
		buf_append(out, SPAN("content-length: "));
		buf_append_uint(out, request->body.len);
		buf_append(out, SPAN("\r\n"));
	}
	buf_append(out, SPAN("\r\n"));
	buf_append(out, request->body);
	return out->failed ? -ENOMEM : 0;
}

static int refuse(struct http_pool *pool, enum http_outcome outcome)
{
	metric_add(&pool->metrics.ended[outcome], 1);
	return -(int)outcome;
}

/* Onto a connection, or among those that wait for one. Returns 0 or -ENOMEM. */
static int place(struct http_pool *pool, struct http_exchange *exchange)
{
	struct http_link *idle = pick_idle(pool);

	if (idle)
		return link_take(idle, exchange);
	list_push_back(&pool->waiting, &exchange->link);
	pool->waiting_count++;
	if (may_dial(pool) && !link_dial(pool) && pool->link_count == 0) {
		stop_waiting(exchange);
		return -ENOMEM;
	}
	return 0;
}

int http_exchange_start(struct http_pool *pool, struct http_exchange *exchange, http_done_fn *done,
			const struct http_request *request)
{
	uint64_t timeout_ms = pool->options.timeout_ms;

	CHECK(exchange->pool == NULL);
	*exchange = (struct http_exchange){
		.done = done,
		.pool = pool,
		.started_us = pool->worker->now_us,
		.is_head = strcmp(request->method, "HEAD") == 0,
	};
	list_init(&exchange->link);
	deadline_init(&exchange->deadline, exchange_expired);
	buf_init(&exchange->request, HTTP_REQUEST_BYTES_MAX);
	buf_init(&exchange->body, pool->options.body_bytes_max);
	if (!pool->is_running) {
		exchange->pool = NULL;
		return refuse(pool, HTTP_UNAVAILABLE);
	}
	if (pool->waiting_count >= pool->options.waiting_max) {
		exchange->pool = NULL;
		return refuse(pool, HTTP_BUSY);
	}
	exchange->pass = guard_admit(&pool->guard);
	if (!exchange->pass || write_request(pool, request, &exchange->request) != 0 ||
	    place(pool, exchange) != 0) {
		/* our own memory tells nothing about the service */
		guard_report(&pool->guard, exchange->pass, BREAKER_UNTOLD);
		buf_finish(&exchange->request);
		exchange->pool = NULL;
		return refuse(pool, HTTP_UNAVAILABLE);
	}
	if (request->deadline_ms > 0 && request->deadline_ms < timeout_ms) {
		timeout_ms = request->deadline_ms;
		exchange->is_shortened = true;
	}
	deadline_arm(pool->worker, &exchange->deadline, timeout_ms);
	pool->in_flight_count++;
	metric_gauge_set(&pool->metrics.in_flight, pool->in_flight_count);
	return 0;
}

void http_exchange_cancel(struct http_exchange *exchange)
{
	struct http_pool *pool = exchange->pool;

	if (!pool)
		return;
	if (exchange->on)
		link_leave(exchange->on);
	metric_add(&pool->metrics.ended[HTTP_CANCELLED], 1);
	guard_report(&pool->guard, exchange->pass, BREAKER_UNTOLD);

	struct buf body = exchange_clear(exchange);

	buf_finish(&body);
}

/* ---- life ---- */

void pool_log(const struct http_pool *pool, enum log_level level, const char *message,
	      const char *why)
{
	LOG(level, "upstream", message, LOG_TEXT("upstream", pool->options.name),
	    LOG_TEXT("address", pool->address), LOG_TEXT("reason", why));
}

static void settle(struct task *task)
{
	struct http_pool *pool = CONTAINER_OF(task, struct http_pool, settle);

	if (!pool->is_stopping || pool->link_count > 0)
		return;
	pool->is_stopping = false;
	list_remove(&pool->pump.link);
	if (pool->stopped)
		pool->stopped(pool->stopped_context);
}

void pool_settle_later(struct http_pool *pool)
{
	if (pool->is_stopping)
		worker_sweep_later(pool->worker, &pool->settle);
}

/* The default port goes without saying. RFC 9110 §4.2.3 */
static void set_names(struct http_pool *pool)
{
	const struct endpoint *endpoint = &pool->options.url->endpoint;
	size_t len = endpoint_format(endpoint, pool->address);

	memcpy(pool->authority, pool->address, len + 1);
	if (endpoint->port == PORT_DEFAULT)
		*strrchr(pool->authority, ':') = '\0';
}

int http_pool_create(struct http_pool **pool, struct worker *worker,
		     const struct http_pool_options *options)
{
	CHECK(options->url->set && options->url->endpoint.kind == ENDPOINT_HOST);
	CHECK(options->connections_max > 0 && options->waiting_max > 0 && options->timeout_ms > 0);

	struct http_pool *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->worker = worker;
	made->options = *options;
	list_init(&made->links);
	list_init(&made->idle);
	list_init(&made->waiting);
	task_init(&made->pump, pump);
	task_init(&made->settle, settle);
	set_names(made);
	guard_init(&made->guard, worker, options->breaker, options->name);
	http_metrics_register(made);
	*pool = made;
	return 0;
}

void http_pool_start(struct http_pool *pool)
{
	CHECK(!pool->is_running && !pool->is_stopping);
	pool->is_running = true;
}

void http_pool_stop(struct http_pool *pool, void (*stopped)(void *context), void *context)
{
	pool->stopped = stopped;
	pool->stopped_context = context;
	pool->is_running = false;
	pool->is_stopping = true;
	while (!list_is_empty(&pool->waiting))
		fail_oldest(pool);
	LIST_FOR_EACH (&pool->links, node)
		link_stop(CONTAINER_OF(node, struct http_link, link));
	pool_settle_later(pool);
}

void http_pool_destroy(struct http_pool *pool)
{
	if (!pool)
		return;
	CHECK(!pool->is_running && !pool->is_stopping && pool->link_count == 0 &&
	      pool->in_flight_count == 0);
	CHECK(list_is_empty(&pool->pump.link) && list_is_empty(&pool->settle.link));
	http_metrics_finish(pool);
	free(pool);
}
