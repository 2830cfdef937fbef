/* tail_rig: one tail under test, its Redis, and what it told. */
#ifndef TESTS_TAIL_RIG_H
#define TESTS_TAIL_RIG_H

#include "unit/redis/redis_rig.h"

#include "redis/client_internal.h"
#include "redis/tail.h"

static struct redis_server server;
static struct fake fake = {.listener = -1, .peer = -1};
static struct worker worker;
static int fds_before;

/* ── one tail under test, and what it told ── */

#define ENTRIES_MAX 4096

static struct redis_tail *tail;
static bool tail_gone;
static int started_count, batch_count, recreated_count, trimmed_count;
static size_t entry_count;
static size_t field_counts[ENTRIES_MAX];
static long numbers[ENTRIES_MAX]; /* value of the first field */
static size_t replayed_count;
static char last_id[64];
static void (*on_started)(void), (*on_entry)(void), (*on_batch_end)(void), (*on_lost)(void);

static void note_started(struct redis_tail *of)
{
	assert_ptr_equal(redis_tail_context(of), &worker);
	assert_false(tail_gone);
	started_count++;
	if (on_started)
		on_started();
}

static void note_entry(struct redis_tail *of, const struct tail_entry *entry)
{
	assert_true(of == tail && entry_count < ENTRIES_MAX && !tail_gone);
	field_counts[entry_count] = entry->field_count;
	numbers[entry_count] = -1;
	if (entry->field_count > 0)
		numbers[entry_count] = strtol((const char *)entry->fields[0].value.data, NULL, 10);
	snprintf(last_id, sizeof(last_id), "%.*s", SPAN_ARGS(entry->id));
	assert_int_equal(strtoull(last_id, NULL, 10), entry->id_ms);
	replayed_count += entry->is_replayed;
	entry_count++;
	if (on_entry)
		on_entry();
}

static void note_batch_end(struct redis_tail *of)
{
	assert_true(of == tail && !tail_gone);
	batch_count++;
	if (on_batch_end)
		on_batch_end();
}

static void note_lost(struct redis_tail *of, enum tail_loss loss)
{
	assert_true(of == tail && !tail_gone);
	if (loss == TAIL_RECREATED)
		recreated_count++;
	else
		trimmed_count++;
	if (on_lost)
		on_lost();
}

static const struct tail_handler handler = {
	.started = note_started,
	.entry = note_entry,
	.batch_end = note_batch_end,
	.lost = note_lost,
};

static struct tail_options options_for(struct endpoint endpoint)
{
	return (struct tail_options){
		.redis = {.endpoint = endpoint,
			  .connect_timeout_ms = 1000,
			  .role = REDIS_SESSION_EVENTS},
		.stream = SPAN("s"),
		.block_ms = 20,
		.handler = &handler,
		.context = &worker,
	};
}

static void tail_begin(struct tail_options options)
{
	started_count = batch_count = recreated_count = trimmed_count = 0;
	entry_count = replayed_count = 0;
	tail_gone = false;
	assert_int_equal(redis_tail_create(&tail, &worker, &options), 0);
	assert_false(redis_tail_is_ready(tail));
	redis_tail_start(tail);
}

static void tail_note_gone(void *context)
{
	(void)context;
	tail_gone = true;
}

static void tail_end(void)
{
	on_started = on_entry = on_batch_end = on_lost = NULL;
	redis_tail_stop(tail, tail_note_gone, NULL);
	assert_false(tail_gone);
	TURN_UNTIL(&worker, tail_gone);
	redis_tail_destroy(tail);
	tail = NULL;
}

static int set_up(void **state)
{
	(void)state;
	fds_before = descriptor_count();
	rig_worker_init(&worker, (struct worker_clock){
					 .monotonic_us = ahead_monotonic_us,
					 .wall_ms = worker_clock_system.wall_ms,
				 });
	on_started = on_entry = on_batch_end = on_lost = NULL;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	/* Left by a test that failed. */
	if (tail)
		tail_end();
	fake_close(&fake);
	redis_server_finish(&server);
	rig_worker_finish(&worker);
	assert_int_equal(descriptor_count(), fds_before);
	return 0;
}

/* Adds entries whose first field tells their number, in one go. */
static void add_numbers(long from, long to)
{
	for (long number = from; number < to; number++) {
		char text[24];

		snprintf(text, sizeof(text), "%ld", number);
		redis_server_write(&server, (const char *const[]){"XADD", "s", "*", "n", text}, 5);
	}
	for (long number = from; number < to; number++)
		assert_int_not_equal(redis_server_read(&server)[0], 'E');
}

/* Everything from `from` on came once, in order. */
static void assert_numbers(long from, long to)
{
	assert_int_equal(entry_count, to - from);
	for (size_t i = 0; i < entry_count; i++)
		assert_int_equal(numbers[i], from + (long)i);
}

static void pause_tail(void)
{
	redis_tail_pause(tail);
}

#define TAIL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
