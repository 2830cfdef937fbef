#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "redis/client_internal.h"

static void jitter_keeps_within_its_bounds(void **state)
{
	static const uint32_t bases_ms[] = {100, 200, 400, 800, 1600, 2000, 2000, 2000};
	uint64_t random = jitter_seed();

	(void)state;
	assert_true(random != 0);
	for (uint32_t tries = 0; tries < ARRAY_LEN(bases_ms); tries++) {
		uint32_t least = UINT32_MAX, most = 0;

		for (int i = 0; i < 2000; i++) {
			uint32_t after_ms = jitter_backoff_ms(&random, tries);

			least = after_ms < least ? after_ms : least;
			most = after_ms > most ? after_ms : most;
		}
		assert_in_range(least, bases_ms[tries] / 2, bases_ms[tries] / 2 + 20);
		assert_in_range(most, bases_ms[tries] - 20, bases_ms[tries]);
	}
	assert_in_range(jitter_backoff_ms(&random, UINT32_MAX), 1000, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jitter_keeps_within_its_bounds),
	};

	return cmocka_run_group_tests_name("redis jitter", tests, NULL, NULL);
}
