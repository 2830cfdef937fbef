/* set_cookie: what browsers are told to keep, and for how long. */
#include "rest/set_cookie.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_written(const struct set_cookie *cookie, const char *wanted)
{
	struct buf out;

	buf_init(&out, 4096);
	assert_int_equal(set_cookie_write(cookie, &out), 0);
	buf_append_byte(&out, '\0');
	assert_string_equal((const char *)out.data, wanted);
	buf_finish(&out);
}

static void cookie_says_how_long_it_lives(void **state)
{
	(void)state;
	static const struct {
		uint64_t expires_s;
		const char *wanted;
	} rows[] = {
		{0, "n=v; Path=/a; HttpOnly; Secure; SameSite=Lax"},
		{1, "n=v; Path=/a; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; "
		    "Secure; SameSite=Lax"},
		{784111777, "n=v; Path=/a; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; "
			    "HttpOnly; Secure; SameSite=Lax"},
		{784111778, "n=v; Path=/a; Expires=Sun, 06 Nov 1994 08:49:38 GMT; Max-Age=1; "
			    "HttpOnly; Secure; SameSite=Lax"},
		{UINT64_MAX, "n=v; Path=/a; Expires=Mon, 11 Dec 1995 08:49:37 GMT; "
			     "Max-Age=34560000; HttpOnly; Secure; SameSite=Lax"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_written(&(struct set_cookie){.name = "n",
						    .value = SPAN("v"),
						    .path = "/a",
						    .now_s = 784111777,
						    .expires_s = rows[i].expires_s},
			       rows[i].wanted);
}

static void cookie_that_does_not_fit_is_an_error(void **state)
{
	(void)state;
	static const struct set_cookie cookie = {
		.name = "name", .path = "/", .now_s = 1, .expires_s = 100};

	for (size_t max = 0; max < 96; max++) {
		struct buf out;

		buf_init(&out, max);
		assert_int_equal(set_cookie_write(&cookie, &out), -ENOMEM);
		buf_finish(&out);
	}
}

static void value_has_the_bytes_of_a_cookie(void **state)
{
	(void)state;
	assert_false(set_cookie_can_hold(SPAN_EMPTY));
	for (int byte = 0; byte < 256; byte++) {
		uint8_t text[] = {'a', (uint8_t)byte, 'b'};
		bool good = byte == 0x21 || (byte >= 0x23 && byte <= 0x2b) ||
			    (byte >= 0x2d && byte <= 0x3a) || (byte >= 0x3c && byte <= 0x5b) ||
			    (byte >= 0x5d && byte <= 0x7e);

		assert_int_equal(set_cookie_can_hold(span_make(text, sizeof(text))), good);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cookie_says_how_long_it_lives),
		cmocka_unit_test(cookie_that_does_not_fit_is_an_error),
		cmocka_unit_test(value_has_the_bytes_of_a_cookie),
	};

	return cmocka_run_group_tests_name("rest/set_cookie", tests, NULL, NULL);
}
