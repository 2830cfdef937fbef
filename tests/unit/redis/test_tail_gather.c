#include "unit/redis/tail_rig.h"

#define HOUR_US (3600u * 1000 * 1000)

/* If only this clock counts, an hour is for ever; BLOCK is as long. */
static void gathering_tail_connect(uint32_t gather_us)
{
	struct tail_options options = options_for(redis_server_endpoint(&server));

	options.gather_us = gather_us;
	options.block_ms = 3600u * 1000;
	tail_begin(options);
	TURN_UNTIL(&worker, redis_tail_is_ready(tail));
}

static void turn_for_ms(uint64_t ms)
{
	uint64_t until_ms = steady_ms() + ms;

	TURN_UNTIL(&worker, steady_ms() > until_ms);
}

static void tail_lets_fast_entries_gather_and_reads_them_at_once(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	gathering_tail_connect(HOUR_US);
	add_numbers(0, 1);
	TURN_UNTIL(&worker, entry_count == 1);
	add_numbers(1, 9);
	turn_for_ms(50);
	assert_int_equal(entry_count, 1);
	/* What else holds the tail is one thing, the time another. */
	redis_tail_pause(tail);
	redis_tail_resume(tail);
	turn_for_ms(20);
	assert_int_equal(entry_count, 1);
	ahead_us += 3600u * UINT64_C(1000000);
	TURN_UNTIL(&worker, entry_count == 9);
	assert_numbers(0, 9);
	assert_int_equal(batch_count, 2);
	tail_end();
}

static void tail_that_is_paused_stays_so_when_entries_have_gathered(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	gathering_tail_connect(HOUR_US);
	add_numbers(0, 1);
	TURN_UNTIL(&worker, entry_count == 1);
	redis_tail_pause(tail);
	add_numbers(1, 2);
	ahead_us += 3600u * UINT64_C(1000000);
	turn_for_ms(20);
	assert_int_equal(entry_count, 1);
	redis_tail_resume(tail);
	TURN_UNTIL(&worker, entry_count == 2);
	tail_end();
}

static void tail_does_not_let_entries_wait_that_come_seldom(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	/* In all less than the tail goes without asking about its stream. */
	gathering_tail_connect(400000);
	for (long number = 0; number < 4; number++) {
		ahead_us += 200000; /* so that fewer than four come in the time */
		turn_for_ms(1);
		add_numbers(number, number + 1);
		TURN_UNTIL(&worker, entry_count == (size_t)number + 1);
	}
	tail_end();
}

static void tail_reads_on_at_once_after_a_large_answer(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	gathering_tail_connect(HOUR_US);
	on_entry = pause_tail;
	add_numbers(0, 1);
	TURN_UNTIL(&worker, entry_count == 1);
	on_entry = NULL;
	add_numbers(1, 1 + TAIL_BATCH);
	ahead_us += 3600u * UINT64_C(1000000);
	turn_for_ms(1);
	redis_tail_resume(tail);
	TURN_UNTIL(&worker, entry_count == 1 + TAIL_BATCH);
	add_numbers(1 + TAIL_BATCH, 2 + TAIL_BATCH);
	TURN_UNTIL(&worker, entry_count == 2 + TAIL_BATCH);
	tail_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TAIL_TEST(tail_lets_fast_entries_gather_and_reads_them_at_once),
		TAIL_TEST(tail_that_is_paused_stays_so_when_entries_have_gathered),
		TAIL_TEST(tail_does_not_let_entries_wait_that_come_seldom),
		TAIL_TEST(tail_reads_on_at_once_after_a_large_answer),
	};

	return cmocka_run_group_tests_name("redis tail, gathering", tests, NULL, NULL);
}
