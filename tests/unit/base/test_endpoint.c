#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/endpoint.h"

#include <errno.h>
#include <stdlib.h>

#define LABEL_63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

static const struct {
	const char *text;
	enum endpoint_kind kind;
	uint16_t port;
	const char *host, *path;
} good[] = {
	{":8080", ENDPOINT_ANY, 8080, "", ""},
	{":0", ENDPOINT_ANY, 0, "", ""},
	{":65535", ENDPOINT_ANY, 65535, "", ""},
	{"127.0.0.1:80", ENDPOINT_HOST, 80, "127.0.0.1", ""},
	{"localhost:6379", ENDPOINT_HOST, 6379, "localhost", ""},
	{"redis-0.redis.svc.cluster.local.:6379", ENDPOINT_HOST, 6379,
	 "redis-0.redis.svc.cluster.local.", ""},
	{"my_host:1", ENDPOINT_HOST, 1, "my_host", ""},
	{"3com.example:1", ENDPOINT_HOST, 1, "3com.example", ""},
	{"1.2.3.4a:1", ENDPOINT_HOST, 1, "1.2.3.4a", ""},
	{LABEL_63 ":1", ENDPOINT_HOST, 1, LABEL_63, ""},
	{"[::1]:9090", ENDPOINT_HOST, 9090, "::1", ""},
	{"[::]:9090", ENDPOINT_HOST, 9090, "::", ""},
	{"[2001:db8::7]:0", ENDPOINT_HOST, 0, "2001:db8::7", ""},
	{"[::ffff:1.2.3.4]:5", ENDPOINT_HOST, 5, "::ffff:1.2.3.4", ""},
	{"unix:/run/a.sock", ENDPOINT_UNIX, 0, "", "/run/a.sock"},
	{"unix:/a:b", ENDPOINT_UNIX, 0, "", "/a:b"},
};

static const struct span bad[] = {
	{NULL, 0},
	SPAN(":"),
	SPAN("8080"),
	SPAN("host"),
	SPAN("host:"),
	SPAN("host:65536"),
	SPAN("host:000080"),
	SPAN("host:-1"),
	SPAN("host:+1"),
	SPAN("host: 1"),
	SPAN("host:1 "),
	SPAN("host:http"),
	SPAN(" host:1"),
	SPAN("ho st:1"),
	SPAN("ho\0st:1"),
	SPAN("host:1\0"),
	SPAN("ho/st:1"),
	SPAN("h\xc3\xb6st:1"),
	SPAN(".host:1"),
	SPAN("host..name:1"),
	SPAN(".:1"),
	SPAN("host..:1"),
	SPAN(LABEL_63 "x:1"),
	SPAN("1.2.3:80"),
	SPAN("1.2.3.4.5:80"),
	SPAN("1.2.3.256:80"),
	SPAN("1.2.3.04:80"),
	SPAN("1.2.3.4.:80"),
	SPAN("12345:80"),
	SPAN("host.123:80"),
	SPAN("::1:80"),
	SPAN("[::1]"),
	SPAN("[::1]80"),
	SPAN("[::1]:"),
	SPAN("[::1:80"),
	SPAN("[]:80"),
	SPAN("[::1%eth0]:80"),
	SPAN("[127.0.0.1]:80"),
	SPAN("[host]:80"),
	SPAN("[::1\0]:80"),
	SPAN("[::g]:80"),
	SPAN("[::1]:65536"),
	SPAN("["),
	SPAN("[]"),
	SPAN("unix:"),
	SPAN("unix:/"),
	SPAN("unix:run/a.sock"),
	SPAN("unix:/run\0/a.sock"),
	SPAN("unix:@abstract"),
};

/* On the heap and without NUL, so that a read past the end is seen. */
static int parse_exact(struct span text, struct endpoint *endpoint)
{
	char *copy = malloc(text.len ? text.len : 1);
	int code;

	assert_non_null(copy);
	if (text.len > 0)
		memcpy(copy, text.data, text.len);
	code = endpoint_parse(span_make(text.len ? copy : NULL, text.len), endpoint);
	free(copy);
	return code;
}

static void endpoint_takes_every_form_of_the_contract(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct endpoint endpoint;
		char text[ENDPOINT_TEXT_MAX];

		assert_int_equal(parse_exact(span_from_cstr(good[i].text), &endpoint), 0);
		assert_int_equal(endpoint.kind, good[i].kind);
		assert_int_equal(endpoint.port, good[i].port);
		assert_string_equal(endpoint.host, good[i].host);
		assert_string_equal(endpoint.path, good[i].path);
		assert_int_equal(endpoint_format(&endpoint, text), strlen(good[i].text));
		assert_string_equal(text, good[i].text);
	}
}

static void endpoint_refuses_everything_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct endpoint endpoint;

		if (parse_exact(bad[i], &endpoint) != -EINVAL)
			fail_msg("taken: %.*s", SPAN_ARGS(bad[i]));
	}
}

static void endpoint_takes_every_prefix_without_reading_past_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct span text = span_from_cstr(good[i].text);
		struct endpoint endpoint;

		for (size_t len = 0; len < text.len; len++)
			(void)parse_exact(span_first(text, len), &endpoint);
	}
}

static void endpoint_bounds_hosts_and_paths(void **state)
{
	char text[ENDPOINT_TEXT_MAX + 200];
	char formatted[ENDPOINT_TEXT_MAX];
	struct endpoint endpoint;

	(void)state;
	for (size_t host_len = 240; host_len <= 260; host_len++) {
		for (size_t i = 0; i < host_len; i++)
			text[i] = i % 50 == 49 ? '.' : 'a';
		memcpy(text + host_len, ":65535", 7);

		bool fits = host_len <= ENDPOINT_HOST_MAX;

		assert_int_equal(parse_exact(span_from_cstr(text), &endpoint), fits ? 0 : -EINVAL);
		if (fits)
			assert_int_equal(endpoint_format(&endpoint, formatted), host_len + 6);
	}
	for (size_t path_len = 100; path_len <= 115; path_len++) {
		memcpy(text, "unix:/", 6);
		memset(text + 6, 'p', path_len - 1);

		bool fits = path_len <= ENDPOINT_PATH_MAX;

		assert_int_equal(parse_exact(span_make(text, 5 + path_len), &endpoint),
				 fits ? 0 : -EINVAL);
	}
}

static void what_went_wrong_with_a_name_is_told_of_the_name(void **state)
{
	static const struct {
		const char *address;
		int error;
		const char *text;
	} rows[] = {
		{"redis:6379", -ENOENT, "no such host"},
		{"redis:6379", -EIO, "no name server gave an answer"},
		{"redis:6379", -ECONNREFUSED, "Connection refused"},
		{"unix:/redis.sock", -ENOENT, "No such file or directory"},
		{":80", -EADDRINUSE, "Address already in use"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct endpoint endpoint;

		assert_int_equal(endpoint_parse(span_from_cstr(rows[i].address), &endpoint), 0);
		assert_string_equal(endpoint_error_text(&endpoint, rows[i].error), rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoint_takes_every_form_of_the_contract),
		cmocka_unit_test(endpoint_refuses_everything_else),
		cmocka_unit_test(endpoint_takes_every_prefix_without_reading_past_it),
		cmocka_unit_test(endpoint_bounds_hosts_and_paths),
		cmocka_unit_test(what_went_wrong_with_a_name_is_told_of_the_name),
	};

	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
