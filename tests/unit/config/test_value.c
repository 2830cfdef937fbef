/* value: durations, sizes and booleans as rows; what is written parses back. */
#include "config/value.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

static void duration_takes_units_large_before_small(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int error;
		uint64_t ms;
	} rows[] = {
		{ "0", 0, 0 },
		{ "0s", 0, 0 },
		{ "250ms", 0, 250 },
		{ "5s", 0, 5000 },
		{ "1m30s", 0, 90000 },
		{ "1m", 0, 60000 },
		{ "2h", 0, 7200000 },
		{ "1h1m1s1ms", 0, 3661001 },
		{ "1h1ms", 0, 3600001 },
		{ "90m", 0, 5400000 },
		{ "007s", 0, 7000 },
		{ "18446744073709551615ms", 0, UINT64_MAX },
		{ "18446744073709551616ms", -ERANGE, 0 },
		{ "18446744073709551615s", -ERANGE, 0 },
		{ "18446744073709551s616ms", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "5", -EINVAL, 0 },
		{ "00", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "5 s", -EINVAL, 0 },
		{ " 5s", -EINVAL, 0 },
		{ "5s ", -EINVAL, 0 },
		{ "-5s", -EINVAL, 0 },
		{ "+5s", -EINVAL, 0 },
		{ "1.5s", -EINVAL, 0 },
		{ "5S", -EINVAL, 0 },
		{ "5sec", -EINVAL, 0 },
		{ "1d", -EINVAL, 0 },
		{ "5us", -EINVAL, 0 },
		{ "30s1m", -EINVAL, 0 },
		{ "1s1s", -EINVAL, 0 },
		{ "1m30", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		uint64_t ms = 0;
		int error = value_parse_duration(span_from_cstr(rows[i].text), &ms);

		if (error != rows[i].error || ms != rows[i].ms)
			fail_msg("\"%s\": %d, %llu", rows[i].text, error, (unsigned long long)ms);
	}
}

static void size_takes_bytes_and_binary_units(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int error;
		uint64_t bytes;
	} rows[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "16KiB", 0, 16384 },
		{ "4MiB", 0, 4194304 },
		{ "1GiB", 0, 1073741824 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "18014398509481984KiB", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "KiB", -EINVAL, 0 },
		{ "1 KiB", -EINVAL, 0 },
		{ "1K", -EINVAL, 0 },
		{ "1KB", -EINVAL, 0 },
		{ "1kib", -EINVAL, 0 },
		{ "1MiB1KiB", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		uint64_t bytes = 0;
		int error = value_parse_size(span_from_cstr(rows[i].text), &bytes);

		if (error != rows[i].error || bytes != rows[i].bytes)
			fail_msg("\"%s\": %d, %llu", rows[i].text, error,
				 (unsigned long long)bytes);
	}
}

static void bool_takes_four_words(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "True", "yes", "on", "2", "true ", "01" };
	bool flag = false;

	assert_int_equal(value_parse_bool(SPAN("true"), &flag), 0);
	assert_true(flag);
	assert_int_equal(value_parse_bool(SPAN("false"), &flag), 0);
	assert_false(flag);
	assert_int_equal(value_parse_bool(SPAN("1"), &flag), 0);
	assert_true(flag);
	assert_int_equal(value_parse_bool(SPAN("0"), &flag), 0);
	assert_false(flag);
	for (size_t i = 0; i < ROWS(bad); i++)
		assert_int_equal(value_parse_bool(span_from_cstr(bad[i]), &flag), -EINVAL);
}

static void what_is_written_parses_back(void **state)
{
	(void)state;
	static const uint64_t numbers[] = {
		0, 1, 250, 999, 1000, 1001, 59999, 60000, 90000, 3599999, 3600000, 86400000,
		1023, 1024, 1025, 1048576, 1048577, 1073741824, 1099511627776, UINT64_MAX,
	};

	for (size_t i = 0; i < ROWS(numbers); i++) {
		struct value_text text = value_format_duration(numbers[i]);
		uint64_t back = 42;

		assert_int_equal(value_parse_duration(span_from_cstr(text.text), &back), 0);
		assert_true(back == numbers[i]);
		text = value_format_size(numbers[i]);
		assert_int_equal(value_parse_size(span_from_cstr(text.text), &back), 0);
		assert_true(back == numbers[i]);
	}
	assert_string_equal(value_format_duration(90000).text, "1m30s");
	assert_string_equal(value_format_size(16384).text, "16KiB");
	assert_string_equal(value_format_size(1536).text, "1536");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(duration_takes_units_large_before_small),
		cmocka_unit_test(size_takes_bytes_and_binary_units),
		cmocka_unit_test(bool_takes_four_words),
		cmocka_unit_test(what_is_written_parses_back),
	};

	return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}
