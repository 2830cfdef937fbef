/* The circuit breaker on a clock of its own. */
#include "unit/upstream/rig.h"

#include "upstream/breaker.h"

static const struct config_breaker config = {
	.enabled = true,
	.failures = 3,
	.ratio = 50,
	.calls = 10,
	.window_ms = 1000,
	.open_ms = 200,
};

struct desk {
	struct breaker breaker;
	uint64_t now_ms;
};

static struct desk desk_make(const struct config_breaker *of)
{
	struct desk desk = {.now_ms = 1000000};

	breaker_init(&desk.breaker, of);
	return desk;
}

/* One call after the other: whether it was admitted. */
static bool ends(struct desk *desk, enum breaker_verdict verdict)
{
	uint32_t pass = breaker_admit(&desk->breaker, desk->now_ms);

	if (pass)
		breaker_report(&desk->breaker, pass, verdict, desk->now_ms);
	return pass != 0;
}

static void repeat(struct desk *desk, enum breaker_verdict verdict, int times)
{
	for (int i = 0; i < times; i++)
		assert_true(ends(desk, verdict));
}

static enum breaker_state state_of(const struct desk *desk)
{
	return (enum breaker_state)desk->breaker.state;
}

static struct desk desk_open(void)
{
	struct desk desk = desk_make(&config);

	repeat(&desk, BREAKER_FAILED, 3);
	assert_int_equal(state_of(&desk), BREAKER_OPEN);
	return desk;
}

static void failures_in_a_row_open_it_and_one_less_does_not(void **state)
{
	struct desk desk = desk_make(&config);

	(void)state;
	for (int i = 0; i < 2; i++) {
		repeat(&desk, BREAKER_FAILED, 2);
		assert_int_equal(state_of(&desk), BREAKER_CLOSED);
		repeat(&desk, BREAKER_ANSWERED, 1);
	}
	repeat(&desk, BREAKER_FAILED, 3);
	assert_int_equal(state_of(&desk), BREAKER_OPEN);
	assert_false(ends(&desk, BREAKER_ANSWERED));
}

static void ratio_opens_it_once_enough_have_ended(void **state)
{
	struct desk desk = desk_make(&config);

	(void)state;
	for (int i = 0; i < 4; i++) {
		repeat(&desk, BREAKER_ANSWERED, 1);
		repeat(&desk, BREAKER_FAILED, 1);
		desk.now_ms += 50;
	}
	assert_int_equal(state_of(&desk), BREAKER_CLOSED); /* 4 of 8 */
	repeat(&desk, BREAKER_ANSWERED, 1);
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
	repeat(&desk, BREAKER_FAILED, 1); /* 5 of 10 */
	assert_int_equal(state_of(&desk), BREAKER_OPEN);
}

static void ratio_below_the_bound_never_opens_it(void **state)
{
	struct desk desk = desk_make(&config);

	(void)state;
	for (int i = 0; i < 1000; i++) {
		repeat(&desk, BREAKER_ANSWERED, 2);
		repeat(&desk, BREAKER_FAILED, 1);
		desk.now_ms += 7;
	}
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
}

static void what_left_the_window_is_forgotten(void **state)
{
	static const uint64_t pauses_ms[] = {1000, 1100, 5000, 86400000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pauses_ms); i++) {
		struct desk desk = desk_make(&config);

		for (int j = 0; j < 4; j++) {
			repeat(&desk, BREAKER_ANSWERED, 1);
			repeat(&desk, BREAKER_FAILED, 1);
		}
		desk.now_ms += pauses_ms[i];
		repeat(&desk, BREAKER_ANSWERED, 1);
		repeat(&desk, BREAKER_FAILED, 1);
		assert_int_equal(state_of(&desk), BREAKER_CLOSED);
	}

	struct desk desk = desk_make(&config);

	for (int j = 0; j < 4; j++) {
		repeat(&desk, BREAKER_ANSWERED, 1);
		repeat(&desk, BREAKER_FAILED, 1);
	}
	desk.now_ms += 899; /* still within */
	repeat(&desk, BREAKER_ANSWERED, 1);
	repeat(&desk, BREAKER_FAILED, 1);
	assert_int_equal(state_of(&desk), BREAKER_OPEN);
}

static void open_one_refuses_until_its_time_then_lets_one_probe_pass(void **state)
{
	struct desk desk = desk_open();

	(void)state;
	desk.now_ms += 199;
	assert_int_equal(breaker_admit(&desk.breaker, desk.now_ms), 0);
	desk.now_ms += 1;

	uint32_t probe = breaker_admit(&desk.breaker, desk.now_ms);

	assert_int_not_equal(probe, 0);
	assert_int_equal(state_of(&desk), BREAKER_HALF_OPEN);
	for (int i = 0; i < 5; i++)
		assert_int_equal(breaker_admit(&desk.breaker, desk.now_ms + 10000), 0);
	assert_true(breaker_report(&desk.breaker, probe, BREAKER_ANSWERED, desk.now_ms));
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
	/* with nothing left of what opened it */
	repeat(&desk, BREAKER_FAILED, 2);
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
}

static void failed_probe_opens_it_for_as_long_again(void **state)
{
	struct desk desk = desk_open();

	(void)state;
	for (int i = 0; i < 3; i++) {
		desk.now_ms += 200;
		assert_true(ends(&desk, BREAKER_FAILED));
		assert_int_equal(state_of(&desk), BREAKER_OPEN);
		desk.now_ms += 199;
		assert_false(ends(&desk, BREAKER_FAILED));
		desk.now_ms -= 199;
	}
}

static void probe_that_tells_nothing_leaves_room_for_the_next(void **state)
{
	struct desk desk = desk_open();

	(void)state;
	desk.now_ms += 200;
	for (int i = 0; i < 3; i++) {
		assert_true(ends(&desk, BREAKER_UNTOLD));
		assert_int_equal(state_of(&desk), BREAKER_HALF_OPEN);
	}
	assert_true(ends(&desk, BREAKER_ANSWERED));
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
}

static void calls_from_before_it_opened_tell_nothing_after(void **state)
{
	struct desk desk = desk_make(&config);
	uint32_t old[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(old); i++)
		old[i] = breaker_admit(&desk.breaker, desk.now_ms);
	repeat(&desk, BREAKER_FAILED, 3);
	assert_false(breaker_report(&desk.breaker, old[0], BREAKER_ANSWERED, desk.now_ms));
	assert_int_equal(state_of(&desk), BREAKER_OPEN);
	desk.now_ms += 200;

	uint32_t probe = breaker_admit(&desk.breaker, desk.now_ms);

	assert_false(breaker_report(&desk.breaker, old[1], BREAKER_ANSWERED, desk.now_ms));
	assert_false(breaker_report(&desk.breaker, old[2], BREAKER_FAILED, desk.now_ms));
	assert_int_equal(state_of(&desk), BREAKER_HALF_OPEN);
	assert_true(breaker_report(&desk.breaker, probe, BREAKER_ANSWERED, desk.now_ms));
	for (size_t i = 3; i < ARRAY_LEN(old); i++)
		assert_false(breaker_report(&desk.breaker, old[i], BREAKER_FAILED, desk.now_ms));
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
}

static void hope_brings_the_probe_forward(void **state)
{
	struct desk desk = desk_open();

	(void)state;
	breaker_hope(&desk.breaker);
	assert_true(ends(&desk, BREAKER_ANSWERED));
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
	breaker_hope(&desk.breaker);
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
}

static void untold_ends_neither_open_it_nor_break_a_row(void **state)
{
	struct desk desk = desk_make(&config);

	(void)state;
	repeat(&desk, BREAKER_UNTOLD, 100);
	repeat(&desk, BREAKER_FAILED, 2);
	repeat(&desk, BREAKER_UNTOLD, 1);
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
	repeat(&desk, BREAKER_FAILED, 1);
	assert_int_equal(state_of(&desk), BREAKER_OPEN);
}

static void one_that_is_off_admits_everything(void **state)
{
	struct config_breaker off = config;
	struct desk desk = desk_make(&off);

	(void)state;
	off.enabled = false;
	repeat(&desk, BREAKER_FAILED, 1000);
	assert_int_equal(state_of(&desk), BREAKER_CLOSED);
}

/* ---- in the pool ---- */

static const struct config_breaker pool_config = {
	.enabled = true,
	.failures = 3,
	.ratio = 100,
	.calls = 1000,
	.window_ms = 600000,
	.open_ms = 50000, /* passes only by jump_ms */
};

static void rig_open_with_breaker(struct rig *rig, enum script script)
{
	rig_services(rig, 1);
	rig->config.breaker = pool_config;
	rig->services[0].script = script;
	rig_start(rig);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
}

/* After as many calls as would open it. */
static bool is_refused_at_once(struct rig *rig, size_t index)
{
	unsigned before = rig->services[0].calls;
	int code = start(rig, index);

	if (code == 0) {
		upstream_call_cancel(&rig->calls[index].call);
		return false;
	}
	assert_int_equal(code, -UPSTREAM_UNAVAILABLE);
	assert_int_equal(rig->services[0].calls, before);
	return true;
}

static void errors_of_the_application_never_open_it(void **state)
{
	static const enum grpc_status statuses[] = {
		GRPC_CANCELLED,		 GRPC_UNKNOWN,
		GRPC_INVALID_ARGUMENT,	 GRPC_DEADLINE_EXCEEDED,
		GRPC_NOT_FOUND,		 GRPC_PERMISSION_DENIED,
		GRPC_RESOURCE_EXHAUSTED, GRPC_FAILED_PRECONDITION,
		GRPC_UNIMPLEMENTED,	 GRPC_INTERNAL,
		GRPC_DATA_LOSS,
	};
	struct rig *rig = *state;
	size_t index = 0;

	rig_open_with_breaker(rig, SCRIPT_STATUS);
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		rig->services[0].status = statuses[i];
		for (int j = 0; j < 4; j++)
			assert_int_equal(call_once(rig, index++).outcome, UPSTREAM_STATUS);
	}
	assert_false(is_refused_at_once(rig, index));
	assert_true(
		has_metric(rig, "upstream_breaker_state{upstream=\"fleet\",state=\"closed\"} 1\n"));
	assert_true(has_metric(rig, "upstream_breaker_opened_total{upstream=\"fleet\"} 0\n"));
}

static void what_fails_on_the_way_opens_it(void **state)
{
	static const struct {
		enum script script;
		enum upstream_outcome outcome;
	} rows[] = {
		{SCRIPT_STATUS, UPSTREAM_STATUS}, /* UNAVAILABLE */
		{SCRIPT_HTTP_ERROR, UPSTREAM_STATUS},
		{SCRIPT_RESET, UPSTREAM_STATUS},
		{SCRIPT_REFUSE, UPSTREAM_UNAVAILABLE},
	};
	struct rig *rig = *state;

	rig_open_with_breaker(rig, SCRIPT_ECHO);
	rig->services[0].status = GRPC_UNAVAILABLE;
	rig->services[0].reset_code = H2_INTERNAL_ERROR;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		rig->services[0].script = rows[i].script;
		for (size_t j = 0; j < 3; j++) {
			memset(&rig->calls[j], 0, sizeof(rig->calls[j]));
			assert_int_equal(call_once(rig, j).outcome, rows[i].outcome);
		}
		assert_true(is_refused_at_once(rig, 3));

		/* a probe after its time, one alone, closes it */
		rig->services[0].script = SCRIPT_ECHO;
		jump_ms(rig, 50100);
		memset(&rig->calls[4], 0, sizeof(rig->calls[4]));
		assert_int_equal(start(rig, 4), 0);
		assert_true(is_refused_at_once(rig, 5));
		TURN_UNTIL(rig->worker, rig->calls[4].done);
		assert_int_equal(rig->calls[4].result.outcome, UPSTREAM_OK);
		memset(&rig->calls[5], 0, sizeof(rig->calls[5]));
		assert_int_equal(call_once(rig, 5).outcome, UPSTREAM_OK);
	}
	assert_true(has_metric(rig, "upstream_breaker_opened_total{upstream=\"fleet\"} 4\n"));
	assert_true(has_metric(rig, "upstream_breaker_refused_total{upstream=\"fleet\"} 8\n"));
	assert_true(
		has_metric(rig, "upstream_breaker_state{upstream=\"fleet\",state=\"closed\"} 1\n"));
}

static void silence_for_the_whole_deadline_opens_it_and_impatience_does_not(void **state)
{
	struct rig *rig = *state;

	rig_open_with_breaker(rig, SCRIPT_HANG);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(start_sized(rig, i, 1, 100), 0);
	jump_ms(rig, 110);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(rig->calls[i].result.outcome, UPSTREAM_TIMEOUT);
	assert_false(is_refused_at_once(rig, 5));
	for (size_t i = 6; i < 9; i++)
		assert_int_equal(start(rig, i), 0);
	jump_ms(rig, 2010);
	for (size_t i = 6; i < 9; i++)
		assert_int_equal(rig->calls[i].result.outcome, UPSTREAM_TIMEOUT);
	assert_true(is_refused_at_once(rig, 9));
	assert_true(
		has_metric(rig, "upstream_breaker_state{upstream=\"fleet\",state=\"open\"} 1\n"));
}

static void callers_that_leave_tell_nothing(void **state)
{
	struct rig *rig = *state;

	rig_open_with_breaker(rig, SCRIPT_HANG);
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(start(rig, i), 0);
		turns(rig, 2);
		upstream_call_cancel(&rig->calls[i].call);
	}
	assert_false(is_refused_at_once(rig, 20));
}

static void heard_and_paused(struct upstream_call *call, struct span message)
{
	(void)message;
	upstream_call_pause(call);
}

/* Its client takes no more than the first message. */
static void start_stream(struct rig *rig, size_t index)
{
	struct payload *message = service_message(SPAN("ask"));
	const struct upstream_request request = {
		.path = SPAN(PATH),
		.message = message,
		.message_received = heard_and_paused,
	};

	assert_int_equal(
		upstream_call_start(rig->upstream, &rig->calls[index].call, call_done, &request),
		0);
	payload_put(message);
}

static void rig_answer_by_streams(struct rig *rig)
{
	rig->services[0].script = SCRIPT_STREAM;
	rig->services[0].stream_messages = 3;
	rig->services[0].large_bytes = 100;
}

/* A service that answers is there, however long its answers and however slow their readers. */
static void streams_that_outlive_the_deadline_do_not_open_it(void **state)
{
	struct rig *rig = *state;

	rig_open_with_breaker(rig, SCRIPT_STREAM);
	rig_answer_by_streams(rig);
	for (size_t i = 0; i < 5; i++)
		start_stream(rig, i);
	jump_ms(rig, 2010);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(rig->calls[i].result.outcome, UPSTREAM_TIMEOUT);
	assert_false(is_refused_at_once(rig, 5));
}

static void probe_whose_answer_goes_on_lets_the_others_pass(void **state)
{
	struct rig *rig = *state;

	rig_open_with_breaker(rig, SCRIPT_STATUS);
	rig->services[0].status = GRPC_UNAVAILABLE;
	for (size_t i = 0; i < 3; i++)
		call_once(rig, i);
	assert_true(is_refused_at_once(rig, 3));
	rig->services[0].status = GRPC_OK;
	rig_answer_by_streams(rig);
	jump_ms(rig, 50100);
	start_stream(rig, 4);
	assert_true(is_refused_at_once(rig, 5)); /* not heard yet */
	turns(rig, 10);
	assert_false(rig->calls[4].done);
	assert_false(is_refused_at_once(rig, 6));
	/* its end says nothing any more */
	jump_ms(rig, 2010);
	assert_int_equal(rig->calls[4].result.outcome, UPSTREAM_TIMEOUT);
	assert_true(
		has_metric(rig, "upstream_breaker_state{upstream=\"fleet\",state=\"closed\"} 1\n"));
}

static void new_connection_is_reason_for_a_probe_at_once(void **state)
{
	struct rig *rig = *state;

	static const struct config_breaker long_open = {
		.enabled = true,
		.failures = 3,
		.ratio = 100,
		.calls = 100,
		.window_ms = 60000,
		.open_ms = 3600000,
	};

	rig_services(rig, 1);
	rig->config.breaker = long_open;
	rig->services[0].script = SCRIPT_CLOSE;
	rig_start(rig);
	/* each closes its connection; the third opens the breaker, and the pool dials again */
	for (size_t i = 0; i < 3; i++) {
		TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_UNAVAILABLE);
		ahead_us += 2000000; /* past any backoff */
	}
	assert_true(has_metric(rig, "upstream_breaker_opened_total{upstream=\"fleet\"} 1\n"));
	rig->services[0].script = SCRIPT_ECHO;
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 3).outcome, UPSTREAM_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failures_in_a_row_open_it_and_one_less_does_not),
		cmocka_unit_test(ratio_opens_it_once_enough_have_ended),
		cmocka_unit_test(ratio_below_the_bound_never_opens_it),
		cmocka_unit_test(what_left_the_window_is_forgotten),
		cmocka_unit_test(open_one_refuses_until_its_time_then_lets_one_probe_pass),
		cmocka_unit_test(failed_probe_opens_it_for_as_long_again),
		cmocka_unit_test(probe_that_tells_nothing_leaves_room_for_the_next),
		cmocka_unit_test(calls_from_before_it_opened_tell_nothing_after),
		cmocka_unit_test(hope_brings_the_probe_forward),
		cmocka_unit_test(untold_ends_neither_open_it_nor_break_a_row),
		cmocka_unit_test(one_that_is_off_admits_everything),
		TEST(errors_of_the_application_never_open_it),
		TEST(what_fails_on_the_way_opens_it),
		TEST(silence_for_the_whole_deadline_opens_it_and_impatience_does_not),
		TEST(callers_that_leave_tell_nothing),
		TEST(streams_that_outlive_the_deadline_do_not_open_it),
		TEST(probe_whose_answer_goes_on_lets_the_others_pass),
		TEST(new_connection_is_reason_for_a_probe_at_once),
	};

	return cmocka_run_group_tests_name("upstream/breaker", tests, NULL, NULL);
}
