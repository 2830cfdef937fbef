#include "codec/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

static int parse(struct span text)
{
	struct json_document *document;
	/* a copy without anything behind it, so that reading on is seen */
	uint8_t *copy = malloc(text.len ? text.len : 1);

	if (text.len > 0)
		memcpy(copy, text.data, text.len);

	int error = json_parse_object(&document, span_make(copy, text.len), 1000);

	if (!error)
		json_free(document);
	else
		assert_null(document);
	free(copy);
	return error;
}

static const struct span good[] = {
	SPAN("{}"),
	SPAN(" \r\n\t{ } "),
	SPAN("{\"a\":1,\"A\":2}"),
	SPAN("{\"a\":[1,2.5,true,false,null,{\"b\":\"\\u00e9\xc3\xa9\"}]}"),
	SPAN("{\"\":\"\\ud83d\\ude00\"}"),
	SPAN("{\"a\":9223372036854775807,\"b\":-9223372036854775808}"),
	SPAN("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}"),
	SPAN("{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}"),
};

static const struct span bad[] = {
	SPAN(""),
	SPAN(" "),
	SPAN("null"),
	SPAN("[]"),
	SPAN("[{}]"),
	SPAN("\"a\""),
	SPAN("1"),
	SPAN("{"),
	SPAN("{}}"),
	SPAN("{}{}"),
	SPAN("{} x"),
	SPAN("{}\0"),
	SPAN("{\"a\":1,}"),
	SPAN("{\"a\":1,\"a\":1}"),
	SPAN("{\"b\":{\"a\":1,\"a\":2}}"),
	SPAN("{\"a\":1,\"\\u0061\":1}"),
	SPAN("{a:1}"),
	SPAN("{'a':1}"),
	SPAN("{\"a\":01}"),
	SPAN("{\"a\":+1}"),
	SPAN("{\"a\":.5}"),
	SPAN("{\"a\":NaN}"),
	SPAN("{\"a\":1e999}"),
	SPAN("{\"a\":9223372036854775808}"),
	SPAN("{\"a\":\"\\u0000\"}"),
	SPAN("{\"a\":\"\0\"}"),
	SPAN("{\"a\\u0000b\":1}"),
	SPAN("{\"a\":\"\n\"}"),
	SPAN("{\"a\":\"\xff\"}"),
	SPAN("{\"a\":\"\xc0\xaf\"}"),
	SPAN("{\"a\":\"\xed\xa0\x80\"}"),
	SPAN("{\"a\":\"\\ud800\"}"),
	SPAN("{\"a\":\"\\x41\"}"),
	SPAN("\xef\xbb\xbf{}"),
	SPAN("{/**/}"),
	SPAN("{\"a"),
	SPAN("{\"a\\"),
};

static void good_documents_are_taken(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(good) / sizeof(*good); row++)
		if (parse(good[row]) != 0)
			fail_msg("%.*s", SPAN_ARGS(good[row]));
}

static void bad_documents_are_refused(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(bad) / sizeof(*bad); row++)
		if (parse(bad[row]) != -EINVAL)
			fail_msg("row %zu: %.*s", row, SPAN_ARGS(bad[row]));
}

static void cut_documents_are_refused(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(good) / sizeof(*good); row++)
		for (size_t len = 0; len + 2 < good[row].len; len++)
			assert_int_equal(parse(span_first(good[row], len)), -EINVAL);
}

static void depth_is_bounded(void **state)
{
	(void)state;
	for (size_t levels = 30; levels <= 34; levels++) {
		struct buf text;

		buf_init(&text, 1000);
		buf_append(&text, SPAN("{\"a\":"));
		for (size_t i = 1; i < levels; i++)
			buf_append_byte(&text, '[');
		for (size_t i = 1; i < levels; i++)
			buf_append_byte(&text, ']');
		buf_append_byte(&text, '}');
		assert_int_equal(parse(buf_span(&text)), levels <= 32 ? 0 : -EINVAL);
		buf_finish(&text);
	}
}

static void size_is_bounded(void **state)
{
	struct json_document *document;

	(void)state;
	assert_int_equal(json_parse_object(&document, SPAN("{\"a\":1}"), 6), -EINVAL);
	assert_int_equal(json_parse_object(&document, SPAN("{\"a\":1}"), 7), 0);
	json_free(document);
}

static void members_are_read_strictly(void **state)
{
	struct json_document *document;
	struct span text;
	int64_t number = 7;

	(void)state;
	assert_int_equal(
		json_parse_object(
			&document,
			SPAN("{\"s\":\"x\\ny\",\"e\":\"\",\"n\":-5,\"d\":\"1700000000000\",\"r\":1."
			     "0,"
			     "\"z\":null,\"t\":true,\"m\":\"9223372036854775808\",\"p\":\"+1\","
			     "\"b\":\" 1\",\"l\":[1]}"),
			1000),
		0);
	assert_true(json_get_string(document, "s", &text));
	assert_true(span_equal(text, SPAN("x\ny")));
	assert_true(json_get_string(document, "e", &text));
	assert_int_equal(text.len, 0);
	assert_false(json_get_string(document, "n", &text));
	assert_false(json_get_string(document, "z", &text));
	assert_false(json_get_string(document, "absent", &text));

	static const char *const not_numbers[] = {"s", "e", "r", "z", "t",
						  "m", "p", "b", "l", "absent"};

	for (size_t i = 0; i < sizeof(not_numbers) / sizeof(*not_numbers); i++)
		assert_false(json_get_int64(document, not_numbers[i], &number));
	assert_true(json_get_int64(document, "n", &number));
	assert_int_equal(number, -5);
	assert_true(json_get_int64(document, "d", &number));
	assert_int_equal(number, 1700000000000);

	assert_true(json_has(document, "z"));
	assert_false(json_has(document, "S"));
	json_free(document);
	json_free(NULL);
}

static const struct {
	struct span text;
	const char *json;
} strings[] = {
	{SPAN(""), "\"\""},
	{SPAN("plain"), "\"plain\""},
	{SPAN("\"\\/"), "\"\\\"\\\\/\""},
	{SPAN("\b\t\n\f\r"), "\"\\b\\t\\n\\f\\r\""},
	{SPAN("a\0b\x1f\x7f"), "\"a\\u0000b\\u001f\x7f\""},
	{SPAN("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
	{SPAN("a\xff"
	      "b"),
	 "\"a\xef\xbf\xbd"
	 "b\""},
	{SPAN("\xc3"), "\"\xef\xbf\xbd\""},
	{SPAN("\xc3\""), "\"\xef\xbf\xbd\\\"\""},
	{SPAN("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	{SPAN("\x80"
	      "a"),
	 "\"\xef\xbf\xbd"
	 "a\""},
};

static void strings_are_escaped(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(strings) / sizeof(*strings); row++) {
		struct buf out;

		buf_init(&out, 1000);
		assert_int_equal(json_append_string(&out, strings[row].text), 0);
		assert_true(span_equal(buf_span(&out), span_from_cstr(strings[row].json)));

		/* every length that is too short is refused */
		for (size_t max = 0; max < out.len; max++) {
			struct buf tight;

			buf_init(&tight, max);
			assert_int_equal(json_append_string(&tight, strings[row].text), -EMSGSIZE);
			assert_true(tight.failed);
			buf_finish(&tight);
		}
		buf_finish(&out);
	}
}

/* Any bytes become a string that the parser takes, and valid ones come back. */
static void random_strings_round_trip(void **state)
{
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 5000; round++) {
		uint8_t bytes[12];
		size_t len = (unsigned)rand_r(&seed) % (sizeof(bytes) + 1);
		struct json_document *document;
		struct span text = span_make(bytes, len), back;
		struct buf out;

		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)(1 + (unsigned)rand_r(&seed) % (round % 2 ? 127 : 255));
		buf_init(&out, 1000);
		buf_append(&out, SPAN("{\"a\":"));
		json_append_string(&out, text);
		buf_append(&out, SPAN("}"));
		assert_int_equal(json_parse_object(&document, buf_span(&out), 1000), 0);
		assert_true(json_get_string(document, "a", &back));
		if (span_is_utf8(text))
			assert_true(span_equal(text, back));
		json_free(document);
		buf_finish(&out);
	}
}

static long allocations_left;

static void *failing_malloc(size_t bytes)
{
	return allocations_left-- > 0 ? malloc(bytes) : NULL;
}

/* Every allocation of the parser fails in turn: it fails, mostly saying why, and leaves nothing
 * behind. */
static void failed_allocation_does_no_harm(void **state)
{
	struct span text = SPAN(
		"{\"a\":[1,2.5,true,null,{\"b\":\"\\u00e9\"}],\"c\":\"a longer string here\"}");
	struct json_document *document;
	int error = -ENOMEM;
	long count = 0, told_count = 0;

	(void)state;
	json_set_alloc_funcs(failing_malloc, free);
	for (; error != 0 && count < 1000; count++) {
		allocations_left = count;
		error = json_parse_object(&document, text, 1000);
		if (error)
			assert_null(document);
		told_count += error == -ENOMEM;
	}
	json_set_alloc_funcs(malloc, free);
	assert_int_equal(error, 0);
	assert_true(count > 10 && told_count > count / 2);
	json_free(document);
}

static void objects_within_are_read_like_the_whole(void **state)
{
	struct json_document *document;
	struct span text = SPAN("{\"o\":{\"s\":\"in\",\"p\":{}},\"s\":\"out\","
				"\"a\":[{}],\"n\":null}");
	struct span value;

	(void)state;
	assert_int_equal(json_parse_object(&document, text, 1000), 0);

	const struct json_document *inner = json_get_object(document, "o");

	assert_non_null(inner);
	assert_true(json_get_string(inner, "s", &value));
	assert_true(span_equal(value, SPAN("in")));
	assert_non_null(json_get_object(inner, "p"));
	assert_null(json_get_object(document, "s"));
	assert_null(json_get_object(document, "a"));
	assert_null(json_get_object(document, "n"));
	assert_null(json_get_object(document, "O"));
	json_free(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_documents_are_taken),
		cmocka_unit_test(bad_documents_are_refused),
		cmocka_unit_test(cut_documents_are_refused),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(size_is_bounded),
		cmocka_unit_test(members_are_read_strictly),
		cmocka_unit_test(objects_within_are_read_like_the_whole),
		cmocka_unit_test(strings_are_escaped),
		cmocka_unit_test(random_strings_round_trip),
		cmocka_unit_test(failed_allocation_does_no_harm),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
