/*
 * http_internal: what the files of the HTTP client pool share. Nobody else includes it. Thread: the
 * worker's.
 *
 *   pool ─┬─ links: DIALING ─► BUSY ◄─► IDLE          any ─► CLOSING ─► freed
 *         └─ waiting: exchanges that have no link yet
 */
#ifndef UPSTREAM_HTTP_INTERNAL_H
#define UPSTREAM_HTTP_INTERNAL_H

#include "log/log.h"
#include "net/conn.h"
#include "upstream/guard.h"
#include "upstream/http.h"

/* ---- metrics (http_metrics.c) ---- */

#define HTTP_STATUS_CLASSES 6 /* by the first digit; 0 and 1 are none that ends an exchange */

struct http_metrics {
	struct metric_counter answered[HTTP_STATUS_CLASSES];
	struct metric_counter ended[HTTP_OUTCOME_COUNT]; /* HTTP_ANSWERED is never counted here */
	struct metric_counter connected, connect_failed;
	struct metric_counter reuses, retries, protocol_errors;
	struct metric_gauge in_flight, connections;
	struct metric_histogram latency;
};

/* Cells that find no room in the registry are not rendered. */
void http_metrics_register(struct http_pool *pool);
void http_metrics_finish(struct http_pool *pool);

/* ---- the pool (http.c) ---- */

struct http_pool {
	struct worker *worker;
	struct http_pool_options options;
	char authority[ENDPOINT_TEXT_MAX]; /* value of Host */
	char address[ENDPOINT_TEXT_MAX];   /* for the log */
	struct list links;
	struct list idle; /* links, the last used first */
	struct list waiting;
	uint32_t link_count, dialing_count, waiting_count, in_flight_count;
	struct task pump, settle;
	bool is_running, is_stopping;
	void (*stopped)(void *context);
	void *stopped_context;
	struct http_metrics metrics;
	struct guard guard;
};

/* Ends the exchange: counts it, tells `done`. It is off its link. */
void exchange_end(struct http_exchange *exchange, const struct http_response *response);
void exchange_fail(struct http_exchange *exchange, enum http_outcome outcome);

/* Nothing of it has left and its link is gone: waits for a new one, or fails if that was the
 * second. */
void exchange_retry(struct http_exchange *exchange);

/* Takes the exchange that waits longest and may go over this link. Returns NULL when there is none.
 */
struct http_exchange *pool_take_waiting(struct http_pool *pool, const struct http_link *link);

/* No connection could be made: who waits longest is told, unless others are being dialled for all.
 */
void pool_dial_failed(struct http_pool *pool);

/* Something changed that waiting exchanges may profit from: looked at in this turn. */
void pool_pump_later(struct http_pool *pool);

/* Something ended: is the pool stopped now? */
void pool_settle_later(struct http_pool *pool);

void pool_log(const struct http_pool *pool, enum log_level level, const char *message,
	      const char *why);

/* ---- a connection (http_link.c) ---- */

enum http_link_state {
	HTTP_LINK_NEW,
	HTTP_LINK_DIALING,
	HTTP_LINK_BUSY, /* with an exchange, or about to be given one or to be idle */
	HTTP_LINK_IDLE,
	HTTP_LINK_CLOSING,
	HTTP_LINK_STATES
};

struct http_link {
	struct http_pool *pool;
	struct list link; /* in pool->links */
	struct list idle; /* in pool->idle */
	struct dial dial;
	struct conn conn;
	struct conn_counters counters; /* what has left */
	struct deadline deadline;      /* IDLE: until it is closed */
	struct http_exchange *exchange;
	struct buf received; /* the response's head */
	struct http1_head head;
	struct http1_body_reader reader;
	uint64_t sent_before; /* counters.sent_bytes when the exchange came */
	uint32_t interim_count;
	uint8_t state; /* enum http_link_state */
	bool has_head;
	bool has_received; /* something of the response */
	bool is_used;	   /* has had an exchange before this one */
};

/* Begins to dial. Returns false without memory. */
bool link_dial(struct http_pool *pool);

/* Sends the exchange over this link, which is idle. Returns 0 or -ENOMEM: the link is closing, the
 * exchange as it was. */
int link_take(struct http_link *link, struct http_exchange *exchange);

/* Its exchange is over before its end: the connection is of no more use. */
void link_leave(struct http_link *link);

/* At the end: whatever it does. */
void link_stop(struct http_link *link);

#endif
