#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis/client.h"

#include "unit/base/failing_alloc.h"

#include "../src/redis/pipeline.c"

static void pipeline_keeps_order_while_it_grows(void **state)
{
	struct pipeline pipeline;
	uint64_t expected = 0, pushed = 0;

	(void)state;
	pipeline_init(&pipeline);
	assert_null(pipeline_oldest(&pipeline));
	/* Three in, one out: it grows with its start at every offset. */
	while (pipeline.next - pipeline.first < REDIS_IN_FLIGHT_MAX) {
		for (int i = 0; i < 3 && pipeline.next - pipeline.first < REDIS_IN_FLIGHT_MAX;
		     i++) {
			assert_int_equal(pipeline_reserve(&pipeline), 0);
			assert_int_equal(pipeline_push(&pipeline,
						       (struct pipeline_entry){.sent_ms = pushed}),
					 pushed);
			pushed++;
		}
		if (pipeline.next - pipeline.first == REDIS_IN_FLIGHT_MAX)
			break;
		assert_int_equal(pipeline_oldest(&pipeline)->sent_ms, expected);
		assert_int_equal(pipeline_pop(&pipeline).sent_ms, expected++);
	}
	assert_int_equal(pipeline_reserve(&pipeline), -ENOBUFS);
	while (!pipeline_is_empty(&pipeline))
		assert_int_equal(pipeline_pop(&pipeline).sent_ms, expected++);
	assert_int_equal(expected, pushed);
	pipeline_finish(&pipeline);
}

static void pipeline_without_memory_keeps_what_it_has(void **state)
{
	struct pipeline pipeline;

	(void)state;
	pipeline_init(&pipeline);
	allocs_until_failure = 0;
	assert_int_equal(pipeline_reserve(&pipeline), -ENOMEM);
	allocs_until_failure = 1;
	for (uint64_t i = 0; i < FIRST_CAP; i++) {
		assert_int_equal(pipeline_reserve(&pipeline), 0);
		pipeline_push(&pipeline, (struct pipeline_entry){.sent_ms = i});
	}
	assert_int_equal(pipeline_reserve(&pipeline), -ENOMEM);
	allocs_until_failure = -1;
	assert_int_equal(pipeline_reserve(&pipeline), 0);
	for (uint64_t i = 0; i < FIRST_CAP; i++)
		assert_int_equal(pipeline_pop(&pipeline).sent_ms, i);
	assert_true(pipeline_is_empty(&pipeline));
	pipeline_finish(&pipeline);
}

static void pipeline_buries_one_and_keeps_its_place(void **state)
{
	struct redis_call calls[3] = {0};
	struct pipeline pipeline;
	uint64_t sequences[3];

	(void)state;
	pipeline_init(&pipeline);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pipeline_reserve(&pipeline), 0);
		sequences[i] = pipeline_push(&pipeline, (struct pipeline_entry){.call = &calls[i]});
	}
	pipeline_bury(&pipeline, sequences[1]);
	assert_ptr_equal(pipeline_pop(&pipeline).call, &calls[0]);
	assert_null(pipeline_pop(&pipeline).call);
	assert_ptr_equal(pipeline_pop(&pipeline).call, &calls[2]);
	pipeline_finish(&pipeline);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pipeline_keeps_order_while_it_grows),
		cmocka_unit_test(pipeline_without_memory_keeps_what_it_has),
		cmocka_unit_test(pipeline_buries_one_and_keeps_its_place),
	};

	return cmocka_run_group_tests_name("redis pipeline", tests, NULL, NULL);
}
