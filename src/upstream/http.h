/*
 * http: requests to one HTTP/1.1 service: a bounded pool of keep-alive connections per worker,
 * dialled when they are needed. Thread: the worker's. Source: edge.md §5; RFC 9110, RFC 9112.
 *
 * One request at a time goes over a connection. Connections that are free are reused, the last used
 * first; one that the service has finished, or that was idle for HTTP_IDLE_MS (or for less, as its
 * Keep-Alive field says), is closed. Names are looked up anew at each dial.
 *
 * A request is sent a second time only if not one of its bytes had left this process when its
 * connection ended. Whatever left may have been acted upon, and what goes through here is POST:
 * RFC 9110 §9.2.2 forbids a proxy to repeat that. So a request that meets the service's FIN on the
 * wire ends as HTTP_UNAVAILABLE; HTTP_IDLE_MS is short to make that rare.
 *
 * While the breaker (upstream/breaker.h) is open, requests are HTTP_UNAVAILABLE at once. Failures
 * are HTTP_UNAVAILABLE, HTTP_TIMEOUT of the pool's own timeout, and the statuses 502, 503 and 504.
 */
#ifndef UPSTREAM_HTTP_H
#define UPSTREAM_HTTP_H

#include "codec/http1.h"
#include "config/config.h"
#include "net/dial.h"

struct http_pool;
struct http_exchange;
struct http_link;

/* Below the 5 s after which common servers close an idle connection without having said so. */
#define HTTP_IDLE_MS 4000

#define HTTP_HEAD_BYTES_MAX    (16u << 10) /* of a response */
#define HTTP_INTERIM_MAX       8	   /* 1xx responses to one request, all passed over */
#define HTTP_REQUEST_BYTES_MAX (1u << 20)  /* head and body */

enum http_outcome {
	HTTP_ANSWERED,	  /* head and body are the response, whatever its status */
	HTTP_UNAVAILABLE, /* refused, reset, no such name, the pool stops */
	HTTP_TIMEOUT,	  /* no whole response in time */
	HTTP_BUSY,	  /* too many wait: refused at once */
	HTTP_MALFORMED,	  /* no HTTP/1.1 response, a part of one, or over a bound */
	HTTP_CANCELLED,	  /* for the metrics: never told */
	HTTP_OUTCOME_COUNT
};

struct http_response {
	enum http_outcome outcome;
	const struct http1_head *head; /* HTTP_ANSWERED, else NULL. Lent */
	struct span body;	       /* Lent */
};

/* Never called inside http_exchange_start. The exchange is idle again: it may be started or freed
 * inside. */
typedef void http_done_fn(struct http_exchange *exchange, const struct http_response *response);

/* A request and its response; embedded in who waits. Zeroed memory is an idle one. */
struct http_exchange {
	http_done_fn *done;
	struct http_pool *pool; /* NULL: idle */
	struct http_link *on;	/* NULL: waits for a connection */
	struct list link;	/* in pool->waiting while it does */
	struct deadline deadline;
	uint64_t started_us;
	struct buf request, body;
	uint32_t pass;	   /* the breaker's */
	bool is_shortened; /* its own deadline is below the pool's */
	bool is_head;	   /* the response has no body */
	bool was_unsent;   /* its connection ended before it left: once more, on a new one */
};

struct http_request {
	const char *method;		    /* "POST" */
	struct span path;		    /* begins with '/'; goes behind the base URL's */
	const struct http1_header *headers; /* besides host, content-length; one with a line break
					       or NUL in its value is left out */
	size_t header_count;
	struct span body;
	uint64_t deadline_ms; /* from now; 0: only options.timeout_ms, which applies as well */
};

struct http_pool_options {
	const char *name;	      /* label `upstream`: letters, digits, _ - . */
	const struct config_url *url; /* set; immutable; the pool's lifetime */
	uint64_t timeout_ms;	  /* from the start of an exchange to the response's last byte */
	uint32_t connections_max; /* dialled, busy, idle and closing ones */
	uint32_t waiting_max;	  /* exchanges that have no connection yet */
	uint32_t body_bytes_max;  /* of a response */
	const struct config_breaker *breaker; /* immutable; the pool's lifetime */
	struct dns *dns;
	struct metric_registry *metrics; /* may be NULL */
};

/* Returns 0 or -ENOMEM. */
int http_pool_create(struct http_pool **pool, struct worker *worker,
		     const struct http_pool_options *options);

/* From now on exchanges may be started. Dials nothing yet. */
void http_pool_start(struct http_pool *pool);

/*
 * Lifetime of the request: the call. Returns 0 (`done` follows once), or the outcome that it would
 * have been as a negative number: -HTTP_UNAVAILABLE, -HTTP_BUSY; nothing was sent then.
 */
int http_exchange_start(struct http_pool *pool, struct http_exchange *exchange, http_done_fn *done,
			const struct http_request *request);

/* `done` will not be called; the connection is closed, so that the service hears of it. Safe on an
 * idle exchange. */
void http_exchange_cancel(struct http_exchange *exchange);

/* Ends what is in flight (HTTP_UNAVAILABLE), closes, then calls `stopped`, never inside;
 * http_pool_destroy may follow. */
void http_pool_stop(struct http_pool *pool, void (*stopped)(void *context), void *context);

/* After `stopped`, or before the start. NULL is allowed. */
void http_pool_destroy(struct http_pool *pool);

#endif
