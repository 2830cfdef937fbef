#include "uring/worker.h"

#include "uring/worker_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* What the kernel runs of deferred work in one enter at most; a pass that brought less left nothing
 * behind. */
#define KERNEL_PASS 20

/* ── time ── */

static uint64_t system_monotonic_us(void *context)
{
	struct timespec now;

	(void)context;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int64_t system_wall_ms(void *context)
{
	struct timespec now;

	(void)context;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

const struct worker_clock worker_clock_system = {
	.monotonic_us = system_monotonic_us,
	.wall_ms = system_wall_ms,
};

uint64_t worker_clock_us(const struct worker *worker)
{
	return worker->clock.monotonic_us(worker->clock.context);
}

static void clock_read(struct worker *worker)
{
	worker->now_us = worker_clock_us(worker);
	worker->now_ms = worker->now_us / 1000;
	worker->wall_ms = worker->clock.wall_ms(worker->clock.context);
}

/* ── metrics ── */

static const struct metric_family family_submissions = {
	"gateway_ring_submissions_total", "Operations given to the ring.", METRIC_COUNTER};
static const struct metric_family family_completions = {
	"gateway_ring_completions_total", "Completions taken from the ring.", METRIC_COUNTER};
static const struct metric_family family_cq_overflows = {
	"gateway_ring_cq_overflows_total",
	"Times the completion queue was found full and the kernel kept the rest.", METRIC_COUNTER};
static const struct metric_family family_starvations = {"gateway_ring_buffer_starvations_total",
							"Receives that found no provided buffer.",
							METRIC_COUNTER};
static const struct metric_family family_late = {"gateway_ring_late_completions_total",
						 "Completions whose operation was no longer there.",
						 METRIC_COUNTER};
static const struct metric_family family_in_flight = {"gateway_ring_operations_in_flight",
						      "Operations armed now.", METRIC_GAUGE};
static const struct metric_family family_wakes_sent = {"gateway_worker_wakes_sent_total",
						       "Wake-ups sent to other threads' rings.",
						       METRIC_COUNTER};
static const struct metric_family family_wakes_failed = {
	"gateway_worker_wakes_failed_total", "Wake-ups that the kernel refused; sent again.",
	METRIC_COUNTER};
static const struct metric_family family_letters = {
	"gateway_worker_letters_total", "Letters taken from the mailbox.", METRIC_COUNTER};
static const struct metric_family family_loop = {
	"gateway_worker_loop_seconds", "Duration of one turn of the loop without its wait.",
	METRIC_HISTOGRAM};

static int metrics_register(struct worker *worker)
{
	struct worker_metrics *metrics = &worker->metrics;
	const struct {
		const struct metric_family *family;
		const void *cell;
	} rows[] = {
		{&family_submissions, &metrics->submissions},
		{&family_completions, &metrics->completions},
		{&family_cq_overflows, &metrics->cq_overflows},
		{&family_starvations, &metrics->buffer_starvations},
		{&family_late, &metrics->late_completions},
		{&family_in_flight, &metrics->ops_in_flight},
		{&family_wakes_sent, &metrics->wakes_sent},
		{&family_wakes_failed, &metrics->wakes_failed},
		{&family_letters, &metrics->letters},
		{&family_loop, &metrics->loop_seconds},
	};
	char labels[64];

	if (!worker->registry)
		return 0;
	snprintf(labels, sizeof(labels), "worker=\"%s\"", worker->name);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (metric_register(worker->registry, rows[i].family, labels, rows[i].cell) < 0) {
			metric_unregister(worker->registry, metrics, sizeof(*metrics));
			return -ENOMEM;
		}
	}
	return 0;
}

static void metrics_update(struct worker *worker, uint64_t end_us)
{
	struct ring_counts now = ring_get_counts(worker->ring);
	struct worker_metrics *metrics = &worker->metrics;

	metric_add(&metrics->submissions, now.submissions - worker->counted.submissions);
	metric_add(&metrics->completions, now.completions - worker->counted.completions);
	metric_add(&metrics->cq_overflows, now.cq_overflows - worker->counted.cq_overflows);
	worker->counted = now;
	metric_gauge_set(&metrics->ops_in_flight, worker->slots.used_count);
	metric_observe_us(&metrics->loop_seconds, end_us - worker->now_us);
}

/* ── life ── */

int worker_init(struct worker *worker, const struct worker_options *options, char *why,
		size_t why_size)
{
	CHECK(options->index < WORKERS_MAX);
	*worker = (struct worker){
		.name = options->name,
		.index = options->index,
		.clock = options->clock,
		.registry = options->metrics,
	};
	slots_init(&worker->slots);
	mpsc_init(&worker->mailbox);
	atomic_init(&worker->asleep_hint, false);
	list_init(&worker->fine_deadlines);
	list_init(&worker->flush_tasks);
	list_init(&worker->sweep_tasks);
	list_init(&worker->starved);
	clock_read(worker);
	wheel_init(&worker->wheel, worker->now_ms);
	worker->starved_batch = options->ring.buffer_count < WORKER_STARVED_MAX
					? options->ring.buffer_count
					: WORKER_STARVED_MAX;

	int code = ring_create(&worker->ring, &options->ring, why, why_size);

	if (code < 0)
		return code;
	worker->unclosed = calloc(options->ring.file_slots / 64 + 1, sizeof(*worker->unclosed));
	code = worker->unclosed ? metrics_register(worker) : -ENOMEM;
	if (code < 0) {
		snprintf(why, why_size, "not enough memory for %s", worker->name);
		free(worker->unclosed);
		ring_destroy(worker->ring);
		worker->ring = NULL;
	}
	return code;
}

void worker_finish(struct worker *worker)
{
	CHECK(worker->slots.used_count == 0);
	free(worker->unclosed);
	if (worker->registry)
		metric_unregister(worker->registry, &worker->metrics, sizeof(worker->metrics));
	ring_destroy(worker->ring);
	worker->ring = NULL;
	slots_finish(&worker->slots);
}

void worker_stop(struct worker *worker)
{
	worker->stop_requested = true;
}

uint32_t worker_ops_in_flight(const struct worker *worker)
{
	return worker->slots.used_count + worker->discards;
}

/* ── steps ── */

void worker_flush_later(struct worker *worker, struct task *task)
{
	if (list_is_empty(&task->link))
		list_push_back(&worker->flush_tasks, &task->link);
}

void worker_sweep_later(struct worker *worker, struct task *task)
{
	if (list_is_empty(&task->link))
		list_push_back(&worker->sweep_tasks, &task->link);
}

void worker_starve(struct worker *worker, struct worker_starved *starved)
{
	if (list_is_empty(&starved->link))
		list_push_back(&worker->starved, &starved->link);
}

static uint64_t turn_submissions(const struct worker *worker)
{
	return ring_get_counts(worker->ring).submissions - worker->counted.submissions;
}

/* Whether the `ran` flushes of this turn have queued enough. */
static bool is_turn_full(const struct worker *worker, unsigned ran)
{
	return ran >= WORKER_FLUSHES_MIN && turn_submissions(worker) >= WORKER_SUBMISSIONS_MAX;
}

/* Runs what was scheduled before, at most a batch; what a task schedules comes after it, next turn.
 */
static void tasks_run(struct worker *worker, struct list *tasks)
{
	bool is_flush = tasks == &worker->flush_tasks;
	struct list now;
	struct list *link;

	list_init(&now);
	list_splice_back(&now, tasks);
	for (unsigned i = 0; i < WORKER_BATCH && !(is_flush && is_turn_full(worker, i)) &&
			     (link = list_pop_front(&now)) != NULL;
	     i++) {
		struct task *task = CONTAINER_OF(link, struct task, link);

		task->run(task);
	}
	list_splice_back(&now, tasks);
	list_splice_back(tasks, &now);
}

/*
 * Every buffer whose completion was seen is back in the ring by now, so a receive armed again finds
 * one, or completions that bring them back are already waiting: no timer is needed. Those that
 * starve again go to the end of the list.
 */
static void starved_retry(struct worker *worker)
{
	struct list *link;

	for (uint32_t i = 0; i < worker->starved_batch; i++) {
		link = list_pop_front(&worker->starved);
		if (!link)
			return;
		struct worker_starved *starved = CONTAINER_OF(link, struct worker_starved, link);

		starved->retry(starved);
	}
}

/* Runs what is there, up to the next look at the clock. Returns how many; `is_cut`: at the look. */
static uint32_t completions_run_some(struct worker *worker, bool *is_cut)
{
	struct ring_completion completion;
	uint32_t count = 0, bytes = 0;

	while (count < WORKER_REAP_MAX && bytes < WORKER_REAP_BYTES &&
	       ring_reap(worker->ring, &completion, 1) == 1) {
		if (completion.buffer_id >= 0 && completion.result > 0)
			bytes += (uint32_t)completion.result;
		op_complete(worker, &completion);
		count++;
	}
	*is_cut = count == WORKER_REAP_MAX || bytes >= WORKER_REAP_BYTES;
	return count;
}

/*
 * Runs some, and asks the kernel for more until a pass brings less than it may, or the turn has had
 * its time: the rest is there for the next, which does not wait then.
 */
static int completions_run(struct worker *worker)
{
	uint32_t since_enter = 0;

	for (uint32_t total = 0; total < WORKER_TURN_MAX;) {
		bool is_cut;
		uint32_t count = completions_run_some(worker, &is_cut);

		total += count;
		since_enter += count;
		if (is_cut && worker_clock_us(worker) - worker->now_us >= WORKER_TURN_US)
			break;
		if (is_cut && since_enter < WORKER_BATCH)
			continue;
		if (since_enter < KERNEL_PASS)
			break;
		since_enter = 0;

		int code = ring_enter(worker->ring, 0);

		if (code < 0)
			return code;
	}
	return 0;
}

static bool has_work(struct worker *worker)
{
	return !list_is_empty(&worker->flush_tasks) || !list_is_empty(&worker->sweep_tasks) ||
	       !mpsc_is_empty(&worker->mailbox);
}

/* A wake-up taken on must be seen through (mailbox.c), also by a worker that stops. */
static bool has_wakes(const struct worker *worker)
{
	return worker->wakes_in_air || worker->wake_retry_us != 0;
}

static bool is_done(struct worker *worker)
{
	return worker->stop_requested && worker_ops_in_flight(worker) == 0 && !has_work(worker) &&
	       !has_wakes(worker);
}

/* How long the turn may wait: until the next deadline or wake-up to repeat, not at all with work
 * left. */
static uint64_t wait_limit(struct worker *worker, uint64_t wait_us, uint64_t now_us)
{
	uint64_t next_ms = wheel_next_ms(&worker->wheel);
	uint64_t until_us = next_ms < UINT64_MAX / 1000 ? next_ms * 1000 : UINT64_MAX;
	uint64_t fine_us = fine_deadlines_next_us(worker);

	if (has_work(worker) || !list_is_empty(&worker->starved) || worker->unclosed_count > 0 ||
	    is_done(worker))
		return 0;
	if (worker->stop_requested && worker->wakes_in_air)
		return 0;
	if (fine_us < until_us)
		until_us = fine_us;
	if (worker->wake_retry_us && worker->wake_retry_us < until_us)
		until_us = worker->wake_retry_us;
	if (until_us == UINT64_MAX)
		return wait_us;
	if (until_us <= now_us)
		return 0;
	return wait_us < until_us - now_us ? wait_us : until_us - now_us;
}

/*
 * Whether this turn queued so many operations that submitting them takes its time: sends run
 * inline, 3 to 4 us each. Then it does not wait, so that the time is counted as the turn's;
 * completions are there at once, so the turn that follows has something to do.
 */
static bool has_many_submissions(const struct worker *worker)
{
	return turn_submissions(worker) >= WORKER_MANY_SUBMISSIONS;
}

/* ── the loop ── */

static int start(struct worker *worker)
{
	worker->started = true;
	return ring_enable(worker->ring);
}

/*
 * Deadlines first, while the turn's time is fresh. Reap, then run: callbacks queue, they do not
 * submit. From `asleep` on, posters send a wake-up: the looks at the mailbox and (before_wait) at
 * the feeds must come after it. Flush after all that may produce bytes, sweep after all that may
 * still use what it frees. Wakes ride on the submit that ends the turn.
 */
int worker_turn(struct worker *worker, uint64_t wait_us)
{
	int code = worker->started ? 0 : start(worker);

	if (code < 0)
		return code;
	clock_read(worker);
	deadlines_run(worker);
	code = completions_run(worker);
	if (code < 0)
		return code;
	starved_retry(worker);
	mailbox_set_asleep(worker, true);
	mailbox_deliver(worker);
	if (worker->before_wait)
		worker->before_wait(worker);
	tasks_run(worker, &worker->flush_tasks);
	tasks_run(worker, &worker->sweep_tasks);
	if (worker->unclosed_count > 0)
		discards_retry(worker);
	if (wakes_post(worker))
		wait_us = 0;

	uint64_t end_us = worker_clock_us(worker);

	wait_us = wait_limit(worker, wait_us, end_us);
	if (has_many_submissions(worker))
		wait_us = 0;
	code = ring_enter(worker->ring, wait_us);
	if (wait_us == 0)
		end_us = worker_clock_us(worker);
	mailbox_set_asleep(worker, false);
	metrics_update(worker, end_us);
	return code;
}

int worker_run(struct worker *worker)
{
	int code;

	do {
		code = worker_turn(worker, RING_WAIT_FOREVER);
	} while (code == 0 && !is_done(worker));
	if (worker->started)
		ring_leave(worker->ring);
	return code;
}
