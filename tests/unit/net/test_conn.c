#include "unit/net/harness.h"

#include "base/check.h"
#include "net/conn.h"

#include <netinet/tcp.h>

#define PATTERN(i) ((uint8_t)((i)*31 + (i) / 251))

/* A connection under test with all that happened to it. */
struct subject {
	struct conn conn;
	struct worker *worker;
	struct conn_counters counters;
	size_t received_bytes, received_wrong;
	int received_calls, peer_finished_calls, produce_calls, closed_calls;
	enum conn_end end;
	int error;
	size_t to_produce, produced;
	bool close_in_received, close_in_produce, close_in_peer_finished, pause_in_received;
	bool finish_in_received, slices;
	struct span reply;
};

static struct subject *subject_of(struct conn *conn)
{
	return CONTAINER_OF(conn, struct subject, conn);
}

static void on_received(struct conn *conn, struct span bytes)
{
	struct subject *subject = subject_of(conn);

	subject->received_calls++;
	for (size_t i = 0; i < bytes.len; i++)
		if (bytes.data[i] != PATTERN(subject->received_bytes + i))
			subject->received_wrong++;
	subject->received_bytes += bytes.len;
	if (subject->reply.len > 0)
		assert_int_equal(conn_send(conn, subject->reply), 0);
	if (subject->pause_in_received)
		conn_pause_receive(conn);
	if (subject->finish_in_received)
		conn_finish_sending(conn);
	if (subject->close_in_received)
		conn_close(conn);
}

static void on_peer_finished(struct conn *conn)
{
	subject_of(conn)->peer_finished_calls++;
	if (subject_of(conn)->close_in_peer_finished)
		conn_close(conn);
}

static void on_produce(struct conn *conn)
{
	struct subject *subject = subject_of(conn);

	subject->produce_calls++;
	if (subject->close_in_produce) {
		conn_close(conn);
		return;
	}
	while (subject->produced < subject->to_produce && conn_has_room(conn)) {
		size_t left = subject->to_produce - subject->produced;
		size_t len = left < 300 ? left : 300;
		uint8_t bytes[300];

		for (size_t i = 0; i < len; i++)
			bytes[i] = PATTERN(subject->produced + i);
		if (subject->slices && len > 9) {
			struct payload *payload = payload_copy(span_make(bytes + 9, len - 9));

			assert_int_equal(conn_send(conn, span_make(bytes, 9)), 0);
			assert_int_equal(
				conn_give_slice(conn, (struct payload_slice){payload, 0,
									     (uint32_t)len - 9}),
				0);
		} else {
			assert_int_equal(conn_send(conn, span_make(bytes, len)), 0);
		}
		subject->produced += len;
	}
}

static void on_closed(struct conn *conn, enum conn_end end, int error)
{
	struct subject *subject = subject_of(conn);

	subject->closed_calls++;
	subject->end = end;
	subject->error = error;
	/* What the kernel or a list still held would be seen by the sanitizer or here. */
	assert_false(conn->receive_op.armed || conn->send_op.armed || conn->close_op.armed ||
		     conn->cancel_op.armed);
	assert_null(conn->queue.first);
	assert_null(conn->send);
}

static const struct conn_handler handler = {
	.received = on_received,
	.peer_finished = on_peer_finished,
	.produce = on_produce,
	.closed = on_closed,
};

static const struct conn_handler handler_plain = {.received = on_received, .closed = on_closed};

static const struct conn_options options = {
	.queue_bytes_max = 1 << 20,
	.queue_bytes_room = 64 << 10,
	.linger_ms = 2000,
};

struct fixture {
	struct worker worker;
	struct subject subject;
	int peer;
	int fds_before;
};

static void fixture_open_with(struct fixture *fixture, const struct conn_handler *with,
			      const struct conn_options *conn_options, uint32_t file_slots)
{
	int ours;

	*fixture = (struct fixture){.fds_before = descriptor_count()};
	harness_worker_init(&fixture->worker, file_slots, 64);
	harness_tcp_pair(&ours, &fixture->peer);
	harness_set_int(ours, SOL_SOCKET, SO_SNDBUF, 4096);
	fixture->subject.worker = &fixture->worker;

	struct file_ref file = ring_adopt(fixture->worker.ring, ours);

	assert_int_equal(file.direct, file_slots > 0);
	assert_int_equal(
		conn_open(&fixture->subject.conn, &fixture->worker, file, with, conn_options), 0);
	fixture->subject.conn.counters = &fixture->subject.counters;
}

static void fixture_open(struct fixture *fixture)
{
	fixture_open_with(fixture, &handler, &options, 64);
}

/* The connection is over; nothing may be left of it. */
static void fixture_close(struct fixture *fixture)
{
	TURN_UNTIL(&fixture->worker, fixture->subject.closed_calls > 0);
	assert_int_equal(fixture->subject.closed_calls, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(worker_turn(&fixture->worker, 0), 0);
	assert_int_equal(fixture->subject.closed_calls, 1);
	assert_int_equal(worker_ops_in_flight(&fixture->worker), 0);
	harness_worker_finish(&fixture->worker);
	close(fixture->peer);
	assert_int_equal(descriptor_count(), fixture->fds_before);
}

/*
 * Peer's non-blocking reads of the pattern. Returns bytes so far; `end` is set at FIN (0) or an
 * error.
 */
struct reader {
	size_t bytes, wrong;
	bool ended;
	int error;
};

static bool read_some(struct reader *reader, int fd)
{
	uint8_t bytes[8192];
	ssize_t count = recv(fd, bytes, sizeof(bytes), 0);

	if (count > 0) {
		for (size_t i = 0; i < (size_t)count; i++)
			if (bytes[i] != PATTERN(reader->bytes + i))
				reader->wrong++;
		reader->bytes += (size_t)count;
	} else if (count == 0) {
		reader->ended = true;
	} else if (errno != EAGAIN) {
		reader->ended = true;
		reader->error = errno;
	}
	return reader->ended;
}

static bool write_some(int fd, size_t *written, size_t total)
{
	uint8_t bytes[8192];
	size_t len = total - *written < sizeof(bytes) ? total - *written : sizeof(bytes);

	for (size_t i = 0; i < len; i++)
		bytes[i] = PATTERN(*written + i);

	ssize_t count = len ? send(fd, bytes, len, MSG_NOSIGNAL) : 0;

	if (count > 0)
		*written += (size_t)count;
	return *written == total;
}

static void conn_receives_what_the_peer_sends(void **state)
{
	struct fixture fixture;
	size_t written = 0;

	(void)state;
	fixture_open(&fixture);
	TURN_UNTIL(&fixture.worker, write_some(fixture.peer, &written, 3u << 20));
	TURN_UNTIL(&fixture.worker, fixture.subject.received_bytes == 3u << 20);
	assert_int_equal(fixture.subject.received_wrong, 0);
	assert_int_equal(metric_value(&fixture.subject.counters.received_bytes), 3u << 20);
	conn_close(&fixture.subject.conn);
	assert_int_equal(fixture.subject.closed_calls, 0);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.end, CONN_END_LOCAL);
	assert_int_equal(fixture.subject.error, 0);
}

static void conn_goes_on_where_receives_are_single_shot(void **state)
{
	struct fixture fixture;
	size_t written = 0, total = 1u << 20;
	struct ring_features *features;

	(void)state;
	fixture_open(&fixture);
	/* As a kernel would have it that ends every multishot at once. */
	features = (struct ring_features *)(uintptr_t)ring_get_features(fixture.worker.ring);
	features->multishot_receive = false;
	conn_pause_receive(&fixture.subject.conn); /* ends the one that is armed */
	for (int i = 0; i < 5; i++)
		assert_int_equal(worker_turn(&fixture.worker, 0), 0);
	conn_resume_receive(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker, (write_some(fixture.peer, &written, total),
				     fixture.subject.received_bytes == total));
	assert_int_equal(fixture.subject.received_wrong, 0);
	conn_close(&fixture.subject.conn);
	fixture_close(&fixture);
}

static void conn_that_cannot_open_closes_its_file(void **state)
{
	(void)state;
	for (uint32_t file_slots = 0; file_slots <= 16; file_slots += 16) {
		int fds_before = descriptor_count();
		struct subject subject = {.worker = NULL};
		struct worker worker;
		int ours, peer;
		char byte;

		harness_worker_init(&worker, file_slots,
				    0); /* no buffers: nothing to receive into */
		harness_tcp_pair(&ours, &peer);
		assert_true(conn_open(&subject.conn, &worker, ring_adopt(worker.ring, ours),
				      &handler, &options) < 0);
		assert_false(conn_is_open(&subject.conn));
		conn_close(&subject.conn);
		TURN_UNTIL(&worker, recv(peer, &byte, 1, 0) == 0);
		assert_int_equal(subject.closed_calls, 0);
		close(peer);
		harness_worker_finish(&worker);
		assert_int_equal(descriptor_count(), fds_before);
	}
}

static void produce_is_called_until_all_is_sent(struct fixture *fixture)
{
	struct reader reader = {0};
	size_t total = 2u << 20;

	fixture->subject.to_produce = total;
	conn_wants_flush(&fixture->subject.conn);
	assert_int_equal(fixture->subject.produce_calls, 0);
	TURN_UNTIL(&fixture->worker, (read_some(&reader, fixture->peer), reader.bytes == total));
	assert_int_equal(reader.wrong, 0);
	/* The room is a soft bound: the queue never held all of it. */
	assert_true(fixture->subject.produce_calls > 10);
	TURN_UNTIL(&fixture->worker, metric_value(&fixture->subject.counters.sent_bytes) == total);
	conn_close(&fixture->subject.conn);
	fixture_close(fixture);
}

static void conn_sends_headers_and_slices_in_order(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open_with(&fixture, &handler, &options, 0);
	fixture.subject.slices = true;
	produce_is_called_until_all_is_sent(&fixture);
}

static void conn_moves_megabytes_both_ways_at_once(void **state)
{
	struct fixture fixture;
	struct reader reader = {0};
	size_t written = 0, total = 1u << 20;

	(void)state;
	fixture_open(&fixture);
	fixture.subject.to_produce = total;
	conn_wants_flush(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker,
		   (write_some(fixture.peer, &written, total), read_some(&reader, fixture.peer),
		    reader.bytes == total && fixture.subject.received_bytes == total));
	assert_int_equal(reader.wrong + fixture.subject.received_wrong, 0);
	conn_close(&fixture.subject.conn);
	fixture_close(&fixture);
}

static void conn_refuses_over_its_bound_and_takes_nothing(void **state)
{
	static uint8_t bytes[(1 << 20) + 1];
	struct fixture fixture;
	struct conn *conn = &fixture.subject.conn;

	(void)state;
	fixture_open(&fixture);
	assert_int_equal(conn_send(conn, span_make(bytes, sizeof(bytes))), -ENOBUFS);
	assert_int_equal(conn->queue.bytes, 0);
	assert_true(conn_has_room(conn));
	assert_int_equal(conn_send(conn, span_make(bytes, sizeof(bytes) - 1)), 0);
	assert_false(conn_has_room(conn));
	assert_int_equal(conn_send(conn, span_make(bytes, 1)), -ENOBUFS);
	conn_close(conn);
	assert_int_equal(conn_send(conn, span_make(bytes, 1)), -EPIPE);
	assert_false(conn_is_open(conn));
	fixture_close(&fixture);
}

static void half_close_lets_us_go_on_sending(void **state)
{
	struct fixture fixture;
	struct reader reader = {0};

	(void)state;
	fixture_open(&fixture);
	shutdown(fixture.peer, SHUT_WR);
	TURN_UNTIL(&fixture.worker, fixture.subject.peer_finished_calls == 1);
	assert_true(conn_is_open(&fixture.subject.conn));
	fixture.subject.to_produce = 100000;
	conn_wants_flush(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker, (read_some(&reader, fixture.peer), reader.bytes == 100000));
	conn_finish_sending(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker, read_some(&reader, fixture.peer));
	assert_int_equal(reader.error, 0);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.peer_finished_calls, 1);
	assert_int_equal(fixture.subject.end, CONN_END_LOCAL);
}

static void conn_without_peer_finished_sends_its_queue_and_closes(void **state)
{
	struct fixture fixture;
	struct reader reader = {0};
	static uint8_t bytes[200000];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = PATTERN(i);
	fixture_open_with(&fixture, &handler_plain, &options, 64);
	assert_int_equal(conn_send(&fixture.subject.conn, span_make(bytes, sizeof(bytes))), 0);
	shutdown(fixture.peer, SHUT_WR);
	TURN_UNTIL(&fixture.worker, !conn_is_open(&fixture.subject.conn));
	TURN_UNTIL(&fixture.worker, read_some(&reader, fixture.peer));
	assert_int_equal(reader.bytes, sizeof(bytes));
	assert_int_equal(reader.error + (int)reader.wrong, 0);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.end, CONN_END_PEER);
	assert_int_equal(fixture.subject.error, 0);
}

/* The close that follows sends RST instead of FIN. */
static void peer_reset(int fd)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
}

static void reset_by_peer_ends_the_conn(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	peer_reset(fixture.peer);
	close(fixture.peer);
	fixture.peer = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.end, CONN_END_RESET);
	assert_int_equal(fixture.subject.error, -ECONNRESET);
}

static void reset_during_a_blocked_send_ends_the_conn(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	fixture.subject.to_produce = 64u << 20;
	conn_wants_flush(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker,
		   fixture.subject.conn.send_op.armed &&
			   metric_value(&fixture.subject.counters.sent_bytes) > 1000);
	peer_reset(fixture.peer);
	close(fixture.peer);
	fixture.peer = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.end, CONN_END_RESET);
}

static void close_is_safe_in_every_callback(void **state)
{
	(void)state;
	for (int where = 0; where < 4; where++) {
		struct fixture fixture;
		size_t written = 0;

		fixture_open(&fixture);
		fixture.subject.close_in_received = where == 0;
		fixture.subject.close_in_produce = where == 1;
		fixture.subject.close_in_peer_finished = where == 2;
		if (where == 3) { /* twice, and with a send in flight that the peer does not read */
			fixture.subject.to_produce = 64u << 20;
			conn_wants_flush(&fixture.subject.conn);
			TURN_UNTIL(&fixture.worker, fixture.subject.conn.send_op.armed);
			conn_close(&fixture.subject.conn);
			conn_close(&fixture.subject.conn);
		}
		if (where == 1)
			conn_wants_flush(&fixture.subject.conn);
		if (where == 0)
			write_some(fixture.peer, &written, 100000);
		if (where == 2)
			shutdown(fixture.peer, SHUT_WR);
		fixture_close(&fixture);
		assert_int_equal(fixture.subject.end, CONN_END_LOCAL);
		if (where == 0)
			assert_int_equal(fixture.subject.received_calls, 1);
		conn_close(&fixture.subject.conn); /* after the end: nothing */
		conn_finish_sending(&fixture.subject.conn);
		conn_pause_receive(&fixture.subject.conn);
		conn_resume_receive(&fixture.subject.conn);
		conn_wants_flush(&fixture.subject.conn);
	}
}

static void pause_or_resume(struct conn *conn, unsigned *seed)
{
	*seed = *seed * 1103515245 + 12345;
	switch (*seed >> 16 & 7) {
	case 0:
	case 1:
		conn_pause_receive(conn);
		break;
	case 2: /* both within one turn, either way round */
		conn_pause_receive(conn);
		conn_resume_receive(conn);
		break;
	case 3:
		conn_resume_receive(conn);
		conn_pause_receive(conn);
		break;
	default:
		conn_resume_receive(conn);
	}
}

static void pause_and_resume_lose_nothing(void **state)
{
	struct fixture fixture;
	size_t written = 0, total = 2u << 20;
	unsigned seed = 7;

	(void)state;
	fixture_open(&fixture);
	TURN_UNTIL_WAITING(&fixture.worker, 100,
			   (write_some(fixture.peer, &written, total),
			    pause_or_resume(&fixture.subject.conn, &seed),
			    fixture.subject.received_bytes == total));
	assert_int_equal(fixture.subject.received_wrong, 0);
	conn_close(&fixture.subject.conn);
	fixture_close(&fixture);
}

static void paused_conn_leaves_bytes_in_the_kernel(void **state)
{
	struct fixture fixture;
	size_t written = 0, total = 32u << 20;

	(void)state;
	fixture_open(&fixture);
	fixture.subject.pause_in_received = true;
	for (int i = 0; i < 2000 && written < total; i++) {
		write_some(fixture.peer, &written, total);
		assert_int_equal(worker_turn(&fixture.worker, 0), 0);
	}
	/* Only what had completed when the cancel came. */
	assert_true(fixture.subject.received_bytes < 1u << 20);
	assert_true(written < total);
	fixture.subject.pause_in_received = false;
	conn_resume_receive(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker, (write_some(fixture.peer, &written, total),
				     fixture.subject.received_bytes == total));
	assert_int_equal(fixture.subject.received_wrong, 0);
	conn_close(&fixture.subject.conn);
	fixture_close(&fixture);
}

static void starved_receives_lose_nothing(void **state)
{
	enum { CONNS = 24 };
	static struct subject subjects[CONNS];
	struct worker worker;
	int peers[CONNS];
	size_t written[CONNS] = {0}, total = 200000;
	uint64_t give_up_ms = steady_ms() + 20000;
	bool all;

	(void)state;
	memset(subjects, 0, sizeof(subjects));
	harness_worker_init(&worker, 64, 8); /* fewer buffers than connections */
	for (int i = 0; i < CONNS; i++) {
		int ours;

		harness_tcp_pair(&ours, &peers[i]);
		assert_int_equal(conn_open(&subjects[i].conn, &worker,
					   ring_adopt(worker.ring, ours), &handler, &options),
				 0);
	}
	do {
		assert_true(steady_ms() < give_up_ms);
		all = true;
		for (int i = 0; i < CONNS; i++) {
			write_some(peers[i], &written[i], total);
			all = all && subjects[i].received_bytes == total;
		}
		assert_int_equal(worker_turn(&worker, 1000), 0);
	} while (!all);
	assert_true(metric_value(&worker.metrics.buffer_starvations) > 0);
	for (int i = 0; i < CONNS; i++) {
		assert_int_equal(subjects[i].received_wrong, 0);
		conn_close(&subjects[i].conn);
	}
	for (int i = 0; i < CONNS; i++) {
		TURN_UNTIL(&worker, subjects[i].closed_calls == 1);
		close(peers[i]);
	}
	harness_worker_finish(&worker);
}

static void finish_sending_sends_the_queue_then_fin(void **state)
{
	struct fixture fixture;
	struct reader reader = {0};

	(void)state;
	fixture_open(&fixture);
	fixture.subject.to_produce = 60000;
	conn_wants_flush(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker, fixture.subject.produced == 60000);
	conn_finish_sending(&fixture.subject.conn);
	assert_int_equal(conn_send(&fixture.subject.conn, SPAN("more")), -EPIPE);
	TURN_UNTIL(&fixture.worker, read_some(&reader, fixture.peer));
	assert_int_equal(reader.bytes, 60000);
	assert_int_equal(reader.error + (int)reader.wrong, 0);
	/* It waits for the peer's FIN, and drops what comes before it. */
	assert_int_equal(send(fixture.peer, "late", 4, MSG_NOSIGNAL), 4);
	for (int i = 0; i < 10; i++)
		assert_int_equal(worker_turn(&fixture.worker, 1000), 0);
	assert_int_equal(fixture.subject.closed_calls, 0);
	shutdown(fixture.peer, SHUT_WR);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.received_calls, 0);
	assert_int_equal(fixture.subject.peer_finished_calls, 0);
	assert_int_equal(fixture.subject.end, CONN_END_LOCAL);
	assert_int_equal(fixture.subject.error, 0);
}

static void lingering_close_delivers_the_last_reply_to_a_peer_that_sends_more(void **state)
{
	static uint8_t reply[300000];
	struct fixture fixture;
	struct reader reader = {0};
	size_t written = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(reply); i++)
		reply[i] = PATTERN(i);
	fixture_open(&fixture);
	fixture.subject.reply = span_make(reply, sizeof(reply));
	fixture.subject.finish_in_received = true;
	/*
	 * The peer sends far more than we take, and reads late: a plain close would reset over its
	 * bytes.
	 */
	write_some(fixture.peer, &written, 64u << 20);
	TURN_UNTIL(&fixture.worker, !conn_is_open(&fixture.subject.conn));
	for (int i = 0; i < 20; i++) {
		write_some(fixture.peer, &written, 64u << 20);
		assert_int_equal(worker_turn(&fixture.worker, 500), 0);
	}
	TURN_UNTIL(&fixture.worker, (write_some(fixture.peer, &written, 64u << 20),
				     read_some(&reader, fixture.peer)));
	assert_int_equal(reader.error, 0);
	assert_int_equal(reader.wrong, 0);
	assert_int_equal(reader.bytes, sizeof(reply));
	assert_int_equal(fixture.subject.received_calls, 1);
	shutdown(fixture.peer, SHUT_WR);
	fixture_close(&fixture);
}

static void paused_conn_still_hears_the_peers_fin_while_lingering(void **state)
{
	struct fixture fixture;
	size_t written = 0;
	uint64_t before_ms;

	(void)state;
	fixture_open(&fixture);
	write_some(fixture.peer, &written, 8192);
	conn_pause_receive(&fixture.subject.conn);
	for (int i = 0; i < 5; i++)
		assert_int_equal(worker_turn(&fixture.worker, 0), 0);
	assert_int_equal(conn_send(&fixture.subject.conn, SPAN("bye")), 0);
	conn_finish_sending(&fixture.subject.conn);
	before_ms = steady_ms();
	shutdown(fixture.peer, SHUT_WR);
	fixture_close(&fixture);
	assert_true(steady_ms() - before_ms < CONN_LINGER_READ_MS / 2);
}

static void unix_conns_end_alike(void **state)
{
	(void)state;
	for (int how = 0; how < 4; how++) {
		struct fixture fixture = { .fds_before = descriptor_count() };
		struct reader reader = { 0 };
		size_t written = 0, total = 300000;
		int pair[2];

		harness_worker_init(&fixture.worker, how % 2 ? 16 : 0, 64);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		fixture.peer = pair[1];
		harness_set_nonblocking(fixture.peer);
		assert_int_equal(conn_open(&fixture.subject.conn, &fixture.worker,
					   ring_adopt(fixture.worker.ring, pair[0]), &handler,
					   &options),
				 0);
		fixture.subject.to_produce = total;
		conn_wants_flush(&fixture.subject.conn);
		TURN_UNTIL(&fixture.worker, (write_some(fixture.peer, &written, total),
					     read_some(&reader, fixture.peer),
					     reader.bytes == total &&
						     fixture.subject.received_bytes == total));
		assert_int_equal(reader.wrong + fixture.subject.received_wrong, 0);
		if (how / 2) {
			conn_finish_sending(&fixture.subject.conn);
			TURN_UNTIL(&fixture.worker, read_some(&reader, fixture.peer));
			assert_int_equal(reader.error, 0);
			shutdown(fixture.peer, SHUT_WR);
		} else {
			conn_close(&fixture.subject.conn);
		}
		fixture_close(&fixture);
		assert_int_equal(fixture.subject.end, CONN_END_LOCAL);
	}
}

static void lingering_ends_without_the_peers_fin(void **state)
{
	const struct conn_options brief = {
		.queue_bytes_max = 4096, .queue_bytes_room = 4096, .linger_ms = 30};
	struct fixture fixture;

	(void)state;
	fixture_open_with(&fixture, &handler, &brief, 64);
	assert_int_equal(conn_send(&fixture.subject.conn, SPAN("bye")), 0);
	conn_finish_sending(&fixture.subject.conn);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.end, CONN_END_LOCAL);
	assert_int_equal(fixture.subject.error, 0);
}

static void draining_gives_up_at_its_deadline(void **state)
{
	const struct conn_options brief = {
		.queue_bytes_max = 64u << 20, .queue_bytes_room = 64u << 20, .linger_ms = 30};
	struct fixture fixture;

	(void)state;
	fixture_open_with(&fixture, &handler, &brief, 64);
	fixture.subject.to_produce =
		32u << 20; /* more than the kernel takes for a peer that does not read */
	conn_wants_flush(&fixture.subject.conn);
	TURN_UNTIL(&fixture.worker, fixture.subject.produced > 0);
	conn_finish_sending(&fixture.subject.conn);
	fixture_close(&fixture);
	assert_int_equal(fixture.subject.end, CONN_END_TIMEOUT);
	assert_int_equal(fixture.subject.error, -ETIMEDOUT);
}

static void close_while_draining_and_lingering(void **state)
{
	(void)state;
	for (int turns = 0; turns < 6; turns++) {
		struct fixture fixture;

		fixture_open(&fixture);
		assert_int_equal(conn_send(&fixture.subject.conn, SPAN("bye")), 0);
		conn_finish_sending(&fixture.subject.conn);
		for (int i = 0; i < turns; i++)
			assert_int_equal(worker_turn(&fixture.worker, 0), 0);
		conn_close(&fixture.subject.conn);
		fixture_close(&fixture);
		assert_int_equal(fixture.subject.end, CONN_END_LOCAL);
	}
}

static void thousand_conns_leave_nothing_behind(void **state)
{
	struct worker worker;
	int fds_before = descriptor_count();

	(void)state;
	harness_worker_init(&worker, 32, 64);

	int fds_worker = descriptor_count();

	for (int i = 0; i < 1000; i++) {
		struct subject subject = {.worker = &worker, .to_produce = i % 3 == 0 ? 500 : 0};
		int ours, peer;

		harness_tcp_pair(&ours, &peer);
		assert_int_equal(conn_open(&subject.conn, &worker, ring_adopt(worker.ring, ours),
					   &handler, &options),
				 0);
		conn_wants_flush(&subject.conn);
		if (i % 2)
			assert_int_equal(worker_turn(&worker, 0), 0);
		if (i % 5 == 0) {
			close(peer);
			conn_finish_sending(&subject.conn);
		} else {
			conn_close(&subject.conn);
		}
		TURN_UNTIL(&worker, subject.closed_calls == 1);
		if (i % 5)
			close(peer);
	}
	assert_int_equal(worker_ops_in_flight(&worker), 0);
	assert_int_equal(descriptor_count(), fds_worker);
	assert_int_equal(metric_value(&worker.metrics.late_completions), 0);
	harness_worker_finish(&worker);
	assert_int_equal(descriptor_count(), fds_before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conn_receives_what_the_peer_sends),
		cmocka_unit_test(conn_goes_on_where_receives_are_single_shot),
		cmocka_unit_test(conn_that_cannot_open_closes_its_file),
		cmocka_unit_test(conn_sends_headers_and_slices_in_order),
		cmocka_unit_test(conn_moves_megabytes_both_ways_at_once),
		cmocka_unit_test(conn_refuses_over_its_bound_and_takes_nothing),
		cmocka_unit_test(half_close_lets_us_go_on_sending),
		cmocka_unit_test(conn_without_peer_finished_sends_its_queue_and_closes),
		cmocka_unit_test(reset_by_peer_ends_the_conn),
		cmocka_unit_test(reset_during_a_blocked_send_ends_the_conn),
		cmocka_unit_test(close_is_safe_in_every_callback),
		cmocka_unit_test(pause_and_resume_lose_nothing),
		cmocka_unit_test(paused_conn_leaves_bytes_in_the_kernel),
		cmocka_unit_test(starved_receives_lose_nothing),
		cmocka_unit_test(finish_sending_sends_the_queue_then_fin),
		cmocka_unit_test(lingering_close_delivers_the_last_reply_to_a_peer_that_sends_more),
		cmocka_unit_test(paused_conn_still_hears_the_peers_fin_while_lingering),
		cmocka_unit_test(unix_conns_end_alike),
		cmocka_unit_test(lingering_ends_without_the_peers_fin),
		cmocka_unit_test(draining_gives_up_at_its_deadline),
		cmocka_unit_test(close_while_draining_and_lingering),
		cmocka_unit_test(thousand_conns_leave_nothing_behind),
	};

	return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
