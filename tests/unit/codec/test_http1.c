#include "base/check.h"
#include "codec/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct http1_limits wide = {.head_bytes_max = 16384, .line_bytes_max = 8192};

#define HEAD(text) SPAN(text "\r\nHost: h\r\n\r\n")

/* Parses a copy with nothing behind it, so that reading on is seen; the head's spans are not used
 * afterwards. */
static ptrdiff_t parse_request(struct span text, struct http1_head *head)
{
	uint8_t *copy = malloc(text.len ? text.len : 1);

	if (text.len > 0)
		memcpy(copy, text.data, text.len);

	ptrdiff_t taken = http1_parse_request(span_make(copy, text.len), &wide, head);

	free(copy);
	return taken;
}

/* ---- request heads that are taken ---- */

static const struct {
	struct span text;
	const char *method, *path, *query;
	int minor;
	bool keep_alive;
	enum http1_body body;
	uint64_t length;
} requests[] = {
	{HEAD("GET / HTTP/1.1"), "GET", "/", "", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("GET /a?b=c?d HTTP/1.1"), "GET", "/a", "b=c?d", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("GET /a? HTTP/1.1"), "GET", "/a", "", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("GET //a%2Fb/../c;d|e HTTP/1.1"), "GET", "//a%2Fb/../c;d|e", "", 1, true,
	 HTTP1_BODY_NONE, 0},
	{HEAD("\r\nGET / HTTP/1.1"), "GET", "/", "", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("GET / HTTP/1.0"), "GET", "/", "", 0, false, HTTP1_BODY_NONE, 0},
	{HEAD("GET / HTTP/1.2"), "GET", "/", "", 1, true, HTTP1_BODY_NONE, 0},
	{SPAN("GET / HTTP/1.0\r\n\r\n"), "GET", "/", "", 0, false, HTTP1_BODY_NONE, 0},
	{HEAD("X!#$%&'*+-.^_`|~z9 / HTTP/1.1"), "X!#$%&'*+-.^_`|~z9", "/", "", 1, true,
	 HTTP1_BODY_NONE, 0},
	{HEAD("GET / HTTP/1.0\r\nConnection: Keep-Alive"), "GET", "/", "", 0, true, HTTP1_BODY_NONE,
	 0},
	{HEAD("GET / HTTP/1.1\r\nConnection: x, ,CLOSE"), "GET", "/", "", 1, false, HTTP1_BODY_NONE,
	 0},
	{HEAD("GET / HTTP/1.1\r\nConnection: keep-alive\r\nConnection: close"), "GET", "/", "", 1,
	 false, HTTP1_BODY_NONE, 0},
	{HEAD("GET / HTTP/1.1\r\nConnection: closed"), "GET", "/", "", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 0"), "POST", "/", "", 1, true, HTTP1_BODY_LENGTH,
	 0},
	{HEAD("POST / HTTP/1.1\r\ncontent-length:\t 42 \t"), "POST", "/", "", 1, true,
	 HTTP1_BODY_LENGTH, 42},
	{HEAD("POST / HTTP/1.0\r\nContent-Length: 7"), "POST", "/", "", 0, false, HTTP1_BODY_LENGTH,
	 7},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 9223372036854775807"), "POST", "/", "", 1, true,
	 HTTP1_BODY_LENGTH, INT64_MAX},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked"), "POST", "/", "", 1, true,
	 HTTP1_BODY_CHUNKED, 0},
	{HEAD("GET http://h HTTP/1.1"), "GET", "/", "", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("GET HTTPS://H/x?y HTTP/1.1"), "GET", "/x", "y", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("GET http://h?y HTTP/1.1"), "GET", "/", "y", 1, true, HTTP1_BODY_NONE, 0},
	{HEAD("OPTIONS * HTTP/1.1"), "OPTIONS", "*", "", 1, true, HTTP1_BODY_NONE, 0},
	{SPAN("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n"), "CONNECT", "", "", 1, true,
	 HTTP1_BODY_NONE, 0},
	{SPAN("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), "GET", "/", "", 1, true, HTTP1_BODY_NONE,
	 0},
	{SPAN("GET / HTTP/1.1\r\nHost: a-b.c%20_~:65535\r\n\r\n"), "GET", "/", "", 1, true,
	 HTTP1_BODY_NONE, 0},
	{SPAN("GET / HTTP/1.1\r\nhOST:h\r\nX:\r\nY: \x80\xff a\tb \r\n\r\n"), "GET", "/", "", 1,
	 true, HTTP1_BODY_NONE, 0},
};

static void request_is_read(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(requests); row++) {
		struct http1_head head;
		ptrdiff_t taken = http1_parse_request(requests[row].text, &wide, &head);

		if (taken != (ptrdiff_t)requests[row].text.len)
			fail_msg("row %zu: %td: %.*s", row, taken, SPAN_ARGS(requests[row].text));
		assert_true(span_equal(head.method, span_from_cstr(requests[row].method)));
		assert_true(span_equal(head.path, span_from_cstr(requests[row].path)));
		assert_true(span_equal(head.query, span_from_cstr(requests[row].query)));
		assert_int_equal(head.minor_version, requests[row].minor);
		assert_int_equal(head.keep_alive, requests[row].keep_alive);
		assert_int_equal(head.body, requests[row].body);
		assert_int_equal(head.content_length, requests[row].length);
		assert_false(head.expect_continue);
	}
}

/* Whatever is cut off, the head waits; whatever comes behind it, the head is the same. */
static void request_waits_at_every_split(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(requests); row++) {
		struct span text = requests[row].text;
		struct http1_head head;
		uint8_t more[400];

		for (size_t len = 0; len < text.len; len++)
			assert_int_equal(parse_request(span_first(text, len), &head), 0);
		memcpy(more, text.data, text.len);
		memcpy(more + text.len, "\n\0GET\r\n\r\n", 9);
		assert_int_equal(parse_request(span_make(more, text.len + 9), &head), text.len);
	}
}

/* ---- request heads that are refused ---- */

static const struct {
	struct span text;
	enum err err;
} refused[] = {
	/* line ends */
	{SPAN("GET / HTTP/1.1\nHost: h\n\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: h\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: h\r\n\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\r\nHost: h\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n"), ERR_BAD_REQUEST},
	/* request line */
	{HEAD(" GET / HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET  / HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /  HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1 "), ERR_BAD_REQUEST},
	{HEAD("GET\t/ HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /"), ERR_BAD_REQUEST},
	{HEAD("GET"), ERR_BAD_REQUEST},
	{HEAD("G(T / HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("G\xc3T / HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("G/T / HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.10"), ERR_BAD_REQUEST},
	{HEAD("GET / http/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/a.1"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1,1"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/2.0"), ERR_HTTP_VERSION},
	{HEAD("GET / HTTP/0.9"), ERR_HTTP_VERSION},
	{HEAD("PRI * HTTP/2.0"), ERR_HTTP_VERSION},
	/* target */
	{HEAD("GET a HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET ?a HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET * HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET h:80 HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /#a HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /?a#b HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /\\a HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /\x01 HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /\0 HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /\x7f HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /\xc3\xa9 HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /% HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /%4 HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET /%4g HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET http://x/ HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET http:/h HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET http:///a HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET ftp://h/ HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("GET http://u@h/ HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("CONNECT h HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("CONNECT / HTTP/1.1"), ERR_BAD_REQUEST},
	{HEAD("CONNECT x:80 HTTP/1.1"), ERR_BAD_REQUEST},
	/* Host */
	{SPAN("GET / HTTP/1.1\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost:\r\n\r\n"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nHost: h"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.0\r\nHost: h"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: a,b/c\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: h:\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: h:x\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: :80\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: [g::1]\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), ERR_BAD_REQUEST},
	{SPAN("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n"), ERR_BAD_REQUEST},
	/* fields */
	{HEAD("GET / HTTP/1.1\r\n X: y"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX: y\r\n z"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX: y\r\n\tz: a"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX : y"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX\t: y"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\n: y"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX(: y"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX\0: y"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX: a\0b"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX: a\x0b"), ERR_BAD_REQUEST},
	{HEAD("GET / HTTP/1.1\r\nX: a\x7f"), ERR_BAD_REQUEST},
	/* the body's length */
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 1, 1"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: +1"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: -1"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 0x1"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 1 2"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length:"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 9223372036854775808"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 18446744073709551617"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"),
	 ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1"),
	 ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.0\r\nTransfer-Encoding: chunked"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
	 ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: gzip"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: chunked;a=b"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding:"), ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: \x0b"
	      "chunked"),
	 ERR_BAD_REQUEST},
	{HEAD("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked"), ERR_TRANSFER_CODING},
	/* Expect */
	{HEAD("POST / HTTP/1.1\r\nExpect: 200-ok"), ERR_EXPECTATION},
	{HEAD("POST / HTTP/1.1\r\nExpect: 100-continue\r\nExpect: 100-continue"), ERR_BAD_REQUEST},
};

static void faulty_request_is_refused(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(refused); row++) {
		struct http1_head head;
		ptrdiff_t taken = parse_request(refused[row].text, &head);

		if (taken != -(ptrdiff_t)refused[row].err)
			fail_msg("row %zu: %td: %.*s", row, taken, SPAN_ARGS(refused[row].text));
		assert_in_range(head.fault, HTTP1_FAULT_NONE + 1, HTTP1_FAULT_COUNT - 1);
		assert_true(strlen(http1_fault_name(head.fault)) > 0);
		/* a part of it may wait or be refused, it is never taken */
		for (size_t len = 0; len < refused[row].text.len; len++)
			assert_true(parse_request(span_first(refused[row].text, len), &head) <= 0);
	}
}

static void another_protocol_is_refused_without_an_empty_line(void **state)
{
	struct http1_head head;

	(void)state;
	assert_int_equal(parse_request(SPAN("\x16\x03\x01\x02"), &head), -ERR_BAD_REQUEST);
	assert_int_equal(parse_request(SPAN("GET / HTTP/1.1\nHost: h"), &head), -ERR_BAD_REQUEST);
	assert_int_equal(parse_request(SPAN("*1\r\n$4\r\nPING\r\n"), &head), -ERR_BAD_REQUEST);
	assert_int_equal(parse_request(SPAN("GET / HTT"), &head), 0);
}

static void expectation_is_told_to_1_1_only(void **state)
{
	struct http1_head head;

	(void)state;
	assert_true(
		parse_request(HEAD("POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1"),
			      &head) > 0);
	assert_true(head.expect_continue);
	assert_true(
		parse_request(HEAD("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1"),
			      &head) > 0);
	assert_false(head.expect_continue);
}

static void limits_hold_to_the_byte(void **state)
{
	struct span text = HEAD("GET /abc HTTP/1.1"); /* 17 + 2 + 9 + 2 */
	struct http1_limits limits = {.head_bytes_max = text.len, .line_bytes_max = 17};
	struct http1_head head;

	(void)state;
	assert_int_equal(text.len, 30);
	assert_int_equal(http1_parse_request(text, &limits, &head), 30);
	/* wherever it is cut, between CR and LF too */
	for (size_t cut = 0; cut < text.len; cut++)
		assert_int_equal(http1_parse_request(span_first(text, cut), &limits, &head), 0);
	limits.line_bytes_max = 16;
	assert_int_equal(http1_parse_request(text, &limits, &head), -ERR_HEADERS_TOO_LARGE);
	assert_int_equal(http1_parse_request(span_first(text, 17), &limits, &head),
			 -ERR_HEADERS_TOO_LARGE);
	assert_int_equal(http1_parse_request(span_first(text, 16), &limits, &head), 0);
	limits = (struct http1_limits){.head_bytes_max = 29, .line_bytes_max = 17};
	assert_int_equal(http1_parse_request(text, &limits, &head), -ERR_HEADERS_TOO_LARGE);
	assert_int_equal(http1_parse_request(span_first(text, 29), &limits, &head), 0);
	limits.head_bytes_max = 28;
	assert_int_equal(http1_parse_request(span_first(text, 29), &limits, &head),
			 -ERR_HEADERS_TOO_LARGE);
}

static void response_line_over_the_limit_is_refused_whole_or_cut(void **state)
{
	struct span text = HEAD("HTTP/1.1 200 abc"); /* 16 + 2 + 9 + 2 */
	struct http1_limits limits = {.head_bytes_max = 29, .line_bytes_max = 16};
	struct http1_head head;

	(void)state;
	assert_int_equal(text.len, 29);
	assert_int_equal(http1_parse_response(text, &limits, SPAN("GET"), &head), 29);
	limits.line_bytes_max = 15;
	for (size_t cut = 16; cut <= text.len; cut++)
		assert_int_equal(
			http1_parse_response(span_first(text, cut), &limits, SPAN("GET"), &head),
			-ERR_HEADERS_TOO_LARGE);
}

static void headers_are_counted(void **state)
{
	for (size_t count = HTTP1_HEADERS_MAX - 1; count <= HTTP1_HEADERS_MAX + 1; count++) {
		struct buf text;
		struct http1_head head;

		(void)state;
		buf_init(&text, 4096);
		buf_append(&text, SPAN("GET / HTTP/1.1\r\nHost: h\r\n"));
		for (size_t i = 1; i < count; i++)
			buf_printf(&text, "X%zu: %zu\r\n", i, i);
		buf_append(&text, SPAN("\r\n"));

		ptrdiff_t taken = http1_parse_request(buf_span(&text), &wide, &head);

		if (count > HTTP1_HEADERS_MAX) {
			assert_int_equal(taken, -ERR_HEADERS_TOO_LARGE);
		} else {
			assert_int_equal(taken, text.len);
			assert_int_equal(head.header_count, count);
			assert_true(span_equal(http1_find_header(&head, SPAN("x98"))->value,
					       SPAN("98")));
			assert_null(http1_find_header(&head, SPAN("x")));
		}
		buf_finish(&text);
	}
}

/* Else a client that sends line by line has all that came before looked through again each time. */
static void header_too_many_is_refused_before_the_head_ends(void **state)
{
	struct buf text;
	struct http1_head head;

	(void)state;
	buf_init(&text, 4096);
	buf_append(&text, SPAN("GET / HTTP/1.1\r\n"));
	for (size_t i = 0; i < HTTP1_HEADERS_MAX; i++) {
		buf_append(&text, SPAN("X: 1\r\n"));
		assert_int_equal(http1_parse_request(buf_span(&text), &wide, &head), 0);
	}
	buf_append(&text, SPAN("X: 1\r\n"));
	assert_int_equal(http1_parse_request(buf_span(&text), &wide, &head),
			 -ERR_HEADERS_TOO_LARGE);
	assert_int_equal(head.fault, HTTP1_FAULT_FIELD_COUNT);
	buf_finish(&text);
}

/* ---- responses ---- */

static const struct {
	struct span text;
	const char *method;
	int code; /* status, or -err */
	enum http1_body body;
	bool keep_alive;
} responses[] = {
	{SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "GET", 200, HTTP1_BODY_LENGTH, true},
	{SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "HEAD", 200, HTTP1_BODY_NONE, true},
	{SPAN("HTTP/1.1 200 OK\r\n\r\n"), "GET", 200, HTTP1_BODY_UNTIL_CLOSE, false},
	{SPAN("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"), "GET", 200, HTTP1_BODY_LENGTH,
	 false},
	{SPAN("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"), "POST", 200,
	 HTTP1_BODY_CHUNKED, true},
	{SPAN("HTTP/1.1 204\r\n\r\n"), "GET", 204, HTTP1_BODY_NONE, true},
	{SPAN("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"), "GET", 304, HTTP1_BODY_NONE, true},
	{SPAN("HTTP/1.1 100 Continue\r\n\r\n"), "POST", 100, HTTP1_BODY_NONE, true},
	{SPAN("HTTP/1.1 200 OK\r\n\r\n"), "CONNECT", 200, HTTP1_BODY_NONE, true},
	{SPAN("HTTP/1.1 503 a\xff b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), "GET", 503,
	 HTTP1_BODY_LENGTH, false},
	{SPAN("HTTP/1.1 200OK\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1  200 OK\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 20 OK\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 2000 OK\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 099 OK\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 600 OK\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 200 O\0K\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/2.0 200 OK\r\n\r\n"), "GET", -ERR_HTTP_VERSION, 0, false},
	{SPAN("ICY 200 OK\r\nX: y\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 200 OK\nX: y\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"), "GET",
	 -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), "GET",
	 -ERR_BAD_REQUEST, 0, false},
	{SPAN("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "GET", -ERR_BAD_REQUEST, 0,
	 false},
	{SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), "GET",
	 -ERR_TRANSFER_CODING, 0, false},
};

static void response_is_read_or_refused(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(responses); row++) {
		struct span text = responses[row].text,
			    method = span_from_cstr(responses[row].method);
		struct http1_head head;
		ptrdiff_t taken = http1_parse_response(text, &wide, method, &head);

		for (size_t len = 0; len < text.len; len++)
			assert_true(http1_parse_response(span_first(text, len), &wide, method,
							 &head) <= 0);
		if (responses[row].code < 0) {
			if (taken != responses[row].code)
				fail_msg("row %zu: %td", row, taken);
			continue;
		}
		assert_int_equal(http1_parse_response(text, &wide, method, &head), text.len);
		assert_int_equal(head.status, responses[row].code);
		assert_int_equal(head.body, responses[row].body);
		assert_int_equal(head.keep_alive, responses[row].keep_alive);
	}
}

/* ---- bodies ---- */

/* Reads `bytes` cut at `cut`; appends the content. Returns the bytes taken in all, or the error. */
static ptrdiff_t read_body(const struct http1_head *head, struct span bytes, size_t cut,
			   struct buf *out, bool *finished)
{
	struct http1_body_reader reader;
	size_t at = 0;

	http1_body_init(&reader, head);
	for (int part = 0; part < 2; part++) {
		size_t end = part == 0 ? cut : bytes.len;

		while (at < end && !reader.finished) {
			struct span content;
			ptrdiff_t taken = http1_body_take(
				&reader, span_make(bytes.data + at, end - at), &content);

			if (taken < 0)
				return taken;
			assert_true(taken > 0);
			buf_append(out, content);
			at += (size_t)taken;
		}
	}
	*finished = reader.finished;
	return (ptrdiff_t)at;
}

static const struct {
	struct span bytes;
	const char *content;
	size_t taken; /* 0: not finished */
} chunked[] = {
	{SPAN("0\r\n\r\n"), "", 5},
	{SPAN("000\r\n\r\nGET"), "", 7},
	{SPAN("5\r\nabcde\r\n0\r\n\r\n"), "abcde", 15},
	{SPAN("1\r\na\r\nA\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\nx"), "a\r\n\r\n\r\n\r\n\r\n", 26},
	{SPAN("00000000000000a\r\n0123456789\r\n0\r\n\r\n"), "0123456789", 34},
	{SPAN("1;a\r\nx\r\n0;a=b;c=\"d\\\"\xff;\r\";e\r\n\r\n"), NULL, 0},
	{SPAN("1;a\r\nx\r\n0;a=b;c=\"d\\\"\xff; \";e\r\n\r\n"), "x", 30},
	{SPAN("0\r\nX: y\r\nZ:\r\n\r\n"), "", 15},
	{SPAN("3\r\nabc\r\n"), "abc", 0},
	{SPAN("3\r\nab"), "ab", 0},
	/* refused: content NULL */
	{SPAN("\r\n"), NULL, 0},
	{SPAN(" 1\r\n"), NULL, 0},
	{SPAN("1 \r\n"), NULL, 0},
	{SPAN("1\n"), NULL, 0},
	{SPAN("1\rx"), NULL, 0},
	{SPAN("0x1\r\n"), NULL, 0},
	{SPAN("-1\r\n"), NULL, 0},
	{SPAN("+1\r\n"), NULL, 0},
	{SPAN("g\r\n"), NULL, 0},
	{SPAN("1000000000000000\r\n"), NULL, 0},
	{SPAN("0000000000000001\r\n"), NULL, 0},
	{SPAN("ffffffffffffffff1\r\n"), NULL, 0},
	{SPAN("1;\r\n"), NULL, 0},
	{SPAN("1; a\r\n"), NULL, 0},
	{SPAN("1;a=\r\n"), NULL, 0},
	{SPAN("1;a=b=c\r\n"), NULL, 0},
	{SPAN("1;a=\"b\"c\r\n"), NULL, 0},
	{SPAN("1;a=\"\n\"\r\n"), NULL, 0},
	{SPAN("1;a=\"\\\n\"\r\n"), NULL, 0},
	{SPAN("1;a\n"), NULL, 0},
	{SPAN("1\r\nab"), NULL, 0},
	{SPAN("1\r\na\n"), NULL, 0},
	{SPAN("1\r\na\r0"), NULL, 0},
	{SPAN("0\r\n\n"), NULL, 0},
	{SPAN("0\r\n\rx"), NULL, 0},
	{SPAN("0\r\n X: y\r\n\r\n"), NULL, 0},
	{SPAN("0\r\nX\r\n\r\n"), NULL, 0},
	{SPAN("0\r\nX : y\r\n\r\n"), NULL, 0},
	{SPAN("0\r\nX: y\n\r\n"), NULL, 0},
	{SPAN("0\r\nX: y\rz"), NULL, 0},
	{SPAN("0\r\nX: \0\r\n\r\n"), NULL, 0},
	{SPAN("0\r\n: y\r\n\r\n"), NULL, 0},
};

static void chunked_body_is_read_at_every_split(void **state)
{
	const struct http1_head head = {.body = HTTP1_BODY_CHUNKED};

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(chunked); row++) {
		for (size_t cut = 0; cut <= chunked[row].bytes.len; cut++) {
			struct buf out;
			bool finished = false;

			buf_init(&out, 4096);

			ptrdiff_t taken =
				read_body(&head, chunked[row].bytes, cut, &out, &finished);

			if (!chunked[row].content) {
				if (taken != -ERR_BAD_REQUEST)
					fail_msg("row %zu: %td", row, taken);
			} else {
				if (finished != (chunked[row].taken > 0))
					fail_msg("row %zu", row);
				assert_int_equal(taken, finished ? chunked[row].taken
								 : chunked[row].bytes.len);
				assert_true(span_equal(buf_span(&out),
						       span_from_cstr(chunked[row].content)));
			}
			buf_finish(&out);
		}
	}
}

static void chunk_line_and_trailers_are_bounded(void **state)
{
	const struct http1_head head = {.body = HTTP1_BODY_CHUNKED};
	struct buf text, out;
	bool finished;

	(void)state;
	for (size_t len = 240; len < 260; len++) {
		buf_init(&text, 1 << 16);
		buf_init(&out, 16);
		buf_append(&text, SPAN("1;"));
		for (size_t i = 0; i < len; i++)
			buf_append_byte(&text, 'x');
		buf_append(&text, SPAN("\r\na\r\n0\r\n\r\n"));
		assert_int_equal(read_body(&head, buf_span(&text), 0, &out, &finished),
				 len + 4 <= 255 ? (ptrdiff_t)text.len : -ERR_BAD_REQUEST);
		buf_finish(&text);
		buf_finish(&out);
	}

	buf_init(&text, 1 << 16);
	buf_init(&out, 16);
	buf_append(&text, SPAN("0\r\n"));
	for (size_t i = 0; i < 2000; i++)
		buf_append(&text, SPAN("a: b\r\n"));
	buf_append(&text, SPAN("\r\n"));
	assert_int_equal(read_body(&head, buf_span(&text), 0, &out, &finished), -ERR_BAD_REQUEST);
	buf_finish(&text);
	buf_finish(&out);

	/* many small chunks are no overhead that adds up */
	buf_init(&text, 1 << 20);
	buf_init(&out, 1 << 16);
	for (size_t i = 0; i < 10000; i++)
		buf_append(&text, SPAN("1;abcdefgh\r\na\r\n"));
	buf_append(&text, SPAN("0\r\n\r\n"));
	assert_int_equal(read_body(&head, buf_span(&text), 0, &out, &finished), text.len);
	assert_int_equal(out.len, 10000);
	buf_finish(&text);
	buf_finish(&out);
}

static void counted_body_ends_by_its_length(void **state)
{
	const struct http1_head head = {.body = HTTP1_BODY_LENGTH, .content_length = 5};

	(void)state;
	for (size_t cut = 0; cut <= 8; cut++) {
		struct buf out;
		bool finished;

		buf_init(&out, 100);
		assert_int_equal(read_body(&head, SPAN("abcdefgh"), cut, &out, &finished), 5);
		assert_true(finished);
		assert_true(span_equal(buf_span(&out), SPAN("abcde")));
		buf_finish(&out);
	}
}

static void other_bodies_end_as_they_say(void **state)
{
	const struct http1_head none = {.body = HTTP1_BODY_NONE},
				empty = {.body = HTTP1_BODY_LENGTH},
				open = {.body = HTTP1_BODY_UNTIL_CLOSE};
	struct http1_body_reader reader;
	struct span content;

	(void)state;
	http1_body_init(&reader, &none);
	assert_true(reader.finished);
	assert_int_equal(http1_body_take(&reader, SPAN("abc"), &content), 0);
	assert_int_equal(content.len, 0);
	http1_body_init(&reader, &empty);
	assert_true(reader.finished);
	http1_body_init(&reader, &open);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(http1_body_take(&reader, SPAN("abc"), &content), 3);
		assert_int_equal(content.len, 3);
		assert_false(reader.finished);
	}
	assert_int_equal(http1_body_take(&reader, SPAN_EMPTY, &content), 0);
}

/* Small changes to a good request: nothing breaks, and what is taken has been cut right. */
static void random_changes_do_no_harm(void **state)
{
	static const char alphabet[] = "\r\n :,;\t\0/?#%AGz019[]@\\\"\x7f\x80";
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 50000; round++) {
		struct span text = requests[(unsigned)rand_r(&seed) % ARRAY_LEN(requests)].text;
		uint8_t bytes[400];
		struct http1_head head;

		memcpy(bytes, text.data, text.len);
		for (int i = rand_r(&seed) % 3; i >= 0; i--)
			bytes[(unsigned)rand_r(&seed) % text.len] =
				(uint8_t)alphabet[(unsigned)rand_r(&seed) % (sizeof(alphabet) - 1)];

		ptrdiff_t taken = parse_request(span_make(bytes, text.len), &head);

		assert_true(taken <= (ptrdiff_t)text.len);
		if (taken > 0)
			assert_memory_equal(bytes + taken - 4, "\r\n\r\n", 4);
	}
}

static void reasons_are_known(void **state)
{
	(void)state;
	assert_string_equal(http1_reason(200), "OK");
	assert_string_equal(http1_reason(431), "Request Header Fields Too Large");
	assert_string_equal(http1_reason(299), "Unknown");
	/* every row that can be answered has one */
#define ERR(name, text, http_status, http_code, grpc, step)                                        \
	assert_string_not_equal(http1_reason(http_status), "Unknown");
#include "base/err.def"
#undef ERR
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_is_read),
		cmocka_unit_test(request_waits_at_every_split),
		cmocka_unit_test(faulty_request_is_refused),
		cmocka_unit_test(another_protocol_is_refused_without_an_empty_line),
		cmocka_unit_test(expectation_is_told_to_1_1_only),
		cmocka_unit_test(limits_hold_to_the_byte),
		cmocka_unit_test(response_line_over_the_limit_is_refused_whole_or_cut),
		cmocka_unit_test(headers_are_counted),
		cmocka_unit_test(header_too_many_is_refused_before_the_head_ends),
		cmocka_unit_test(response_is_read_or_refused),
		cmocka_unit_test(chunked_body_is_read_at_every_split),
		cmocka_unit_test(chunk_line_and_trailers_are_bounded),
		cmocka_unit_test(counted_body_ends_by_its_length),
		cmocka_unit_test(other_bodies_end_as_they_say),
		cmocka_unit_test(random_changes_do_no_harm),
		cmocka_unit_test(reasons_are_known),
	};

	return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
