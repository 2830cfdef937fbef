#include "unit/net/harness.h"

#include "base/check.h"
#include "net/listener.h"
#include "net/socket.h"

#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct endpoint endpoint_of(const char *text)
{
	struct endpoint endpoint;

	assert_int_equal(endpoint_parse(span_from_cstr(text), &endpoint), 0);
	return endpoint;
}

static int open_text(struct listen_socket *sockets, const char *text, uint32_t workers)
{
	const struct endpoint endpoint = endpoint_of(text);
	char why[256] = "";
	int code = listen_socket_open(sockets, &endpoint, workers, why, sizeof(why));

	/* A sentence with every failure, none with success. */
	assert_int_equal(code != 0, why[0] != 0);
	return code;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage storage;
	socklen_t len = sizeof(storage);
	struct address address;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&storage, &len), 0);
	address = address_make(&storage, len);
	return address_port(&address);
}

static int connect_to(const char *host, uint16_t port)
{
	struct address address;
	int fd;

	assert_true(address_from_text(&address, host, port));
	fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address.storage, address.len) == 0)
		return fd;

	int code = -errno;

	close(fd);
	return code;
}

static bool v6_works(void)
{
	struct address address;
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool works;

	if (fd < 0)
		return false;
	assert_true(address_from_text(&address, "::1", 0));
	works = bind(fd, (struct sockaddr *)&address.storage, address.len) == 0;
	close(fd);
	return works;
}

/* A directory of this test's own. */
static char directory[] = "/tmp/ringway-test-XXXXXX";
static char unix_text[96], unix_path[64];

static int make_directory(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(unix_path, sizeof(unix_path), "%s/sock", directory);
	snprintf(unix_text, sizeof(unix_text), "unix:%s", unix_path);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	unlink(unix_path);
	return rmdir(directory);
}

static int connect_unix(void)
{
	struct address address = address_from_path(unix_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&address.storage, address.len) == 0)
		return fd;

	int code = -errno;

	close(fd);
	return code;
}

/* ---- sockets ---- */

static void any_address_serves_both_families_on_one_port(void **state)
{
	struct listen_socket sockets;
	char text[16];
	uint16_t port;
	int fds_before = descriptor_count();

	(void)state;
	assert_int_equal(open_text(&sockets, ":0", 3), 0);
	assert_int_equal(sockets.fd_count, 3);
	assert_false(sockets.shared);
	port = port_of(sockets.fds[0]);
	assert_true(port != 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(port_of(sockets.fds[i]), port);
		assert_int_equal(listen_socket_fd(&sockets, i), sockets.fds[i]);
		assert_true(fcntl(sockets.fds[i], F_GETFD) & FD_CLOEXEC);
		assert_false(fcntl(sockets.fds[i], F_GETFL) & O_NONBLOCK);
	}
	snprintf(text, sizeof(text), ":%u", port);
	assert_string_equal(sockets.text, text);
	/* Each of them takes its part: a group, not three sockets of which one hears all. */
	for (int i = 0; i < 64; i++) {
		int fd = connect_to(i % 2 && v6_works() ? "::1" : "127.0.0.1", port);

		assert_true(fd >= 0);
		close(fd);
	}
	for (uint32_t i = 0; i < 3; i++) {
		int fd = accept4(sockets.fds[i], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		assert_true(fd >= 0);
		close(fd);
	}
	listen_socket_close(&sockets);
	listen_socket_close(&sockets);
	assert_int_equal(descriptor_count(), fds_before);
}

enum { V6_LESS_SERVES, V6_LESS_FAILS, V6_LESS_SKIPPED };

static int serve_without_v6(void)
{
	const struct endpoint endpoint = {.kind = ENDPOINT_ANY};
	struct listen_socket sockets;
	char why[256] = "";

	if (!harness_forbid_v6())
		return V6_LESS_SKIPPED;
	if (v6_works() || listen_socket_open(&sockets, &endpoint, 2, why, sizeof(why)) ||
	    sockets.fd_count != 2 || sockets.text[0] != ':')
		return V6_LESS_FAILS;
	return connect_to("127.0.0.1", port_of(sockets.fds[0])) >= 0 ? V6_LESS_SERVES
								     : V6_LESS_FAILS;
}

static void any_address_is_v4_alone_where_v6_is_off(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(serve_without_v6());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == V6_LESS_SKIPPED) {
		print_message("skip: seccomp is not available here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), V6_LESS_SERVES);
}

static void accepted_connections_inherit_the_options(void **state)
{
	struct listen_socket sockets;

	(void)state;
	assert_int_equal(open_text(&sockets, "127.0.0.1:0", 1), 0);

	int client = connect_to("127.0.0.1", port_of(sockets.fds[0]));
	int fd = accept4(sockets.fds[0], NULL, NULL, SOCK_CLOEXEC);

	assert_int_equal(harness_get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(harness_get_int(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_true(harness_get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE) < 7200);
	assert_true(harness_get_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) > 30000);
	assert_int_equal(harness_get_int(fd, SOL_SOCKET, SO_SNDBUF),
			 2 * 64 * 1024); /* the kernel doubles it */
	assert_true(harness_get_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT) <= 64 * 1024);
	close(fd);
	close(client);
	listen_socket_close(&sockets);
}

static void host_forms_bind_what_they_name(void **state)
{
	static const struct {
		const char *text, *reach, *miss;
	} rows[] = {
		{"127.0.0.1:0", "127.0.0.1", "127.0.0.2"},
		{"127.0.0.2:0", "127.0.0.2", "127.0.0.1"},
		{"localhost:0", "127.0.0.1", "127.0.0.2"},
		{"[::1]:0", "::1", "127.0.0.1"},
		{"[::]:0", "::1", "127.0.0.1"}, /* v6 only: v4 is another address */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct listen_socket sockets;
		int fd;

		if (rows[i].text[0] == '[' && !v6_works()) {
			printf("skip: %s: this machine has no IPv6\n", rows[i].text);
			continue;
		}
		assert_int_equal(open_text(&sockets, rows[i].text, 2), 0);
		fd = connect_to(rows[i].reach, port_of(sockets.fds[0]));
		assert_true(fd >= 0);
		close(fd);
		assert_int_equal(connect_to(rows[i].miss, port_of(sockets.fds[0])), -ECONNREFUSED);
		listen_socket_close(&sockets);
	}
}

/* Where no connection of another process takes it meanwhile: below the ports that the kernel gives.
 */
static void bind_quiet_port(int fd)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	for (int tries = 0; tries < 1000; tries++) {
		address.sin_port = htons((uint16_t)(20000 + (getpid() + tries * 7) % 10000));
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return;
	}
	fail_msg("no port is free");
}

static void a_port_in_use_is_refused_even_if_its_owner_shares(void **state)
{
	(void)state;
	for (int share = 0; share <= 1; share++) {
		struct listen_socket sockets;
		int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		char text[32];

		harness_set_int(other, SOL_SOCKET, SO_REUSEADDR, 1);
		harness_set_int(other, SOL_SOCKET, SO_REUSEPORT, share);
		bind_quiet_port(other);
		assert_int_equal(listen(other, 1), 0);
		snprintf(text, sizeof(text), "127.0.0.1:%u", port_of(other));
		assert_int_equal(open_text(&sockets, text, 2), -EADDRINUSE);
		assert_int_equal(sockets.fd_count, 0);
		snprintf(text, sizeof(text), ":%u", port_of(other));
		assert_int_equal(open_text(&sockets, text, 2), -EADDRINUSE);
		close(other);
		/*
		 * Free again: the restart of a gateway finds its port, whatever TIME_WAIT is left.
		 */
		assert_int_equal(open_text(&sockets, text, 2), 0);
		listen_socket_close(&sockets);
	}
}

static void an_address_of_another_machine_is_refused(void **state)
{
	struct listen_socket sockets;

	(void)state;
	assert_int_equal(open_text(&sockets, "192.0.2.1:0", 1), -EADDRNOTAVAIL);
}

/* A label too long for any name server to be asked about. */
static void a_name_of_no_host_is_refused_as_such(void **state)
{
	struct endpoint endpoint = {.kind = ENDPOINT_HOST, .port = 1};
	struct listen_socket sockets;
	char why[256];

	(void)state;
	memset(endpoint.host, 'a', 70);
	assert_int_equal(listen_socket_open(&sockets, &endpoint, 1, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "aaa:1: no such host"));
}

static void unix_socket_has_its_mode_whatever_the_umask(void **state)
{
	static const mode_t masks[] = {0, 022, 077, 0777};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
		struct listen_socket sockets;
		struct stat file;
		mode_t before = umask(masks[i]);
		int code = open_text(&sockets, unix_text, 4);

		umask(before);
		assert_int_equal(code, 0);
		assert_int_equal(sockets.fd_count, 1);
		assert_true(sockets.shared);
		assert_int_equal(listen_socket_fd(&sockets, 3), sockets.fds[0]);
		assert_string_equal(sockets.text, unix_text);
		assert_int_equal(stat(unix_path, &file), 0);
		assert_int_equal(file.st_mode & 07777, 0660);
		listen_socket_close(&sockets);
		assert_int_equal(access(unix_path, F_OK), -1);
	}
}

static void stale_unix_socket_is_replaced(void **state)
{
	struct listen_socket sockets;
	int fds_before = descriptor_count();

	(void)state;
	assert_int_equal(open_text(&sockets, unix_text, 1), 0);
	close(sockets.fds[0]); /* as after a crash: the file stays */
	assert_int_equal(connect_unix(), -ECONNREFUSED);
	assert_int_equal(open_text(&sockets, unix_text, 1), 0);

	int fd = connect_unix();

	assert_true(fd >= 0);
	close(fd);
	listen_socket_close(&sockets);
	assert_int_equal(descriptor_count(), fds_before);
}

static void live_unix_socket_is_refused_and_left_alone(void **state)
{
	struct listen_socket live, sockets;
	int fds_before = descriptor_count();

	(void)state;
	assert_int_equal(open_text(&live, unix_text, 1), 0);
	assert_int_equal(open_text(&sockets, unix_text, 1), -EADDRINUSE);
	assert_int_equal(access(unix_path, F_OK), 0);

	int fd = connect_unix();

	assert_true(fd >= 0);
	close(fd);
	listen_socket_close(&sockets);
	assert_int_equal(access(unix_path, F_OK), 0);
	listen_socket_close(&live);
	assert_int_equal(descriptor_count(), fds_before);
}

static void a_file_that_is_no_socket_is_never_removed(void **state)
{
	struct listen_socket sockets;
	int fd = open(unix_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(open_text(&sockets, unix_text, 1), -EADDRINUSE);
	assert_int_equal(unlink(unix_path), 0);
	assert_int_equal(open_text(&sockets, "unix:/no/such/directory/sock", 1), -ENOENT);
}

static void close_leaves_a_successors_file(void **state)
{
	struct listen_socket sockets, successor;

	(void)state;
	assert_int_equal(open_text(&sockets, unix_text, 1), 0);
	assert_int_equal(unlink(unix_path), 0);
	assert_int_equal(open_text(&successor, unix_text, 1), 0);
	listen_socket_close(&sockets);
	assert_int_equal(access(unix_path, F_OK), 0);
	listen_socket_close(&successor);
	assert_int_equal(access(unix_path, F_OK), -1);
}

static void inherited_descriptor_must_listen(void **state)
{
	struct listen_socket sockets;
	char why[128], text[32];
	uint16_t port;
	int pair[2], plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int good = harness_listen(&port, 5);

	(void)state;
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);

	const int bad[] = {pair[0], plain, datagram, 9999};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		why[0] = 0;
		assert_int_equal(listen_socket_inherit(&sockets, bad[i], why, sizeof(why)),
				 -EINVAL);
		assert_true(why[0] != 0);
		listen_socket_close(&sockets);
	}
	harness_set_nonblocking(good);
	fcntl(good, F_SETFD, 0);
	assert_int_equal(listen_socket_inherit(&sockets, good, why, sizeof(why)), 0);
	assert_true(sockets.shared);
	snprintf(text, sizeof(text), "127.0.0.1:%u", port);
	assert_string_equal(sockets.text, text);
	assert_false(fcntl(good, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(good, F_GETFD) & FD_CLOEXEC);
	listen_socket_close(&sockets);
	assert_int_equal(fcntl(good, F_GETFD), -1);
	close(plain);
	close(datagram);
	close(pair[0]);
	close(pair[1]);
}

static void inherited_unix_socket_keeps_its_file(void **state)
{
	struct listen_socket made, sockets;
	char why[128];

	(void)state;
	assert_int_equal(open_text(&made, unix_text, 1), 0);
	assert_int_equal(listen_socket_inherit(&sockets, made.fds[0], why, sizeof(why)), 0);
	assert_string_equal(sockets.text, unix_text);
	listen_socket_close(&sockets);
	assert_int_equal(access(unix_path, F_OK), 0); /* systemd's */
	assert_int_equal(unlink(unix_path), 0);
}

/* ---- accepting ---- */

#define FILES_MAX 512

struct door {
	struct listener listener;
	struct worker worker;
	struct listen_socket sockets;
	uint16_t port;
	struct file_ref files[FILES_MAX];
	uint16_t peer_ports[FILES_MAX];
	int accepted, stopped;
	bool stop_in_accepted, keep;
};

static void on_accepted(struct listener *listener, struct file_ref file, const struct address *peer)
{
	struct door *door = listener->context;

	assert_int_equal(door->stopped, 0);
	assert_true(door->accepted < FILES_MAX);
	assert_true(address_is_loopback(peer));
	door->peer_ports[door->accepted] = address_port(peer);
	door->files[door->accepted++] = file;
	if (!door->keep)
		socket_discard(&door->worker, file);
	if (door->stop_in_accepted)
		listener_stop(listener);
}

static void on_stopped(struct listener *listener)
{
	struct door *door = listener->context;

	door->stopped++;
	for (int i = 0; i < LISTENER_ACCEPTS; i++)
		assert_false(listener->accepts[i].op.armed || listener->accepts[i].cancel_op.armed);
}

static void door_open(struct door *door, const char *text, uint32_t file_slots)
{
	*door = (struct door){0};
	harness_worker_init(&door->worker, file_slots, 16);
	assert_int_equal(open_text(&door->sockets, text, 1), 0);
	door->port = door->sockets.shared ? 0 : port_of(door->sockets.fds[0]);
	door->listener.name = "test";
	door->listener.accepted = on_accepted;
	door->listener.stopped = on_stopped;
	door->listener.context = door;
	assert_int_equal(listener_start(&door->listener, &door->worker,
					listen_socket_fd(&door->sockets, 0), door->sockets.shared),
			 0);
}

static void door_close(struct door *door)
{
	listener_stop(&door->listener);
	listener_stop(&door->listener);
	TURN_UNTIL(&door->worker, door->stopped > 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(worker_turn(&door->worker, 0), 0);
	assert_int_equal(door->stopped, 1);
	harness_worker_finish(&door->worker);
	listen_socket_close(&door->sockets);
}

static void every_connection_comes_with_its_own_address(void **state)
{
	static struct door door;
	int clients[100];
	int fds_before = descriptor_count();

	(void)state;
	for (uint32_t slots = 0; slots <= 256; slots += 256) {
		door_open(&door, "127.0.0.1:0", slots);
		for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
			clients[i] = connect_to("127.0.0.1", door.port);
			assert_true(clients[i] >= 0);
		}
		TURN_UNTIL(&door.worker, door.accepted == ARRAY_LEN(clients));
		for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
			uint16_t port = port_of(clients[i]);
			int found = 0;

			for (int k = 0; k < door.accepted; k++)
				found += door.peer_ports[k] == port;
			assert_int_equal(found, 1);
			close(clients[i]);
			assert_int_equal(door.files[i].direct, slots > 0);
		}
		assert_int_equal(metric_value(&door.listener.accepted_count), ARRAY_LEN(clients));
		door_close(&door);
		assert_int_equal(descriptor_count(), fds_before);
	}
}

static void shared_socket_has_one_accept_armed(void **state)
{
	static struct door door;
	int clients[20];

	(void)state;
	door_open(&door, unix_text, 64);
	assert_int_equal(worker_ops_in_flight(&door.worker), 1);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		clients[i] = connect_unix();
	TURN_UNTIL(&door.worker, door.accepted == ARRAY_LEN(clients));
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		close(clients[i]);
	door_close(&door);
}

static void stop_inside_accepted_is_heard(void **state)
{
	static struct door door;
	int clients[20];

	(void)state;
	door_open(&door, "127.0.0.1:0", 64);
	door.stop_in_accepted = true;
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		clients[i] = connect_to("127.0.0.1", door.port);
	TURN_UNTIL(&door.worker, door.accepted > 0);
	door_close(&door);
	assert_int_equal(door.accepted, 1);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		close(clients[i]);
}

static void stopped_is_never_called_inside_stop(void **state)
{
	static struct door door;

	(void)state;
	door_open(&door, "127.0.0.1:0", 64);
	listener_stop(&door.listener); /* before its accepts are even submitted */
	assert_int_equal(door.stopped, 0);
	door_close(&door);
}

static void close_file(struct door *door, int index)
{
	socket_discard(&door->worker, door->files[index]);
}

static void full_table_pauses_until_there_is_room(void **state)
{
	static struct door door;
	int clients[60], connected = 0;

	(void)state;
	door_open(&door, "127.0.0.1:0", 16);
	door.keep = true;
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		clients[i] = connect_to("127.0.0.1", door.port);
		connected += clients[i] >= 0;
	}
	assert_int_equal(connected, ARRAY_LEN(clients));
	TURN_UNTIL(&door.worker, door.listener.paused);
	assert_true(metric_value(&door.listener.failed_count) > 0);

	int kept = door.accepted;

	assert_true(kept > 0 && kept <= 16);
	/* Room comes: no need to wait for the 100 ms. */
	for (int i = 0; i < kept; i++)
		close_file(&door, i);
	TURN_UNTIL(&door.worker, worker_ops_in_flight(&door.worker) == 0 || !door.listener.paused);

	listener_room(&door.listener);
	assert_false(door.listener.paused);
	assert_false(deadline_is_armed(&door.listener.retry));
	TURN_UNTIL(&door.worker, door.accepted > kept);
	/* And without a word it tries again by itself. */
	TURN_UNTIL(&door.worker, door.listener.paused);
	for (int i = kept; i < door.accepted; i++)
		close_file(&door, i);
	kept = door.accepted;
	if (kept < 40)
		TURN_UNTIL(&door.worker, door.accepted > kept);
	TURN_UNTIL(&door.worker, door.listener.paused || door.accepted > kept);
	for (int i = kept; i < door.accepted; i++)
		close_file(&door, i);
	door_close(&door);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		close(clients[i]);
}

static void stop_while_paused_is_heard(void **state)
{
	static struct door door;
	struct rlimit before, tight;
	int client, fd;

	(void)state;
	door_open(&door, "127.0.0.1:0", 0); /* plain descriptors */
	door.keep = true;
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	fd = dup(0); /* the first free one */
	close(fd);
	tight = (struct rlimit){.rlim_cur = (rlim_t)fd, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);

	struct address address;

	assert_true(address_from_text(&address, "127.0.0.1", door.port));
	assert_int_equal(connect(client, (struct sockaddr *)&address.storage, address.len), 0);
	TURN_UNTIL(&door.worker, door.listener.paused);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(door.accepted, 0);
	door_close(&door);
	close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_address_serves_both_families_on_one_port),
		cmocka_unit_test(any_address_is_v4_alone_where_v6_is_off),
		cmocka_unit_test(accepted_connections_inherit_the_options),
		cmocka_unit_test(host_forms_bind_what_they_name),
		cmocka_unit_test(a_port_in_use_is_refused_even_if_its_owner_shares),
		cmocka_unit_test(an_address_of_another_machine_is_refused),
		cmocka_unit_test(a_name_of_no_host_is_refused_as_such),
		cmocka_unit_test(unix_socket_has_its_mode_whatever_the_umask),
		cmocka_unit_test(stale_unix_socket_is_replaced),
		cmocka_unit_test(live_unix_socket_is_refused_and_left_alone),
		cmocka_unit_test(a_file_that_is_no_socket_is_never_removed),
		cmocka_unit_test(close_leaves_a_successors_file),
		cmocka_unit_test(inherited_descriptor_must_listen),
		cmocka_unit_test(inherited_unix_socket_keeps_its_file),
		cmocka_unit_test(every_connection_comes_with_its_own_address),
		cmocka_unit_test(shared_socket_has_one_accept_armed),
		cmocka_unit_test(stop_inside_accepted_is_heard),
		cmocka_unit_test(stopped_is_never_called_inside_stop),
		cmocka_unit_test(full_table_pauses_until_there_is_room),
		cmocka_unit_test(stop_while_paused_is_heard),
	};

	return cmocka_run_group_tests_name("listener", tests, make_directory, remove_directory);
}
