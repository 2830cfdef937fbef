#include "auth/bucket.h"
#include "base/check.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct hash_secret secret = { .bytes = { 4, 5, 6 } };

static struct bucket_table *make(size_t entries)
{
	struct bucket_table *table = bucket_table_create(entries, secret);

	assert_non_null(table);
	return table;
}

static uint64_t granted(struct bucket_table *table, const struct bucket_rule *rule,
			struct span key, uint64_t now_ms)
{
	uint64_t count = 0;

	while (bucket_charge(table, rule, key, now_ms) == 0)
		count++;
	return count;
}

static void bucket_grants_burst_at_once_and_then_the_rate(void **state)
{
	static const struct {
		struct bucket_rule rule;
		uint64_t first_wait_ms;
	} rows[] = {
		{ { .requests = 30, .window_ms = 60000, .burst = 10 }, 2000 },
		{ { .requests = 6000, .window_ms = 60000, .burst = 600 }, 10 },
		{ { .requests = 1, .window_ms = 1, .burst = 1 }, 1 },
		{ { .requests = 1000, .window_ms = 1, .burst = 5 }, 1 }, /* part of a ms: up */
		{ { .requests = 7, .window_ms = 60000, .burst = 3 }, 8572 },
		{ { .requests = 1, .window_ms = 86400000, .burst = 1 }, 86400000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bucket_table *table = make(64);
		const struct bucket_rule *rule = &rows[i].rule;

		assert_int_equal(granted(table, rule, SPAN("k"), 1000), rule->burst);
		assert_int_equal(bucket_charge(table, rule, SPAN("k"), 1000),
				 rows[i].first_wait_ms);
		bucket_table_destroy(table);
	}
	bucket_table_destroy(NULL);
}

/* After the wait there is a token, and a millisecond earlier there was none. */
static void bucket_wait_is_exact(void **state)
{
	struct bucket_rule rule = { .requests = 7, .window_ms = 1000, .burst = 3 };
	struct bucket_table *table = make(64);
	uint64_t now_ms = 12345;

	(void)state;
	granted(table, &rule, SPAN("k"), now_ms);
	for (int i = 0; i < 1000; i++) {
		uint64_t wait_ms = bucket_charge(table, &rule, SPAN("k"), now_ms);

		assert_in_range(wait_ms, 142, 143);
		assert_int_equal(bucket_charge(table, &rule, SPAN("k"), now_ms + wait_ms - 1), 1);
		now_ms += wait_ms;
		assert_int_equal(bucket_charge(table, &rule, SPAN("k"), now_ms), 0);
	}
	/* 1,000 tokens at 7 per second, nothing lost by rounding. */
	assert_in_range(now_ms - 12345, 142857, 142858);
	bucket_table_destroy(table);
}

static void bucket_is_full_again_after_its_time_and_never_fuller(void **state)
{
	struct bucket_rule rule = { .requests = 10, .window_ms = 1000, .burst = 5 };
	struct bucket_table *table = make(64);

	(void)state;
	assert_int_equal(granted(table, &rule, SPAN("k"), 0), 5);
	assert_int_equal(granted(table, &rule, SPAN("k"), 99), 0);
	assert_int_equal(granted(table, &rule, SPAN("k"), 100), 1);
	assert_int_equal(granted(table, &rule, SPAN("k"), 499), 3);
	assert_int_equal(granted(table, &rule, SPAN("k"), 999), 5);
	assert_int_equal(granted(table, &rule, SPAN("k"), 1000000), 5);
	bucket_table_destroy(table);
}

static void bucket_rule_corners_are_defined(void **state)
{
	struct bucket_rule off = { .requests = 0, .window_ms = 60000, .burst = 0 };
	struct bucket_rule no_burst = { .requests = 1, .window_ms = 1000, .burst = 0 };
	struct bucket_rule no_window = { .requests = 1, .window_ms = 0, .burst = 1 };
	struct bucket_rule huge = { .requests = UINT64_MAX,
				    .window_ms = UINT64_MAX,
				    .burst = UINT64_MAX };
	struct bucket_table *table = make(8);

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(bucket_charge(table, &off, SPAN("k"), 0), 0);
	assert_int_equal(granted(table, &no_burst, SPAN("k"), 0), 1);
	assert_int_equal(granted(table, &no_burst, SPAN("k"), 1000), 1);
	assert_int_equal(granted(table, &no_window, SPAN("k"), 0), 1);
	assert_int_equal(granted(table, &no_window, SPAN("k"), 1), 1);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(bucket_charge(table, &huge, SPAN("k"), UINT64_MAX), 0);
	bucket_table_destroy(table);
}

static void bucket_large_numbers_do_not_wrap(void **state)
{
	static const struct bucket_rule rules[] = {
		{ .requests = 1u << 20, .window_ms = 60000, .burst = 100 },
		{ .requests = 1000003, .window_ms = UINT64_C(1) << 40, .burst = 3 },
		{ .requests = UINT64_MAX, .window_ms = 60000, .burst = 3 },
		{ .requests = 1, .window_ms = UINT64_MAX, .burst = 3 },
	};
	static const uint64_t times[] = { 0, 1, UINT64_C(1) << 41, (UINT64_C(1) << 42) - 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		for (size_t j = 0; j < ARRAY_LEN(times); j++) {
			struct bucket_table *table = make(8);

			assert_int_equal(granted(table, &rules[i], SPAN("k"), times[j]),
					 rules[i].burst);
			bucket_table_destroy(table);
		}
	}
}

/* What the options allow. Of the tokens that come back, less than 1 in 2^19 is lost. */
static void bucket_of_many_requests_refills_at_their_rate(void **state)
{
	static const struct {
		struct bucket_rule rule;
		uint64_t after_ms, tokens;
	} rows[] = {
		{{.requests = 1000000000, .window_ms = 60000, .burst = 20000}, 1, 16666},
		{{.requests = 1000000000, .window_ms = 86400000, .burst = 20000}, 1000, 11574},
		{{.requests = 100000000, .window_ms = 10007, .burst = 20000}, 1, 9993},
		{{.requests = (1u << 20) + 1, .window_ms = 1000, .burst = 20000}, 10, 10485},
		{{.requests = 3000000, .window_ms = 7, .burst = 500000}, 1, 428571},
		{{.requests = 1u << 21, .window_ms = 2, .burst = 2000000}, 1, 1u << 20},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bucket_table *table = make(8);
		const struct bucket_rule *rule = &rows[i].rule;
		uint64_t now_ms = UINT64_C(1) << 40;

		assert_int_equal(granted(table, rule, SPAN("k"), now_ms), rule->burst);
		assert_in_range(granted(table, rule, SPAN("k"), now_ms + rows[i].after_ms),
				rows[i].tokens - rows[i].tokens / (1u << 19) - 1, rows[i].tokens);
		bucket_table_destroy(table);
	}
}

static void bucket_keys_kinds_and_rules_are_apart(void **state)
{
	struct bucket_rule one = { .requests = 1, .window_ms = 1000, .burst = 2, .kind = 1 };
	struct bucket_rule two = one, three = one, four = one;
	struct bucket_table *table = make(64);

	(void)state;
	two.kind = 2;
	three.requests = 2;
	four.window_ms = 2000;
	assert_int_equal(granted(table, &one, SPAN("a"), 0), 2);
	assert_int_equal(granted(table, &one, SPAN("b"), 0), 2);
	assert_int_equal(granted(table, &two, SPAN("a"), 0), 2);
	assert_int_equal(granted(table, &three, SPAN("a"), 0), 2);
	assert_int_equal(granted(table, &four, SPAN("a"), 0), 2);
	assert_int_equal(granted(table, &one, SPAN(""), 0), 2);
	assert_int_equal(granted(table, &one, SPAN("a"), 0), 0);
	bucket_table_destroy(table);
}

/* The clocks of two workers differ: no order of times gives more than the later one allows. */
static void bucket_older_times_grant_nothing_more(void **state)
{
	struct bucket_rule rule = { .requests = 10, .window_ms = 1000, .burst = 5 };
	struct bucket_table *table = make(64);

	(void)state;
	assert_int_equal(granted(table, &rule, SPAN("k"), 1000), 5);
	assert_int_equal(granted(table, &rule, SPAN("k"), 0), 0);
	assert_int_equal(granted(table, &rule, SPAN("k"), 1100), 1);
	assert_int_equal(granted(table, &rule, SPAN("k"), 1050), 0);
	assert_int_equal(granted(table, &rule, SPAN("k"), 1199), 0);
	assert_int_equal(granted(table, &rule, SPAN("k"), 1200), 1);
	bucket_table_destroy(table);
}

/* Against the definition in exact fractions, over random times. */
static void bucket_agrees_with_the_definition(void **state)
{
	unsigned seed = 11;

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct bucket_rule rule = { .requests = 1 + (uint64_t)rand_r(&seed) % 100,
					    .window_ms = 1 + (uint64_t)rand_r(&seed) % 5000,
					    .burst = 1 + (uint64_t)rand_r(&seed) % 20 };
		struct bucket_table *table = make(8);
		uint64_t now_ms = (uint64_t)rand_r(&seed) % 100, last_ms = now_ms;
		/* tokens × window_ms: whole numbers */
		uint64_t level = rule.burst * rule.window_ms;

		for (int i = 0; i < 500; i++) {
			now_ms += (uint64_t)rand_r(&seed) % (1 + rule.window_ms / rule.requests * 2);
			level += (now_ms - last_ms) * rule.requests;
			if (level > rule.burst * rule.window_ms)
				level = rule.burst * rule.window_ms;
			last_ms = now_ms;

			uint64_t wait_ms = bucket_charge(table, &rule, SPAN("k"), now_ms);

			if (level >= rule.window_ms) {
				assert_int_equal(wait_ms, 0);
				level -= rule.window_ms;
			} else {
				uint64_t lack = rule.window_ms - level;

				assert_int_equal(wait_ms, (lack + rule.requests - 1) / rule.requests);
			}
		}
		bucket_table_destroy(table);
	}
}

/* ---- the table ---- */

static struct span number_key(char text[16], int number)
{
	return span_make(text, (size_t)snprintf(text, 16, "k%d", number));
}

static void bucket_stalest_leaves_a_full_set(void **state)
{
	struct bucket_rule rule = { .requests = 1, .window_ms = 1000, .burst = 1 };
	struct bucket_table *table = make(8); /* one set */
	char text[16];

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(bucket_charge(table, &rule, number_key(text, i), (uint64_t)i), 0);
	assert_int_equal(bucket_evicted_count(table), 0);
	/* The first is recharged once it is full: the second is the stalest. */
	assert_int_equal(bucket_charge(table, &rule, number_key(text, 0), 1000), 0);
	assert_int_equal(bucket_charge(table, &rule, SPAN("new"), 1000), 0);
	assert_int_equal(bucket_evicted_count(table), 1);
	/* All others still know what they spent. */
	for (int i = 2; i < 8; i++)
		assert_int_equal(bucket_charge(table, &rule, number_key(text, i), 1000),
				 (uint64_t)i);
	assert_int_equal(bucket_charge(table, &rule, number_key(text, 0), 1000), 1000);
	/* The one that left comes back full. */
	assert_int_equal(bucket_charge(table, &rule, number_key(text, 1), 1000), 0);
	assert_int_equal(bucket_evicted_count(table), 2);
	bucket_table_destroy(table);
}

/* A slow rule's bucket stays empty long: it is fresher than one that is full again soon. */
static void bucket_staleness_compares_across_rules(void **state)
{
	struct bucket_rule slow = { .requests = 1, .window_ms = 1000000, .burst = 1, .kind = 1 };
	struct bucket_rule fast = { .requests = 1000, .window_ms = 1000, .burst = 1, .kind = 2 };
	struct bucket_table *table = make(8);
	char text[16];

	(void)state;
	assert_int_equal(bucket_charge(table, &slow, SPAN("slow"), 0), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(bucket_charge(table, &fast, number_key(text, i), (uint64_t)i), 0);
	assert_int_equal(bucket_charge(table, &slow, SPAN("slow"), 100), 999900);
	bucket_table_destroy(table);
}

static void bucket_table_holds_what_it_promises(void **state)
{
	struct bucket_rule rule = { .requests = 1, .window_ms = 1000, .burst = 1 };
	struct bucket_table *table = make(4096);
	char text[16];

	(void)state;
	/* A quarter full: that a set overflows has a chance of about 1 in 1,000 for any of them. */
	for (int i = 0; i < 1024; i++)
		assert_int_equal(bucket_charge(table, &rule, number_key(text, i), 0), 0);
	for (int i = 0; i < 1024; i++)
		assert_int_equal(bucket_charge(table, &rule, number_key(text, i), 0), 1000);
	assert_int_equal(bucket_evicted_count(table), 0);
	bucket_table_destroy(table);
}

static void bucket_table_refuses_an_impossible_size(void **state)
{
	(void)state;
	assert_null(bucket_table_create(SIZE_MAX, secret));
}

/* ---- threads ---- */

#define THREADS 4
#ifdef __SANITIZE_THREAD__
#define TURNS 20000
#else
#define TURNS 100000
#endif

struct crowd {
	struct bucket_table *table;
	struct bucket_rule rule;
	_Atomic uint64_t now_ms, granted[8];
	_Atomic int waiting;
	int key_count, turn_count;
	bool clock_runs;
};

static void *crowd_member(void *argument)
{
	struct crowd *crowd = argument;
	char text[16];

	atomic_fetch_sub(&crowd->waiting, 1);
	while (atomic_load(&crowd->waiting) > 0)
		;
	for (int turn = 0; turn < crowd->turn_count; turn++) {
		int key = turn % crowd->key_count;

		if (crowd->clock_runs && turn % 16 == 0)
			atomic_fetch_add(&crowd->now_ms, 1);
		if (bucket_charge(crowd->table, &crowd->rule, number_key(text, key),
				  atomic_load(&crowd->now_ms)) == 0)
			atomic_fetch_add(&crowd->granted[key % 8], 1);
	}
	return NULL;
}

static void crowd_run(struct crowd *crowd)
{
	pthread_t threads[THREADS];

	atomic_store(&crowd->waiting, THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, crowd_member, crowd), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* The clock stands: exactly burst, whoever takes them. */
static void bucket_threads_share_one_burst(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct crowd crowd = {
			.table = make(8),
			.rule = { .requests = 1, .window_ms = 1000000, .burst = 1000 },
			.now_ms = 5000,
			.key_count = 4,
			.turn_count = 4 * 400,
		};

		crowd_run(&crowd);
		for (int key = 0; key < 4; key++)
			assert_int_equal(atomic_load(&crowd.granted[key]), 1000);
		bucket_table_destroy(crowd.table);
	}
}

/* The first charge of a key by all at once makes one bucket, not several. */
static void bucket_threads_make_one_bucket_for_a_new_key(void **state)
{
	(void)state;
	for (int round = 0; round < 300; round++) {
		struct crowd crowd = {
			.table = make(8),
			.rule = { .requests = 1, .window_ms = 1000000, .burst = 1 },
			.now_ms = (uint64_t)round,
			.key_count = 8,
			.turn_count = 64,
		};

		crowd_run(&crowd);
		for (int key = 0; key < 8; key++)
			assert_int_equal(atomic_load(&crowd.granted[key]), 1);
		assert_int_equal(bucket_evicted_count(crowd.table), 0);
		bucket_table_destroy(crowd.table);
	}
}

/* The clock runs, and each thread sees it a little late: still never more than the rule. */
static void bucket_threads_never_get_more_than_the_rule(void **state)
{
	struct crowd crowd = {
		.table = make(8),
		.rule = { .requests = 3, .window_ms = 7, .burst = 20 },
		.now_ms = 100,
		.key_count = 1,
		.turn_count = TURNS,
		.clock_runs = true,
	};

	(void)state;
	crowd_run(&crowd);

	uint64_t time_ms = atomic_load(&crowd.now_ms) - 100, count = atomic_load(&crowd.granted[0]);

	assert_in_range(count, time_ms * 3 / 7 / 2, 20 + time_ms * 3 / 7);
	bucket_table_destroy(crowd.table);
}

/* 64 keys in one set of 8: buckets change hands all the time under the charges of others. */
static void bucket_threads_may_fight_over_a_set(void **state)
{
	struct bucket_rule lasting = { .requests = 1, .window_ms = 1000000000, .burst = 50, .kind = 9 };
	struct crowd crowd = {
		.table = make(8),
		.rule = { .requests = 1000, .window_ms = 1000, .burst = 2 },
		.now_ms = 100,
		.key_count = 64,
		.turn_count = TURNS,
		.clock_runs = true,
	};

	(void)state;
	/* Full again last of all, so that it stays: what it spent must be known at the end. */
	assert_int_equal(granted(crowd.table, &lasting, SPAN("victim"), 100), 50);
	crowd_run(&crowd);
	assert_true(bucket_evicted_count(crowd.table) > 1000);
	assert_int_equal(granted(crowd.table, &lasting, SPAN("victim"), atomic_load(&crowd.now_ms)),
			 0);
	bucket_table_destroy(crowd.table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_grants_burst_at_once_and_then_the_rate),
		cmocka_unit_test(bucket_wait_is_exact),
		cmocka_unit_test(bucket_is_full_again_after_its_time_and_never_fuller),
		cmocka_unit_test(bucket_rule_corners_are_defined),
		cmocka_unit_test(bucket_large_numbers_do_not_wrap),
		cmocka_unit_test(bucket_of_many_requests_refills_at_their_rate),
		cmocka_unit_test(bucket_keys_kinds_and_rules_are_apart),
		cmocka_unit_test(bucket_older_times_grant_nothing_more),
		cmocka_unit_test(bucket_agrees_with_the_definition),
		cmocka_unit_test(bucket_stalest_leaves_a_full_set),
		cmocka_unit_test(bucket_staleness_compares_across_rules),
		cmocka_unit_test(bucket_table_holds_what_it_promises),
		cmocka_unit_test(bucket_table_refuses_an_impossible_size),
		cmocka_unit_test(bucket_threads_share_one_burst),
		cmocka_unit_test(bucket_threads_make_one_bucket_for_a_new_key),
		cmocka_unit_test(bucket_threads_never_get_more_than_the_rule),
		cmocka_unit_test(bucket_threads_may_fight_over_a_set),
	};

	return cmocka_run_group_tests_name("bucket", tests, NULL, NULL);
}
