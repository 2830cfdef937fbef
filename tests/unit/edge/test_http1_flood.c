/* HTTP/1.1 clients that ask without reading, and that send as slowly as they may or slower. */
#include "unit/edge/rig.h"

#include "edge/connection.h"

#define GET_HEALTHZ "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"

/* Send queue, `ahead`, one pass of all receive buffers, and the requests whose answers the kernel
 * holds: what one client that reads nothing can have taken from it. */
#define UNREAD_BYTES_MAX (640u << 10)

static uint64_t value_of(struct rig *rig, const char *name)
{
	struct buf out;
	uint64_t value = 0;

	buf_init(&out, 1u << 20);
	metric_render(rig->registry, &out);
	buf_append_byte(&out, 0);

	const char *at = strstr((const char *)out.data, name);

	assert_non_null(at);
	value = strtoull(at + strlen(name), NULL, 10);
	buf_finish(&out);
	return value;
}

static uint64_t received_bytes(struct rig *rig)
{
	return value_of(rig, "\ngateway_connection_received_bytes_total{listener=\"public\"} ");
}

static uint64_t glitches(struct rig *rig, const char *kind)
{
	char name[128];

	snprintf(name, sizeof(name), "\ngateway_glitches_total{kind=\"%s\"} ", kind);
	return value_of(rig, name);
}

static void client_open_small(struct client *client, struct rig *rig)
{
	int small = 262144;

	client_open(client, rig);
	assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
}

/* Sends requests until nobody takes more of them. Returns the bytes sent: the last may be a part. */
static size_t flood(struct rig *rig, struct client *client)
{
	static char requests[sizeof(GET_HEALTHZ) * 2000];
	const size_t len = (sizeof(GET_HEALTHZ) - 1) * 2000;
	size_t sent = 0;

	for (size_t i = 0; i < 2000; i++)
		memcpy(requests + i * (sizeof(GET_HEALTHZ) - 1), GET_HEALTHZ,
		       sizeof(GET_HEALTHZ) - 1);
	for (unsigned idle = 0; idle < 200; idle++) {
		ssize_t now = send(client->fd, requests + sent % len, len - sent % len,
				   MSG_NOSIGNAL);

		if (now > 0) {
			sent += (size_t)now;
			idle = 0;
		}
		rig_turn(rig);
	}
	return sent;
}

static size_t answers(const struct client *client)
{
	size_t count = 0;
	struct span left = buf_span(&client->in);
	const uint8_t *at;

	while (left.len > 0 && (at = memmem(left.data, left.len, "HTTP/1.1 200 OK\r\n", 17))) {
		count++;
		left = span_from(left, (size_t)(at - left.data) + 17);
	}
	return count;
}

/* The client reads after all, and sends the rest of its last request: each one has its answer. */
static void read_answers(struct rig *rig, struct client *client, size_t sent)
{
	size_t wanted = sent / (sizeof(GET_HEALTHZ) - 1);

	for (unsigned i = 0; i < 100 * RIG_TURNS_MAX && rig->started < wanted; i++) {
		rig_turn(rig);
		client_receive(client);
	}
	assert_int_equal(rig->started, wanted);
	client_send(client, span_from(SPAN(GET_HEALTHZ), sent % (sizeof(GET_HEALTHZ) - 1)));
	RIG_UNTIL(rig, rig->started == wanted + 1);
	for (unsigned i = 0; i < RIG_TURNS_MAX && answers(client) < wanted + 1; i++) {
		rig_turn(rig);
		client_receive(client);
	}
	assert_int_equal(answers(client), wanted + 1);
	assert_int_equal(received_bytes(rig), (wanted + 1) * (sizeof(GET_HEALTHZ) - 1));
}

static void http1_leaves_a_flood_in_the_kernel_until_its_answers_are_read(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open_small(&client, &rig);

	size_t sent = flood(&rig, &client);

	assert_int_equal(server_connection_count(rig.server), 1);
	assert_true(received_bytes(&rig) < UNREAD_BYTES_MAX);
	assert_true(glitches(&rig, "pipeline_paused") > 0);
	assert_int_equal(glitches(&rig, "pipeline_overrun"), 0);

	read_answers(&rig, &client, sent);
	assert_false(client.ended);
	client_close(&client);
	rig_close(&rig);
}

static void http1_ends_a_flood_that_never_reads(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open_small(&client, &rig);
	(void)flood(&rig, &client);
	rig_advance(&rig, 74900);
	assert_int_equal(server_connection_count(rig.server), 1);
	rig_advance(&rig, 200);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_int_equal(glitches(&rig, "stream_stalled"), 1);
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"timeout\"} 1"));
	client_close(&client);
	rig_close(&rig);
}

/* Also when it sends no more: what it has not read is not idleness. */
static void http1_ends_who_asks_much_and_reads_nothing(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open_small(&client, &rig);
	for (unsigned i = 0; i < 8; i++)
		client_say(&client, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n");
	rig_turns(&rig, 20);
	rig_advance(&rig, 75100);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_int_equal(glitches(&rig, "stream_stalled"), 1);
	client_close(&client);
	rig_close(&rig);
}

/* Having been full once is no stall: it is idle as others are, and kept as long. */
static void http1_flood_that_was_read_is_idle(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open_small(&client, &rig);

	size_t sent = flood(&rig, &client);

	rig_advance(&rig, 70000);
	read_answers(&rig, &client, sent);
	rig_advance(&rig, 74900);
	assert_false(client.ended);
	rig_advance(&rig, 200);
	client_expect_end(&client);
	client_close(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_int_equal(glitches(&rig, "stream_stalled"), 0);
	assert_true(rig_has_metric(
		&rig, "gateway_connections_total{listener=\"public\",outcome=\"closed\"} 1"));
	rig_close(&rig);
}

/* A flood behind a request that the service takes its time for: that time is not the client's fault. */
static void http1_ends_a_flood_behind_a_late_answer(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open_small(&client, &rig);
	client_say(&client, "GET /later HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.held_count == 1);
	(void)flood(&rig, &client);
	assert_true(received_bytes(&rig) < UNREAD_BYTES_MAX);
	rig_advance(&rig, 3600000);
	assert_int_equal(server_connection_count(rig.server), 1);
	answer_ok(rig.held[0]);
	rig_turns(&rig, 20);
	rig_advance(&rig, 75100);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	client_close(&client);
	rig_close(&rig);
}

/* Its answers are read and its end comes in one turn: what it asked for before is answered. */
static void http1_end_of_requests_does_not_overtake_those_that_wait_for_room(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open(&client, &rig);

	struct conn_options *options =
		&CONTAINER_OF(rig.server->connections.next, struct connection, link)->conn.options;
	size_t room = options->queue_bytes_room;

	options->queue_bytes_room = 0;
	client_say(&client, GET_HEALTHZ GET_HEALTHZ GET_HEALTHZ);
	RIG_UNTIL(&rig, received_bytes(&rig) == 3 * (sizeof(GET_HEALTHZ) - 1));
	assert_int_equal(rig.started, 0);
	/* there is room, and the flush step that would use it is still to come */
	options->queue_bytes_room = room;
	assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
	client_expect_end(&client);
	assert_int_equal(answers(&client), 3);
	client_close(&client);
	rig_close(&rig);
}

/* ---- slow bodies ---- */

#define POST_ECHO "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1024\r\n\r\n"

static void http1_body_time_is_not_prolonged_by_trickling(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open(&client, &rig);
	client_say(&client, POST_ECHO);
	for (unsigned i = 0; i < 9; i++) {
		rig_turns(&rig, 20);
		rig_advance(&rig, 1100);
		client_say(&client, "b");
	}
	client_receive(&client);
	assert_false(client.ended);
	rig_advance(&rig, 300);
	client_expect(&client, "HTTP/1.1 408 ");
	client_expect_end(&client);
	client_close(&client);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_int_equal(glitches(&rig, "request_timeout"), 1);
	assert_int_equal(glitches(&rig, "body_too_slow"), 0);
	assert_int_equal(rig.started, 0);
	rig_close(&rig);
}

static void http1_body_below_the_least_rate_is_refused(void **state)
{
	static const struct {
		uint64_t rate, timeout_ms;
		unsigned bytes_per_s;
		unsigned ended_after_s; /* 0: it is taken whole, in 60 s */
		const char *glitch;
	} rows[] = {
		{20, 120000, 16, 11, "body_too_slow"},
		{20, 120000, 17, 11, "body_too_slow"},
		{17, 120000, 18, 0, NULL},
		{0, 120000, 16, 0, NULL},
		{20, 30000, 18, 11, "body_too_slow"},
		{10, 30000, 18, 31, "request_timeout"},
		{1048576, 10000, 18, 11, "request_timeout"}, /* no shorter than its whole time */
	};

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		struct rig rig;
		struct client client;
		char text[64];
		unsigned second = 0;

		rig_open(&rig, SERVER_HTTP1);
		rig.config.http_body_timeout_ms = rows[row].timeout_ms;
		rig.config.http_min_body_rate = rows[row].rate;
		memset(text, 'x', sizeof(text));
		client_open(&client, &rig);
		client_say(&client, POST_ECHO);
		rig_turns(&rig, 20);
		for (size_t left = 1024; left > 0 && client.in.len == 0; second++) {
			size_t len = rows[row].bytes_per_s;

			client_send(&client, span_make(text, len < left ? len : left));
			left -= len < left ? len : left;
			rig_turns(&rig, 2);
			rig_advance(&rig, 1000);
			client_receive(&client);
		}
		client_expect(&client, rows[row].glitch ? "HTTP/1.1 408 " : "HTTP/1.1 200 ");
		if (rows[row].glitch) {
			client_expect_end(&client);
			assert_in_range(second, rows[row].ended_after_s - 1,
					rows[row].ended_after_s);
			assert_int_equal(glitches(&rig, rows[row].glitch), 1);
		}
		client_close(&client);
		rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http1_leaves_a_flood_in_the_kernel_until_its_answers_are_read),
		cmocka_unit_test(http1_ends_a_flood_that_never_reads),
		cmocka_unit_test(http1_ends_who_asks_much_and_reads_nothing),
		cmocka_unit_test(http1_flood_that_was_read_is_idle),
		cmocka_unit_test(http1_ends_a_flood_behind_a_late_answer),
		cmocka_unit_test(http1_end_of_requests_does_not_overtake_those_that_wait_for_room),
		cmocka_unit_test(http1_body_time_is_not_prolonged_by_trickling),
		cmocka_unit_test(http1_body_below_the_least_rate_is_refused),
	};

	return cmocka_run_group_tests_name("http1_flood", tests, NULL, NULL);
}
