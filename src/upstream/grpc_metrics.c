#include "log/log.h"
#include "upstream/grpc_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define LABELS_MAX                                                                                 \
	1024 /* two texts of a few hundred bytes, escaped; a longer one is not rendered */

static const struct metric_family calls_family = {
	.name = "upstream_grpc_calls_total",
	.help = "Calls to services behind the gateway by gRPC status; health checks are not among "
		"them.",
	.type = METRIC_COUNTER,
};
static const struct metric_family errors_family = {
	.name = "upstream_grpc_errors_total",
	.help = "Calls to services behind the gateway that did not end with OK, health checks too.",
	.type = METRIC_COUNTER,
};
static const struct metric_family latency_family = {
	.name = "upstream_grpc_latency_seconds",
	.help = "Time from the start of a call to its answer, of a stream to its first message; "
		"waiting for a connection included; health checks too.",
	.type = METRIC_HISTOGRAM,
};
static const struct metric_family healthy_family = {
	.name = "upstream_healthy",
	.help = "Number of workers that have a connection to this address and find it healthy.",
	.type = METRIC_GAUGE,
};
static const struct metric_family in_flight_family = {
	.name = "upstream_grpc_in_flight",
	.help = "Calls that are waiting for a connection or for their answer.",
	.type = METRIC_GAUGE,
};
static const struct metric_family retries_family = {
	.name = "upstream_grpc_retries_total",
	.help = "Calls sent once more because the service had certainly not seen them.",
	.type = METRIC_COUNTER,
};
static const struct metric_family reconnects_family = {
	.name = "upstream_grpc_reconnects_total",
	.help = "Attempts to connect after the first of each connection.",
	.type = METRIC_COUNTER,
};

/* Returns whether all of it went in. Source: the text format's label values. */
static bool escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			buf_append_byte(out, '\\');
		buf_append_byte(out, *text == '\n' ? ' ' : (uint8_t)*text);
	}
	return !out->failed;
}

struct label {
	const char *name, *value;
};

/* Labels end at the first without a name. */
static void add(struct upstream *upstream, const struct metric_family *family,
		const struct label *labels, const void *cell)
{
	struct buf text;

	buf_init(&text, LABELS_MAX);
	for (const struct label *label = labels; label->name; label++) {
		buf_printf(&text, "%s%s=\"", label == labels ? "" : ",", label->name);
		escape(&text, label->value);
		buf_append_byte(&text, '"');
	}
	buf_append_byte(&text, '\0');
	if (text.failed ||
	    metric_register(upstream->options.metrics, family, (const char *)text.data, cell) != 0)
		LOG(LOG_WARN, "upstream", "a metric finds no room",
		    LOG_TEXT("family", family->name), LOG_TEXT("upstream", upstream->config->name));
	buf_finish(&text);
}

#define LABELS(...) ((const struct label[]){__VA_ARGS__, {0}})

void upstream_metrics_register(struct upstream *upstream)
{
	struct upstream_metrics *metrics = &upstream->metrics;
	const struct label name = {"upstream", upstream->config->name};

	if (!upstream->options.metrics)
		return;
	for (int i = 0; i < GRPC_STATUS_COUNT; i++)
		add(upstream, &calls_family, LABELS(name, {"code", grpc_status_name(i)}),
		    &metrics->calls[i]);
	guard_register(&upstream->guard, upstream->options.metrics);
	add(upstream, &in_flight_family, LABELS(name), &metrics->in_flight);
	add(upstream, &retries_family, LABELS(name), &metrics->retries);
	add(upstream, &reconnects_family, LABELS(name), &metrics->reconnects);
	add(upstream, &metric_glitches_family, LABELS({"kind", "upstream_protocol"}),
	    &metrics->protocol_errors);
	add(upstream, &metric_glitches_family, LABELS({"kind", "upstream_silent"}), &metrics->silent);
	for (size_t i = 0; i < upstream->backend_count; i++)
		add(upstream, &healthy_family,
		    LABELS(name, {"address", upstream->backends[i].text}),
		    &upstream->backends[i].healthy);
}

void upstream_metrics_finish(struct upstream *upstream)
{
	struct metric_registry *registry = upstream->options.metrics;
	struct upstream_metrics *metrics = &upstream->metrics;

	for (size_t i = 0; i < metrics->rpc_count; i++) {
		if (registry)
			metric_unregister(registry, metrics->rpcs[i], sizeof(*metrics->rpcs[i]));
		free(metrics->rpcs[i]);
	}
	if (!registry)
		return;
	guard_finish(&upstream->guard, registry);
	metric_unregister(registry, metrics, sizeof(*metrics));
	metric_unregister(registry, upstream->backends,
			  upstream->backend_count * sizeof(*upstream->backends));
}

struct rpc_metrics *upstream_metrics_rpc(struct upstream *upstream, struct span path)
{
	struct upstream_metrics *metrics = &upstream->metrics;

	for (size_t i = 0; i < metrics->rpc_count; i++)
		if (span_equal(span_make(metrics->rpcs[i]->path, metrics->rpcs[i]->path_len), path))
			return metrics->rpcs[i];
	if (metrics->rpc_count == RPCS_MAX)
		return NULL;

	struct rpc_metrics *rpc = calloc(1, sizeof(*rpc) + path.len + 1);

	if (!rpc)
		return NULL;
	rpc->path_len = path.len;
	memcpy(rpc->path, path.data, path.len);
	metrics->rpcs[metrics->rpc_count++] = rpc;
	if (!upstream->options.metrics)
		return rpc;

	const struct label name = {"upstream", upstream->config->name};
	const struct label method = {"rpc", rpc->path[0] == '/' ? rpc->path + 1 : rpc->path};

	add(upstream, &latency_family, LABELS(name, method), &rpc->latency);
	for (int i = GRPC_OK + 1; i < GRPC_STATUS_COUNT; i++)
		add(upstream, &errors_family, LABELS(name, method, {"code", grpc_status_name(i)}),
		    &rpc->errors[i]);
	return rpc;
}
