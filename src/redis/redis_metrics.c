#include "redis/client_internal.h"

#include <stdio.h>

#define LABELS_MAX 64 /* the longest role and outcome with their names */

static const struct metric_family commands_family = {
	.name = "gateway_redis_commands_total",
	.help = "Redis commands by what became of them.",
	.type = METRIC_COUNTER,
};
static const struct metric_family latency_family = {
	.name = "gateway_redis_command_latency_seconds",
	.help = "Time from sending a Redis command to its answer; of an event stream it holds the "
		"blocking wait.",
	.type = METRIC_HISTOGRAM,
};
static const struct metric_family connected_family = {
	.name = "gateway_redis_connected",
	.help = "Redis connections that are ready for commands.",
	.type = METRIC_GAUGE,
};
static const struct metric_family reconnects_family = {
	.name = "gateway_redis_reconnects_total",
	.help = "Attempts to connect to Redis after the first.",
	.type = METRIC_COUNTER,
};

static const char *const role_names[REDIS_ROLE_COUNT] = {
	[REDIS_SESSION] = "session",
	[REDIS_REPLAY] = "replay",
	[REDIS_SESSION_EVENTS] = "session_events",
	[REDIS_CLIENT_EVENTS] = "client_events",
};
static const char *const outcome_names[REDIS_OUTCOME_COUNT] = {
	[REDIS_REPLY] = "ok",
	[REDIS_REFUSED] = "error",
	[REDIS_TIMEOUT] = "timeout",
	[REDIS_LOST] = "lost",
};

const char *redis_role_name(enum redis_role role)
{
	return role_names[role];
}

static int register_role(struct redis_metrics *metrics, struct metric_registry *registry,
			 enum redis_role role)
{
	char labels[LABELS_MAX];

	for (size_t i = 0; i < REDIS_OUTCOME_COUNT; i++) {
		snprintf(labels, sizeof(labels), "role=\"%s\",outcome=\"%s\"", role_names[role],
			 outcome_names[i]);

		int error = metric_register(registry, &commands_family, labels,
					    &metrics->commands[role][i]);

		if (error)
			return error;
	}
	snprintf(labels, sizeof(labels), "role=\"%s\"", role_names[role]);
	return metric_register(registry, &latency_family, labels, &metrics->latency[role]);
}

int redis_metrics_register(struct redis_metrics *metrics, struct metric_registry *registry,
			   enum redis_role role)
{
	int error = 0;

	for (size_t i = 0; i < REDIS_ROLE_COUNT && !error; i++)
		error = register_role(metrics, registry, (enum redis_role)i);
	if (error)
		return error;

	char labels[LABELS_MAX];

	snprintf(labels, sizeof(labels), "role=\"%s\"", role_names[role]);
	error = metric_register(registry, &connected_family, labels, &metrics->connected);
	if (!error)
		error = metric_register(registry, &reconnects_family, labels, &metrics->reconnects);
	if (!error)
		error = metric_register(registry, &metric_glitches_family, "kind=\"redis_protocol\"",
					&metrics->protocol_errors);
	if (!error)
		error = metric_register(registry, &metric_glitches_family, "kind=\"redis_silent\"",
					&metrics->stalls);
	return error;
}
