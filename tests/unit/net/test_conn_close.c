/* What the peer of a closed connection sees. */
#include "unit/net/harness.h"

#include "net/conn.h"
#include "net/socket.h"

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

static void open_conn(struct subject *subject, struct worker *worker, int *peer)
{
	int ours;

	*subject = (struct subject){.closed = false};
	harness_tcp_pair(&ours, peer);
	assert_int_equal(conn_open(&subject->conn, worker, ring_adopt(worker->ring, ours), &handler,
				   &options),
			 0);
}

static void close_conn(struct subject *subject, struct worker *worker)
{
	conn_close(&subject->conn);
	TURN_UNTIL(worker, subject->closed);
}

/*
 * The other connection's receive is armed all the while: before kernel 6.13 a direct file that is
 * only closed would live on until that ends.
 */
static void peer_sees_the_end_when_the_close_is_done(void **state)
{
	const struct {
		bool peer_ended;
		uint32_t file_slots;
		bool old_kernel;
	} rows[] = {{false, 0, false},
		    {true, 0, false},
		    {false, 64, false},
		    {true, 64, false},
		    {true, 64, true}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int fds = descriptor_count(), peer, other_peer;
		struct worker worker;
		struct subject subject, other;
		uint8_t byte;

		harness_worker_init(&worker, rows[i].file_slots, 64);
		struct ring_features *features =
			(struct ring_features *)(uintptr_t)ring_get_features(worker.ring);

		if (rows[i].old_kernel)
			features->prompt_close = false;
		open_conn(&other, &worker, &other_peer);
		open_conn(&subject, &worker, &peer);
		TURN_UNTIL(&worker, worker_ops_in_flight(&worker) == 2);
		if (rows[i].peer_ended) {
			shutdown(peer, SHUT_WR);
			TURN_UNTIL(&worker, subject.peer_finished);
		}
		uint64_t before = ring_get_counts(worker.ring).submissions;

		close_conn(&subject, &worker);
		/* The shutdown's submission and the close's; or the close's alone. */
		assert_int_equal(
			ring_get_counts(worker.ring).submissions - before,
			rows[i].peer_ended && (!rows[i].file_slots || features->prompt_close) ? 1
											      : 2);
		assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), 0);
		close_conn(&other, &worker);
		close(peer);
		close(other_peer);
		worker_finish(&worker);
		assert_int_equal(descriptor_count(), fds);
	}
}

/* The same of one that no connection was made for. */
static void peer_sees_the_end_of_what_is_discarded(void **state)
{
	(void)state;
	for (uint32_t file_slots = 0; file_slots <= 64; file_slots += 64) {
		int fds = descriptor_count(), ours, peer, other_peer;
		struct worker worker;
		struct subject other;
		uint8_t byte;

		harness_worker_init(&worker, file_slots, 64);
		open_conn(&other, &worker, &other_peer);
		TURN_UNTIL(&worker, worker_ops_in_flight(&worker) == 1);
		harness_tcp_pair(&ours, &peer);
		socket_discard(&worker, ring_adopt(worker.ring, ours));
		TURN_UNTIL(&worker, recv(peer, &byte, 1, MSG_DONTWAIT) == 0);
		close_conn(&other, &worker);
		close(peer);
		close(other_peer);
		worker_finish(&worker);
		assert_int_equal(descriptor_count(), fds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peer_sees_the_end_when_the_close_is_done),
		cmocka_unit_test(peer_sees_the_end_of_what_is_discarded),
	};

	return cmocka_run_group_tests_name("conn_close", tests, NULL, NULL);
}
