/* What a close asks of the ring. */
#include "unit/net/harness.h"

#include "net/conn.h"

struct subject {
	struct conn conn;
	bool peer_finished, closed;
};

static void on_received(struct conn *conn, struct span bytes)
{
	(void)conn, (void)bytes;
}

static void on_peer_finished(struct conn *conn)
{
	CONTAINER_OF(conn, struct subject, conn)->peer_finished = true;
}

static void on_closed(struct conn *conn, enum conn_end end, int error)
{
	(void)end, (void)error;
	CONTAINER_OF(conn, struct subject, conn)->closed = true;
}

static const struct conn_handler handler = {
	.received = on_received,
	.peer_finished = on_peer_finished,
	.closed = on_closed,
};

static const struct conn_options options = {.queue_bytes_max = 4096, .queue_bytes_room = 4096};

/* Returns how many entries the close has submitted. */
static uint64_t submissions_of_close(bool peer_ended, uint32_t file_slots)
{
	struct worker worker;
	struct subject subject = {.closed = false};
	int ours, peer;
	uint8_t byte;

	harness_worker_init(&worker, file_slots, 64);
	harness_tcp_pair(&ours, &peer);
	assert_int_equal(conn_open(&subject.conn, &worker, ring_adopt(worker.ring, ours), &handler,
				   &options),
			 0);
	TURN_UNTIL(&worker, worker_ops_in_flight(&worker) == 1);
	if (peer_ended) {
		shutdown(peer, SHUT_WR);
		TURN_UNTIL(&worker, subject.peer_finished);
	}

	uint64_t before = ring_get_counts(worker.ring).submissions;

	conn_close(&subject.conn);
	TURN_UNTIL(&worker, subject.closed);

	uint64_t count = ring_get_counts(worker.ring).submissions - before;

	assert_int_equal(recv(peer, &byte, 1, 0), 0); /* the end, no reset */
	close(peer);
	worker_finish(&worker);
	return count;
}

/* A shutdown costs a thread of the kernel's: only what is armed needs it. */
static void close_after_the_peers_end_is_one_submission(void **state)
{
	(void)state;
	for (uint32_t file_slots = 0; file_slots <= 64; file_slots += 64) {
		int fds = harness_fd_count();

		assert_int_equal(submissions_of_close(false, file_slots), 2);
		assert_int_equal(submissions_of_close(true, file_slots), 1);
		assert_int_equal(harness_fd_count(), fds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(close_after_the_peers_end_is_one_submission),
	};

	return cmocka_run_group_tests_name("conn_close", tests, NULL, NULL);
}
