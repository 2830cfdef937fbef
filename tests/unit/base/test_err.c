#include "unit/base/base_test.h"

#include "base/check.h"
#include "base/err.h"

static void err_rows_answer_by_name(void **state)
{
	const struct err_row *row = err_row(ERR_REPLAY);

	(void)state;
	assert_string_equal(row->name, "REPLAY");
	assert_string_equal(row->text, "request replay detected");
	assert_int_equal(row->http_status, 409);
	assert_string_equal(row->http_code, "replayed");
	assert_int_equal(row->grpc, GRPC_FAILED_PRECONDITION);
	assert_string_equal(row->step, "replay");
	assert_null(err_row(ERR_DEADLINE)->step);
	assert_int_equal(err_row(ERR_NONE)->grpc, GRPC_OK);
}

static void err_rows_are_all_complete(void **state)
{
	(void)state;
	for (int i = 0; i < ERR_COUNT; i++) {
		const struct err_row *row = err_row((enum err)i);

		assert_non_null(row->name);
		assert_non_null(row->text);
		assert_non_null(row->http_code);
		if (i == ERR_NONE)
			continue;
		assert_true(row->text[0] != '\0');
		assert_in_range(row->http_status, 400, 599);
		assert_in_range(row->grpc, 1, GRPC_STATUS_COUNT - 1);
	}
}

static void ask_for_no_row(void)
{
	err_row(ERR_COUNT);
}

static void err_row_checks_its_number(void **state)
{
	(void)state;
	assert_aborts(ask_for_no_row, "err");
}

static void grpc_status_names_are_those_of_the_protocol(void **state)
{
	static const char *const names[] = {
		"OK",
		"CANCELLED",
		"UNKNOWN",
		"INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED",
		"NOT_FOUND",
		"ALREADY_EXISTS",
		"PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION",
		"ABORTED",
		"OUT_OF_RANGE",
		"UNIMPLEMENTED",
		"INTERNAL",
		"UNAVAILABLE",
		"DATA_LOSS",
		"UNAUTHENTICATED",
	};

	(void)state;
	assert_int_equal(ARRAY_LEN(names), GRPC_STATUS_COUNT);
	for (int i = 0; i < GRPC_STATUS_COUNT; i++)
		assert_string_equal(grpc_status_name(i), names[i]);
	assert_string_equal(grpc_status_name(-1), "UNKNOWN");
	assert_string_equal(grpc_status_name(GRPC_STATUS_COUNT), "UNKNOWN");
	assert_string_equal(grpc_status_name(INT32_MIN), "UNKNOWN");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_rows_answer_by_name),
		cmocka_unit_test(err_rows_are_all_complete),
		cmocka_unit_test(err_row_checks_its_number),
		cmocka_unit_test(grpc_status_names_are_those_of_the_protocol),
	};

	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
