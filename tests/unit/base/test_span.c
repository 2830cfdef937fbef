#include "unit/base/base_test.h"

#include "base/check.h"
#include "base/span.h"

static void span_literal_has_no_nul(void **state)
{
	(void)state;
	assert_int_equal(SPAN("abc").len, 3);
	assert_int_equal(SPAN("").len, 0);
	assert_int_equal(SPAN("a\0b").len, 3);
}

static void span_from_null_text_is_empty(void **state)
{
	(void)state;
	assert_int_equal(span_from_cstr(NULL).len, 0);
	assert_int_equal(span_from_cstr("xy").len, 2);
}

static void span_equal_compares_length_and_bytes(void **state)
{
	(void)state;
	assert_true(span_equal(SPAN_EMPTY, SPAN("")));
	assert_true(span_equal(SPAN("a\0b"), SPAN("a\0b")));
	assert_false(span_equal(SPAN("a\0b"), SPAN("a\0c")));
	assert_false(span_equal(SPAN("ab"), SPAN("abc")));
}

static void span_starts_with_takes_the_empty_prefix(void **state)
{
	(void)state;
	assert_true(span_starts_with(SPAN("abc"), SPAN_EMPTY));
	assert_true(span_starts_with(SPAN_EMPTY, SPAN_EMPTY));
	assert_true(span_starts_with(SPAN("abc"), SPAN("abc")));
	assert_false(span_starts_with(SPAN("ab"), SPAN("abc")));
	assert_false(span_starts_with(SPAN("xbc"), SPAN("a")));
}

static void span_parts_meet_at_every_offset(void **state)
{
	struct span text = SPAN("hello");

	(void)state;
	for (size_t i = 0; i <= text.len; i++) {
		assert_int_equal(span_first(text, i).len + span_from(text, i).len, text.len);
		assert_ptr_equal(span_from(text, i).data, text.data + i);
	}
	assert_null(span_from(SPAN_EMPTY, 0).data);
}

static void span_equal_nocase_folds_ascii_letters_only(void **state)
{
	(void)state;
	assert_true(span_equal_nocase(SPAN("Content-TYPE"), SPAN("cONTENT-type")));
	assert_true(span_equal_nocase(SPAN_EMPTY, SPAN("")));
	assert_false(span_equal_nocase(SPAN("ab"), SPAN("abc")));
	for (unsigned a = 0; a < 256; a++) {
		for (unsigned b = 0; b < 256; b++) {
			uint8_t x = (uint8_t)a, y = (uint8_t)b;
			bool letters = ((a | 32) >= 'a' && (a | 32) <= 'z') && (a | 32) == (b | 32);

			assert_int_equal(span_equal_nocase(span_make(&x, 1), span_make(&y, 1)),
					 a == b || letters);
		}
	}
}

static void span_find_byte_finds_the_first(void **state)
{
	(void)state;
	assert_int_equal(span_find_byte(SPAN("abcb"), 'b'), 1);
	assert_int_equal(span_find_byte(SPAN("abc"), 'c'), 2);
	assert_int_equal(span_find_byte(SPAN("abc"), 'x'), -1);
	assert_int_equal(span_find_byte(SPAN("abc"), 0), -1);
	assert_int_equal(span_find_byte(SPAN("a\0c"), 0), 1);
	assert_int_equal(span_find_byte(SPAN_EMPTY, 'a'), -1);
}

static void span_trim_takes_spaces_and_tabs_from_both_ends(void **state)
{
	static const struct {
		struct span text, wanted;
	} rows[] = {
		{ SPAN_EMPTY, SPAN("") },
		{ SPAN(" \t "), SPAN("") },
		{ SPAN("a"), SPAN("a") },
		{ SPAN("\t a b \t"), SPAN("a b") },
		{ SPAN("\na\r"), SPAN("\na\r") },
		{ SPAN("x "), SPAN("x") },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_true(span_equal(span_trim(rows[i].text), rows[i].wanted));
}

static void span_to_uint64_is_strict_decimal(void **state)
{
	static const struct {
		struct span text;
		bool good;
		uint64_t value;
	} rows[] = {
		{ SPAN("0"), true, 0 },
		{ SPAN("007"), true, 7 },
		{ SPAN("18446744073709551615"), true, UINT64_MAX },
		{ SPAN("00018446744073709551615"), true, UINT64_MAX },
		{ SPAN("18446744073709551616"), false, 0 },
		{ SPAN("18446744073709551620"), false, 0 },
		{ SPAN("184467440737095516150"), false, 0 },
		{ SPAN("99999999999999999999"), false, 0 },
		{ SPAN(""), false, 0 },
		{ SPAN("-1"), false, 0 },
		{ SPAN("+1"), false, 0 },
		{ SPAN(" 1"), false, 0 },
		{ SPAN("1 "), false, 0 },
		{ SPAN("1\0"), false, 0 },
		{ SPAN("0x10"), false, 0 },
		{ SPAN("1e3"), false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t value = 42;

		assert_int_equal(span_to_uint64(rows[i].text, &value), rows[i].good);
		assert_true(value == (rows[i].good ? rows[i].value : 42));
	}
}

static void span_to_int64_allows_one_minus(void **state)
{
	static const struct {
		struct span text;
		bool good;
		int64_t value;
	} rows[] = {
		{ SPAN("0"), true, 0 },
		{ SPAN("-0"), true, 0 },
		{ SPAN("-1"), true, -1 },
		{ SPAN("9223372036854775807"), true, INT64_MAX },
		{ SPAN("9223372036854775808"), false, 0 },
		{ SPAN("-9223372036854775808"), true, INT64_MIN },
		{ SPAN("-9223372036854775809"), false, 0 },
		{ SPAN("18446744073709551615"), false, 0 },
		{ SPAN("-18446744073709551616"), false, 0 },
		{ SPAN(""), false, 0 },
		{ SPAN("-"), false, 0 },
		{ SPAN("--1"), false, 0 },
		{ SPAN("+1"), false, 0 },
		{ SPAN("- 1"), false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t value = 42;

		assert_int_equal(span_to_int64(rows[i].text, &value), rows[i].good);
		assert_true(value == (rows[i].good ? rows[i].value : 42));
	}
}

/* A naive decoder by the numbers of RFC 3629 section 3, to compare with. */
static bool is_utf8_by_value(const uint8_t *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		uint8_t lead = bytes[at];
		size_t more = lead < 0x80 ? 0 : lead >> 5 == 6 ? 1 : lead >> 4 == 14 ? 2 : 3;
		uint32_t value = more == 0 ? lead : lead & (0x3fu >> more);
		static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };

		if (more == 3 && lead >> 3 != 30)
			return false;
		if (at + more >= len)
			return false;
		for (size_t i = 1; i <= more; i++) {
			if (bytes[at + i] >> 6 != 2)
				return false;
			value = value << 6 | (bytes[at + i] & 0x3f);
		}
		if (value < least[more] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
			return false;
		at += more + 1;
	}
	return true;
}

/* One byte from each class and both ends of each range that any rule names. */
static const uint8_t utf8_edges[] = {
	0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1,
	0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf7, 0xf8, 0xfb, 0xfc, 0xfe, 0xff,
};

static void span_is_ascii_looks_at_each_byte(void **state)
{
	(void)state;
	for (unsigned pair = 0; pair < 0x10000; pair++) {
		uint8_t bytes[] = { (uint8_t)(pair >> 8), (uint8_t)pair };

		assert_int_equal(span_is_ascii(span_make(bytes, 2)), (pair & 0x8080) == 0);
	}
	assert_true(span_is_ascii(SPAN_EMPTY));
}

static void span_is_utf8_agrees_with_the_values_for_all_pairs(void **state)
{
	(void)state;
	for (unsigned pair = 0; pair < 0x10000; pair++) {
		uint8_t bytes[] = { (uint8_t)(pair >> 8), (uint8_t)pair };

		assert_int_equal(span_is_utf8(span_make(bytes, 1)), is_utf8_by_value(bytes, 1));
		assert_int_equal(span_is_utf8(span_make(bytes, 2)), is_utf8_by_value(bytes, 2));
	}
}

static void span_is_utf8_agrees_with_the_values_for_every_class_of_four_bytes(void **state)
{
	size_t edges = ARRAY_LEN(utf8_edges), good = 0;

	(void)state;
	for (size_t i = 0; i < edges * edges * edges * edges; i++) {
		uint8_t bytes[] = {
			utf8_edges[i / (edges * edges * edges)],
			utf8_edges[i / (edges * edges) % edges],
			utf8_edges[i / edges % edges],
			utf8_edges[i % edges],
		};

		for (size_t len = 3; len <= 4; len++) {
			bool wanted = is_utf8_by_value(bytes, len);

			good += wanted;
			if (span_is_utf8(span_make(bytes, len)) != wanted)
				fail_msg("%02x %02x %02x %02x", bytes[0], bytes[1], bytes[2],
					 bytes[3]);
		}
	}
	assert_true(good > 0);
}

static void span_is_utf8_knows_the_borders(void **state)
{
	static const struct {
		struct span text;
		bool good;
	} rows[] = {
		{ SPAN_EMPTY, true },
		{ SPAN("\0"), true },
		{ SPAN("plain text, longer than eight bytes"), true },
		{ SPAN("\xc2\x80"), true },              /* U+0080 */
		{ SPAN("\xdf\xbf"), true },              /* U+07FF */
		{ SPAN("\xe0\xa0\x80"), true },          /* U+0800 */
		{ SPAN("\xed\x9f\xbf"), true },          /* U+D7FF */
		{ SPAN("\xee\x80\x80"), true },          /* U+E000 */
		{ SPAN("\xef\xbf\xbf"), true },          /* U+FFFF */
		{ SPAN("\xf0\x90\x80\x80"), true },      /* U+10000 */
		{ SPAN("\xf4\x8f\xbf\xbf"), true },      /* U+10FFFF */
		{ SPAN("\xc0\x80"), false },             /* overlong NUL */
		{ SPAN("\xc1\xbf"), false },             /* overlong DEL */
		{ SPAN("\xe0\x9f\xbf"), false },         /* overlong U+07FF */
		{ SPAN("\xed\xa0\x80"), false },         /* U+D800 */
		{ SPAN("\xed\xbf\xbf"), false },         /* U+DFFF */
		{ SPAN("\xf0\x8f\xbf\xbf"), false },     /* overlong U+FFFF */
		{ SPAN("\xf4\x90\x80\x80"), false },     /* U+110000 */
		{ SPAN("\xf5\x80\x80\x80"), false },
		{ SPAN("\xf8\x88\x80\x80\x80"), false }, /* five bytes */
		{ SPAN("\x80"), false },                 /* nothing before it */
		{ SPAN("a\xc3"), false },                /* cut */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(span_is_utf8(rows[i].text), rows[i].good);
}

static void span_is_utf8_finds_a_bad_byte_at_every_place(void **state)
{
	uint8_t text[40];

	(void)state;
	for (size_t len = 1; len <= sizeof(text); len++) {
		for (size_t at = 0; at < len; at++) {
			memset(text, 'a', sizeof(text));
			text[at] = 0xff;
			assert_false(span_is_utf8(span_make(text, len)));
			text[at] = 0xc3;
			if (at + 1 < len)
				text[at + 1] = 0xa9;
			assert_int_equal(span_is_utf8(span_make(text, len)), at + 1 < len);
		}
	}
}

static void span_is_utf8_refuses_every_cut_of_a_character(void **state)
{
	struct span whole = SPAN("\xf0\x9f\x98\x80");

	(void)state;
	for (size_t len = 1; len < whole.len; len++)
		assert_false(span_is_utf8(span_first(whole, len)));
	assert_true(span_is_utf8(whole));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(span_literal_has_no_nul),
		cmocka_unit_test(span_from_null_text_is_empty),
		cmocka_unit_test(span_equal_compares_length_and_bytes),
		cmocka_unit_test(span_starts_with_takes_the_empty_prefix),
		cmocka_unit_test(span_parts_meet_at_every_offset),
		cmocka_unit_test(span_equal_nocase_folds_ascii_letters_only),
		cmocka_unit_test(span_find_byte_finds_the_first),
		cmocka_unit_test(span_trim_takes_spaces_and_tabs_from_both_ends),
		cmocka_unit_test(span_to_uint64_is_strict_decimal),
		cmocka_unit_test(span_to_int64_allows_one_minus),
		cmocka_unit_test(span_is_ascii_looks_at_each_byte),
		cmocka_unit_test(span_is_utf8_agrees_with_the_values_for_all_pairs),
		cmocka_unit_test(span_is_utf8_agrees_with_the_values_for_every_class_of_four_bytes),
		cmocka_unit_test(span_is_utf8_knows_the_borders),
		cmocka_unit_test(span_is_utf8_finds_a_bad_byte_at_every_place),
		cmocka_unit_test(span_is_utf8_refuses_every_cut_of_a_character),
	};

	return cmocka_run_group_tests_name("span", tests, NULL, NULL);
}
