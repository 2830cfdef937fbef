/*
 * guard: an upstream's breaker with its clock, its metrics and its log lines. Thread: the worker's.
 */
#ifndef UPSTREAM_GUARD_H
#define UPSTREAM_GUARD_H

#include "base/metric.h"
#include "upstream/breaker.h"
#include "uring/worker.h"

struct guard {
	struct breaker breaker;
	const struct worker *worker;
	const char *name; /* label `upstream`: letters, digits, _ - . */
	struct metric_counter opened, refused;
	struct metric_gauge states[BREAKER_STATES];
};

/* Lifetime of the config and the name: the guard's. */
void guard_init(struct guard *guard, const struct worker *worker,
		const struct config_breaker *config, const char *name);

/* `registry` may be NULL. Cells that find no room are not rendered; guard_finish takes them out. */
void guard_register(struct guard *guard, struct metric_registry *registry);
void guard_finish(struct guard *guard, struct metric_registry *registry);

/* As breaker_admit, breaker_hear and breaker_report: the pass of a call, 0: refused; that its
 * answer has begun; how it ended. */
uint32_t guard_admit(struct guard *guard);
void guard_hear(struct guard *guard, uint32_t pass);
void guard_report(struct guard *guard, uint32_t pass, enum breaker_verdict verdict);

/* As breaker_hope. */
void guard_hope(struct guard *guard);

#endif
