/* Calls and their outcomes. */
#include "unit/upstream/rig.h"

/* ---- the main path ---- */

static void call_is_answered(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	assert_string_equal(rig->calls[0].message, "aaaaa");
	assert_null(rig->calls[0].call.stream);
	assert_string_equal(rig->services[0].last_type, "application/grpc");
	assert_string_equal(rig->services[0].last_request_id, "request-1");

	char authority[32];

	snprintf(authority, sizeof(authority), "127.0.0.1:%u", rig->services[0].port);
	assert_string_equal(rig->services[0].last_authority, authority);
	assert_true(
		has_metric(rig, "upstream_grpc_calls_total{upstream=\"fleet\",code=\"OK\"} 1\n"));
	assert_true(has_metric(rig, "upstream_grpc_latency_seconds_count{upstream=\"fleet\","
				    "rpc=\"galaxy.gateway.v1.CommandHandler/Handle\"} 1\n"));
}

static void call_waits_for_the_first_connection(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig_start(rig);
	assert_false(upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
}

static void large_messages_go_both_ways(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	/* over a frame, and over nothing that h2 would window */
	assert_int_equal(start_sized(rig, 0, MESSAGE_MAX, 0), 0);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_OK);
	assert_int_equal(rig->calls[0].result.message.len, MESSAGE_MAX);
	/* the request's limit is not ours to enforce; its echo is over the answer's */
	assert_int_equal(start_sized(rig, 1, MESSAGE_MAX + 1, 0), 0);
	TURN_UNTIL(rig->worker, rig->calls[1].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_MALFORMED);
	assert_int_equal(rig->calls[1].result.status, GRPC_RESOURCE_EXHAUSTED);
	/* the connection lives on */
	assert_int_equal(call_once(rig, 2).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].connections, 1);
}

static void deadline_is_the_shorter_and_is_sent(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start_sized(rig, 0, 1, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 1);
	assert_int_equal(grpc_parse_timeout(span_from_cstr(rig->services[0].last_timeout)),
			 2000000);
	assert_int_equal(start_sized(rig, 1, 1, 150), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 2);
	assert_int_equal(grpc_parse_timeout(span_from_cstr(rig->services[0].last_timeout)), 150000);
	assert_int_equal(start_sized(rig, 2, 1, 60000), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 3);
	assert_int_equal(grpc_parse_timeout(span_from_cstr(rig->services[0].last_timeout)),
			 2000000);

	jump_ms(rig, 160);
	assert_true(rig->calls[1].done);
	assert_false(rig->calls[0].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_TIMEOUT);
	assert_int_equal(rig->calls[1].result.status, GRPC_DEADLINE_EXCEEDED);
	TURN_UNTIL(rig->worker, rig->services[0].cancelled == 1);
	jump_ms(rig, 2000);
	assert_true(rig->calls[0].done && rig->calls[2].done);
	TURN_UNTIL(rig->worker, rig->services[0].cancelled == 3);
}

static void cancel_resets_the_stream(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start(rig, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 1);
	upstream_call_cancel(&rig->calls[0].call);
	assert_null(rig->calls[0].call.stream);
	upstream_call_cancel(&rig->calls[0].call);
	TURN_UNTIL(rig->worker, rig->services[0].cancelled == 1);
	assert_false(rig->calls[0].done);
	assert_true(has_metric(
		rig, "upstream_grpc_calls_total{upstream=\"fleet\",code=\"CANCELLED\"} 1\n"));
	assert_true(has_metric(rig, "upstream_grpc_in_flight{upstream=\"fleet\"} 0\n"));

	/* before it is sent, and while it waits */
	assert_int_equal(start(rig, 1), 0);
	upstream_call_cancel(&rig->calls[1].call);
	turns(rig, 10);
	rig->services[0].script = SCRIPT_ECHO;
	assert_int_equal(call_once(rig, 2).outcome, UPSTREAM_OK);
}

static void done_may_cancel_another_call(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start(rig, 0), 0);
	assert_int_equal(start(rig, 1), 0);
	rig->calls[0].cancels = &rig->calls[1];
	TURN_UNTIL(rig->worker, rig->services[0].calls == 2);
	service_close_peers(&rig->services[0]);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	turns(rig, 5);
	assert_false(rig->calls[1].done);
}

static void max_in_flight_refuses_at_once(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->config.max_in_flight = 3;
	rig_start(rig);
	/* those that wait for the connection count too */
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(start(rig, i), 0);
	assert_int_equal(start(rig, 3), -UPSTREAM_BUSY);
	assert_null(rig->calls[3].call.stream);
	TURN_UNTIL(rig->worker, rig->calls[0].done && rig->calls[1].done && rig->calls[2].done);
	assert_int_equal(call_once(rig, 3).outcome, UPSTREAM_OK);
	assert_true(has_metric(rig, "code=\"RESOURCE_EXHAUSTED\"} 1\n"));
}

/* ---- answers of every kind ---- */

struct answer_row {
	enum script script;
	enum grpc_status given;
	const char *text;
	enum upstream_outcome outcome;
	enum grpc_status status;
	const char *message;
};

static void every_answer_has_its_outcome(void **state)
{
	static const struct answer_row rows[] = {
		{SCRIPT_STATUS, GRPC_NOT_FOUND, "no%20such%C3%A9", UPSTREAM_STATUS, GRPC_NOT_FOUND,
		 "no such\xc3\xa9"},
		{SCRIPT_STATUS, GRPC_INTERNAL, NULL, UPSTREAM_STATUS, GRPC_INTERNAL, ""},
		{SCRIPT_STATUS, 99, "odd", UPSTREAM_STATUS, GRPC_UNKNOWN, "odd"},
		{SCRIPT_STATUS, GRPC_OK, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_STATUS, GRPC_DEADLINE_EXCEEDED, "its own", UPSTREAM_STATUS,
		 GRPC_DEADLINE_EXCEEDED, "its own"},
		{SCRIPT_LATE_STATUS, GRPC_ABORTED, "late", UPSTREAM_STATUS, GRPC_ABORTED, "late"},
		{SCRIPT_WRONG_TYPE, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_HTTP_ERROR, 0, NULL, UPSTREAM_STATUS, GRPC_UNAVAILABLE, ""},
		{SCRIPT_NO_STATUS, 0, NULL, UPSTREAM_MALFORMED, GRPC_UNKNOWN, ""},
		{SCRIPT_NO_MESSAGE, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_TWO_MESSAGES, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_HALF_MESSAGE, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_BAD_ENCODING, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_RESET, 0, NULL, UPSTREAM_STATUS, GRPC_INTERNAL, ""},
		{SCRIPT_REFUSE, 0, NULL, UPSTREAM_UNAVAILABLE, GRPC_UNAVAILABLE, ""},
		{SCRIPT_ECHO, 0, NULL, UPSTREAM_OK, GRPC_OK, "aaaaa"},
	};
	struct rig *rig = *state;
	struct service *service = &rig->services[0];

	rig_open(rig);
	service->reset_code = H2_INTERNAL_ERROR;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		service->script = rows[i].script;
		service->status = rows[i].given;
		service->status_message = rows[i].text;

		struct upstream_result result = call_once(rig, i);

		if (result.outcome != rows[i].outcome || result.status != rows[i].status ||
		    strcmp(rig->calls[i].message, rows[i].message) != 0)
			fail_msg("row %zu: outcome %d status %d message '%s'", i,
				 (int)result.outcome, (int)result.status, rig->calls[i].message);
	}
	/* none of them was worth the connection */
	assert_int_equal(service->connections, 1);
	assert_int_equal(service->calls, ARRAY_LEN(rows));
}

static void status_of_our_own_deadline_is_a_timeout(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_STATUS;
	rig->services[0].status = GRPC_DEADLINE_EXCEEDED;
	assert_int_equal(start_sized(rig, 0, 1, 15), 0);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_TIMEOUT);
}

/* ---- the end ---- */

static void stop_fails_what_is_in_flight(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start(rig, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 1);
	assert_int_equal(start(rig, 1), 0);
	upstream_stop(rig->upstream, rig_stopped, rig);
	assert_true(rig->calls[0].done && rig->calls[1].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_UNAVAILABLE);
	assert_int_equal(start(rig, 2), -UPSTREAM_UNAVAILABLE);
	TURN_UNTIL(rig->worker, rig->stopped);
	upstream_destroy(rig->upstream);
	rig->upstream = NULL;
}

static void stop_while_dialling_and_greeting_and_waiting(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 3);
	rig->services[0].is_mute = true;
	service_unlisten(&rig->services[1]);
	rig_start(rig);
	TURN_UNTIL(rig->worker, rig->services[0].connections == 1);
	assert_int_equal(start(rig, 0), 0);
	rig_stop_upstream(rig);
	assert_true(rig->calls[0].done);

	/* at once */
	rig->stopped = false;
	rig_start(rig);
	assert_int_equal(start(rig, 1), 0);
	rig_stop_upstream(rig);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_UNAVAILABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(call_is_answered),
		TEST(call_waits_for_the_first_connection),
		TEST(large_messages_go_both_ways),
		TEST(deadline_is_the_shorter_and_is_sent),
		TEST(cancel_resets_the_stream),
		TEST(done_may_cancel_another_call),
		TEST(max_in_flight_refuses_at_once),
		TEST(every_answer_has_its_outcome),
		TEST(status_of_our_own_deadline_is_a_timeout),
		TEST(stop_fails_what_is_in_flight),
		TEST(stop_while_dialling_and_greeting_and_waiting),
	};

	return cmocka_run_group_tests_name("upstream/grpc", tests, NULL, NULL);
}
