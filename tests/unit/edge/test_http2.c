/* HTTP requests over HTTP/2, and the life of its connections. */
#include "unit/edge/h2_client.h"

#define GRPC (SERVER_HTTP2 | SERVER_GRPC)
#define BOTH (SERVER_HTTP1 | SERVER_HTTP2)

static const struct {
	const char *path, *extra[7];
	const char *body;
	int status;
	const char *answer, *allow;
} plain_requests[] = {
	{"/healthz",
	 {":method", "GET", "content-type", "", NULL},
	 NULL,
	 200,
	 "{\"status\":\"ok\"}",
	 ""},
	{"/healthz", {":method", "HEAD", "content-type", "", NULL}, NULL, 200, "", ""},
	{"/healthz?x=1",
	 {":method", "GET", "content-type", "", NULL},
	 NULL,
	 200,
	 "{\"status\":\"ok\"}",
	 ""},
	{"/none", {":method", "GET", "content-type", "", NULL}, NULL, 204, "", ""},
	{"/echo", {"content-type", "text/plain", NULL}, "hello", 200, "hello", ""},
	{"/echo",
	 {"content-type", "text/plain", "content-length", "5", NULL},
	 "hello",
	 200,
	 "hello",
	 ""},
	{"/echo",
	 {"content-type", "text/plain", "content-length", "1025", NULL},
	 "he",
	 413,
	 "{\"error\":{\"code\":\"request_too_large\",\"message\":\"request body is too "
	 "large\"}}",
	 ""},
	{"/nowhere",
	 {"content-type", "text/plain", NULL},
	 "he",
	 404,
	 "{\"error\":{\"code\":\"not_found\",\"message\":\"no such route\"}}",
	 ""},
	{"/echo",
	 {":method", "GET", "content-type", "", NULL},
	 NULL,
	 405,
	 "{\"error\":{\"code\":\"method_not_allowed\",\"message\":\"method is not allowed "
	 "for this "
	 "route\"}}",
	 "POST, PUT"},
	{"/t.S/Echo",
	 {"content-type", "text/plain", NULL},
	 "he",
	 415,
	 "{\"error\":{\"code\":\"unsupported_media_type\",\"message\":\"content-type must "
	 "be "
	 "application/grpc\"}}",
	 ""},
};

static void http2_answers_plain_requests(void **state)
{
	struct pair pair;

	(void)state;
	pair_open(&pair, BOTH);
	for (size_t i = 0; i < ARRAY_LEN(plain_requests); i++) {
		struct test_call call;

		call_start(&pair.client, &call, plain_requests[i].path, plain_requests[i].extra,
			   !plain_requests[i].body);
		if (plain_requests[i].body) {
			call_write(&call, span_from_cstr(plain_requests[i].body));
			if (plain_requests[i].status == 200)
				call_end_writing(&call);
		}
		if (plain_requests[i].body && plain_requests[i].status != 200)
			call_wait_unended(&pair.client, &pair.rig, &call);
		else
			call_wait(&pair.client, &call);
		assert_int_equal(call.status, plain_requests[i].status);
		assert_int_equal(call.grpc_status, -1);
		assert_int_equal(call.body.len, strlen(plain_requests[i].answer));
		assert_memory_equal(call.body.data ? call.body.data : (const uint8_t *)"",
				    plain_requests[i].answer, call.body.len);
		assert_string_equal(call.allow, plain_requests[i].allow);
		call_finish(&call);
	}
	assert_true(rig_has_metric(
		&pair.rig, "http_requests_total{path=\"/echo\",method=\"POST\",status=\"200\"} 2"));
	assert_true(rig_has_metric(
		&pair.rig,
		"http_requests_total{path=\"unmatched\",method=\"POST\",status=\"404\"} 1"));
	pair_close(&pair);
}

static void http2_bounds_a_body_without_length(void **state)
{
	static const char *const extra[] = {"content-type", "text/plain", NULL};
	static uint8_t part[600];
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, BOTH);
	call_start(&pair.client, &call, "/echo", extra, false);
	call_write(&call, span_make(part, sizeof(part)));
	h2_client_pumps(&pair.client, 3);
	call_write(&call, span_make(part, sizeof(part)));
	call_wait_unended(&pair.client, &pair.rig, &call);
	assert_int_equal(call.status, 413);
	assert_int_equal(pair.rig.started, 0);
	call_finish(&call);
	pair_close(&pair);
}

static void http2_sends_a_large_answer_whole(void **state)
{
	static const char *const extra[] = {":method", "GET", "content-type", "", NULL};
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, BOTH);
	call_start(&pair.client, &call, "/big", extra, true);
	call_wait(&pair.client, &call);
	assert_int_equal(call.status, 200);
	assert_int_equal(call.body.len, RIG_BIG_BYTES);
	for (size_t i = 0; i < RIG_BIG_BYTES; i++)
		assert_int_equal(call.body.data[i], (uint8_t)(i * 7 + i / 256));
	call_finish(&call);
	pair_close(&pair);
}

static void http2_idle_connection_closes_on_the_public_port_only(void **state)
{
	struct pair pair;

	(void)state;
	for (int is_grpc = 0; is_grpc < 2; is_grpc++) {
		pair_open(&pair, is_grpc ? GRPC : BOTH);
		rig_advance(&pair.rig, 74900);
		h2_client_pumps(&pair.client, 3);
		assert_int_equal(server_connection_count(pair.rig.server), 1);
		rig_advance(&pair.rig, 200);
		if (!is_grpc)
			PUMP_UNTIL(&pair.client, pair.client.client.ended);
		h2_client_pumps(&pair.client, 10);
		assert_int_equal(pair.client.goaway, !is_grpc);
		assert_int_equal(pair.client.client.ended, !is_grpc);
		pair_close(&pair);
	}
}

static void http2_connection_error_says_why_and_closes(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, GRPC);
	client_open(&client, &rig);
	client_say(&client, H2_PREFACE);
	/* DATA on stream 1, which nobody opened */
	client_send(&client, SPAN("\0\0\0\4\0\0\0\0\0\0\0\1\0\0\0\0\0\1x"));
	client_expect_end(&client);
	/* GOAWAY */
	assert_non_null(memmem(client.in.data, client.in.len, "\7\0\0\0\0\0", 6));
	client_close(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_true(
		rig_has_metric(&rig, "gateway_glitches_total{kind=\"http2_connection_error\"} 1"));
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"grpc\",outcome=\"protocol\"} 1"));
	rig_close(&rig);
}

static void http2_connection_error_cancels_calls(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	client_send(&pair.client.client, SPAN("\0\0\1\0\0\0\0\0\63x"));
	RIG_UNTIL(&pair.rig, pair.rig.cancelled == 1);
	pair_close(&pair);
	call_finish(&call);
}

static bool has_settings_ack(const struct client *client)
{
	return client->in.len >= 9 &&
	       memmem(client->in.data, client->in.len, "\0\0\0\4\1\0\0\0\0", 9);
}

static void http2_preface_may_come_in_two_parts(void **state)
{
	(void)state;
	for (size_t cut = 1; cut < 24; cut++) {
		struct rig rig;
		struct client client;

		rig_open(&rig, BOTH);
		client_open(&client, &rig);
		client_send(&client, span_make(H2_PREFACE, cut));
		rig_turns(&rig, 2);
		client_send(&client, span_make(&H2_PREFACE[cut], 24 - cut));
		client_send(&client, SPAN("\0\0\0\4\0\0\0\0\0"));
		for (unsigned i = 0; i < RIG_TURNS_MAX && !has_settings_ack(&client); i++) {
			rig_turn(&rig);
			client_receive(&client);
		}
		assert_true(has_settings_ack(&client));
		client_close(&client);
		rig_close(&rig);
	}
}

static void http2_asks_for_a_body_that_is_expected(void **state)
{
	static const struct {
		const char *path, *expect;
		size_t body_bytes_max;
		bool is_asked_for;
		int status;
	} rows[] = {
		{"/echo", "100-continue", SIZE_MAX, true, 200},
		{"/echo", "100-Continue", SIZE_MAX, true, 200},
		{"/echo", "wonders", SIZE_MAX, false, 417},
		{"/nowhere", "100-continue", SIZE_MAX, false, 404},
		{"/echo", "100-continue", 4, false, 413},
	};
	struct pair pair;

	(void)state;
	pair_open(&pair, BOTH);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *const extra[] = {"content-type", "x/y", "content-length", "5", "expect",
					     rows[i].expect, NULL};
		struct test_call call;

		pair.rig.gate.body_bytes_max = rows[i].body_bytes_max;
		call_start(&pair.client, &call, rows[i].path, extra, false);
		if (rows[i].is_asked_for) {
			PUMP_UNTIL(&pair.client, call.continued);
			assert_false(call.headers_seen);
			call_write(&call, SPAN("hello"));
			call_end_writing(&call);
			call_wait(&pair.client, &call);
		} else {
			call_wait_unended(&pair.client, &pair.rig, &call);
		}
		assert_int_equal(call.continued, rows[i].is_asked_for);
		assert_int_equal(call.status, rows[i].status);
		if (rows[i].status == 200)
			assert_true(span_equal(buf_span(&call.body), SPAN("hello")));
		call_finish(&call);
	}
	pair_close(&pair);
}

/* Nobody is asked for a body that will not come. */
static void http2_expectation_without_a_body_is_just_answered(void **state)
{
	static const char *const extra[] = {":method", "GET", "expect", "100-continue", NULL};
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, BOTH);
	call_start(&pair.client, &call, "/healthz", extra, true);
	call_wait(&pair.client, &call);
	assert_false(call.continued);
	assert_int_equal(call.status, 200);
	call_finish(&call);
	pair_close(&pair);
}

/* A client that sends or has sent its body all the same, and opens its window late. */
static void http2_early_answer_has_as_long_as_others(void **state)
{
	static const char *const extra[] = {"content-type", "text/plain", "content-length", "2000",
					    NULL};
	static uint8_t body[2000];

	(void)state;
	for (int ends = 0; ends <= 1; ends++) {
		struct rig rig;
		struct h2_client client;
		struct test_call call;

		rig_open(&rig, BOTH);
		h2_client_open_windowed(&client, &rig, 16);
		client.reads = false;
		call_start(&client, &call, "/echo", extra, false);
		PUMP_UNTIL(&client, call.body.len == 16);
		assert_int_equal(call.status, 413);
		call_write(&call, span_make(body, sizeof(body)));
		if (ends)
			call_end_writing(&call);
		h2_client_pumps(&client, 3);
		for (unsigned second = 0; second < 29; second++) {
			rig_advance(&rig, 1000);
			h2_client_pumps(&client, 3);
		}
		assert_false(call.closed);
		client.reads = true;
		h2_consume(&call.stream, 16);
		call_wait(&client, &call);
		assert_true(call.answered);
		assert_int_equal(call.closed_code, H2_NO_ERROR);
		assert_true(
			rig_has_metric(&rig, "gateway_glitches_total{kind=\"stream_stalled\"} 0"));
		call_finish(&call);
		h2_client_close(&client);
		rig_close(&rig);
	}
}

/* Nor is a body read without end for as long as its answer waits for a window. */
static void http2_early_answer_reads_only_so_much_of_the_body(void **state)
{
	static const char *const extra[] = {"content-type", "text/plain", NULL};
	static uint8_t body[2u << 20];
	struct rig rig;
	struct h2_client client;
	struct test_call call;

	(void)state;
	rig_open(&rig, BOTH);
	h2_client_open_windowed(&client, &rig, 16);
	client.reads = false;
	call_start(&client, &call, "/echo", extra, false);
	call_write(&call, span_make(body, sizeof(body)));
	PUMP_UNTIL(&client, call.body.len == 16);
	assert_int_equal(call.status, 413);
	h2_client_pumps(&client, 200);
	assert_true(call.stream.queue_bytes > 1u << 20);
	assert_false(call.closed);
	client.reads = true;
	h2_consume(&call.stream, 16);
	call_wait(&client, &call);
	assert_true(call.answered);
	assert_int_equal(call.closed_code, H2_NO_ERROR);
	call_finish(&call);
	/* what it sent of it is missing from no other stream's window */
	call_start(&client, &call, "/echo", extra, false);
	call_write(&call, span_make(body, 1024));
	call_end_writing(&call);
	call_wait(&client, &call);
	assert_int_equal(call.status, 200);
	call_finish(&call);
	h2_client_close(&client);
	rig_close(&rig);
}

/* ---- draining ---- */

/* The call that is held is answered: then the connection ends, and the server has stopped. */
static void end_with_the_last_call(struct pair *pair, struct test_call *call)
{
	rpc_finish(pair->rig.held[0], GRPC_OK, SPAN_EMPTY);
	call_wait(&pair->client, call);
	assert_int_equal(call->grpc_status, GRPC_OK);
	PUMP_UNTIL(&pair->client, pair->client.client.ended);
	client_close(&pair->client.client);
	rig_wait_stopped(&pair->rig);
	call_finish(call);
}

static void http2_drains_in_two_steps(void **state)
{
	struct pair pair;
	struct test_call call, between, after = {.status = -1};

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	server_drain(pair.rig.server, rig_note_stopped, &pair.rig);
	/* sent before the client has heard of it: it is served */
	call_unary(&pair.client, &between, "/t.S/Echo", NULL, SPAN("x"));
	h2_client_pumps(&pair.client, 1);
	call_wait(&pair.client, &between);
	assert_int_equal(between.grpc_status, GRPC_OK);
	PUMP_UNTIL(&pair.client,
		   pair.client.goaway && pair.client.goaway_last_id == between.stream.id);
	assert_true(pair.client.noticed);
	assert_int_equal(pair.client.goaway_code, H2_NO_ERROR);
	assert_false(pair.rig.stopped);
	assert_int_equal(h2_request(pair.client.session, &after.stream, NULL, 0, true), -EAGAIN);
	assert_int_equal(pair.rig.cancelled, 0);
	message_send(pair.rig.held[0], SPAN("done"));
	end_with_the_last_call(&pair, &call);
	call_finish(&between);
	pair_close(&pair);
}

/* Its client hears that it was not served, and asks again elsewhere: nothing may have been done. */
static void http2_call_that_overtakes_the_last_goaway_is_not_started(void **state)
{
	struct pair pair;
	struct test_call call, late;
	struct buf sent;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	server_drain(pair.rig.server, rig_note_stopped, &pair.rig);
	call_unary(&pair.client, &late, "/t.S/Hold", NULL, SPAN("x"));
	h2_client_produce(&pair.client);
	sent = pair.client.out;
	buf_init(&pair.client.out, 64u << 20);
	/* the notice and its PING come, whose answer asks for the last GOAWAY */
	client_expect(&pair.client.client, "leaving");
	h2_client_take(&pair.client);
	assert_true(pair.client.noticed);
	h2_client_produce(&pair.client);
	assert_int_equal(buf_append(&pair.client.out, buf_span(&sent)), 0);
	client_send(&pair.client.client, buf_span(&pair.client.out));
	buf_clear(&pair.client.out, SIZE_MAX);
	call_wait(&pair.client, &late);
	assert_int_equal(pair.client.goaway_last_id, call.stream.id);
	assert_int_equal(late.closed_code, H2_REFUSED_STREAM);
	assert_int_equal(pair.rig.started, 1);
	assert_int_equal(pair.rig.cancelled, 0);
	end_with_the_last_call(&pair, &call);
	call_finish(&late);
	buf_finish(&sent);
	pair_close(&pair);
}

/* Neither for an answer to the notice nor, beyond a moment, for its end. */
static void http2_drain_does_not_wait_for_a_silent_idle_peer(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, GRPC);
	client_open(&client, &rig);
	client_say(&client, H2_PREFACE);
	client_send(&client, SPAN("\0\0\0\4\0\0\0\0\0"));
	rig_turns(&rig, 20);
	server_drain(rig.server, rig_note_stopped, &rig);
	/* our FIN, behind both GOAWAYs */
	client_expect_end(&client);
	assert_non_null(memmem(client.in.data, client.in.len, "\x7f\xff\xff\xff\0\0\0\0", 8));
	assert_non_null(
		memmem(client.in.data, client.in.len, "\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0", 17));
	assert_false(rig.stopped);
	rig_advance(&rig, 110);
	rig_wait_stopped(&rig);
	client_close(&client);
	rig_close(&rig);
}

/* A call that is served holds the connection through the notice, its peer silent or not. */
static void http2_drain_waits_for_a_call_and_gives_notice_of_a_second(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	server_drain(pair.rig.server, rig_note_stopped, &pair.rig);
	rig_turns(&pair.rig, 10);
	client_receive(&pair.client.client);
	client_forget(&pair.client.client); /* the notice and its PING are never answered */
	rig_advance(&pair.rig, 990);
	assert_int_equal(client_receive(&pair.client.client), 0);
	rig_advance(&pair.rig, 20);
	rig_turns(&pair.rig, 5);
	assert_true(client_receive(&pair.client.client) > 0);
	assert_int_equal(server_connection_count(pair.rig.server), 1);
	message_send(pair.rig.held[0], SPAN("done"));
	rpc_finish(pair.rig.held[0], GRPC_OK, SPAN_EMPTY);
	call_wait(&pair.client, &call);
	assert_int_equal(call.grpc_status, GRPC_OK);
	client_close(&pair.client.client);
	rig_wait_stopped(&pair.rig);
	call_finish(&call);
	pair_close(&pair);
}

static void http2_drain_ends_long_lived_calls(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Watch", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	message_send(pair.rig.held[0], SPAN("state"));
	server_drain(pair.rig.server, rig_note_stopped, &pair.rig);
	call_wait(&pair.client, &call);
	assert_int_equal(call.body.len, 10);
	assert_int_equal(call.grpc_status, GRPC_UNAVAILABLE);
	assert_string_equal(call.message, "gateway is shutting down");
	assert_int_equal(pair.rig.cancelled, 1);
	client_close(&pair.client.client);
	rig_wait_stopped(&pair.rig);
	call_finish(&call);
	pair_close(&pair);
}

static void http2_cut_cancels_calls(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	server_drain(pair.rig.server, rig_note_stopped, &pair.rig);
	h2_client_pumps(&pair.client, 5);
	assert_int_equal(server_owing_count(pair.rig.server), 1);
	assert_int_equal(server_cut(pair.rig.server), 1);
	rig_wait_stopped(&pair.rig);
	assert_int_equal(pair.rig.cancelled, 1);
	pair_close(&pair);
	call_finish(&call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http2_answers_plain_requests),
		cmocka_unit_test(http2_bounds_a_body_without_length),
		cmocka_unit_test(http2_sends_a_large_answer_whole),
		cmocka_unit_test(http2_idle_connection_closes_on_the_public_port_only),
		cmocka_unit_test(http2_connection_error_says_why_and_closes),
		cmocka_unit_test(http2_connection_error_cancels_calls),
		cmocka_unit_test(http2_preface_may_come_in_two_parts),
		cmocka_unit_test(http2_asks_for_a_body_that_is_expected),
		cmocka_unit_test(http2_expectation_without_a_body_is_just_answered),
		cmocka_unit_test(http2_early_answer_has_as_long_as_others),
		cmocka_unit_test(http2_early_answer_reads_only_so_much_of_the_body),
		cmocka_unit_test(http2_drains_in_two_steps),
		cmocka_unit_test(http2_call_that_overtakes_the_last_goaway_is_not_started),
		cmocka_unit_test(http2_drain_does_not_wait_for_a_silent_idle_peer),
		cmocka_unit_test(http2_drain_waits_for_a_call_and_gives_notice_of_a_second),
		cmocka_unit_test(http2_drain_ends_long_lived_calls),
		cmocka_unit_test(http2_cut_cancels_calls),
	};

	return cmocka_run_group_tests_name("http2", tests, NULL, NULL);
}
