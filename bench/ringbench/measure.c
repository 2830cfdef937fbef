#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define US_PER_S 1000000u

static uint64_t clock_us(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) != 0)
		return 0; /* the server is gone: the run fails by other counts */
	return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / 1000;
}

uint64_t monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

int measure_init(struct measure *measure, const struct options *options)
{
	pthread_condattr_t attributes;

	*measure = (struct measure){.options = options};
	for (size_t i = 0; i < options->server_pid_count; i++) {
		int code = clock_getcpuclockid(options->server_pids[i], &measure->server_clocks[i]);

		if (code) {
			tell("--server-pid %d: %s", (int)options->server_pids[i],
			     strerrordesc_np(code));
			return -code;
		}
	}
	pthread_mutex_init(&measure->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&measure->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return 0;
}

void measure_finish(struct measure *measure)
{
	pthread_cond_destroy(&measure->changed);
	pthread_mutex_destroy(&measure->lock);
}

/* The 14th and 15th fields of stat, counted behind the name, which may hold anything. */
static void read_ticks(pid_t pid, struct cpu_reading *reading)
{
	char path[64], text[1024];
	unsigned long long user = 0, system = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");

	if (!file)
		return;
	size_t len = fread(text, 1, sizeof(text) - 1, file);

	fclose(file);
	text[len] = 0;
	const char *behind = strrchr(text, ')');

	if (!behind || sscanf(behind + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
			      &user, &system) != 2)
		return;
	uint64_t tick_us = US_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);

	reading->server_user_us += user * tick_us;
	reading->server_system_us += system * tick_us;
}

static struct cpu_reading read_cpu(const struct measure *measure)
{
	struct cpu_reading reading = {0};

	for (size_t i = 0; i < measure->options->server_pid_count; i++) {
		reading.server_us += clock_us(measure->server_clocks[i]);
		read_ticks(measure->options->server_pids[i], &reading);
	}
	reading.generator_us = clock_us(CLOCK_PROCESS_CPUTIME_ID);
	return reading;
}

void measure_begin(struct measure *measure)
{
	measure->begin_us = monotonic_us();
	measure->before = read_cpu(measure);
}

void measure_end(struct measure *measure)
{
	measure->after = read_cpu(measure);
	measure->end_us = monotonic_us();
}

bool measure_await(struct measure *measure, uint64_t until_us)
{
	const struct timespec until = {.tv_sec = (time_t)(until_us / US_PER_S),
				       .tv_nsec = (long)(until_us % US_PER_S) * 1000};
	bool came;

	pthread_mutex_lock(&measure->lock);
	while (!measure->is_cut_short &&
	       pthread_cond_timedwait(&measure->changed, &measure->lock, &until) != ETIMEDOUT)
		;
	came = measure->is_cut_short;
	pthread_mutex_unlock(&measure->lock);
	return !came;
}

void measure_cut_short(struct measure *measure)
{
	pthread_mutex_lock(&measure->lock);
	measure->is_cut_short = true;
	pthread_cond_broadcast(&measure->changed);
	pthread_mutex_unlock(&measure->lock);
}

double measure_seconds(const struct measure *measure)
{
	return (double)(measure->end_us - measure->begin_us) / US_PER_S;
}
