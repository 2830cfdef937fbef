#include "unit/redis/redis_rig.h"

#include "redis/client_internal.h"

static struct redis_server server;
static struct worker worker;
static struct fake fake = {.listener = -1, .peer = -1};
static int fds_before;

/* ── one client under test ── */

static struct redis_client *client;
static struct metric_registry *registry;
static int ready_count, lost_count;

static void changed(struct redis_client *of, bool ready, void *context)
{
	assert_true(of && context == &worker);
	if (ready)
		ready_count++;
	else
		lost_count++;
}

static struct redis_options options_for(struct endpoint endpoint)
{
	return (struct redis_options){
		.endpoint = endpoint,
		.connect_timeout_ms = 1000,
		.role = REDIS_SESSION,
		.metrics = registry,
	};
}

static void client_begin(struct redis_options options)
{
	ready_count = lost_count = 0;
	assert_int_equal(redis_client_create(&client, &worker, &options), 0);
	assert_false(redis_client_is_ready(client));
	redis_client_start(client, changed, &worker);
}

static void client_connect(void)
{
	client_begin(options_for(redis_server_endpoint(&server)));
	TURN_UNTIL(&worker, redis_client_is_ready(client));
	assert_int_equal(ready_count, 1);
}

static void client_connect_to_fake(void)
{
	fake_open(&fake, &worker);
	client_begin(options_for(fake_endpoint(&fake)));
	fake_greet(&fake);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
}

static void client_end(void)
{
	bool stopped = false;

	redis_client_stop(client, rig_set_true, &stopped);
	assert_false(stopped);
	TURN_UNTIL(&worker, stopped);
	redis_client_destroy(client);
	client = NULL;
}

static bool rendered(const char *line)
{
	struct buf out;

	buf_init(&out, 1u << 20);
	metric_render(registry, &out);
	assert_int_equal(buf_append_byte(&out, '\0'), 0);

	bool found = strstr((const char *)out.data, line) != NULL;

	if (!found)
		print_message("%s is not in:\n%s\n", line, (const char *)out.data);
	buf_finish(&out);
	return found;
}

/* ── calls that remember ── */

struct asked {
	struct redis_call call;
	uint32_t number;
	int answers;
	enum redis_outcome outcome;
	enum resp_type type;
	char text[48];
	uint64_t answered_ms;
};

/* Not on the stack: a test that fails leaves by a jump, and its calls must outlive it until the
 * client is stopped. */
static struct asked pool[2 * REDIS_IN_FLIGHT_MAX];
static size_t pool_used;

static struct asked *take(size_t count)
{
	struct asked *asked = &pool[pool_used];

	assert_true(count <= ARRAY_LEN(pool) - pool_used);
	pool_used += count;
	memset(asked, 0, count * sizeof(*asked));
	return asked;
}

static bool inside_start;
static uint32_t next_number; /* of the answer that must come next */

static void note_answer(struct redis_call *call, enum redis_outcome outcome,
			const struct resp_value *value)
{
	struct asked *asked = CONTAINER_OF(call, struct asked, call);

	assert_false(inside_start);
	assert_null(call->client);
	assert_int_equal(value != NULL, outcome == REDIS_REPLY || outcome == REDIS_REFUSED);
	asked->answers++;
	asked->outcome = outcome;
	asked->answered_ms = rig_now_ms();
	if (!value)
		return;
	asked->type = value->type;
	snprintf(asked->text, sizeof(asked->text), "%.*s", SPAN_ARGS(value->text));
}

static void expect_in_order(struct redis_call *call, enum redis_outcome outcome,
			    const struct resp_value *value)
{
	struct asked *asked = CONTAINER_OF(call, struct asked, call);

	note_answer(call, outcome, value);
	assert_int_equal(asked->number, next_number++);
}

static int start(struct asked *asked, redis_done_fn *done, uint32_t timeout_ms,
		 const char *const words[3])
{
	struct span args[3];
	size_t count = 0;

	while (count < 3 && words[count]) {
		args[count] = span_from_cstr(words[count]);
		count++;
	}

	const struct redis_command command = {
		.args = args,
		.count = count,
		.role = REDIS_REPLAY,
		.timeout_ms = timeout_ms,
	};

	inside_start = true;

	int code = redis_call_start(client, &asked->call, done, &command);

	inside_start = false;
	return code;
}

/* Deadlines count from the turn's time: make that now. */
static uint64_t fresh_now_ms(void)
{
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_equal(worker_turn(&worker, 0), 0);
	return rig_now_ms() - 1;
}

#define START(asked, timeout_ms, ...)                                                              \
	start((asked), note_answer, (timeout_ms), (const char *const[3]){__VA_ARGS__})

static int set_up(void **state)
{
	(void)state;
	pool_used = 0;
	fds_before = rig_fd_count();
	registry = metric_registry_create();
	assert_non_null(registry);
	rig_worker_init(&worker, worker_clock_system);
	return 0;
}

/* No test may leave a descriptor or an operation behind. */
static int tear_down(void **state)
{
	(void)state;
	/* Left by a test that failed. */
	if (client)
		client_end();
	fake_close(&fake);
	redis_server_finish(&server);
	rig_worker_finish(&worker);
	metric_registry_destroy(registry);
	assert_int_equal(rig_fd_count(), fds_before);
	return 0;
}

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
	size_t large_bytes = 1u << 20;
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

	uint64_t killed_ms = rig_now_ms();

	TURN_UNTIL(&worker, asked[0].answers == 1);
	assert_true(rig_now_ms() - killed_ms < 100);
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
	assert_in_range(rig_now_ms() - asked_ms, 1000, 1600);
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

/* ── greeting ── */

static void client_greets_as_it_is_told(void **state)
{
	static const struct {
		const char *user, *password;
		uint32_t db;
		const char *error; /* NULL: ready */
	} rows[] = {
		{"", "secret-one", 0, NULL},
		{"default", "secret-one", 0, NULL},
		{"gateway", "secret-two", 0, NULL},
		{"gateway", "secret-two", 3, NULL},
		{"free", "", 0, NULL},
		{"", "wrong-secret", 0,
		 "Redis refused the user name or the password (AUTH: WRONGPASS)"},
		{"gateway", "wrong-secret", 0,
		 "Redis refused the user name or the password (AUTH: WRONGPASS)"},
		{"nobody", "secret-one", 0,
		 "Redis refused the user name or the password (AUTH: WRONGPASS)"},
		{"", "", 0, "Redis asks for a password and none is configured (PING: NOAUTH)"},
		{"", "secret-one", 99, "Redis has no database 99"},
		{"narrow", "secret-three", 0, "the Redis user lacks permission (PING: NOPERM)"},
		{"narrow", "secret-three", 3, "the Redis user lacks permission (SELECT: NOPERM)"},
	};

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	assert_string_equal(ASK(&server, "ACL", "SETUSER", "gateway", "on", ">secret-two", "+get",
				"+set", "+ping", "+select", "~*"),
			    "OK");
	assert_string_equal(ASK(&server, "ACL", "SETUSER", "narrow", "on", ">secret-three", "+get"),
			    "OK");
	assert_string_equal(ASK(&server, "ACL", "SETUSER", "free", "on", "nopass", "+ping"), "OK");
	assert_string_equal(ASK(&server, "CONFIG", "SET", "requirepass", "secret-one"), "OK");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct redis_options options = options_for(redis_server_endpoint(&server));

		options.username = span_from_cstr(rows[i].user);
		options.password = span_from_cstr(rows[i].password);
		options.db = rows[i].db;
		client_begin(options);
		if (!rows[i].error) {
			struct asked *asked = take(1);

			TURN_UNTIL(&worker, redis_client_is_ready(client));
			if (rows[i].db) {
				assert_int_equal(START(asked, 1000, "SET", "here", "yes"), 0);
				TURN_UNTIL(&worker, asked->answers == 1);
				assert_string_equal(asked->text, "OK");
				assert_string_equal(ASK(&server, "SELECT", "3"), "OK");
				assert_string_equal(ASK(&server, "GET", "here"), "yes");
				assert_string_equal(ASK(&server, "SELECT", "0"), "OK");
			}
		} else {
			TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
			assert_string_equal(redis_client_last_error(client), rows[i].error);
			/* It goes on trying. */
			TURN_UNTIL(&worker, metric_value(&client->metrics.reconnects) >= 2);
			assert_int_equal(ready_count, 0);
			assert_int_equal(lost_count, 0);
		}
		client_end();
	}
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

/* ── broken peers ── */

static void client_gives_up_a_greeting_in_its_time(void **state)
{
	struct redis_options options;

	(void)state;
	fake_open(&fake, &worker);
	options = options_for(fake_endpoint(&fake));
	options.connect_timeout_ms = 100;
	client_begin(options);
	fake_accept(&fake);

	uint64_t accepted_ms = rig_now_ms();

	TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
	assert_in_range(rig_now_ms() - accepted_ms, 50, 300);
	assert_string_equal(redis_client_last_error(client),
			    "Redis accepted the connection but did not answer in time");
	client_end();
	fake_close(&fake);
}

static void client_refuses_a_greeting_that_is_none(void **state)
{
	static const struct {
		const char *said, *error;
	} rows[] = {
		{"HTTP/1.1 400 Bad Request\r\n\r\n",
		 "Redis sent what is no answer, or one over the limit"},
		{"+HELLO\r\n", "what answers there is not Redis"},
		{":1\r\n", "what answers there is not Redis"},
		{"-LOADING Redis is loading the dataset in memory\r\n",
		 "Redis is loading its data (PING: LOADING)"},
		{"-ERR max number of clients reached\r\n", "Redis refused PING (ERR)"},
		{"-DENIED Redis is running in protected mode\r\n",
		 "Redis is in protected mode (PING: DENIED)"},
		{"-ERR unknown command `PING`, with args beginning with: `secret`\r\n",
		 "Redis refused PING (ERR)"},
	};

	(void)state;
	fake_open(&fake, &worker);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		client_begin(options_for(fake_endpoint(&fake)));
		fake_accept(&fake);
		fake_expect(&fake, "PING\r\n");
		fake_say(&fake, rows[i].said);
		TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
		assert_string_equal(redis_client_last_error(client), rows[i].error);
		assert_int_equal(ready_count, 0);
		client_end();
	}
	fake_close(&fake);
}

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

static void client_hears_of_half_an_answer_and_an_end(void **state)
{
	struct asked *asked = take(1);

	(void)state;
	client_connect_to_fake();
	assert_int_equal(START(asked, 5000, "GET", "a"), 0);
	fake_expect(&fake, "GET\r\n");
	fake_say(&fake, "$5\r\nhel");
	fake_hang_up(&fake);

	uint64_t hung_up_ms = rig_now_ms();

	TURN_UNTIL(&worker, asked->answers == 1);
	assert_int_equal(asked->outcome, REDIS_LOST);
	assert_string_equal(redis_client_last_error(client), "closed by Redis");
	/* The first try after a loss comes within 100 ms. */
	fake_greet(&fake);
	assert_true(rig_now_ms() - hung_up_ms <= 150);
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
	assert_in_range(rig_now_ms() - asked_ms, 1200, 1700);
	assert_string_equal(redis_client_last_error(client), "Redis has stopped answering");
	fake_greet(&fake);
	TURN_UNTIL(&worker, ready_count == 2);

	/* Any byte is a sign of life; an answered pipeline waits for nothing. */
	asked_ms = fresh_now_ms();
	assert_int_equal(START(&asked[0], 5, "GET", "a"), 0);
	fake_expect(&fake, "a\r\n");
	TURN_UNTIL(&worker, rig_now_ms() - asked_ms > 700);
	fake_say(&fake, "$");
	TURN_UNTIL(&worker, rig_now_ms() - asked_ms > 1400);
	assert_int_equal(lost_count, 1);
	fake_say(&fake, "-1\r\n");
	TURN_UNTIL(&worker, pipeline_is_empty(&client->pipeline));
	TURN_UNTIL(&worker, rig_now_ms() - asked_ms > 2700);
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

/* ── pure parts ── */

static void jitter_keeps_within_its_bounds(void **state)
{
	static const uint32_t bases_ms[] = {100, 200, 400, 800, 1600, 2000, 2000, 2000};
	uint64_t random = jitter_seed();

	(void)state;
	assert_true(random != 0);
	for (uint32_t tries = 0; tries < ARRAY_LEN(bases_ms); tries++) {
		uint32_t least = UINT32_MAX, most = 0;

		for (int i = 0; i < 2000; i++) {
			uint32_t after_ms = jitter_backoff_ms(&random, tries);

			least = after_ms < least ? after_ms : least;
			most = after_ms > most ? after_ms : most;
		}
		assert_in_range(least, bases_ms[tries] / 2, bases_ms[tries] / 2 + 20);
		assert_in_range(most, bases_ms[tries] - 20, bases_ms[tries]);
	}
	assert_in_range(jitter_backoff_ms(&random, UINT32_MAX), 1000, 2000);
}

static void pipeline_keeps_order_while_it_grows(void **state)
{
	struct pipeline pipeline;
	uint64_t expected = 0, pushed = 0;

	(void)state;
	pipeline_init(&pipeline);
	assert_null(pipeline_oldest(&pipeline));
	/* Three in, one out: it grows with its start at every offset. */
	while (pipeline.next - pipeline.first < REDIS_IN_FLIGHT_MAX) {
		for (int i = 0; i < 3 && pipeline.next - pipeline.first < REDIS_IN_FLIGHT_MAX;
		     i++) {
			assert_int_equal(pipeline_reserve(&pipeline), 0);
			assert_int_equal(pipeline_push(&pipeline,
						       (struct pipeline_entry){.sent_ms = pushed}),
					 pushed);
			pushed++;
		}
		if (pipeline.next - pipeline.first == REDIS_IN_FLIGHT_MAX)
			break;
		assert_int_equal(pipeline_oldest(&pipeline)->sent_ms, expected);
		assert_int_equal(pipeline_pop(&pipeline).sent_ms, expected++);
	}
	assert_int_equal(pipeline_reserve(&pipeline), -ENOBUFS);
	while (!pipeline_is_empty(&pipeline))
		assert_int_equal(pipeline_pop(&pipeline).sent_ms, expected++);
	assert_int_equal(expected, pushed);
	pipeline_finish(&pipeline);
}

#define CLIENT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
		CLIENT_TEST(client_greets_as_it_is_told),
		CLIENT_TEST(client_says_when_nobody_listens),
		CLIENT_TEST(client_gives_up_a_greeting_in_its_time),
		CLIENT_TEST(client_refuses_a_greeting_that_is_none),
		CLIENT_TEST(client_drops_a_peer_that_breaks_the_protocol),
		CLIENT_TEST(client_reads_answers_cut_anywhere),
		CLIENT_TEST(client_hears_of_half_an_answer_and_an_end),
		CLIENT_TEST(client_forgets_late_and_cancelled_calls_but_not_their_places),
		CLIENT_TEST(client_lets_one_answer_cancel_another),
		CLIENT_TEST(client_bears_silence_in_proportion),
		CLIENT_TEST(client_dials_again_after_a_failover_but_not_for_ever),
		CLIENT_TEST(client_stops_inside_any_callback),
		CLIENT_TEST(client_stops_when_it_hears_of_a_change),
		CLIENT_TEST(client_stops_in_every_state),
		cmocka_unit_test(jitter_keeps_within_its_bounds),
		cmocka_unit_test(pipeline_keeps_order_while_it_grows),
	};

	return cmocka_run_group_tests_name("redis client", tests, NULL, NULL);
}
