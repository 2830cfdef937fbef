/*
 * check: broken invariants abort, peers' faults are counted. Any thread.
 *
 * No allocation aborts, at start-up or later: a CHECK is never about memory. At start-up what has
 * none ends the program with a sentence and exit code 1 (2 where the configuration is read); later
 * the one request, stream or connection that it was for ends with its status, and what everybody
 * needs (a link to Redis or to a service) is made anew. A session event without memory makes the
 * workers forget all sessions, by a letter allocated at the start (gateway/bus_sessions.c).
 * tests/net/test_memory_faults.py refuses each allocation in turn.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stddef.h>

/* Prints "file:line: check failed: text" to standard error and aborts. Never returns. */
_Noreturn void check_failed(const char *file, int line, const char *text);

/* Our own invariant: on in every build, because a wrong answer is worse than a restart. */
#define CHECK(condition)                                                  \
	do {                                                              \
		if (__builtin_expect(!(condition), 0))                    \
			check_failed(__FILE__, __LINE__, #condition);     \
	} while (0)

/* A place that the code before it rules out; `why` says how. */
#define UNREACHABLE(why) check_failed(__FILE__, __LINE__, "unreachable: " why)

/*
 * A peer's misbehaviour: counts it and yields the condition, so that
 * `if (COUNT_IF(size > max, &glitches))` reads as one sentence. Needs base/metric.h.
 */
#define COUNT_IF(condition, counter) \
	(__builtin_expect(!!(condition), 0) ? (metric_add((counter), 1), true) : false)

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* The struct `type` whose field `member` is at `pointer`. */
#define CONTAINER_OF(pointer, type, member) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
