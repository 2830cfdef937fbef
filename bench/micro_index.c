/*
 * micro_index: what finding the streams of one user costs with 1, 10,000 and 1,000,000 others in the
 * index. Prints one JSON object; exit 1 if the dearest is above twice the cheapest.
 *
 * Warm: one user again and again, which is a busy user's cost: nothing of it may depend on who else
 * is there. Cold: users in random order, so that memory that is not in the caches is paid too, which
 * no index can spare.
 */
#include "base/check.h"
#include "hub/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS	      7
#define LOOKUPS	      200000
#define WARM_RATIO_MAX 2.0 /* of medians; a lookup is some 20 ns, a busy machine moves it by half */

static const uint32_t sizes[] = {1, 10000, 1000000};

static struct span name_write(char text[32], uint32_t number)
{
	return span_make(text, (size_t)snprintf(text, 32, "user-%08u", number));
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void count_visit(struct subscription *subscription, void *context)
{
	uint64_t *count = context;

	(void)subscription;
	++*count;
}

/* One user under each size's own worst case: the last one that came. */
static double lookup_ns(struct index *index, uint32_t size, bool cold)
{
	char text[32];
	struct span name = name_write(text, size - 1);
	uint64_t visits = 0, random = 88172645463325252u;
	uint64_t started_ns = now_ns();

	for (uint32_t i = 0; i < LOOKUPS; i++) {
		if (cold) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			name = name_write(text, (uint32_t)(random % size));
		}
		index_each_of_user(index, name, count_visit, &visits);
	}
	CHECK(visits == LOOKUPS);
	return (double)(now_ns() - started_ns) / LOOKUPS;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static double median_ns(struct index *index, uint32_t size, bool cold)
{
	double rounds[ROUNDS];

	for (size_t i = 0; i < ROUNDS; i++)
		rounds[i] = lookup_ns(index, size, cold);
	qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
	return rounds[ROUNDS / 2];
}

static void fill(struct index *index, struct subscription *subscriptions, uint32_t size)
{
	char text[32];

	for (uint32_t i = index->subscription_count; i < size; i++) {
		struct span name = name_write(text, i);

		subscriptions[i] = (struct subscription){0};
		CHECK(index_add(index, &subscriptions[i], name, name) == 0);
	}
}

int main(void)
{
	uint32_t most = sizes[ARRAY_LEN(sizes) - 1];
	struct subscription *subscriptions =
		aligned_alloc(_Alignof(struct subscription), most * sizeof(*subscriptions));
	struct index index;
	double least = 0, dearest = 0;

	if (!subscriptions) {
		fprintf(stderr, "no memory for %u subscriptions\n", most);
		return 1;
	}
	index_init(&index, (struct hash_secret){{1, 2}});
	printf("{\"work\":\"index\",\"lookup_ns\":{");
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		fill(&index, subscriptions, sizes[i]);

		double warm = median_ns(&index, sizes[i], false);
		double cold = median_ns(&index, sizes[i], true);

		printf("%s\"%u\":{\"warm\":%.1f,\"cold\":%.1f}", i ? "," : "", sizes[i], warm, cold);
		least = i == 0 || warm < least ? warm : least;
		dearest = warm > dearest ? warm : dearest;
	}
	printf("},\"warm_ratio\":%.2f}\n", dearest / least);
	for (uint32_t i = 0; i < most; i++)
		index_remove(&index, &subscriptions[i]);
	index_finish(&index);
	free(subscriptions);
	return dearest / least <= WARM_RATIO_MAX ? 0 : 1;
}
