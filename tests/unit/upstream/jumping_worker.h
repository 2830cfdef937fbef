/* jumping_worker: a worker on a real ring whose clock the test can put forward. */
#ifndef UNIT_UPSTREAM_JUMPING_WORKER_H
#define UNIT_UPSTREAM_JUMPING_WORKER_H

#include "unit/net/harness.h"

__attribute__((unused)) static int64_t wall_ms(void *context)
{
	return (int64_t)(ahead_monotonic_us(context) / 1000);
}

__attribute__((unused)) static struct worker *worker_make(void)
{
	struct worker *worker = aligned_alloc(64, (sizeof(*worker) + 63) / 64 * 64);
	const struct worker_options options = {
		.name = "test",
		.ring = {.sq_entries = 256,
			 .cq_entries = 16384,
			 .file_slots = 256,
			 .buffer_count = 64,
			 .buffer_bytes = 4096},
		.clock = {ahead_monotonic_us, wall_ms, NULL},
	};
	char why[256] = "";

	assert_non_null(worker);
	memset(worker, 0, sizeof(*worker));
	if (worker_init(worker, &options, why, sizeof(why)) != 0)
		fail_msg("worker_init: %s", why);
	assert_int_equal(worker_turn(worker, 0), 0);
	return worker;
}

#endif
