/* grpc: answers that are streams, the caller's metadata, backpressure. */
#include "unit/upstream/rig.h"

#define MESSAGES 200
#define BYTES	 10000 /* 2 MB in all: several windows */

struct listener_of_stream {
	struct upstream_call call;
	size_t messages, bytes;
	size_t cancels_at; /* message; 0: never */
	size_t pauses_at;
	bool in_order, done;
	struct upstream_result result;
	char text[64];
};

static void heard(struct upstream_call *call, struct span message)
{
	struct listener_of_stream *to = CONTAINER_OF(call, struct listener_of_stream, call);

	to->in_order &= message.len == BYTES && message.data[0] == 'a' + to->messages % 26 &&
			message.data[BYTES - 1] == message.data[0];
	to->messages++;
	to->bytes += message.len;
	if (to->messages == to->cancels_at)
		upstream_call_cancel(call);
	if (to->messages == to->pauses_at)
		upstream_call_pause(call);
}

static void ended(struct upstream_call *call, const struct upstream_result *result)
{
	struct listener_of_stream *to = CONTAINER_OF(call, struct listener_of_stream, call);

	assert_false(to->done);
	to->done = true;
	to->result = *result;
	snprintf(to->text, sizeof(to->text), "%.*s", SPAN_ARGS(result->message));
}

static void listen_to(struct rig *rig, struct listener_of_stream *to)
{
	static const struct upstream_header headers[] = {
		{{(const uint8_t *)"x-extra", 7}, {(const uint8_t *)"more", 4}},
		{{(const uint8_t *)"user-agent", 10}, {(const uint8_t *)"ringway/x tester", 16}},
	};
	struct payload *message = service_message(SPAN("ask"));
	const struct upstream_request request = {
		.path = SPAN("/a.B/Stream"),
		.message = message,
		.headers = headers,
		.header_count = 2,
		.message_received = heard,
	};

	to->in_order = true;
	assert_int_equal(upstream_call_start(rig->upstream, &to->call, ended, &request), 0);
	payload_put(message);
}

static void open_stream(struct rig *rig, size_t messages)
{
	rig_open(rig);
	rig->services[0].script = SCRIPT_STREAM;
	rig->services[0].stream_messages = messages;
	rig->services[0].large_bytes = BYTES;
}

static void every_message_is_told_then_the_end(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream to = {0};

	open_stream(rig, MESSAGES);
	listen_to(rig, &to);
	TURN_UNTIL(rig->worker, to.done);
	assert_int_equal(to.messages, MESSAGES);
	assert_true(to.in_order);
	assert_int_equal(to.result.outcome, UPSTREAM_OK);
	assert_string_equal(rig->services[0].last_extra, "more");
	assert_string_equal(rig->services[0].last_user_agent, "ringway/x tester");
}

static void stream_may_be_empty_and_may_end_badly(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream empty = {0}, bad = {0};

	open_stream(rig, 0);
	listen_to(rig, &empty);
	TURN_UNTIL(rig->worker, empty.done);
	assert_int_equal(empty.result.outcome, UPSTREAM_OK);
	assert_int_equal(empty.messages, 0);
	rig->services[0].stream_messages = 3;
	rig->services[0].status = GRPC_DATA_LOSS;
	rig->services[0].status_message = "half of it is gone";
	listen_to(rig, &bad);
	TURN_UNTIL(rig->worker, bad.done);
	assert_int_equal(bad.messages, 3);
	assert_int_equal(bad.result.outcome, UPSTREAM_STATUS);
	assert_int_equal(bad.result.status, GRPC_DATA_LOSS);
	assert_string_equal(bad.text, "half of it is gone");
}

/* A whole answer waits for its call, whatever becomes of the connection; and it may be cancelled. */
static void paused_answer_outlives_its_connection(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream to = {.pauses_at = 1}, left = {.pauses_at = 1},
				  stopped = {.pauses_at = 1};

	open_stream(rig, 4);
	listen_to(rig, &to);
	listen_to(rig, &left);
	listen_to(rig, &stopped);
	TURN_UNTIL(rig->worker, to.messages == 1 && left.messages == 1 && stopped.messages == 1);
	turns(rig, 10);
	service_close_peers(&rig->services[0]);
	turns(rig, 10);
	assert_false(to.done);
	assert_int_equal(to.messages, 1);
	to.pauses_at = 3;
	upstream_call_resume(&to.call);
	assert_int_equal(to.messages, 3);
	assert_false(to.done);
	upstream_call_resume(&to.call);
	assert_int_equal(to.messages, 4);
	assert_true(to.done && to.in_order);
	assert_int_equal(to.result.outcome, UPSTREAM_OK);
	left.cancels_at = 2;
	upstream_call_resume(&left.call);
	assert_int_equal(left.messages, 2);
	assert_false(left.done);
	rig_stop_upstream(rig);
	assert_int_equal(stopped.messages, 1);
	assert_int_equal(stopped.result.outcome, UPSTREAM_UNAVAILABLE);
}

/* Nor does it matter that nobody is there any more: it was its reader who took too long. */
static void paused_answer_runs_into_its_deadline_without_its_service_too(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream to = {.pauses_at = 1};

	open_stream(rig, 4);
	listen_to(rig, &to);
	TURN_UNTIL(rig->worker, to.messages == 1);
	turns(rig, 10);
	service_unlisten(&rig->services[0]);
	service_close_peers(&rig->services[0]);
	jump_ms(rig, 2010);
	assert_true(to.done);
	assert_int_equal(to.result.outcome, UPSTREAM_TIMEOUT);
}

/* It is paused by its last message: the end alone is left to tell. */
static void end_of_a_paused_answer_is_told_when_it_goes_on(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream to = {.pauses_at = 3};

	open_stream(rig, 3);
	listen_to(rig, &to);
	TURN_UNTIL(rig->worker, to.messages == 3);
	turns(rig, 10);
	assert_false(to.done);
	upstream_call_resume(&to.call);
	assert_true(to.done);
	assert_int_equal(to.result.outcome, UPSTREAM_OK);
}

/* No more than a stream's window comes while nobody takes it; nothing is lost. */
static void paused_stream_holds_its_service_back(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream to = {.pauses_at = 2}, other = {0};

	open_stream(rig, MESSAGES);
	listen_to(rig, &to);
	TURN_UNTIL(rig->worker, to.messages >= 2);
	turns(rig, 20);
	assert_false(to.done);
	size_t held = to.messages;

	assert_int_equal(held, 2);
	/* Others on the connection go on. */
	rig->services[0].stream_messages = 5;
	listen_to(rig, &other);
	TURN_UNTIL(rig->worker, other.done);
	assert_int_equal(other.messages, 5);
	upstream_call_resume(&to.call);
	TURN_UNTIL(rig->worker, to.done);
	assert_int_equal(to.messages, MESSAGES);
	assert_true(to.in_order);
}

static void stream_cancelled_inside_a_message_is_silent_and_gives_its_window_back(void **state)
{
	struct rig *rig = *state;

	open_stream(rig, MESSAGES);
	/* More than a connection's window, if what is cancelled kept its part. */
	for (int i = 0; i < 40; i++) {
		struct listener_of_stream to = {.cancels_at = i % 2 ? 1 : 0,
						.pauses_at = i % 2 ? 0 : 1};
		unsigned calls = rig->services[0].calls;

		listen_to(rig, &to);
		TURN_UNTIL(rig->worker, rig->services[0].calls > calls && to.messages >= 1);
		turns(rig, 5);
		upstream_call_cancel(&to.call);
		turns(rig, 2);
		assert_false(to.done);
	}
	struct listener_of_stream whole = {0};

	listen_to(rig, &whole);
	TURN_UNTIL(rig->worker, whole.done);
	assert_int_equal(whole.messages, MESSAGES);
}

/* Its connection lives, and the rest of what was held is there no more. */
static void stream_cancelled_inside_a_message_that_was_held_is_silent(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream to = {.pauses_at = 1}, whole = {0};

	open_stream(rig, MESSAGES);
	listen_to(rig, &to);
	TURN_UNTIL(rig->worker, to.messages == 1);
	turns(rig, 10);
	to.cancels_at = 2;
	upstream_call_resume(&to.call);
	assert_int_equal(to.messages, 2);
	listen_to(rig, &whole);
	TURN_UNTIL(rig->worker, whole.done);
	assert_int_equal(whole.messages, MESSAGES);
	assert_false(to.done);
	assert_int_equal(rig->services[0].connections, 1);
}

static void message_over_the_bound_ends_the_stream(void **state)
{
	struct rig *rig = *state;
	struct listener_of_stream to = {0};

	open_stream(rig, 1);
	rig->services[0].large_bytes = MESSAGE_MAX + 1;
	listen_to(rig, &to);
	TURN_UNTIL(rig->worker, to.done);
	assert_int_equal(to.result.outcome, UPSTREAM_MALFORMED);
	assert_int_equal(to.messages, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_message_is_told_then_the_end),
		TEST(stream_may_be_empty_and_may_end_badly),
		TEST(paused_answer_outlives_its_connection),
		TEST(paused_answer_runs_into_its_deadline_without_its_service_too),
		TEST(end_of_a_paused_answer_is_told_when_it_goes_on),
		TEST(paused_stream_holds_its_service_back),
		TEST(stream_cancelled_inside_a_message_is_silent_and_gives_its_window_back),
		TEST(stream_cancelled_inside_a_message_that_was_held_is_silent),
		TEST(message_over_the_bound_ends_the_stream),
	};

	return cmocka_run_group_tests_name("upstream/grpc_answers", tests, NULL, NULL);
}
