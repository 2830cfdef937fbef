/* session and its cache when memory runs out: every allocation is made to fail in turn. */
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
#include "auth/session.c"
#undef malloc
#undef hash_insert

static const struct hash_secret secret = { .bytes = { 1 } };

static const struct session_fields fields = {
	.device_session_id = SPAN("s"),
	.user_id = SPAN("u"),
	.client_public_key = SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="),
	.status = SPAN("active"),
};

static struct session *make(void)
{
	struct session *session;
	const char *field;

	allocations_left = 1;
	assert_int_equal(session_create(&session, &fields, &field), 0);
	return session;
}

static void session_create_fails_without_memory(void **state)
{
	struct session *session = NULL;
	const char *field;

	(void)state;
	allocations_left = 0;
	assert_int_equal(session_create(&session, &fields, &field), -ENOMEM);
	assert_null(session);
}

/* The old snapshot is no longer true, so it goes even if the new one cannot be kept. */
static void cache_that_cannot_store_knows_nothing(void **state)
{
	struct session *session = make(), *found = NULL;
	struct session_cache cache;

	(void)state;
	session_cache_init(&cache, 10, 1000, 1000, secret);
	for (int allowed = 0; allowed < 2; allowed++) {
		for (int absent = 0; absent < 2; absent++) {
			allocations_left = 2;
			assert_int_equal(session_cache_store(&cache, session, 0), 0);
			allocations_left = allowed;
			assert_int_equal(absent ? session_cache_store_absent(&cache, SPAN("s"), 0)
						: session_cache_store(&cache, session, 0),
					 -ENOMEM);
			assert_int_equal(session_cache_find(&cache, SPAN("s"), 0, &found),
					 SESSION_MISS);
			assert_int_equal(cache.count, 0);
			assert_int_equal(session->count, 1);
		}
	}
	session_cache_finish(&cache);
	session_put(session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(session_create_fails_without_memory),
		cmocka_unit_test(cache_that_cannot_store_knows_nothing),
	};

	return cmocka_run_group_tests_name("session without memory", tests, NULL, NULL);
}
