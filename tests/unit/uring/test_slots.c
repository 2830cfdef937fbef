#include "unit/uring/rig.h"

static struct op ops[4];

static void a_slot_is_found_by_its_user_data_until_released(void **state)
{
	(void)state;
	struct slots slots;

	slots_init(&slots);
	uint32_t a = slots_take(&slots, &ops[0]);
	uint32_t b = slots_take(&slots, &ops[1]);
	uint64_t data_a = slots_user_data(&slots, a, RING_SEND);
	uint64_t data_b = slots_user_data(&slots, b, RING_RECEIVE);

	assert_int_not_equal(a, b);
	assert_int_equal(slots.used_count, 2);
	assert_ptr_equal(slots_find(&slots, data_a), &ops[0]);
	assert_ptr_equal(slots_find(&slots, data_b), &ops[1]);
	slots_release(&slots, a);
	assert_null(slots_find(&slots, data_a));
	assert_ptr_equal(slots_find(&slots, data_b), &ops[1]);
	assert_int_equal(slots.used_count, 1);
	slots_finish(&slots);
}

static void a_slot_used_again_does_not_answer_to_its_old_user_data(void **state)
{
	(void)state;
	struct slots slots;

	slots_init(&slots);
	uint32_t first = slots_take(&slots, &ops[0]);
	uint64_t old = slots_user_data(&slots, first, RING_SEND);

	slots_release(&slots, first);
	uint32_t again = slots_take(&slots, &ops[1]);

	assert_int_equal(again, first);
	assert_null(slots_find(&slots, old));
	assert_ptr_equal(slots_find(&slots, slots_user_data(&slots, again, RING_SEND)), &ops[1]);
	slots_release(&slots, again);
	slots_finish(&slots);
}

static void user_data_carries_kind_generation_and_slot(void **state)
{
	(void)state;
	static const struct {
		uint8_t kind;
		uint32_t generation, slot;
	} rows[] = {
		{0, 0, 0},
		{RING_MESSAGE, 1, 2},
		{255, (1u << 24) - 1, UINT32_MAX},
		{7, 0x00800000, 0x80000000},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t data = user_data_make(rows[i].kind, rows[i].generation, rows[i].slot);

		assert_int_equal(user_data_kind(data), rows[i].kind);
		assert_int_equal(user_data_generation(data), rows[i].generation);
		assert_int_equal(user_data_slot(data), rows[i].slot);
	}
	/* A generation that is too wide must not reach into the kind. */
	assert_int_equal(user_data_kind(user_data_make(3, UINT32_MAX, 0)), 3);
}

static void generations_wrap_at_24_bits(void **state)
{
	(void)state;
	struct slots slots;

	slots_init(&slots);
	uint32_t index = slots_take(&slots, &ops[0]);

	slots.table[index].generation = (1u << 24) - 1;
	assert_ptr_equal(slots_find(&slots, slots_user_data(&slots, index, 0)), &ops[0]);
	slots_release(&slots, index);
	assert_int_equal(slots.table[index].generation, 0);
	slots_finish(&slots);
}

static void foreign_user_data_finds_nothing(void **state)
{
	(void)state;
	struct slots slots;

	slots_init(&slots);
	assert_null(slots_find(&slots, 0));
	uint32_t index = slots_take(&slots, &ops[0]);

	assert_null(slots_find(&slots, user_data_make(0, 0, USER_DATA_NO_SLOT)));
	assert_null(slots_find(&slots, user_data_make(0, 0, slots.count)));
	assert_null(slots_find(&slots, user_data_make(0, 0, index + 1)));
	slots_release(&slots, index);
	slots_finish(&slots);
}

static void the_table_grows_to_its_bound_and_refuses_there(void **state)
{
	(void)state;
	struct slots slots;

	slots_init(&slots);
	uint64_t first = 0;

	for (uint32_t i = 0; i < WORKER_OPS_MAX; i++) {
		uint32_t index = slots_take(&slots, &ops[i % 4]);

		assert_int_equal(index, i);
		if (i == 0)
			first = slots_user_data(&slots, index, RING_POLL);
	}
	assert_int_equal(slots_take(&slots, &ops[0]), USER_DATA_NO_SLOT);
	/* Growth moved the table; what was handed out before still counts. */
	assert_ptr_equal(slots_find(&slots, first), &ops[0]);
	slots_release(&slots, 4711);
	assert_int_equal(slots_take(&slots, &ops[1]), 4711);
	slots_finish(&slots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slot_is_found_by_its_user_data_until_released),
		cmocka_unit_test(a_slot_used_again_does_not_answer_to_its_old_user_data),
		cmocka_unit_test(user_data_carries_kind_generation_and_slot),
		cmocka_unit_test(generations_wrap_at_24_bits),
		cmocka_unit_test(foreign_user_data_finds_nothing),
		cmocka_unit_test(the_table_grows_to_its_bound_and_refuses_there),
	};
	return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
