/* harness: a worker that a test turns by hand, and plain sockets as its peers. */
#ifndef UNIT_NET_HARNESS_H
#define UNIT_NET_HARNESS_H

#include "unit/turns.h"

#include "base/check.h"
#include "net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((unused)) static void harness_worker_init(struct worker *worker, uint32_t file_slots,
							uint32_t buffer_count)
{
	const struct worker_options options = {
		.name = "test",
		.ring = {.sq_entries = 256,
			 .cq_entries = 16384,
			 .file_slots = file_slots,
			 .buffer_count = buffer_count,
			 .buffer_bytes = 4096},
		.clock = worker_clock_system,
	};
	char why[256] = "";
	int code = worker_init(worker, &options, why, sizeof(why));

	if (code)
		fail_msg("worker_init: %d %s", code, why);
	assert_int_equal(worker_turn(worker, 0), 0);
}

/* Nothing may be left in flight. */
__attribute__((unused)) static void harness_worker_finish(struct worker *worker)
{
	TURN_UNTIL(worker, worker_ops_in_flight(worker) == 0);
	worker_finish(worker);
}

__attribute__((unused)) static void harness_set_nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

__attribute__((unused)) static void harness_set_int(int fd, int level, int option, int value)
{
	assert_int_equal(setsockopt(fd, level, option, &value, sizeof(value)), 0);
}

__attribute__((unused)) static int harness_get_int(int fd, int level, int option)
{
	int value;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, option, &value, &len), 0);
	return value;
}

/* A listening socket on 127.0.0.1; its port. */
__attribute__((unused)) static int harness_listen(uint16_t *port, int backlog)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

/* Two ends of one TCP connection: ours blocking (for the ring), the peer's not. */
__attribute__((unused)) static void harness_tcp_pair(int *ours, int *peer)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint16_t port;
	int listener = harness_listen(&port, 1);

	address.sin_port = htons(port);
	*peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(*peer, (struct sockaddr *)&address, sizeof(address)), 0);
	*ours = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(*ours >= 0);
	close(listener);
	harness_set_nonblocking(*peer);
}

/* As where the kernel was started without IPv6. For a child process: there is no way
 * back. Returns whether it could be made so. */
__attribute__((unused)) static bool harness_forbid_v6(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_LEN(filter), filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#endif
