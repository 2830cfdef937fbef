#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/command.h"

#include "base/check.h"

#include <stdlib.h>
#include <unistd.h>

static const struct option_row options[] = {
	{"--gateway", "ADDRESS", NULL, true, "where"},
	{"--payload", "TEXT|@FILE", "none", false, "what"},
	{"--timeout", "DURATION", "5s", false, "how long"},
	{"--count", "N", "0", false, "how many"},
	{"--json", NULL, NULL, false, "a switch"},
	{0},
};

static const struct command command = {
	.name = "test",
	.positionals = "FILE [OTHER]",
	.positional_min = 1,
	.positional_max = 2,
	.summary = "Tests.",
	.options = options,
};

struct row {
	const char *words[8];
	int code;
};

static void command_lines_are_taken_or_refused(void **state)
{
	static const struct row rows[] = {
		{{"f", "--gateway", "a:1"}, 0},
		{{"--gateway=a:1", "f", "g"}, 0},
		{{"--gateway", "a:1", "--json", "f"}, 0},
		{{"--gateway", "a:1", "--", "--json"}, 0},
		{{"--gateway", "a:1", "-"}, 0},
		{{"--gateway=", "f"}, 0},
		{{"--gateway", "--json", "f"}, 0}, /* a value may begin with a dash */
		{{0}, EXIT_USAGE},
		{{"f"}, EXIT_USAGE},
		{{"--gateway", "a:1"}, EXIT_USAGE},
		{{"f", "--gateway"}, EXIT_USAGE},
		{{"f", "--gateway", "a:1", "--bogus"}, EXIT_USAGE},
		{{"f", "--gateway", "a:1", "--gatewa", "x"}, EXIT_USAGE},
		{{"f", "--gateway", "a:1", "--gateway", "b:1"}, EXIT_USAGE},
		{{"f", "--gateway", "a:1", "--json=yes"}, EXIT_USAGE},
		{{"f", "g", "h", "--gateway", "a:1"}, EXIT_USAGE},
		{{"f", "-x", "--gateway", "a:1"}, EXIT_USAGE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arguments arguments;
		char *words[8];

		memcpy(words, rows[i].words, sizeof(words));
		if (arguments_parse(&arguments, &command, words) != rows[i].code)
			fail_msg("row %zu", i);
	}
}

static void values_come_from_the_line_or_the_table(void **state)
{
	char *words[] = {"f", "--gateway", "a:1", "--count=7", "--json", NULL};
	struct arguments arguments;
	uint64_t number;

	(void)state;
	assert_int_equal(arguments_parse(&arguments, &command, words), 0);
	assert_string_equal(argument(&arguments, "--gateway"), "a:1");
	assert_string_equal(argument(&arguments, "--timeout"), "5s");
	assert_non_null(argument(&arguments, "--json"));
	assert_string_equal(arguments.positionals[0], "f");
	assert_int_equal(arguments.positional_count, 1);
	assert_true(argument_count(&arguments, "--count", &number));
	assert_int_equal(number, 7);
}

static bool parse_one(struct arguments *arguments, const char *option, const char *value)
{
	char *words[] = {"f", "--gateway=a:1", (char *)(uintptr_t)option, (char *)(uintptr_t)value,
			 NULL};

	return arguments_parse(arguments, &command, words) == 0;
}

static void durations_are_strict(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms; /* 0: refused */
	} rows[] = {
		{"250ms", 250},	     {"5s", 5000}, {"1m30s", 90000}, {"2h", 7200000},
		{"1m1ms", 60001},    {"", 0},	   {"5", 0},	     {"s", 0},
		{"-1s", 0},	     {"5 s", 0},   {"5sx", 0},	     {"0s", 0},
		{"99999999999s", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arguments arguments;
		uint64_t ms = 0;

		assert_true(parse_one(&arguments, "--timeout", rows[i].text));

		bool is_taken = argument_ms(&arguments, "--timeout", &ms);

		if (is_taken != (rows[i].ms > 0) || (is_taken && ms != rows[i].ms))
			fail_msg("'%s' gave %llu", rows[i].text, (unsigned long long)ms);
	}
}

static void addresses_are_those_that_can_be_dialled(void **state)
{
	static const struct {
		const char *text;
		bool is_good;
	} rows[] = {{"localhost:9090", true},
		    {":9090", true},
		    {"[::1]:1", true},
		    {"unix:/tmp/x", true},
		    {"localhost", false},
		    {"localhost:0", false},
		    {":x", false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *words[] = {"f", "--gateway", (char *)(uintptr_t)rows[i].text, NULL};
		struct arguments arguments;
		struct endpoint endpoint;

		assert_int_equal(arguments_parse(&arguments, &command, words), 0);
		if (argument_endpoint(&arguments, "--gateway", &endpoint) != rows[i].is_good)
			fail_msg("'%s'", rows[i].text);
		assert_true(!rows[i].is_good || endpoint.kind != ENDPOINT_ANY);
	}
}

static void payload_is_text_or_a_file(void **state)
{
	char path[] = "/tmp/ringway-payload-XXXXXX", word[64];
	int fd = mkstemp(path);
	struct arguments arguments;
	struct buf payload;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a\0b\n", 4), 4);
	close(fd);
	snprintf(word, sizeof(word), "@%s", path);

	buf_init(&payload, PAYLOAD_MAX);
	assert_true(parse_one(&arguments, "--payload", "plain text"));
	assert_true(argument_payload(&arguments, "--payload", &payload));
	assert_true(span_equal(buf_span(&payload), SPAN("plain text")));
	buf_clear(&payload, 0);
	assert_true(parse_one(&arguments, "--payload", ""));
	assert_true(argument_payload(&arguments, "--payload", &payload));
	assert_int_equal(payload.len, 0);
	assert_true(parse_one(&arguments, "--payload", word));
	assert_true(argument_payload(&arguments, "--payload", &payload));
	assert_true(span_equal(buf_span(&payload), SPAN("a\0b\n")));
	buf_finish(&payload);
	unlink(path);
	assert_false(argument_payload(&arguments, "--payload", &payload));
	buf_finish(&payload);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_lines_are_taken_or_refused),
		cmocka_unit_test(values_come_from_the_line_or_the_table),
		cmocka_unit_test(durations_are_strict),
		cmocka_unit_test(addresses_are_those_that_can_be_dialled),
		cmocka_unit_test(payload_is_text_or_a_file),
	};

	return cmocka_run_group_tests_name("client/command", tests, NULL, NULL);
}
