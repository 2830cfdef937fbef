/* What an HTTP/2 call waits for: the least rate of its body. */
#include "unit/edge/h2_client.h"

#define BOTH       (SERVER_HTTP1 | SERVER_HTTP2)
#define BODY_BYTES 1024

static const char *const text_type[] = {"content-type", "text/plain", NULL};

static void slow_open(struct pair *pair, unsigned protocols, uint64_t rate, uint64_t timeout_ms)
{
	pair_open(pair, protocols);
	pair->rig.config.http_body_timeout_ms = timeout_ms;
	pair->rig.config.http_min_body_rate = rate;
}

static bool has_glitches(struct pair *pair, const char *kind, unsigned count)
{
	char line[96];

	snprintf(line, sizeof(line), "gateway_glitches_total{kind=\"%s\"} %u", kind, count);
	return rig_has_metric(&pair->rig, line);
}

/* So many bytes of the body's rest, and its end with the last; nothing of one that is answered. */
static void write_some(struct test_call *call, size_t *left, size_t bytes)
{
	uint8_t text[BODY_BYTES];

	if (bytes > *left)
		bytes = *left;
	if (bytes == 0 || call->answered || call->closed)
		return;
	memset(text, 'x', bytes);
	call_write(call, span_make(text, bytes));
	*left -= bytes;
	if (*left == 0)
		call_end_writing(call);
}

static void pass_second(struct pair *pair)
{
	h2_client_pumps(&pair->client, 2);
	rig_advance(&pair->rig, 1000);
	h2_client_pumps(&pair->client, 2);
}

static void http2_body_below_the_least_rate_is_refused(void **state)
{
	static const struct {
		uint64_t rate, timeout_ms;
		unsigned bytes_per_s;
		unsigned ended_after_s; /* 0: it is taken whole, in 60 s */
		const char *glitch;
	} rows[] = {
		{20, 120000, 16, 10, "body_too_slow"},
		{20, 120000, 18, 10, "body_too_slow"},
		{17, 120000, 18, 0, NULL},
		{0, 120000, 16, 0, NULL},
		{20, 30000, 18, 10, "body_too_slow"},
		{10, 30000, 18, 30, "request_timeout"},
		{1048576, 10000, 18, 10, "request_timeout"}, /* no shorter than its whole time */
	};

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		struct pair pair;
		struct test_call call;
		size_t left = BODY_BYTES;
		unsigned second = 0;

		slow_open(&pair, BOTH, rows[row].rate, rows[row].timeout_ms);
		call_start(&pair.client, &call, "/echo", text_type, false);
		for (; left > 0 && !call.answered; second++) {
			write_some(&call, &left, rows[row].bytes_per_s);
			pass_second(&pair);
		}
		if (rows[row].glitch) {
			call_wait_unended(&pair.client, &pair.rig, &call);
			assert_in_range(second, rows[row].ended_after_s,
					rows[row].ended_after_s + 1);
			assert_true(has_glitches(&pair, rows[row].glitch, 1));
		} else {
			call_wait(&pair.client, &call);
			assert_int_equal(call.body.len, BODY_BYTES);
		}
		assert_int_equal(call.status, rows[row].glitch ? 408 : 200);
		assert_false(pair.client.goaway);
		call_finish(&call);
		pair_close(&pair);
	}
}

static void http2_message_below_the_least_rate_is_refused(void **state)
{
	static const uint8_t prefix[GRPC_PREFIX_BYTES] = {0, 0, 0, 4, 0};
	/* the caller's own time comes first */
	static const char *const hurried[] = {"grpc-timeout", "5S", NULL};
	struct pair pair;

	(void)state;
	slow_open(&pair, SERVER_HTTP2 | SERVER_GRPC, 20, 120000);
	for (unsigned row = 0; row < 2; row++) {
		struct test_call call;
		size_t left = BODY_BYTES;
		unsigned second = 0;

		call_start(&pair.client, &call, "/t.S/Echo", row ? hurried : NULL, false);
		call_write(&call, span_make(prefix, sizeof(prefix)));
		for (; !call.closed && second < 60; second++) {
			write_some(&call, &left, 16);
			pass_second(&pair);
		}
		assert_int_equal(call.grpc_status, GRPC_DEADLINE_EXCEEDED);
		assert_in_range(second, row ? 5 : 10, row ? 6 : 11);
		assert_true(has_glitches(&pair, "body_too_slow", 1));
		call_finish(&call);
	}
	assert_int_equal(pair.rig.started, 0);
	pair_close(&pair);
}

/* A client may send one body after the other: then all of them together have the rate of all. */
static void http2_bodies_of_one_connection_share_its_rate(void **state)
{
	static const struct {
		unsigned bytes_per_s; /* of the first; the second waits until it is whole */
		int second_status;
	} rows[] = {{40, 200}, {30, 408}};

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		struct pair pair;
		struct test_call calls[2];
		size_t left[2] = {BODY_BYTES, BODY_BYTES};

		slow_open(&pair, BOTH, 20, 120000);
		for (unsigned i = 0; i < 2; i++)
			call_start(&pair.client, &calls[i], "/echo", text_type, false);
		for (unsigned second = 0; second < 80 && !(calls[0].closed && calls[1].closed);
		     second++) {
			write_some(&calls[left[0] > 0 ? 0 : 1], &left[left[0] > 0 ? 0 : 1],
				   rows[row].bytes_per_s);
			pass_second(&pair);
		}
		assert_int_equal(calls[0].status, 200);
		assert_int_equal(calls[1].status, rows[row].second_status);
		assert_true(has_glitches(&pair, "body_too_slow", rows[row].second_status == 408));
		for (unsigned i = 0; i < 2; i++)
			call_finish(&calls[i]);
		pair_close(&pair);
	}
}

/* What has come or was given up is not waited for: who is left is judged alone. */
static void http2_body_that_is_over_is_not_counted_with_the_others(void **state)
{
	struct pair pair;
	struct test_call calls[3];
	size_t left = BODY_BYTES;

	(void)state;
	slow_open(&pair, BOTH, 20, 120000);
	for (unsigned i = 0; i < 3; i++)
		call_start(&pair.client, &calls[i], "/echo", text_type, false);
	h2_client_pumps(&pair.client, 2);
	call_end_writing(&calls[1]);
	h2_stream_reset(&calls[2].stream, H2_CANCEL);
	for (unsigned second = 0; !calls[0].closed && second < 80; second++) {
		write_some(&calls[0], &left, 20);
		pass_second(&pair);
	}
	assert_int_equal(calls[0].status, 200);
	assert_true(has_glitches(&pair, "body_too_slow", 0));
	for (unsigned i = 0; i < 3; i++)
		call_finish(&calls[i]);
	pair_close(&pair);
}

static void http2_many_slow_bodies_end_their_connection(void **state)
{
	enum { CALLS = 24 }; /* 500 points each: 10,000, and 2,000 of credit */
	static struct test_call calls[CALLS];
	struct pair pair;

	(void)state;
	slow_open(&pair, BOTH, 20, 120000);
	for (unsigned i = 0; i < CALLS; i++) {
		call_start(&pair.client, &calls[i], "/echo", text_type, false);
		call_write(&calls[i], SPAN("x"));
	}
	for (unsigned second = 0; second < 11; second++)
		pass_second(&pair);
	PUMP_UNTIL(&pair.client, pair.client.goaway);
	assert_int_equal(pair.client.goaway_code, H2_ENHANCE_YOUR_CALM);
	assert_true(has_glitches(&pair, "too_many_glitches", 1));
	pair_close(&pair);
	for (unsigned i = 0; i < CALLS; i++)
		call_finish(&calls[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http2_body_below_the_least_rate_is_refused),
		cmocka_unit_test(http2_message_below_the_least_rate_is_refused),
		cmocka_unit_test(http2_bodies_of_one_connection_share_its_rate),
		cmocka_unit_test(http2_body_that_is_over_is_not_counted_with_the_others),
		cmocka_unit_test(http2_many_slow_bodies_end_their_connection),
	};

	return cmocka_run_group_tests_name("call_due", tests, NULL, NULL);
}
