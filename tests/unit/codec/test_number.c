#include "base/check.h"
#include "codec/number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROUNDS 200000

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static const struct {
	double value;
	const char *text;
} doubles[] = {
	{0, "0"},
	{-0.0, "-0.0"},
	{1, "1"},
	{-1, "-1"},
	{0.1, "0.1"},
	{1.5, "1.5"},
	{4.35, "4.35"},
	{100, "100"},
	{123456.789, "123456.789"},
	{1e-6, "0.000001"},
	{1e-7, "1e-7"},
	{1.25e-7, "1.25e-7"},
	{1e20, "100000000000000000000"},
	{1e21, "1e21"},
	{1.5e300, "1.5e300"},
	{9007199254740991.0, "9007199254740991"},
	{9007199254740992.0, "9007199254740992"},
	{9007199254740994.0, "9007199254740994"},
	{5e-324, "5e-324"},
	{2.2250738585072014e-308, "2.2250738585072014e-308"},
	{1.7976931348623157e308, "1.7976931348623157e308"},
	{-1.7976931348623157e308, "-1.7976931348623157e308"},
	{0.30000000000000004, "0.30000000000000004"},
	{2.0 / 3, "0.6666666666666666"},
};

static void double_is_written_shortest(void **state)
{
	uint8_t text[NUMBER_TEXT_BYTES + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(doubles); i++) {
		*number_write_double(text, doubles[i].value) = 0;
		assert_string_equal((char *)text, doubles[i].text);
	}
}

static void float_is_written_shortest(void **state)
{
	static const struct {
		float value;
		const char *text;
	} rows[] = {
		{0.1f, "0.1"},		 {3.4028235e38f, "3.4028235e38"},
		{1e-45f, "1e-45"},	 {16777216, "16777216"},
		{-0.0f, "-0.0"},	 {1.17549435e-38f, "1.1754944e-38"},
		{123456.7f, "123456.7"}, {2.5f, "2.5"},
	};
	uint8_t text[NUMBER_TEXT_BYTES + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		*number_write_float(text, rows[i].value) = 0;
		assert_string_equal((char *)text, rows[i].text);
	}
}

/* Every text reads back as what it was, by libc and by us, and with one digit less it would not. */
static void random_doubles_come_back(void **state)
{
	uint64_t random = 88172645463325252u;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t bits = next_random(&random);
		uint8_t text[NUMBER_TEXT_BYTES + 1];
		struct number number;
		double value;

		if (i % 3 == 1)
			bits &= ~UINT64_C(0xffffffff);
		memcpy(&value, &bits, sizeof(value));
		if (i % 3 == 2)
			value = (double)(int64_t)(bits % 2000000000) / 1e4;
		if (!isfinite(value))
			continue;

		uint8_t *end = number_write_double(text, value);
		size_t len = (size_t)(end - text);

		*end = 0;
		assert_true(len <= NUMBER_TEXT_BYTES);
		assert_true(strtod((char *)text, NULL) == value);
		assert_int_equal(number_scan(span_make(text, len), &number), len);
		assert_true(number_to_double(&number) == value);
	}
}

static void random_floats_come_back(void **state)
{
	uint64_t random = 1234567;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t bits = (uint32_t)next_random(&random);
		uint8_t text[NUMBER_TEXT_BYTES + 1];
		struct number number;
		float value;

		memcpy(&value, &bits, sizeof(value));
		if (!isfinite(value))
			continue;

		uint8_t *end = number_write_float(text, value);
		size_t len = (size_t)(end - text);

		*end = 0;
		assert_true(strtof((char *)text, NULL) == value);
		assert_int_equal(number_scan(span_make(text, len), &number), len);
		assert_true(number_to_float(&number) == value);
	}
}

/* Decimals of any length and exponent are read as libc reads them. */
static void random_decimals_are_read_to_the_nearest(void **state)
{
	uint64_t random = 42;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = next_random(&random), digits = next_random(&random);
		char text[64];
		int len = snprintf(text, sizeof(text), "%s%u.%0*llue%d", word & 1 ? "-" : "",
				   (unsigned)(word >> 1 & 7), (int)(word >> 4 & 15) + 1,
				   (unsigned long long)(digits >> (word >> 8 & 63)),
				   (int)(word >> 20 & 1023) % 660 - 340);
		struct number number;

		assert_int_equal(number_scan(span_make(text, (size_t)len), &number), len);
		assert_true(number_to_double(&number) == strtod(text, NULL));
		assert_true(number_to_float(&number) == strtof(text, NULL));
	}
}

static const char *const hard[] = {
	/* halfway between two, and a little more and less */
	"9007199254740993",
	"9007199254740993.00000000000000000000000000000000000001",
	"9007199254740992.99999999999999999999999999999999999999",
	"7604857066509429.50",
	"2.2250738585072011e-308",
	"2.2250738585072012e-308",
	"4.9406564584124654e-324",
	"2.4703282292062327208299439634110764623e-324",
	"2.47e-324",
	"1.7976931348623158e308",
	"1.7976931348623159e308",
	"1e309",
	"1e-400",
	"123456789012345678901234567890",
	"0.000000000000000000000000000000000000000000000001234567890123456789012345",
	"1e23",
	"8.5e22",
	"16777217",
	"16777217.0000001",
	"1.00000017881393421514957253748434595763683319",
	"340282356779733661637539395458142568448",
	"3.4028235677973366e38",
	"1e00000000000000005",
	"0e999999999999",
	"1e-999999999999",
	"0.0",
	"-0e0",
};

static void hard_decimals_are_read_to_the_nearest(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hard); i++) {
		struct number number;

		assert_int_equal(number_scan(span_from_cstr(hard[i]), &number), strlen(hard[i]));
		if (number_to_double(&number) != strtod(hard[i], NULL))
			fail_msg("%s as a double", hard[i]);
		if (number_to_float(&number) != strtof(hard[i], NULL))
			fail_msg("%s as a float", hard[i]);
	}
}

static const struct {
	const char *text;
	bool is_whole;
	uint64_t magnitude;
} wholes[] = {
	{"0", true, 0},
	{"-0", true, 0},
	{"1", true, 1},
	{"1.0", true, 1},
	{"1.000000000000000000000000000000000000", true, 1},
	{"10e-1", true, 1},
	{"1e3", true, 1000},
	{"1.25e2", true, 125},
	{"1.25e1", false, 0},
	{"0.1", false, 0},
	{"1e-1", false, 0},
	{"0e-5", true, 0},
	{"0.000e99999999999", true, 0},
	{"18446744073709551615", true, UINT64_MAX},
	{"18446744073709551615.0", true, UINT64_MAX},
	{"1844674407370955161.5e1", true, UINT64_MAX},
	{"18446744073709551616", false, 0},
	{"184467440737095516150e-1", true, UINT64_MAX},
	{"184467440737095516151e-1", false, 0},
	{"99999999999999999999", false, 0},
	{"1e19", true, UINT64_C(10000000000000000000)},
	{"1e20", false, 0},
	{"1e400", false, 0},
	{"9223372036854775808", true, UINT64_C(9223372036854775808)},
};

static void whole_numbers_are_told_from_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wholes); i++) {
		struct number number;
		uint64_t magnitude;

		assert_int_equal(number_scan(span_from_cstr(wholes[i].text), &number),
				 strlen(wholes[i].text));

		bool is_whole = number_to_uint64(&number, &magnitude);

		if (is_whole != wholes[i].is_whole ||
		    (is_whole && magnitude != wholes[i].magnitude))
			fail_msg("%s", wholes[i].text);
	}
}

static const struct {
	const char *text;
	size_t taken;
} grammar[] = {
	{"", 0},      {"-", 0},	       {"+1", 0},  {"01", 0},	    {"-01", 0},
	{"00", 0},    {".5", 0},       {"1.", 0},  {"1.e1", 0},	    {"1e", 0},
	{"1e+", 0},   {"1E-", 0},      {"a", 0},   {"NaN", 0},	    {"1 ", 1},
	{"1,", 1},    {"1a", 1},       {"0x1", 1}, {"1e5e", 3},	    {"1-", 1},
	{"0.5.5", 3}, {"-0.5e+3]", 7}, {"--1", 0}, {"Infinity", 0}, {"1_000", 1},
};

static void grammar_is_json_s(void **state)
{
	struct number number;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(grammar); i++) {
		size_t len = strlen(grammar[i].text);
		char *copy = malloc(len + 1);

		assert_non_null(copy);
		memcpy(copy, grammar[i].text, len);
		if (number_scan(span_make(copy, len), &number) != grammar[i].taken)
			fail_msg("\"%s\"", grammar[i].text);
		free(copy);
	}
}

static void number_of_too_many_digits_is_refused(void **state)
{
	char *text = malloc(NUMBER_BYTES_MAX + 1);
	struct number number;

	(void)state;
	assert_non_null(text);
	memset(text, '1', NUMBER_BYTES_MAX + 1);
	assert_int_equal(number_scan(span_make(text, NUMBER_BYTES_MAX), &number), NUMBER_BYTES_MAX);
	assert_true(isinf(number_to_double(&number)));
	assert_int_equal(number_scan(span_make(text, NUMBER_BYTES_MAX + 1), &number), 0);
	free(text);
}

static void integers_are_written_in_decimal(void **state)
{
	uint64_t value = 1, random = 99;
	char expected[32];
	uint8_t text[NUMBER_TEXT_BYTES + 1];

	(void)state;
	for (int i = 0; i < 3000; i++) {
		for (uint64_t near = value - 1; near <= value + 1 && near + 1 != 0; near++) {
			snprintf(expected, sizeof(expected), "%llu", (unsigned long long)near);
			*number_write_uint64(text, near) = 0;
			assert_string_equal((char *)text, expected);
			snprintf(expected, sizeof(expected), "%lld", (long long)near);
			*number_write_int64(text, (int64_t)near) = 0;
			assert_string_equal((char *)text, expected);
		}
		value = i < 19 ? value * 10 : next_random(&random) >> (i % 64);
	}
	*number_write_uint64(text, UINT64_MAX) = 0;
	assert_string_equal((char *)text, "18446744073709551615");
	*number_write_int64(text, INT64_MIN) = 0;
	assert_string_equal((char *)text, "-9223372036854775808");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(double_is_written_shortest),
		cmocka_unit_test(float_is_written_shortest),
		cmocka_unit_test(random_doubles_come_back),
		cmocka_unit_test(random_floats_come_back),
		cmocka_unit_test(random_decimals_are_read_to_the_nearest),
		cmocka_unit_test(hard_decimals_are_read_to_the_nearest),
		cmocka_unit_test(whole_numbers_are_told_from_others),
		cmocka_unit_test(grammar_is_json_s),
		cmocka_unit_test(number_of_too_many_digits_is_refused),
		cmocka_unit_test(integers_are_written_in_decimal),
	};

	return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
