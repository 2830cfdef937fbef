#include "codec/h2_walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What the walk tells of: told as a number each. */
static unsigned told[H2_ODD_COUNT];
static unsigned told_count;

static void note(struct h2_session *session, enum h2_oddity oddity)
{
	assert_null(session);
	assert_in_range(oddity, 1, H2_ODD_COUNT - 1);
	told[oddity]++;
	told_count++;
}

static void forget(void)
{
	memset(told, 0, sizeof(told));
	told_count = 0;
}

struct row {
	const char *what;
	struct span bytes;
	enum h2_oddity oddity;
};

#define HEAD(len, type, flags) "\0\0" len type flags "\0\0\0\1"
#define TEXT64		       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct row rows[] = {
	{"DATA", SPAN(HEAD("\x40", "\0", "\0") TEXT64), H2_ODD_NOTHING},
	{"small DATA", SPAN(HEAD("\1", "\0", "\0") "x"), H2_ODD_SMALL_FRAME},
	{"small DATA at the end", SPAN(HEAD("\1", "\0", "\1") "x"), H2_ODD_NOTHING},
	{"empty DATA", SPAN(HEAD("\0", "\0", "\0")), H2_ODD_EMPTY_DATA},
	{"empty DATA at the end", SPAN(HEAD("\0", "\0", "\1")), H2_ODD_NOTHING},
	{"DATA padded with nothing", SPAN(HEAD("\1", "\0", "\x8") "\0"), H2_ODD_EMPTY_DATA},
	{"DATA of padding", SPAN(HEAD("\4", "\0", "\x8") "\3abc"), H2_ODD_EMPTY_DATA},
	{"DATA padded over its end",
	 SPAN(HEAD("\4", "\0", "\x8") "\xff"
				      "abc"),
	 H2_ODD_EMPTY_DATA},
	{"DATA and padding", SPAN(HEAD("\4", "\0", "\x8") "\2abc"), H2_ODD_SMALL_FRAME},
	{"padded DATA without room for it", SPAN(HEAD("\0", "\0", "\x8")), H2_ODD_EMPTY_DATA},
	{"HEADERS", SPAN(HEAD("\1", "\1", "\4") "h"), H2_ODD_NOTHING},
	{"PRIORITY", SPAN(HEAD("\5", "\2", "\0") "12345"), H2_ODD_PRIORITY},
	{"PRIORITY of a wrong length", SPAN(HEAD("\1", "\2", "\0") "1"), H2_ODD_PRIORITY},
	{"RST_STREAM", SPAN(HEAD("\4", "\3", "\0") "1234"), H2_ODD_SMALL_FRAME},
	{"SETTINGS", SPAN(HEAD("\6", "\4", "\0") "123456"), H2_ODD_SETTINGS},
	{"no SETTINGS", SPAN(HEAD("\0", "\4", "\0")), H2_ODD_SETTINGS},
	{"SETTINGS acknowledged", SPAN(HEAD("\0", "\4", "\1")), H2_ODD_NOTHING},
	{"PUSH_PROMISE", SPAN(HEAD("\4", "\5", "\4") "1234"), H2_ODD_UNKNOWN_FRAME},
	{"PING", SPAN(HEAD("\x8", "\6", "\0") "12345678"), H2_ODD_PING},
	{"PING answered", SPAN(HEAD("\x8", "\6", "\1") "12345678"), H2_ODD_PING},
	{"GOAWAY", SPAN(HEAD("\x8", "\7", "\0") "12345678"), H2_ODD_NOTHING},
	{"WINDOW_UPDATE", SPAN(HEAD("\4", "\x8", "\0") "1234"), H2_ODD_SMALL_FRAME},
	{"CONTINUATION", SPAN(HEAD("\1", "\x9", "\4") "h"), H2_ODD_CONTINUATION},
	{"ALTSVC", SPAN(HEAD("\2", "\xa", "\0") "12"), H2_ODD_UNKNOWN_FRAME},
	{"PRIORITY_UPDATE", SPAN(HEAD("\4", "\x10", "\0") "1234"), H2_ODD_PRIORITY},
	{"unknown", SPAN(HEAD("\3", "\xee", "\xff") "any"), H2_ODD_UNKNOWN_FRAME},
};

/* Twice in a row, cut in two at each place: the second time must be found where the first ends. */
static void walk_tells_each_frame_at_every_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint8_t bytes[2 * 80];
		size_t len = rows[i].bytes.len;

		memcpy(bytes, rows[i].bytes.data, len);
		memcpy(bytes + len, rows[i].bytes.data, len);
		for (size_t cut = 0; cut <= 2 * len; cut++) {
			struct h2_walk walk;

			forget();
			h2_walk_init(&walk, H2_CLIENT);
			h2_walk_take(&walk, span_make(bytes, cut), note, NULL);
			h2_walk_take(&walk, span_make(bytes + cut, 2 * len - cut), note, NULL);
			if (rows[i].oddity == H2_ODD_NOTHING ? told_count != 0
							     : told[rows[i].oddity] != 2)
				fail_msg("%s, cut at %zu: %u", rows[i].what, cut, told_count);
			assert_int_equal(told_count, told[rows[i].oddity]);
		}
	}
}

static void walk_tells_each_frame_byte_by_byte(void **state)
{
	struct h2_walk walk;

	(void)state;
	forget();
	h2_walk_init(&walk, H2_SERVER);
	for (size_t i = 0; i < sizeof(H2_PREFACE) - 1; i++)
		h2_walk_take(&walk, span_make(&H2_PREFACE[i], 1), note, NULL);
	assert_int_equal(told_count, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned before = told_count;

		for (size_t at = 0; at < rows[i].bytes.len; at++)
			h2_walk_take(&walk, span_make(rows[i].bytes.data + at, 1), note, NULL);
		assert_int_equal(told_count - before, rows[i].oddity != H2_ODD_NOTHING);
	}
}

static void walk_knows_whether_a_header_block_is_whole(void **state)
{
	static const struct {
		struct span bytes;
		enum h2_header_progress progress;
	} steps[] = {
		{SPAN(HEAD("\3", "\1", "\4")), H2_HEADER_BEGUN},
		{SPAN("ab"), H2_HEADER_GOES_ON},
		{SPAN("c"), H2_HEADER_WHOLE},
		{SPAN(HEAD("\1", "\1", "\0") "a"), H2_HEADER_BEGUN},
		{SPAN("\0\0\2\x9\0\0\0\0"), H2_HEADER_GOES_ON},
		{SPAN("\1ab"), H2_HEADER_GOES_ON},
		{SPAN(HEAD("\1", "\x9", "\4")), H2_HEADER_GOES_ON},
		{SPAN("x"), H2_HEADER_WHOLE},
		/* one ends, another begins */
		{SPAN(HEAD("\1", "\1", "\0") "a"), H2_HEADER_BEGUN},
		{SPAN(HEAD("\0", "\x9", "\4") HEAD("\1", "\1", "\4")), H2_HEADER_BEGUN},
		{SPAN("x" HEAD("\x8", "\0", "\0") "1234"), H2_HEADER_WHOLE},
		{SPAN("5678" HEAD("\0", "\1", "\4")), H2_HEADER_WHOLE},
	};
	struct h2_walk walk;

	(void)state;
	h2_walk_init(&walk, H2_CLIENT);
	assert_int_equal(h2_walk_progress(&walk), H2_HEADER_WHOLE);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		h2_walk_take(&walk, steps[i].bytes, note, NULL);
		if (h2_walk_progress(&walk) != steps[i].progress)
			fail_msg("step %zu: %d", i, h2_walk_progress(&walk));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walk_tells_each_frame_at_every_split),
		cmocka_unit_test(walk_tells_each_frame_byte_by_byte),
		cmocka_unit_test(walk_knows_whether_a_header_block_is_whole),
	};

	return cmocka_run_group_tests_name("h2_walk", tests, NULL, NULL);
}
