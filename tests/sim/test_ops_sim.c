/*
 * Operations that the other stories do not have over a simulated ring: polls and reads, each with
 * every errno of its table; and the process's signals, which are heard once each whatever a read
 * gives. SEED=<number> runs one seed again.
 */
#include "log/log.h"
#include "program/signals.h"
#include "sim/mock_internal.h"
#include "sim/seeds.h"
#include "uring/worker.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

#define SEEDS	    400
#define POLLS	    20
#define SIGNALS_MAX 20
#define TURNS_MAX   100000

static struct {
	struct worker worker;
	struct file_ref near, far;
	struct op poll, cancel, closing[2];
	unsigned turns, polled, closed;
	int32_t result;
	struct signals signals;
	unsigned told, heard;
	bool is_stopped;
} scene;

static uint64_t cancelled; /* over all seeds */

static void turn(void)
{
	CHECK(scene.turns++ < TURNS_MAX);
	CHECK(worker_turn(&scene.worker, 1000) == 0);
}

static void scene_begin(uint64_t seed)
{
	const struct worker_options options = {
		.name = "worker-0",
		.clock = sim_clock,
		.ring = {.sq_entries = 16, .cq_entries = 64, .file_slots = 16},
	};
	const struct sim_options opening = sim_options_clean(seed);
	struct sim_options hostile = sim_options_hostile(seed);
	char why[256];

	sim_begin(&opening);
	memset(&scene, 0, sizeof(scene));
	CHECK(worker_init(&scene.worker, &options, why, sizeof(why)) == 0);
	CHECK(worker_turn(&scene.worker, 0) == 0);
	sim_pair(scene.worker.ring, &scene.near, scene.worker.ring, &scene.far);
	/* what there is to read is whole: a signalfd's */
	hostile.short_chance = 0;
	hostile.error_chance = 30;
	hostile.queue_chance = 100;
	sim_change(&hostile);
}

static void on_closed(struct op *op, const struct completion *completion)
{
	(void)op;
	(void)completion;
	scene.closed++;
}

static void scene_end(uint64_t seed)
{
	const struct sim_options clean = sim_options_clean(seed);

	CHECK(worker_ops_in_flight(&scene.worker) == 0);
	sim_change(&clean);
	for (unsigned i = 0; i < 2; i++) {
		scene.closing[i].done = on_closed;
		CHECK(op_shutdown_close(&scene.worker, &scene.closing[i],
					i ? scene.far : scene.near) == 0);
	}
	while (scene.closed < 2)
		turn();
	for (unsigned i = 0; i < 10; i++)
		turn();
	worker_finish(&scene.worker);
	sim_end();
}

/* ── polls ── */

static void on_poll(struct op *op, const struct completion *completion)
{
	CHECK(!op->armed && !completion->more);
	scene.polled++;
	scene.result = completion->result;
}

static void on_cancel(struct op *op, const struct completion *completion)
{
	(void)op;
	(void)completion;
}

/* One that is ready, or one that is not and is cancelled. */
static void poll_once(void)
{
	bool is_ready = sim_chance(700);
	unsigned before = scene.polled;

	while (op_poll(&scene.worker, &scene.poll, scene.near, is_ready ? POLLOUT : POLLIN) != 0)
		turn();
	CHECK(scene.poll.armed);
	while (scene.polled == before) {
		turn();
		if (!is_ready && !scene.cancel.armed && scene.poll.armed)
			(void)op_cancel(&scene.worker, &scene.cancel, &scene.poll);
	}
	while (scene.cancel.armed)
		turn();

	enum op_outcome outcome = op_classify(RING_POLL, scene.result);

	CHECK(scene.polled == before + 1 && outcome != OP_UNKNOWN);
	CHECK(outcome != OP_OK || (is_ready && scene.result & POLLOUT));
	CHECK(outcome != OP_CANCELLED || !is_ready);
	cancelled += outcome == OP_CANCELLED;
}

static void run_polls(uint64_t seed)
{
	scene_begin(seed);
	scene.poll.done = on_poll;
	scene.cancel.done = on_cancel;
	for (unsigned i = 0; i < POLLS; i++)
		poll_once();
	for (unsigned i = 0; i < 10; i++)
		turn();
	scene_end(seed);
}

static void polls_end_once_with_every_errno_of_their_table(void **state)
{
	(void)state;
	if (!seeds_run("polls", SEEDS, run_polls))
		return;
	assert_true(cancelled > 0);
	assert_int_equal(sim_errno_reached(RING_POLL), sim_errno_count(RING_POLL));
}

/* ── signals ── */

static void on_signal(struct signals *signals, int number)
{
	CHECK(signals == &scene.signals && !scene.is_stopped);
	CHECK(number == (int)scene.heard + 1);
	scene.heard++;
}

/* As the kernel does: the number is a count, so that none is missed or doubled unseen. */
static void tell(void)
{
	const struct signalfd_siginfo info = {.ssi_signo = ++scene.told};

	stream_write(file_out(file_find(scene.worker.ring, scene.far)), (const uint8_t *)&info,
		     sizeof(info));
}

/* A signalfd has no peer that could be gone: what its read gave once is no state of it. */
static void mend(void)
{
	file_find(scene.worker.ring, scene.near)->connection->reset = false;
}

static void run_signals(uint64_t seed)
{
	struct sim_options full = sim_options_clean(seed);
	unsigned count;

	scene_begin(seed);
	count = 1 + (unsigned)sim_random(SIGNALS_MAX);
	signals_start(&scene.signals, &scene.worker, scene.near, on_signal);
	while (scene.heard < count) {
		if (scene.told < count && sim_chance(300))
			tell();
		turn();
		mend();
	}
	if (sim_chance(500)) /* one that may cross the end */
		tell();
	for (uint64_t i = sim_random(4); i > 0; i--) {
		turn();
		mend();
	}
	full.queue_chance = 500; /* the cancel is refused; nothing but it ends the read */
	sim_change(&full);
	signals_stop(&scene.signals);
	scene.is_stopped = true;
	while (worker_ops_in_flight(&scene.worker) > 0)
		turn();
	CHECK(!deadline_is_armed(&scene.signals.retry));
	scene_end(seed);
}

static void signals_are_heard_once_each_whatever_a_read_gives(void **state)
{
	(void)state;
	if (!seeds_run("signals", SEEDS, run_signals))
		return;
	assert_int_equal(sim_errno_reached(RING_READ), sim_errno_count(RING_READ));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(polls_end_once_with_every_errno_of_their_table),
		cmocka_unit_test(signals_are_heard_once_each_whatever_a_read_gives),
	};

	(void)argc;
	seeds_begin(argv[0]);
	log_setup(&(struct log_options){.level = LOG_ERROR + 1, .format = LOG_TEXT, .fd = 2});
	return cmocka_run_group_tests_name("ops_sim", tests, NULL, NULL);
}
