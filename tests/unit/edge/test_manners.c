/* manners: pings, keepalive, age, idleness; first by the numbers, then on a connection. */
#include "edge/manners.h"
#include "unit/edge/h2_client.h"

#define GRPC	  (SERVER_HTTP2 | SERVER_GRPC)
#define MINUTE_MS 60000

static const struct config usual = {
	.http_idle_timeout_ms = 75000,
	.grpc_keepalive_interval_ms = 7200000,
	.grpc_keepalive_timeout_ms = 20000,
	.grpc_min_ping_interval_ms = 300000,
};

/* ---- by the numbers ---- */

static void pings_are_judged_by_their_distance(void **state)
{
	static const struct {
		const char *name;
		uint64_t at_ms[8];	  /* pings; 0 ends */
		uint64_t answered_before; /* index of the ping before which an answer was sent */
		int ended_by;		  /* index, or -1 */
	} rows[] = {
		{"at once", {1, 1, 1, 1}, 99, 3},
		{"a millisecond too soon", {1, 300000, 599999, 899998}, 99, 3},
		{"just in time", {1, 300001, 600001, 900001, 1200001}, 99, -1},
		{"a bad one counts from itself", {1, 2, 300001, 300002, 600002}, 99, 3},
		{"good ones do not forgive", {1, 2, 3, 400000, 400001}, 99, 4},
		{"an answer forgives", {1, 2, 3, 4, 5, 6}, 3, -1},
		{"an answer forgives once", {1, 2, 3, 4, 5, 6, 7}, 3, 6},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct manners manners;
		int ended_by = -1;

		manners_init(&manners, &usual, true, 0, 0);
		for (int ping = 0; ping < 8 && rows[i].at_ms[ping] > 0 && ended_by < 0; ping++)
			if (manners_take_ping(&manners,
					      (uint64_t)ping >= rows[i].answered_before ? 8 : 7,
					      rows[i].at_ms[ping]))
				ended_by = ping;
		if (ended_by != rows[i].ended_by)
			fail_msg("%s: ended by %d", rows[i].name, ended_by);
	}
}

static void pings_are_free_when_their_interval_is_zero(void **state)
{
	struct config config = usual;
	struct manners manners;

	(void)state;
	config.grpc_min_ping_interval_ms = 0;
	manners_init(&manners, &config, true, 0, 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_false(manners_take_ping(&manners, 0, 5));
	manners_init(&manners, &usual, false, 0, 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_false(manners_take_ping(&manners, 0, 5));
}

static void pings_past_the_last_stay_bad(void **state)
{
	struct manners manners;
	unsigned bad = 0;

	(void)state;
	manners_init(&manners, &usual, true, 0, 0);
	for (unsigned i = 0; i < 1000; i++)
		bad += manners_take_ping(&manners, 0, 5);
	assert_int_equal(bad, 1000 - 1 - MANNERS_STRIKES_MAX);
}

static void keepalive_asks_after_silence_and_gives_up(void **state)
{
	struct manners manners;

	(void)state;
	manners_init(&manners, &usual, true, 1000, 0);
	assert_int_equal(manners_next_ms(&manners), 7201000);
	manners_note_bytes(&manners, 5000);
	assert_int_equal(manners_due(&manners, 7204999), MANNERS_NOTHING);
	assert_int_equal(manners_due(&manners, 7205000), MANNERS_PING);
	assert_int_equal(manners_due(&manners, 7205000), MANNERS_NOTHING);
	assert_int_equal(manners_next_ms(&manners), 7225000);
	assert_int_equal(manners_due(&manners, 7224999), MANNERS_NOTHING);
	manners_note_bytes(&manners, 7224999); /* whatever it is: it lives */
	assert_int_equal(manners_due(&manners, 7225000), MANNERS_NOTHING);
	assert_int_equal(manners_next_ms(&manners), 7224999 + 7200000);
	assert_int_equal(manners_due(&manners, 7224999 + 7200000), MANNERS_PING);
	assert_int_equal(manners_due(&manners, 7224999 + 7220000), MANNERS_DEAD);
}

static void age_is_spread_by_a_tenth(void **state)
{
	static const struct {
		uint64_t age_ms;
		uint32_t random;
		uint64_t aged_ms;
	} rows[] = {
		{100000, 0, 90000},
		{100000, UINT32_MAX / 2 + 1, 100000},
		{100000, UINT32_MAX, 109999},
		{1, UINT32_MAX, 1},
		{2592000000, UINT32_MAX, 2851199999},
	};
	struct config config = usual;
	struct manners manners;

	(void)state;
	config.grpc_keepalive_interval_ms = 0;
	manners_init(&manners, &config, true, 0, 7);
	assert_int_equal(manners_next_ms(&manners), MANNERS_NEVER);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		config.grpc_max_connection_age_ms = rows[i].age_ms;
		manners_init(&manners, &config, true, 500, rows[i].random);
		assert_int_equal(manners_next_ms(&manners), rows[i].aged_ms + 500);
		manners_note_bytes(&manners, 600);
		manners_note_calls(&manners, true, 600);
		assert_int_equal(manners_due(&manners, rows[i].aged_ms + 499), MANNERS_NOTHING);
		assert_int_equal(manners_due(&manners, rows[i].aged_ms + 500), MANNERS_AGED);
		assert_int_equal(manners_next_ms(&manners), MANNERS_NEVER);
	}
}

static void idleness_begins_with_the_end_of_the_last_call(void **state)
{
	struct config config = usual;
	struct manners manners;

	(void)state;
	config.grpc_keepalive_interval_ms = 0;
	config.grpc_max_connection_idle_ms = 1000;
	for (int is_grpc = 0; is_grpc < 2; is_grpc++) {
		uint64_t idle_ms = is_grpc ? 1000 : 75000;

		manners_init(&manners, &config, is_grpc, 10, 0);
		assert_int_equal(manners_next_ms(&manners), idle_ms + 10);
		manners_note_calls(&manners, true, 20);
		assert_int_equal(manners_next_ms(&manners), MANNERS_NEVER);
		manners_note_calls(&manners, true, 30);
		manners_note_calls(&manners, false, 40);
		manners_note_calls(&manners, false, 50);
		manners_note_bytes(&manners, 60); /* pings are no calls */
		assert_int_equal(manners_due(&manners, idle_ms + 39), MANNERS_NOTHING);
		assert_int_equal(manners_due(&manners, idle_ms + 40), MANNERS_IDLE);
		assert_int_equal(manners_due(&manners, idle_ms + 40), MANNERS_NOTHING);
		assert_int_equal(manners_next_ms(&manners), MANNERS_NEVER);
	}
	config.grpc_max_connection_age_ms = 5;
	manners_init(&manners, &config, true, 10, 0);
	manners_note_leaving(&manners);
	assert_int_equal(manners_next_ms(&manners), MANNERS_NEVER);
}

/* ---- on a connection ---- */

static void pair_open_with(struct pair *pair, const struct config *config)
{
	rig_open(&pair->rig, GRPC);

	uint64_t header_bytes_max = pair->rig.config.http_max_header_bytes;

	pair->rig.config = *config;
	pair->rig.config.http_header_timeout_ms = 5000;
	pair->rig.config.http_body_timeout_ms = 10000;
	pair->rig.config.http_max_header_bytes = header_bytes_max;
	h2_client_open(&pair->client, &pair->rig);
}

static void ping(struct pair *pair)
{
	assert_int_equal(h2_ping(pair->client.session, (const uint8_t *)"12345678"), 0);
	h2_client_pumps(&pair->client, 3);
}

static void http2_ends_a_client_that_pings_too_often(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open_with(&pair, &usual);
	/* it waits, and nothing is sent to it */
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	for (unsigned i = 0; i < 3; i++)
		ping(&pair);
	assert_false(pair.client.goaway);
	ping(&pair);
	PUMP_UNTIL(&pair.client, pair.client.client.ended);
	assert_true(pair.client.goaway);
	assert_int_equal(pair.client.goaway_code, H2_ENHANCE_YOUR_CALM);
	assert_int_equal(pair.rig.cancelled, 1);
	client_close(&pair.client.client);
	RIG_UNTIL(&pair.rig, server_connection_count(pair.rig.server) == 0);
	assert_true(rig_has_metric(&pair.rig, "gateway_glitches_total{kind=\"too_many_pings\"} 1"));
	assert_true(rig_has_metric(&pair.rig,
				   "gateway_glitches_total{kind=\"http2_connection_error\"} 0"));
	assert_true(rig_has_metric(
		&pair.rig, "gateway_connections_total{listener=\"grpc\",outcome=\"protocol\"} 1"));
	call_finish(&call);
	pair_close(&pair);
}

/* As clients do that measure the bandwidth of a busy stream. */
static void http2_lets_a_client_ping_while_it_is_sent_to(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open_with(&pair, &usual);
	call_unary(&pair.client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&pair.client, pair.rig.stream);
	for (unsigned i = 0; i < 20; i++) {
		pair.rig.stream_left = 1;
		rpc_resume(pair.rig.stream);
		PUMP_UNTIL(&pair.client, call.body.len == (size_t)(i + 1) * 1024);
		ping(&pair);
		ping(&pair);
	}
	assert_false(pair.client.goaway);
	/* HEADERS alone count too: answers without a message */
	for (unsigned i = 0; i < 10; i++) {
		struct test_call refused;

		call_unary(&pair.client, &refused, "/t.S/Refuse", NULL, SPAN("x"));
		call_wait(&pair.client, &refused);
		call_finish(&refused);
		ping(&pair);
	}
	assert_false(pair.client.goaway);
	call_finish(&call);
	pair_close(&pair);
}

static void http2_pings_a_silent_client_and_keeps_one_that_answers(void **state)
{
	struct config config = usual;
	struct pair pair;

	(void)state;
	config.grpc_keepalive_interval_ms = 1000;
	config.grpc_keepalive_timeout_ms = 200;
	pair_open_with(&pair, &config);
	for (unsigned i = 0; i < 3; i++) {
		rig_advance(&pair.rig, 1001);
		h2_client_pumps(&pair.client, 4);
		rig_advance(&pair.rig, 190);
		assert_int_equal(server_connection_count(pair.rig.server), 1);
	}
	/* from here on it is silent */
	rig_advance(&pair.rig, 1001);
	assert_int_equal(client_receive(&pair.client.client), 17);
	rig_advance(&pair.rig, 190);
	assert_int_equal(server_connection_count(pair.rig.server), 1);
	rig_advance(&pair.rig, 20);
	RIG_UNTIL(&pair.rig, server_connection_count(pair.rig.server) == 0);
	assert_true(
		rig_has_metric(&pair.rig, "gateway_glitches_total{kind=\"keepalive_timeout\"} 1"));
	assert_true(rig_has_metric(
		&pair.rig, "gateway_connections_total{listener=\"grpc\",outcome=\"timeout\"} 1"));
	pair_close(&pair);
}

/* Two steps; calls, streams too, go on to their end. */
static void http2_that_is_old_takes_no_more_calls(void **state)
{
	struct config config = usual;
	struct pair pair;
	struct test_call call, stream, after = {.status = -1};

	(void)state;
	config.grpc_max_connection_age_ms = MINUTE_MS;
	pair_open_with(&pair, &config);
	call_unary(&pair.client, &stream, "/t.S/Watch", NULL, SPAN("x"));
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 2);
	rig_advance(&pair.rig, MINUTE_MS * 9 / 10 - 1000);
	h2_client_pumps(&pair.client, 3);
	assert_false(pair.client.goaway);
	rig_advance(&pair.rig, MINUTE_MS / 5 + 1001);
	PUMP_UNTIL(&pair.client, pair.client.noticed);
	PUMP_UNTIL(&pair.client, pair.client.goaway_last_id == call.stream.id);
	assert_int_equal(pair.client.goaway_code, H2_NO_ERROR);
	assert_int_equal(h2_request(pair.client.session, &after.stream, NULL, 0, true), -EAGAIN);
	rig_advance(&pair.rig, MINUTE_MS * 10);
	h2_client_pumps(&pair.client, 3);
	assert_int_equal(pair.rig.cancelled, 0);
	for (unsigned i = 0; i < 2; i++) {
		message_send(pair.rig.held[i], SPAN("done"));
		rpc_finish(pair.rig.held[i], GRPC_OK, SPAN_EMPTY);
	}
	call_wait(&pair.client, &call);
	call_wait(&pair.client, &stream);
	assert_int_equal(call.grpc_status, GRPC_OK);
	assert_int_equal(stream.grpc_status, GRPC_OK);
	PUMP_UNTIL(&pair.client, pair.client.client.ended);
	call_finish(&call);
	call_finish(&stream);
	pair_close(&pair);
}

/* Whose streams outlived its age. */
static void http2_that_is_old_ends_its_streams_at_shutdown(void **state)
{
	struct config config = usual;
	struct pair pair;
	struct test_call stream;

	(void)state;
	config.grpc_max_connection_age_ms = MINUTE_MS;
	pair_open_with(&pair, &config);
	call_unary(&pair.client, &stream, "/t.S/Watch", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	rig_advance(&pair.rig, MINUTE_MS * 11 / 10 + 1);
	PUMP_UNTIL(&pair.client, pair.client.goaway_last_id == stream.stream.id);
	assert_false(stream.closed);
	server_drain(pair.rig.server, rig_note_stopped, &pair.rig);
	call_wait(&pair.client, &stream);
	assert_int_equal(stream.grpc_status, GRPC_UNAVAILABLE);
	client_close(&pair.client.client);
	rig_wait_stopped(&pair.rig);
	call_finish(&stream);
	pair_close(&pair);
}

static void http2_that_is_idle_is_ended(void **state)
{
	struct config config = usual;
	struct pair pair;
	struct test_call call;

	(void)state;
	config.grpc_max_connection_idle_ms = MINUTE_MS;
	pair_open_with(&pair, &config);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	rig_advance(&pair.rig, 2 * MINUTE_MS);
	h2_client_pumps(&pair.client, 3);
	assert_false(pair.client.goaway);
	rpc_finish(pair.rig.held[0], GRPC_OK, SPAN_EMPTY);
	call_wait(&pair.client, &call);
	rig_advance(&pair.rig, MINUTE_MS - 10);
	ping(&pair);
	assert_false(pair.client.goaway);
	rig_advance(&pair.rig, 20);
	PUMP_UNTIL(&pair.client, pair.client.client.ended);
	/* the client's own nghttp2 takes nothing after the notice, as it has no stream */
	assert_true(pair.client.noticed);
	assert_int_equal(pair.client.goaway_code, H2_NO_ERROR);
	client_close(&pair.client.client);
	RIG_UNTIL(&pair.rig, server_connection_count(pair.rig.server) == 0);
	assert_true(rig_has_metric(
		&pair.rig, "gateway_connections_total{listener=\"grpc\",outcome=\"closed\"} 1"));
	call_finish(&call);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pings_are_judged_by_their_distance),
		cmocka_unit_test(pings_are_free_when_their_interval_is_zero),
		cmocka_unit_test(pings_past_the_last_stay_bad),
		cmocka_unit_test(keepalive_asks_after_silence_and_gives_up),
		cmocka_unit_test(age_is_spread_by_a_tenth),
		cmocka_unit_test(idleness_begins_with_the_end_of_the_last_call),
		cmocka_unit_test(http2_ends_a_client_that_pings_too_often),
		cmocka_unit_test(http2_lets_a_client_ping_while_it_is_sent_to),
		cmocka_unit_test(http2_pings_a_silent_client_and_keeps_one_that_answers),
		cmocka_unit_test(http2_that_is_old_takes_no_more_calls),
		cmocka_unit_test(http2_that_is_old_ends_its_streams_at_shutdown),
		cmocka_unit_test(http2_that_is_idle_is_ended),
	};

	return cmocka_run_group_tests_name("manners", tests, NULL, NULL);
}
