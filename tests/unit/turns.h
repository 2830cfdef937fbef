/* turns: a worker that a test turns until something holds, and what it may not leave behind. */
#ifndef TESTS_UNIT_TURNS_H
#define TESTS_UNIT_TURNS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "uring/worker.h"

#include <dirent.h>

static inline uint64_t steady_ms(void)
{
	return worker_clock_system.monotonic_us(NULL) / 1000;
}

/* The system's time, put forward by the test. */
static uint64_t ahead_us;

static inline uint64_t ahead_monotonic_us(void *context)
{
	return worker_clock_system.monotonic_us(context) + ahead_us;
}

/* Fails the test after twenty seconds. */
#define TURN_UNTIL(worker, condition) TURN_UNTIL_WAITING((worker), 2000, condition)

/* For what is no part of the ring and has to be looked after more often than each two ms. */
#define TURN_UNTIL_WAITING(worker, wait_us, condition)                                             \
	do {                                                                                       \
		uint64_t give_up_ms_ = steady_ms() + 20000;                                        \
		while (!(condition)) {                                                             \
			if (steady_ms() > give_up_ms_)                                             \
				fail_msg("never came true: %s", #condition);                       \
			assert_int_equal(worker_turn((worker), (wait_us)), 0);                     \
		}                                                                                  \
	} while (0)

/* Of this process, the one for counting them included. */
static inline int descriptor_count(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

#endif
