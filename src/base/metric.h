/*
 * metric: counters, gauges and histograms that one thread writes and any thread reads.
 *
 * The owner embeds cells (struct metric_counter …) and registers them once; a scrape sums the cells
 * of equal family and labels over all threads. Writing is a relaxed load and store: one writer per
 * cell.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include "base/buf.h"
#include "base/list.h"

#include <stdatomic.h>

struct metric_counter {
	_Atomic uint64_t value;
};

struct metric_gauge {
	_Atomic int64_t value;
};

#define METRIC_BUCKETS 20

/* Seconds, at fixed bounds 50 µs × 2^n; the last one is +Inf. */
struct metric_histogram {
	_Atomic uint64_t buckets[METRIC_BUCKETS]; /* not cumulative; made so at the scrape */
	_Atomic uint64_t sum_us;
};

/* Thread: the cell's writer. */
static inline void metric_add(struct metric_counter *counter, uint64_t amount)
{
	atomic_store_explicit(&counter->value,
			      atomic_load_explicit(&counter->value, memory_order_relaxed) + amount,
			      memory_order_relaxed);
}

static inline uint64_t metric_value(const struct metric_counter *counter)
{
	return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

static inline void metric_gauge_add(struct metric_gauge *gauge, int64_t amount)
{
	atomic_store_explicit(&gauge->value,
			      atomic_load_explicit(&gauge->value, memory_order_relaxed) + amount,
			      memory_order_relaxed);
}

static inline void metric_gauge_set(struct metric_gauge *gauge, int64_t value)
{
	atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

static inline int64_t metric_gauge_value(const struct metric_gauge *gauge)
{
	return atomic_load_explicit(&gauge->value, memory_order_relaxed);
}

void metric_observe_us(struct metric_histogram *histogram, uint64_t us);

/* METRIC_GAUGE_MS: a gauge that holds milliseconds and is shown in seconds. */
enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_GAUGE_MS, METRIC_HISTOGRAM };

/* Static storage: lives as long as the process. */
struct metric_family {
	const char *name; /* "gateway_redis_commands_total" */
	const char *help; /* one sentence, no newline */
	enum metric_type type;
};

/* gateway_glitches_total{kind}: every room counts its peers' faults in it (DESIGN §5). */
extern const struct metric_family metric_glitches_family;

/* Families times label sets, all workers together; more means that a label holds what a peer chose. */
#define METRIC_SERIES_MAX 16384

struct metric_registry; /* its own lock; never taken on a request's way */

struct metric_registry *metric_registry_create(void);
void metric_registry_destroy(struct metric_registry *registry);

/*
 * Registers one cell: a metric_counter, metric_gauge or metric_histogram by the family's type.
 * `labels` is the text between the braces, already escaped ("role=\"session\""), or "". Copied.
 * Lifetime: the cell until metric_unregister or the registry's end. Thread: any.
 * Returns 0 or -ENOMEM (out of memory, or METRIC_SERIES_MAX reached): the cell is then not rendered.
 * At the bound a series whose cells have all left (an upstream that a reload dropped) makes room.
 */
int metric_register(struct metric_registry *registry, const struct metric_family *family,
		    const char *labels, const void *cell);

/*
 * Cells between `first` and `first + bytes` leave; what counters and histograms counted is kept in
 * the sum, a gauge's value goes. Thread: any; the cells' writer has stopped.
 */
void metric_unregister(struct metric_registry *registry, const void *first, size_t bytes);

enum metric_format {
	METRIC_PROMETHEUS,  /* text format 0.0.4 */
	METRIC_OPENMETRICS, /* OpenMetrics 1.0, without the "# EOF" at its end: more may follow */
};

/* Families by name, labels in order of registration. Thread: any. */
void metric_render_as(struct metric_registry *registry, enum metric_format format, struct buf *out);

/* As METRIC_PROMETHEUS. */
void metric_render(struct metric_registry *registry, struct buf *out);

/* "# HELP" and "# TYPE" of a family, whose samples follow. */
void metric_render_head(const struct metric_family *family, enum metric_format format, struct buf *out);

#endif
