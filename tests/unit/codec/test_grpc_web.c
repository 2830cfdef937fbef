/* grpc_web: media types, base64 whole and cut anywhere, trailers as a frame. */
#include "codec/grpc_web.h"

#include "base/base64.h"
#include "base/check.h"
#include "codec/grpc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define OUT_MAX 65536

/* ---- media types ---- */

static void media_types_are_told_apart(void **state)
{
	static const struct {
		const char *text;
		enum grpc_web_kind kind;
	} rows[] = {
		{"application/grpc-web", GRPC_WEB_BINARY},
		{"application/grpc-web+proto", GRPC_WEB_BINARY},
		{"Application/gRPC-Web+Proto", GRPC_WEB_BINARY},
		{"application/grpc-web;charset=utf-8", GRPC_WEB_BINARY},
		{" application/grpc-web+proto ; a=b", GRPC_WEB_BINARY},
		{"application/grpc-web-text", GRPC_WEB_TEXT},
		{"application/grpc-web-text+proto", GRPC_WEB_TEXT},
		{"application/grpc-web-text-base64", GRPC_WEB_TEXT},
		{"", GRPC_WEB_NONE},
		{";", GRPC_WEB_NONE},
		{"application/grpc", GRPC_WEB_NONE},
		{"application/grpc+proto", GRPC_WEB_NONE},
		{"application/grpc-web+json", GRPC_WEB_NONE},
		{"application/grpc-webs", GRPC_WEB_NONE},
		{"application/grpc-web-", GRPC_WEB_NONE},
		{"application/grpc-web-texts", GRPC_WEB_NONE},
		{"xapplication/grpc-web", GRPC_WEB_NONE},
		{"*/*", GRPC_WEB_NONE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (grpc_web_kind_of(span_from_cstr(rows[i].text)) != rows[i].kind)
			fail_msg("%s", rows[i].text);
}

static void answer_is_of_the_kind_that_is_named_first_or_of_the_request_s(void **state)
{
	static const struct {
		const char *accept;
		enum grpc_web_kind of_binary, of_text;
	} rows[] = {
		{"", GRPC_WEB_BINARY, GRPC_WEB_TEXT},
		{"*/*", GRPC_WEB_BINARY, GRPC_WEB_TEXT},
		{",,", GRPC_WEB_BINARY, GRPC_WEB_TEXT},
		{"application/grpc-web-text", GRPC_WEB_TEXT, GRPC_WEB_TEXT},
		{"application/grpc-web+proto", GRPC_WEB_BINARY, GRPC_WEB_BINARY},
		{"text/html,application/grpc-web;q=1 , application/grpc-web-text", GRPC_WEB_BINARY,
		 GRPC_WEB_BINARY},
		{"text/html , application/grpc-web-text;q=0.1", GRPC_WEB_TEXT, GRPC_WEB_TEXT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct span accept = span_from_cstr(rows[i].accept);

		assert_int_equal(grpc_web_answer_kind(accept, GRPC_WEB_BINARY), rows[i].of_binary);
		assert_int_equal(grpc_web_answer_kind(accept, GRPC_WEB_TEXT), rows[i].of_text);
	}
	assert_int_equal(grpc_web_kind_of(span_from_cstr(grpc_web_media_type(GRPC_WEB_TEXT))),
			 GRPC_WEB_TEXT);
	assert_int_equal(grpc_web_kind_of(span_from_cstr(grpc_web_media_type(GRPC_WEB_BINARY))),
			 GRPC_WEB_BINARY);
}

/* ---- text ---- */

/* In pieces of `step`, the first `first` bytes long. Returns the code; idle: 0, open: 1. */
static int decode(struct span text, size_t first, size_t step, struct buf *out)
{
	struct grpc_web_text decoder = {0};
	size_t len = first;

	while (text.len > 0) {
		struct span part = span_first(text, len < text.len ? len : text.len);
		int code = grpc_web_text_take(&decoder, part, out);

		if (code)
			return code;
		text = span_from(text, part.len);
		len = step;
	}
	return !grpc_web_text_is_idle(&decoder);
}

static void check_text(const char *text, struct span bytes)
{
	struct span input = span_from_cstr(text);
	struct buf out;

	buf_init(&out, OUT_MAX);
	for (size_t at = 1; at <= input.len + 1; at++) {
		assert_int_equal(decode(input, at, SIZE_MAX, &out), 0);
		assert_true(span_equal(buf_span(&out), bytes));
		buf_clear(&out, 0);
	}
	assert_int_equal(decode(input, 1, 1, &out), 0);
	assert_true(span_equal(buf_span(&out), bytes));
	buf_finish(&out);
}

static void text_says_the_same_wherever_it_is_cut(void **state)
{
	(void)state;
	check_text("", SPAN_EMPTY);
	check_text("AA==", SPAN("\0"));
	check_text("AAE=", SPAN("\0\1"));
	check_text("AAEC", SPAN("\0\1\2"));
	check_text("+/+/", SPAN("\xfb\xff\xbf"));
	check_text("Zm9vYmFy", SPAN("foobar"));
}

static void text_may_be_padded_at_the_end_of_any_group(void **state)
{
	(void)state;
	check_text("Zg==b28=YmFy", SPAN("foobar"));
	check_text("Zg==bw==bw==Yg==YQ==cg==", SPAN("foobar"));
	check_text("Zm9vYmE=cg==", SPAN("foobar"));
}

static void wrong_text_is_refused_wherever_it_is_cut(void **state)
{
	static const char *const rows[] = {
		"=AAA", "A=AA", "A===",		  "====",     "AA=A",	  "AA=",
		"AAA",	"A",	"AAAAA",	  "AB==",     "AAB=",	  "AAA\n",
		"AA-_", "AA A", "AAAAAA\xc3\xa4", "AAAA!AAA", "AA==A===", "AA===AAA",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct span text = span_from_cstr(rows[i]);
		struct buf out;

		buf_init(&out, OUT_MAX);
		for (size_t at = 1; at <= text.len; at++) {
			int code = decode(text, at, 1, &out);

			if (code != 1 && code != -EPROTO)
				fail_msg("%s cut at %zu: %d", rows[i], at, code);
		}
		buf_finish(&out);
	}
}

static void text_of_any_length_comes_back(void **state)
{
	uint8_t bytes[10000], text[13336];
	struct buf out;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	buf_init(&out, sizeof(bytes));
	for (size_t len = 0; len <= sizeof(bytes); len += len < 70 ? 1 : 331) {
		size_t text_len = BASE64_CHARS(len);

		assert_true(text_len <= sizeof(text));
		(void)base64_write(text, span_make(bytes, len));
		assert_int_equal(decode(span_make(text, text_len), 1000, 3, &out), 0);
		assert_true(span_equal(buf_span(&out), span_make(bytes, len)));
		buf_clear(&out, sizeof(bytes));
	}
	buf_finish(&out);
}

static void text_beyond_the_bound_is_refused(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 6);
	assert_int_equal(decode(SPAN("Zm9vYmFy"), 8, 1, &out), 0);
	buf_clear(&out, 0);
	assert_int_equal(decode(SPAN("Zm9vYmFyAA=="), 12, 1, &out), -EMSGSIZE);
	buf_finish(&out);
}

/* ---- trailers ---- */

static void check_trailers(const struct grpc_web_trailers *trailers, const char *lines)
{
	struct buf out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(buf_append(&out, SPAN("before")), 0);
	assert_int_equal(grpc_web_append_trailers(&out, trailers), 0);
	struct span frame = span_from(buf_span(&out), 6);

	assert_int_equal(frame.data[0], GRPC_WEB_TRAILERS);
	assert_int_equal(grpc_read_prefix(frame.data), frame.len - GRPC_PREFIX_BYTES);
	assert_int_equal(frame.len - GRPC_PREFIX_BYTES, strlen(lines));
	assert_memory_equal(frame.data + GRPC_PREFIX_BYTES, lines, strlen(lines));
	buf_finish(&out);
}

static void trailers_are_lines_of_a_frame(void **state)
{
	(void)state;
	check_trailers(&(struct grpc_web_trailers){0}, "grpc-status: 0\r\n");
	check_trailers(&(struct grpc_web_trailers){.status = 16,
						   .message = SPAN("100 % \xc3\xa4\r\nx: y"),
						   .details = SPAN("CAUSA2FiYw"),
						   .retry_after_ms = 1500},
		       "grpc-status: 16\r\n"
		       "grpc-message: 100 %25 %C3%A4%0D%0Ax: y\r\n"
		       "grpc-status-details-bin: CAUSA2FiYw\r\n"
		       "retry-after-ms: 1500\r\n");
}

static void details_with_a_line_break_are_left_out(void **state)
{
	(void)state;
	check_trailers(&(struct grpc_web_trailers){.status = 2, .details = SPAN("a\r\nb: c")},
		       "grpc-status: 2\r\n");
	check_trailers(&(struct grpc_web_trailers){.status = 2, .details = SPAN("a\nb")},
		       "grpc-status: 2\r\n");
}

static void trailers_beyond_the_bound_are_refused(void **state)
{
	const struct grpc_web_trailers trailers = {.status = 2, .message = SPAN("abc")};
	struct buf out;

	(void)state;
	for (size_t max = 0; max < 5 + 16 + 19; max++) {
		buf_init(&out, max);
		assert_int_equal(grpc_web_append_trailers(&out, &trailers), -ENOMEM);
		buf_finish(&out);
	}
	buf_init(&out, 5 + 16 + 19);
	assert_int_equal(grpc_web_append_trailers(&out, &trailers), 0);
	buf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(media_types_are_told_apart),
		cmocka_unit_test(answer_is_of_the_kind_that_is_named_first_or_of_the_request_s),
		cmocka_unit_test(text_says_the_same_wherever_it_is_cut),
		cmocka_unit_test(text_may_be_padded_at_the_end_of_any_group),
		cmocka_unit_test(wrong_text_is_refused_wherever_it_is_cut),
		cmocka_unit_test(text_of_any_length_comes_back),
		cmocka_unit_test(text_beyond_the_bound_is_refused),
		cmocka_unit_test(trailers_are_lines_of_a_frame),
		cmocka_unit_test(details_with_a_line_break_are_left_out),
		cmocka_unit_test(trailers_beyond_the_bound_are_refused),
	};

	return cmocka_run_group_tests_name("grpc_web", tests, NULL, NULL);
}
