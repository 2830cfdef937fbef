/* Every allocation of the room made to fail, one after the other: no crash, no leak, the next
 * client is served. */
#include "unit/edge/h2_client.h"

#include "unit/base/failing_alloc.h"

#include "base/arena.c"
#include "base/buf.c"
#include "base/payload.c"
#include "base/slab.c"
#include "edge/account.c"
#include "edge/face_h2.c"
#include "edge/face_http1.c"
#include "edge/server.c"

static long failing; /* allocations of the server left until they fail; -1: none fails */

/* Only what the server does inside a turn is to fail, not what the test itself does. */
static void around_turn(bool begins)
{
	if (begins) {
		allocs_until_failure = failing;
	} else {
		failing = allocs_until_failure;
		allocs_until_failure = -1;
	}
}

static void expect_served(struct rig *rig)
{
	struct client client;

	client_open(&client, rig);
	client_say(&client, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
	client_expect(&client, "HTTP/1.1 200 OK\r\n");
	client_close(&client);
}

/* Everything fails from the nth on. Returns whether it came to that. */
static bool http1_with_failure(long nth)
{
	struct rig rig;
	struct client client;

	rig_open(&rig, SERVER_HTTP1 | SERVER_HTTP2);
	rig.around = around_turn;
	failing = -1;
	client_open(&client, &rig);
	failing = nth;
	client_say(&client,
		   "GET /healthz?a=b HTTP/1.1\r\nhost: x\r\nx-request-id: 1\r\n\r\n"
		   "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhe");
	rig_turns(&rig, 3);
	if (!client.ended)
		(void)send(client.fd, "l\r\n0\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n", 43,
			   MSG_NOSIGNAL);
	rig_turns(&rig, 3);
	(void)send(client.fd, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n", 30, MSG_NOSIGNAL);
	for (unsigned i = 0; i < 10; i++) {
		rig_turn(&rig);
		client_receive(&client);
	}

	bool failed = failing == 0;

	failing = -1;
	client_close(&client);
	expect_served(&rig);
	rig_close(&rig);
	return failed;
}

static void http1_survives_any_failed_allocation(void **state)
{
	long nth = 0;

	(void)state;
	while (http1_with_failure(nth))
		nth++;
	assert_true(nth > 10);
}

static bool grpc_with_failure(long nth)
{
	struct pair pair;
	struct test_call call, stream, unknown;
	static uint8_t body[5000];

	pair_open(&pair, SERVER_HTTP1 | SERVER_HTTP2);
	pair.rig.around = around_turn;
	pair.rig.stream_left = 20;
	call_start(&pair.client, &call, "/t.S/Echo", NULL, false);
	call_write(&call, SPAN("\0\0\0\x13\x88"));
	call_start(&pair.client, &unknown, "/t.S/None", NULL, true);
	call_unary(&pair.client, &stream, "/t.S/Stream", NULL, SPAN("x"));
	failing = nth;
	h2_client_pumps(&pair.client, 3);
	if (!call.closed) {
		call_write(&call, span_make(body, sizeof(body)));
		call_end_writing(&call);
	}
	h2_client_pumps(&pair.client, 10);

	bool failed = failing == 0;

	failing = -1;
	expect_served(&pair.rig);
	pair_close(&pair);
	call_finish(&call);
	call_finish(&stream);
	call_finish(&unknown);
	return failed;
}

static void grpc_survives_any_failed_allocation(void **state)
{
	long nth = 0;

	(void)state;
	while (grpc_with_failure(nth))
		nth++;
	assert_true(nth > 10);
}

static void server_refuses_to_be_made_without_memory(void **state)
{
	struct rig rig;
	struct server *server;
	struct server_options options = {.name = "x", .protocols = SERVER_HTTP1};

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	options.router = rig.router;
	options.config = &rig.config;
	for (long nth = 0; nth < 2; nth++) {
		allocs_until_failure = nth;
		assert_int_equal(server_create(&server, &rig.worker, &options), -ENOMEM);
	}
	allocs_until_failure = -1;
	assert_int_equal(server_create(&server, &rig.worker, &options), 0);
	server_destroy(server);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http1_survives_any_failed_allocation),
		cmocka_unit_test(grpc_survives_any_failed_allocation),
		cmocka_unit_test(server_refuses_to_be_made_without_memory),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
