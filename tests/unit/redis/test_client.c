#include "unit/redis/client_rig.h"

/* ── against a real Redis ── */

static void client_answers_each_type(void **state)
{
	static const struct {
		const char *words[3];
		enum redis_outcome outcome;
		enum resp_type type;
		const char *text;
	} rows[] = {
		{{"SET", "a", "1"}, REDIS_REPLY, RESP_STATUS, "OK"},
		{{"GET", "a"}, REDIS_REPLY, RESP_STRING, "1"},
		{{"GET", "none"}, REDIS_REPLY, RESP_NIL, ""},
		{{"INCR", "a"}, REDIS_REPLY, RESP_INTEGER, ""},
		{{"KEYS", "a"}, REDIS_REPLY, RESP_ARRAY, ""},
		{{"XREAD", "a"},
		 REDIS_REFUSED,
		 RESP_ERROR,
		 "ERR wrong number of arguments for 'xread' command"},
	};
	struct asked *asked = take(ARRAY_LEN(rows));

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	client_connect();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(start(&asked[i], note_answer, 1000, rows[i].words), 0);
	TURN_UNTIL(&worker, asked[ARRAY_LEN(rows) - 1].answers == 1);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(asked[i].answers, 1);
		assert_int_equal(asked[i].outcome, rows[i].outcome);
		assert_int_equal(asked[i].type, rows[i].type);
		assert_int_equal(strncmp(asked[i].text, rows[i].text, sizeof(asked[i].text) - 1),
				 0);
	}
	assert_true(rendered("gateway_redis_commands_total{role=\"replay\",outcome=\"ok\"} 5\n"));
	assert_true(
		rendered("gateway_redis_commands_total{role=\"replay\",outcome=\"error\"} 1\n"));
	assert_true(rendered("gateway_redis_command_latency_seconds_count{role=\"replay\"} 6\n"));
	assert_true(rendered("gateway_redis_connected{role=\"session\"} 1\n"));
	assert_true(rendered("gateway_redis_reconnects_total{role=\"session\"} 0\n"));
	client_end();
}

#define MANY 10000

static void client_answers_ten_thousand_calls_in_order(void **state)
{
	struct asked *asked = take(MANY);

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	client_connect();
	next_number = 0;
	for (uint32_t i = 0; i < MANY; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%u", i);
		asked[i].number = i;
		assert_int_equal(start(&asked[i], expect_in_order, 20000,
				       (const char *const[3]){"ECHO", text}),
				 0);
	}
	TURN_UNTIL(&worker, next_number == MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(asked[i].outcome, REDIS_REPLY);
		assert_int_equal(atoll(asked[i].text), i);
	}
	client_end();
}

static void client_sends_all_commands_of_a_turn_at_once(void **state)
{
	const size_t count = 200;
	struct asked *asked = take(count);

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	client_connect();

	uint64_t before = ring_get_counts(worker.ring).submissions;

	for (size_t i = 0; i < count; i++)
		assert_int_equal(START(&asked[i], 1000, "PING"), 0);
	TURN_UNTIL(&worker, asked[count - 1].answers == 1);
	/* One send; and, where multishot receives have an end, one receive at most. */
	assert_in_range(ring_get_counts(worker.ring).submissions - before, 1, 2);
	client_end();
}

static void client_bounds_what_waits(void **state)
{
	struct asked *asked = take(REDIS_IN_FLIGHT_MAX + 1);

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	client_connect();
	for (uint32_t i = 0; i < REDIS_IN_FLIGHT_MAX; i++)
		assert_int_equal(START(&asked[i], 0, "PING"), 0);
	assert_int_equal(START(&asked[REDIS_IN_FLIGHT_MAX], 0, "PING"), -ENOBUFS);
	assert_null(asked[REDIS_IN_FLIGHT_MAX].call.client);
	/* A tombstone holds its place until its answer has come. */
	redis_call_cancel(&asked[7].call);
	assert_int_equal(START(&asked[REDIS_IN_FLIGHT_MAX], 0, "PING"), -ENOBUFS);
	TURN_UNTIL(&worker, asked[REDIS_IN_FLIGHT_MAX - 1].answers == 1);
	for (uint32_t i = 0; i < REDIS_IN_FLIGHT_MAX; i++)
		assert_int_equal(asked[i].answers, i == 7 ? 0 : 1);
	assert_int_equal(START(&asked[REDIS_IN_FLIGHT_MAX], 0, "PING"), 0);
	TURN_UNTIL(&worker, asked[REDIS_IN_FLIGHT_MAX].answers == 1);
	client_end();
}

static void client_bounds_unsent_bytes_and_leaves_nothing_half_written(void **state)
{
	size_t large_bytes = 4u << 20;
	char *large = malloc(large_bytes + 1);
	struct asked *asked = take(8);

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	client_connect();
	memset(large, 'x', large_bytes);
	large[large_bytes] = '\0';

	size_t taken = 0;

	while (taken < 6 && START(&asked[taken], 0, "SET", "large", large) == 0)
		taken++;
	assert_int_equal(taken, 3);
	assert_int_equal(START(&asked[6], 0, "SET", "large", large), -ENOBUFS);
	assert_int_equal(START(&asked[7], 0, "ECHO", "still in step"), 0);
	TURN_UNTIL(&worker, asked[7].answers == 1);
	assert_string_equal(asked[7].text, "still in step");
	for (size_t i = 0; i < taken; i++)
		assert_string_equal(asked[i].text, "OK");
	assert_int_equal(asked[6].answers, 0);
	free(large);
	client_end();
}

static void ask_again(struct redis_call *call, enum redis_outcome outcome,
		      const struct resp_value *value)
{
	struct asked *asked = CONTAINER_OF(call, struct asked, call);

	note_answer(call, outcome, value);
	if (asked->answers < 5)
		assert_int_equal(start(asked, ask_again, 1000, (const char *const[3]){"PING"}), 0);
}

static void client_takes_a_call_again_inside_its_answer(void **state)
{
	struct asked *asked = take(1);

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	client_connect();
	assert_int_equal(start(asked, ask_again, 1000, (const char *const[3]){"PING"}), 0);
	TURN_UNTIL(&worker, asked->answers == 5);
	client_end();
}

static void client_fails_all_at_once_when_redis_dies_and_comes_back(void **state)
{
	const size_t count = 100;
	struct asked *asked = take(count);

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	client_connect();
	/* Frozen, so that none can be answered before the kill. */
	redis_server_signal(&server, SIGSTOP);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(START(&asked[i], 0, "PING"), 0);
	assert_int_equal(worker_turn(&worker, 0), 0);
	redis_server_kill(&server);

	uint64_t killed_ms = steady_ms();

	TURN_UNTIL(&worker, asked[0].answers == 1);
	assert_true(steady_ms() - killed_ms < 100);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(asked[i].answers, 1);
		assert_int_equal(asked[i].outcome, REDIS_LOST);
	}
	assert_false(redis_client_is_ready(client));
	assert_int_equal(lost_count, 1);
	assert_true(rendered("gateway_redis_connected{role=\"session\"} 0\n"));
	assert_true(
		rendered("gateway_redis_commands_total{role=\"replay\",outcome=\"lost\"} 100\n"));
	assert_int_equal(START(&asked[0], 0, "PING"), -ENOTCONN);
	TURN_UNTIL(&worker, strstr(redis_client_last_error(client), "cannot reach Redis"));

	redis_server_run(&server, NULL);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
	assert_int_equal(ready_count, 2);
	assert_string_equal(redis_client_last_error(client), "");
	assert_int_equal(START(&asked[0], 1000, "PING"), 0);
	TURN_UNTIL(&worker, asked[0].answers == 2);
	assert_int_equal(asked[0].outcome, REDIS_REPLY);
	assert_true(metric_value(&client->metrics.reconnects) >= 2);
	client_end();
}

static void client_leaves_a_frozen_redis_and_finds_it_thawed(void **state)
{
	struct asked *asked = take(3);
	struct redis_options options;

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	options = options_for(redis_server_endpoint(&server));
	options.connect_timeout_ms = 200;
	client_begin(options);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
	redis_server_signal(&server, SIGSTOP);

	uint64_t asked_ms = fresh_now_ms();

	assert_int_equal(START(&asked[0], 100, "PING"), 0);
	assert_int_equal(START(&asked[1], 0, "PING"), 0);
	TURN_UNTIL(&worker, asked[0].answers == 1);
	assert_int_equal(asked[0].outcome, REDIS_TIMEOUT);
	assert_in_range(asked[0].answered_ms - asked_ms, 100, 400);
	/* Still up: late is not dead. */
	assert_true(redis_client_is_ready(client));
	TURN_UNTIL(&worker, !redis_client_is_ready(client));
	assert_in_range(steady_ms() - asked_ms, 1000, 1600);
	assert_int_equal(asked[1].outcome, REDIS_LOST);
	TURN_UNTIL(&worker, strstr(redis_client_last_error(client), "did not answer in time"));
	redis_server_signal(&server, SIGCONT);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
	assert_int_equal(START(&asked[2], 1000, "PING"), 0);
	TURN_UNTIL(&worker, asked[2].answers == 1);
	assert_int_equal(asked[2].outcome, REDIS_REPLY);
	assert_true(rendered("gateway_glitches_total{kind=\"redis_silent\"} 1\n"));
	client_end();
}

static void client_says_when_nobody_listens(void **state)
{
	struct endpoint endpoint = {.kind = ENDPOINT_UNIX, .path = "/nonexistent/redis"};
	struct asked *asked = take(1);

	(void)state;
	client_begin(options_for(endpoint));
	assert_int_equal(START(asked, 0, "PING"), -ENOTCONN);
	TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
	assert_string_equal(redis_client_last_error(client),
			    "cannot reach Redis: No such file or directory");
	client_end();
}

/* A name that no name server needs to be asked about. */
static void client_says_when_there_is_no_such_host(void **state)
{
	struct redis_options options = options_for(
		(struct endpoint){.kind = ENDPOINT_HOST, .host = "no..host", .port = 1});
	bool closed = false;

	(void)state;
	assert_int_equal(dns_create(&options.dns, &worker), 0);
	client_begin(options);
	TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
	assert_string_equal(redis_client_last_error(client), "cannot reach Redis: no such host");
	client_end();
	dns_destroy(options.dns, rig_set_true, &closed);
	TURN_UNTIL(&worker, closed);
}

/* ── stopping ── */

static bool stopped_inside;

static void stop_inside(struct redis_call *call, enum redis_outcome outcome,
			const struct resp_value *value)
{
	note_answer(call, outcome, value);
	redis_client_stop(client, rig_set_true, &stopped_inside);
	assert_false(stopped_inside);
}

static void client_stops_inside_any_callback(void **state)
{
	static const enum redis_outcome rows[] = {REDIS_REPLY, REDIS_TIMEOUT, REDIS_LOST};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct asked *first = take(1), *second = take(1);

		client_connect_to_fake();
		stopped_inside = false;
		assert_int_equal(start(first, stop_inside, 20, (const char *const[3]){"GET", "a"}),
				 0);
		assert_int_equal(START(second, 20, "GET", "b"), 0);
		if (rows[i] == REDIS_REPLY) {
			fake_expect(&fake, "GET\r\n");
			fake_say(&fake, "+1\r\n+2\r\n+3\r\n");
		} else if (rows[i] == REDIS_LOST) {
			fake_hang_up(&fake);
		}
		TURN_UNTIL(&worker, stopped_inside);
		assert_int_equal(first->outcome, rows[i]);
		assert_int_equal(second->answers, 1);
		assert_int_equal(second->outcome, REDIS_LOST);
		assert_int_equal(lost_count, 0);
		redis_client_destroy(client);
		client = NULL;
		fake_close(&fake);
	}
}

static bool stop_when_ready;

static void stop_on_change(struct redis_client *of, bool ready, void *context)
{
	(void)context;
	if (ready == stop_when_ready)
		redis_client_stop(of, rig_set_true, &stopped_inside);
}

static void client_stops_when_it_hears_of_a_change(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct redis_options options;

		fake_open(&fake, &worker);
		options = options_for(fake_endpoint(&fake));
		stop_when_ready = i == 0;
		stopped_inside = false;
		assert_int_equal(redis_client_create(&client, &worker, &options), 0);
		redis_client_start(client, stop_on_change, NULL);
		fake_greet(&fake);
		if (!stop_when_ready) {
			TURN_UNTIL(&worker, redis_client_is_ready(client));
			fake_hang_up(&fake);
		}
		TURN_UNTIL(&worker, stopped_inside);
		redis_client_destroy(client);
		client = NULL;
		fake_close(&fake);
	}
}

static void client_stops_in_every_state(void **state)
{
	(void)state;
	fake_open(&fake, &worker);
	for (enum redis_state at = CLIENT_OFF; at <= CLIENT_WAITING; at++) {
		struct redis_options options = options_for(fake_endpoint(&fake));

		assert_int_equal(redis_client_create(&client, &worker, &options), 0);
		if (at >= CLIENT_DIALING)
			redis_client_start(client, NULL, NULL);
		if (at >= CLIENT_GREETING)
			fake_accept(&fake);
		if (at >= CLIENT_GREETING)
			fake_expect(&fake, "PING\r\n");
		if (at >= CLIENT_READY) {
			fake_say(&fake, "+PONG\r\n");
			TURN_UNTIL(&worker, redis_client_is_ready(client));
		}
		if (at >= CLIENT_DROPPING)
			redis_client_reconnect(client, "the test wants it");
		if (at >= CLIENT_WAITING)
			TURN_UNTIL(&worker, client->state == CLIENT_WAITING);
		assert_int_equal(client->state, at);
		client_end();
		fake_hang_up(&fake);
		/* A connection that was dialled and given up. */
		while (fake_has_peer(&fake))
			fake_hang_up(&fake);
	}
	fake_close(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLIENT_TEST(client_answers_each_type),
		CLIENT_TEST(client_answers_ten_thousand_calls_in_order),
		CLIENT_TEST(client_sends_all_commands_of_a_turn_at_once),
		CLIENT_TEST(client_bounds_what_waits),
		CLIENT_TEST(client_bounds_unsent_bytes_and_leaves_nothing_half_written),
		CLIENT_TEST(client_takes_a_call_again_inside_its_answer),
		CLIENT_TEST(client_fails_all_at_once_when_redis_dies_and_comes_back),
		CLIENT_TEST(client_leaves_a_frozen_redis_and_finds_it_thawed),
		CLIENT_TEST(client_says_when_nobody_listens),
		CLIENT_TEST(client_says_when_there_is_no_such_host),
		CLIENT_TEST(client_stops_inside_any_callback),
		CLIENT_TEST(client_stops_when_it_hears_of_a_change),
		CLIENT_TEST(client_stops_in_every_state),
	};

	return cmocka_run_group_tests_name("redis client", tests, NULL, NULL);
}
