#include "codec/resp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct resp_limits wide = {
	.value_bytes_max = 1 << 20, .items_max = 1024, .depth_max = 7};

/* A value as text: s"…" +"…" -"…" :n _ [a b]. */
static void describe(struct buf *out, const struct resp_value *value)
{
	static const char marks[] = {[RESP_STRING] = 's', [RESP_STATUS] = '+', [RESP_ERROR] = '-'};

	switch (value->type) {
	case RESP_STRING:
	case RESP_STATUS:
	case RESP_ERROR:
		assert_int_equal(value->text.data[value->text.len], 0);
		buf_append_byte(out, (uint8_t)marks[value->type]);
		buf_append(out, SPAN("\""));
		buf_append(out, value->text);
		buf_append(out, SPAN("\""));
		break;
	case RESP_INTEGER:
		buf_printf(out, ":%lld", (long long)value->integer);
		break;
	case RESP_NIL:
		buf_append(out, SPAN("_"));
		break;
	case RESP_ARRAY:
		buf_append(out, SPAN("["));
		for (size_t i = 0; i < value->count; i++) {
			if (i > 0)
				buf_append(out, SPAN(" "));
			describe(out, value->items[i]);
		}
		buf_append(out, SPAN("]"));
		break;
	}
}

/* Feeds `bytes` cut at `first` and `second`; appends a line for each reply. Returns the reader's
 * last word. */
static int read_cut(const struct resp_limits *limits, struct span bytes, const size_t cuts[2],
		    struct buf *out)
{
	struct resp_reader *reader = resp_reader_create(limits);
	struct span parts[3] = {span_first(bytes, cuts[0]),
				span_make(bytes.data + cuts[0], cuts[1] - cuts[0]),
				span_from(bytes, cuts[1])};
	struct resp_value *value;
	int result = 0;

	assert_non_null(reader);
	for (size_t i = 0; i < 3; i++) {
		int error = resp_reader_feed(reader, parts[i]);

		while ((result = resp_reader_next(reader, &value)) > 0) {
			describe(out, value);
			buf_append(out, SPAN("\n"));
			resp_value_free(value);
		}
		assert_int_equal(result, error);
	}
	resp_reader_destroy(reader);
	return result;
}

static const struct {
	struct span bytes;
	const char *text;
} replies[] = {
	{SPAN("+OK\r\n"), "+\"OK\"\n"},
	{SPAN("+\r\n"), "+\"\"\n"},
	{SPAN("-ERR no\r\n"), "-\"ERR no\"\n"},
	{SPAN(":0\r\n:7\r\n:-7\r\n"), ":0\n:7\n:-7\n"},
	{SPAN(":9223372036854775807\r\n"), ":9223372036854775807\n"},
	{SPAN(":-9223372036854775807\r\n"), ":-9223372036854775807\n"},
	{SPAN("$0\r\n\r\n"), "s\"\"\n"},
	{SPAN("$-1\r\n"), "_\n"},
	{SPAN("*-1\r\n"), "_\n"},
	{SPAN("*0\r\n"), "[]\n"},
	{SPAN("$5\r\na\r\nb\n\r\n"), "s\"a\r\nb\n\"\n"},
	{SPAN("*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n$-1\r\n+PONG\r\n"),
	 "[s\"a\" [:1 []] _]\n+\"PONG\"\n"},
	{SPAN("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"), "[[[[[[[:1]]]]]]]\n"},
	{SPAN("*2\r\n*2\r\n*1\r\n:1\r\n:2\r\n*2\r\n:3\r\n*1\r\n:4\r\n"), "[[[:1] :2] [:3 [:4]]]\n"},
};

static void reply_is_read_at_every_split(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(replies) / sizeof(*replies); row++) {
		size_t len = replies[row].bytes.len;

		for (size_t a = 0; a <= len; a++) {
			for (size_t b = a; b <= len; b++) {
				struct buf out;

				buf_init(&out, 4096);
				assert_int_equal(read_cut(&wide, replies[row].bytes,
							  (size_t[2]){a, b}, &out),
						 0);
				buf_append_byte(&out, 0);
				assert_string_equal((char *)out.data, replies[row].text);
				buf_finish(&out);
			}
		}
	}
}

static void bulk_is_binary_safe(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(read_cut(&wide, SPAN("$4\r\na\0\xff\n\r\n"), (size_t[2]){5, 6}, &out), 0);
	assert_true(span_equal(buf_span(&out), SPAN("s\"a\0\xff\n\"\n")));
	buf_finish(&out);
}

static const struct span malformed[] = {
	SPAN("PING\r\n"),
	SPAN("\r\n"),
	SPAN(" +OK\r\n"),
	SPAN("+a\n"),
	SPAN("+a\rb\r\n"),
	SPAN("-a\r\r\n"),
	SPAN(":\r\n"),
	SPAN(":-\r\n"),
	SPAN(":+1\r\n"),
	SPAN(":01\r\n"),
	SPAN(":-0\r\n"),
	SPAN(":1 \r\n"),
	SPAN(":1x\r\n"),
	SPAN(":9223372036854775808\r\n"),
	SPAN(":-9223372036854775809\r\n"),
	SPAN(":111111111111111111111\r\n"),
	SPAN("$\r\n"),
	SPAN("$-2\r\n"),
	SPAN("$-0\r\n"),
	SPAN("$9000000000\r\n"),
	SPAN("$9223372036854775807\r\n"),
	SPAN("$1\n"),
	SPAN("$1\r\nab\r\n"),
	SPAN("$1\r\na\n\r"),
	SPAN("$1\r\na\rx"),
	SPAN("$0\r\nx"),
	SPAN("*\r\n"),
	SPAN("*-2\r\n"),
	SPAN("*1025\r\n"),
	SPAN("*100000000\r\n"),
	SPAN("*2\r\n:1\r\n?\r\n"),
	SPAN("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"),
	SPAN("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n"),
	/* RESP3, which nobody asked for */
	SPAN("%1\r\n"),
	SPAN("_\r\n"),
	SPAN("#t\r\n"),
	SPAN(",1.5\r\n"),
	SPAN(">1\r\n"),
	SPAN("~1\r\n"),
	SPAN("(1\r\n"),
	SPAN("=5\r\n"),
};

static void malformed_reply_is_refused_at_every_split(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(malformed) / sizeof(*malformed); row++) {
		for (size_t cut = 0; cut <= malformed[row].len; cut++) {
			struct buf out;

			buf_init(&out, 4096);
			if (read_cut(&wide, malformed[row], (size_t[2]){cut, cut}, &out) != -EPROTO)
				fail_msg("row %zu: %.*s", row, SPAN_ARGS(malformed[row]));
			assert_int_equal(out.len, 0);
			buf_finish(&out);
		}
	}
}

static void incomplete_reply_waits(void **state)
{
	(void)state;
	for (size_t row = 0; row < sizeof(replies) / sizeof(*replies); row++) {
		struct span bytes = replies[row].bytes;
		struct buf out;

		buf_init(&out, 4096);
		assert_int_equal(
			read_cut(&wide, span_first(bytes, bytes.len - 1), (size_t[2]){0, 0}, &out),
			0);
		assert_true(out.len < strlen(replies[row].text));
		buf_finish(&out);
	}
}

/* Replies before the fault are still handed out, then the fault, again and again. */
static void fault_comes_after_what_was_whole(void **state)
{
	struct resp_reader *reader = resp_reader_create(&wide);
	struct resp_value *value;

	(void)state;
	assert_int_equal(resp_reader_feed(reader, SPAN("+OK\r\n:5\r\n!")), -EPROTO);
	assert_int_equal(resp_reader_next(reader, &value), 1);
	assert_true(resp_is_status(value, "OK"));
	assert_false(resp_is_status(value, "OKAY"));
	resp_value_free(value);
	assert_int_equal(resp_reader_next(reader, &value), 1);
	assert_int_equal(value->integer, 5);
	assert_false(resp_is_status(value, "5"));
	resp_value_free(value);
	assert_int_equal(resp_reader_next(reader, &value), -EPROTO);
	assert_null(value);
	assert_int_equal(resp_reader_feed(reader, SPAN("+OK\r\n")), -EPROTO);
	assert_int_equal(resp_reader_next(reader, &value), -EPROTO);
	resp_reader_destroy(reader);
}

static void unread_replies_are_freed(void **state)
{
	struct resp_reader *reader = resp_reader_create(&wide);

	(void)state;
	assert_int_equal(
		resp_reader_feed(reader, SPAN("*2\r\n:1\r\n$1\r\na\r\n:5\r\n*2\r\n:1\r\n$3\r\na")),
		0);
	resp_reader_destroy(reader);
	resp_reader_destroy(NULL);
	resp_value_free(NULL);
}

static int read_limited(const struct resp_limits *limits, struct span bytes)
{
	struct buf out;

	buf_init(&out, 1 << 16);

	int result = read_cut(limits, bytes, (size_t[2]){0, 0}, &out);

	buf_finish(&out);
	return result;
}

static void limits_hold_to_the_byte(void **state)
{
	size_t each = sizeof(struct resp_value);
	struct resp_limits limits = {.value_bytes_max = each + 6, .items_max = 2, .depth_max = 1};

	(void)state;
	assert_int_equal(read_limited(&limits, SPAN("$5\r\nabcde\r\n")), 0);
	assert_int_equal(read_limited(&limits, SPAN("$6\r\n")), -EPROTO);
	assert_int_equal(read_limited(&limits, SPAN("+abcde\r\n+abcde\r\n")), 0);
	assert_int_equal(read_limited(&limits, SPAN("+abcdef")), -EPROTO);
	assert_int_equal(read_limited(&limits, SPAN("*1\r\n")), -EPROTO);

	limits.value_bytes_max = 3 * each + 2 * sizeof(void *) + 2;
	assert_int_equal(read_limited(&limits, SPAN("*2\r\n$1\r\na\r\n:1\r\n*2\r\n:1\r\n:2\r\n")),
			 0);
	assert_int_equal(read_limited(&limits, SPAN("*2\r\n$1\r\na\r\n$0\r\n")), -EPROTO);
	assert_int_equal(read_limited(&limits, SPAN("*3\r\n")), -EPROTO);
	assert_int_equal(read_limited(&limits, SPAN("*1\r\n*0\r\n")), -EPROTO);

	limits.depth_max = 0;
	assert_int_equal(read_limited(&limits, SPAN("*0\r\n")), -EPROTO);
	assert_int_equal(read_limited(&limits, SPAN(":0\r\n")), 0);
}

static void large_bulk_comes_whole(void **state)
{
	struct resp_limits limits = {.value_bytes_max = 9 << 20, .items_max = 1, .depth_max = 1};
	struct resp_reader *reader = resp_reader_create(&limits);
	size_t len = 8 << 20;
	uint8_t *body = malloc(len);
	struct resp_value *value;

	(void)state;
	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(i * 7 + i / 251);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(resp_reader_feed(reader, SPAN("$8388608\r\n")), 0);
		for (size_t at = 0; at < len; at += 1 << 14)
			assert_int_equal(resp_reader_feed(reader, span_make(body + at, 1 << 14)),
					 0);
		assert_int_equal(resp_reader_next(reader, &value), 0);
		assert_int_equal(resp_reader_feed(reader, SPAN("\r\n:1\r\n")), 0);
		assert_int_equal(resp_reader_next(reader, &value), 1);
		assert_true(span_equal(value->text, span_make(body, len)));
		resp_value_free(value);
		assert_int_equal(resp_reader_next(reader, &value), 1);
		assert_int_equal(value->integer, 1);
		resp_value_free(value);
	}
	free(body);
	resp_reader_destroy(reader);
}

static void command_is_formatted(void **state)
{
	struct span set[] = {SPAN("SET"), SPAN("k\0y"), SPAN_EMPTY, SPAN("\r\n")};
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	buf_append(&out, SPAN("x"));
	assert_int_equal(resp_format(&out, set, 4), 0);
	assert_true(span_equal(buf_span(&out),
			       SPAN("x*4\r\n$3\r\nSET\r\n$3\r\nk\0y\r\n$0\r\n\r\n$2\r\n\r\n\r\n")));
	buf_finish(&out);

	buf_init(&out, 10);
	assert_int_equal(resp_format(&out, set, 4), -EMSGSIZE);
	assert_int_equal(out.len, 0);
	buf_finish(&out);
}

/* A command is an array of bulk strings: what we format, the reader reads. */
static void command_round_trips(void **state)
{
	(void)state;
	for (size_t count = 1; count <= 40; count++) {
		struct span args[40];
		uint8_t bytes[40];
		struct resp_reader *reader = resp_reader_create(&wide);
		struct resp_value *value;
		struct buf out;

		for (size_t i = 0; i < count; i++) {
			bytes[i] = (uint8_t)(i * 37);
			args[i] = span_make(bytes, i);
		}
		buf_init(&out, 1 << 16);
		assert_int_equal(resp_format(&out, args, count), 0);
		assert_int_equal(resp_reader_feed(reader, buf_span(&out)), 0);
		assert_int_equal(resp_reader_next(reader, &value), 1);
		assert_int_equal(value->count, count);
		for (size_t i = 0; i < count; i++)
			assert_true(span_equal(value->items[i]->text, args[i]));
		resp_value_free(value);
		buf_finish(&out);
		resp_reader_destroy(reader);
	}
}

/* Bytes from nowhere: nothing may break, and cutting must not change what is read. */
static void random_bytes_read_the_same_at_any_cut(void **state)
{
	static const char alphabet[] = "+-:$*\r\n01239ab";
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint8_t bytes[48];
		struct buf whole, cut;

		for (size_t i = 0; i < sizeof(bytes); i++) {
			bytes[i] =
				(uint8_t)alphabet[(unsigned)rand_r(&seed) % (sizeof(alphabet) - 1)];
			/* line ends mostly come in pairs, or nothing would ever be well-formed */
			if (i > 0 && bytes[i - 1] == '\r' && rand_r(&seed) % 8)
				bytes[i] = '\n';
		}

		struct span all = span_make(bytes, sizeof(bytes));
		size_t at = (unsigned)rand_r(&seed) % sizeof(bytes);

		buf_init(&whole, 4096);
		buf_init(&cut, 4096);
		assert_int_equal(read_cut(&wide, all, (size_t[2]){0, 0}, &whole),
				 read_cut(&wide, all, (size_t[2]){at / 2, at}, &cut));
		assert_true(span_equal(buf_span(&whole), buf_span(&cut)));
		buf_finish(&whole);
		buf_finish(&cut);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reply_is_read_at_every_split),
		cmocka_unit_test(bulk_is_binary_safe),
		cmocka_unit_test(malformed_reply_is_refused_at_every_split),
		cmocka_unit_test(incomplete_reply_waits),
		cmocka_unit_test(fault_comes_after_what_was_whole),
		cmocka_unit_test(unread_replies_are_freed),
		cmocka_unit_test(limits_hold_to_the_byte),
		cmocka_unit_test(large_bulk_comes_whole),
		cmocka_unit_test(command_is_formatted),
		cmocka_unit_test(command_round_trips),
		cmocka_unit_test(random_bytes_read_the_same_at_any_cut),
	};

	return cmocka_run_group_tests_name("resp", tests, NULL, NULL);
}
