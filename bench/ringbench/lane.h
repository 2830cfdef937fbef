/*
 * lane: a thread of the generator with its own ring, and the run of all lanes through connecting,
 * warm-up, window and end. A work fills in struct lane_ops; it sends while lane_may_send and counts
 * a unit when lane_counts says so.
 */
#ifndef RINGBENCH_LANE_H
#define RINGBENCH_LANE_H

#include "measure.h"
#include "stats.h"

#include "uring/worker.h"

#include <pthread.h>
#include <stdatomic.h>

struct lane;

struct lane_ops { /* thread: the lane's */
	/* Makes what the lane needs and begins to connect; lane_is_ready later. 0 or negative. */
	int (*open)(struct lane *lane);
	/* Everything of this lane may begin: closed loop sends its first requests. */
	void (*begin)(struct lane *lane);
	/* Open loop: slot `slot` of this lane owes a request since now. */
	void (*due)(struct lane *lane, uint32_t slot);
	/* How many requests this slot has sent. */
	uint64_t (*sent)(const struct lane *lane, uint32_t slot);
	/* Closes what is open; the lane turns until no operation is left. */
	void (*close)(struct lane *lane);
	/* Gives back what `open` made, also when it failed. */
	void (*free)(struct lane *lane);
};

struct run;

struct lane {
	struct worker *worker;
	struct run *run;
	const struct options *options;
	uint32_t index;
	uint32_t slot_count; /* requests at a time, set by `open`: what the schedule goes round */
	uint64_t waiting;    /* requests sent and not answered; the work's to keep */
	struct stats stats;
	void *work; /* the work's own */
	/* the lane's own */
	pthread_t thread;
	uint64_t start_us, due_next; /* schedule: request number due_next is next */
	double due_step_us;
	bool is_stopping, has_failed;
	char why[128]; /* the first complaint */
};

struct run {
	const struct options *options;
	const struct lane_ops *ops;
	void *shared; /* the work's, for all lanes */
	struct measure measure;
	struct lane *lanes;
	uint32_t lane_count;
	struct stats total;
	/* the lanes read them each turn; nothing else is handed over with them */
	_Atomic uint32_t ready_count, failed_count;
	_Atomic uint64_t start_us, begin_us, end_us; /* UINT64_MAX: not yet */
};

/*
 * Runs the work in all lanes. Returns 0, or a negative code with a sentence: it did not come to the
 * window. `total` and `measure` then say what happened. run_finish in any case.
 */
int run_start(struct run *run, const struct options *options, const struct lane_ops *ops,
	      void *shared);
void run_finish(struct run *run);

/*
 * The report of what run_start returned `code` for; without a window its figures are 0. Returns the
 * exit code.
 */
int run_report(const struct run *run, int code, struct span more);

/*
 * A ring as the lanes have it, also for what is done before the run; its first turn is still to
 * come. NULL after a sentence.
 */
struct worker *lane_worker_create(uint32_t index);
void lane_worker_destroy(struct worker *worker);

/* Connected, and so on: waits for the others. */
void lane_is_ready(struct lane *lane);

/* The run cannot go on: the window ends at once. The first complaint of a lane is told. */
void lane_fail(struct lane *lane, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As lane_fail, but the run goes on: why something was wrong. */
void lane_complain(struct lane *lane, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* This much of `total` is this lane's; `*first` is what the lanes before it have. */
uint32_t lane_share(const struct lane *lane, uint32_t total, uint32_t *first);

static inline bool lane_may_send(const struct lane *lane)
{
	return !lane->is_stopping;
}

/* Whether an answer that came now is in the window. */
static inline bool lane_counts(const struct lane *lane)
{
	uint64_t now_us = lane->worker->now_us;

	return now_us >= atomic_load_explicit(&lane->run->begin_us, memory_order_relaxed) &&
	       now_us < atomic_load_explicit(&lane->run->end_us, memory_order_relaxed);
}

/* A right answer to what was sent, or was due, at `since_us`. */
static inline void lane_count_unit(struct lane *lane, uint64_t since_us)
{
	if (!lane_counts(lane))
		return;
	lane->stats.units++;
	histogram_record(&lane->stats.latency, lane->worker->now_us - since_us);
}

/* Open loop: when request number `turn` of this slot is due. */
static inline uint64_t lane_due_us(const struct lane *lane, uint32_t slot, uint64_t turn)
{
	return lane->start_us +
	       (uint64_t)((double)(slot + turn * lane->slot_count) * lane->due_step_us);
}

#endif
