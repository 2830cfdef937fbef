/* proxied: connections of a trusted proxy: whose they are, and what happens without a header. */
#include "unit/edge/h2_client.h"

#define BOTH	 (SERVER_HTTP1 | SERVER_HTTP2)
#define SIG	 "\r\n\r\n\0\r\nQUIT\n"
#define V4_BLOCK "\300\000\002\007\012\000\000\001\234\100\001\273" /* 192.0.2.7:40000 */
#define V6_BLOCK                                                                                   \
	"\040\001\015\270\0\0\0\0\0\0\0\0\0\0\0\011\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\001\0\120\001"   \
	"\273"
#define REQUEST "GET /later HTTP/1.1\r\nhost: x\r\n\r\n"

static const struct cidr loopback = {.bytes = {127}, .len = 4, .bits = 8};

static void rig_open_trusting(struct rig *rig, uint64_t peers_max)
{
	rig_open_limited(rig, BOTH, peers_max);
	rig->trusted = (struct config_cidrs){&loopback, 1};
}

/* What the service is told of the peer of the request that it holds. */
static void expect_peer(struct rig *rig, const char *peer, bool is_whole)
{
	char text[ADDRESS_TEXT_MAX];

	RIG_UNTIL(rig, rig->held_count == 1);
	address_format(rig->held[0]->peer, text);
	if (is_whole)
		assert_string_equal(text, peer);
	else
		assert_memory_equal(text, peer, strlen(peer));
}

static void proxied_peer_is_the_header_s(void **state)
{
	static const struct {
		struct span header;
		const char *peer;
		bool is_whole;
	} rows[] = {
		{SPAN(SIG "\x21\x11\0\x0c" V4_BLOCK), "192.0.2.7:40000", true},
		{SPAN(SIG "\x21\x21\0\x24" V6_BLOCK), "[2001:db8::9]:80", true},
		{SPAN(SIG "\x20\x11\0\x0c" V4_BLOCK), "127.0.0.1:", false},
		{SPAN(SIG "\x21\0\0\0"), "127.0.0.1:", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig rig;
		struct client client;

		rig_open_trusting(&rig, 1);
		client_open(&client, &rig);
		client_send(&client, rows[i].header);
		client_say(&client, REQUEST);
		expect_peer(&rig, rows[i].peer, rows[i].is_whole);
		client_abort(&client);
		RIG_UNTIL(&rig, rig.cancelled == 1);
		rig_close(&rig);
	}
}

static void proxied_header_may_be_cut_anywhere(void **state)
{
	struct span bytes = SPAN(SIG "\x21\x11\0\x0c" V4_BLOCK REQUEST);
	struct rig rig;

	(void)state;
	rig_open_trusting(&rig, 0);
	for (size_t cut = 0; cut <= bytes.len; cut++) {
		struct client client;

		client_open(&client, &rig);
		client_send(&client, span_first(bytes, cut));
		rig_turns(&rig, 2);
		client_send(&client, span_from(bytes, cut));
		expect_peer(&rig, "192.0.2.7:40000", true);
		answer_ok(rig.held[0]);
		rig.held_count = 0;
		client_expect(&client, "200 OK");
		client_close(&client);
	}
	rig_close(&rig);
}

static void proxied_http2_comes_behind_the_header(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open_trusting(&rig, 0);
	client_open(&client, &rig);
	client_send(&client, SPAN(SIG "\x21\x11\0\x0c" V4_BLOCK H2_PREFACE "\0\0\0\4\0\0\0\0\0"));
	RIG_UNTIL(&rig, (client_receive(&client), client.in.len > 0));
	assert_int_equal(client.in.data[3], 4); /* SETTINGS */
	client_close(&client);
	rig_close(&rig);
}

static void proxied_connection_without_a_header_is_closed(void **state)
{
	static const char *const rows[] = {
		"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
		"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
		H2_PREFACE,
		"\r\n\r\nGET",
	};
	struct rig rig;

	(void)state;
	rig_open_trusting(&rig, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client client;

		client_open(&client, &rig);
		client_say(&client, rows[i]);
		client_expect_end(&client);
		assert_int_equal(client.in.len, 0);
		client_close(&client);
	}
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"proxy_header\"} 4"));
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"protocol\"} 4"));
	rig_close(&rig);
}

static void proxied_connection_has_the_header_time(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open_trusting(&rig, 0);
	client_open(&client, &rig);
	client_send(&client, SPAN(SIG "\x21"));
	rig_advance(&rig, 4990);
	assert_int_equal(server_connection_count(rig.server), 1);
	rig_advance(&rig, 20);
	client_expect_end(&client);
	client_close(&client);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"request_timeout\"} 1"));
	/* with the header, the request has a time of its own */
	client_open(&client, &rig);
	rig_advance(&rig, 4000);
	client_send(&client, SPAN(SIG "\x21\x11\0\x0c" V4_BLOCK "GET /"));
	rig_turns(&rig, 10);
	rig_advance(&rig, 4000);
	client_say(&client, "healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&client, "200 OK");
	client_close(&client);
	rig_close(&rig);
}

static void proxied_end_without_a_byte_is_no_fault(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open_trusting(&rig, 0);
	client_open(&client, &rig);
	client_close(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"proxy_header\"} 0"));
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"peer\"} 1"));
	client_open(&client, &rig);
	client_send(&client, SPAN(SIG));
	client_close(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_true(rig_has_metric(&rig, "gateway_glitches_total{kind=\"proxy_header\"} 1"));
	rig_close(&rig);
}

/* The proxy itself is nobody: its clients are counted. */
static void proxied_connections_are_bounded_by_their_own_peer(void **state)
{
	struct rig rig;
	struct client first, second, third;

	(void)state;
	rig_open_trusting(&rig, 1);
	client_open(&first, &rig);
	client_send(&first, SPAN(SIG "\x21\x11\0\x0c" V4_BLOCK));
	client_open(&second, &rig);
	client_send(&second, SPAN(SIG "\x21\x11\0\x0c" V4_BLOCK "GET /healthz"));
	client_expect_end(&second);
	client_open(&third, &rig);
	client_send(&third,
		    SPAN(SIG "\x21\x21\0\x24" V6_BLOCK "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"));
	client_expect(&third, "200 OK");
	client_close(&first);
	client_close(&second);
	client_close(&third);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"peer_limit\"} 1"));
	rig_close(&rig);
}

static void proxied_connections_end_with_the_server(void **state)
{
	struct rig rig;
	struct client fresh, begun;

	(void)state;
	rig_open_trusting(&rig, 0);
	client_open(&fresh, &rig);
	client_open(&begun, &rig);
	client_send(&begun, SPAN(SIG "\x21\x11\0\x0c"));
	rig_turns(&rig, 3);
	server_drain(rig.server, rig_note_stopped, &rig);
	client_expect_end(&fresh);
	client_close(&fresh);
	client_send(&begun, SPAN(V4_BLOCK "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"));
	client_expect(&begun, "connection: close\r\n");
	client_expect_end(&begun);
	client_close(&begun);
	rig_wait_stopped(&rig);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proxied_peer_is_the_header_s),
		cmocka_unit_test(proxied_header_may_be_cut_anywhere),
		cmocka_unit_test(proxied_http2_comes_behind_the_header),
		cmocka_unit_test(proxied_connection_without_a_header_is_closed),
		cmocka_unit_test(proxied_connection_has_the_header_time),
		cmocka_unit_test(proxied_end_without_a_byte_is_no_fault),
		cmocka_unit_test(proxied_connections_are_bounded_by_their_own_peer),
		cmocka_unit_test(proxied_connections_end_with_the_server),
	};

	return cmocka_run_group_tests_name("proxied", tests, NULL, NULL);
}
