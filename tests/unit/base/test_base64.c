#include "unit/base/base_test.h"

#include "base/base64.h"
#include "base/check.h"

#include <errno.h>

/* RFC 4648 §10, and the last two digits. */
static const struct {
	struct span bytes, text;
} vectors[] = {
	{SPAN(""), SPAN("")},
	{SPAN("f"), SPAN("Zg==")},
	{SPAN("fo"), SPAN("Zm8=")},
	{SPAN("foo"), SPAN("Zm9v")},
	{SPAN("foob"), SPAN("Zm9vYg==")},
	{SPAN("fooba"), SPAN("Zm9vYmE=")},
	{SPAN("foobar"), SPAN("Zm9vYmFy")},
	{SPAN("\xfb\xff"), SPAN("+/8=")},
};

static void base64_writes_the_standard_alphabet(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct buf out;

		buf_init(&out, vectors[i].text.len); /* no byte more is needed */
		assert_int_equal(base64_append(&out, vectors[i].bytes), 0);
		assert_true(span_equal(buf_span(&out), vectors[i].text));
		buf_finish(&out);
	}
}

static void base64_reads_what_it_writes(void **state)
{
	uint64_t seed = 1;
	uint8_t bytes[200];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(random_next(&seed) >> 56);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		struct buf text, back;

		buf_init(&text, BASE64_CHARS(len));
		buf_init(&back, len + 8);
		assert_int_equal(base64_append(&text, span_make(bytes, len)), 0);
		assert_int_equal(text.len, BASE64_CHARS(len));
		assert_int_equal(base64_decode(&back, buf_span(&text)), 0);
		assert_true(span_equal(buf_span(&back), span_make(bytes, len)));
		buf_finish(&text);
		buf_finish(&back);
	}
}

static void base64_takes_either_alphabet_and_padding_or_none(void **state)
{
	static const struct {
		struct span text, bytes;
		bool is_valid;
	} rows[] = {
		{SPAN("Zm8"), SPAN("fo"), true},
		{SPAN("Zg"), SPAN("f"), true},
		{SPAN("-_8="), SPAN("\xfb\xff"), true},
		{SPAN("-_8"), SPAN("\xfb\xff"), true},
		{SPAN("+_8"), SPAN_EMPTY, false}, /* both */
		{SPAN("Z"), SPAN_EMPTY, false},
		{SPAN("Zm9vY"), SPAN_EMPTY, false},
		{SPAN("Zm8=="), SPAN_EMPTY, false},
		{SPAN("Zg="), SPAN_EMPTY, false},
		{SPAN("Zg==="), SPAN_EMPTY, false},
		{SPAN("="), SPAN_EMPTY, false},
		{SPAN("Zm 8"), SPAN_EMPTY, false},
		{SPAN("Zm8=\n"), SPAN_EMPTY, false},
		{SPAN("Zm\0v"), SPAN_EMPTY, false},
		{SPAN("Z=9v"), SPAN_EMPTY, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out;

		buf_init(&out, 64);
		assert_int_equal(base64_decode(&out, rows[i].text),
				 rows[i].is_valid ? 0 : -EINVAL);
		assert_true(span_equal(buf_span(&out), rows[i].bytes));
		buf_finish(&out);
	}
}

static void base64_is_appended_whole_or_not_at_all(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 8);
	assert_int_equal(buf_append(&out, SPAN("a")), 0);
	assert_int_equal(base64_append(&out, SPAN("foobar")), -EMSGSIZE);
	assert_true(out.failed);
	assert_int_equal(out.len, 1);
	buf_finish(&out);
	buf_init(&out, 2);
	assert_int_equal(base64_decode(&out, SPAN("Zm9vYmFy")), -EMSGSIZE);
	assert_int_equal(out.len, 0);
	buf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_writes_the_standard_alphabet),
		cmocka_unit_test(base64_reads_what_it_writes),
		cmocka_unit_test(base64_takes_either_alphabet_and_padding_or_none),
		cmocka_unit_test(base64_is_appended_whole_or_not_at_all),
	};

	return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
