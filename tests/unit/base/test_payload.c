#include "unit/base/base_test.h"

#include "unit/base/failing_alloc.h"

#include "base/payload.c"

#include <pthread.h>

static void payload_is_born_with_one_reference(void **state)
{
	struct payload *payload = payload_create(3);

	(void)state;
	CHECK(payload);
	assert_int_equal(atomic_load(&payload->count), 1);
	memcpy(payload->data, "abc", 3);
	assert_true(span_equal(payload_span(payload), SPAN("abc")));
	payload_put(payload);
}

static void payload_copy_holds_the_bytes(void **state)
{
	struct payload *payload = payload_copy(SPAN("some\0bytes"));
	struct payload *empty = payload_copy(SPAN_EMPTY);

	(void)state;
	assert_true(span_equal(payload_span(payload), SPAN("some\0bytes")));
	assert_int_equal(empty->len, 0);
	payload_put(payload);
	payload_put(empty);
}

static void payload_refuses_more_than_the_maximum(void **state)
{
	struct payload *largest = payload_create(PAYLOAD_BYTES_MAX);

	(void)state;
	assert_non_null(largest);
	assert_int_equal(largest->len, PAYLOAD_BYTES_MAX);
	payload_put(largest);
	assert_null(payload_create((size_t)PAYLOAD_BYTES_MAX + 1));
	assert_null(payload_create(SIZE_MAX));

	volatile size_t too_long = SIZE_MAX; /* or the compiler warns of what is tested here */

	assert_null(payload_copy(span_make("", too_long)));
}

static void payload_counts_many_in_one_step(void **state)
{
	struct payload *payload = payload_copy(SPAN("x"));

	(void)state;
	payload_get(payload, 1000);
	payload_get(payload, 0);
	payload_put_many(payload, 600);
	payload_put_many(payload, 0);
	payload_put(payload);
	assert_int_equal(atomic_load(&payload->count), 400);
	payload_put_many(payload, 400); /* the leak checker knows whether this freed it */
}

static void payload_put_takes_null(void **state)
{
	(void)state;
	payload_put(NULL);
	payload_put_many(NULL, 7);
}

static void get_over_the_top(void)
{
	struct payload *payload = payload_copy(SPAN("x"));

	payload_get(payload, UINT32_MAX);
}

static void get_of_the_dead(void)
{
	struct payload *payload = payload_copy(SPAN("x"));

	atomic_store(&payload->count, 0);
	payload_get(payload, 1);
}

static void put_too_many(void)
{
	payload_put_many(payload_copy(SPAN("x")), 2);
}

static void payload_counts_are_checked(void **state)
{
	struct payload *payload = payload_copy(SPAN("x"));

	(void)state;
	payload_get(payload, UINT32_MAX - 1);
	assert_int_equal(atomic_load(&payload->count), UINT32_MAX);
	payload_put_many(payload, UINT32_MAX);
	assert_aborts(get_over_the_top, "check failed: before > 0");
	assert_aborts(get_of_the_dead, "check failed: before > 0");
	assert_aborts(put_too_many, "check failed: before >= count");
}

static void payload_creation_fails_without_memory(void **state)
{
	(void)state;
	allocs_until_failure = 0;
	assert_null(payload_create(10));
	assert_null(payload_copy(SPAN("abc")));
	allocs_until_failure = -1;
}

#define SHARERS 4
#define SHARES 5000

static void *share(void *argument)
{
	struct payload *payload = argument;
	uintptr_t sum = 0;

	for (uint32_t i = 0; i < SHARES; i++) {
		payload_get(payload, 1 + i % 3);
		sum += payload->data[i % payload->len];
		payload_put_many(payload, 1 + i % 3);
	}
	/* Gives up the reference it was started with: whichever thread is last frees. */
	payload_put(payload);
	return (void *)sum;
}

static void payload_is_shared_by_threads_and_freed_by_the_last(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct payload *payload = payload_create(64);
		pthread_t threads[SHARERS];

		CHECK(payload);
		memset(payload->data, 1, 64);
		payload_get(payload, SHARERS);
		for (int i = 0; i < SHARERS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, share, payload), 0);
		payload_put(payload);
		for (int i = 0; i < SHARERS; i++) {
			void *sum;

			pthread_join(threads[i], &sum);
			assert_int_equal((uintptr_t)sum, SHARES);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(payload_is_born_with_one_reference),
		cmocka_unit_test(payload_copy_holds_the_bytes),
		cmocka_unit_test(payload_refuses_more_than_the_maximum),
		cmocka_unit_test(payload_counts_many_in_one_step),
		cmocka_unit_test(payload_put_takes_null),
		cmocka_unit_test(payload_counts_are_checked),
		cmocka_unit_test(payload_creation_fails_without_memory),
		cmocka_unit_test(payload_is_shared_by_threads_and_freed_by_the_last),
	};

	return cmocka_run_group_tests_name("payload", tests, NULL, NULL);
}
