#include "unit/uring/rig.h"

#include "uring/ring_internal.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct ring *ring_open(const struct ring_options *options)
{
	struct ring *ring = NULL;
	char why[256] = "";
	int code = ring_create(&ring, options, why, sizeof(why));

	if (code < 0)
		print_error("ring_create: %s\n", why);
	assert_int_equal(code, 0);
	assert_int_equal(ring_enable(ring), 0);
	return ring;
}

/* Enters until one completion is there; fails after ten seconds without one. */
static struct ring_completion ring_next(struct ring *ring)
{
	struct ring_completion completion;

	for (int i = 0; i < 100; i++) {
		if (ring_reap(ring, &completion, 1) == 1)
			return completion;
		assert_int_equal(ring_enter(ring, 100000), 0);
	}
	fail_msg("no completion");
	return completion;
}

static struct ring_completion ring_do(struct ring *ring, struct ring_submission submission)
{
	submission.user_data = 77;
	assert_int_equal(ring_queue(ring, &submission), 0);
	struct ring_completion completion = ring_next(ring);

	assert_int_equal(completion.user_data, 77);
	return completion;
}

static int32_t ring_close_file(struct ring *ring, struct file_ref file)
{
	int32_t result =
		ring_do(ring, (struct ring_submission){.opcode = RING_CLOSE, .file = file}).result;

	if (file.direct && result == 0)
		ring_file_closed(ring, file.index);
	return result;
}

static void this_kernel_has_what_the_design_asks_for(void **state)
{
	(void)state;
	struct ring_features features = {0};
	char why[256], text[512];
	int before = descriptor_count();

	assert_int_equal(ring_probe(&features, why, sizeof(why)), 0);
	assert_int_equal(descriptor_count(), before);
	size_t len = ring_features_describe(&features, text, sizeof(text));

	assert_int_equal(len, strlen(text));
	print_message("%s\n", text);
	assert_true(features.direct_files && features.buffer_ring && features.msg_ring);
	assert_true(features.single_issuer && features.multishot_receive);
	/* Cut, never over. */
	for (size_t size = 1; size < 64; size++) {
		memset(text, 'x', sizeof(text));
		assert_int_equal(ring_features_describe(&features, text, size), size - 1);
		assert_int_equal(text[size - 1], '\0');
		assert_int_equal(text[size], 'x');
	}
}

static void a_wait_ends_with_its_timeout(void **state)
{
	(void)state;
	struct ring *ring = ring_open(&rig_ring_options);
	uint64_t from_us = worker_clock_system.monotonic_us(NULL);
	struct ring_completion completion;

	assert_int_equal(ring_enter(ring, 20000), 0);
	assert_true(worker_clock_system.monotonic_us(NULL) - from_us >= 20000);
	assert_int_equal(ring_enter(ring, 0), 0);
	assert_int_equal(ring_reap(ring, &completion, 1), 0);
	ring_destroy(ring);
}

static void a_multishot_receive_says_more_until_the_end(void **state)
{
	(void)state;
	struct ring *ring = ring_open(&rig_ring_options);
	int pair[2];

	rig_tcp_pair(pair);
	assert_int_equal(write(pair[1], "one", 3), 3);
	struct ring_completion completion =
		ring_do(ring, (struct ring_submission){.opcode = RING_RECEIVE,
						       .file = file_from_fd(pair[0])});

	assert_int_equal(completion.result, 3);
	assert_true(completion.more);
	assert_true(completion.buffer_id >= 0);
	assert_memory_equal(ring_buffer(ring, (uint16_t)completion.buffer_id, 3).data, "one", 3);
	ring_buffer_return(ring, (uint16_t)completion.buffer_id);
	assert_int_equal(write(pair[1], "two", 3), 3);
	completion = ring_next(ring);
	assert_int_equal(completion.result, 3);
	assert_true(completion.more);
	ring_buffer_return(ring, (uint16_t)completion.buffer_id);
	close(pair[1]);
	completion = ring_next(ring);
	assert_int_equal(completion.result, 0);
	assert_false(completion.more);
	close(pair[0]);
	ring_destroy(ring);
}

static void a_receive_without_a_buffer_ring_is_refused(void **state)
{
	(void)state;
	struct ring_options options = rig_ring_options;

	options.buffer_count = 0;
	struct ring *ring = ring_open(&options);

	assert_false(ring_get_features(ring)->multishot_receive);
	assert_int_equal(ring_queue(ring, &(struct ring_submission){.opcode = RING_RECEIVE,
								    .file = file_from_fd(0)}),
			 -EOPNOTSUPP);
	ring_destroy(ring);
}

static void a_zero_copy_send_gives_its_result_and_then_a_notification(void **state)
{
	(void)state;
	struct ring *ring = ring_open(&rig_ring_options);
	int pair[2];
	char text[4096] = "zero", got[4096];
	struct iovec iov = {text, sizeof(text)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (!ring_get_features(ring)->sendmsg_zc) {
		ring_destroy(ring);
		print_message("skip: no IORING_OP_SENDMSG_ZC in this kernel\n");
		skip();
	}
	rig_tcp_pair(pair);
	struct ring_completion completion =
		ring_do(ring, (struct ring_submission){.opcode = RING_SEND_ZC,
						       .file = file_from_fd(pair[0]),
						       .message = &message});

	assert_int_equal(completion.result, sizeof(text));
	assert_true(completion.more);
	assert_false(completion.notification);
	assert_int_equal(recv(pair[1], got, sizeof(got), MSG_WAITALL), sizeof(got));
	completion = ring_next(ring);
	assert_true(completion.notification);
	assert_false(completion.more);
	/* Loopback copies always (IOURING.md), and a kernel that can tell says so. */
	assert_int_equal(completion.zc_copied, ring_get_features(ring)->send_zc_report);
	close(pair[0]);
	close(pair[1]);
	ring_destroy(ring);
}

static void a_quiet_submission_speaks_only_of_failure(void **state)
{
	(void)state;
	struct ring *ring = ring_open(&rig_ring_options);
	struct ring_submission closing = {.opcode = RING_CLOSE, .quiet = true, .user_data = 5};
	int fd = dup(0);
	struct ring_completion completion;

	closing.file = file_from_fd(fd);
	assert_int_equal(ring_queue(ring, &closing), 0);
	assert_int_equal(ring_enter(ring, 10000), 0);
	assert_int_equal(ring_reap(ring, &completion, 1), 0);
	assert_int_equal(ring_queue(ring, &closing), 0);
	completion = ring_next(ring);
	assert_int_equal(completion.user_data, 5);
	assert_int_equal(completion.result, -EBADF);
	ring_destroy(ring);
}

static void a_link_is_not_cut_by_a_full_queue(void **state)
{
	(void)state;
	struct ring_options options = rig_ring_options;

	options.sq_entries = 4;
	struct ring *ring = ring_open(&options);

	/* One place is left when the pair comes: it must go out whole. */
	for (unsigned before = 0; before <= 4; before++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct ring_completion completion;

		for (unsigned i = 0; i < before; i++)
			assert_int_equal(
				ring_queue(ring, &(struct ring_submission){.opcode = RING_CANCEL,
									   .file = FILE_NONE,
									   .target_user_data = 99,
									   .user_data = 1}),
				0);
		/* Fails with ENOTCONN: the close comes all the same. */
		assert_int_equal(
			ring_queue(ring, &(struct ring_submission){.opcode = RING_SHUTDOWN,
								   .file = file_from_fd(fd),
								   .how = SHUT_RDWR,
								   .link = true,
								   .quiet = true,
								   .user_data = 2}),
			0);
		assert_int_equal(
			ring_queue(ring, &(struct ring_submission){.opcode = RING_CLOSE,
								   .file = file_from_fd(fd),
								   .user_data = 3}),
			0);

		/* Newer kernels keep quiet about a shutdown that failed, too. */
		do {
			completion = ring_next(ring);
			if (completion.user_data == 2)
				assert_int_equal(completion.result, -ENOTCONN);
		} while (completion.user_data != 3);
		assert_int_equal(completion.result, 0);
		assert_int_equal(fcntl(fd, F_GETFD), -1);
	}
	ring_destroy(ring);
}

static void adopted_files_have_their_own_places_and_give_them_back(void **state)
{
	(void)state;
	int before = descriptor_count();
	struct ring_options options = rig_ring_options;

	options.file_slots = 32; /* 4 for adopted ones */
	struct ring *ring = ring_open(&options);
	struct file_ref files[4];

	for (unsigned round = 0; round < 3; round++) {
		bool seen[32] = {false};

		for (unsigned i = 0; i < 4; i++) {
			files[i] = ring_adopt(ring, dup(0));
			assert_true(files[i].direct);
			assert_in_range(files[i].index, 28, 31);
			assert_false(seen[files[i].index]);
			seen[files[i].index] = true;
		}
		int fd = dup(0);
		struct file_ref plain = ring_adopt(ring, fd);

		assert_false(plain.direct);
		assert_int_equal(plain.index, fd);
		assert_int_equal(ring_close_file(ring, plain), 0);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(ring_close_file(ring, files[(i + round) % 4]), 0);
	}
	ring_destroy(ring);
	assert_int_equal(descriptor_count(), before);
}

static void without_a_table_adopted_files_stay_descriptors(void **state)
{
	(void)state;
	struct ring_options options = rig_ring_options;

	options.file_slots = 0;
	struct ring *ring = ring_open(&options);
	int fd = dup(0);
	struct file_ref file = ring_adopt(ring, fd);

	assert_false(file.direct);
	assert_int_equal(file.index, fd);
	assert_int_equal(ring_close_file(ring, file), 0);
	ring_destroy(ring);
}

static void a_full_file_table_refuses_accepts_and_recovers(void **state)
{
	(void)state;
	struct ring_options options = rig_ring_options;
	struct sockaddr_in address;
	int clients[9];

	options.file_slots = 8; /* 7 for accepted ones */
	struct ring *ring = ring_open(&options);
	struct file_ref listener = ring_adopt(ring, rig_listen(&address));
	struct ring_submission accepting = {.opcode = RING_ACCEPT, .file = listener};
	int32_t indexes[7];

	assert_true(listener.direct);
	for (unsigned i = 0; i < 7; i++) {
		clients[i] = rig_connect(&address);
		struct ring_completion completion = ring_do(ring, accepting);

		assert_in_range(completion.result, 0, 6);
		indexes[i] = completion.result;
	}
	clients[7] = rig_connect(&address);
	assert_int_equal(ring_do(ring, accepting).result, -ENFILE);
	/* The connection that found no place is gone; the next one finds the place that was freed.
	 */
	assert_int_equal(ring_close_file(ring, (struct file_ref){indexes[3], true}), 0);
	clients[8] = rig_connect(&address);
	assert_int_equal(ring_do(ring, accepting).result, indexes[3]);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(ring_close_file(ring, (struct file_ref){indexes[i], true}), 0);
	assert_int_equal(ring_close_file(ring, listener), 0);
	for (unsigned i = 0; i < 9; i++)
		close(clients[i]);
	ring_destroy(ring);
}

static void the_file_table_is_cut_to_the_soft_limit(void **state)
{
	(void)state;
	struct rlimit limit, low;
	struct ring_options options = rig_ring_options;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	options.file_slots = 1u << 20;
	struct ring *ring = ring_open(&options);
	struct file_ref file = ring_adopt(ring, dup(0));
	struct rlimit after;

	assert_true(file.direct);
	assert_in_range(file.index, 56, 63);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
	assert_int_equal(after.rlim_cur, 64); /* nobody raised it in secret */
	assert_int_equal(ring_close_file(ring, file), 0);
	ring_destroy(ring);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void a_ring_entered_by_one_thread_may_be_destroyed_by_another(void **state)
{
	(void)state;
	/* Two registered rings of one thread: leaving the one must not touch the other. */
	struct ring *stays = ring_open(&rig_ring_options);
	struct ring *leaves = ring_open(&rig_ring_options);

	ring_leave(leaves);
	assert_int_equal(ring_enter(leaves, 0), 0);
	ring_destroy(leaves);
	assert_int_equal(ring_enter(stays, 0), 0);
	ring_destroy(stays);
}

static void an_operation_not_in_the_list_is_refused(void **state)
{
	(void)state;
	struct ring *ring = ring_open(&rig_ring_options);

	if (!ring_get_features(ring)->restricted) {
		ring_destroy(ring);
		print_message("skip: no ring restrictions in this kernel\n");
		skip();
	}
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	io_uring_prep_nop(sqe);
	assert_int_equal(ring_next(ring).result, -EACCES);
	ring_destroy(ring);
}

/* In a child, as a container's seccomp profile would: io_uring_setup gives `code`. */
static int probe_under_seccomp(int code, char *why, size_t size)
{
	int pipes[2], status;

	assert_int_equal(pipe(pipes), 0);
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct sock_filter filter[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)code),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = {ARRAY_LEN(filter), filter};
		struct ring_features features;
		char text[512] = "";

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
			_exit(255);
		int result = ring_probe(&features, text, sizeof(text));

		if (write(pipes[1], text, strlen(text)) < 0)
			_exit(255);
		_exit(-result);
	}
	close(pipes[1]);
	ssize_t got = read(pipes[0], why, size - 1);

	why[got > 0 ? got : 0] = '\0';
	close(pipes[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void a_refused_ring_says_cause_and_remedy(void **state)
{
	(void)state;
	static const struct {
		int code;
		const char *word;
	} rows[] = {
		{EPERM, "seccomp"},
		{ENOSYS, "6.1"},
		{ENOMEM, "RLIMIT_MEMLOCK"},
		{EMFILE, "RLIMIT_NOFILE"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char why[512];
		int code = probe_under_seccomp(rows[i].code, why, sizeof(why));

		if (code == -255) {
			print_message("skip: seccomp is not available here\n");
			skip();
		}
		assert_int_equal(code, -rows[i].code);
		assert_non_null(strstr(why, rows[i].word));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(this_kernel_has_what_the_design_asks_for),
		cmocka_unit_test(a_wait_ends_with_its_timeout),
		cmocka_unit_test(a_multishot_receive_says_more_until_the_end),
		cmocka_unit_test(a_receive_without_a_buffer_ring_is_refused),
		cmocka_unit_test(a_zero_copy_send_gives_its_result_and_then_a_notification),
		cmocka_unit_test(a_quiet_submission_speaks_only_of_failure),
		cmocka_unit_test(a_link_is_not_cut_by_a_full_queue),
		cmocka_unit_test(adopted_files_have_their_own_places_and_give_them_back),
		cmocka_unit_test(without_a_table_adopted_files_stay_descriptors),
		cmocka_unit_test(a_full_file_table_refuses_accepts_and_recovers),
		cmocka_unit_test(the_file_table_is_cut_to_the_soft_limit),
		cmocka_unit_test(a_ring_entered_by_one_thread_may_be_destroyed_by_another),
		cmocka_unit_test(an_operation_not_in_the_list_is_refused),
		cmocka_unit_test(a_refused_ring_says_cause_and_remedy),
	};
	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
