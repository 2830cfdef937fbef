/* gRPC streams: pulled, held back, cut. */
#include "unit/edge/h2_client.h"

#include "edge/face_h2.h"

#define GRPC (SERVER_HTTP2 | SERVER_GRPC)

static void stream_sends_as_it_is_pulled(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	pair.rig.stream_left = 1000;
	call_unary(&pair.client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&pair.client, call.body.len == 1000 * 1024);
	assert_false(call.closed);
	pair.rig.stream_left = 3;
	pair.rig.stream_ends = true;
	rpc_resume(pair.rig.stream);
	call_wait(&pair.client, &call);
	assert_int_equal(call.body.len, 1003 * 1024);
	assert_int_equal(call.grpc_status, GRPC_OK);
	call_finish(&call);
	pair_close(&pair);
}

static void stream_that_ends_in_its_first_pull_is_trailers_only(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	pair.rig.stream_ends = true;
	call_unary(&pair.client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	call_wait(&pair.client, &call);
	assert_true(call.trailers_only);
	assert_int_equal(call.grpc_status, GRPC_OK);
	call_finish(&call);
	pair_close(&pair);
}

static void stream_is_not_pulled_without_window(void **state)
{
	struct rig rig;
	struct h2_client client;
	struct test_call call;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 65535);
	client.reads = false;
	rig.stream_left = 1u << 30;
	call_unary(&client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&client, call.body.len == 65535);

	unsigned pulls = rig.pulls;
	uint64_t left = rig.stream_left;

	for (unsigned i = 0; i < 20; i++) {
		rpc_resume(rig.stream);
		h2_client_pump(&client);
	}
	assert_true(rig.pulls - pulls <= 1);
	assert_true(left - rig.stream_left <= 64);
	assert_true(rig.stream->sent_bytes < 65535 + 2 * 65536 + 1024);
	h2_client_close(&client);
	RIG_UNTIL(&rig, rig.cancelled == 1);
	call_finish(&call);
	rig_close(&rig);
}

static void stream_is_not_pulled_while_the_peer_does_not_read(void **state)
{
	struct rig rig;
	struct h2_client client;
	struct test_call call;
	int small = 8192;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 1u << 30);
	assert_int_equal(setsockopt(client.client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)),
			 0);
	call_unary(&client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&client, rig.stream);
	rig.stream_left = 1u << 30;
	rpc_resume(rig.stream);
	rig_turns(&rig, 50);

	uint64_t sent = rig.stream->sent_bytes;

	/* what the kernel took, the send queue's room and one stream's queue */
	assert_true(sent < 8u << 20);
	for (unsigned i = 0; i < 50; i++) {
		rpc_resume(rig.stream);
		rig_turn(&rig);
	}
	assert_int_equal(rig.stream->sent_bytes, sent);
	for (unsigned i = 0; i < RIG_TURNS_MAX && rig.stream->sent_bytes < sent * 2; i++)
		h2_client_pump(&client);
	assert_true(rig.stream->sent_bytes >= sent * 2);
	rig.stream_left = 0;
	h2_client_close(&client);
	call_finish(&call);
	rig_close(&rig);
}

/* Whether the bytes are whole messages of this size. */
static void check_messages(struct span bytes, size_t each)
{
	assert_int_equal(bytes.len % each, 0);
	for (size_t at = 0; at < bytes.len; at += each)
		assert_int_equal(bytes.data[at + 3] << 8 | bytes.data[at + 4], each - 5);
}

static void stream_cut_drops_what_has_not_begun_and_keeps_a_message_whole(void **state)
{
	struct rig rig;
	struct h2_client client;
	struct test_call call;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 10000);
	client.reads = false;
	rig.stream_bytes = 3000;
	rig.stream_left = 1000;
	call_unary(&client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&client, call.body.len == 10000);
	rpc_cut(rig.stream, ERR_STREAM_OVERFLOWED);
	rig.stream = NULL;
	h2_client_pumps(&client, 10);
	assert_false(call.closed);
	h2_consume(&call.stream, 10000);
	call_wait(&client, &call);
	assert_int_equal(call.body.len, 12000);
	check_messages(buf_span(&call.body), 3000);
	assert_int_equal(call.grpc_status, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(call.message, "push stream overflowed");
	assert_int_equal(rig.cancelled, 0);
	call_finish(&call);
	h2_client_close(&client);
	rig_close(&rig);
}

static void stream_cut_between_messages_ends_without_window(void **state)
{
	struct rig rig;
	struct h2_client client;
	struct test_call call;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 9000);
	client.reads = false;
	rig.stream_bytes = 3000;
	rig.stream_left = 1000;
	call_unary(&client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&client, call.body.len == 9000);
	rpc_cut(rig.stream, ERR_STREAM_OVERFLOWED);
	call_wait(&client, &call);
	assert_int_equal(call.grpc_status, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(call.body.len, 9000);
	call_finish(&call);
	h2_client_close(&client);
	rig_close(&rig);
}

static void stream_without_window_is_not_owed_to(void **state)
{
	struct rig rig;
	struct h2_client client;
	struct test_call stream, held;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 10000);
	client.reads = false;
	rig.stream_bytes = 16389;
	rig.stream_left = 1000;
	call_unary(&client, &stream, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&client, stream.body.len == 10000);
	assert_int_equal(server_owing_count(rig.server), 0);
	call_unary(&client, &held, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&client, rig.held_count == 1);
	assert_int_equal(server_owing_count(rig.server), 1);
	rpc_cut(rig.held[0], ERR_SHUTTING_DOWN);
	assert_int_equal(server_owing_count(rig.server), 0);
	call_wait(&client, &held);
	call_finish(&held);
	call_finish(&stream);
	h2_client_close(&client);
	rig_close(&rig);
}

static void stream_cut_is_reset_after_30_s_without_window(void **state)
{
	struct rig rig;
	struct h2_client client;
	struct test_call call;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 10000);
	client.reads = false;
	rig.stream_bytes = 16389;
	rig.stream_left = 1000;
	call_unary(&client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&client, call.body.len == 10000);
	rpc_cut(rig.stream, ERR_STREAM_OVERFLOWED);
	rig_advance(&rig, 29900);
	/* a little window, then none: the time begins anew */
	h2_consume(&call.stream, 6000);
	PUMP_UNTIL(&client, call.body.len == 16000);
	rig_advance(&rig, 200);
	h2_client_pumps(&client, 10);
	rig_advance(&rig, 29700);
	h2_client_pumps(&client, 10);
	assert_false(call.closed);
	rig_advance(&rig, 300);
	call_wait(&client, &call);
	assert_int_equal(call.closed_code, H2_CANCEL);
	assert_int_equal(call.grpc_status, -1);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"stream_stalled\"} 1"));
	call_finish(&call);
	h2_client_close(&client);
	rig_close(&rig);
}

static void stream_refuses_more_than_its_queue_holds(void **state)
{
	struct pair pair;
	struct test_call call;
	bool more = true;
	unsigned sent = 0;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	while (more && sent < 1000) {
		more = message_send(pair.rig.held[0], SPAN("x"));
		sent++;
	}
	assert_int_equal(sent, 64);
	/* a service that goes on all the same loses its call, not the process its memory */
	for (unsigned i = 0; i < 2000; i++)
		assert_false(message_send(pair.rig.held[0], SPAN("x")));
	assert_int_equal(pair.rig.cancelled, 0);
	call_wait(&pair.client, &call);
	assert_int_equal(pair.rig.cancelled, 1);
	assert_int_equal(call.grpc_status, GRPC_RESOURCE_EXHAUSTED);
	call_finish(&call);
	pair_close(&pair);
}

#define CHAT_BYTES (RIG_BIG_BYTES + GRPC_PREFIX_BYTES)

/* Whole ones, too. */
static void whole_answers_that_are_not_taken_are_bounded_for_each_connection(void **state)
{
	enum { KEPT_COUNT = HTTP2_ANSWER_BYTES_MAX / CHAT_BYTES };
	static struct test_call calls[KEPT_COUNT + 1];
	struct rig rig;
	struct h2_client client;
	struct test_call later;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 60000);
	client.reads = false;
	for (unsigned i = 0; i <= KEPT_COUNT; i++) {
		call_start(&client, &calls[i], "/t.S/Chat", NULL, false);
		call_write_message(&calls[i], SPAN("x"));
		call_end_writing(&calls[i]);
		PUMP_UNTIL(&client, i == KEPT_COUNT ? calls[i].closed : calls[i].body.len == 60000);
	}
	assert_int_equal(calls[KEPT_COUNT].closed_code, H2_ENHANCE_YOUR_CALM);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"request_body_memory\"} 1"));
	/* one that is taken makes room for the next */
	client.reads = true;
	h2_consume(&calls[0].stream, 60000);
	call_wait(&client, &calls[0]);
	assert_int_equal(calls[0].body.len, CHAT_BYTES);
	call_start(&client, &later, "/t.S/Chat", NULL, false);
	call_write_message(&later, SPAN("x"));
	call_end_writing(&later);
	call_wait(&client, &later);
	assert_int_equal(later.grpc_status, GRPC_OK);
	assert_int_equal(later.body.len, CHAT_BYTES);
	for (unsigned i = 0; i <= KEPT_COUNT; i++)
		call_finish(&calls[i]);
	call_finish(&later);
	h2_client_close(&client);
	rig_close(&rig);
}

/* Answers that a client asks for and does not take count as bodies do, until it takes them. */
static void answers_that_are_not_taken_are_bounded_for_each_connection(void **state)
{
	struct rig rig;
	struct h2_client client;
	struct test_call patient, greedy, other;

	(void)state;
	rig_open(&rig, GRPC);
	h2_client_open_windowed(&client, &rig, 60000);
	client.reads = false;
	call_start(&client, &patient, "/t.S/Chat", NULL, false);
	for (unsigned i = 0; i < 62; i++)
		call_write_message(&patient, SPAN("x"));
	PUMP_UNTIL(&client, rig.chats == 62 && patient.body.len == 60000);
	call_start(&client, &greedy, "/t.S/Chat", NULL, false);
	for (unsigned i = 0; i < 3; i++) {
		call_write_message(&greedy, SPAN("x"));
		PUMP_UNTIL(&client, rig.chats == 62 + 1 + i);
	}
	PUMP_UNTIL(&client, rig.cancelled == 1);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"request_body_memory\"} 1"));
	/* others are served at once: what is not sent any more does not count */
	call_unary(&client, &other, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&client, rig.held_count == 1);
	/* a message that has begun is completed */
	client.reads = true;
	h2_consume(&greedy.stream, 60000);
	call_wait(&client, &greedy);
	assert_int_equal(greedy.body.len, CHAT_BYTES);
	assert_int_equal(greedy.grpc_status, GRPC_RESOURCE_EXHAUSTED);
	h2_consume(&patient.stream, 60000);
	PUMP_UNTIL(&client, patient.body.len == 62 * CHAT_BYTES);
	/* what was taken is forgotten */
	call_write_message(&patient, SPAN("x"));
	PUMP_UNTIL(&client, patient.body.len == 63 * CHAT_BYTES);
	assert_int_equal(CONTAINER_OF(rig.held[0], struct call, request)->http2->body_bytes, 1);
	call_end_writing(&patient);
	call_wait(&client, &patient);
	assert_int_equal(patient.grpc_status, GRPC_OK);
	call_finish(&patient);
	call_finish(&greedy);
	call_finish(&other);
	h2_client_close(&client);
	rig_close(&rig);
}

/* Not even if its service has seen no fault and ends it well. */
static void stream_that_has_lost_a_message_does_not_end_well(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN_EMPTY);
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	for (unsigned i = 0; i <= H2_QUEUE_SLICES_MAX; i++)
		(void)message_send(pair.rig.held[0], SPAN("x"));
	rpc_finish(pair.rig.held[0], GRPC_OK, SPAN_EMPTY);
	call_wait(&pair.client, &call);
	assert_int_equal(call.body.len, H2_QUEUE_SLICES_MAX * (GRPC_PREFIX_BYTES + 1));
	assert_int_equal(call.grpc_status, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(call.message, "out of memory");
	assert_int_equal(pair.rig.cancelled, 0);
	call_finish(&call);
	pair_close(&pair);
}

/* What a long-lived call was asked is given back; what its end is logged with stays. */
static void settled_call_keeps_its_ids_and_nothing_else(void **state)
{
	static const char *const headers[] = {"x-request-id", "id-1", "x-other", "value", NULL};
	static uint8_t body[20000];
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Watch", headers, span_make(body, sizeof(body)));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);

	struct request *request = pair.rig.held[0];
	struct call *served = CONTAINER_OF(request, struct call, request);

	assert_int_equal(request->body.len, sizeof(body));
	assert_true(served->http2->body_bytes >= sizeof(body));
	request_settle(request);
	assert_true(span_equal(request->request_id, SPAN("id-1")));
	assert_true(span_equal(request->path, SPAN("/t.S/Watch")));
	assert_true(span_equal(request->method, SPAN("POST")));
	assert_int_equal(request->body.len, 0);
	assert_int_equal(request->arena.used_bytes, sizeof("id-1"));
	assert_int_equal(served->http2->body_bytes, 0);
	assert_null(served->body.data);
	assert_null(served->deframer.message.data);

	struct payload *message = payload_copy(SPAN("\0\0\0\0\1x"));

	assert_true(
		rpc_send(request, (struct payload_slice){.payload = message, .len = message->len}));
	payload_put(message);
	PUMP_UNTIL(&pair.client, call.body.len > 0);
	pair.rig.held_count = 0;
	rpc_finish(request, GRPC_OK, SPAN_EMPTY);
	call_wait(&pair.client, &call);
	assert_int_equal(call.grpc_status, GRPC_OK);
	call_finish(&call);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stream_sends_as_it_is_pulled),
		cmocka_unit_test(stream_that_ends_in_its_first_pull_is_trailers_only),
		cmocka_unit_test(stream_is_not_pulled_without_window),
		cmocka_unit_test(stream_is_not_pulled_while_the_peer_does_not_read),
		cmocka_unit_test(stream_cut_drops_what_has_not_begun_and_keeps_a_message_whole),
		cmocka_unit_test(stream_cut_between_messages_ends_without_window),
		cmocka_unit_test(stream_without_window_is_not_owed_to),
		cmocka_unit_test(stream_cut_is_reset_after_30_s_without_window),
		cmocka_unit_test(stream_refuses_more_than_its_queue_holds),
		cmocka_unit_test(answers_that_are_not_taken_are_bounded_for_each_connection),
		cmocka_unit_test(whole_answers_that_are_not_taken_are_bounded_for_each_connection),
		cmocka_unit_test(stream_that_has_lost_a_message_does_not_end_well),
		cmocka_unit_test(settled_call_keeps_its_ids_and_nothing_else),
	};

	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
