/* limits: what this process may use. Thread: main, at start-up. */
#ifndef OS_LIMITS_H
#define OS_LIMITS_H

#include <stdint.h>

/* CPUs by affinity and cgroup v2 quota (rounded up), at least 1. */
uint32_t limits_cpu_count(void);

/* Raises the soft RLIMIT_NOFILE to the hard one. Returns the soft limit then. */
uint64_t limits_raise_nofile(void);

/* Fills `bytes` with random bytes from the kernel; aborts if it cannot. */
void limits_random(void *bytes, uint64_t len);

#endif
