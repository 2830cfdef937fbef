#include "upstream/guard.h"

#include "log/log.h"

#include <stdio.h>

#define LABELS_MAX 128 /* a name of UPSTREAM_NAME_MAX bytes and a state */

static const struct metric_family state_family = {
	.name = "upstream_breaker_state",
	.help = "Number of workers whose breaker for this upstream is in this state.",
	.type = METRIC_GAUGE,
};
static const struct metric_family opened_family = {
	.name = "upstream_breaker_opened_total",
	.help = "Times that a worker's breaker opened after too many failures, or after a probe "
		"that "
		"failed.",
	.type = METRIC_COUNTER,
};
static const struct metric_family refused_family = {
	.name = "upstream_breaker_refused_total",
	.help = "Calls refused at once because the breaker was open.",
	.type = METRIC_COUNTER,
};

static void show(struct guard *guard)
{
	for (enum breaker_state i = 0; i < BREAKER_STATES; i++)
		metric_gauge_set(&guard->states[i], guard->breaker.state == i);
}

void guard_init(struct guard *guard, const struct worker *worker,
		const struct config_breaker *config, const char *name)
{
	*guard = (struct guard){.worker = worker, .name = name};
	breaker_init(&guard->breaker, config);
	show(guard);
}

static void add(const struct guard *guard, struct metric_registry *registry,
		const struct metric_family *family, const void *cell)
{
	char labels[LABELS_MAX];

	snprintf(labels, sizeof(labels), "upstream=\"%s\"", guard->name);
	if (metric_register(registry, family, labels, cell) != 0)
		LOG(LOG_WARN, "upstream", "a metric finds no room",
		    LOG_TEXT("family", family->name), LOG_TEXT("upstream", guard->name));
}

static void add_state(const struct guard *guard, struct metric_registry *registry,
		      enum breaker_state state)
{
	char labels[LABELS_MAX];

	snprintf(labels, sizeof(labels), "upstream=\"%s\",state=\"%s\"", guard->name,
		 breaker_state_name(state));
	if (metric_register(registry, &state_family, labels, &guard->states[state]) != 0)
		LOG(LOG_WARN, "upstream", "a metric finds no room",
		    LOG_TEXT("family", state_family.name), LOG_TEXT("upstream", guard->name));
}

void guard_register(struct guard *guard, struct metric_registry *registry)
{
	if (!registry)
		return;
	for (enum breaker_state i = 0; i < BREAKER_STATES; i++)
		add_state(guard, registry, i);
	add(guard, registry, &opened_family, &guard->opened);
	add(guard, registry, &refused_family, &guard->refused);
}

void guard_finish(struct guard *guard, struct metric_registry *registry)
{
	if (registry)
		metric_unregister(registry, guard, sizeof(*guard));
}

uint32_t guard_admit(struct guard *guard)
{
	uint8_t before = guard->breaker.state;
	uint32_t pass = breaker_admit(&guard->breaker, guard->worker->now_ms);

	if (guard->breaker.state != before)
		show(guard);
	if (!pass)
		metric_add(&guard->refused, 1);
	return pass;
}

static void tell_change(struct guard *guard)
{
	show(guard);
	if (guard->breaker.state == BREAKER_OPEN) {
		metric_add(&guard->opened, 1);
		LOG(LOG_WARN, "upstream", "the breaker is open: calls are refused at once",
		    LOG_TEXT("upstream", guard->name));
	} else {
		LOG(LOG_INFO, "upstream", "the breaker is closed again",
		    LOG_TEXT("upstream", guard->name));
	}
}

void guard_hear(struct guard *guard, uint32_t pass)
{
	if (breaker_hear(&guard->breaker, pass, guard->worker->now_ms))
		tell_change(guard);
}

void guard_report(struct guard *guard, uint32_t pass, enum breaker_verdict verdict)
{
	if (breaker_report(&guard->breaker, pass, verdict, guard->worker->now_ms))
		tell_change(guard);
}

void guard_hope(struct guard *guard)
{
	breaker_hope(&guard->breaker);
}
