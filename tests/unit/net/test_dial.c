#include "unit/net/dns_server.h"

#include "base/check.h"
#include "net/dial.h"
#include "net/listener.h"
#include "net/socket.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>

static const struct dns_row rows[] = {
	{"one.test", 1, 0, false, {"127.0.0.1"}},
	{"turn.test", 1, 0, false, {"127.0.0.3", "127.0.0.2", "127.0.0.1"}},
	{"both.test", 1, 0, false, {"127.0.0.1"}},
	{"both.test", 28, 0, false, {"::1"}},
	{"silent.test", 0, 0, true, {NULL}},
};

struct caller {
	struct dial dial;
	struct worker *worker;
	int done_calls, idle_calls, error;
	struct file_ref file;
	struct address peer;
	bool again;
};

struct fixture {
	struct worker worker;
	struct dns *dns;
	struct dns_server server;
	struct caller caller;
	int fds_before;
	bool closed;
};

static void on_done(struct dial *dial, int error, struct file_ref file, const struct address *peer)
{
	struct caller *caller = CONTAINER_OF(dial, struct caller, dial);

	caller->done_calls++;
	caller->error = error;
	caller->file = file;
	assert_int_equal(error == 0, peer != NULL);
	assert_int_equal(error == 0, file.index >= 0);
	assert_true(dial_is_idle(dial));
	if (peer)
		caller->peer = *peer;
	if (caller->again) {
		struct endpoint endpoint = dial->endpoint;

		caller->again = false;
		dial_start(dial, caller->worker, NULL, &endpoint, 1000, on_done);
	}
}

static void on_idle(struct dial *dial)
{
	CONTAINER_OF(dial, struct caller, dial)->idle_calls++;
	assert_true(dial_is_idle(dial));
}

static void on_dns_closed(void *context)
{
	*(bool *)context = true;
}

static void fixture_open(struct fixture *fixture, uint32_t file_slots)
{
	char text[32];

	memset(fixture, 0, sizeof(*fixture));
	fixture->fds_before = descriptor_count();
	harness_worker_init(&fixture->worker, file_slots, 16);
	dns_server_open(&fixture->server, rows, ARRAY_LEN(rows));
	assert_int_equal(dns_create(&fixture->dns, &fixture->worker), 0);
	assert_int_equal(dns_set_servers(fixture->dns, dns_server_text(&fixture->server, text)), 0);
	fixture->caller.worker = &fixture->worker;
}

static void fixture_close(struct fixture *fixture)
{
	dns_destroy(fixture->dns, on_dns_closed, &fixture->closed);
	TURN_UNTIL(&fixture->worker, fixture->closed);
	harness_worker_finish(&fixture->worker);
	close(fixture->server.fd);
	assert_int_equal(descriptor_count(), fixture->fds_before);
}

static void start(struct fixture *fixture, const char *text, uint32_t timeout_ms)
{
	struct caller *caller = &fixture->caller;
	struct endpoint endpoint;

	assert_int_equal(endpoint_parse(span_from_cstr(text), &endpoint), 0);
	caller->done_calls = caller->idle_calls = 0;
	dial_start(&caller->dial, &fixture->worker, fixture->dns, &endpoint, timeout_ms, on_done);
	assert_int_equal(caller->done_calls, 0);
	assert_false(dial_is_idle(&caller->dial));
}

static void start_at(struct fixture *fixture, const char *host, uint16_t port, uint32_t timeout_ms)
{
	char text[300];

	snprintf(text, sizeof(text), "%s:%u", host, port);
	start(fixture, text, timeout_ms);
}

static int wait_done(struct fixture *fixture)
{
	TURN_UNTIL(&fixture->worker,
		   (dns_server_serve(&fixture->server), fixture->caller.done_calls > 0));
	assert_int_equal(fixture->caller.done_calls, 1);
	return fixture->caller.error;
}

/* On `host`, any port or this one; a backlog that is full lets further SYNs go unanswered. */
static int listen_at(const char *host, uint16_t *port, bool full, int stuck[2])
{
	struct address address;
	socklen_t len = sizeof(address.storage);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(address_from_text(&address, host, *port));
	assert_int_equal(bind(fd, (struct sockaddr *)&address.storage, address.len), 0);
	assert_int_equal(listen(fd, full ? 0 : 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address.storage, &len), 0);
	*port = address_port(&address);
	for (int i = 0; full && i < 2; i++) {
		stuck[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(stuck[i], (struct sockaddr *)&address.storage, address.len);
	}
	return fd;
}

static uint16_t refused_port(void)
{
	uint16_t port = 0;

	close(listen_at("127.0.0.1", &port, false, NULL));
	return port;
}

static void dial_connects_to_numbers_names_and_paths(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost", "one.test"};
	struct fixture fixture;
	uint16_t port = 0;
	int listener = listen_at("127.0.0.1", &port, false, NULL);

	(void)state;
	for (uint32_t slots = 0; slots <= 64; slots += 64) {
		fixture_open(&fixture, slots);
		for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
			start_at(&fixture, hosts[i], port, 2000);
			assert_int_equal(wait_done(&fixture), 0);
			assert_int_equal(fixture.caller.file.direct, slots > 0);
			assert_int_equal(address_port(&fixture.caller.peer), port);
			assert_true(address_is_loopback(&fixture.caller.peer));

			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

			assert_true(fd >= 0);
			if (!fixture.caller.file.direct) {
				int ours = fixture.caller.file.index;

				assert_int_equal(harness_get_int(ours, IPPROTO_TCP, TCP_NODELAY),
						 1);
				assert_int_equal(harness_get_int(ours, SOL_SOCKET, SO_KEEPALIVE),
						 1);
				assert_true(harness_get_int(ours, IPPROTO_TCP, TCP_USER_TIMEOUT) >
					    0);
				assert_true(fcntl(ours, F_GETFD) & FD_CLOEXEC);
			}
			close(fd);
			socket_discard(&fixture.worker, fixture.caller.file);
		}
		fixture_close(&fixture);
	}
	close(listener);
}

static void dial_reaches_unix_sockets(void **state)
{
	char directory[] = "/tmp/ringway-test-XXXXXX", text[64];
	struct listen_socket sockets;
	struct endpoint endpoint;
	struct fixture fixture;
	char why[128];

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(text, sizeof(text), "unix:%s/sock", directory);
	assert_int_equal(endpoint_parse(span_from_cstr(text), &endpoint), 0);
	fixture_open(&fixture, 16);
	start(&fixture, text, 1000);
	assert_int_equal(wait_done(&fixture), -ENOENT);
	assert_int_equal(listen_socket_open(&sockets, &endpoint, 1, why, sizeof(why)), 0);
	start(&fixture, text, 1000);
	assert_int_equal(wait_done(&fixture), 0);
	assert_int_equal(fixture.caller.peer.storage.ss_family, AF_UNIX);
	socket_discard(&fixture.worker, fixture.caller.file);
	close(sockets.fds[0]); /* the file stays */
	sockets.fd_count = 0;
	start(&fixture, text, 1000);
	assert_int_equal(wait_done(&fixture), -ECONNREFUSED);
	listen_socket_close(&sockets);
	assert_int_equal(rmdir(directory), 0);
	fixture_close(&fixture);
}

static void full_unix_backlog_ends_at_the_deadline(void **state)
{
	char directory[] = "/tmp/ringway-test-XXXXXX", text[64], path[64];
	struct fixture fixture;
	struct address address;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), stuck[2];

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/s", directory);
	snprintf(text, sizeof(text), "unix:%.50s", path);
	address = address_from_path(path);
	assert_int_equal(bind(listener, (struct sockaddr *)&address.storage, address.len), 0);
	assert_int_equal(listen(listener, 0), 0);
	for (int i = 0; i < 2; i++) {
		stuck[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(stuck[i], (struct sockaddr *)&address.storage, address.len);
	}
	fixture_open(&fixture, 16);
	start(&fixture, text, 50);

	assert_int_equal(wait_done(&fixture), -ETIMEDOUT);
	fixture_close(&fixture);
	close(stuck[0]);
	close(stuck[1]);
	close(listener);
	unlink(path);
	rmdir(directory);
}

static void failures_have_their_errno(void **state)
{
	struct fixture fixture;
	struct endpoint endpoint;

	(void)state;
	fixture_open(&fixture, 16);
	start_at(&fixture, "127.0.0.1", refused_port(), 1000);
	assert_int_equal(wait_done(&fixture), -ECONNREFUSED);
	start_at(&fixture, "one.test", refused_port(), 1000);
	assert_int_equal(wait_done(&fixture), -ECONNREFUSED);
	start(&fixture, "nothing.test:80", 1000);
	assert_int_equal(wait_done(&fixture), -ENOENT);
	start(&fixture, "silent.test:80", 50);
	assert_int_equal(wait_done(&fixture), -ETIMEDOUT);
	start(&fixture, ":80", 1000); /* everywhere is nowhere */
	assert_int_equal(wait_done(&fixture), -EINVAL);
	start(&fixture, "127.0.0.1:80", 0);
	assert_int_equal(wait_done(&fixture), -ETIMEDOUT);

	fixture.caller.done_calls = 0;
	assert_int_equal(endpoint_parse(SPAN("one.test:80"), &endpoint), 0);
	dial_start(&fixture.caller.dial, &fixture.worker, NULL, &endpoint, 1000, on_done);
	assert_int_equal(wait_done(&fixture), -EINVAL);
	fixture_close(&fixture);
}

static void silent_peer_ends_at_the_deadline(void **state)
{
	struct fixture fixture;
	uint16_t port = 0;
	int stuck[2], listener = listen_at("127.0.0.1", &port, true, stuck);

	(void)state;
	fixture_open(&fixture, 16);

	/* by the worker's clock: its last turn, from which the time counts, may be a while ago */
	uint64_t before_ms = fixture.worker.now_ms;

	start_at(&fixture, "127.0.0.1", port, 100);
	assert_int_equal(wait_done(&fixture), -ETIMEDOUT);
	assert_in_range(fixture.worker.now_ms - before_ms, 100, 2000);
	fixture_close(&fixture);
	close(stuck[0]);
	close(stuck[1]);
	close(listener);
}

static void addresses_are_tried_in_turn_each_with_its_share(void **state)
{
	struct fixture fixture;
	uint16_t port = 0;
	int stuck[2], good = listen_at("127.0.0.1", &port, false, NULL);
	int silent = listen_at("127.0.0.2", &port, true, stuck); /* 127.0.0.3 refuses */

	(void)state;
	fixture_open(&fixture, 16);
	start_at(&fixture, "turn.test", port, 400);
	assert_int_equal(wait_done(&fixture), 0);

	char text[ADDRESS_TEXT_MAX], wanted[ADDRESS_TEXT_MAX];

	address_format(&fixture.caller.peer, text);
	snprintf(wanted, sizeof(wanted), "127.0.0.1:%u", port);
	assert_string_equal(text, wanted);
	socket_discard(&fixture.worker, fixture.caller.file);
	close(good);
	fixture.fds_before--;
	/* The last address's word counts. */
	start_at(&fixture, "turn.test", port, 400);

	int error = wait_done(&fixture);

	assert_true(error == -ECONNREFUSED || error == -ETIMEDOUT);
	fixture_close(&fixture);
	close(stuck[0]);
	close(stuck[1]);
	close(silent);
}

static void expect_peer(const struct fixture *fixture, const char *host, uint16_t port)
{
	char text[ADDRESS_TEXT_MAX], wanted[ADDRESS_TEXT_MAX];

	address_format(&fixture->caller.peer, text);
	snprintf(wanted, sizeof(wanted), "%s:%u", host, port);
	assert_string_equal(text, wanted);
}

static void every_address_that_is_blamed_gives_way_to_the_next(void **state)
{
	/* 127.0.0.3, 127.0.0.2, 127.0.0.1 in the name's order: the second refuses */
	static const char *const turns[] = {"127.0.0.3", "127.0.0.1", "127.0.0.3"};
	struct fixture fixture;
	uint16_t port = 0;
	int first = listen_at("127.0.0.1", &port, false, NULL);
	int third = listen_at("127.0.0.3", &port, false, NULL);

	(void)state;
	fixture_open(&fixture, 16);
	dial_blame(&fixture.caller.dial); /* nothing was dialled yet */
	for (size_t i = 0; i < ARRAY_LEN(turns); i++) {
		start_at(&fixture, "turn.test", port, 1000);
		assert_int_equal(wait_done(&fixture), 0);
		expect_peer(&fixture, turns[i], port);
		socket_discard(&fixture.worker, fixture.caller.file);
		dial_blame(&fixture.caller.dial);
	}
	start_at(&fixture, "turn.test", port, 1000);
	assert_int_equal(wait_done(&fixture), 0);
	expect_peer(&fixture, "127.0.0.1", port);
	/* once blamed is not for ever: the name's order again */
	socket_discard(&fixture.worker, fixture.caller.file);
	start_at(&fixture, "turn.test", port, 1000);
	assert_int_equal(wait_done(&fixture), 0);
	expect_peer(&fixture, "127.0.0.3", port);
	socket_discard(&fixture.worker, fixture.caller.file);
	fixture_close(&fixture);
	close(third);
	close(first);
}

enum { V6_LESS_REFUSED, V6_LESS_OTHERWISE, V6_LESS_SKIPPED };

static int dial_without_v6(void)
{
	struct fixture fixture;

	if (!harness_forbid_v6())
		return V6_LESS_SKIPPED;
	fixture_open(&fixture, 16);
	start_at(&fixture, "both.test", refused_port(), 1000);
	return wait_done(&fixture) == -ECONNREFUSED ? V6_LESS_REFUSED : V6_LESS_OTHERWISE;
}

static void address_of_a_family_that_is_off_hides_no_refusal(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(dial_without_v6());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == V6_LESS_SKIPPED) {
		print_message("skip: seccomp is not available here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), V6_LESS_REFUSED);
}

static void cancel_at_every_stage_leaves_nothing(void **state)
{
	uint16_t good_port = 0, silent_port = 0;
	int stuck[2], good = listen_at("127.0.0.1", &good_port, false, NULL);
	int silent = listen_at("127.0.0.1", &silent_port, true, stuck);
	const struct {
		const char *host;
		uint16_t port;
		uint32_t timeout_ms;
	} cases[] = {
		{"127.0.0.1", good_port, 1000},	  {"127.0.0.1", refused_port(), 1000},
		{"127.0.0.1", silent_port, 1000}, {"127.0.0.1", silent_port, 1},
		{"one.test", good_port, 1000},	  {"localhost", good_port, 1000},
		{"silent.test", 1, 1000},	  {"one.test", silent_port, 3},
	};

	(void)state;
	harness_set_nonblocking(good);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (int turn = 0; turn < 16; turn++) {
			/* Plain descriptors too: one that leaks is counted. */
			uint32_t slots = turn % 2 ? 16 : 0;
			int turns = turn / 2;
			struct fixture fixture;

			fixture_open(&fixture, slots);
			start_at(&fixture, cases[i].host, cases[i].port, cases[i].timeout_ms);
			for (int k = 0; k < turns; k++) {
				assert_int_equal(worker_turn(&fixture.worker, 1000), 0);
				dns_server_serve(&fixture.server);
			}

			int done_before = fixture.caller.done_calls;

			dial_cancel(&fixture.caller.dial, on_idle);
			TURN_UNTIL(&fixture.worker, fixture.caller.idle_calls > 0);
			for (int k = 0; k < 3; k++)
				assert_int_equal(worker_turn(&fixture.worker, 0), 0);
			assert_int_equal(fixture.caller.idle_calls, 1);
			assert_int_equal(fixture.caller.done_calls, done_before);
			if (done_before && fixture.caller.error == 0)
				socket_discard(&fixture.worker, fixture.caller.file);
			memset(&fixture.caller, 0xa5, sizeof(fixture.caller));
			fixture_close(&fixture);

			int fd = accept4(good, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				close(fd);
		}
	}
	close(stuck[0]);
	close(stuck[1]);
	close(silent);
	close(good);
}

static void on_held(struct op *op, const struct completion *completion)
{
	(void)op, (void)completion;
}

/*
 * Before kernel 6.13 a direct file lives on behind its close until what others began before has
 * ended; here an operation of its own keeps it, on any kernel.
 */
static void peer_of_a_dial_that_was_given_up_sees_its_end(void **state)
{
	struct op holder = {.done = on_held};
	struct fixture fixture;
	uint16_t port = 0;
	uint8_t byte;
	int listener = listen_at("127.0.0.1", &port, false, NULL);

	(void)state;
	fixture_open(&fixture, 16);
	start_at(&fixture, "127.0.0.1", port, 5000);
	assert_int_equal(worker_turn(&fixture.worker, 0), 0); /* the connect leaves with it */

	int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(peer >= 0 && fixture.caller.dial.file.direct);
	assert_int_equal(op_poll(&fixture.worker, &holder, fixture.caller.dial.file, POLLPRI), 0);
	dial_cancel(&fixture.caller.dial, on_idle);
	TURN_UNTIL(&fixture.worker, fixture.caller.idle_calls > 0);
	assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), 0);
	close(peer);
	fixture_close(&fixture);
	close(listener);
}

static void dial_may_start_again_inside_done(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture, 16);
	fixture.caller.again = true;
	start_at(&fixture, "127.0.0.1", refused_port(), 1000);
	TURN_UNTIL(&fixture.worker, fixture.caller.done_calls == 2);
	assert_int_equal(fixture.caller.error, -ECONNREFUSED);
	fixture_close(&fixture);
}

static void idle_dial_is_cancelled_at_once(void **state)
{
	struct caller caller = {.error = 0};

	(void)state;
	assert_true(dial_is_idle(&caller.dial));
	dial_cancel(&caller.dial, on_idle);
	assert_int_equal(caller.idle_calls, 1);
	dial_cancel(&caller.dial, NULL);
	assert_int_equal(caller.idle_calls, 1);
}

static void many_dials_leave_nothing_behind(void **state)
{
	struct fixture fixture;
	uint16_t port = 0;
	int listener = listen_at("127.0.0.1", &port, false, NULL);

	(void)state;
	fixture_open(&fixture, 16); /* its places for adopted files are used over and over */
	for (int i = 0; i < 300; i++) {
		start_at(&fixture, "127.0.0.1", i % 3 ? port : 1, 1000);

		assert_int_equal(wait_done(&fixture), i % 3 ? 0 : -ECONNREFUSED);
		if (i % 3) {
			close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
			socket_discard(&fixture.worker, fixture.caller.file);
			TURN_UNTIL(&fixture.worker, worker_ops_in_flight(&fixture.worker) == 0);
		}
	}
	fixture_close(&fixture);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dial_connects_to_numbers_names_and_paths),
		cmocka_unit_test(dial_reaches_unix_sockets),
		cmocka_unit_test(full_unix_backlog_ends_at_the_deadline),
		cmocka_unit_test(failures_have_their_errno),
		cmocka_unit_test(silent_peer_ends_at_the_deadline),
		cmocka_unit_test(addresses_are_tried_in_turn_each_with_its_share),
		cmocka_unit_test(every_address_that_is_blamed_gives_way_to_the_next),
		cmocka_unit_test(address_of_a_family_that_is_off_hides_no_refusal),
		cmocka_unit_test(cancel_at_every_stage_leaves_nothing),
		cmocka_unit_test(peer_of_a_dial_that_was_given_up_sees_its_end),
		cmocka_unit_test(dial_may_start_again_inside_done),
		cmocka_unit_test(idle_dial_is_cancelled_at_once),
		cmocka_unit_test(many_dials_leave_nothing_behind),
	};

	return cmocka_run_group_tests_name("dial", tests, NULL, NULL);
}
