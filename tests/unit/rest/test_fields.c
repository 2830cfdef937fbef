/* fields: cookies, tokens, queries and percent-encoding as browsers send them. */
#include "rest/fields.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void cookie_is_found_by_its_whole_name(void **state)
{
	(void)state;
	static const struct {
		const char *header, *value; /* NULL: not there */
	} rows[] = {
		{"t=1", "1"},
		{"a=2; t=1; b=3", "1"},
		{"a=2;t=1", "1"},
		{"t=first; t=second", "first"},
		{"t=\"quoted\"", "quoted"},
		{"t=a=b", "a=b"},
		{" t = 1 ", "1"},
		{"t=", ""},
		{"t", ""},
		{"", NULL},
		{"tt=1", NULL},
		{"T=1", NULL},
		{"a=t=1", NULL},
		{";;", NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span value;
		bool found = cookie_find(span_from_cstr(rows[i].header), SPAN("t"), &value);

		assert_int_equal(found, rows[i].value != NULL);
		if (found)
			assert_true(span_equal(value, span_from_cstr(rows[i].value)));
	}
}

static void bearer_token_is_behind_its_scheme(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{"Bearer abc", "abc"}, {"bearer  abc ", "abc"}, {"Bearer ", NULL},
		{"Bearer", NULL},      {"Basic abc", NULL},	{"", NULL},
		{"Bearerabc", NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span token;
		bool found = bearer_find(span_from_cstr(rows[i][0]), &token);

		assert_int_equal(found, rows[i][1] != NULL);
		if (found)
			assert_true(span_equal(token, span_from_cstr(rows[i][1])));
	}
}

static void percent_is_decoded_by_where_it_stands(void **state)
{
	(void)state;
	static const char *const rows[][4] = {
		/* text, in a path, in several segments, in a query; NULL: refused */
		{"abc", "abc", "abc", "abc"},
		{"a+b", "a+b", "a+b", "a b"},
		{"a%2Fb%2fc", "a/b/c", "a%2Fb%2fc", "a/b/c"},
		{"%41%c3%A9", "A\xc3\xa9", "A\xc3\xa9", "A\xc3\xa9"},
		{"%25", "%", "%", "%"},
		{"%", NULL, NULL, NULL},
		{"a%4", NULL, NULL, NULL},
		{"%g0", NULL, NULL, NULL},
		{"%0g", NULL, NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int form = PERCENT_PATH; form <= PERCENT_QUERY; form++) {
			const char *wanted = rows[i][1 + form];
			struct buf out;

			buf_init(&out, 100);
			assert_int_equal(percent_decode(span_from_cstr(rows[i][0]),
							(enum percent_form)form, &out),
					 wanted ? 0 : -EINVAL);
			if (wanted)
				assert_true(span_equal(buf_span(&out), span_from_cstr(wanted)));
			buf_finish(&out);
		}
	}
}

static void every_byte_survives_encoding(void **state)
{
	(void)state;
	uint8_t bytes[256];
	struct buf encoded, decoded;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	buf_init(&encoded, 1024);
	buf_init(&decoded, 1024);
	assert_int_equal(percent_encode(span_make(bytes, sizeof(bytes)), &encoded), 0);
	assert_int_equal(encoded.len, 66 + 190 * 3);
	assert_int_equal(percent_decode(buf_span(&encoded), PERCENT_QUERY, &decoded), 0);
	assert_true(span_equal(buf_span(&decoded), span_make(bytes, sizeof(bytes))));
	buf_finish(&encoded);
	buf_finish(&decoded);
}

static void query_is_walked_pair_by_pair(void **state)
{
	(void)state;
	struct span query = SPAN("a=1&&b&c=2=3&=4&%61=5");
	static const char *const pairs[][2] = {
		{"a", "1"}, {"b", ""}, {"c", "2=3"}, {"", "4"}, {"%61", "5"}};
	struct span name, value;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		assert_true(query_next(&query, &name, &value));
		assert_true(span_equal(name, span_from_cstr(pairs[i][0])));
		assert_true(span_equal(value, span_from_cstr(pairs[i][1])));
	}
	assert_false(query_next(&query, &name, &value));
}

static void parameter_is_found_by_its_decoded_name(void **state)
{
	(void)state;
	struct buf value;

	buf_init(&value, 100);
	assert_int_equal(query_find(SPAN("x=1&n%65xt=%2Fa+b&next=2"), SPAN("next"), &value), 0);
	assert_true(span_equal(buf_span(&value), SPAN("/a b")));
	assert_int_equal(query_find(SPAN("x=1"), SPAN("next"), &value), -ENOENT);
	assert_int_equal(query_find(SPAN("next=%"), SPAN("next"), &value), -EINVAL);
	buf_finish(&value);
}

static void only_a_path_of_ours_is_local(void **state)
{
	(void)state;
	static const struct {
		const char *path;
		bool local;
	} rows[] = {
		{"/", true},	     {"/a/b?c=d#e", true}, {"", false},	      {"a", false},
		{"//evil", false},   {"/\\evil", false},   {"\\/", false},    {"/a\nb", false},
		{"/\t/evil", false}, {"https://a", false}, {"/a\x7f", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(path_is_local(span_from_cstr(rows[i].path)), rows[i].local);
}

static void only_printable_ascii_is_a_header_value(void **state)
{
	(void)state;
	for (int byte = 0; byte < 256; byte++) {
		const uint8_t text[] = {'a', (uint8_t)byte};

		assert_int_equal(text_is_printable(span_make(text, sizeof(text))),
				 byte >= ' ' && byte <= '~');
	}
	assert_true(text_is_printable(SPAN_EMPTY));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cookie_is_found_by_its_whole_name),
		cmocka_unit_test(bearer_token_is_behind_its_scheme),
		cmocka_unit_test(percent_is_decoded_by_where_it_stands),
		cmocka_unit_test(every_byte_survives_encoding),
		cmocka_unit_test(query_is_walked_pair_by_pair),
		cmocka_unit_test(parameter_is_found_by_its_decoded_name),
		cmocka_unit_test(only_a_path_of_ours_is_local),
		cmocka_unit_test(only_printable_ascii_is_a_header_value),
	};

	return cmocka_run_group_tests_name("rest/fields", tests, NULL, NULL);
}
