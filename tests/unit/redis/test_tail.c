#include "unit/redis/tail_rig.h"

static void tail_connect(void)
{
	tail_begin(options_for(redis_server_endpoint(&server)));
	TURN_UNTIL(&worker, redis_tail_is_ready(tail));
	assert_int_equal(started_count, 1);
}

static void drop_connections(void)
{
	assert_string_not_equal(ASK(&server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
				"0");
}

/* Pauses and waits until no XREAD is out, so that Redis is the test's alone. (It looks at BLOCK ten
 * times a second.) */
static void pause_and_settle(void)
{
	redis_tail_pause(tail);
	TURN_UNTIL(&worker, strstr(ASK(&server, "INFO", "clients"), "blocked_clients:0"));
}

/* Loses the connection and waits for the judgement. */
static void reconnect_and_settle(void)
{
	drop_connections();
	TURN_UNTIL(&worker, !redis_tail_is_ready(tail));
	TURN_UNTIL(&worker, redis_tail_is_ready(tail));
}

/* No command may be out: it would be late. */
static void pass_ten_seconds(void)
{
	ahead_us += 10000000;
	assert_int_equal(worker_turn(&worker, 0), 0);
}

/* ── reading ── */

static void tail_reads_what_is_written_after_the_start(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	add_numbers(0, 5);
	tail_connect();
	add_numbers(5, 1005);
	TURN_UNTIL(&worker, entry_count == 1000);
	assert_numbers(5, 1005);
	assert_true(batch_count >= 1000 / TAIL_BATCH);
	add_numbers(1005, 1006);
	TURN_UNTIL(&worker, entry_count == 1001);
	assert_int_equal(started_count, 1);
	assert_int_equal(recreated_count + trimmed_count, 0);
	tail_end();
}

static void add_two(void)
{
	add_numbers(5, 7);
}

static void tail_misses_nothing_between_start_and_first_read(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	add_numbers(0, 5);
	on_started = add_two;
	tail_connect();
	TURN_UNTIL(&worker, entry_count == 2);
	assert_numbers(5, 7);
	tail_end();
}

static void tail_waits_for_a_stream_that_does_not_exist(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	tail_connect();
	reconnect_and_settle();
	assert_int_equal(recreated_count, 0);
	add_numbers(0, 3);
	TURN_UNTIL(&worker, entry_count == 3);
	assert_numbers(0, 3);
	assert_int_equal(started_count, 1);
	tail_end();
}

static void tail_waits_while_the_key_is_no_stream(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	assert_string_equal(ASK(&server, "SET", "s", "text"), "OK");
	tail_begin(options_for(redis_server_endpoint(&server)));
	TURN_UNTIL(&worker, redis_tail_last_error(tail)[0]);
	assert_string_equal(redis_tail_last_error(tail), "XINFO was refused (WRONGTYPE)");
	assert_int_equal(started_count, 0);
	assert_string_equal(ASK(&server, "DEL", "s"), "1");
	TURN_UNTIL(&worker, redis_tail_is_ready(tail));
	assert_string_equal(redis_tail_last_error(tail), "");
	add_numbers(0, 1);
	TURN_UNTIL(&worker, entry_count == 1);
	/* And when it becomes something else later. */
	assert_string_equal(ASK(&server, "DEL", "s"), "1");
	assert_string_equal(ASK(&server, "SET", "s", "text"), "OK");
	TURN_UNTIL(&worker, !redis_tail_is_ready(tail));
	assert_string_equal(ASK(&server, "DEL", "s"), "1");
	TURN_UNTIL(&worker, redis_tail_is_ready(tail));
	assert_int_equal(recreated_count, 1);
	tail_end();
}

static void tail_says_why_it_may_not_read(void **state)
{
	struct tail_options options;

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	assert_string_equal(
		ASK(&server, "ACL", "SETUSER", "gateway", "on", ">secret", "+ping", "+xinfo", "~*"),
		"OK");
	options = options_for(redis_server_endpoint(&server));
	options.redis.username = SPAN("gateway");
	options.redis.password = SPAN("secret");
	tail_begin(options);
	TURN_UNTIL(&worker, strcmp(redis_tail_last_error(tail), "XREAD was refused (NOPERM)") == 0);
	assert_string_equal(ASK(&server, "ACL", "SETUSER", "gateway", "+xread"), "OK");
	add_numbers(0, 1);
	TURN_UNTIL(&worker, entry_count == 1);
	tail_end();
}

/* ── pauses ── */

static void tail_pauses_and_goes_on(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	tail_connect();
	on_entry = pause_tail;
	add_numbers(0, 2);
	TURN_UNTIL(&worker, entry_count >= 1);

	/* The batch in hand is given whole, then nothing. */
	size_t given = entry_count;

	add_numbers(2, 10);

	uint64_t until_ms = steady_ms() + 150;

	TURN_UNTIL(&worker, steady_ms() > until_ms);
	assert_int_equal(entry_count, given);
	assert_true(redis_tail_is_ready(tail));
	on_entry = NULL;
	/* A reconnect does not end the pause. */
	reconnect_and_settle();
	until_ms = steady_ms() + 100;
	TURN_UNTIL(&worker, steady_ms() > until_ms);
	assert_int_equal(entry_count, given);
	redis_tail_resume(tail);
	redis_tail_resume(tail);
	TURN_UNTIL(&worker, entry_count == 10);
	assert_numbers(0, 10);
	tail_end();
}

static void pause_and_resume_tail(void)
{
	redis_tail_pause(tail);
	redis_tail_resume(tail);
}

static void tail_may_be_paused_and_resumed_inside_any_callback(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	on_started = on_entry = on_batch_end = pause_and_resume_tail;
	tail_connect();
	add_numbers(0, 300);
	TURN_UNTIL(&worker, entry_count == 300);
	assert_numbers(0, 300);
	tail_end();
}

/* ── losses ── */

static void tail_reads_each_entry_once_over_reconnects(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	tail_connect();
	for (long round = 0; round < 10; round++) {
		size_t half = (size_t)round * 200 + 50;

		add_numbers(round * 200, round * 200 + 200);
		/* In the middle of the reading, too. */
		TURN_UNTIL(&worker, entry_count >= half);
		drop_connections();
	}
	TURN_UNTIL(&worker, entry_count == 2000);
	assert_numbers(0, 2000);
	assert_int_equal(recreated_count + trimmed_count, 0);
	tail_end();
}

static void tail_reads_on_after_a_restart_that_kept_the_data(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	redis_server_kill(&server);
	server.keeps_data = true;
	redis_server_run(&server, NULL);
	add_numbers(0, 3);
	tail_connect();
	add_numbers(3, 6);
	TURN_UNTIL(&worker, entry_count == 3);
	redis_server_kill(&server);
	TURN_UNTIL(&worker, !redis_tail_is_ready(tail));
	redis_server_run(&server, NULL);
	add_numbers(6, 9);
	TURN_UNTIL(&worker, entry_count == 6);
	assert_numbers(3, 9);
	assert_int_equal(recreated_count + trimmed_count, 0);
	assert_int_equal(started_count, 1);
	tail_end();
}

static void tail_begins_anew_when_the_data_is_gone(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	add_numbers(0, 3);
	tail_connect();
	redis_server_kill(&server);
	TURN_UNTIL(&worker, !redis_tail_is_ready(tail));
	redis_server_run(&server, NULL);
	add_numbers(0, 2);
	TURN_UNTIL(&worker, entry_count == 2);
	assert_numbers(0, 2);
	assert_int_equal(recreated_count, 1);
	/* Told once. */
	reconnect_and_settle();
	assert_int_equal(recreated_count, 1);
	assert_int_equal(trimmed_count, 0);
	tail_end();
}

static void tail_begins_anew_when_the_stream_was_recreated(void **state)
{
	static const struct {
		const char *id; /* of the new stream's one entry, NULL: none */
		size_t entries;
	} rows[] = {
		{"1-1", 1},
		{"*", 1},
		{NULL, 0},
	};

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ASK(&server, "DEL", "s");
		tail_connect();
		add_numbers(0, 5);
		TURN_UNTIL(&worker, entry_count == 5);
		pause_and_settle();
		assert_string_equal(ASK(&server, "DEL", "s"), "1");
		if (rows[i].id)
			ASK(&server, "XADD", "s", rows[i].id, "n", "77");
		reconnect_and_settle();
		assert_int_equal(recreated_count, 1);
		assert_int_equal(replayed_count, 0);
		redis_tail_resume(tail);
		TURN_UNTIL(&worker, entry_count == 5 + rows[i].entries);
		/* What was written before the loss was told; what comes now is news. */
		assert_int_equal(replayed_count, rows[i].entries);
		if (rows[i].entries)
			assert_int_equal(numbers[5], 77);
		add_numbers(78, 79);
		TURN_UNTIL(&worker, entry_count == 6 + rows[i].entries);
		assert_int_equal(replayed_count, rows[i].entries);
		assert_int_equal(recreated_count, 1);
		assert_int_equal(trimmed_count, 0);
		tail_end();
	}
}

static void tail_tells_a_gap_when_trimmed_past_it_only(void **state)
{
	static const struct {
		const char *keep;
		int trimmed;
		long first; /* number of the first one that is read afterwards */
	} rows[] = {
		{"8", 0, 5}, /* ours is still there */
		{"5", 0, 5}, /* exactly up to ours */
		{"4", 1, 6},
		{"1", 1, 9},
	};

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ASK(&server, "DEL", "s");
		add_numbers(0, 2);
		tail_connect();
		add_numbers(2, 5);
		TURN_UNTIL(&worker, entry_count == 3);
		pause_and_settle();
		add_numbers(5, 10);
		ASK(&server, "XTRIM", "s", "MAXLEN", rows[i].keep);
		reconnect_and_settle();
		assert_int_equal(trimmed_count, rows[i].trimmed);
		reconnect_and_settle();
		assert_int_equal(trimmed_count, rows[i].trimmed);
		redis_tail_resume(tail);
		TURN_UNTIL(&worker, entry_count == 3 + (size_t)(10 - rows[i].first));
		assert_int_equal(numbers[3], rows[i].first);
		assert_int_equal(numbers[entry_count - 1], 9);
		reconnect_and_settle();
		assert_int_equal(trimmed_count, rows[i].trimmed);
		assert_int_equal(recreated_count, 0);
		tail_end();
	}
}

static void tail_tells_of_a_gap_without_a_reconnect(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	tail_connect();
	add_numbers(0, 3);
	TURN_UNTIL(&worker, entry_count == 3);
	pause_and_settle();
	reconnect_and_settle();
	add_numbers(3, 10);
	ASK(&server, "XTRIM", "s", "MAXLEN", "2");
	pass_ten_seconds();
	redis_tail_resume(tail);
	TURN_UNTIL(&worker, trimmed_count == 1);
	assert_int_equal(entry_count, 5);
	assert_int_equal(numbers[3], 8);
	/* Told once. */
	reconnect_and_settle();
	assert_int_equal(trimmed_count, 1);
	assert_int_equal(recreated_count, 0);
	tail_end();
}

static void tail_notices_a_new_stream_without_a_reconnect(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	tail_connect();
	add_numbers(0, 3);
	TURN_UNTIL(&worker, entry_count == 3);
	assert_string_equal(ASK(&server, "DEL", "s"), "1");
	assert_string_equal(ASK(&server, "XADD", "s", "1-1", "n", "3"), "1-1");
	/* Ten seconds of idle reads, none of them late. */
	for (int i = 0; i < 8 && recreated_count == 0; i++) {
		uint64_t until_ms = steady_ms() + 150;

		TURN_UNTIL(&worker, steady_ms() > until_ms);
		ahead_us += 1500000;
	}
	TURN_UNTIL(&worker, entry_count == 4);
	assert_numbers(0, 4);
	assert_int_equal(recreated_count, 1);
	tail_end();
}

static void tail_takes_smaller_batches_when_one_is_over_the_limit(void **state)
{
	struct tail_options options;
	char large[4001];

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	options = options_for(redis_server_endpoint(&server));
	options.redis.limits =
		(struct resp_limits){.value_bytes_max = 20000, .items_max = 1000, .depth_max = 7};
	tail_begin(options);
	TURN_UNTIL(&worker, redis_tail_is_ready(tail));
	pause_and_settle();
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	for (int i = 0; i < 40; i++) {
		char text[24];

		snprintf(text, sizeof(text), "%d", i);
		ASK(&server, "XADD", "s", "*", "n", text, "large", large);
	}
	redis_tail_resume(tail);
	TURN_UNTIL(&worker, entry_count == 40);
	assert_numbers(0, 40);
	assert_int_equal(recreated_count + trimmed_count, 0);
	tail_end();
}

/* ── what no Redis would say ── */

#define NO_SUCH_KEY "-ERR no such key\r\n"

static void fake_begin(void)
{
	fake_open(&fake, &worker);
	tail_begin(options_for(fake_endpoint(&fake)));
	fake_greet(&fake);
	fake_expect(&fake, "$5\r\nXINFO\r\n$6\r\nSTREAM\r\n$1\r\ns\r\n");
	fake_say(&fake, NO_SUCH_KEY);
	fake_expect(&fake, "XREAD");
	fake_expect(&fake, "STREAMS\r\n$1\r\ns\r\n$3\r\n0-0\r\n");
	assert_int_equal(started_count, 1);
}

/* An answer with one entry of `id` and `body`. */
static void fake_say_entry(const char *id, const char *body)
{
	char text[4096];

	snprintf(text, sizeof(text), "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$%zu\r\n%s\r\n%s",
		 strlen(id), id, body);
	fake_say(&fake, text);
}

static void tail_hands_malformed_entries_over_without_fields(void **state)
{
	char wide[4096] = "", full[4096] = "";
	size_t wide_len = 0, full_len = 0;
	const struct {
		const char *body;
		int entries;
		size_t fields;
	} rows[] = {
		{"*2\r\n$1\r\nn\r\n$1\r\n1\r\n", 1, 1},
		{"*0\r\n", 1, 0},
		{"*3\r\n$1\r\nn\r\n$1\r\n1\r\n$1\r\nx\r\n", 1, 0},
		{"*2\r\n$1\r\nn\r\n:1\r\n", 1, 0},
		{"*2\r\n$1\r\nn\r\n$-1\r\n", 1, 0},
		{"*2\r\n*0\r\n$1\r\n1\r\n", 1, 0},
		{"$-1\r\n", 0, 0}, /* deleted */
		{"*-1\r\n", 0, 0},
		{wide, 1, 0},
		{full, 1, TAIL_FIELDS_MAX},
	};

	(void)state;
	wide_len = (size_t)snprintf(wide, sizeof(wide), "*%d\r\n", 2 * (TAIL_FIELDS_MAX + 1));
	full_len = (size_t)snprintf(full, sizeof(full), "*%d\r\n", 2 * TAIL_FIELDS_MAX);
	for (int i = 0; i < 2 * (TAIL_FIELDS_MAX + 1); i++)
		wide_len +=
			(size_t)snprintf(wide + wide_len, sizeof(wide) - wide_len, "$1\r\n7\r\n");
	for (int i = 0; i < 2 * TAIL_FIELDS_MAX; i++)
		full_len +=
			(size_t)snprintf(full + full_len, sizeof(full) - full_len, "$1\r\n7\r\n");
	fake_begin();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t before = entry_count;
		char id[24], next[64];

		snprintf(id, sizeof(id), "%zu-0", i + 1);
		snprintf(next, sizeof(next), "$1\r\ns\r\n$%zu\r\n%s\r\n", strlen(id), id);
		fake_say_entry(id, rows[i].body);
		/* Good or not, it is behind us. */
		fake_expect(&fake, next);
		assert_int_equal(entry_count - before, rows[i].entries);
		if (rows[i].entries)
			assert_int_equal(field_counts[before], rows[i].fields);
	}
	tail_end();
}

static void tail_asks_again_after_an_answer_that_is_no_stream(void **state)
{
	static const char *const rows[] = {
		"+OK\r\n",
		":1\r\n",
		"*0\r\n",
		"*1\r\n$1\r\ns\r\n",
		"*1\r\n*1\r\n$1\r\ns\r\n",
		"*1\r\n*2\r\n$1\r\ns\r\n$1\r\nx\r\n",
		"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n:1\r\n",
		"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*1\r\n$3\r\n1-1\r\n",
		"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$1\r\n1\r\n*0\r\n",	       /* no id */
		"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n0-0\r\n*0\r\n",      /* not after ours */
		"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n$1\r\nx\r\n", /* fields that are
										  none */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fake_begin();
		fake_say(&fake, rows[i]);
		fake_expect(&fake, "XINFO");
		assert_int_equal(entry_count, 0);
		assert_false(redis_tail_is_ready(tail));
		assert_string_equal(redis_tail_last_error(tail),
				    "XREAD gave what is no stream (malformed)");
		fake_say(&fake, "*1\r\n$1\r\nx\r\n");
		fake_expect(&fake, "XINFO");
		assert_string_equal(redis_tail_last_error(tail),
				    "XINFO gave what is no stream (malformed)");
		tail_end();
		fake_close(&fake);
	}
}

static void tail_hands_over_what_came_before_a_malformed_entry(void **state)
{
	(void)state;
	fake_begin();
	fake_say(&fake, "*1\r\n*2\r\n$1\r\ns\r\n*3\r\n"
			"*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nn\r\n$1\r\n4\r\n"
			"*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nn\r\n$1\r\n5\r\n"
			"*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\nn\r\n$1\r\n6\r\n");
	fake_expect(&fake, "XINFO");
	assert_int_equal(entry_count, 1);
	assert_int_equal(batch_count, 1);
	fake_say(&fake,
		 "*8\r\n$6\r\nlength\r\n:2\r\n$17\r\nlast-generated-id\r\n$3\r\n2-0\r\n"
		 "$13\r\nentries-added\r\n:2\r\n$11\r\nfirst-entry\r\n*2\r\n$3\r\n1-0\r\n*0\r\n");
	fake_expect(&fake, "$1\r\ns\r\n$3\r\n1-0\r\n");
	fake_say_entry("2-0", "*2\r\n$1\r\nn\r\n$1\r\n6\r\n");
	TURN_UNTIL(&worker, entry_count == 2);
	assert_int_equal(numbers[1], 6);
	assert_int_equal(recreated_count + trimmed_count, 0);
	tail_end();
}

static void tail_leaves_a_redis_that_does_not_answer(void **state)
{
	(void)state;
	fake_begin();

	uint64_t asked_ms = steady_ms();

	/* BLOCK and two seconds. */
	TURN_UNTIL(&worker, !redis_tail_is_ready(tail));
	assert_in_range(steady_ms() - asked_ms, 2000, 2500);
	fake_greet(&fake);
	fake_expect(&fake, "XINFO");
	/* Fewer at once, in case that there were too many. */
	fake_say(&fake, NO_SUCH_KEY);
	fake_expect(&fake, "COUNT\r\n$2\r\n16\r\n");
	fake_say(&fake, "*-1\r\n");
	fake_expect(&fake, "XREAD");
	fake_say_entry("1-0", "*2\r\n$1\r\nn\r\n$1\r\n1\r\n");
	fake_expect(&fake, "COUNT\r\n$2\r\n32\r\n");
	tail_end();
}

static void tail_that_is_never_idle_asks_again_all_the_same(void **state)
{
	(void)state;
	fake_begin();
	redis_tail_pause(tail);
	fake_say_entry("1-0", "*2\r\n$1\r\nn\r\n$1\r\n1\r\n");
	TURN_UNTIL(&worker, entry_count == 1);
	pass_ten_seconds();
	redis_tail_resume(tail);
	fake_expect(&fake, "STREAMS\r\n$1\r\ns\r\n$3\r\n1-0\r\n");
	fake_say_entry("2-0", "*2\r\n$1\r\nn\r\n$1\r\n2\r\n");
	fake_expect(&fake, "XINFO");
	assert_int_equal(entry_count, 2);
	tail_end();
}

/* ── stopping ── */

static void stop_tail(void)
{
	redis_tail_stop(tail, tail_note_gone, NULL);
	assert_false(tail_gone);
}

static void tail_stops_inside_any_callback(void **state)
{
	void (**const rows[])(void) = {&on_started, &on_entry, &on_batch_end, &on_lost};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fake_open(&fake, &worker);
		*rows[i] = stop_tail;
		tail_begin(options_for(fake_endpoint(&fake)));
		fake_greet(&fake);
		fake_expect(&fake, "XINFO");
		fake_say(&fake, NO_SUCH_KEY);
		if (rows[i] != &on_started) {
			fake_expect(&fake, "XREAD");
			fake_say(&fake, "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*0\r\n"
					"*2\r\n$3\r\n2-0\r\n*0\r\n");
		}
		if (rows[i] == &on_lost) {
			fake_expect(&fake, "XREAD");
			fake_greet(&fake);
			fake_expect(&fake, "XINFO");
			fake_say(&fake, NO_SUCH_KEY);
		}
		TURN_UNTIL(&worker, tail_gone);
		/* Nothing more was heard after it. */
		assert_int_equal(entry_count, rows[i] == &on_started ? 0
					      : rows[i] == &on_entry ? 1
								     : 2);
		assert_int_equal(batch_count, rows[i] == &on_batch_end || rows[i] == &on_lost);
		redis_tail_destroy(tail);
		tail = NULL;
		*rows[i] = NULL;
		fake_close(&fake);
	}
}

static void tail_stops_in_every_state(void **state)
{
	enum { UNSTARTED, DIALING, GREETING, ASKING, READING, HOLDING, RETRYING, WAITING, PLACES };

	(void)state;
	for (int place = UNSTARTED; place < PLACES; place++) {
		struct tail_options options;

		fake_open(&fake, &worker);
		options = options_for(fake_endpoint(&fake));
		if (place == UNSTARTED) {
			assert_int_equal(redis_tail_create(&tail, &worker, &options), 0);
			tail_gone = false;
		} else {
			tail_begin(options);
		}
		if (place == HOLDING)
			redis_tail_pause(tail);
		if (place == GREETING)
			fake_accept(&fake);
		if (place >= ASKING) {
			fake_greet(&fake);
			fake_expect(&fake, "XINFO");
		}
		if (place == READING || place == HOLDING)
			fake_say(&fake, NO_SUCH_KEY);
		if (place == READING)
			fake_expect(&fake, "XREAD");
		if (place == HOLDING)
			TURN_UNTIL(&worker, redis_tail_is_ready(tail));
		if (place == RETRYING) {
			fake_say(&fake, "-WRONGTYPE no\r\n");
			TURN_UNTIL(&worker, redis_tail_last_error(tail)[0]);
		}
		if (place == WAITING) {
			fake_hang_up(&fake);
			TURN_UNTIL(&worker, redis_tail_last_error(tail)[0]);
		}
		tail_end();
		fake_close(&fake);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TAIL_TEST(tail_reads_what_is_written_after_the_start),
		TAIL_TEST(tail_misses_nothing_between_start_and_first_read),
		TAIL_TEST(tail_waits_for_a_stream_that_does_not_exist),
		TAIL_TEST(tail_waits_while_the_key_is_no_stream),
		TAIL_TEST(tail_says_why_it_may_not_read),
		TAIL_TEST(tail_pauses_and_goes_on),
		TAIL_TEST(tail_may_be_paused_and_resumed_inside_any_callback),
		TAIL_TEST(tail_reads_each_entry_once_over_reconnects),
		TAIL_TEST(tail_reads_on_after_a_restart_that_kept_the_data),
		TAIL_TEST(tail_begins_anew_when_the_data_is_gone),
		TAIL_TEST(tail_begins_anew_when_the_stream_was_recreated),
		TAIL_TEST(tail_tells_a_gap_when_trimmed_past_it_only),
		TAIL_TEST(tail_tells_of_a_gap_without_a_reconnect),
		TAIL_TEST(tail_notices_a_new_stream_without_a_reconnect),
		TAIL_TEST(tail_takes_smaller_batches_when_one_is_over_the_limit),
		TAIL_TEST(tail_hands_malformed_entries_over_without_fields),
		TAIL_TEST(tail_asks_again_after_an_answer_that_is_no_stream),
		TAIL_TEST(tail_hands_over_what_came_before_a_malformed_entry),
		TAIL_TEST(tail_leaves_a_redis_that_does_not_answer),
		TAIL_TEST(tail_that_is_never_idle_asks_again_all_the_same),
		TAIL_TEST(tail_stops_inside_any_callback),
		TAIL_TEST(tail_stops_in_every_state),
	};

	return cmocka_run_group_tests_name("redis tail", tests, NULL, NULL);
}
