/* client_rig: one client under test, calls that remember their answers, a server or a scripted
 * peer. */
#ifndef TESTS_CLIENT_RIG_H
#define TESTS_CLIENT_RIG_H

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

static inline void changed(struct redis_client *of, bool ready, void *context)
{
	assert_true(of && context == &worker);
	if (ready)
		ready_count++;
	else
		lost_count++;
}

static inline struct redis_options options_for(struct endpoint endpoint)
{
	return (struct redis_options){
		.endpoint = endpoint,
		.connect_timeout_ms = 1000,
		.role = REDIS_SESSION,
		.metrics = registry,
	};
}

static inline void client_begin(struct redis_options options)
{
	ready_count = lost_count = 0;
	assert_int_equal(redis_client_create(&client, &worker, &options), 0);
	assert_false(redis_client_is_ready(client));
	redis_client_start(client, changed, &worker);
}

static inline void client_connect(void)
{
	client_begin(options_for(redis_server_endpoint(&server)));
	TURN_UNTIL(&worker, redis_client_is_ready(client));
	assert_int_equal(ready_count, 1);
}

static inline void client_connect_to_fake(void)
{
	fake_open(&fake, &worker);
	client_begin(options_for(fake_endpoint(&fake)));
	fake_greet(&fake);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
}

static inline void client_end(void)
{
	bool stopped = false;

	redis_client_stop(client, rig_set_true, &stopped);
	assert_false(stopped);
	TURN_UNTIL(&worker, stopped);
	redis_client_destroy(client);
	client = NULL;
}

static inline bool rendered(const char *line)
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

static inline struct asked *take(size_t count)
{
	struct asked *asked = &pool[pool_used];

	assert_true(count <= ARRAY_LEN(pool) - pool_used);
	pool_used += count;
	memset(asked, 0, count * sizeof(*asked));
	return asked;
}

static bool inside_start;
static uint32_t next_number; /* of the answer that must come next */

static inline void note_answer(struct redis_call *call, enum redis_outcome outcome,
			       const struct resp_value *value)
{
	struct asked *asked = CONTAINER_OF(call, struct asked, call);

	assert_false(inside_start);
	assert_null(call->client);
	assert_int_equal(value != NULL, outcome == REDIS_REPLY || outcome == REDIS_REFUSED);
	asked->answers++;
	asked->outcome = outcome;
	asked->answered_ms = steady_ms();
	if (!value)
		return;
	asked->type = value->type;
	snprintf(asked->text, sizeof(asked->text), "%.*s", SPAN_ARGS(value->text));
}

static inline void expect_in_order(struct redis_call *call, enum redis_outcome outcome,
				   const struct resp_value *value)
{
	struct asked *asked = CONTAINER_OF(call, struct asked, call);

	note_answer(call, outcome, value);
	assert_int_equal(asked->number, next_number++);
}

static inline int start(struct asked *asked, redis_done_fn *done, uint32_t timeout_ms,
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
static inline uint64_t fresh_now_ms(void)
{
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_equal(worker_turn(&worker, 0), 0);
	return steady_ms() - 1;
}

#define START(asked, timeout_ms, ...)                                                              \
	start((asked), note_answer, (timeout_ms), (const char *const[3]){__VA_ARGS__})

static inline int set_up(void **state)
{
	(void)state;
	pool_used = 0;
	fds_before = descriptor_count();
	registry = metric_registry_create();
	assert_non_null(registry);
	rig_worker_init(&worker, worker_clock_system);
	return 0;
}

/* No test may leave a descriptor or an operation behind. */
static inline int tear_down(void **state)
{
	(void)state;
	/* Left by a test that failed. */
	if (client)
		client_end();
	fake_close(&fake);
	redis_server_finish(&server);
	rig_worker_finish(&worker);
	metric_registry_destroy(registry);
	assert_int_equal(descriptor_count(), fds_before);
	return 0;
}

#define CLIENT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
