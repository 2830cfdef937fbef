#include "unit/base/base_test.h"

#include "unit/base/failing_alloc.h"

#include "base/slab.c"

static void slab_objects_are_aligned_zeroed_and_apart(void **state)
{
	static const size_t sizes[] = { 1, 8, 17, 200, 5000, 40000 };

	(void)state;
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
		struct slab slab;
		uint8_t *objects[100];

		slab_init(&slab, sizes[s], ARRAY_LEN(objects));
		for (int round = 0; round < 2; round++) {
			for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
				objects[i] = slab_alloc(&slab);
				assert_non_null(objects[i]);
				assert_int_equal((uintptr_t)objects[i] % _Alignof(max_align_t), 0);
				for (size_t at = 0; at < sizes[s]; at++)
					assert_int_equal(objects[i][at], 0);
				memset(objects[i], (int)i + 1, sizes[s]);
			}
			for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
				assert_int_equal(objects[i][0], i + 1);
				assert_int_equal(objects[i][sizes[s] - 1], i + 1);
				slab_free(&slab, objects[i]);
			}
		}
		slab_finish(&slab);
	}
}

static void slab_objects_of_whole_cache_lines_begin_at_one(void **state)
{
	static const size_t sizes[] = {64, 128, 448, 1024, 64 * 1000};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct slab slab;
		uint8_t *objects[80];

		slab_init(&slab, sizes[i], 1000);
		for (size_t n = 0; n < 80; n++) {
			objects[n] = slab_alloc(&slab);
			assert_int_equal((uintptr_t)objects[n] % 64, 0);
			memset(objects[n], 1, sizes[i]);
		}
		for (size_t n = 0; n < 80; n++)
			slab_free(&slab, objects[n]);
		slab_finish(&slab);
	}
}

static void slab_gives_max_count_and_not_one_more(void **state)
{
	struct slab slab;
	void *objects[3];

	(void)state;
	slab_init(&slab, 24, 3);
	for (int i = 0; i < 3; i++)
		objects[i] = slab_alloc(&slab);
	assert_null(slab_alloc(&slab));
	assert_int_equal(slab.live_count, 3);
	slab_free(&slab, objects[1]);
	assert_ptr_equal(slab_alloc(&slab), objects[1]);
	assert_null(slab_alloc(&slab));
	for (int i = 0; i < 3; i++)
		slab_free(&slab, objects[i]);
	slab_finish(&slab);

	slab_init(&slab, 24, 0);
	assert_null(slab_alloc(&slab));
	slab_finish(&slab);
}

static void slab_free_takes_null(void **state)
{
	struct slab slab;

	(void)state;
	slab_init(&slab, 24, 3);
	slab_free(&slab, NULL);
	assert_int_equal(slab.live_count, 0);
	slab_finish(&slab);
}

static void slab_survives_random_use(void **state)
{
	struct slab slab;
	uint32_t *objects[500] = { NULL };
	uint64_t seed = 3;
	size_t live = 0;

	(void)state;
	slab_init(&slab, 40, 400);
	for (int i = 0; i < 20000; i++) {
		size_t at = (size_t)(random_next(&seed) % ARRAY_LEN(objects));

		if (objects[at]) {
			assert_int_equal(*objects[at], at);
			slab_free(&slab, objects[at]);
			objects[at] = NULL;
			live--;
		} else {
			objects[at] = slab_alloc(&slab);
			assert_int_equal(objects[at] != NULL, live < 400);
			if (objects[at]) {
				*objects[at] = (uint32_t)at;
				live++;
			}
		}
		assert_int_equal(slab.live_count, live);
	}
	for (size_t i = 0; i < ARRAY_LEN(objects); i++)
		slab_free(&slab, objects[i]);
	slab_finish(&slab);
}

static void finish_with_one_out(void)
{
	struct slab slab;

	slab_init(&slab, 24, 3);
	slab_alloc(&slab);
	slab_finish(&slab);
}

static void free_one_too_many(void)
{
	struct slab slab;

	slab_init(&slab, 24, 3);

	void *object = slab_alloc(&slab);

	slab_free(&slab, object);
	slab_free(&slab, object);
}

static void slab_checks_its_balance(void **state)
{
	(void)state;
	assert_aborts(finish_with_one_out, "check failed: slab->live_count == 0");
	assert_aborts(free_one_too_many, "check failed: slab->live_count > 0");
}

static void slab_refuses_without_memory_and_goes_on_after(void **state)
{
	struct slab slab;

	(void)state;
	slab_init(&slab, 24, 3);
	allocs_until_failure = 0;
	assert_null(slab_alloc(&slab));
	assert_int_equal(slab.live_count, 0);
	allocs_until_failure = -1;

	void *object = slab_alloc(&slab);

	assert_non_null(object);
	slab_free(&slab, object);
	slab_finish(&slab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slab_objects_are_aligned_zeroed_and_apart),
		cmocka_unit_test(slab_objects_of_whole_cache_lines_begin_at_one),
		cmocka_unit_test(slab_gives_max_count_and_not_one_more),
		cmocka_unit_test(slab_free_takes_null),
		cmocka_unit_test(slab_survives_random_use),
		cmocka_unit_test(slab_checks_its_balance),
		cmocka_unit_test(slab_refuses_without_memory_and_goes_on_after),
	};

	return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
