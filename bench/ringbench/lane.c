#include "lane.h"

#include "base/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_US	   10000u    /* how soon a lane that hears nothing sees that the run goes on */
#define CONNECT_US 30000000u /* for all lanes to be ready */
#define GRACE_US   5000000u  /* for the answers that are missing at the end */
#define CLOSE_US   10000000u /* for what is still closing */

/* ---- what a lane tells ---- */

static void lane_say(struct lane *lane, const char *format, va_list arguments)
{
	if (lane->why[0])
		return;
	vsnprintf(lane->why, sizeof(lane->why), format, arguments);
	tell("%s", lane->why);
}

void lane_complain(struct lane *lane, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	lane_say(lane, format, arguments);
	va_end(arguments);
}

void lane_fail(struct lane *lane, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	lane_say(lane, format, arguments);
	va_end(arguments);
	if (lane->has_failed)
		return;
	lane->has_failed = true;
	atomic_fetch_add(&lane->run->failed_count, 1);
	measure_cut_short(&lane->run->measure);
}

void lane_is_ready(struct lane *lane)
{
	atomic_fetch_add(&lane->run->ready_count, 1);
}

uint32_t lane_share(const struct lane *lane, uint32_t total, uint32_t *first)
{
	uint32_t count = lane->run->lane_count;
	uint32_t begin = (uint32_t)((uint64_t)total * lane->index / count);
	uint32_t end = (uint32_t)((uint64_t)total * (lane->index + 1) / count);

	*first = begin;
	return end - begin;
}

/* ---- a lane's thread ---- */

struct worker *lane_worker_create(uint32_t index)
{
	const struct worker_options options = {
		.name = "ringbench",
		.index = index,
		.ring = {.sq_entries = 1024,
			 .cq_entries = 65536,
			 .file_slots = 1024,
			 .adopted_slots = 1024,
			 .buffer_count = 1024,
			 .buffer_bytes = 16384},
		.clock = worker_clock_system,
	};
	struct worker *worker = aligned_alloc(64, (sizeof(*worker) + 63) / 64 * 64);
	char why[256] = "";

	if (!worker) {
		tell("out of memory");
		return NULL;
	}
	memset(worker, 0, sizeof(*worker));
	if (worker_init(worker, &options, why, sizeof(why)) != 0) {
		tell("%s", why);
		free(worker);
		return NULL;
	}
	return worker;
}

void lane_worker_destroy(struct worker *worker)
{
	worker_finish(worker);
	free(worker);
}

/* Returns false if the ring is gone. */
static bool lane_turn(struct lane *lane, uint64_t wait_us)
{
	int code = worker_turn(lane->worker, wait_us);

	if (code)
		lane_fail(lane, "io_uring: %s", strerrordesc_np(-code));
	return code == 0;
}

/* Open loop: tells the work what is due. Returns how long until the next. */
static uint64_t lane_pace(struct lane *lane)
{
	uint64_t now_us = monotonic_us();

	for (;;) {
		uint64_t due_us = lane_due_us(lane, (uint32_t)(lane->due_next % lane->slot_count),
					      lane->due_next / lane->slot_count);

		if (due_us > now_us)
			return due_us - now_us < LOOK_US ? due_us - now_us : LOOK_US;
		lane->run->ops->due(lane, (uint32_t)(lane->due_next++ % lane->slot_count));
	}
}

static void lane_begin(struct lane *lane, uint64_t start_us)
{
	double rate = lane->options->rate / lane->run->lane_count;

	if (rate <= 0) {
		lane->run->ops->begin(lane);
		return;
	}
	lane->start_us = start_us;
	lane->due_step_us = 1e6 / rate;
}

static void lane_work(struct lane *lane)
{
	struct run *run = lane->run;
	bool has_begun = false;

	while (!lane->has_failed && lane->worker->now_us < atomic_load(&run->end_us)) {
		uint64_t start_us = atomic_load(&run->start_us), wait_us = LOOK_US;

		if (start_us == UINT64_MAX) {
			wait_us = 1000;
		} else if (!has_begun) {
			lane_begin(lane, start_us);
			has_begun = true;
			wait_us = 0;
		}
		if (has_begun && lane->due_step_us > 0 && lane->slot_count > 0)
			wait_us = lane_pace(lane);
		if (!lane_turn(lane, wait_us))
			return;
	}
}

/* What was due and could not be sent has waited until now: a stalled server is charged for it. */
static void lane_charge_backlog(struct lane *lane)
{
	uint64_t end_us = atomic_load(&lane->run->end_us);

	for (uint32_t slot = 0; lane->due_step_us > 0 && slot < lane->slot_count; slot++)
		for (uint64_t turn = lane->run->ops->sent(lane, slot);; turn++) {
			uint64_t due_us = lane_due_us(lane, slot, turn);

			if (due_us >= end_us)
				break;
			histogram_record(&lane->stats.latency, end_us - due_us);
			lane->stats.backlog++;
		}
}

static void lane_end(struct lane *lane)
{
	uint64_t until_us = monotonic_us() + GRACE_US;

	lane->is_stopping = true;
	if (!lane->has_failed)
		lane_charge_backlog(lane);
	while (!lane->has_failed && lane->waiting > 0 && monotonic_us() < until_us)
		if (!lane_turn(lane, LOOK_US))
			return;
	if (lane->waiting > 0)
		lane_complain(lane, "%llu requests were never answered",
			      (unsigned long long)lane->waiting);
	lane->stats.lost += lane->waiting;
	lane->waiting = 0;
	lane->run->ops->close(lane);
	until_us = monotonic_us() + CLOSE_US;
	while (worker_ops_in_flight(lane->worker) > 0 && monotonic_us() < until_us)
		if (!lane_turn(lane, LOOK_US))
			return;
	lane_turn(lane, 0); /* the sweep behind the last completion */
}

static void *lane_main(void *argument)
{
	struct lane *lane = argument;

	/* the first turn enables the ring and reads the clock */
	if (lane_turn(lane, 0)) {
		int code = lane->run->ops->open(lane);

		if (code)
			lane_fail(lane, "a thread could not start: %s", strerrordesc_np(-code));
		else
			lane_work(lane);
	}
	lane_end(lane);
	/* what the kernel still works on stays where it is: the process ends soon */
	if (worker_ops_in_flight(lane->worker) == 0) {
		lane->run->ops->free(lane);
		lane_worker_destroy(lane->worker);
	}
	return NULL;
}

/* ---- the run, main thread ---- */

static int run_await_ready(struct run *run)
{
	uint64_t until_us = monotonic_us() + CONNECT_US;

	while (atomic_load(&run->ready_count) < run->lane_count) {
		if (atomic_load(&run->failed_count) > 0)
			return -EIO;
		if (monotonic_us() > until_us) {
			tell("not all connections stand after 30 s");
			return -ETIMEDOUT;
		}
		(void)measure_await(&run->measure, monotonic_us() + 1000);
	}
	return 0;
}

static void run_window(struct run *run)
{
	const struct options *options = run->options;
	struct measure *measure = &run->measure;
	uint64_t start_us = monotonic_us();

	atomic_store(&run->start_us, start_us);
	(void)measure_await(measure, start_us + (uint64_t)(options->warmup_s * 1e6));
	measure_begin(measure);
	atomic_store(&run->begin_us, measure->begin_us);
	(void)measure_await(measure, measure->begin_us + (uint64_t)(options->duration_s * 1e6));
	measure_end(measure);
	atomic_store(&run->end_us, measure->end_us);
}

/* All rings are made before a thread starts. Returns 0, or -EIO with no thread started. */
static int run_make_lanes(struct run *run)
{
	uint32_t count = run->lane_count;

	for (uint32_t i = 0; i < count; i++) {
		struct lane *lane = &run->lanes[i];

		lane->run = run;
		lane->options = run->options;
		lane->index = i;
		lane->worker = lane_worker_create(i);
		if (lane->worker)
			continue;
		while (i-- > 0)
			lane_worker_destroy(run->lanes[i].worker);
		run->lane_count = 0;
		return -EIO;
	}
	for (uint32_t i = 0; i < count; i++)
		CHECK(pthread_create(&run->lanes[i].thread, NULL, lane_main, &run->lanes[i]) == 0);
	return 0;
}

int run_start(struct run *run, const struct options *options, const struct lane_ops *ops,
	      void *shared)
{
	*run = (struct run){
		.options = options,
		.ops = ops,
		.shared = shared,
		.lanes = calloc(options->threads, sizeof(struct lane)),
		.lane_count = options->threads,
		.start_us = UINT64_MAX,
		.begin_us = UINT64_MAX,
		.end_us = UINT64_MAX,
	};
	int code = run->lanes ? measure_init(&run->measure, options) : -ENOMEM;

	if (code) {
		run->lane_count = 0;
		return code;
	}
	code = run_make_lanes(run);
	if (code == 0)
		code = run_await_ready(run);
	if (code == 0)
		run_window(run);
	else
		atomic_store(&run->end_us, 0);
	for (uint32_t i = 0; i < run->lane_count; i++) {
		pthread_join(run->lanes[i].thread, NULL);
		stats_merge(&run->total, &run->lanes[i].stats);
	}
	if (code == 0 && atomic_load(&run->failed_count) > 0)
		code = -EIO;
	return code;
}

int run_report(const struct run *run, int code, struct span more)
{
	int exit_code = stats_report(run->options->work, &run->total, &run->measure, more);

	if (code || exit_code)
		return 1;
	if (run->total.units == 0)
		tell("not one unit came into the window");
	return run->total.units > 0 ? 0 : 1;
}

void run_finish(struct run *run)
{
	if (run->lane_count > 0)
		measure_finish(&run->measure);
	free(run->lanes);
	*run = (struct run){0};
}
