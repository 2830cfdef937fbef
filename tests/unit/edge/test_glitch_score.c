/* What a connection's glitches come to: face_h2 with edge/glitches, on the rig's clock. */
#include "edge/glitches.h"
#include "unit/edge/h2_client.h"

#define GRPC (SERVER_HTTP2 | SERVER_GRPC)

#define SETTINGS	     "\0\0\0\4\0\0\0\0\0"
#define HEADERS_UNFINISHED   "\0\0\1\1\0\0\0\0\1\x83"
#define CONTINUATION_NOT_YET "\0\0\1\x9\0\0\0\0\1\x84"
#define GOAWAY_CALM	     "\0\0\0\x0b"

static void expect_ended(struct rig *rig, struct client *client, const char *reason)
{
	client_expect_end(client);
	assert_non_null(memmem(client->in.data, client->in.len, GOAWAY_CALM, 4));
	assert_non_null(memmem(client->in.data, client->in.len, reason, strlen(reason)));
	client_close(client);
	RIG_UNTIL(rig, server_connection_count(rig->server) == 0);
}

/* The header block's own time, however little of it comes and however often. */
static void header_block_without_end_ends_the_connection(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, GRPC);
	client_open(&client, &rig);
	client_say(&client, H2_PREFACE);
	client_send(&client, SPAN(SETTINGS));
	rig_turns(&rig, 5);
	rig_advance(&rig, 100000); /* no block, no time */
	client_send(&client, SPAN(HEADERS_UNFINISHED));
	rig_turns(&rig, 5);
	rig_advance(&rig, 3000);
	client_send(&client, SPAN(CONTINUATION_NOT_YET));
	rig_turns(&rig, 5);
	rig_advance(&rig, 1900);
	assert_int_equal(server_connection_count(rig.server), 1);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"request_timeout\"} 0"));
	rig_advance(&rig, 200);
	expect_ended(&rig, &client, "header_timeout");
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"request_timeout\"} 1"));
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"grpc\",outcome=\"timeout\"} 1"));
	rig_close(&rig);
}

/* Each has its own time: a client whose bytes always end inside one is not late. */
static void header_blocks_that_end_in_time_go_on_for_ever(void **state)
{
	struct rig rig;
	struct client client;
	char next[] = "\0\0\0\x9\4\0\0\0\1"	/* the end of one */
		      "\0\0\1\1\0\0\0\0\1\x83"; /* the beginning of another */

	(void)state;
	rig_open(&rig, GRPC);
	client_open(&client, &rig);
	client_say(&client, H2_PREFACE);
	client_send(&client, SPAN(SETTINGS HEADERS_UNFINISHED));
	rig_turns(&rig, 5);
	for (unsigned i = 1; i < 20; i++) {
		rig_advance(&rig, 4000);
		next[8] = (char)(2 * i - 1);
		next[17] = (char)(2 * i + 1);
		client_send(&client, span_make(next, sizeof(next) - 1));
		rig_turns(&rig, 5);
		assert_int_equal(server_connection_count(rig.server), 1);
	}
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"request_timeout\"} 0"));
	client_close(&client);
	rig_close(&rig);
}

static void preface_without_settings_ends_the_connection(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, GRPC);
	client_open(&client, &rig);
	client_say(&client, H2_PREFACE);
	rig_turns(&rig, 5);
	rig_advance(&rig, 4900);
	assert_int_equal(server_connection_count(rig.server), 1);
	rig_advance(&rig, 200);
	expect_ended(&rig, &client, "header_timeout");
	rig_close(&rig);
}

/* A glitch that time makes ends the connection as well as one that comes in bytes. */
static void bodies_without_end_come_to_a_threshold(void **state)
{
	enum { CALLS = (GLITCHES_THRESHOLD + GLITCHES_CREDIT_MAX) / 500 };
	struct pair pair;
	struct test_call calls[CALLS];

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t i = 0; i < CALLS; i++)
		call_start(&pair.client, &calls[i], "/t.S/Echo", NULL, false);
	h2_client_pumps(&pair.client, 5);
	rig_advance(&pair.rig, 9000);
	h2_client_pumps(&pair.client, 5);
	assert_false(pair.client.goaway);
	rig_advance(&pair.rig, 1100);
	PUMP_UNTIL(&pair.client, pair.client.goaway);
	assert_int_equal(pair.client.goaway_code, H2_ENHANCE_YOUR_CALM);
	PUMP_UNTIL(&pair.client, pair.client.client.ended);
	client_close(&pair.client.client);
	RIG_UNTIL(&pair.rig, server_connection_count(pair.rig.server) == 0);
	assert_true(
		rig_has_metric(&pair.rig, "gateway_glitches_total{kind=\"too_many_glitches\"} 1"));
	assert_true(rig_has_metric(
		&pair.rig, "gateway_connections_total{listener=\"grpc\",outcome=\"protocol\"} 1"));
	pair_close(&pair);
	for (size_t i = 0; i < CALLS; i++)
		call_finish(&calls[i]);
}

/* Given up before the answer, and young: more than there is credit for. */
static void streams_given_up_young_are_glitches_and_old_ones_are_not(void **state)
{
	enum { CALLS = 8, ROUNDS = 30 };

	(void)state;
	for (int is_old = 0; is_old < 2; is_old++) {
		struct test_call calls[CALLS];
		struct pair pair;

		pair_open(&pair, GRPC);
		for (unsigned round = 1; round <= ROUNDS; round++) {
			for (size_t i = 0; i < CALLS; i++)
				call_unary(&pair.client, &calls[i], "/t.S/Hold", NULL, SPAN("x"));
			PUMP_UNTIL(&pair.client, pair.rig.held_count == CALLS);
			rig_advance(&pair.rig, is_old ? 1000 : 900);
			for (size_t i = 0; i < CALLS; i++)
				h2_stream_reset(&calls[i].stream, H2_CANCEL);
			PUMP_UNTIL(&pair.client, pair.rig.cancelled == CALLS * round);
			for (size_t i = 0; i < CALLS; i++)
				call_finish(&calls[i]);
		}
		assert_false(pair.client.goaway);
		assert_int_equal(
			rig_has_metric(&pair.rig, "gateway_glitches_total{kind=\"rapid_reset\"} 0"),
			is_old);
		pair_close(&pair);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_block_without_end_ends_the_connection),
		cmocka_unit_test(header_blocks_that_end_in_time_go_on_for_ever),
		cmocka_unit_test(preface_without_settings_ends_the_connection),
		cmocka_unit_test(bodies_without_end_come_to_a_threshold),
		cmocka_unit_test(streams_given_up_young_are_glitches_and_old_ones_are_not),
	};

	return cmocka_run_group_tests_name("glitch_score", tests, NULL, NULL);
}
