#include "unit/uring/rig.h"

#include "uring/worker_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

static struct worker worker;

static int set_up(void **state)
{
	(void)state;
	rig_worker_init(&worker, 0, &rig_ring_options);
	return worker_turn(&worker, 0);
}

static int tear_down(void **state)
{
	(void)state;
	worker_finish(&worker);
	return 0;
}

static void every_outcome_of_the_table(void **state)
{
	(void)state;
	static const struct {
		uint8_t kind;
		int32_t result;
		enum op_outcome outcome;
	} rows[] = {
		{RING_SEND, 0, OP_OK},
		{RING_RECEIVE, 17, OP_OK},
		{RING_ACCEPT, -ECONNABORTED, OP_RETRY},
		{RING_ACCEPT, -ENFILE, OP_LOCAL_LIMIT},
		{RING_ACCEPT, -EMFILE, OP_LOCAL_LIMIT},
		{RING_ACCEPT, -EINVAL, OP_CANCELLED},
		{RING_ACCEPT, -ECANCELED, OP_CANCELLED},
		{RING_RECEIVE, -ENOBUFS, OP_STARVED},
		{RING_RECEIVE, -ECONNRESET, OP_PEER_GONE},
		{RING_RECEIVE, -ETIMEDOUT, OP_PEER_GONE},
		{RING_RECEIVE, -ECANCELED, OP_CANCELLED},
		{RING_RECEIVE, -EBADF, OP_BUG},
		{RING_RECEIVE, -ENOMEM, OP_LOCAL_LIMIT},
		{RING_SEND, -EPIPE, OP_PEER_GONE},
		{RING_SEND, -ECONNRESET, OP_PEER_GONE},
		{RING_SEND, -ENOBUFS, OP_LOCAL_LIMIT},
		{RING_SEND, -EFAULT, OP_BUG},
		{RING_SEND_ZC, -EOPNOTSUPP, OP_UNSUPPORTED},
		{RING_CONNECT, -ECONNREFUSED, OP_PEER_GONE},
		{RING_CONNECT, -ENOENT, OP_PEER_GONE},
		{RING_CONNECT, -EADDRNOTAVAIL, OP_LOCAL_LIMIT},
		{RING_CONNECT, -EISCONN, OP_BUG},
		{RING_SHUTDOWN, -ENOTCONN, OP_GONE},
		{RING_CLOSE, -EINTR, OP_OK},
		{RING_CLOSE, -EBADF, OP_BUG},
		{RING_CANCEL, -ENOENT, OP_GONE},
		{RING_CANCEL, -EALREADY, OP_GONE},
		{RING_POLL, -ECANCELED, OP_CANCELLED},
		{RING_READ, -EAGAIN, OP_RETRY},
		{RING_READ, -EINTR, OP_RETRY},
		{RING_MESSAGE, -EOVERFLOW, OP_RETRY},
		{RING_SEND, -EDOM, OP_UNKNOWN},
		{RING_SEND, -EDOM, OP_UNKNOWN},
		{RING_SEND, -4095, OP_UNKNOWN},
		{255, -EPIPE, OP_UNKNOWN},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(op_classify(rows[i].kind, rows[i].result), rows[i].outcome);
	assert_true(op_outcome_is_fatal(OP_UNKNOWN));
	assert_true(op_outcome_is_fatal(OP_PEER_GONE));
	assert_false(op_outcome_is_fatal(OP_STARVED));
	assert_string_equal(op_outcome_name(OP_LOCAL_LIMIT), "local_limit");
	for (uint8_t kind = 0; kind < RING_OPCODE_COUNT; kind++)
		assert_string_not_equal(op_kind_name(kind), "unknown");
	assert_string_equal(op_kind_name(RING_OPCODE_COUNT), "unknown");
}

static void a_poll_tells_what_is_ready(void **state)
{
	(void)state;
	struct rig_op poll_op;
	int fd = eventfd(0, EFD_CLOEXEC);

	rig_op_init(&poll_op);
	assert_int_equal(op_poll(&worker, &poll_op.op, file_from_fd(fd), POLLIN), 0);
	assert_true(poll_op.op.armed);
	assert_int_equal(worker_ops_in_flight(&worker), 1);
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_false(poll_op.called);
	assert_int_equal(eventfd_write(fd, 1), 0);
	TURN_UNTIL(&worker, poll_op.called);
	assert_int_equal(poll_op.result, POLLIN);
	assert_false(poll_op.op.armed);
	assert_int_equal(worker_ops_in_flight(&worker), 0);
	close(fd);
}

static void a_read_fills_its_buffer(void **state)
{
	(void)state;
	struct rig_op reading;
	int pipes[2];
	char buffer[64] = "";

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	rig_op_init(&reading);
	assert_int_equal(op_read(&worker, &reading.op, file_from_fd(pipes[0]),
				 (struct iovec){buffer, sizeof(buffer)}),
			 0);
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_equal(write(pipes[1], "hello", 5), 5);
	TURN_UNTIL(&worker, reading.called);
	assert_int_equal(reading.result, 5);
	assert_memory_equal(buffer, "hello", 5);
	/* The end of the pipe. */
	reading.called = false;
	close(pipes[1]);
	assert_int_equal(op_read(&worker, &reading.op, file_from_fd(pipes[0]),
				 (struct iovec){buffer, sizeof(buffer)}),
			 0);
	TURN_UNTIL(&worker, reading.called);
	assert_int_equal(reading.result, 0);
	close(pipes[0]);
}

static void a_cancelled_receive_ends_with_its_own_completion(void **state)
{
	(void)state;
	struct rig_op receive, cancel, again;
	int pair[2];

	rig_tcp_pair(pair);
	rig_op_init(&receive);
	rig_op_init(&cancel);
	rig_op_init(&again);
	assert_int_equal(op_receive(&worker, &receive.op, file_from_fd(pair[0])), 0);
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_equal(op_cancel(&worker, &cancel.op, &receive.op), 0);
	TURN_UNTIL(&worker, receive.finished);
	rig_drain(&worker);
	assert_int_equal(receive.result, -ECANCELED);
	assert_int_equal(receive.calls, 1);
	assert_int_equal(cancel.result, 0);
	/* Nothing left to cancel. */
	assert_int_equal(op_cancel(&worker, &again.op, &receive.op), -ENOENT);
	assert_false(again.op.armed);
	close(pair[0]);
	close(pair[1]);
}

/* Data, cancel and close in every order within one submit: each op ends once, nothing is lost. */
static void a_cancel_that_races_the_completion_leaves_both_ended(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		struct rig_op receive, cancel;
		int pair[2];

		rig_tcp_pair(pair);
		rig_op_init(&receive);
		rig_op_init(&cancel);
		assert_int_equal(op_receive(&worker, &receive.op, file_from_fd(pair[0])), 0);
		if (round & 1)
			assert_int_equal(worker_turn(&worker, 0), 0);
		if (round & 2)
			assert_int_equal(write(pair[1], "x", 1), 1);
		assert_int_equal(op_cancel(&worker, &cancel.op, &receive.op), 0);
		if (round & 4)
			assert_int_equal(write(pair[1], "y", 1), 1);
		if (round & 8)
			close(pair[1]);
		rig_drain(&worker);
		assert_true(receive.finished && cancel.finished);
		assert_int_equal(cancel.calls, 1);
		assert_true(cancel.result == 0 || cancel.result == -ENOENT ||
			    cancel.result == -EALREADY);
		/* What the receive did not take is still in the socket. */
		char rest[8];
		ssize_t left = recv(pair[0], rest, sizeof(rest), MSG_DONTWAIT);
		size_t written = (size_t) !!(round & 2) + (size_t) !!(round & 4);

		assert_int_equal(receive.bytes_len + (size_t)(left > 0 ? left : 0), written);
		close(pair[0]);
		if (!(round & 8))
			close(pair[1]);
	}
	assert_int_equal(metric_value(&worker.metrics.late_completions), 0);
}

static void shutdown_and_close_ends_receive_and_peer(void **state)
{
	(void)state;
	for (unsigned direct = 0; direct < 2; direct++) {
		struct rig_op receive, closing;
		int pair[2];
		char byte;

		rig_tcp_pair(pair);
		struct file_ref file =
			direct ? ring_adopt(worker.ring, pair[0]) : file_from_fd(pair[0]);

		assert_int_equal(file.direct, direct);
		rig_op_init(&receive);
		rig_op_init(&closing);
		assert_int_equal(op_receive(&worker, &receive.op, file), 0);
		assert_int_equal(worker_turn(&worker, 0), 0);
		assert_int_equal(op_shutdown_close(&worker, &closing.op, file), 0);
		rig_drain(&worker);
		assert_int_equal(receive.result, 0);
		assert_false(receive.more);
		assert_int_equal(closing.result, 0);
		assert_int_equal(closing.calls, 1);
		assert_int_equal(recv(pair[1], &byte, 1, 0), 0);
		close(pair[1]);
	}
}

static void shutdown_of_an_unconnected_socket_still_closes_it(void **state)
{
	(void)state;
	struct rig_op closing;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	rig_op_init(&closing);
	assert_int_equal(op_shutdown_close(&worker, &closing.op, file_from_fd(fd)), 0);
	rig_drain(&worker);
	assert_int_equal(closing.result, 0);
	assert_int_equal(closing.calls, 1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void shutdown_send_leaves_the_receiving_side_open(void **state)
{
	(void)state;
	struct rig_op receive, shut;
	int pair[2];
	char byte;

	rig_tcp_pair(pair);
	rig_op_init(&receive);
	rig_op_init(&shut);
	assert_int_equal(op_receive(&worker, &receive.op, file_from_fd(pair[0])), 0);
	assert_int_equal(op_shutdown_send(&worker, &shut.op, file_from_fd(pair[0])), 0);
	TURN_UNTIL(&worker, shut.finished);
	assert_int_equal(shut.result, 0);
	assert_int_equal(recv(pair[1], &byte, 1, 0), 0);
	assert_int_equal(write(pair[1], "still", 5), 5);
	close(pair[1]);
	TURN_UNTIL(&worker, receive.finished);
	assert_int_equal(receive.bytes_len, 5);
	assert_memory_equal(receive.bytes, "still", 5);
	close(pair[0]);
}

static void closed_adopted_files_free_their_places(void **state)
{
	(void)state;
	/* An eighth of 256 places; many times over. */
	for (unsigned i = 0; i < 200; i++) {
		struct rig_op closing;
		struct file_ref file = ring_adopt(worker.ring, dup(0));

		assert_true(file.direct);
		rig_op_init(&closing);
		assert_int_equal(op_close(&worker, &closing.op, file), 0);
		rig_drain(&worker);
		assert_int_equal(closing.result, 0);
	}
}

static void a_refused_connect_says_so(void **state)
{
	(void)state;
	struct rig_op connecting, closing;
	struct op_address to = {.len = sizeof(struct sockaddr_in)};
	struct sockaddr_in address;

	close(rig_listen(&address)); /* a port that nobody listens on */
	memcpy(&to.storage, &address, sizeof(address));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	rig_op_init(&connecting);
	assert_int_equal(op_connect(&worker, &connecting.op, file_from_fd(fd), &to), 0);
	rig_drain(&worker);
	assert_int_equal(connecting.result, -ECONNREFUSED);
	assert_int_equal(op_classify(connecting.op.kind, connecting.result), OP_PEER_GONE);
	rig_op_init(&closing);
	assert_int_equal(op_close(&worker, &closing.op, file_from_fd(fd)), 0);
	rig_drain(&worker);
}

static void a_send_to_a_closed_peer_is_no_signal(void **state)
{
	(void)state;
	struct rig_op sending;
	struct iovec iov = {(char[]){"bytes"}, 5};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	int pair[2];

	rig_tcp_pair(pair);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
				    sizeof(struct linger)),
			 0);
	close(pair[1]); /* a reset */
	for (unsigned i = 0; i < 2; i++) {
		rig_op_init(&sending);
		assert_int_equal(op_send(&worker, &sending.op, file_from_fd(pair[0]), &message), 0);
		rig_drain(&worker);
		assert_true(sending.result < 0);
		assert_int_equal(op_classify(RING_SEND, sending.result), OP_PEER_GONE);
	}
	close(pair[0]);
}

static void a_zero_copy_send_keeps_its_op_until_the_notification(void **state)
{
	(void)state;
	struct rig_op sending;
	static uint8_t bytes[32768];
	struct iovec iov = {bytes, sizeof(bytes)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	static uint8_t got[sizeof(bytes)];
	int pair[2];

	rig_tcp_pair(pair);
	rig_op_init(&sending);
	int code = op_send_zc(&worker, &sending.op, file_from_fd(pair[0]), &message);

	if (code == -EOPNOTSUPP) {
		assert_false(sending.op.armed);
		close(pair[0]);
		close(pair[1]);
		print_message("skip: no IORING_OP_SENDMSG_ZC in this kernel\n");
		skip();
	}
	assert_int_equal(code, 0);
	TURN_UNTIL(&worker, sending.called);
	assert_int_equal(recv(pair[1], got, sizeof(got), MSG_WAITALL), sizeof(got));
	TURN_UNTIL(&worker, sending.finished);
	assert_int_equal(sending.calls, 2);
	assert_false(sending.op.armed);
	close(pair[0]);
	close(pair[1]);
}

static unsigned rearmed;
static int rearmed_fd;

static void rearm_done(struct op *op, const struct completion *completion)
{
	assert_int_equal(completion->result, POLLIN);
	assert_false(op->armed);
	if (++rearmed < 100)
		assert_int_equal(op_poll(&worker, op, file_from_fd(rearmed_fd), POLLIN), 0);
}

static void an_op_may_be_armed_again_by_its_own_completion(void **state)
{
	(void)state;
	struct op op = {.done = rearm_done};

	rearmed = 0;
	rearmed_fd = eventfd(1, EFD_CLOEXEC);
	assert_int_equal(op_poll(&worker, &op, file_from_fd(rearmed_fd), POLLIN), 0);
	rig_drain(&worker);
	assert_int_equal(rearmed, 100);
	close(rearmed_fd);
}

static void a_late_receive_gives_its_buffer_back(void **state)
{
	(void)state;
	uint64_t late = metric_value(&worker.metrics.late_completions);
	struct ring_completion completion = {
		.user_data = user_data_make(RING_RECEIVE, 0xfffffe, 0),
		.result = 10,
		.buffer_id = -1,
	};
	int pair[2];

	/* Take a buffer for real, and let its completion come late. */
	rig_tcp_pair(pair);
	assert_int_equal(write(pair[1], "0123456789", 10), 10);
	assert_int_equal(ring_queue(worker.ring,
				    &(struct ring_submission){.opcode = RING_RECEIVE,
							      .file = file_from_fd(pair[0]),
							      .user_data = completion.user_data}),
			 0);
	close(pair[1]);
	uint64_t end_us = worker_clock_system.monotonic_us(NULL) + 10000000;

	while (metric_value(&worker.metrics.late_completions) < late + 2) {
		assert_int_equal(worker_turn(&worker, 10000), 0);
		assert_true(worker_clock_system.monotonic_us(NULL) < end_us);
	}
	close(pair[0]);
	/*
	 * All 64 buffers are there: as many receives of one byte each find one before any goes back.
	 * (Starvation tells nothing here: kernel 6.1 then looks for a 65th, for more to receive.)
	 */
	struct rig_op *receives = calloc(64, sizeof(*receives));
	int pairs[64][2];

	assert_non_null(receives);
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]), 0);
		assert_int_equal(write(pairs[i][1], "x", 1), 1);
		rig_op_init(&receives[i]);
		assert_int_equal(op_receive(&worker, &receives[i].op, file_from_fd(pairs[i][0])),
				 0);
	}
	assert_int_equal(ring_enter(worker.ring, 0), 0);
	assert_int_equal(worker_turn(&worker, 0), 0);
	for (unsigned i = 0; i < 64; i++) {
		assert_true(receives[i].called);
		assert_int_equal(receives[i].bytes_len, 1);
		close(pairs[i][1]);
		TURN_UNTIL(&worker, receives[i].finished);
		close(pairs[i][0]);
	}
	free(receives);
}

static void a_late_accept_closes_the_file_it_brought(void **state)
{
	(void)state;
	struct sockaddr_in address;
	int listener = rig_listen(&address);
	uint64_t late = metric_value(&worker.metrics.late_completions);
	char byte;

	assert_int_equal(ring_queue(worker.ring,
				    &(struct ring_submission){
					    .opcode = RING_ACCEPT,
					    .file = file_from_fd(listener),
					    .user_data = user_data_make(RING_ACCEPT, 0xfffffe, 0),
				    }),
			 0);
	int client = rig_connect(&address);

	while (metric_value(&worker.metrics.late_completions) == late)
		assert_int_equal(worker_turn(&worker, 100000), 0);
	/* The connection ends, because the late file was closed. */
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_equal(recv(client, &byte, 1, 0), 0);
	close(client);
	close(listener);
}

static void a_full_table_of_operations_refuses(void **state)
{
	(void)state;
	struct rig_op refused;
	struct slots saved = worker.slots;
	int fd = eventfd(0, EFD_CLOEXEC);

	/* As at WORKER_OPS_MAX: no free slot and no growth. */
	worker.slots.count = WORKER_OPS_MAX;
	worker.slots.free_head = USER_DATA_NO_SLOT;
	rig_op_init(&refused);
	assert_int_equal(op_poll(&worker, &refused.op, file_from_fd(fd), POLLIN), -ENOBUFS);
	assert_int_equal(op_shutdown_close(&worker, &refused.op, file_from_fd(fd)), -ENOBUFS);
	assert_false(refused.op.armed);
	worker.slots = saved;
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_not_equal(fcntl(fd, F_GETFD), -1); /* no half of the pair went out */
	assert_false(refused.called);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_outcome_of_the_table),
		cmocka_unit_test(a_poll_tells_what_is_ready),
		cmocka_unit_test(a_read_fills_its_buffer),
		cmocka_unit_test(a_cancelled_receive_ends_with_its_own_completion),
		cmocka_unit_test(a_cancel_that_races_the_completion_leaves_both_ended),
		cmocka_unit_test(shutdown_and_close_ends_receive_and_peer),
		cmocka_unit_test(shutdown_of_an_unconnected_socket_still_closes_it),
		cmocka_unit_test(shutdown_send_leaves_the_receiving_side_open),
		cmocka_unit_test(closed_adopted_files_free_their_places),
		cmocka_unit_test(a_refused_connect_says_so),
		cmocka_unit_test(a_send_to_a_closed_peer_is_no_signal),
		cmocka_unit_test(a_zero_copy_send_keeps_its_op_until_the_notification),
		cmocka_unit_test(an_op_may_be_armed_again_by_its_own_completion),
		cmocka_unit_test(a_late_receive_gives_its_buffer_back),
		cmocka_unit_test(a_late_accept_closes_the_file_it_brought),
		cmocka_unit_test(a_full_table_of_operations_refuses),
	};
	return cmocka_run_group_tests_name("op", tests, set_up, tear_down);
}
