/* How long a session is known, answers that are none, and bounds. */
#include "unit/gateway/sessions_rig.h"

static enum sessions_answer answer_inside;

static void ask_again(struct asker *asker)
{
	(void)asker;
	answer_inside = find(&askers[1], "s");
}

/* ---- time ---- */

static void unknown_is_remembered_for_its_time(void **state)
{
	uint64_t ttl_ms;

	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	ttl_ms = config->session_cache_negative_ttl_ms;
	assert_int_equal(ttl_ms, 1000);
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_UNKNOWN);
	write_record("s", "u", "active");
	pass_ms(ttl_ms - 500);
	assert_int_equal(find(&askers[0], "s"), SESSIONS_UNKNOWN);
	assert_int_equal(metric_value(&sessions.metrics.absent), 1);
	assert_int_equal(asked_count(), 1);
	pass_ms(501);
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	assert_int_equal(asked_count(), 2);
}

static void unknown_is_not_remembered_when_its_time_is_none(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	config->session_cache_negative_ttl_ms = 0;
	begin_with_redis();
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_UNKNOWN);
	write_record("s", "u", "active");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
}

static void record_is_read_again_after_its_time(void **state)
{
	uint64_t ttl_ms;

	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	ttl_ms = config->session_cache_ttl_ms;
	write_record("s", "u", "active");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	write_record("s", "v", "active");
	pass_ms(ttl_ms - 60000);
	assert_int_equal(find(&askers[0], "s"), SESSIONS_FOUND);
	assert_string_equal(askers[0].user, "u");
	pass_ms(60001);
	/* The connection was silent for ten minutes by this clock, and is still good. */
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	assert_string_equal(askers[0].user, "v");
}

static void cache_keeps_no_more_than_it_may(void **state)
{
	char id[16];

	(void)state;
	NEEDS_REDIS_SERVER();
	config->session_cache_max_entries = 4;
	begin_with_redis();
	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		if (i % 2)
			write_record(id, "u", "active");
		find_out(&askers[0], id);
		assert_int_equal(sessions.metrics.entries.value, i < 4 ? i + 1 : 4);
	}
	assert_int_equal(find(&askers[0], "s-9"), SESSIONS_FOUND);
	assert_int_equal(find(&askers[0], "s-6"), SESSIONS_UNKNOWN);
	assert_int_equal(find_out(&askers[0], "s-5"), SESSIONS_FOUND);
	assert_int_equal(asked_count(), 11);
}

/* ---- answers that are none ---- */

static void record_that_cannot_be_read_is_unavailable_and_not_kept(void **state)
{
	static const char *const rows[] = {
		"",
		"{",
		"[]",
		"null",
		"{\"device_session_id\":\"s\"}",
		/* of another session */
		"{\"device_session_id\":\"t\",\"user_id\":\"u\",\"client_public_key\":\"" KEY
		"\",\"status\":\"active\"}",
		"{\"device_session_id\":\"s\",\"user_id\":\"u\",\"client_public_key\":\"" KEY
		"\",\"status\":\"sleeping\"}",
		"{\"device_session_id\":\"s\",\"user_id\":\"\",\"client_public_key\":\"" KEY
		"\",\"status\":\"active\"}",
		/* a key of one byte */
		("{\"device_session_id\":\"s\",\"user_id\":\"u\","
		 "\"client_public_key\":\"AQ==\",\"status\":\"active\"}"),
	};

	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_string_equal(ASK(&server, "SET", "p:s", rows[i]), "OK");
		assert_int_equal(find_out(&askers[0], "s"), SESSIONS_UNAVAILABLE);
		assert_int_equal(sessions.metrics.entries.value, 0);
	}
	assert_int_equal(metric_value(&sessions.metrics.failed), ARRAY_LEN(rows));
	/* A list where a record should be: Redis refuses. */
	ASK(&server, "DEL", "p:s");
	ASK(&server, "RPUSH", "p:s", "x");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_UNAVAILABLE);
	ASK(&server, "DEL", "p:s");
	write_record("s", "u", "active");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	assert_true(redis_client_is_ready(client));
}

static void answer_of_another_type_is_unavailable(void **state)
{
	static const char *const rows[] = {":1\r\n", "*0\r\n", "*1\r\n$1\r\na\r\n", "+OK\r\n",
					   "-ERR no\r\n"};

	(void)state;
	begin_with_fake();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
		fake_expect(&fake, "GET\r\n");
		fake_say(&fake, rows[i]);
		TURN_UNTIL(&worker, askers[0].told_count);
		assert_int_equal(askers[0].answer, SESSIONS_UNAVAILABLE);
		assert_int_equal(sessions.metrics.entries.value, 0);
	}
}

/* ---- no answers ---- */

static void redis_that_is_down_is_told_at_once(void **state)
{
	(void)state;
	fake_open(&fake, &worker);
	begin(fake_endpoint(&fake));
	assert_int_equal(find(&askers[0], "s"), SESSIONS_UNAVAILABLE);
	assert_int_equal(sessions.lookup_count, 0);
	/* What letters say is known without it. */
	replace("s", "u", "active");
	assert_int_equal(find(&askers[0], "s"), SESSIONS_FOUND);
	fake_greet(&fake);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
	assert_int_equal(find(&askers[0], "t"), SESSIONS_PENDING);
	sessions_cancel(&askers[0].waiter);
}

static void redis_that_goes_down_is_told_to_all(void **state)
{
	char id[16];

	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	redis_server_signal(&server, SIGSTOP);
	for (int i = 0; i < 40; i++) {
		snprintf(id, sizeof(id), "s-%d", i % 10);
		assert_int_equal(find(&askers[i], id), SESSIONS_PENDING);
	}
	turns(3);
	redis_server_kill(&server);
	TURN_UNTIL(&worker, sessions.lookup_count == 0);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(askers[i].told_count, 1);
		assert_int_equal(askers[i].answer, SESSIONS_UNAVAILABLE);
	}
	assert_int_equal(find(&askers[0], "s-0"), SESSIONS_UNAVAILABLE);
}

static void waiters_that_ask_again_when_redis_is_lost_end(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	askers[0].then = ask_again;
	fake_expect(&fake, "GET\r\n");
	fake_hang_up(&fake);
	TURN_UNTIL(&worker, askers[0].told_count);
	assert_int_equal(askers[0].answer, SESSIONS_UNAVAILABLE);
	assert_int_equal(answer_inside, SESSIONS_UNAVAILABLE);
	assert_int_equal(sessions.lookup_count, 0);
}

static void late_redis_is_unavailable_and_its_answer_nobody_elses(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	fake_expect(&fake, "p:s\r\n");
	pass_ms(config->redis_lookup_timeout_ms + 1);
	TURN_UNTIL(&worker, askers[0].told_count);
	assert_int_equal(askers[0].answer, SESSIONS_UNAVAILABLE);
	assert_int_equal(sessions.lookup_count, 0);
	assert_int_equal(find(&askers[1], "t"), SESSIONS_PENDING);
	fake_expect(&fake, "p:t\r\n");
	say_record("s", "u", "active"); /* late */
	say_record("t", "v", "active");
	TURN_UNTIL(&worker, askers[1].told_count);
	assert_int_equal(askers[1].answer, SESSIONS_FOUND);
	assert_string_equal(askers[1].user, "v");
	assert_int_equal(askers[0].told_count, 1);
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	sessions_cancel(&askers[0].waiter);
}

/* ---- bounds ---- */

static void waiters_of_one_get_are_bounded(void **state)
{
	struct asker *one_more = &askers[LOOKUP_WAITERS_MAX];

	(void)state;
	begin_with_fake();
	for (int i = 0; i < LOOKUP_WAITERS_MAX; i++)
		assert_int_equal(find(&askers[i], "s"), SESSIONS_PENDING);
	assert_int_equal(find(one_more, "s"), SESSIONS_UNAVAILABLE);
	sessions_cancel(&one_more->waiter); /* it does not wait */
	/* Another id has room, and so has this one when someone goes. */
	assert_int_equal(find(one_more, "t"), SESSIONS_PENDING);
	sessions_cancel(&one_more->waiter);
	sessions_cancel(&askers[7].waiter);
	assert_int_equal(find(one_more, "s"), SESSIONS_PENDING);
	fake_expect(&fake, "p:t\r\n");
	say_record("s", "u", "active");
	TURN_UNTIL(&worker, one_more->told_count);
	for (int i = 0; i < LOOKUP_WAITERS_MAX; i++)
		assert_int_equal(askers[i].told_count, i != 7);
	assert_int_equal(metric_value(&sessions.metrics.failed), 1);
}

static void gets_in_flight_are_bounded(void **state)
{
	static struct asker one_more;
	char id[16];

	(void)state;
	NEEDS_REDIS_SERVER();
	config->redis_lookup_timeout_ms = 60000; /* so many are slow on a slow machine */
	begin_with_redis();
	redis_server_signal(&server, SIGSTOP);
	for (int i = 0; i < LOOKUPS_MAX; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		assert_int_equal(find(&askers[i], id), SESSIONS_PENDING);
	}
	assert_int_equal(find(&one_more, "t"), SESSIONS_UNAVAILABLE);
	assert_int_equal(find(&one_more, "s-1"), SESSIONS_PENDING); /* joins */
	redis_server_signal(&server, SIGCONT);
	TURN_UNTIL(&worker, sessions.lookup_count == 0);
	for (int i = 0; i < LOOKUPS_MAX; i++) {
		assert_int_equal(askers[i].told_count, 1);
		assert_int_equal(askers[i].answer, SESSIONS_UNKNOWN);
	}
	assert_int_equal(find_out(&one_more, "t"), SESSIONS_UNKNOWN);
}

static void id_that_no_session_can_have_is_unavailable(void **state)
{
	char id[SESSION_ID_MAX + 2];

	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	memset(id, 'x', sizeof(id));
	id[SESSION_ID_MAX + 1] = '\0';
	assert_int_equal(find(&askers[0], id), SESSIONS_UNAVAILABLE);
	id[SESSION_ID_MAX] = '\0';
	write_record(id, "u", "active");
	assert_int_equal(find_out(&askers[0], id), SESSIONS_FOUND);
}

static void gets_in_flight_are_cancelled_at_the_end(void **state)
{
	char id[16];

	(void)state;
	begin_with_fake();
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		assert_int_equal(find(&askers[i], id), SESSIONS_PENDING);
	}
	fake_expect(&fake, "p:s-99\r\n");
	for (int i = 0; i < 100; i++)
		sessions_cancel(&askers[i].waiter);
	sessions_finish(&sessions);
	for (int i = 0; i < 100; i++)
		fake_say(&fake, "$-1\r\n");
	turns(3);
	const struct sessions_options options = {
		.worker = &worker, .redis = client, .config = config};

	sessions_init(&sessions, &options); /* for tear_down */
	for (int i = 0; i < 100; i++)
		assert_int_equal(askers[i].told_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SESSIONS_TEST(unknown_is_remembered_for_its_time),
		SESSIONS_TEST(unknown_is_not_remembered_when_its_time_is_none),
		SESSIONS_TEST(record_is_read_again_after_its_time),
		SESSIONS_TEST(cache_keeps_no_more_than_it_may),
		SESSIONS_TEST(record_that_cannot_be_read_is_unavailable_and_not_kept),
		SESSIONS_TEST(answer_of_another_type_is_unavailable),
		SESSIONS_TEST(redis_that_is_down_is_told_at_once),
		SESSIONS_TEST(redis_that_goes_down_is_told_to_all),
		SESSIONS_TEST(waiters_that_ask_again_when_redis_is_lost_end),
		SESSIONS_TEST(late_redis_is_unavailable_and_its_answer_nobody_elses),
		SESSIONS_TEST(waiters_of_one_get_are_bounded),
		SESSIONS_TEST(gets_in_flight_are_bounded),
		SESSIONS_TEST(id_that_no_session_can_have_is_unavailable),
		SESSIONS_TEST(gets_in_flight_are_cancelled_at_the_end),
	};

	return cmocka_run_group_tests_name("sessions: limits", tests, NULL, NULL);
}
