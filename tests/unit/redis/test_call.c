#include "unit/redis/client_rig.h"

static void client_drops_a_peer_that_breaks_the_protocol(void **state)
{
	static const char *const rows[] = {
		"+OK\r\n+OK\r\n",	   /* one more than asked */
		"+OK\r\nhello\r\n",	   /* no type */
		"+OK\r\n$99999999999\r\n", /* over the limit */
		"+OK\r\n*5\r\n*99999999\r\n",
		"+OK\r\n$-7\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct asked *asked = take(2);
		bool unasked = i == 0;

		client_connect_to_fake();
		assert_int_equal(START(&asked[0], 1000, "GET", "a"), 0);
		if (!unasked)
			assert_int_equal(START(&asked[1], 1000, "GET", "b"), 0);
		fake_expect(&fake, "GET\r\n");
		fake_say(&fake, rows[i]);
		TURN_UNTIL(&worker, lost_count == 1);
		/* What was whole counts. */
		assert_int_equal(asked[0].answers, 1);
		assert_int_equal(asked[0].outcome, REDIS_REPLY);
		if (!unasked) {
			assert_int_equal(asked[1].answers, 1);
			assert_int_equal(asked[1].outcome, REDIS_LOST);
		}
		assert_int_equal(metric_value(&client->metrics.protocol_errors), 1);
		fake_greet(&fake);
		TURN_UNTIL(&worker, ready_count == 2);
		client_end();
		fake_close(&fake);
	}
}

static void client_reads_answers_cut_anywhere(void **state)
{
	static const char answers[] = "$5\r\nhello\r\n*2\r\n:1\r\n$-1\r\n-ERR no\r\n+OK\r\n";
	const size_t len = sizeof(answers) - 1;

	(void)state;
	client_connect_to_fake();
	for (size_t cut = 1; cut < len; cut++) {
		struct asked *asked = take(4);

		for (size_t i = 0; i < 4; i++)
			assert_int_equal(START(&asked[i], 5000, "GET", "a"), 0);
		for (size_t i = 0; i < 4; i++)
			fake_expect(&fake, "$1\r\na\r\n");

		uint64_t received = metric_value(&worker.metrics.completions);

		fake_say_bytes(&fake, answers, cut);
		/* The first part is read before the second is sent. */
		TURN_UNTIL(&worker, metric_value(&worker.metrics.completions) > received);
		assert_int_equal(worker_turn(&worker, 0), 0);
		assert_int_equal(asked[3].answers, 0);
		fake_say_bytes(&fake, answers + cut, len - cut);
		TURN_UNTIL(&worker, asked[3].answers == 1);
		assert_string_equal(asked[0].text, "hello");
		assert_int_equal(asked[1].type, RESP_ARRAY);
		assert_string_equal(asked[2].text, "ERR no");
		assert_int_equal(asked[2].outcome, REDIS_REFUSED);
		assert_string_equal(asked[3].text, "OK");
	}
	client_end();
	fake_close(&fake);
}

/* ---- answers that take their time ---- */

#define COSTLY_US 100 /* an answer */

static uint64_t costly_now_us;

static uint64_t costly_monotonic_us(void *context)
{
	(void)context;
	return costly_now_us;
}

static void note_costly_answer(struct redis_call *call, enum redis_outcome outcome,
			       const struct resp_value *value)
{
	expect_in_order(call, outcome, value);
	costly_now_us += COSTLY_US;
}

/* Connected, and `count` answers are there that nothing has read. */
static struct asked *costly_begin(size_t count)
{
	static const char *const words[3] = {"GET", "a"};
	struct asked *asked = take(count);
	struct buf answers;

	client_connect_to_fake();
	next_number = 0;
	buf_init(&answers, 1u << 20);
	for (uint32_t i = 0; i < count; i++) {
		asked[i].number = i;
		assert_int_equal(start(&asked[i], note_costly_answer, 60000, words), 0);
		assert_int_equal(buf_append(&answers, SPAN("+OK\r\n")), 0);
	}
	for (size_t i = 0; i < count; i++)
		fake_expect(&fake, "$1\r\na\r\n");
	costly_now_us = worker.now_us;
	worker.clock.monotonic_us = costly_monotonic_us;
	fake_say_bytes(&fake, (const char *)answers.data, answers.len);
	buf_finish(&answers);
	return asked;
}

static void costly_end(void)
{
	worker.clock = worker_clock_system;
	client_end();
	fake_close(&fake);
}

static void client_leaves_costly_answers_for_the_next_turn(void **state)
{
	enum { COUNT = 100, TURN_MAX = 2 * 3 }; /* when received, and in the flush step */

	(void)state;
	(void)costly_begin(COUNT);
	alarm(10);
	while (next_number < COUNT) {
		uint32_t before = next_number;
		bool is_rest_left = COUNT - before > TURN_MAX;

		/* what is left keeps a turn from waiting */
		assert_int_equal(worker_turn(&worker, is_rest_left ? RING_WAIT_FOREVER : 0), 0);
		assert_true(next_number - before <= TURN_MAX);
	}
	alarm(0);
	costly_end();
}

static void client_hands_out_all_that_came_before_the_end(void **state)
{
	static void (*const ends[])(struct fake * fake) = {fake_hang_up, fake_reset};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		const struct asked *asked = costly_begin(100);

		lost_count = 0;
		TURN_UNTIL(&worker, next_number > 0);
		assert_true(next_number < 100);
		ends[i](&fake);
		TURN_UNTIL(&worker, lost_count == 1);
		for (size_t k = 0; k < 100; k++)
			assert_int_equal(asked[k].outcome, REDIS_REPLY);
		costly_end();
	}
}

static void client_stops_with_answers_left(void **state)
{
	const struct asked *asked;

	(void)state;
	asked = costly_begin(100);
	TURN_UNTIL(&worker, next_number > 0);
	assert_int_equal(asked[99].answers, 0);
	costly_end();
	assert_int_equal(asked[99].outcome, REDIS_LOST);
}

static void client_hears_of_half_an_answer_and_an_end(void **state)
{
	struct asked *asked = take(1);

	(void)state;
	client_connect_to_fake();
	assert_int_equal(START(asked, 5000, "GET", "a"), 0);
	fake_expect(&fake, "GET\r\n");
	fake_say(&fake, "$5\r\nhel");
	fake_hang_up(&fake);

	uint64_t hung_up_ms = steady_ms();

	TURN_UNTIL(&worker, asked->answers == 1);
	assert_int_equal(asked->outcome, REDIS_LOST);
	assert_string_equal(redis_client_last_error(client), "closed by Redis");
	/* The first try after a loss comes within 100 ms. */
	fake_greet(&fake);
	assert_true(steady_ms() - hung_up_ms <= 150);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
	/* The half answer is not the next one's beginning. */
	assert_int_equal(START(asked, 5000, "GET", "a"), 0);
	fake_expect(&fake, "GET\r\n");
	fake_say(&fake, "$2\r\nlo\r\n");
	TURN_UNTIL(&worker, asked->answers == 2);
	assert_string_equal(asked->text, "lo");
	client_end();
	fake_close(&fake);
}

static void client_forgets_late_and_cancelled_calls_but_not_their_places(void **state)
{
	struct asked *late = take(1), *cancelled = take(1), *next = take(1), *never = take(1);

	(void)state;
	client_connect_to_fake();
	redis_call_cancel(&never->call);

	uint64_t asked_ms = fresh_now_ms();

	assert_int_equal(START(late, 30, "GET", "late"), 0);
	assert_int_equal(START(cancelled, 30, "GET", "cancelled"), 0);
	assert_int_equal(START(next, 5000, "GET", "next"), 0);
	redis_call_cancel(&cancelled->call);
	redis_call_cancel(&cancelled->call);
	assert_null(cancelled->call.client);
	fake_expect(&fake, "next\r\n");
	TURN_UNTIL(&worker, late->answers == 1);
	assert_int_equal(late->outcome, REDIS_TIMEOUT);
	assert_true(late->answered_ms - asked_ms >= 30);
	/* The late one is free at once: its second life does not get the first one's answer. */
	assert_int_equal(START(late, 5000, "GET", "again"), 0);
	fake_say(&fake, "$4\r\nlate\r\n$9\r\ncancelled\r\n$4\r\nnext\r\n$5\r\nagain\r\n");
	TURN_UNTIL(&worker, late->answers == 2);
	assert_string_equal(late->text, "again");
	assert_string_equal(next->text, "next");
	assert_int_equal(cancelled->answers, 0);
	assert_true(
		rendered("gateway_redis_commands_total{role=\"replay\",outcome=\"timeout\"} 1\n"));
	client_end();
	fake_close(&fake);
}

static struct asked *victim;

static void cancel_other(struct redis_call *call, enum redis_outcome outcome,
			 const struct resp_value *value)
{
	note_answer(call, outcome, value);
	redis_call_cancel(&victim->call);
}

static void client_lets_one_answer_cancel_another(void **state)
{
	static const enum redis_outcome rows[] = {REDIS_REPLY, REDIS_TIMEOUT, REDIS_LOST};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct asked *killer = take(1), *other = take(1);

		client_connect_to_fake();
		victim = other;
		/* Both deadlines are due in the same turn. */
		assert_int_equal(
			start(killer, cancel_other, 20, (const char *const[3]){"GET", "a"}), 0);
		assert_int_equal(START(other, 20, "GET", "b"), 0);
		if (rows[i] == REDIS_REPLY) {
			fake_expect(&fake, "GET\r\n");
			fake_say(&fake, "+1\r\n+2\r\n");
		} else if (rows[i] == REDIS_LOST) {
			fake_hang_up(&fake);
		}
		TURN_UNTIL(&worker, killer->answers == 1);
		assert_int_equal(killer->outcome, rows[i]);
		for (int turns = 0; turns < 30; turns++)
			assert_int_equal(worker_turn(&worker, 2000), 0);
		assert_int_equal(other->answers, 0);
		client_end();
		fake_close(&fake);
	}
}

static void client_bears_silence_in_proportion(void **state)
{
	struct asked *asked = take(2);

	(void)state;
	client_connect_to_fake();

	uint64_t asked_ms = fresh_now_ms();

	assert_int_equal(START(&asked[0], 300, "GET", "a"), 0);
	assert_int_equal(START(&asked[1], 10, "GET", "b"), 0);
	fake_expect(&fake, "b\r\n");
	/* The oldest rules: 4 × 300 ms, although the second would have borne 1 s only. */
	TURN_UNTIL(&worker, lost_count == 1);
	assert_in_range(steady_ms() - asked_ms, 1200, 1700);
	assert_string_equal(redis_client_last_error(client), "Redis has stopped answering");
	fake_greet(&fake);
	TURN_UNTIL(&worker, ready_count == 2);

	/* Any byte is a sign of life; an answered pipeline waits for nothing. */
	asked_ms = fresh_now_ms();
	assert_int_equal(START(&asked[0], 5, "GET", "a"), 0);
	fake_expect(&fake, "a\r\n");
	TURN_UNTIL(&worker, steady_ms() - asked_ms > 700);
	fake_say(&fake, "$");
	TURN_UNTIL(&worker, steady_ms() - asked_ms > 1400);
	assert_int_equal(lost_count, 1);
	fake_say(&fake, "-1\r\n");
	TURN_UNTIL(&worker, pipeline_is_empty(&client->pipeline));
	TURN_UNTIL(&worker, steady_ms() - asked_ms > 2700);
	assert_int_equal(lost_count, 1);
	client_end();
	fake_close(&fake);
}

static void client_dials_again_after_a_failover_but_not_for_ever(void **state)
{
	static const char *const rows[] = {
		"-READONLY You can't write against a read only replica.\r\n",
		"-LOADING Redis is loading the dataset in memory\r\n",
		"-MASTERDOWN Link with MASTER is down\r\n",
		"-UNBLOCKED force unblock from blocking operation\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct asked *asked = take(1);

		client_connect_to_fake();
		assert_int_equal(START(asked, 1000, "SET", "a", "b"), 0);
		fake_expect(&fake, "SET\r\n");
		fake_say(&fake, rows[i]);
		TURN_UNTIL(&worker, lost_count == 1);
		assert_int_equal(asked->outcome, REDIS_REFUSED);
		fake_greet(&fake);
		TURN_UNTIL(&worker, ready_count == 2);
		assert_int_equal(START(asked, 1000, "SET", "a", "b"), 0);
		fake_expect(&fake, "SET\r\n");
		fake_say(&fake, rows[i]);
		TURN_UNTIL(&worker, asked->answers == 2);
		assert_true(redis_client_is_ready(client));
		client_end();
		fake_close(&fake);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLIENT_TEST(client_drops_a_peer_that_breaks_the_protocol),
		CLIENT_TEST(client_reads_answers_cut_anywhere),
		CLIENT_TEST(client_leaves_costly_answers_for_the_next_turn),
		CLIENT_TEST(client_hands_out_all_that_came_before_the_end),
		CLIENT_TEST(client_stops_with_answers_left),
		CLIENT_TEST(client_hears_of_half_an_answer_and_an_end),
		CLIENT_TEST(client_forgets_late_and_cancelled_calls_but_not_their_places),
		CLIENT_TEST(client_lets_one_answer_cancel_another),
		CLIENT_TEST(client_bears_silence_in_proportion),
		CLIENT_TEST(client_dials_again_after_a_failover_but_not_for_ever),
	};

	return cmocka_run_group_tests_name("redis call", tests, NULL, NULL);
}
