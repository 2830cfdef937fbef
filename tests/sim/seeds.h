/*
 * seeds: a simulation run by many seeds, or by the one of SIM_SEED (SEED is the same). A CHECK
 * aborts and a hang is killed: which seed it was is on the screen before. For one test binary each.
 */
#ifndef TESTS_SIM_SEEDS_H
#define TESTS_SIM_SEEDS_H

#include "base/check.h"
#include "sim/mock_ring.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t seed_running;
static const char *seed_name, *seed_program;

/* Only what a signal handler may do. */
static inline void seed_say(int signal_number)
{
	char text[256];
	int len = snprintf(text, sizeof(text), "again by one command: SEED=%llu %s (%s)\n",
			   (unsigned long long)seed_running, seed_program, seed_name);

	(void)!write(STDERR_FILENO, text, len > 0 ? (size_t)len : 0);
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

static inline const char *seed_asked_for(void)
{
	const char *text = getenv("SEED");

	return text ? text : getenv("SIM_SEED");
}

/* Whether this seed is the one that the variable names: for tests of what a seed's failure says. */
static inline bool seed_is_named_by(const char *variable)
{
	const char *text = getenv(variable);

	return text && strtoull(text, NULL, 10) == seed_running;
}

/* Runs `count` seeds from 1 on, SEEDS=<number> so many. Returns whether they were all of them. */
static inline bool seeds_run(const char *name, uint64_t count, void (*run)(uint64_t seed))
{
	const char *text = seed_asked_for(), *more = getenv("SEEDS");
	uint64_t first = text ? strtoull(text, NULL, 10) : 1;

	if (more)
		count = strtoull(more, NULL, 10);
	if (text)
		count = 1;
	seed_name = name;
	signal(SIGSEGV, seed_say); /* cmocka's own would go on with the next test */
	for (uint64_t seed = first; seed < first + count; seed++) {
		seed_running = seed;
		run(seed);
		CHECK(!seed_is_named_by("SEED_FAILS"));
		if (seed_is_named_by("SEED_TELLS"))
			fprintf(stderr, "seed %llu (%s) ended with %llu\n",
				(unsigned long long)seed, name,
				(unsigned long long)sim_random(UINT64_MAX));
	}
	seed_name = "none";
	return !text;
}

static inline void seeds_begin(const char *program)
{
	seed_program = program;
	signal(SIGABRT, seed_say);
	signal(SIGTERM, seed_say);
}

#endif
