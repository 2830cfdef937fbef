/* rig: a worker and sockets for the tests of this folder. */
#ifndef TESTS_UNIT_URING_RIG_H
#define TESTS_UNIT_URING_RIG_H

#include "unit/turns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct ring_options rig_ring_options = {
	.sq_entries = 256,
	.cq_entries = 4096,
	.file_slots = 256,
	.buffer_count = 64,
	.buffer_bytes = 2048,
};

static inline void rig_worker_init(struct worker *worker, uint32_t index,
				   const struct ring_options *ring)
{
	static const char *const names[] = {"rig-0", "rig-1", "rig-2", "rig-3"};
	const struct worker_options options = {
		.name = names[index % 4],
		.index = index,
		.ring = *ring,
		.clock = worker_clock_system,
	};
	char why[256] = "";
	int code = worker_init(worker, &options, why, sizeof(why));

	if (code < 0)
		print_error("worker_init: %s\n", why);
	assert_int_equal(code, 0);
}

/* Turns until nothing is in flight. */
static inline void rig_drain(struct worker *worker)
{
	TURN_UNTIL(worker, worker_ops_in_flight(worker) == 0);
}

/* Listens on a free port of 127.0.0.1. */
static inline int rig_listen(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*address);

	assert_true(fd >= 0);
	*address = (struct sockaddr_in){.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
	assert_int_equal(listen(fd, 512), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
	return fd;
}

static inline int rig_connect(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
	return fd;
}

/* A connected pair of TCP sockets. */
static inline void rig_tcp_pair(int pair[2])
{
	struct sockaddr_in address;
	int listener = rig_listen(&address);

	pair[0] = rig_connect(&address);
	pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(pair[1] >= 0);
	close(listener);
}

/* An op that remembers what it was told. */
struct rig_op {
	struct op op;
	bool called, finished; /* finished: told without more */
	unsigned calls;
	int32_t result; /* of the last call */
	bool more;
	uint8_t bytes[1 << 16];
	size_t bytes_len;
};

static inline void rig_op_done(struct op *op, const struct completion *completion)
{
	struct rig_op *rig = CONTAINER_OF(op, struct rig_op, op);

	rig->called = true;
	rig->calls++;
	rig->result = completion->result;
	rig->more = completion->more;
	rig->finished = !completion->more;
	if (completion->bytes.len > 0) {
		assert_true(rig->bytes_len + completion->bytes.len <= sizeof(rig->bytes));
		memcpy(rig->bytes + rig->bytes_len, completion->bytes.data, completion->bytes.len);
		rig->bytes_len += completion->bytes.len;
	}
}

static inline void rig_op_init(struct rig_op *rig)
{
	memset(rig, 0, sizeof(*rig));
	op_init(&rig->op);
	rig->op.done = rig_op_done;
}

#endif
