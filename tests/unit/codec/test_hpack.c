#include "base/buf.h"
#include "codec/hpack.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define BLOCK(literal) SPAN(literal)

static void write_field(void *context, struct span name, struct span value)
{
	struct buf *out = context;

	buf_printf(out, "%.*s=%.*s;", SPAN_ARGS(name), SPAN_ARGS(value));
}

/* Decodes a copy with nothing behind it. */
static int decode(struct hpack *hpack, struct span block, struct buf *out)
{
	uint8_t *copy = malloc(block.len ? block.len : 1);

	if (block.len > 0)
		memcpy(copy, block.data, block.len);
	buf_clear(out, 0);
	int code = hpack ? hpack_decode(hpack, span_make(copy, block.len), write_field, out)
			 : hpack_read(span_make(copy, block.len), write_field, out);

	free(copy);
	return code;
}

/* RFC 7541, appendix C.3 and C.4: three requests of one connection, plain and by Huffman's code. */
static const struct {
	struct span blocks[3];
} examples[] = {
	{{BLOCK("\x82\x86\x84\x41\x0fwww.example.com"), BLOCK("\x82\x86\x84\xbe\x58\x08no-cache"),
	  BLOCK("\x82\x87\x85\xbf\x40\x0a"
		"custom-key\x0c"
		"custom-value")}},
	{{BLOCK("\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
	  BLOCK("\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf"),
	  BLOCK("\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9"
		"\x5b\xb8\xe8\xb4\xbf")}},
};

static const char *const example_fields[3] = {
	":method=GET;:scheme=http;:path=/;:authority=www.example.com;",
	":method=GET;:scheme=http;:path=/;:authority=www.example.com;cache-control=no-cache;",
	(":method=GET;:scheme=https;:path=/index.html;:authority=www.example.com;"
	 "custom-key=custom-value;"),
};

static void blocks_of_a_connection_share_a_table(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++) {
		struct hpack *hpack;

		assert_int_equal(hpack_create(&hpack), 0);
		for (size_t k = 0; k < 3; k++) {
			assert_int_equal(decode(hpack, examples[i].blocks[k], &out), 0);
			buf_append_byte(&out, 0);
			assert_string_equal((char *)out.data, example_fields[k]);
		}
		hpack_destroy(hpack);
	}
	buf_finish(&out);
}

static void block_alone_has_no_table_to_lean_on(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(decode(NULL, examples[0].blocks[0], &out), 0);
	buf_append_byte(&out, 0);
	assert_string_equal((char *)out.data, example_fields[0]);
	assert_int_equal(decode(NULL, examples[0].blocks[1], &out), -EPROTO);
	buf_finish(&out);
}

static void block_cut_anywhere_gives_less_or_is_refused(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++)
		for (size_t len = 0; len < examples[i].blocks[0].len; len++) {
			int code = decode(NULL, span_first(examples[i].blocks[0], len), &out);

			assert_true(code == 0 || code == -EPROTO);
			buf_append_byte(&out, 0);
			assert_string_not_equal((char *)out.data, example_fields[0]);
		}
	buf_finish(&out);
}

static const struct {
	struct span block;
	bool neutral;
} neutrals[] = {
	{SPAN(""), true},
	{SPAN("\x88\xbe\xbf"), true}, /* fields of the tables */
	{SPAN("\xff\x01\x88"), true}, /* an index of two bytes */
	{SPAN("\x08\x03"
	      "200"),
	 true}, /* a literal, named by the table */
	{SPAN("\x0f\x01\x01"
	      "a\x88"),
	 true}, /* … by an index of two bytes */
	{SPAN("\x00\x01"
	      "a\x01"
	      "b"),
	 true}, /* a literal with its name */
	{SPAN("\x10\x01"
	      "a\x01"
	      "b\x88"),
	 true}, /* never to be indexed */
	{SPAN("\x48\x03"
	      "200"),
	 false}, /* into the table */
	{SPAN("\x88\x40\x01"
	      "a\x01"
	      "b"),
	 false},
	{SPAN("\x20\x88"), false}, /* the table's size */
	{SPAN("\x00\x01"
	      "a\x05"
	      "b"),
	 false},
	{SPAN("\x00\x01"
	      "a"),
	 false},
	{SPAN("\xff"), false},
	{SPAN("\xff\xff\xff\xff\xff\xff\xff"), false},
};

static void neutral_is_a_block_that_leaves_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(neutrals) / sizeof(*neutrals); i++) {
		uint8_t *copy = malloc(neutrals[i].block.len + 1);

		memcpy(copy, neutrals[i].block.data, neutrals[i].block.len);
		bool neutral = hpack_is_neutral(span_make(copy, neutrals[i].block.len));

		free(copy);
		if (neutral != neutrals[i].neutral)
			fail_msg("row %zu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_of_a_connection_share_a_table),
		cmocka_unit_test(block_alone_has_no_table_to_lean_on),
		cmocka_unit_test(block_cut_anywhere_gives_less_or_is_refused),
		cmocka_unit_test(neutral_is_a_block_that_leaves_the_table),
	};

	return cmocka_run_group_tests_name("hpack", tests, NULL, NULL);
}
