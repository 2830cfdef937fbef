/* index when memory runs out: every allocation is made to fail in turn. */
#include "base/hash.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static int allocations_left;

static void *failing_malloc(size_t size)
{
	return allocations_left-- > 0 ? malloc(size) : NULL;
}

static int failing_insert(struct hash_table *table, struct hash_node *node, struct span key)
{
	return allocations_left-- > 0 ? hash_insert(table, node, key) : -ENOMEM;
}

#define malloc(size) failing_malloc(size)
#define hash_insert(table, node, key) failing_insert(table, node, key)
#include "hub/index.c"
#undef malloc
#undef hash_insert

static const struct hash_secret secret = { .bytes = { 1 } };

static void index_add_fails_whole_at_each_allocation(void **state)
{
	/* of one whose user and session are new, whose user is known, and whose both are */
	static const struct {
		const char *user, *session;
		int allocations;
	} rows[] = { { "u2", "s2", 4 }, { "u1", "s2", 2 }, { "u2", "s1", 2 }, { "u1", "s1", 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct subscription one = { .feed.place.user = NULL };
		struct subscription two = { .feed.place.user = NULL };
		struct span user = span_from_cstr(rows[i].user);
		struct span session = span_from_cstr(rows[i].session);
		struct index index;

		index_init(&index, secret);
		allocations_left = 4;
		assert_int_equal(index_add(&index, &one, SPAN("u1"), SPAN("s1")), 0);
		for (int allowed = 0; allowed < rows[i].allocations; allowed++) {
			allocations_left = allowed;
			assert_int_equal(index_add(&index, &two, user, session), -ENOMEM);
			assert_null(two.feed.place.user);
			assert_int_equal(index.subscription_count, 1);
			assert_int_equal(index.users.count, 1);
			assert_int_equal(index.sessions.count, 1);
		}
		allocations_left = rows[i].allocations;
		assert_int_equal(index_add(&index, &two, user, session), 0);
		index_remove(&index, &one);
		index_remove(&index, &two);
		index_finish(&index);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(index_add_fails_whole_at_each_allocation),
	};

	return cmocka_run_group_tests_name("index without memory", tests, NULL, NULL);
}
