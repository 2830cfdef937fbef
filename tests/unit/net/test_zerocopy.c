/* When large sends go by zero copy, over the real ring and loopback, which copies. */
#include "unit/net/harness.h"

#include "base/check.h"
#include "net/conn.h"
#include "net/zerocopy.h"

#include <arpa/inet.h>
#include <ifaddrs.h>

static void init_enabled(struct zerocopy *zerocopy, struct worker *worker)
{
	harness_worker_init(worker, 0, 64);
	zerocopy_init(zerocopy, worker);
	if (!zerocopy_is_enabled(zerocopy)) {
		printf("skip: this kernel has no zero-copy sends that tell of copies\n");
		skip();
	}
}

static bool is_local(const struct zerocopy *zerocopy, const char *host)
{
	struct address address;

	assert_true(address_from_text(&address, host, 4711));
	return zerocopy_is_local(zerocopy, &address);
}

static void only_other_hosts_are_remote(void **state)
{
	const struct address unknown = {0}, unix_peer = address_from_path("/run/peer");
	struct zerocopy zerocopy;
	struct worker worker;
	struct ifaddrs *all;

	(void)state;
	init_enabled(&zerocopy, &worker);
	assert_false(is_local(&zerocopy, "198.51.100.7"));
	assert_false(is_local(&zerocopy, "2001:db8::7"));
	assert_true(is_local(&zerocopy, "127.3.2.1"));
	assert_true(is_local(&zerocopy, "::1"));
	assert_true(is_local(&zerocopy, "::ffff:127.0.0.1"));
	assert_true(zerocopy_is_local(&zerocopy, &unknown));
	assert_true(zerocopy_is_local(&zerocopy, &unix_peer));
	/* Whatever addresses this host has, also in the other family's clothes. */
	assert_int_equal(getifaddrs(&all), 0);
	for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
		char host[INET6_ADDRSTRLEN + 8] = "::ffff:";
		struct sockaddr_in v4;

		if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET)
			continue;
		memcpy(&v4, one->ifa_addr, sizeof(v4));
		assert_non_null(inet_ntop(AF_INET, &v4.sin_addr, host + 7, INET_ADDRSTRLEN));
		assert_true(is_local(&zerocopy, host + 7));
		assert_true(is_local(&zerocopy, host));
	}
	freeifaddrs(all);
	/* As if a card had it. */
	zerocopy.own[0].len = 4;
	memcpy(zerocopy.own[0].bytes, "\xc6\x33\x64\x07", 4);
	zerocopy.own_count = zerocopy.own_count ? zerocopy.own_count : 1;
	assert_true(is_local(&zerocopy, "198.51.100.7"));
	assert_false(is_local(&zerocopy, "198.51.100.8"));
	harness_worker_finish(&worker);
}

static void no_reports_no_zero_copy(void **state)
{
	struct ring_features *features;
	struct zerocopy zerocopy;
	struct worker worker;

	(void)state;
	init_enabled(&zerocopy, &worker);
	features = (struct ring_features *)(uintptr_t)ring_get_features(worker.ring);
	features->send_zc_report = false;
	zerocopy_init(&zerocopy, &worker);
	assert_false(zerocopy_is_enabled(&zerocopy));
	assert_int_equal(metric_gauge_value(&zerocopy.enabled), 0);
	features->send_zc_report = true;
	features->sendmsg_zc = false;
	zerocopy_init(&zerocopy, &worker);
	assert_false(zerocopy_is_enabled(&zerocopy));
	harness_worker_finish(&worker);
}

static void copies_are_looked_for_in_the_last_notifications_only(void **state)
{
	struct zerocopy zerocopy = {.worker = "test", .is_enabled = true};

	(void)state;
	/* Seven of any sixteen, for long: it goes on. */
	for (int i = 0; i < 160; i++)
		zerocopy_notified(&zerocopy, i % 16 < ZEROCOPY_COPIES_MAX - 1);
	assert_true(zerocopy_is_enabled(&zerocopy));
	assert_int_equal(metric_value(&zerocopy.copied), 70);
	assert_int_equal(metric_value(&zerocopy.sent), 90);
	for (int i = 0; i < 16; i++) /* forgotten by now */
		zerocopy_notified(&zerocopy, false);
	for (int i = 0; i < ZEROCOPY_COPIES_MAX; i++) {
		assert_true(zerocopy_is_enabled(&zerocopy));
		zerocopy_notified(&zerocopy, true);
	}
	assert_false(zerocopy_is_enabled(&zerocopy));
	/* For good. */
	for (int i = 0; i < 100; i++)
		zerocopy_notified(&zerocopy, false);
	assert_false(zerocopy_is_enabled(&zerocopy));
}

static void refusals_are_counted_and_an_unsupported_one_ends_it(void **state)
{
	struct zerocopy zerocopy = {.worker = "test", .is_enabled = true};

	(void)state;
	for (int i = 0; i < 100; i++)
		zerocopy_refused(&zerocopy, i % 2 ? -ENOBUFS : -ENOMEM);
	assert_true(zerocopy_is_enabled(&zerocopy));
	zerocopy_refused(&zerocopy, -EOPNOTSUPP);
	assert_false(zerocopy_is_enabled(&zerocopy));
	assert_int_equal(metric_value(&zerocopy.refused), 101);
	assert_int_equal(metric_value(&zerocopy.copied), 0);
}

/* ---- a conn that may, over the real ring ---- */

#define EVENT_BYTES 40000

struct subject {
	struct worker worker;
	struct zerocopy zerocopy;
	struct conn_counters counters;
	struct metric_counter copied_bytes;
	struct conn conn;
	struct payload *payload;
	int peer;
	bool closed;
};

static void on_received(struct conn *conn, struct span bytes)
{
	(void)conn, (void)bytes;
}

static void on_closed(struct conn *conn, enum conn_end end, int error)
{
	(void)end, (void)error;
	CONTAINER_OF(conn, struct subject, conn)->closed = true;
}

static const struct conn_handler handler = {.received = on_received, .closed = on_closed};
static const struct conn_options options = {.queue_bytes_max = 1 << 20,
					    .queue_bytes_room = 1 << 20};

static void subject_open(struct subject *subject, const char *peer_is)
{
	int ours;

	*subject = (struct subject){.payload = NULL};
	init_enabled(&subject->zerocopy, &subject->worker);
	subject->payload = payload_create(EVENT_BYTES);
	memset(subject->payload->data, 'x', EVENT_BYTES);
	harness_tcp_pair(&ours, &subject->peer);
	assert_int_equal(
		conn_open(&subject->conn, &subject->worker, file_from_fd(ours), &handler, &options),
		0);
	assert_true(address_from_text(&subject->conn.peer, peer_is, 4711));
	subject->counters.zerocopy = &subject->zerocopy;
	subject->counters.copied_bytes = &subject->copied_bytes;
	subject->conn.counters = &subject->counters;
	conn_allow_zerocopy(&subject->conn);
}

static void subject_close(struct subject *subject)
{
	conn_close(&subject->conn);
	TURN_UNTIL(&subject->worker, subject->closed);
	assert_int_equal(subject->payload->count, 1);
	assert_int_equal(metric_value(&subject->copied_bytes), 0);
	payload_put(subject->payload);
	harness_worker_finish(&subject->worker);
	if (subject->peer >= 0)
		close(subject->peer);
}

/* Bytes that the peer has read so far. */
static size_t peer_read(struct subject *subject, size_t *bytes)
{
	static uint8_t buffer[65536];
	ssize_t count = recv(subject->peer, buffer, sizeof(buffer), 0);

	for (ssize_t i = 0; i < count; i++)
		assert_int_equal(buffer[i], 'x');
	*bytes += count > 0 ? (size_t)count : 0;
	return *bytes;
}

static void queue_slice(struct subject *subject, size_t len)
{
	const struct payload_slice slice = {subject->payload, 0, (uint32_t)len};

	assert_int_equal(conn_send_slice(&subject->conn, slice), 0);
}

static void send_one(struct subject *subject, size_t len)
{
	size_t bytes = 0;

	queue_slice(subject, len);
	TURN_UNTIL(&subject->worker, peer_read(subject, &bytes) == len);
	TURN_UNTIL(&subject->worker,
		   !conn_is_sending(&subject->conn) && subject->conn.zerocopy_pending == 0);
	assert_int_equal(subject->payload->count, 1);
}

static uint64_t notified(const struct subject *subject)
{
	return metric_value(&subject->zerocopy.sent) + metric_value(&subject->zerocopy.copied);
}

static void large_sends_to_other_hosts_go_by_zero_copy_until_copied(void **state)
{
	struct subject subject;

	(void)state;
	subject_open(&subject, "198.51.100.7");
	send_one(&subject, CONN_ZC_BYTES_MIN - 1);
	assert_int_equal(notified(&subject), 0);
	send_one(&subject, CONN_ZC_BYTES_MIN);
	assert_int_equal(notified(&subject), 1);
	for (int i = 0; i < 100; i++)
		send_one(&subject, EVENT_BYTES);
	/* The wire is loopback all the same. */
	assert_int_equal(metric_value(&subject.zerocopy.sent), 0);
	assert_int_equal(metric_value(&subject.zerocopy.copied), ZEROCOPY_COPIES_MAX);
	assert_int_equal(metric_value(&subject.zerocopy.refused), 0);
	assert_false(zerocopy_is_enabled(&subject.zerocopy));
	subject_close(&subject);
}

static void many_small_slices_go_plain(void **state)
{
	struct subject subject;
	size_t bytes = 0;

	(void)state;
	subject_open(&subject, "198.51.100.7");
	for (int i = 0; i < 100; i++)
		queue_slice(&subject, 400);
	TURN_UNTIL(&subject.worker, peer_read(&subject, &bytes) == 40000);
	assert_int_equal(notified(&subject), 0);
	subject_close(&subject);
}

static void sends_to_this_host_are_plain(void **state)
{
	struct subject subject;

	(void)state;
	subject_open(&subject, "127.0.0.1");
	for (int i = 0; i < 10; i++)
		send_one(&subject, EVENT_BYTES);
	assert_int_equal(notified(&subject), 0);
	assert_true(zerocopy_is_enabled(&subject.zerocopy));
	subject_close(&subject);
}

/* A peer that reads nothing: what the kernel holds of ours ends with the connection. */
static void close_waits_for_the_memory_of_a_stalled_peer(void **state)
{
	struct subject subject;

	(void)state;
	subject_open(&subject, "198.51.100.7");
	for (int i = 0; i < 20; i++)
		queue_slice(&subject, EVENT_BYTES);
	for (int i = 0; i < 5; i++)
		assert_int_equal(worker_turn(&subject.worker, 1000), 0);
	assert_true(subject.conn.zerocopy_pending > 0 || notified(&subject) > 0);
	assert_true(subject.payload->count > 1);
	conn_close(&subject.conn);
	for (int i = 0; i < 5; i++)
		assert_int_equal(worker_turn(&subject.worker, 1000), 0);
	close(subject.peer); /* with unread bytes: a reset */
	subject.peer = -1;
	subject_close(&subject);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_other_hosts_are_remote),
		cmocka_unit_test(no_reports_no_zero_copy),
		cmocka_unit_test(copies_are_looked_for_in_the_last_notifications_only),
		cmocka_unit_test(refusals_are_counted_and_an_unsupported_one_ends_it),
		cmocka_unit_test(large_sends_to_other_hosts_go_by_zero_copy_until_copied),
		cmocka_unit_test(many_small_slices_go_plain),
		cmocka_unit_test(sends_to_this_host_are_plain),
		cmocka_unit_test(close_waits_for_the_memory_of_a_stalled_peer),
	};

	return cmocka_run_group_tests_name("zerocopy", tests, NULL, NULL);
}
