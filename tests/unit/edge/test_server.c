/* HTTP/1.1 and what all connections share: raw bytes over loopback. */
#include "codec/h2.h"
#include "unit/edge/rig.h"

#define BOTH (SERVER_HTTP1 | SERVER_HTTP2)

/* Sends `request`, expects `answer` (a part of it) on a fresh connection of a fresh server. */
struct exchange {
	const char *request, *answer;
	bool closes;
};

static void run_exchange(const struct exchange *row)
{
	struct rig rig;
	struct client client;

	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, row->request);
	client_expect(&client, row->answer);
	if (row->closes) {
		client_expect_end(&client);
	} else {
		client_forget(&client);
		client_say(&client, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
		client_expect(&client, "HTTP/1.1 200 OK\r\n");
	}
	client_close(&client);
	rig_close(&rig);
}

static void http1_answers_with_length_type_and_date(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
	client_expect(&client, "HTTP/1.1 200 OK\r\n"
			       "date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
			       "content-type: application/json\r\n"
			       "content-length: 15\r\n"
			       "\r\n"
			       "{\"status\":\"ok\"}");
	client_close(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_true(rig_has_metric(
		&rig, "http_requests_total{path=\"/healthz\",method=\"GET\",status=\"200\"} 1"));
	assert_true(
		rig_has_metric(&rig, "http_request_latency_seconds_count{path=\"/healthz\"} 1"));
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"peer\"} 1"));
	assert_true(rig_has_metric(&rig, "gateway_connections_open{listener=\"public\"} 0"));
	rig_close(&rig);
}

static void http1_answers_each_request_by_its_row(void **state)
{
	static const struct exchange rows[] = {
		{"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "content-length: 15\r\n\r\n", false},
		{"GET /none HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 204 No Content\r\n", false},
		{"GET /healthz HTTP/1.0\r\n\r\n", "connection: close\r\n", true},
		{"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		 "connection: keep-alive\r\n", false},
		{"GET /healthz HTTP/1.1\r\nhost: x\r\nConnection: close\r\n\r\n",
		 "connection: close\r\n", true},
		{"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
		 "{\"error\":{\"code\":\"not_found\",\"message\":\"no such route\"}}", false},
		{"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", false},
		{"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
		 "HTTP/1.1 404 ", false},
		{"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nExpect: "
		 "100-continue\r\n\r\n",
		 "HTTP/1.1 404 ", true},
		{"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n",
		 "HTTP/1.1 404 ", true},
		{"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
		 "allow: GET, HEAD\r\n", false},
		{"DELETE /echo HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n",
		 false},
		{"DELETE /echo HTTP/1.1\r\nhost: x\r\n\r\n", "allow: POST, PUT\r\n", false},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
		 "\r\n\r\nhello", false},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
		 "3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nt: v\r\n\r\n",
		 "content-length: 5\r\n\r\nhello", false},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1025\r\n\r\n", "HTTP/1.1 413 ",
		 true},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1025\r\nexpect: "
		 "100-continue\r\n\r\n",
		 "\"code\":\"request_too_large\"", true},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: "
		 "chunked\r\n\r\n",
		 "HTTP/1.1 400 Bad Request\r\n", true},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
		 "HTTP/1.1 400 Bad Request\r\n", true},
		{"nonsense\r\n\r\n", "\"code\":\"invalid_request\"", true},
		{"GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", true}, /* no host */
		{"GET /healthz HTTP/2.5\r\nhost: x\r\n\r\n", "HTTP/1.1 505 ", true},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
		 "HTTP/1.1 501 ", true},
		{"POST /t.S/Echo HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 505 ",
		 false},
		{"PRI * HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 ", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		run_exchange(&rows[i]);
}

static void http1_head_has_no_body(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client,
		   "HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\nHEAD /big HTTP/1.1\r\nhost: x\r\n\r\n"
		   "HEAD /nowhere HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&client, "content-length: 1048576\r\n");
	client_expect(&client, "HTTP/1.1 404 ");
	client_expect_not(&client, "status");
	client_expect_not(&client, "error");
	client_close(&client);
	rig_close(&rig);
}

static void http1_takes_a_request_cut_anywhere(void **state)
{
	static const char text[] =
		"POST /echo?a=b&c HTTP/1.1\r\nHost: x\r\nX-Request-Id: id-7\r\n"
		"traceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\n"
		"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
		client_send(&client, span_make(text, cut));
		rig_turn(&rig);
		client_send(&client, span_make(text + cut, sizeof(text) - 1 - cut));
		client_expect(&client, "\r\n\r\nhello");
		client_forget(&client);
		assert_string_equal(rig.seen,
				    "POST /echo a=b&c id-7 0123456789abcdef0123456789abcdef 5");
		assert_int_equal(rig.started, cut);
	}
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		client_send(&client, span_make(text + i, 1));
	client_expect(&client, "\r\n\r\nhello");
	client_close(&client);
	rig_close(&rig);
}

static void http1_answers_pipelined_requests_in_order(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET /later HTTP/1.1\r\nhost: x\r\n\r\n"
			    "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\none"
			    "GET /later HTTP/1.1\r\nhost: x\r\n\r\n"
			    "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ntwo");
	RIG_UNTIL(&rig, rig.held_count == 1);
	rig_turns(&rig, 10);
	assert_int_equal(rig.started, 1);
	answer_echo(rig.held[0]);
	client_expect(&client, "one");
	assert_int_equal(rig.held_count, 2);
	client_expect_not(&client, "two");
	answer_ok(rig.held[1]);
	client_expect(&client, "{\"status\":\"ok\"}HTTP/1.1 200 OK");
	client_expect(&client, "two");
	client_close(&client);
	rig_close(&rig);
}

static void http1_answers_a_thousand_pipelined_requests(void **state)
{
	static const char one[] = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	for (unsigned i = 0; i < 1000; i++) {
		client_say(&client, one);
		client_receive(&client);
	}
	for (unsigned i = 0; i < RIG_TURNS_MAX && rig.started < 1000; i++) {
		rig_turn(&rig);
		client_receive(&client);
	}
	assert_int_equal(rig.started, 1000);
	client_close(&client);
	rig_close(&rig);
}

static void http1_pauses_a_client_that_sends_far_ahead(void **state)
{
	static char flood[65536];
	struct rig rig;
	struct client client;
	size_t sent = 0;

	(void)state;
	memset(flood, 'x', sizeof(flood));
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET /later HTTP/1.1\r\nhost: x\r\n\r\n");
	for (unsigned i = 0; i < 2000; i++) {
		ssize_t now = send(client.fd, flood, sizeof(flood), MSG_NOSIGNAL);

		sent += now > 0 ? (size_t)now : 0;
		rig_turn(&rig);
	}
	/* what the two sockets hold, not what was offered */
	assert_true(sent < 16u << 20);
	assert_int_equal(server_connection_count(rig.server), 1);
	answer_ok(rig.held[0]);
	client_expect(&client, "{\"status\":\"ok\"}");
	/* the flood is no request */
	client_expect(&client, "HTTP/1.1 4");
	client_close(&client);
	rig_close(&rig);
}

static void http1_asks_for_a_body_that_is_expected(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nExpect: "
			    "100-continue\r\n\r\n");
	client_expect(&client, "HTTP/1.1 100 Continue\r\n\r\n");
	client_say(&client, "hello");
	client_expect(&client, "\r\n\r\nhello");
	client_close(&client);
	rig_close(&rig);
}

static void http1_bounds_the_header_block(void **state)
{
	static char block[20000];
	struct rig rig;
	struct client client;

	(void)state;
	memset(block, 'a', sizeof(block));
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ");
	client_send(&client, span_make(block, sizeof(block)));
	client_expect(&client, "HTTP/1.1 431 ");
	client_expect(&client, "\"code\":\"request_header_fields_too_large\"");
	client_expect_end(&client);
	client_close(&client);
	assert_int_equal(rig.started, 0);
	assert_true(rig_has_metric(
		&rig, "http_requests_total{path=\"unmatched\",method=\"other\",status=\"431\"} 1"));
	rig_close(&rig);
}

static void http1_bounds_a_chunked_body(void **state)
{
	struct rig rig;
	struct client client;
	char chunk[600];

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	memset(chunk, 'x', sizeof(chunk));
	memcpy(chunk, "200\r\n", 5);
	memcpy(chunk + 5 + 512, "\r\n", 2);
	client_say(&client, "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
	for (unsigned i = 0; i < 3; i++)
		client_send(&client, span_make(chunk, 519));
	client_expect(&client, "HTTP/1.1 413 ");
	client_expect_end(&client);
	client_close(&client);
	assert_int_equal(rig.started, 0);
	rig_close(&rig);
}

static void http1_times_out_by_stage(void **state)
{
	static const struct {
		const char *bytes;
		uint64_t before_ms, after_ms; /* open still, closed by then */
		const char *answer;	      /* NULL: none */
	} rows[] = {
		{"", 4900, 200, NULL},
		{"GET /hea", 4900, 200, "HTTP/1.1 408 "},
		{"PRI * HTTP/2.0", 4900, 200, NULL},
		{"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel", 9900, 200,
		 "HTTP/1.1 408 "},
		{"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", 74900, 200, "HTTP/1.1 200 "},
		{"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /he", 4900, 200, "HTTP/1.1 408 "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig rig;
		struct client client;

		rig_open(&rig, BOTH);
		client_open(&client, &rig);
		client_say(&client, rows[i].bytes);
		rig_turns(&rig, 20);
		rig_advance(&rig, rows[i].before_ms);
		client_receive(&client);
		assert_false(client.ended);
		rig_advance(&rig, rows[i].after_ms);
		if (rows[i].answer)
			client_expect(&client, rows[i].answer);
		client_expect_end(&client);
		client_close(&client);
		rig_close(&rig);
	}
}

static void http1_header_time_is_not_prolonged_by_trickling(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET / HTTP/1.1\r\n");
	for (unsigned i = 0; i < 4; i++) {
		rig_turns(&rig, 20);
		rig_advance(&rig, 1200);
		client_say(&client, "a: b\r\n");
	}
	rig_advance(&rig, 300);
	client_expect(&client, "HTTP/1.1 408 ");
	client_expect_end(&client);
	client_close(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"timeout\"} 1"));
	rig_close(&rig);
}

static void http1_has_no_deadline_of_its_own_while_the_service_works(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET /later HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.held_count == 1);
	rig_advance(&rig, 3600000);
	answer_ok(rig.held[0]);
	client_expect(&client, "HTTP/1.1 200 OK");
	client_close(&client);
	rig_close(&rig);
}

static void http1_cancels_when_the_client_resets(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET /later HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.held_count == 1);
	client_abort(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_int_equal(rig.cancelled, 1);
	assert_true(rig_has_metric(
		&rig, "http_requests_total{path=\"/later\",method=\"GET\",status=\"499\"} 1"));
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"reset\"} 1"));
	rig_close(&rig);
}

static void http1_answers_a_client_that_has_finished_sending(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(
		&client,
		"GET /later HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
	RIG_UNTIL(&rig, rig.held_count == 1);
	rig_turns(&rig, 10);
	assert_int_equal(rig.cancelled, 0);
	answer_echo(rig.held[0]);
	client_expect(&client, "{\"status\":\"ok\"}");
	client_expect_end(&client);
	client_close(&client);
	rig_close(&rig);
}

static void http1_sends_a_large_answer_whole(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client,
		   "GET /big HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&client, "{\"status\":\"ok\"}");

	const uint8_t *body = memmem(client.in.data, client.in.len, "\r\n\r\n", 4);

	assert_non_null(body);
	body += 4;
	for (size_t i = 0; i < RIG_BIG_BYTES; i++)
		assert_int_equal(body[i], (uint8_t)(i * 7 + i / 256));
	client_close(&client);
	rig_close(&rig);
}

static void http1_gives_up_on_an_answer_that_is_not_read(void **state)
{
	struct rig rig;
	struct client client;
	int small = 4096;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	assert_int_equal(setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	client_say(&client, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n");
	rig_turns(&rig, 20);
	rig_advance(&rig, 75100);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	client_close(&client);
	rig_close(&rig);
}

/* ---- connections ---- */

static void server_refuses_connections_over_the_limit(void **state)
{
	struct rig rig;
	struct client first, second, third;

	(void)state;
	rig_open(&rig, BOTH);
	rig.limit.max_count = 1;
	client_open(&first, &rig);
	client_open(&second, &rig);
	client_expect_end(&second);
	client_close(&second);
	client_say(&first, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&first, "200 OK");
	client_close(&first);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	client_open(&third, &rig);
	client_say(&third, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&third, "200 OK");
	client_close(&third);
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"refused\"} 1"));
	rig_close(&rig);
}

static void server_closes_what_is_no_protocol_of_the_listener(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP2 | SERVER_GRPC);
	client_open(&client, &rig);
	client_say(&client, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect_end(&client);
	client_close(&client);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"preface\"} 1"));
	rig_close(&rig);
	rig_open(&rig, SERVER_HTTP1);
	client_open(&client, &rig);
	client_say(&client, H2_PREFACE);
	client_expect(&client, "HTTP/1.1 ");
	client_expect_end(&client);
	client_close(&client);
	rig_close(&rig);
}

static void server_drains_idle_at_once_and_busy_when_answered(void **state)
{
	struct rig rig;
	struct client fresh, idle, partial, busy;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&fresh, &rig);
	client_open(&idle, &rig);
	client_say(&idle, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&idle, "200 OK");
	client_open(&partial, &rig);
	client_say(&partial, "GET /healthz HTTP/1.1\r\nho");
	client_open(&busy, &rig);
	client_say(
		&busy,
		"GET /later HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.held_count == 1);
	server_drain(rig.server, rig_note_stopped, &rig);
	client_expect_end(&fresh);
	client_expect_end(&idle);
	client_close(&fresh);
	client_close(&idle);
	client_say(&partial, "st: x\r\n\r\n");
	client_expect(&partial, "connection: close\r\n");
	client_expect_end(&partial);
	client_close(&partial);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 1);
	assert_false(rig.stopped);
	answer_ok(rig.held[0]);
	client_expect(&busy, "connection: close\r\n");
	client_expect_end(&busy);
	assert_null(memmem(busy.in.data, busy.in.len, "keep", 4));
	client_close(&busy);
	rig_wait_stopped(&rig);
	rig_close(&rig);
}

static void server_drain_lets_an_answer_in_progress_end(void **state)
{
	struct rig rig;
	struct client client;
	int small = 65536;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	assert_int_equal(setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	client_say(&client, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.started == 1);
	server_drain(rig.server, rig_note_stopped, &rig);
	rig_turns(&rig, 10);
	assert_int_equal(server_connection_count(rig.server), 1);
	client_expect_end(&client);
	assert_true(client.in.len > RIG_BIG_BYTES);
	client_close(&client);
	rig_wait_stopped(&rig);
	rig_close(&rig);
}

static void server_cuts_what_is_left(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&client, &rig);
	client_say(&client, "GET /later HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.held_count == 1);
	server_drain(rig.server, rig_note_stopped, &rig);
	rig_turns(&rig, 10);
	assert_false(rig.stopped);
	assert_int_equal(server_owing_count(rig.server), 1);
	assert_int_equal(server_cut(rig.server), 1);
	rig_wait_stopped(&rig);
	assert_int_equal(rig.cancelled, 1);
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"cut\"} 1"));
	client_close(&client);
	rig_close(&rig);
}

static void server_owes_nothing_to_who_does_not_read_or_ask(void **state)
{
	struct rig rig;
	struct client reader, asker;
	int small = 4096;

	(void)state;
	rig_open(&rig, BOTH);
	client_open(&reader, &rig);
	assert_int_equal(setsockopt(reader.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	client_say(&reader, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.started == 1);
	client_open(&asker, &rig);
	client_say(&asker, "GET /later HTTP/1.1\r\nhost");
	rig_turns(&rig, 10);
	server_drain(rig.server, rig_note_stopped, &rig);
	rig_turns(&rig, 10);
	assert_int_equal(server_connection_count(rig.server), 2);
	assert_int_equal(server_owing_count(rig.server), 0);
	assert_int_equal(server_cut(rig.server), 2);
	rig_wait_stopped(&rig);
	client_close(&reader);
	client_close(&asker);
	rig_close(&rig);
}

static void server_stops_without_connections(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, BOTH);
	server_stop_accepting(rig.server);
	rig_turns(&rig, 3);
	server_drain(rig.server, rig_note_stopped, &rig);
	rig_wait_stopped(&rig);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http1_answers_with_length_type_and_date),
		cmocka_unit_test(http1_answers_each_request_by_its_row),
		cmocka_unit_test(http1_head_has_no_body),
		cmocka_unit_test(http1_takes_a_request_cut_anywhere),
		cmocka_unit_test(http1_answers_pipelined_requests_in_order),
		cmocka_unit_test(http1_answers_a_thousand_pipelined_requests),
		cmocka_unit_test(http1_pauses_a_client_that_sends_far_ahead),
		cmocka_unit_test(http1_asks_for_a_body_that_is_expected),
		cmocka_unit_test(http1_bounds_the_header_block),
		cmocka_unit_test(http1_bounds_a_chunked_body),
		cmocka_unit_test(http1_times_out_by_stage),
		cmocka_unit_test(http1_header_time_is_not_prolonged_by_trickling),
		cmocka_unit_test(http1_has_no_deadline_of_its_own_while_the_service_works),
		cmocka_unit_test(http1_cancels_when_the_client_resets),
		cmocka_unit_test(http1_answers_a_client_that_has_finished_sending),
		cmocka_unit_test(http1_sends_a_large_answer_whole),
		cmocka_unit_test(http1_gives_up_on_an_answer_that_is_not_read),
		cmocka_unit_test(server_refuses_connections_over_the_limit),
		cmocka_unit_test(server_closes_what_is_no_protocol_of_the_listener),
		cmocka_unit_test(server_drains_idle_at_once_and_busy_when_answered),
		cmocka_unit_test(server_drain_lets_an_answer_in_progress_end),
		cmocka_unit_test(server_cuts_what_is_left),
		cmocka_unit_test(server_owes_nothing_to_who_does_not_read_or_ask),
		cmocka_unit_test(server_stops_without_connections),
	};

	return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
