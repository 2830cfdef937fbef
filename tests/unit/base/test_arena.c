#include "unit/base/base_test.h"

#include "unit/base/failing_alloc.h"

#include "base/arena.c"

static bool is_zero(const void *memory, size_t bytes)
{
	const uint8_t *at = memory;

	for (size_t i = 0; i < bytes; i++) {
		if (at[i] != 0)
			return false;
	}
	return true;
}

static void arena_allocates_nothing_before_the_first_use(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 100);
	assert_null(arena.blocks);
	arena_finish(&arena);
}

static void arena_memory_is_aligned_zeroed_and_apart(void **state)
{
	enum { PIECES = 400 };
	struct arena arena;
	uint8_t *pieces[PIECES];
	uint64_t seed = 7;

	(void)state;
	arena_init(&arena, 1u << 20);
	for (size_t i = 0; i < PIECES; i++) {
		size_t bytes = (size_t)(random_next(&seed) % (i % 50 ? 100 : 5000)) + 4;

		pieces[i] = arena_alloc(&arena, bytes);
		assert_non_null(pieces[i]);
		assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		assert_true(is_zero(pieces[i], bytes));
		memset(pieces[i], 0xff, bytes);
		memcpy(pieces[i], &(uint32_t){ (uint32_t)i }, 4);
		if (i % 3 == 0)
			assert_int_equal(arena_copy(&arena, SPAN("odd")).len, 3);
	}
	for (size_t i = 0; i < PIECES; i++)
		assert_memory_equal(pieces[i], &(uint32_t){ (uint32_t)i }, 4);
	arena_finish(&arena);
}

static void arena_zero_bytes_are_a_place_of_their_own(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 100);

	void *first = arena_alloc(&arena, 0), *second = arena_alloc(&arena, 0);

	assert_non_null(first);
	assert_non_null(second);
	assert_ptr_not_equal(first, second);
	arena_finish(&arena);
}

static void arena_gives_exactly_its_limit(void **state)
{
	/* volatile: gcc would warn of a memset that is never reached */
	volatile size_t everything = SIZE_MAX;

	(void)state;
	for (size_t max = 1; max < 5000; max += 37) {
		struct arena arena;

		arena_init(&arena, max);
		assert_null(arena_alloc(&arena, max + 1));
		assert_null(arena_alloc(&arena, everything));
		assert_non_null(arena_alloc(&arena, max));
		assert_int_equal(arena.used_bytes, max);
		assert_null(arena_alloc(&arena, 1));
		assert_null(arena_alloc(&arena, 0));
		assert_null(arena_copy(&arena, SPAN_EMPTY).data);
		arena_finish(&arena);
		assert_int_equal(arena.used_bytes, 0);
		assert_non_null(arena_alloc(&arena, max));
		arena_finish(&arena);
	}
}

static void arena_used_never_exceeds_the_limit(void **state)
{
	uint64_t seed = 99;

	(void)state;
	for (size_t max = 0; max < 20000; max += 997) {
		struct arena arena;

		arena_init(&arena, max);
		for (int i = 0; i < 2000; i++) {
			size_t bytes = (size_t)(random_next(&seed) % 300);

			if (i & 1)
				arena_alloc(&arena, bytes);
			else
				arena_copy(&arena, span_make("", 0));
			assert_true(arena.used_bytes <= max);
		}
		arena_finish(&arena);
	}
}

static void arena_alignment_counts_against_the_limit(void **state)
{
	struct arena arena;

	(void)state;
	/* A large piece of its own leaves the first block with more room than the limit has. */
	arena_init(&arena, 4300);
	assert_non_null(arena_copy(&arena, SPAN("a")).data);
	assert_non_null(arena_alloc(&arena, 4000));
	assert_int_equal(arena.used_bytes, 4002);
	assert_null(arena_alloc(&arena, 298));
	assert_null(arena_alloc(&arena, 285));
	assert_int_equal(arena.used_bytes, 4002);
	assert_non_null(arena_alloc(&arena, 284));
	assert_int_equal(arena.used_bytes, 4300);
	arena_finish(&arena);
}

static void arena_copy_adds_a_nul(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 1000);

	struct span copy = arena_copy(&arena, SPAN("a\0b")), empty = arena_copy(&arena, SPAN_EMPTY);

	assert_true(span_equal(copy, SPAN("a\0b")));
	assert_int_equal(copy.data[3], 0);
	assert_non_null(empty.data);
	assert_int_equal(empty.len, 0);
	assert_int_equal(empty.data[0], 0);
	arena_finish(&arena);
}

static void arena_copy_counts_its_nul(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 3);
	assert_null(arena_copy(&arena, SPAN("abc")).data);
	assert_null(arena_copy(&arena, span_make("", SIZE_MAX)).data);
	assert_non_null(arena_copy(&arena, SPAN("ab")).data);
	arena_finish(&arena);
	arena_init(&arena, 0);
	assert_null(arena_copy(&arena, SPAN_EMPTY).data);
}

static void arena_large_piece_leaves_the_current_block_in_use(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 10u << 20);
	arena_alloc(&arena, 16);

	struct arena_block *current = arena.blocks;

	assert_non_null(arena_alloc(&arena, 1u << 20));
	assert_ptr_equal(arena.blocks, current);
	assert_non_null(arena_alloc(&arena, 16));
	assert_ptr_equal(arena.blocks, current);
	arena_finish(&arena);
}

static void arena_refuses_without_memory_and_goes_on_after(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 1u << 20);
	for (int round = 0; round < 3; round++) {
		size_t used = arena.used_bytes;

		allocs_until_failure = 0;
		assert_null(arena_alloc(&arena, 100000));
		assert_null(arena_copy(&arena, span_make((uint8_t[5000]){ 0 }, 5000)).data);
		assert_int_equal(arena.used_bytes, used);
		allocs_until_failure = -1;
		assert_non_null(arena_alloc(&arena, 1000));
	}
	arena_finish(&arena);
}

static void arena_keep_frees_all_but_what_is_kept(void **state)
{
	struct arena arena;
	struct span one, two, none = SPAN_EMPTY;

	(void)state;
	arena_init(&arena, 100000);
	one = arena_copy(&arena, SPAN("one"));
	assert_non_null(arena_alloc(&arena, 50000));
	two = arena_copy(&arena, SPAN("second"));
	arena_keep(&arena, (struct span *const[]){&one, &none, &two}, 3);
	assert_true(span_equal(one, SPAN("one")) && span_equal(two, SPAN("second")));
	assert_int_equal(one.data[3], 0);
	assert_null(none.data);
	assert_int_equal(arena.used_bytes, 4 + 7);
	assert_int_equal(arena.blocks->cap, 4 + 7);
	assert_null(arena.blocks->next);
	/* it goes on as before */
	assert_non_null(arena_alloc(&arena, 1000));
	assert_true(span_equal(one, SPAN("one")));
	arena_keep(&arena, (struct span *const[]){&none}, 1);
	assert_null(arena.blocks);
	assert_int_equal(arena.used_bytes, 0);
	arena_finish(&arena);
}

static void arena_keep_keeps_everything_without_memory(void **state)
{
	struct arena arena;
	struct span one;

	(void)state;
	arena_init(&arena, 100000);
	one = arena_copy(&arena, SPAN("one"));

	uint8_t *other = arena_alloc(&arena, 10);

	allocs_until_failure = 0;
	arena_keep(&arena, (struct span *const[]){&one}, 1);
	allocs_until_failure = -1;
	other[9] = 1;
	assert_true(span_equal(one, SPAN("one")));
	arena_finish(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_allocates_nothing_before_the_first_use),
		cmocka_unit_test(arena_memory_is_aligned_zeroed_and_apart),
		cmocka_unit_test(arena_zero_bytes_are_a_place_of_their_own),
		cmocka_unit_test(arena_gives_exactly_its_limit),
		cmocka_unit_test(arena_used_never_exceeds_the_limit),
		cmocka_unit_test(arena_alignment_counts_against_the_limit),
		cmocka_unit_test(arena_copy_adds_a_nul),
		cmocka_unit_test(arena_copy_counts_its_nul),
		cmocka_unit_test(arena_large_piece_leaves_the_current_block_in_use),
		cmocka_unit_test(arena_refuses_without_memory_and_goes_on_after),
		cmocka_unit_test(arena_keep_frees_all_but_what_is_kept),
		cmocka_unit_test(arena_keep_keeps_everything_without_memory),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
