#include "upstream/http_internal.h"

#include <stdio.h>

#define LABELS_MAX 192 /* a name of UPSTREAM_NAME_MAX, and words of ours */

static const struct metric_family requests_family = {
	.name = "upstream_http_requests_total",
	.help = "Requests to HTTP services behind the gateway, by outcome and class of the "
		"response's "
		"status.",
	.type = METRIC_COUNTER,
};
static const struct metric_family latency_family = {
	.name = "upstream_http_latency_seconds",
	.help = "Time from the start of a request to its end, waiting for a connection included.",
	.type = METRIC_HISTOGRAM,
};
static const struct metric_family in_flight_family = {
	.name = "upstream_http_in_flight",
	.help = "Requests that are waiting for a connection or for their response.",
	.type = METRIC_GAUGE,
};
static const struct metric_family connections_family = {
	.name = "upstream_http_connections",
	.help = "Connections to HTTP services, those being dialled or closed too.",
	.type = METRIC_GAUGE,
};
static const struct metric_family connects_family = {
	.name = "upstream_http_connects_total",
	.help = "Attempts to connect to HTTP services.",
	.type = METRIC_COUNTER,
};
static const struct metric_family reuses_family = {
	.name = "upstream_http_reuses_total",
	.help = "Requests sent over a connection that had carried another.",
	.type = METRIC_COUNTER,
};
static const struct metric_family retries_family = {
	.name = "upstream_http_retries_total",
	.help = "Requests given a second connection because not a byte had left over the first.",
	.type = METRIC_COUNTER,
};

static const char *const outcome_names[HTTP_OUTCOME_COUNT] = {
	[HTTP_ANSWERED] = "answered",	[HTTP_UNAVAILABLE] = "unavailable",
	[HTTP_TIMEOUT] = "timeout",	[HTTP_BUSY] = "busy",
	[HTTP_MALFORMED] = "malformed", [HTTP_CANCELLED] = "cancelled",
};

/* `more`: labels behind the upstream's, with their comma, or "". */
static void add(struct http_pool *pool, const struct metric_family *family, const char *more,
		const void *cell)
{
	char labels[LABELS_MAX];
	int len = snprintf(labels, sizeof(labels), "upstream=\"%s\"%s", pool->options.name, more);

	if (len >= (int)sizeof(labels) ||
	    metric_register(pool->options.metrics, family, labels, cell) != 0)
		LOG(LOG_WARN, "upstream", "a metric finds no room",
		    LOG_TEXT("family", family->name), LOG_TEXT("upstream", pool->options.name));
}

static void add_requests(struct http_pool *pool)
{
	struct http_metrics *metrics = &pool->metrics;
	char more[96];

	for (int class = 2; class < HTTP_STATUS_CLASSES; class ++) {
		snprintf(more, sizeof(more), ",outcome=\"%s\",status=\"%dxx\"",
			 outcome_names[HTTP_ANSWERED], class);
		add(pool, &requests_family, more, &metrics->answered[class]);
	}
	for (int outcome = HTTP_ANSWERED + 1; outcome < HTTP_OUTCOME_COUNT; outcome++) {
		snprintf(more, sizeof(more), ",outcome=\"%s\",status=\"\"", outcome_names[outcome]);
		add(pool, &requests_family, more, &metrics->ended[outcome]);
	}
}

void http_metrics_register(struct http_pool *pool)
{
	struct http_metrics *metrics = &pool->metrics;

	if (!pool->options.metrics)
		return;
	add_requests(pool);
	guard_register(&pool->guard, pool->options.metrics);
	add(pool, &latency_family, "", &metrics->latency);
	add(pool, &in_flight_family, "", &metrics->in_flight);
	add(pool, &connections_family, "", &metrics->connections);
	add(pool, &connects_family, ",outcome=\"connected\"", &metrics->connected);
	add(pool, &connects_family, ",outcome=\"failed\"", &metrics->connect_failed);
	add(pool, &reuses_family, "", &metrics->reuses);
	add(pool, &retries_family, "", &metrics->retries);
	metric_register(pool->options.metrics, &metric_glitches_family, "kind=\"upstream_protocol\"",
			&metrics->protocol_errors);
}

void http_metrics_finish(struct http_pool *pool)
{
	guard_finish(&pool->guard, pool->options.metrics);
	if (pool->options.metrics)
		metric_unregister(pool->options.metrics, &pool->metrics, sizeof(pool->metrics));
}
