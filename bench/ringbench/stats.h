/*
 * stats: what a run counted, its latencies, and the report. A struct stats belongs to one thread;
 * they are added up at the end.
 */
#ifndef RINGBENCH_STATS_H
#define RINGBENCH_STATS_H

#include "base/buf.h"

/* Log-linear: 128 steps an octave, so that a value is off by 0.4 % at most. */
#define HISTOGRAM_STEP_BITS 7
#define HISTOGRAM_STEPS	    (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_BUCKETS   ((32 - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS)

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t count, max; /* the largest as it was */
};

/* Microseconds; more than 2^32 - 1 count as that. */
void histogram_record(struct histogram *histogram, uint64_t value_us);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* 0 < fraction ≤ 1; the middle of the step that holds it, never above the maximum. 0 when empty. */
double histogram_quantile(const struct histogram *histogram, double fraction);

struct stats {
	uint64_t units;	     /* in the window, right ones only */
	uint64_t failed;     /* a status that says no, or a connection that could not be made */
	uint64_t wrong;	     /* an answer that is not the right one */
	uint64_t lost;	     /* never answered, or an event that did not come */
	uint64_t duplicates; /* came twice */
	uint64_t ended;	     /* streams or connections that the server ended */
	uint64_t backlog;    /* open loop: due, and not even sent at the end */
	struct histogram latency; /* of the window's units, and of the backlog until its end */
};

void stats_merge(struct stats *into, const struct stats *from);

/* Whether nothing was failed, wrong, lost or twice. */
bool stats_are_clean(const struct stats *stats);

struct measure;

/*
 * The JSON object on standard output. `more`: further members, `"name":value,…` without an outer
 * comma, or empty. Returns the exit code: 0 only when the stats are clean, 1 else.
 */
int stats_report(const char *work, const struct stats *stats, const struct measure *measure,
		 struct span more);

#endif
