/*
 * rest_metrics: what one worker's part of the API gateway counts, by name.
 */
#include "rest/rest_internal.h"

#include <stdio.h>

static const struct metric_family refusals_family = {
	"gateway_rest_refusals_total",
	"REST calls refused: unauthenticated (401), forbidden or of a foreign origin (403).",
	METRIC_COUNTER};
static const struct metric_family lookups_family = {
	"gateway_rest_session_lookups_total",
	"Session tokens looked up: known, asked of AuthService, or joined to such a question.",
	METRIC_COUNTER};
static const struct metric_family failures_family = {
	"gateway_rest_session_failures_total",
	"Questions to AuthService that gave no session: refused by it, or unavailable.",
	METRIC_COUNTER};

static const struct metric_family web_calls_family = {
	"gateway_grpc_web_calls_total",
	"Calls over gRPC-Web by gRPC status, whatever service they were for.", METRIC_COUNTER};

static void register_web_calls(struct rest *rest)
{
	char labels[64];

	for (int status = 0; status < GRPC_STATUS_COUNT; status++) {
		snprintf(labels, sizeof(labels), "code=\"%s\"", grpc_status_name(status));
		(void)metric_register(rest->options.metrics, &web_calls_family, labels,
				      &rest->metrics.web_calls[status]);
	}
}

void rest_metrics_register(struct rest *rest)
{
	const struct {
		const struct metric_family *family;
		const char *labels;
		const struct metric_counter *cell;
	} cells[] = {
		{&refusals_family, "reason=\"unauthenticated\"", &rest->metrics.unauthenticated},
		{&refusals_family, "reason=\"forbidden\"", &rest->metrics.forbidden},
		{&refusals_family, "reason=\"foreign_origin\"", &rest->metrics.foreign_origin},
		{&lookups_family, "result=\"hit\"", &rest->identities.metrics.hit},
		{&lookups_family, "result=\"asked\"", &rest->identities.metrics.asked},
		{&lookups_family, "result=\"joined\"", &rest->identities.metrics.joined},
		{&failures_family, "result=\"refused\"", &rest->identities.metrics.refused},
		{&failures_family, "result=\"unavailable\"", &rest->identities.metrics.unavailable},
	};

	for (size_t i = 0; rest->options.metrics && i < ARRAY_LEN(cells); i++)
		(void)metric_register(rest->options.metrics, cells[i].family, cells[i].labels,
				      cells[i].cell);
	if (rest->options.metrics)
		register_web_calls(rest);
}

void rest_metrics_finish(struct rest *rest)
{
	if (rest->options.metrics)
		metric_unregister(rest->options.metrics, rest, sizeof(*rest));
}
