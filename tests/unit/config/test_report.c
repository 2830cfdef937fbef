/* report: lines, quoting, and the distance of names. */
#include "config/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void report_counts_mistakes_even_when_full(void **state)
{
	(void)state;
	struct buf out;
	struct report report = { .out = &out };

	buf_init(&out, 20);
	report_mistake(&report, "A", "%d", 1);
	report_warning(&report, "B", "w");
	report_mistake(&report, "C", "a line that does not fit");
	assert_int_equal(report.mistake_count, 2);
	assert_true(span_equal(buf_span(&out), SPAN("A: 1\nwarning: B: w\n")));
	buf_finish(&out);
}

static void quoted_shows_foreign_text_safely(void **state)
{
	(void)state;
	char lots[200];

	memset(lots, '\xff', sizeof(lots));
	assert_string_equal(quoted_make(SPAN("plain")).text, "\"plain\"");
	assert_string_equal(quoted_make(SPAN("")).text, "\"\"");
	assert_string_equal(quoted_make(SPAN("a\n\x1b\"\\\0")).text,
			    "\"a\\x0a\\x1b\\x22\\x5c\\x00\"");

	struct quoted cut = quoted_make(span_make(lots, sizeof(lots)));

	assert_int_equal(strlen(cut.text), QUOTED_MAX * 4 + 5);
	assert_string_equal(cut.text + strlen(cut.text) - 4, "\"...");
}

static void distance_counts_slips_of_the_pen(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		size_t steps;
	} rows[] = {
		{ "", "", 0 },          { "abc", "abc", 0 },   { "", "abc", 3 },
		{ "abc", "", 3 },       { "abc", "abd", 1 },   { "abc", "ab", 1 },
		{ "abc", "abcd", 1 },   { "abc", "acb", 1 },   { "LEVLE", "LEVEL", 1 },
		{ "abcd", "badc", 2 },  { "ca", "abc", 3 },    { "kitten", "sitting", 3 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span a = span_from_cstr(rows[i].a), b = span_from_cstr(rows[i].b);

		assert_int_equal(name_distance(a, b), rows[i].steps);
		assert_int_equal(name_distance(b, a), rows[i].steps);
	}

	static uint8_t long_name[5000];

	memset(long_name, 'x', sizeof(long_name));
	assert_int_equal(name_distance(span_make(long_name, sizeof(long_name)), SPAN("x")), 127);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(report_counts_mistakes_even_when_full),
		cmocka_unit_test(quoted_shows_foreign_text_safely),
		cmocka_unit_test(distance_counts_slips_of_the_pen),
	};

	return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
