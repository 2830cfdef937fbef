#include "base/check.h"
#include "codec/grpc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include <cmocka.h>

/* ---- deframing ---- */

static void put_message(struct buf *out, uint8_t flag, struct span bytes)
{
	uint8_t prefix[GRPC_PREFIX_BYTES];

	grpc_write_prefix(prefix, (uint32_t)bytes.len);
	prefix[0] = flag;
	buf_append(out, span_make(prefix, sizeof(prefix)));
	buf_append(out, bytes);
}

/* gzip, or zlib's own wrapper with `window_bits` 15. */
static void compress_to(struct buf *out, struct span bytes, int window_bits)
{
	z_stream zlib = {.next_in = (z_const Bytef *)bytes.data, .avail_in = (uInt)bytes.len};
	uLong bound;

	assert_int_equal(deflateInit2(&zlib, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY),
			 Z_OK);
	bound = deflateBound(&zlib, bytes.len) + 64;
	zlib.next_out = buf_reserve(out, bound);
	zlib.avail_out = (uInt)bound;
	assert_int_equal(deflate(&zlib, Z_FINISH), Z_STREAM_END);
	buf_claim(out, zlib.total_out);
	deflateEnd(&zlib);
}

static void put_gzip(struct buf *out, struct span bytes)
{
	struct buf compressed;

	buf_init(&compressed, 1 << 20);
	compress_to(&compressed, bytes, 31);
	put_message(out, 1, buf_span(&compressed));
	buf_finish(&compressed);
}

/* Takes `bytes` cut at two places; appends each message with a line end. Returns the last code,
 * `*idle` at the end. */
static ptrdiff_t take_cut(struct grpc_deframer *deframer, struct span bytes, const size_t cuts[2],
			  struct buf *out)
{
	size_t ends[3] = {cuts[0], cuts[1], bytes.len};
	size_t at = 0;

	for (int part = 0; part < 3; part++) {
		while (at < ends[part]) {
			struct span message;
			/* a copy, so that lending beyond the part is seen */
			size_t len = ends[part] - at;
			uint8_t *copy = malloc(len);

			memcpy(copy, bytes.data + at, len);

			ptrdiff_t taken =
				grpc_deframer_take(deframer, span_make(copy, len), &message);

			if (taken > 0 && message.data) {
				buf_append(out, message);
				buf_append(out, SPAN("\n"));
			} else if (taken > 0) {
				assert_int_equal(taken, len);
				assert_int_equal(message.len, 0);
			}
			free(copy);
			if (taken <= 0)
				return taken;
			at += (size_t)taken;
		}
	}
	return 0;
}

static void messages_are_put_together_at_every_split(void **state)
{
	struct buf bytes;

	(void)state;
	buf_init(&bytes, 4096);
	put_message(&bytes, 0, SPAN("one"));
	put_message(&bytes, 0, SPAN_EMPTY);
	put_gzip(&bytes, SPAN("compressed"));
	put_message(&bytes, 0, SPAN("x"));
	put_gzip(&bytes, SPAN_EMPTY);
	for (size_t a = 0; a <= bytes.len; a++) {
		for (size_t b = a; b <= bytes.len; b++) {
			struct grpc_deframer deframer;
			struct buf out;

			buf_init(&out, 4096);
			grpc_deframer_init(&deframer, GRPC_GZIP, 100);
			assert_int_equal(
				take_cut(&deframer, buf_span(&bytes), (size_t[2]){a, b}, &out), 0);
			assert_true(span_equal(buf_span(&out), SPAN("one\n\ncompressed\nx\n\n")));
			assert_true(grpc_deframer_is_idle(&deframer));
			grpc_deframer_finish(&deframer);
			buf_finish(&out);
		}
	}
	buf_finish(&bytes);
}

static void stream_may_end_only_between_messages(void **state)
{
	struct buf bytes;

	(void)state;
	buf_init(&bytes, 4096);
	put_message(&bytes, 0, SPAN("abc"));
	for (size_t len = 0; len <= bytes.len; len++) {
		struct grpc_deframer deframer;
		struct buf out;

		buf_init(&out, 100);
		grpc_deframer_init(&deframer, GRPC_IDENTITY, 100);
		take_cut(&deframer, span_first(buf_span(&bytes), len), (size_t[2]){0, 0}, &out);
		assert_int_equal(grpc_deframer_is_idle(&deframer), len == 0 || len == bytes.len);
		grpc_deframer_finish(&deframer);
		buf_finish(&out);
	}
	buf_finish(&bytes);
}

static void whole_message_is_lent_in_place(void **state)
{
	static const uint8_t bytes[] = "\0\0\0\0\3abc\0\0\0\0\0";
	struct grpc_deframer deframer;
	struct span message;

	(void)state;
	grpc_deframer_init(&deframer, GRPC_IDENTITY, 100);
	assert_int_equal(grpc_deframer_take(&deframer, span_make(bytes, 13), &message), 8);
	assert_ptr_equal(message.data, bytes + 5);
	assert_int_equal(message.len, 3);
	assert_int_equal(grpc_deframer_take(&deframer, span_make(bytes + 8, 5), &message), 5);
	assert_non_null(message.data);
	assert_int_equal(message.len, 0);
	/* the prefix came before: still in place */
	assert_int_equal(grpc_deframer_take(&deframer, span_make(bytes, 5), &message), 5);
	assert_null(message.data);
	assert_int_equal(grpc_deframer_take(&deframer, span_make(bytes + 5, 3), &message), 3);
	assert_ptr_equal(message.data, bytes + 5);
	assert_int_equal(grpc_deframer_take(&deframer, SPAN_EMPTY, &message), 0);
	assert_null(message.data);
	assert_null(deframer.message.data);
	grpc_deframer_finish(&deframer);
}

static ptrdiff_t take_once(enum grpc_encoding encoding, uint32_t max, struct span bytes, size_t cut)
{
	struct grpc_deframer deframer;
	struct buf out;

	buf_init(&out, 1 << 20);
	grpc_deframer_init(&deframer, encoding, max);

	ptrdiff_t result = take_cut(&deframer, bytes, (size_t[2]){cut, cut}, &out);

	grpc_deframer_finish(&deframer);
	buf_finish(&out);
	return result;
}

static void bad_prefix_is_refused(void **state)
{
	(void)state;
	for (size_t cut = 0; cut <= 5; cut++) {
		assert_int_equal(take_once(GRPC_GZIP, 100, SPAN("\2\0\0\0\1x"), cut), -EPROTO);
		assert_int_equal(take_once(GRPC_GZIP, 100, SPAN("\x80\0\0\0\1x"), cut), -EPROTO);
		assert_int_equal(take_once(GRPC_IDENTITY, 100, SPAN("\1\0\0\0\1x"), cut), -EPROTO);
		assert_int_equal(take_once(GRPC_IDENTITY, 100, SPAN("\0\0\0\0\x65"), cut),
				 -EMSGSIZE);
		assert_int_equal(take_once(GRPC_IDENTITY, 100, SPAN("\0\xff\xff\xff\xff"), cut),
				 -EMSGSIZE);
		assert_int_equal(take_once(GRPC_IDENTITY, 100, SPAN("\0\0\0\0\x64"), cut), 0);
	}
}

static void inflated_size_is_bounded_to_the_byte(void **state)
{
	static const uint32_t limits[] = {100, 4095, 4096, 4097, 100000};
	static uint8_t zeros[200000];

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(limits); row++) {
		for (int over = -1; over <= 1; over++) {
			struct buf bytes;

			buf_init(&bytes, 1 << 20);
			put_gzip(&bytes, span_make(zeros, limits[row] + (uint32_t)over));
			/* zeros shrink a thousandfold, so the announced length is within the limit
			 */
			assert_int_equal(take_once(GRPC_GZIP, limits[row], buf_span(&bytes), 0),
					 over > 0 ? -EMSGSIZE : 0);
			assert_int_equal(
				take_once(GRPC_GZIP, limits[row], buf_span(&bytes), bytes.len / 2),
				over > 0 ? -EMSGSIZE : 0);
			buf_finish(&bytes);
		}
	}
}

static void damaged_gzip_is_refused(void **state)
{
	struct buf gzip, bytes;
	struct span text = SPAN("some text to be compressed, some text to be compressed");

	(void)state;
	buf_init(&gzip, 4096);
	buf_init(&bytes, 4096);
	compress_to(&gzip, text, 31);

	for (size_t len = 0; len < gzip.len; len++) {
		buf_clear(&bytes, 4096);
		put_message(&bytes, 1, span_first(buf_span(&gzip), len));
		assert_int_equal(take_once(GRPC_GZIP, 1000, buf_span(&bytes), 0), -EPROTO);
	}
	/* the checksum */
	buf_clear(&bytes, 4096);
	gzip.data[gzip.len - 6] ^= 1;
	put_message(&bytes, 1, buf_span(&gzip));
	assert_int_equal(take_once(GRPC_GZIP, 1000, buf_span(&bytes), 0), -EPROTO);
	gzip.data[gzip.len - 6] ^= 1;
	/* something behind it */
	buf_clear(&bytes, 4096);
	buf_append(&gzip, SPAN("x"));
	put_message(&bytes, 1, buf_span(&gzip));
	assert_int_equal(take_once(GRPC_GZIP, 1000, buf_span(&bytes), 0), -EPROTO);
	/* zlib's wrapper is "deflate", not gzip */
	buf_clear(&gzip, 0);
	buf_clear(&bytes, 4096);
	compress_to(&gzip, text, 15);
	put_message(&bytes, 1, buf_span(&gzip));
	assert_int_equal(take_once(GRPC_GZIP, 1000, buf_span(&bytes), 0), -EPROTO);
	buf_finish(&gzip);
	buf_finish(&bytes);
}

static void random_messages_round_trip(void **state)
{
	unsigned seed = 3;
	static uint8_t noise[30000];

	(void)state;
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)(rand_r(&seed) % 16);
	for (int round = 0; round < 300; round++) {
		struct grpc_deframer deframer;
		struct buf bytes, expected, out;

		buf_init(&bytes, 1 << 20);
		buf_init(&expected, 1 << 20);
		buf_init(&out, 1 << 20);
		for (int i = rand_r(&seed) % 5; i >= 0; i--) {
			struct span message =
				span_make(noise, (unsigned)rand_r(&seed) % sizeof(noise));

			if (rand_r(&seed) % 2)
				put_gzip(&bytes, message);
			else
				put_message(&bytes, 0, message);
			buf_append(&expected, message);
			buf_append(&expected, SPAN("\n"));
		}
		grpc_deframer_init(&deframer, GRPC_GZIP, sizeof(noise));

		size_t at = 0;

		while (at < bytes.len) {
			size_t step = 1 + (unsigned)rand_r(&seed) % (round % 2 ? 20000 : 50);

			if (step > bytes.len - at)
				step = bytes.len - at;
			assert_int_equal(take_cut(&deframer, span_make(bytes.data + at, step),
						  (size_t[2]){0, 0}, &out),
					 0);
			at += step;
		}
		assert_true(span_equal(buf_span(&out), buf_span(&expected)));
		grpc_deframer_finish(&deframer);
		buf_finish(&bytes);
		buf_finish(&expected);
		buf_finish(&out);
	}
}

/* ---- texts ---- */

static const struct {
	const char *text;
	int64_t us;
} timeouts[] = {
	{"1H", 3600000000},
	{"1M", 60000000},
	{"1S", 1000000},
	{"100m", 100000},
	{"7u", 7},
	{"1n", 1},
	{"1000n", 1},
	{"1001n", 2},
	{"0S", 0},
	{"0n", 0},
	{"00000001S", 1000000},
	{"99999999H", 359999996400000000},
	{"", -1},
	{"S", -1},
	{"1", -1},
	{"100000000S", -1},
	{"1s", -1},
	{"1h", -1},
	{" 1S", -1},
	{"1S ", -1},
	{"-1S", -1},
	{"+1S", -1},
	{"1.5S", -1},
	{"1SS", -1},
	{"1 S", -1},
	{"0x1S", -1},
	{"99999999999999999999S", -1},
};

static void timeout_is_parsed_strictly(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(timeouts); row++)
		if (grpc_parse_timeout(span_from_cstr(timeouts[row].text)) != timeouts[row].us)
			fail_msg("%s", timeouts[row].text);
}

static const struct {
	uint64_t us;
	const char *text;
} formatted[] = {
	{0, "1n"},
	{1, "1u"},
	{99999999, "99999999u"},
	{100000000, "100000m"},
	{100000001, "100001m"},
	{99999999000, "99999999m"},
	{99999999001, "100000S"},
	{99999999000001, "1666667M"},
	{5999999940000001, "1666667H"},
	{359999996400000000, "99999999H"},
	{UINT64_MAX, "99999999H"},
};

static void timeout_is_formatted_and_never_shortened(void **state)
{
	unsigned seed = 5;

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(formatted); row++) {
		char text[16];

		assert_int_equal(grpc_format_timeout(formatted[row].us, text),
				 strlen(formatted[row].text));
		assert_string_equal(text, formatted[row].text);
	}
	for (int round = 0; round < 10000; round++) {
		uint64_t us = (uint64_t)rand_r(&seed) << (rand_r(&seed) % 27);
		char text[16];
		int64_t back = grpc_parse_timeout(span_make(text, grpc_format_timeout(us, text)));

		assert_true((uint64_t)back >= us && (uint64_t)back - us <= us / 1000 + 1);
	}
}

static void message_is_percent_encoded(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 100);
	assert_int_equal(grpc_encode_message(&out, SPAN("a ~%\x1f\x7f\0\xc3\xa9")), 0);
	assert_true(span_equal(buf_span(&out), SPAN("a ~%25%1F%7F%00%C3%A9")));
	buf_finish(&out);
	buf_init(&out, 2);
	assert_int_equal(grpc_encode_message(&out, SPAN("%")), -EMSGSIZE);
	assert_int_equal(grpc_decode_message(&out, SPAN("abc")), -EMSGSIZE);
	buf_finish(&out);
}

static void malformed_escapes_are_kept(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 100);
	assert_int_equal(grpc_decode_message(&out, SPAN("%41%4a%4A%%41%4%zz%4z%z4%")), 0);
	assert_true(span_equal(buf_span(&out), SPAN("AJJ%A%4%zz%4z%z4%")));
	buf_finish(&out);
}

static void any_message_round_trips(void **state)
{
	uint8_t all[256];
	struct buf encoded, decoded;

	(void)state;
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)i;
	buf_init(&encoded, 1000);
	buf_init(&decoded, 1000);
	assert_int_equal(grpc_encode_message(&encoded, span_make(all, sizeof(all))), 0);
	assert_int_equal(grpc_decode_message(&decoded, buf_span(&encoded)), 0);
	assert_true(span_equal(buf_span(&decoded), span_make(all, sizeof(all))));
	for (size_t i = 0; i < encoded.len; i++)
		assert_in_range(encoded.data[i], 0x20, 0x7e);
	buf_finish(&encoded);
	buf_finish(&decoded);
}

static void status_is_parsed_strictly(void **state)
{
	static const char *const wrong[] = {"",	  "17", "-1",  "00",  "01", "+1",
					    " 1", "1 ", "016", "256", "x"};

	(void)state;
	for (int status = 0; status <= 16; status++) {
		char text[8];
		int len = snprintf(text, sizeof(text), "%d", status);

		assert_int_equal(grpc_parse_status(span_make(text, (size_t)len)), status);
	}
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_int_equal(grpc_parse_status(span_from_cstr(wrong[i])), GRPC_UNKNOWN);
}

static void status_of_plain_http_is_mapped(void **state)
{
	static const struct {
		int http;
		enum grpc_status grpc;
	} rows[] = {
		{400, GRPC_INTERNAL},	       {401, GRPC_UNAUTHENTICATED},
		{403, GRPC_PERMISSION_DENIED}, {404, GRPC_UNIMPLEMENTED},
		{429, GRPC_UNAVAILABLE},       {502, GRPC_UNAVAILABLE},
		{503, GRPC_UNAVAILABLE},       {504, GRPC_UNAVAILABLE},
		{200, GRPC_UNKNOWN},	       {500, GRPC_UNKNOWN},
		{302, GRPC_UNKNOWN},	       {0, GRPC_UNKNOWN},
	};

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(rows); row++)
		assert_int_equal(grpc_status_from_http(rows[row].http), rows[row].grpc);
}

static void rest_of_a_message_ends_at_its_border(void **state)
{
	/* messages of 3 and of 0 bytes */
	static const uint8_t two[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 0, 0};
	static const size_t rest[] = {0, 7, 6, 5, 4, 3, 2, 1, 0, 4, 3, 2, 1, 0};

	(void)state;
	for (size_t offset = 0; offset <= sizeof(two); offset++)
		assert_int_equal(grpc_rest_of_message(span_make(two, sizeof(two)), offset),
				 rest[offset]);
	/* no whole messages: all that is there */
	assert_int_equal(grpc_rest_of_message(span_make(two, 6), 2), 4);
	assert_int_equal(grpc_rest_of_message(span_make(two, 3), 1), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_put_together_at_every_split),
		cmocka_unit_test(stream_may_end_only_between_messages),
		cmocka_unit_test(whole_message_is_lent_in_place),
		cmocka_unit_test(bad_prefix_is_refused),
		cmocka_unit_test(inflated_size_is_bounded_to_the_byte),
		cmocka_unit_test(damaged_gzip_is_refused),
		cmocka_unit_test(random_messages_round_trip),
		cmocka_unit_test(timeout_is_parsed_strictly),
		cmocka_unit_test(timeout_is_formatted_and_never_shortened),
		cmocka_unit_test(message_is_percent_encoded),
		cmocka_unit_test(malformed_escapes_are_kept),
		cmocka_unit_test(any_message_round_trips),
		cmocka_unit_test(status_is_parsed_strictly),
		cmocka_unit_test(status_of_plain_http_is_mapped),
		cmocka_unit_test(rest_of_a_message_ends_at_its_border),
	};

	return cmocka_run_group_tests_name("grpc", tests, NULL, NULL);
}
