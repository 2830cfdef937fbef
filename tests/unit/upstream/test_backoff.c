#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "upstream/backoff.h"

#define ROUNDS 1000

static void first_wait_is_within_100_ms(void **state)
{
	struct backoff backoff;

	(void)state;
	backoff_init(&backoff);
	assert_true(backoff.random != 0);
	for (int i = 0; i < ROUNDS; i++)
		assert_true(backoff_wait_ms(&backoff) <= 90);
}

static void waits_double_up_to_two_seconds_and_differ(void **state)
{
	static const uint32_t longest_ms[] = {100, 200, 400, 800, 1600, 2000, 2000, 2000};
	struct backoff backoff;

	(void)state;
	backoff_init(&backoff);
	for (uint32_t tries = 1; tries <= 8; tries++) {
		uint32_t least = UINT32_MAX, most = 0;

		backoff.failed_tries = tries;
		for (int i = 0; i < ROUNDS; i++) {
			uint32_t wait_ms = backoff_wait_ms(&backoff);

			least = wait_ms < least ? wait_ms : least;
			most = wait_ms > most ? wait_ms : most;
		}
		assert_true(least >= longest_ms[tries - 1] / 2);
		assert_true(most <= longest_ms[tries - 1]);
		assert_true(most - least > longest_ms[tries - 1] / 4);
	}
	backoff.failed_tries = UINT32_MAX;
	assert_true(backoff_wait_ms(&backoff) <= BACKOFF_MAX_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_wait_is_within_100_ms),
		cmocka_unit_test(waits_double_up_to_two_seconds_and_differ),
	};

	return cmocka_run_group_tests_name("upstream/backoff", tests, NULL, NULL);
}
