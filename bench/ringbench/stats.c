#include "stats.h"

#include "measure.h"

#include <stdio.h>

static size_t bucket_of(uint32_t value)
{
	if (value < HISTOGRAM_STEPS)
		return value;

	unsigned shift = 31 - (unsigned)__builtin_clz(value) - HISTOGRAM_STEP_BITS;

	return (shift + 1) * (size_t)HISTOGRAM_STEPS + (value >> shift) - HISTOGRAM_STEPS;
}

/* The middle of the bucket's values. */
static double bucket_value(size_t bucket)
{
	if (bucket < HISTOGRAM_STEPS)
		return (double)bucket;

	size_t shift = bucket / HISTOGRAM_STEPS - 1;
	uint64_t first = (uint64_t)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << shift;

	return (double)first + (double)(((uint64_t)1 << shift) - 1) / 2;
}

void histogram_record(struct histogram *histogram, uint64_t value_us)
{
	uint32_t value = value_us > UINT32_MAX ? UINT32_MAX : (uint32_t)value_us;

	histogram->counts[bucket_of(value)]++;
	histogram->count++;
	if (value > histogram->max)
		histogram->max = value;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->counts[i] += from->counts[i];
	into->count += from->count;
	if (from->max > into->max)
		into->max = from->max;
}

double histogram_quantile(const struct histogram *histogram, double fraction)
{
	double wanted = fraction * (double)histogram->count;
	uint64_t seen = 0;

	if (histogram->count == 0)
		return 0;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->counts[i];
		if (histogram->counts[i] > 0 && (double)seen >= wanted) {
			double value = bucket_value(i);

			return value < (double)histogram->max ? value : (double)histogram->max;
		}
	}
	return (double)histogram->max;
}

void stats_merge(struct stats *into, const struct stats *from)
{
	into->units += from->units;
	into->failed += from->failed;
	into->wrong += from->wrong;
	into->lost += from->lost;
	into->duplicates += from->duplicates;
	into->ended += from->ended;
	into->backlog += from->backlog;
	histogram_merge(&into->latency, &from->latency);
}

bool stats_are_clean(const struct stats *stats)
{
	return stats->failed == 0 && stats->wrong == 0 && stats->lost == 0 &&
	       stats->duplicates == 0;
}

static void put_count(const char *name, uint64_t value)
{
	printf(",\"%s\":%llu", name, (unsigned long long)value);
}

static double per_unit(uint64_t us, uint64_t units)
{
	return units > 0 ? (double)us / (double)units : 0;
}

int stats_report(const char *work, const struct stats *stats, const struct measure *measure,
		 struct span more)
{
	const struct histogram *latency = &stats->latency;
	const struct cpu_reading *before = &measure->before, *after = &measure->after;
	uint64_t server_us = after->server_us - before->server_us;
	uint64_t generator_us = after->generator_us - before->generator_us;
	double seconds = measure_seconds(measure);

	printf("{\"work\":\"%s\",\"units\":%llu,\"seconds\":%.6f,\"rate_per_s\":%.1f", work,
	       (unsigned long long)stats->units, seconds,
	       seconds > 0 ? (double)stats->units / seconds : 0);
	put_count("failed", stats->failed);
	put_count("wrong", stats->wrong);
	put_count("lost", stats->lost);
	put_count("duplicates", stats->duplicates);
	put_count("ended", stats->ended);
	put_count("backlog", stats->backlog);
	printf(",\"latency_us\":{\"p50\":%.1f,\"p99\":%.1f,\"p99_9\":%.1f,\"max\":%llu}",
	       histogram_quantile(latency, 0.5), histogram_quantile(latency, 0.99),
	       histogram_quantile(latency, 0.999), (unsigned long long)latency->max);
	put_count("server_cpu_us", server_us);
	put_count("server_user_us", after->server_user_us - before->server_user_us);
	put_count("server_system_us", after->server_system_us - before->server_system_us);
	put_count("generator_cpu_us", generator_us);
	printf(",\"server_cpu_us_per_unit\":%.3f,\"generator_cpu_us_per_unit\":%.3f",
	       per_unit(server_us, stats->units), per_unit(generator_us, stats->units));
	if (more.len > 0)
		printf(",%.*s", SPAN_ARGS(more));
	printf("}\n");
	return fflush(stdout) == 0 && stats_are_clean(stats) ? 0 : 1;
}
