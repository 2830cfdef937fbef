/* departed: what one worker signs out, all others hear, whole or not at all, and never miss
 * unawares. */
#include "rest/departed.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

#define ADDERS	  3
#define EACH	  4000
#define FOLLOWERS 3

/* The same byte all over: a torn one shows. */
static void make_key(uint8_t key[SHA256_BYTES], unsigned number)
{
	memset(key, (int)(number % 251 + 1), SHA256_BYTES);
}

static void last_ones_are_kept_and_older_ones_known_to_be_gone(void **state)
{
	(void)state;
	struct departed *departed = departed_create();
	uint8_t key[SHA256_BYTES], wanted[SHA256_BYTES];

	assert_non_null(departed);
	assert_int_equal(departed_count(departed), 0);
	for (unsigned i = 0; i < 3 * DEPARTED_MAX; i++) {
		make_key(key, i);
		departed_add(departed, key);
		assert_int_equal(departed_count(departed), i + 1);
		assert_true(departed_get(departed, i, key));
		make_key(wanted, i);
		assert_memory_equal(key, wanted, sizeof(key));
	}
	for (unsigned i = 0; i < 3 * DEPARTED_MAX; i++)
		assert_int_equal(departed_get(departed, i, key), i > 2 * DEPARTED_MAX);
	departed_destroy(departed);
}

static struct {
	struct departed *departed;
	_Atomic unsigned adders, torn, heard, lost;
} race;

static void *add_many(void *context)
{
	uint8_t key[SHA256_BYTES];

	for (unsigned i = 0; i < EACH; i++) {
		make_key(key, i * ADDERS + *(unsigned *)context);
		departed_add(race.departed, key);
	}
	atomic_fetch_sub(&race.adders, 1);
	return NULL;
}

static void *follow(void *context)
{
	uint8_t key[SHA256_BYTES];
	uint64_t seen = 0;
	bool is_over;

	(void)context;
	do {
		is_over = atomic_load(&race.adders) == 0;
		for (uint64_t count = departed_count(race.departed); seen < count; seen++) {
			if (!departed_get(race.departed, seen, key)) {
				atomic_fetch_add(&race.lost, 1);
				continue;
			}
			atomic_fetch_add(&race.heard, 1);
			for (size_t i = 1; i < sizeof(key); i++)
				atomic_fetch_add(&race.torn, key[i] != key[0] || key[0] == 0);
		}
	} while (!is_over);
	return NULL;
}

static void followers_hear_each_whole_while_others_add(void **state)
{
	(void)state;
	pthread_t threads[ADDERS + FOLLOWERS];
	unsigned numbers[ADDERS];

	race.departed = departed_create();
	assert_non_null(race.departed);
	atomic_store(&race.adders, ADDERS);
	for (unsigned i = 0; i < ADDERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, add_many, &numbers[i]), 0);
	}
	for (unsigned i = 0; i < FOLLOWERS; i++)
		assert_int_equal(pthread_create(&threads[ADDERS + i], NULL, follow, NULL), 0);
	for (unsigned i = 0; i < ADDERS + FOLLOWERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(departed_count(race.departed), ADDERS * EACH);
	assert_int_equal(race.torn, 0);
	assert_int_equal(race.heard + race.lost, FOLLOWERS * ADDERS * EACH);
	departed_destroy(race.departed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(last_ones_are_kept_and_older_ones_known_to_be_gone),
		cmocka_unit_test(followers_hear_each_whole_while_others_add),
	};

	return cmocka_run_group_tests_name("rest/departed", tests, NULL, NULL);
}
