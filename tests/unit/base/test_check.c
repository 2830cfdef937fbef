#include "unit/base/base_test.h"

#include "base/check.h"
#include "base/metric.h"

static void break_invariant(void)
{
	int three = 3;

	CHECK(three == 4);
}

static void reach_unreachable(void)
{
	UNREACHABLE("three is not four");
}

static void fail_at_length(void)
{
	char text[2000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	check_failed("file.c", 7, text);
}

static void check_passes_when_true(void **state)
{
	(void)state;
	CHECK(1 + 1 == 2);
}

static void check_aborts_and_names_place_and_text(void **state)
{
	(void)state;
	assert_aborts(break_invariant, "test_check.c:10: check failed: three == 4\n");
}

static void unreachable_aborts_and_says_why(void **state)
{
	(void)state;
	assert_aborts(reach_unreachable, "unreachable: three is not four\n");
}

static void check_failed_cuts_a_long_text_and_still_ends_the_line(void **state)
{
	char said[1024];

	(void)state;
	assert_true(aborts(fail_at_length, said, sizeof(said)));
	assert_int_equal(strlen(said), 511);
	assert_int_equal(said[510], '\n');
	assert_memory_equal(said, "file.c:7: check failed: xxx", 27);
}

static void count_if_counts_only_what_is_true(void **state)
{
	struct metric_counter counter = { 0 };
	int faults = 0;

	(void)state;
	for (int size = 0; size < 10; size++) {
		if (COUNT_IF(size > 6, &counter))
			faults++;
	}
	assert_int_equal(faults, 3);
	assert_int_equal(metric_value(&counter), 3);
}

static void count_if_yields_true_for_any_nonzero_condition(void **state)
{
	struct metric_counter counter = { 0 };

	(void)state;
	assert_true(COUNT_IF(0x100, &counter) == 1);
	assert_int_equal(metric_value(&counter), 1);
}

struct outer {
	char before[3];
	uint64_t member;
};

static void container_of_finds_the_owner(void **state)
{
	struct outer outer = { .member = 1 };

	(void)state;
	assert_ptr_equal(CONTAINER_OF(&outer.member, struct outer, member), &outer);
}

static void array_len_counts_entries(void **state)
{
	uint64_t seven[7];

	(void)state;
	assert_int_equal(ARRAY_LEN(seven), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(check_passes_when_true),
		cmocka_unit_test(check_aborts_and_names_place_and_text),
		cmocka_unit_test(unreachable_aborts_and_says_why),
		cmocka_unit_test(check_failed_cuts_a_long_text_and_still_ends_the_line),
		cmocka_unit_test(count_if_counts_only_what_is_true),
		cmocka_unit_test(count_if_yields_true_for_any_nonzero_condition),
		cmocka_unit_test(container_of_finds_the_owner),
		cmocka_unit_test(array_len_counts_entries),
	};

	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
