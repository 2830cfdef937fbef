/* ids: no two the same, whatever the pool. */
#include "auth/ids.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID_COUNT (IDS_AT_ONCE * 40 + 1)

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, ID_BYTES);
}

static void no_two_ids_are_the_same(void **state)
{
	(void)state;
	static char ids[2 * ID_COUNT][ID_BYTES];
	struct id_pool pools[2] = {0};

	for (size_t i = 0; i < 2 * ID_COUNT; i++)
		id_draw(&pools[i % 2], ids[i]);
	qsort(ids, 2 * ID_COUNT, ID_BYTES, compare);
	for (size_t i = 1; i < 2 * ID_COUNT; i++)
		assert_memory_not_equal(ids[i - 1], ids[i], ID_BYTES);
}

static void ids_are_letters_that_a_header_may_have(void **state)
{
	(void)state;
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	bool seen[256] = {false};
	struct id_pool pool = {0};
	char id[ID_BYTES];

	for (size_t i = 0; i < ID_COUNT; i++) {
		id_draw(&pool, id);
		for (size_t at = 0; at < ID_BYTES; at++)
			seen[(uint8_t)id[at]] = true;
	}
	for (int byte = 0; byte < 256; byte++)
		assert_int_equal(seen[byte], byte != 0 && strchr(letters, byte) != NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_two_ids_are_the_same),
		cmocka_unit_test(ids_are_letters_that_a_header_may_have),
	};

	return cmocka_run_group_tests_name("auth/ids", tests, NULL, NULL);
}
