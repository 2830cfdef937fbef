/* Connections: made, lost, refused, silent. */
#include "unit/upstream/rig.h"

/* ---- sent again, or not ---- */

static void goaway_below_a_call_sends_it_again(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_GOAWAY_UNSEEN;
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	assert_string_equal(rig->calls[0].message, "aaaaa");
	assert_string_equal(rig->calls[0].message, "aaaaa");
	assert_int_equal(rig->services[0].calls, 2);
	assert_int_equal(rig->services[0].connections, 2);
	assert_true(has_metric(rig, "upstream_grpc_retries_total{upstream=\"fleet\"} 1\n"));
}

/* The request is submitted but has not left when GOAWAY is read. */
static void call_that_goaway_overtakes_is_sent_again(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);

	struct peer *peer = CONTAINER_OF(rig->services[0].peers.next, struct peer, link);

	/* last id 2^31 - 1: a server's first notice */
	conn_send(&peer->conn, SPAN("\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0"));
	assert_int_equal(worker_turn(rig->worker, 2000), 0);
	assert_int_equal(start(rig, 0), 0);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 1);
	assert_int_equal(rig->services[0].connections, 2);
	assert_true(has_metric(rig, "upstream_grpc_retries_total{upstream=\"fleet\"} 1\n"));
}

static void goaway_above_a_call_lets_it_end(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_GOAWAY_SEEN;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 4);
	assert_true(rig->services[0].connections >= 4);
	assert_true(has_metric(rig, "upstream_grpc_retries_total{upstream=\"fleet\"} 0\n"));
}

static void refused_stream_is_sent_again_to_another_connection(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 2);
	rig_start(rig);
	rig->services[0].script = SCRIPT_REFUSE;
	rig->services[1].script = SCRIPT_ECHO;
	TURN_UNTIL(rig->worker, rig->services[0].connections && rig->services[1].connections);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_true(rig->services[0].calls > 0);
	assert_int_equal(rig->services[1].calls, 6);
}

static void refused_twice_is_unavailable(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 3);
	rig_start(rig);
	for (size_t i = 0; i < 3; i++)
		rig->services[i].script = SCRIPT_REFUSE;
	TURN_UNTIL(rig->worker, rig->services[0].connections && rig->services[1].connections &&
					rig->services[2].connections);
	turns(rig, 20);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_UNAVAILABLE);
	assert_int_equal(rig->services[0].calls + rig->services[1].calls + rig->services[2].calls,
			 2);
}

static void lost_connection_fails_its_calls_at_once_and_never_sends_again(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_CLOSE;
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_UNAVAILABLE);
	assert_int_equal(rig->services[0].calls, 1);
	rig->services[0].script = SCRIPT_ECHO;
	/* the connection had answered nothing, so the next try backs off: time brings it */
	jump_ms(rig, 200);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 1).outcome, UPSTREAM_OK);
}

/* ---- connections ---- */

static void nobody_listens_is_unavailable(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	service_unlisten(&rig->services[0]);
	rig_start(rig);
	/* it waits for the first dial, and hears of its failure at once */
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_UNAVAILABLE);
	/* between two tries nobody waits */
	assert_int_equal(start(rig, 1), -UPSTREAM_UNAVAILABLE);

	/* it comes back by itself within the longest backoff */
	for (int i = 0; i < 10; i++)
		jump_ms(rig, 500);
	service_listen(&rig->services[0], rig->services[0].port);
	jump_ms(rig, 2010);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 2).outcome, UPSTREAM_OK);
}

static void useful_connection_is_dialled_again_within_100_ms_while_calls_wait(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	service_close_peers(&rig->services[0]);
	TURN_UNTIL(rig->worker, !upstream_is_ready(rig->upstream));
	assert_int_equal(start(rig, 1), 0);
	jump_ms(rig, 95);
	TURN_UNTIL(rig->worker, rig->calls[1].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].connections, 2);
}

static void service_without_settings_is_dropped_and_not_waited_for(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->services[0].is_mute = true;
	rig_start(rig);
	assert_int_equal(start_sized(rig, 0, 1, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].connections == 1);
	jump_ms(rig, 2010);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	/* both clocks run out together: there was no connection */
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_UNAVAILABLE);
	TURN_UNTIL(rig->worker, list_is_empty(&rig->services[0].peers));
	assert_int_equal(start(rig, 1), -UPSTREAM_UNAVAILABLE);
	rig->services[0].is_mute = false;
	jump_ms(rig, 500);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
}

static void half_open_peer_is_found_by_a_ping(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	rig->services[0].is_deaf = true;
	jump_ms(rig, 1000);
	assert_int_equal(start_sized(rig, 1, 1, 1000), 0);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start_sized(rig, 2, 1, 2000), 0);
	jump_ms(rig, 1010);
	assert_true(rig->calls[1].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_TIMEOUT);
	assert_false(rig->calls[2].done);
	/* the PING that followed has no answer either: what is left in flight need not wait for its
	 * deadline */
	jump_ms(rig, 900);
	assert_false(rig->calls[2].done);
	assert_int_equal(start_sized(rig, 3, 1, 2000), 0);
	jump_ms(rig, 85);
	jump_ms(rig, 1100);
	TURN_UNTIL(rig->worker, rig->calls[3].done);
	assert_int_equal(rig->calls[3].result.outcome, UPSTREAM_UNAVAILABLE);
	assert_true(has_metric(rig, "gateway_glitches_total{kind=\"upstream_silent\"} 1\n"));
}

static void slow_service_is_pinged_twice_at_most(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(start_sized(rig, i, 1, 1000), 0);
		TURN_UNTIL(rig->worker, rig->services[0].calls == i + 1);
		jump_ms(rig, 1010);
		assert_true(rig->calls[i].done);
		turns(rig, 10);
	}
	assert_int_equal(rig->services[0].pings, 2);
	assert_int_equal(rig->services[0].connections, 1);
}

static void calls_spread_over_addresses_and_connections(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 2);
	rig->config.connections = 2;
	rig_start(rig);
	TURN_UNTIL(rig->worker,
		   rig->services[0].connections == 2 && rig->services[1].connections == 2);
	turns(rig, 20);
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 10);
	assert_int_equal(rig->services[1].calls, 10);
	for (size_t i = 0; i < 2; i++)
		LIST_FOR_EACH (&rig->services[i].peers, node)
			assert_int_equal(CONTAINER_OF(node, struct peer, link)->calls, 5);
}

static void lost_address_is_left_out(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 2);
	rig_start(rig);
	TURN_UNTIL(rig->worker, rig->services[0].connections && rig->services[1].connections);
	turns(rig, 20);
	service_unlisten(&rig->services[0]);
	service_close_peers(&rig->services[0]);
	turns(rig, 20);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[1].calls, 4);
}

static void peers_stream_limit_is_obeyed(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->services[0].max_concurrent_streams = 2;
	rig->services[0].script = SCRIPT_HANG;
	rig_start(rig);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(start(rig, i), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 2);
	turns(rig, 20);
	assert_int_equal(rig->services[0].calls, 2);
	assert_false(upstream_is_ready(rig->upstream));
	/* room is passed on to those that wait */
	upstream_call_cancel(&rig->calls[0].call);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 3);
	rig->services[0].script = SCRIPT_ECHO;
	upstream_call_cancel(&rig->calls[1].call);
	TURN_UNTIL(rig->worker, rig->calls[3].done && rig->calls[4].done && rig->calls[5].done);
	assert_int_equal(rig->services[0].open_calls_max, 2);
	assert_int_equal(rig->services[0].connections, 1);
}

static void http1_service_is_no_service(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->services[0].is_mute = true;
	rig_start(rig);
	assert_int_equal(start(rig, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].connections == 1);

	struct peer *peer = CONTAINER_OF(rig->services[0].peers.next, struct peer, link);

	conn_send(&peer->conn, SPAN("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"));
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_UNAVAILABLE);
	assert_true(has_metric(rig, "gateway_glitches_total{kind=\"upstream_protocol\"} 1\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(goaway_below_a_call_sends_it_again),
		TEST(call_that_goaway_overtakes_is_sent_again),
		TEST(goaway_above_a_call_lets_it_end),
		TEST(refused_stream_is_sent_again_to_another_connection),
		TEST(refused_twice_is_unavailable),
		TEST(lost_connection_fails_its_calls_at_once_and_never_sends_again),
		TEST(nobody_listens_is_unavailable),
		TEST(useful_connection_is_dialled_again_within_100_ms_while_calls_wait),
		TEST(service_without_settings_is_dropped_and_not_waited_for),
		TEST(half_open_peer_is_found_by_a_ping),
		TEST(slow_service_is_pinged_twice_at_most),
		TEST(calls_spread_over_addresses_and_connections),
		TEST(lost_address_is_left_out),
		TEST(peers_stream_limit_is_obeyed),
		TEST(http1_service_is_no_service),
	};

	return cmocka_run_group_tests_name("upstream/grpc_link", tests, NULL, NULL);
}
