/* limits: what this process may use. Thread: main, at start-up. */
#ifndef OS_LIMITS_H
#define OS_LIMITS_H

#include "base/span.h"

/* CPUs by affinity and cgroup v2 quota (rounded up), at least 1. */
uint32_t limits_cpu_count(void);

/*
 * The text of a cpu.max file ("150000 100000\n": two CPUs, "max 100000\n": no quota).
 * Returns CPUs rounded up, at least 1; UINT32_MAX when there is no quota or the text is none of ours.
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst.
 */
uint32_t limits_parse_cpu_max(struct span text);

/*
 * The smallest quota from this process's cgroup up to the root of the hierarchy mounted at `mount`.
 * `self` is the text of /proc/self/cgroup. Returns CPUs as limits_parse_cpu_max does.
 */
uint32_t limits_cgroup_cpus(const char *mount, struct span self);

/* Raises the soft RLIMIT_NOFILE to the hard one. Returns the soft limit then. */
uint64_t limits_raise_nofile(void);

/*
 * Opens /dev/null as each of the descriptors 0, 1 and 2 that is closed, so that no socket or file gets
 * its number, and log lines with it. Before anything else is opened.
 */
void limits_fill_standard(void);

/* Fills `bytes` with random bytes from the kernel; aborts if it cannot. */
void limits_random(void *bytes, uint64_t len);

#endif
