/* gate: what a listener's service says to a request before its body; and connections by peer. */
#include "unit/edge/h2_client.h"

#define BOTH (SERVER_HTTP1 | SERVER_HTTP2)

struct row {
	const char *name;
	uint64_t wait_ms;
	size_t body_bytes_max;
	const char *request, *answer; /* both parts of the answer must be in what comes */
	const char *also;
	bool ends;
};

static const struct row rows[] = {
	{"limited", 1001, SIZE_MAX, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
	 "HTTP/1.1 429 Too Many Requests", "retry-after: 2\r\n", false},
	{"seconds are rounded up", 1, SIZE_MAX, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
	 "\"code\":\"rate_limited\"", "retry-after: 1\r\n", false},
	{"limited, without a route", 1000, SIZE_MAX, "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
	 "HTTP/1.1 429", "retry-after: 1\r\n", false},
	{"limited, with a wrong method", 1000, SIZE_MAX,
	 "DELETE /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 429", "retry-after: 1\r\n",
	 false},
	{"limited, its body read past", 1000, SIZE_MAX,
	 "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 429",
	 "retry-after", false},
	{"limited, too long as well", 1000, 4,
	 "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 429",
	 "retry-after", false},
	{"limited, its body not asked for", 1000, SIZE_MAX,
	 "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
	 "HTTP/1.1 429", "connection: close", true},
	{"a body as long as it may be", 0, 5,
	 "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 200",
	 "hello", false},
	{"too long for the gate", 0, 4,
	 "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 413",
	 "\"code\":\"request_too_large\"", true},
	{"too long for the route", 0, 2000,
	 "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1025\r\n\r\n", "HTTP/1.1 413",
	 "request_too_large", true},
	{"too long in parts", 0, 4,
	 "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
	 "HTTP/1.1 413", "request_too_large", true},
	{"too long, without a route", 0, 4,
	 "POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 413",
	 "request_too_large", true},
	{"too long in parts, without a route", 0, 4,
	 "POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
	 "HTTP/1.1 413", "request_too_large", true},
	{"no body where none may be", 0, 0, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
	 "HTTP/1.1 200", "ok", false},
	{"a body where none may be", 0, 0,
	 "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx", "HTTP/1.1 413",
	 "request_too_large", true},
};

static void http1_asks_the_gate(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, BOTH);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *row = &rows[i];
		unsigned asked = rig.asked;
		struct client client;

		rig.gate = (struct server_gate){row->wait_ms, row->body_bytes_max};
		client_open(&client, &rig);
		client_say(&client, row->request);
		client_expect(&client, row->answer);
		client_expect(&client, row->also);
		assert_int_equal(rig.asked, asked + 1);
		if (row->ends) {
			client_expect_end(&client);
		} else {
			/* the connection is of use: what follows is a request of its own */
			client_forget(&client);
			rig.gate = (struct server_gate){0, SIZE_MAX};
			client_say(&client, "GET /none HTTP/1.1\r\nhost: x\r\n\r\n");
			client_expect(&client, "HTTP/1.1 204");
		}
		client_close(&client);
	}
	rig_close(&rig);
}

static void http2_asks_the_gate(void **state)
{
	static const char *const get[] = {":method", "GET", "content-type", "x/y", NULL};
	static const char *const post[] = {"content-type", "x/y", "content-length", "5", NULL};
	static const struct {
		uint64_t wait_ms;
		size_t body_bytes_max;
		const char *path;
		const char *const *headers;
		const char *body;
		int status;
		const char *retry;
	} cases[] = {
		{2500, SIZE_MAX, "/healthz", get, "", 429, "3"},
		{2500, SIZE_MAX, "/nowhere", get, "", 429, "3"},
		{2500, 4, "/echo", post, "hello", 429, "3"},
		{0, 5, "/echo", post, "hello", 200, ""},
		{0, 4, "/echo", post, "hello", 413, ""},
		{0, 4, "/nowhere", post, "hello", 413, ""},
		{0, 4, "/echo", get + 2, "hello", 413, ""}, /* of unknown length */
		{0, 0, "/healthz", get, "", 200, ""},
	};
	struct pair pair;

	(void)state;
	pair_open(&pair, BOTH);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct test_call call;
		struct span body = span_from_cstr(cases[i].body);

		pair.rig.gate = (struct server_gate){cases[i].wait_ms, cases[i].body_bytes_max};
		call_start(&pair.client, &call, cases[i].path, cases[i].headers, body.len == 0);
		if (body.len > 0) {
			call_write(&call, body);
			call_end_writing(&call);
		}
		call_wait(&pair.client, &call);
		assert_int_equal(call.status, cases[i].status);
		assert_string_equal(call.retry_after, cases[i].retry);
		assert_int_equal(pair.rig.asked, i + 1);
		call_finish(&call);
	}
	pair_close(&pair);
}

static void grpc_is_told_when_to_come_again(void **state)
{
	struct pair pair;
	struct test_call call;

	(void)state;
	pair_open(&pair, SERVER_HTTP2 | SERVER_GRPC);
	pair.rig.gate.wait_ms = 1234;
	call_unary(&pair.client, &call, "/t.S/Echo", NULL, SPAN("x"));
	call_wait(&pair.client, &call);
	assert_int_equal(call.grpc_status, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(call.retry, "1234");
	assert_int_equal(pair.rig.started, 0);
	call_finish(&call);
	pair_close(&pair);
}

static void server_bounds_the_connections_of_a_peer(void **state)
{
	struct rig rig;
	struct client first, second, third;

	(void)state;
	rig_open_limited(&rig, BOTH, 2);
	client_open(&first, &rig);
	client_open(&second, &rig);
	client_open(&third, &rig);
	client_expect_end(&third);
	client_close(&third);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 2);
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"peer_limit\"} 1"));
	client_close(&first);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 1);
	client_open(&third, &rig);
	client_say(&third, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&third, "200 OK");
	client_close(&second);
	client_close(&third);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http1_asks_the_gate),
		cmocka_unit_test(http2_asks_the_gate),
		cmocka_unit_test(grpc_is_told_when_to_come_again),
		cmocka_unit_test(server_bounds_the_connections_of_a_peer),
	};

	return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
