#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "config/url.h"

#include <errno.h>
#include <stdlib.h>

static void url_is_taken_apart(void **state)
{
	const struct {
		const char *text, *host, *path, *shown;
		uint16_t port;
	} rows[] = {
		{"http://auth", "auth", "", "http://auth", 80},
		{"HTTP://auth:80", "auth", "", "http://auth", 80},
		{"http://auth:8081/", "auth", "", "http://auth:8081", 8081},
		{"http://10.0.0.7:1/a/b//", "10.0.0.7", "/a/b", "http://10.0.0.7:1/a/b", 1},
		{"http://[::1]/x", "::1", "/x", "http://[::1]/x", 80},
		{"http://[fe80::1]:65535/%7euser/a.b", "fe80::1", "/%7euser/a.b",
		 "http://[fe80::1]:65535/%7euser/a.b", 65535},
		{"http://auth.example.org./a@b:c", "auth.example.org.", "/a@b:c",
		 "http://auth.example.org./a@b:c", 80},
		{"http://auth/...", "auth", "/...", "http://auth/...", 80},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct config_url url, again;
		char text[URL_TEXT_MAX];
		const char *why;

		assert_int_equal(url_parse(span_from_cstr(rows[i].text), &url, &why), 0);
		assert_null(why);
		assert_true(url.set && url.endpoint.kind == ENDPOINT_HOST);
		assert_string_equal(url.endpoint.host, rows[i].host);
		assert_int_equal(url.endpoint.port, rows[i].port);
		assert_string_equal(url.path, rows[i].path);
		assert_int_equal(url_format(&url, text), strlen(rows[i].shown));
		assert_string_equal(text, rows[i].shown);
		assert_int_equal(url_parse(span_from_cstr(text), &again, &why), 0);
		assert_memory_equal(&url, &again, sizeof(url));
	}
}

static void empty_url_is_none(void **state)
{
	struct config_url url;
	char text[URL_TEXT_MAX];
	const char *why;

	(void)state;
	assert_int_equal(url_parse(SPAN_EMPTY, &url, &why), 0);
	assert_false(url.set);
	assert_int_equal(url_format(&url, text), 0);
	assert_string_equal(text, "");
}

static void bad_url_is_refused_with_its_reason(void **state)
{
	const struct {
		const char *text, *why;
	} rows[] = {
		{"https://auth", "is https"},
		{"HTTPS:x", "is https"},
		{"http:/auth", "is no http://"},
		{"auth:8080", "is no http://"},
		{"ftp://auth", "is no http://"},
		{"unix:/run/x", "is no http://"},
		{"http+unix://x", "is no http://"},
		{" http://auth", "is no http://"},
		{"http://", "has no host"},
		{"http:///path", "has no host"},
		{"http://:80", "has no host"},
		{"http://auth:", "has no host"},
		{"http://auth:x", "has no host"},
		{"http://auth:70000", "has no host"},
		{"http://au th", "has no host"},
		{"http://a..b", "has no host"},
		{"http://1.2.3", "has no host"},
		{"http://[::1", "has no host"},
		{"http://[x]:80", "has no host"},
		{"http://::1", "has no host"},
		{"http://unix:/x", "has no host"},
		{"http://auth:0", "has port 0"},
		{"http://me@auth", "has user information"},
		{"http://me:secret@auth:80/x", "has user information"},
		{"http://auth?x", "has a query"},
		{"http://auth/x?", "has a query"},
		{"http://auth/x#y", "has a query"},
		{"http://auth/a b", "has a bad path"},
		{"http://auth/a\tb", "has a bad path"},
		{"http://auth/\xc3\xa4", "has a bad path"},
		{"http://auth/%4", "has a bad path"},
		{"http://auth/%zz", "has a bad path"},
		{"http://auth/a/../b", "has a bad path"},
		{"http://auth/.", "has a bad path"},
		{"http://auth/./x", "has a bad path"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct config_url url;
		const char *why;

		assert_int_equal(url_parse(span_from_cstr(rows[i].text), &url, &why), -EINVAL);
		assert_non_null(why);
		if (strncmp(why, rows[i].why, strlen(rows[i].why)) != 0)
			fail_msg("%s: %s", rows[i].text, why);
	}
}

static void url_is_bounded(void **state)
{
	struct config_url url;
	const char *why;
	char text[1024] = "http://";

	(void)state;
	memset(text + 7, 'a', 1000);
	text[11] = '/';
	assert_int_equal(url_parse(span_make(text, 11 + URL_PATH_MAX), &url, &why), 0);
	assert_int_equal(strlen(url.path), URL_PATH_MAX);
	assert_int_equal(url_parse(span_make(text, 12 + URL_PATH_MAX), &url, &why), -EINVAL);
	text[11] = 'a';
	assert_int_equal(url_parse(span_make(text, 900), &url, &why), -EINVAL);
	assert_int_equal(url_parse(span_make("http://a\0b", 10), &url, &why), -EINVAL);
	assert_int_equal(url_parse(span_make("http://a/\0", 10), &url, &why), -EINVAL);
}

/* Whatever part of a URL is there, in memory of its own: nothing behind it is read. */
static void every_part_of_a_url_is_judged_alone(void **state)
{
	static const char whole[] = "http://[fe80::1]:65535/%7euser/../a.b?x#y";

	(void)state;
	for (size_t len = 1; len < sizeof(whole); len++) {
		char *part = malloc(len);
		struct config_url url;
		const char *why;

		assert_non_null(part);
		memcpy(part, whole, len);
		(void)url_parse(span_make(part, len), &url, &why);
		free(part);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(url_is_taken_apart),
		cmocka_unit_test(empty_url_is_none),
		cmocka_unit_test(bad_url_is_refused_with_its_reason),
		cmocka_unit_test(url_is_bounded),
		cmocka_unit_test(every_part_of_a_url_is_judged_alone),
	};

	return cmocka_run_group_tests_name("config/url", tests, NULL, NULL);
}
