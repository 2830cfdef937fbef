/* gRPC and HTTP over HTTP/2: a client of codec/h2 over loopback. */
#include "unit/edge/h2_client.h"

#include <zlib.h>

#define GRPC (SERVER_HTTP2 | SERVER_GRPC)

static void grpc_answers_a_unary_call(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Echo", NULL, SPAN("hello"));
	call_wait(&pair.client, &call);
	assert_int_equal(call.status, 200);
	assert_int_equal(call.grpc_status, GRPC_OK);
	assert_false(call.trailers_only);
	assert_string_equal(call.type, "application/grpc");
	assert_string_equal(call.accept, "identity,gzip");
	assert_int_equal(call.body.len, 10);
	assert_memory_equal(call.body.data, "\0\0\0\0\5hello", 10);
	assert_int_equal(call.closed_code, H2_NO_ERROR);
	call_finish(&call);
	assert_true(rig_has_metric(&pair.rig,
				   "gateway_grpc_calls_total{method=\"/t.S/Echo\",code=\"OK\"} 1"));
	assert_true(rig_has_metric(
		&pair.rig, "gateway_grpc_call_latency_seconds_count{method=\"/t.S/Echo\"} 1"));
	pair_close(&pair);
}

static void grpc_answers_an_empty_message(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Echo", NULL, SPAN_EMPTY);
	call_wait(&pair.client, &call);
	assert_int_equal(call.grpc_status, GRPC_OK);
	assert_memory_equal(call.body.data, "\0\0\0\0\0", 5);
	call_finish(&call);
	pair_close(&pair);
}

/* What a request is answered with before any service sees it. */
struct refusal {
	const char *path;
	const char *extra[5];
	int status, grpc_status; /* -1: no gRPC answer */
	const char *message;
};

static void grpc_refuses_by_row(void **state)
{
	static const struct refusal rows[] = {
		{"/t.S/Nothing", {NULL}, 200, GRPC_UNIMPLEMENTED, "unknown method"},
		{"/", {NULL}, 200, GRPC_UNIMPLEMENTED, "unknown method"},
		{"/t.S/Echo", {"content-type", "application/json", NULL}, 415, -1, ""},
		{"/t.S/Echo", {"content-type", "application/grpc-web", NULL}, 415, -1, ""},
		{"/t.S/Nothing", {"content-type", "text/plain", NULL}, 415, -1, ""},
		{"/t.S/Echo", {":method", "PUT", NULL}, 405, -1, ""},
		{"/t.S/Echo",
		 {"grpc-encoding", "zstd", NULL},
		 200,
		 GRPC_UNIMPLEMENTED,
		 "grpc-encoding is not supported"},
		{"/t.S/Echo",
		 {"grpc-timeout", "soon", NULL},
		 200,
		 GRPC_INVALID_ARGUMENT,
		 "request is malformed"},
		{"/t.S/Echo",
		 {"grpc-timeout", "0m", NULL},
		 200,
		 GRPC_DEADLINE_EXCEEDED,
		 "deadline exceeded"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct pair pair;
		struct test_call call, next;

		pair_open(&pair, GRPC);
		/* its body is not waited for */
		call_start(&pair.client, &call, rows[i].path, rows[i].extra, false);
		call_wait(&pair.client, &call);
		assert_int_equal(call.status, rows[i].status);
		assert_int_equal(call.grpc_status, rows[i].grpc_status);
		assert_string_equal(call.message, rows[i].message);
		assert_int_equal(call.trailers_only, rows[i].grpc_status >= 0);
		if (rows[i].grpc_status == GRPC_UNIMPLEMENTED)
			assert_string_equal(call.accept, "identity,gzip");
		call_finish(&call);
		assert_int_equal(pair.rig.started, 0);
		call_unary(&pair.client, &next, "/t.S/Echo", NULL, SPAN("x"));
		call_wait(&pair.client, &next);
		assert_int_equal(next.grpc_status, GRPC_OK);
		call_finish(&next);
		pair_close(&pair);
	}
}

static void grpc_accepts_the_usual_headers(void **state)
{
	static const char *const rows[][5] = {
		{"content-type", "application/grpc+proto", NULL},
		{"content-type", "application/grpc; charset=utf-8", NULL},
		{"content-type", "Application/GRPC", NULL},
		{"grpc-encoding", "identity", NULL},
		{"grpc-encoding", "gzip", NULL},
		{"grpc-timeout", "99999999H", NULL},
		{"user-agent", "x", "grpc-accept-encoding", "br", NULL},
	};
	struct pair pair;

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct test_call call;

		call_unary(&pair.client, &call, "/t.S/Echo", rows[i], SPAN("x"));
		call_wait(&pair.client, &call);
		assert_int_equal(call.grpc_status, GRPC_OK);
		call_finish(&call);
	}
	pair_close(&pair);
}

static void grpc_statuses_carry_text_and_retry(void **state)
{
	static const struct {
		const char *path;
		int code;
		const char *message, *retry;
	} rows[] = {
		{"/t.S/Refuse", GRPC_RESOURCE_EXHAUSTED,
		 "authenticated request rate limit exceeded", "250"},
		{"/t.S/RefuseText", GRPC_NOT_FOUND, "100%25 %C3%A9%0A", ""},
		{"/t.S/RefuseField", GRPC_INVALID_ARGUMENT, "request_id must not be empty", ""},
	};
	struct pair pair;

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct test_call call;

		call_unary(&pair.client, &call, rows[i].path, NULL, SPAN("x"));
		call_wait(&pair.client, &call);
		assert_int_equal(call.status, 200);
		assert_true(call.trailers_only);
		assert_int_equal(call.grpc_status, rows[i].code);
		assert_string_equal(call.message, rows[i].message);
		assert_string_equal(call.retry, rows[i].retry);
		call_finish(&call);
	}
	pair_close(&pair);
}

static void grpc_wants_exactly_one_message(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int code;
	} rows[] = {
		{"", 0, GRPC_UNIMPLEMENTED},
		{"\0\0\0\0\1a\0\0\0\0\1b", 12, GRPC_UNIMPLEMENTED},
		{"\0\0\0\0\1a\0", 7, GRPC_UNIMPLEMENTED},
		{"\0\0\0\0\2a", 6, GRPC_INTERNAL},
		{"\0\0\0", 3, GRPC_INTERNAL},
		{"\1\0\0\0\1a", 6, GRPC_INTERNAL},
		{"\2\0\0\0\1a", 6, GRPC_INTERNAL},
		{"\0\0\1\0\1", 5, GRPC_RESOURCE_EXHAUSTED},
		{"\0\377\377\377\377", 5, GRPC_RESOURCE_EXHAUSTED},
	};
	struct pair pair;

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct test_call call;

		call_start(&pair.client, &call, "/t.S/Echo", NULL, rows[i].len == 0);
		if (rows[i].len > 0) {
			call_write(&call, span_make(rows[i].bytes, rows[i].len));
			call_end_writing(&call);
		}
		call_wait(&pair.client, &call);
		assert_int_equal(call.grpc_status, rows[i].code);
		assert_true(call.trailers_only);
		call_finish(&call);
	}
	assert_int_equal(pair.rig.started, 0);
	pair_close(&pair);
}

/* A payload of several messages, cut in one of them: that one is completed, those behind it go. */
static void grpc_cut_completes_the_message_that_has_begun(void **state)
{
	static const struct {
		uint32_t window, wanted; /* bytes, of messages of 100 */
	} rows[] = {{1, 100}, {99, 100}, {100, 100}, {101, 200}, {150, 200}, {250, 300}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct pair pair;
		struct test_call call;
		struct payload *three = payload_create(300);

		memset(three->data, 0, 300);
		three->messages = 3;
		for (size_t at = 0; at < 300; at += 100)
			grpc_write_prefix(three->data + at, 100 - GRPC_PREFIX_BYTES);
		rig_open(&pair.rig, GRPC);
		h2_client_open_windowed(&pair.client, &pair.rig, rows[i].window);
		pair.client.reads = false;
		call_unary(&pair.client, &call, "/t.S/Stream", NULL, SPAN_EMPTY);
		PUMP_UNTIL(&pair.client, pair.rig.stream);
		rpc_give(pair.rig.stream, three);
		PUMP_UNTIL(&pair.client, call.body.len == rows[i].window);
		rpc_cut(pair.rig.stream, ERR_STREAM_OVERFLOWED);
		pair.client.reads = true;
		h2_consume(&call.stream, rows[i].window);
		call_wait(&pair.client, &call);
		assert_int_equal(call.body.len, rows[i].wanted);
		assert_int_equal(call.grpc_status, GRPC_RESOURCE_EXHAUSTED);
		call_finish(&call);
		pair_close(&pair);
	}
}

static void grpc_takes_a_message_cut_anywhere(void **state)
{
	static const char bytes[] = "\0\0\0\0\5hello";
	struct pair pair;

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t cut = 1; cut < 10; cut++) {
		struct test_call call;

		call_start(&pair.client, &call, "/t.S/Echo", NULL, false);
		call_write(&call, span_make(bytes, cut));
		h2_client_pumps(&pair.client, 2);
		call_write(&call, span_make(bytes + cut, 10 - cut));
		h2_client_pumps(&pair.client, cut % 2);
		call_end_writing(&call);
		call_wait(&pair.client, &call);
		assert_int_equal(call.grpc_status, GRPC_OK);
		assert_memory_equal(call.body.data, bytes, 10);
		call_finish(&call);
	}
	pair_close(&pair);
}

static void grpc_moves_large_messages_both_ways(void **state)
{
	size_t len = 3u << 20;
	uint8_t *body = malloc(len);
	struct pair pair;
	struct test_call call;

	(void)state;
	assert_non_null(body);
	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(i * 31 + i / 255);
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Large", NULL, span_make(body, len));
	call_wait(&pair.client, &call);
	assert_int_equal(call.grpc_status, GRPC_OK);
	assert_int_equal(call.body.len, len + 5);
	assert_memory_equal(call.body.data + 5, body, len);
	call_finish(&call);
	free(body);
	pair_close(&pair);
}

static size_t gzip(const uint8_t *bytes, size_t len, uint8_t *out, size_t size)
{
	z_stream zlib = {.next_in = (z_const Bytef *)bytes, .avail_in = (uInt)len};

	assert_int_equal(deflateInit2(&zlib, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	zlib.next_out = out;
	zlib.avail_out = (uInt)size;
	assert_int_equal(deflate(&zlib, Z_FINISH), Z_STREAM_END);
	deflateEnd(&zlib);
	return size - zlib.avail_out;
}

static void grpc_inflates_gzip_within_the_limit(void **state)
{
	static const char *const extra[] = {"grpc-encoding", "gzip", NULL};
	static uint8_t plain[200000], packed[4096];
	static const struct {
		size_t len;
		int code;
	} rows[] = {{1000, GRPC_OK},
		    {65536, GRPC_OK},
		    {65537, GRPC_RESOURCE_EXHAUSTED},
		    {200000, GRPC_RESOURCE_EXHAUSTED}};
	struct pair pair;

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t len = gzip(plain, rows[i].len, packed + 5, sizeof(packed) - 5);
		struct test_call call;

		grpc_write_prefix(packed, (uint32_t)len);
		packed[0] = 1;
		call_start(&pair.client, &call, "/t.S/Echo", extra, false);
		call_write(&call, span_make(packed, len + 5));
		call_end_writing(&call);
		call_wait(&pair.client, &call);
		assert_int_equal(call.grpc_status, rows[i].code);
		assert_int_equal(call.body.len, rows[i].code == GRPC_OK ? rows[i].len + 5 : 0);
		call_finish(&call);
	}
	pair_close(&pair);
}

static void grpc_bounds_the_bodies_of_one_connection(void **state)
{
	size_t len = 15u << 20;
	uint8_t *body = calloc(1, len);
	struct pair pair;
	struct test_call calls[6];
	unsigned refused = 0;

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		call_unary(&pair.client, &calls[i], "/t.S/HoldLarge", NULL, span_make(body, len));
		for (unsigned n = 0;
		     n < RIG_TURNS_MAX && pair.rig.held_count <= i && !calls[i].closed; n++)
			h2_client_pump(&pair.client);
		refused += calls[i].closed && calls[i].grpc_status == GRPC_RESOURCE_EXHAUSTED;
	}
	assert_int_equal(pair.rig.held_count, 4);
	assert_int_equal(refused, 2);
	assert_true(rig_has_metric(&pair.rig,
				   "gateway_glitches_total{kind=\"request_body_memory\"} 2"));
	while (pair.rig.held_count > 0)
		rpc_finish(pair.rig.held[--pair.rig.held_count], GRPC_OK, SPAN_EMPTY);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		call_wait(&pair.client, &calls[i]);
		call_finish(&calls[i]);
	}
	free(body);
	pair_close(&pair);
}

static void grpc_gives_up_at_the_callers_deadline(void **state)
{
	static const char *const extra[] = {"grpc-timeout", "250m", NULL};
	struct pair pair;
	struct test_call held, late;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &held, "/t.S/Hold", extra, SPAN("x"));
	call_start(&pair.client, &late, "/t.S/Echo", extra, false);
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	h2_client_pumps(&pair.client, 10);
	assert_int_equal(request_time_left_ms(pair.rig.held[0]), 250);
	rig_advance(&pair.rig, 200);
	assert_int_equal(request_time_left_ms(pair.rig.held[0]), 50);
	assert_int_equal(pair.rig.cancelled, 0);
	rig_advance(&pair.rig, 51);
	assert_int_equal(pair.rig.cancelled, 1);
	call_wait(&pair.client, &held);
	call_wait(&pair.client, &late);
	assert_int_equal(held.grpc_status, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(held.message, "deadline exceeded");
	assert_int_equal(late.grpc_status, GRPC_DEADLINE_EXCEEDED);
	assert_int_equal(pair.rig.cancelled, 1);
	call_finish(&held);
	call_finish(&late);
	pair_close(&pair);
}

static void grpc_request_that_does_not_arrive_is_given_up(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_start(&pair.client, &call, "/t.S/Echo", NULL, false);
	call_write(&call, SPAN("\0\0\0\0\5he"));
	h2_client_pumps(&pair.client, 20);
	rig_advance(&pair.rig, 9900);
	h2_client_pumps(&pair.client, 3);
	assert_false(call.closed);
	rig_advance(&pair.rig, 200);
	call_wait(&pair.client, &call);
	assert_int_equal(call.grpc_status, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(call.message, "request took too long");
	call_finish(&call);
	pair_close(&pair);
}

static void grpc_cancels_once_at_every_stage(void **state)
{
	enum { BEFORE_BODY, IN_SERVICE, IN_STREAM, AFTER_END, STAGES };

	(void)state;
	for (int stage = 0; stage < STAGES; stage++) {
		for (int by_loss = 0; by_loss < 2; by_loss++) {
			struct pair pair;
			struct test_call call;

			pair_open(&pair, GRPC);
			pair.rig.stream_left = 5;
			pair.rig.stream_ends = stage == AFTER_END;
			if (stage == BEFORE_BODY)
				call_start(&pair.client, &call, "/t.S/Hold", NULL, false);
			else
				call_unary(&pair.client, &call,
					   stage == IN_SERVICE ? "/t.S/Hold" : "/t.S/Stream", NULL,
					   SPAN("x"));
			if (stage == BEFORE_BODY)
				h2_client_pumps(&pair.client, 10);
			else if (stage == AFTER_END)
				call_wait(&pair.client, &call);
			else
				PUMP_UNTIL(&pair.client,
					   pair.rig.started == 1 &&
						   call.body.len ==
							   (stage == IN_STREAM ? 5120 : 0));
			if (by_loss) {
				client_abort(&pair.client.client);
				pair.client.client.fd = -1;
			} else {
				h2_stream_reset(&call.stream, H2_CANCEL);
				h2_client_pumps(&pair.client, 10);
			}
			if (by_loss)
				RIG_UNTIL(&pair.rig, server_connection_count(pair.rig.server) == 0);
			assert_int_equal(pair.rig.cancelled,
					 stage == IN_SERVICE || stage == IN_STREAM);
			if (stage == IN_SERVICE)
				assert_true(rig_has_metric(&pair.rig,
							   "gateway_grpc_calls_total{method=\"/t.S/"
							   "Hold\",code=\"CANCELLED\"} 1"));
			pair_close(&pair);
			call_finish(&call);
		}
	}
}

static void grpc_cancels_when_the_client_just_leaves(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, GRPC);
	call_unary(&pair.client, &call, "/t.S/Hold", NULL, SPAN("x"));
	PUMP_UNTIL(&pair.client, pair.rig.held_count == 1);
	client_close(&pair.client.client);
	RIG_UNTIL(&pair.rig, server_connection_count(pair.rig.server) == 0);
	assert_int_equal(pair.rig.cancelled, 1);
	pair_close(&pair);
	call_finish(&call);
}

static void grpc_serves_many_calls_at_once(void **state)
{
	static struct test_call calls[500];
	struct pair pair;

	(void)state;
	pair_open(&pair, GRPC);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		call_unary(&pair.client, &calls[i], "/t.S/Echo", NULL, SPAN("hello"));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		call_wait(&pair.client, &calls[i]);
		assert_int_equal(calls[i].grpc_status, GRPC_OK);
		call_finish(&calls[i]);
	}
	assert_int_equal(pair.rig.started, 500);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grpc_answers_a_unary_call),
		cmocka_unit_test(grpc_answers_an_empty_message),
		cmocka_unit_test(grpc_refuses_by_row),
		cmocka_unit_test(grpc_accepts_the_usual_headers),
		cmocka_unit_test(grpc_statuses_carry_text_and_retry),
		cmocka_unit_test(grpc_wants_exactly_one_message),
		cmocka_unit_test(grpc_cut_completes_the_message_that_has_begun),
		cmocka_unit_test(grpc_takes_a_message_cut_anywhere),
		cmocka_unit_test(grpc_moves_large_messages_both_ways),
		cmocka_unit_test(grpc_inflates_gzip_within_the_limit),
		cmocka_unit_test(grpc_bounds_the_bodies_of_one_connection),
		cmocka_unit_test(grpc_gives_up_at_the_callers_deadline),
		cmocka_unit_test(grpc_request_that_does_not_arrive_is_given_up),
		cmocka_unit_test(grpc_cancels_once_at_every_stage),
		cmocka_unit_test(grpc_cancels_when_the_client_just_leaves),
		cmocka_unit_test(grpc_serves_many_calls_at_once),
	};

	return cmocka_run_group_tests_name("grpc", tests, NULL, NULL);
}
