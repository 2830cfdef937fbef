/* states: a state is spent once, by whoever comes first, for its whole life; none makes room for
 * another. */
#include "base/check.h"
#include "rest/states.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cmocka.h>

static const struct hash_secret secret = {{7}};

struct name {
	char text[LOGIN_TEXT_BYTES];
};

/* As long as a real one. */
static struct name name_of(unsigned number)
{
	struct name name;

	snprintf(name.text, sizeof(name.text), "%0*u", (int)sizeof(name.text) - 1, number);
	return name;
}

static enum states_answer spend(struct states *states, unsigned number, uint64_t now_ms)
{
	return states_spend(states, name_of(number).text, now_ms);
}

static void state_is_spent_once_for_its_whole_life(void **state)
{
	(void)state;
	struct states *states = states_create(4, secret);

	assert_non_null(states);
	assert_int_equal(spend(states, 1, 1000), STATES_SPENT);
	assert_int_equal(spend(states, 2, 1000), STATES_SPENT);
	assert_int_equal(spend(states, 1, 1000), STATES_USED);
	/* by a worker whose turn began earlier */
	assert_int_equal(spend(states, 1, 990), STATES_USED);
	assert_int_equal(spend(states, 1, 1000 + STATES_LIFE_MS - 1), STATES_USED);
	assert_int_equal(spend(states, 1, 1000 + STATES_LIFE_MS), STATES_SPENT);
	states_destroy(states);
}

static void full_table_forgets_none_early_and_has_room_when_they_end(void **state)
{
	enum { MAX = 5 };

	(void)state;
	struct states *states = states_create(MAX, secret);
	uint64_t now_ms = 1000;

	assert_non_null(states);
	for (unsigned i = 0; i < MAX; i++)
		assert_int_equal(spend(states, i, now_ms + i), STATES_SPENT);
	assert_int_equal(spend(states, 100, now_ms + MAX), STATES_FULL);
	assert_int_equal(spend(states, 100, now_ms + STATES_LIFE_MS - 1), STATES_FULL);
	for (unsigned i = 0; i < MAX; i++)
		assert_int_equal(spend(states, i, now_ms + STATES_LIFE_MS - 1), STATES_USED);
	/* the refused one was not spent; each that ends leaves room for one, round and round */
	for (unsigned i = 0; i < 3 * MAX; i++) {
		now_ms += STATES_LIFE_MS;
		for (unsigned k = 0; k < MAX; k++)
			assert_int_equal(spend(states, 100 + k, now_ms + k), STATES_SPENT);
		assert_int_equal(spend(states, 200, now_ms + MAX), STATES_FULL);
	}
	states_destroy(states);
}

#define THREADS 4
#define EACH	20000

static struct {
	struct states *states;
	_Atomic unsigned spent[EACH], full;
} race;

static void *spend_all(void *context)
{
	(void)context;
	for (unsigned i = 0; i < EACH; i++) {
		enum states_answer answer = spend(race.states, i, i);

		if (answer == STATES_SPENT)
			atomic_fetch_add(&race.spent[i], 1);
		else if (answer == STATES_FULL)
			atomic_fetch_add(&race.full, 1);
	}
	return NULL;
}

static void of_threads_with_one_state_one_spends_it(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	race.states = states_create(EACH, secret);
	assert_non_null(race.states);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, spend_all, NULL), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < EACH; i++)
		assert_int_equal(race.spent[i], 1);
	assert_int_equal(race.full, 0);
	states_destroy(race.states);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(state_is_spent_once_for_its_whole_life),
		cmocka_unit_test(full_table_forgets_none_early_and_has_room_when_they_end),
		cmocka_unit_test(of_threads_with_one_state_one_spends_it),
	};

	return cmocka_run_group_tests_name("rest/states", tests, NULL, NULL);
}
