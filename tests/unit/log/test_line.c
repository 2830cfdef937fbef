/* line: the bytes of one log line, without clock or descriptor. */
#include "log/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define STAMP 1767323045678 /* 2026-01-02T03:04:05.678Z */

static struct line_head head_of(const char *message)
{
	return (struct line_head){
		.unix_ms = STAMP, .level = LOG_INFO, .component = "test", .message = message
	};
}

/* A copy of the line without its newline, for the caller to free. */
static char *text_of(struct line *line)
{
	struct span bytes = line_end(line);

	assert_in_range(bytes.len, 1, LOG_LINE_MAX);
	assert_int_equal(bytes.data[bytes.len - 1], '\n');
	assert_null(memchr(bytes.data, '\n', bytes.len - 1));
	assert_true(span_is_utf8(bytes));

	char *text = malloc(bytes.len);

	assert_non_null(text);
	memcpy(text, bytes.data, bytes.len - 1);
	text[bytes.len - 1] = '\0';
	return text;
}

static void assert_line(enum log_format format, const struct line_head *head,
			const struct log_field *fields, const char *wanted)
{
	static struct line line;

	line_begin(&line, format, head);
	for (; fields->name; fields++)
		line_add(&line, fields);

	char *text = text_of(&line);

	assert_string_equal(text, wanted);
	free(text);
}

/* Takes a JSON string; returns what follows it, NULL if it is none. */
static const char *skip_string(const char *at)
{
	if (*at++ != '"')
		return NULL;
	for (; *at != '"'; at++) {
		if ((unsigned char)*at < 0x20)
			return NULL;
		if (*at != '\\')
			continue;
		at++;
		if (*at == 'u') {
			for (int i = 0; i < 4; i++) {
				at++;
				if (!*at || !strchr("0123456789abcdef", *at))
					return NULL;
			}
		} else if (!*at || !strchr("\"\\/bfnrt", *at)) {
			return NULL;
		}
	}
	return at + 1;
}

/* Whether this is a flat JSON object of strings, numbers and booleans. */
static bool is_flat_json(const char *at)
{
	if (*at++ != '{')
		return false;
	for (;;) {
		at = skip_string(at);
		if (!at || *at++ != ':')
			return false;
		if (*at == '"') {
			at = skip_string(at);
			if (!at)
				return false;
		} else if (strncmp(at, "true", 4) == 0 || strncmp(at, "false", 5) == 0) {
			at += *at == 't' ? 4 : 5;
		} else {
			char *end;

			strtod(at, &end);
			if (end == at)
				return false;
			at = end;
		}
		if (*at == '}')
			return at[1] == '\0';
		if (*at++ != ',')
			return false;
	}
}

static void line_in_json_has_the_keys_in_their_order(void **state)
{
	(void)state;
	struct line_head head = head_of("hello");
	const struct log_field fields[] = {
		LOG_TEXT("role", "session"), LOG_INT("error", -110), LOG_UINT("bytes", UINT64_MAX),
		LOG_FLAG("ok", true), LOG_FLAG("bad", false), LOG_MS("latency_ms", 12345),
		LOG_SESSION(SPAN("0123456789abcdef")), { 0 },
	};

	assert_line(LOG_JSON, &head, fields,
		    "{\"ts\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\",\"msg\":\"hello\","
		    "\"component\":\"test\",\"role\":\"session\",\"error\":-110,"
		    "\"bytes\":18446744073709551615,\"ok\":true,\"bad\":false,"
		    "\"latency_ms\":12.345,\"session\":\"01234567\"}");
}

static void line_in_text_quotes_only_what_needs_it(void **state)
{
	(void)state;
	struct line_head head = head_of("two\nlines");
	const struct log_field fields[] = {
		LOG_TEXT("bare", "a/b:1"), LOG_TEXT("blank", "a b"), LOG_TEXT("empty", ""),
		LOG_TEXT("equals", "a=b"), LOG_TEXT("quote", "a\"b"), LOG_INT("n", INT64_MIN),
		LOG_MS("ms", 7), { 0 },
	};

	head.level = LOG_WARN;
	head.held_back = 3;
	assert_line(LOG_TEXT, &head, fields,
		    "2026-01-02T03:04:05.678Z WARN test: two\\nlines held_back=3 bare=a/b:1 "
		    "blank=\"a b\" empty=\"\" equals=\"a=b\" quote=\"a\\\"b\" "
		    "n=-9223372036854775808 ms=0.007");
}

static void line_says_how_many_were_held_back(void **state)
{
	(void)state;
	struct line_head head = head_of("m");
	const struct log_field fields[] = { LOG_INT("n", 0), { 0 } };

	head.held_back = UINT32_MAX;
	assert_line(LOG_JSON, &head, fields,
		    "{\"ts\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\",\"msg\":\"m\","
		    "\"component\":\"test\",\"held_back\":4294967295,\"n\":0}");
}

static void line_knows_the_calendar(void **state)
{
	(void)state;
	static const struct {
		int64_t unix_ms;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ 951782400000, "2000-02-29T00:00:00.000Z" },
		{ 951868799999, "2000-02-29T23:59:59.999Z" },
		{ 1709164800000, "2024-02-29T00:00:00.000Z" },
		{ 1709251200000, "2024-03-01T00:00:00.000Z" },
		{ 1735689599999, "2024-12-31T23:59:59.999Z" },
		{ 4107542400000, "2100-03-01T00:00:00.000Z" },
		{ STAMP, "2026-01-02T03:04:05.678Z" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static struct line line;
		struct line_head head = head_of("m");

		head.unix_ms = rows[i].unix_ms;
		line_begin(&line, LOG_TEXT, &head);

		char *text = text_of(&line);

		assert_memory_equal(text, rows[i].text, strlen(rows[i].text));
		free(text);
	}
}

static void line_replaces_what_is_no_utf8(void **state)
{
	(void)state;
	static const struct {
		struct span bytes;
		const char *wanted;
	} rows[] = {
		{ SPAN("\xff"), "\xef\xbf\xbd" },
		{ SPAN("a\x80z"), "a\xef\xbf\xbdz" },
		{ SPAN("\xc3\xa9"), "\xc3\xa9" },
		{ SPAN("\xc3"), "\xef\xbf\xbd" },
		{ SPAN("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd" },
		{ SPAN("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ SPAN("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80" },
		{ SPAN("\xf8\x88\x80\x80\x80"),
		  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ SPAN("\0\x1f\x7f"), "\\u0000\\u001f\\u007f" },
		{ SPAN("\"\\\b\f\n\r\t/"), "\\\"\\\\\\b\\f\\n\\r\\t/" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct line_head head = head_of("m");
		const struct log_field fields[] = { LOG_BYTES("v", rows[i].bytes), { 0 } };
		char wanted[256];

		snprintf(wanted, sizeof(wanted),
			 "{\"ts\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\",\"msg\":\"m\","
			 "\"component\":\"test\",\"v\":\"%s\"}",
			 rows[i].wanted);
		assert_line(LOG_JSON, &head, fields, wanted);
	}
}

static void line_stays_json_whatever_its_fields(void **state)
{
	(void)state;
	static const struct span unit[] = {
		SPAN("a"), SPAN("\n"), SPAN("\x01"), SPAN("\xff"), SPAN("\xf0\x9f\x98\x80"),
	};
	static uint8_t value[LOG_LINE_MAX * 2];

	for (size_t u = 0; u < sizeof(unit) / sizeof(unit[0]); u++) {
		for (size_t at = 0; at + unit[u].len <= sizeof(value); at += unit[u].len)
			memcpy(value + at, unit[u].data, unit[u].len);
		/* Every length near the end of the line: 3 full values, then one that grows. */
		for (size_t len = 0; len < 1100; len++) {
			static struct line line;
			struct line_head head = head_of("m");

			line_begin(&line, len % 2 ? LOG_JSON : LOG_TEXT, &head);
			for (int i = 0; i < 3; i++)
				line_add(&line, &LOG_BYTES("full", span_make(value, sizeof(value))));
			line_add(&line, &LOG_BYTES("v", span_make(value, len)));
			line_add(&line, &LOG_INT("number", 123456));
			line_add(&line, &LOG_FLAG("flag", true));

			char *text = text_of(&line);

			if (len % 2)
				assert_true(is_flat_json(text));
			assert_non_null(strstr(text, len % 2 ? "\"cut\":true" : " cut=true"));
			free(text);
		}
	}
}

static void line_drops_numbers_whole_or_not_at_all(void **state)
{
	(void)state;
	for (size_t len = 0; len < 64; len++) {
		static struct line line;
		static uint8_t value[LOG_VALUE_MAX];
		struct line_head head = head_of("m");

		memset(value, 'x', sizeof(value));
		line_begin(&line, LOG_JSON, &head);
		for (int i = 0; i < 3; i++)
			line_add(&line, &LOG_BYTES("x", span_make(value, sizeof(value))));
		line_add(&line, &LOG_BYTES("x", span_make(value, 880 + len)));
		line_add(&line, &LOG_UINT("n", 1234567890));

		char *text = text_of(&line);

		assert_true(is_flat_json(text));
		assert_true((strstr(text, "\"n\":1234567890") != NULL) !=
			    (strstr(text, "\"cut\":true") != NULL));
		free(text);
	}
}

static void line_cuts_a_message_and_a_session_by_characters(void **state)
{
	(void)state;
	struct line_head head = head_of("m");
	const struct log_field fields[] = {
		LOG_SESSION(SPAN("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9z")),
		LOG_SESSION(SPAN("short")), { 0 },
	};

	assert_line(LOG_TEXT, &head, fields,
		    "2026-01-02T03:04:05.678Z INFO test: m session=\""
		    "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\" "
		    "session=short");

	static char message[2000];
	static struct line line;

	memset(message, 'm', sizeof(message) - 1);
	head.message = message;
	line_begin(&line, LOG_JSON, &head);

	char *text = text_of(&line);

	assert_true(is_flat_json(text));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(line_in_json_has_the_keys_in_their_order),
		cmocka_unit_test(line_in_text_quotes_only_what_needs_it),
		cmocka_unit_test(line_says_how_many_were_held_back),
		cmocka_unit_test(line_knows_the_calendar),
		cmocka_unit_test(line_replaces_what_is_no_utf8),
		cmocka_unit_test(line_stays_json_whatever_its_fields),
		cmocka_unit_test(line_drops_numbers_whole_or_not_at_all),
		cmocka_unit_test(line_cuts_a_message_and_a_session_by_characters),
	};

	return cmocka_run_group_tests_name("line", tests, NULL, NULL);
}
