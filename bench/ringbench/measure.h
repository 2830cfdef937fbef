/*
 * measure: the measured window and the CPU time that servers and generator spent in it.
 * measure_begin, _await and _end are one thread's; measure_cut_short is any thread's.
 */
#ifndef RINGBENCH_MEASURE_H
#define RINGBENCH_MEASURE_H

#include "options.h"

#include <pthread.h>
#include <time.h>

struct cpu_reading {
	uint64_t server_us, generator_us;	   /* user and system, exact */
	uint64_t server_user_us, server_system_us; /* from /proc, in clock ticks */
};

struct measure {
	const struct options *options;
	clockid_t server_clocks[SERVER_PIDS_MAX];
	struct cpu_reading before, after;
	uint64_t begin_us, end_us; /* monotonic; written by measure_begin and measure_end */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_cut_short;
};

/* Returns 0, or a negative code with a sentence: no such process. */
int measure_init(struct measure *measure, const struct options *options);
void measure_finish(struct measure *measure);

uint64_t monotonic_us(void);

/* The window opens, closes now. */
void measure_begin(struct measure *measure);
void measure_end(struct measure *measure);

/* Waits until this time; returns false if measure_cut_short came first. */
bool measure_await(struct measure *measure, uint64_t until_us);
void measure_cut_short(struct measure *measure);

double measure_seconds(const struct measure *measure);

#endif
