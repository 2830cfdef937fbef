#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "redis/position.h"

#include <stdio.h>

static void stream_id_reads_what_it_writes(void **state)
{
	static const struct {
		const char *text;
		bool good;
		struct stream_id id;
	} rows[] = {
		{"0-0", true, {0, 0}},
		{"1700000000000-7", true, {1700000000000, 7}},
		{"18446744073709551615-18446744073709551615", true, {UINT64_MAX, UINT64_MAX}},
		{"18446744073709551616-0", false, {0, 0}},
		{"0-18446744073709551616", false, {0, 0}},
		{"", false, {0, 0}},
		{"-", false, {0, 0}},
		{"1", false, {0, 0}},
		{"1-", false, {0, 0}},
		{"-1", false, {0, 0}},
		{"1-2-3", false, {0, 0}},
		{" 1-2", false, {0, 0}},
		{"+1-2", false, {0, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct stream_id id;
		char text[STREAM_ID_TEXT_MAX];

		assert_int_equal(stream_id_parse(span_from_cstr(rows[i].text), &id), rows[i].good);
		if (!rows[i].good)
			continue;
		assert_int_equal(stream_id_compare(id, rows[i].id), 0);
		assert_int_equal(stream_id_format(id, text).len, strlen(rows[i].text));
		assert_string_equal(text, rows[i].text);
	}
}

static void stream_id_is_ordered_by_both_parts(void **state)
{
	static const struct stream_id rising[] = {
		{0, 0}, {0, 1}, {0, UINT64_MAX}, {1, 0}, {1, 1}, {UINT64_MAX, 0},
	};

	(void)state;
	for (size_t a = 0; a < ARRAY_LEN(rising); a++) {
		for (size_t b = 0; b < ARRAY_LEN(rising); b++) {
			int order = stream_id_compare(rising[a], rising[b]);

			assert_int_equal(order < 0, a < b);
			assert_int_equal(order > 0, a > b);
		}
	}
}

/* ── XINFO STREAM ── */

static bool parse_info(const char *answer, struct stream_info *info)
{
	struct resp_reader *reader = resp_reader_create(&(struct resp_limits){
		.value_bytes_max = 1 << 20, .items_max = 1000, .depth_max = 7});
	struct resp_value *value = NULL;

	assert_non_null(reader);
	assert_int_equal(resp_reader_feed(reader, span_from_cstr(answer)), 0);
	assert_int_equal(resp_reader_next(reader, &value), 1);

	bool good = stream_info_parse(value, info);

	resp_value_free(value);
	resp_reader_destroy(reader);
	return good;
}

#define LENGTH_2  "$6\r\nlength\r\n:2\r\n"
#define LAST_7_1  "$17\r\nlast-generated-id\r\n$3\r\n7-1\r\n"
#define ADDED_9	  "$13\r\nentries-added\r\n:9\r\n"
#define FIRST_6_0 "$11\r\nfirst-entry\r\n*2\r\n$3\r\n6-0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
#define UNKNOWN	  "$6\r\ngroups\r\n:0\r\n"

static void stream_info_takes_what_it_knows(void **state)
{
	struct stream_info info;

	(void)state;
	assert_true(parse_info("*10\r\n" LENGTH_2 UNKNOWN LAST_7_1 ADDED_9 FIRST_6_0, &info));
	assert_int_equal(info.length, 2);
	assert_true(info.has_counter);
	assert_int_equal(info.entries_added, 9);
	assert_int_equal(stream_id_compare(info.last, (struct stream_id){7, 1}), 0);
	assert_int_equal(stream_id_compare(info.first, (struct stream_id){6, 0}), 0);
	assert_true(parse_info("*6\r\n" LAST_7_1 LENGTH_2 "$11\r\nfirst-entry\r\n$-1\r\n", &info));
	assert_false(info.has_counter);
}

static void stream_info_refuses_what_is_none(void **state)
{
	static const char *const rows[] = {
		"*0\r\n",
		"$-1\r\n",
		":1\r\n",
		"*2\r\n" LENGTH_2,
		"*2\r\n" LAST_7_1,
		"*3\r\n" LENGTH_2 "$4\r\nlast\r\n",
		"*4\r\n$6\r\nlength\r\n:-1\r\n" LAST_7_1,
		"*4\r\n$6\r\nlength\r\n$1\r\n2\r\n" LAST_7_1,
		"*4\r\n" LENGTH_2 "$17\r\nlast-generated-id\r\n$3\r\n7.1\r\n",
		"*4\r\n" LENGTH_2 "$17\r\nlast-generated-id\r\n:7\r\n",
		"*6\r\n" LENGTH_2 LAST_7_1 "$13\r\nentries-added\r\n$1\r\n9\r\n",
		"*6\r\n" LENGTH_2 LAST_7_1 "$11\r\nfirst-entry\r\n$3\r\n6-0\r\n",
		"*6\r\n" LENGTH_2 LAST_7_1 "$11\r\nfirst-entry\r\n*1\r\n$1\r\n6\r\n",
		"*6\r\n" LENGTH_2 LAST_7_1 ":1\r\n:1\r\n",
	};
	struct stream_info info;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_false(parse_info(rows[i], &info));
}

/* ── position ── */

static void position_takes_only_later_entries(void **state)
{
	const struct stream_info start = {true, 4, 2, {10, 0}, {9, 0}};
	struct position position;

	(void)state;
	position_start(&position, &start);
	assert_false(position_advance(&position, (struct stream_id){10, 0}));
	assert_false(position_advance(&position, (struct stream_id){9, 9}));
	assert_int_equal(position.seen_count, 4);
	assert_true(position_advance(&position, (struct stream_id){10, 1}));
	assert_int_equal(position.seen_count, 5);
}

/* Info: counter, added, length, last, first. */
static const struct {
	struct stream_info start;
	unsigned read; /* entries of ids 11-0, 12-0, … read since */
	struct stream_info now;
	enum position_verdict verdict;
	struct {
		struct stream_id last;
		bool has_counter;
		uint64_t seen_count;
	} after;
} reconnects[] = {
	/* nothing happened */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 6, 6, {12, 0}, {7, 0}},
	 POSITION_FINE,
	 {{12, 0}, true, 6}},
	/* more was added, we are still in it */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 9, 9, {15, 0}, {7, 0}},
	 POSITION_FINE,
	 {{12, 0}, true, 6}},
	/* trimmed up to ours and not further: 6 are gone, 6 seen */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 9, 3, {15, 0}, {13, 0}},
	 POSITION_FINE,
	 {{12, 0}, true, 6}},
	/* one further */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 9, 2, {15, 0}, {14, 0}},
	 POSITION_TRIMMED,
	 {{12, 0}, true, 7}},
	/* all trimmed, with and without something new */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 6, 0, {12, 0}, {0, 0}},
	 POSITION_FINE,
	 {{12, 0}, true, 6}},
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 7, 0, {13, 0}, {0, 0}},
	 POSITION_TRIMMED,
	 {{12, 0}, true, 7}},
	/* trimmed past us while we read on: all is read, and three never came; also when
	 * the rest is gone since */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 9, 2, {12, 0}, {11, 0}},
	 POSITION_TRIMMED,
	 {{12, 0}, true, 9}},
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 9, 0, {12, 0}, {0, 0}},
	 POSITION_TRIMMED,
	 {{12, 0}, true, 9}},
	/* trimmed behind us only */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 6, 1, {12, 0}, {12, 0}},
	 POSITION_FINE,
	 {{12, 0}, true, 6}},
	/* made anew with higher ids and more of them: what we have seen is neither there
	 * nor gone from it */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 50, 50, {99, 0}, {50, 0}},
	 POSITION_RECREATED,
	 {{0, 0}, true, 0}},
	{{true, 4, 4, {10, 0}, {7, 0}},
	 2,
	 {true, 50, 45, {99, 0}, {55, 0}},
	 POSITION_RECREATED,
	 {{0, 0}, true, 5}},
	/* made anew, and trimmed before we came: all of it is told already */
	{{true, 90, 4, {10, 0}, {7, 0}},
	 0,
	 {true, 50, 3, {9, 9}, {9, 0}},
	 POSITION_RECREATED,
	 {{0, 0}, true, 47}},
	/* many deleted before ours by XDEL, which the reader never saw: ours is still there
	 */
	{{true, 9, 1, {10, 0}, {10, 0}},
	 0,
	 {true, 15, 1, {16, 0}, {10, 0}},
	 POSITION_FINE,
	 {{10, 0}, true, 9}},
	/* gone; or made anew with lower ids, or with higher ones */
	{{true, 4, 4, {10, 0}, {7, 0}},
	 0,
	 {true, 0, 0, {0, 0}, {0, 0}},
	 POSITION_RECREATED,
	 {{0, 0}, true, 0}},
	{{true, 4, 4, {10, 0}, {7, 0}},
	 0,
	 {true, 50, 50, {9, 9}, {1, 0}},
	 POSITION_RECREATED,
	 {{0, 0}, true, 0}},
	{{true, 4, 4, {10, 0}, {7, 0}},
	 0,
	 {true, 3, 3, {99, 0}, {97, 0}},
	 POSITION_RECREATED,
	 {{0, 0}, true, 0}},
	/* absent at the start: still, then born, then born and trimmed */
	{{true, 0, 0, {0, 0}, {0, 0}},
	 0,
	 {true, 0, 0, {0, 0}, {0, 0}},
	 POSITION_FINE,
	 {{0, 0}, true, 0}},
	{{true, 0, 0, {0, 0}, {0, 0}},
	 0,
	 {true, 3, 3, {5, 0}, {3, 0}},
	 POSITION_FINE,
	 {{0, 0}, true, 0}},
	{{true, 0, 0, {0, 0}, {0, 0}},
	 0,
	 {true, 3, 2, {5, 0}, {4, 0}},
	 POSITION_TRIMMED,
	 {{0, 0}, true, 1}},
	/* before Redis 7.0: no counter */
	{{false, 0, 4, {10, 0}, {7, 0}},
	 1,
	 {false, 0, 5, {11, 0}, {7, 0}},
	 POSITION_FINE,
	 {{11, 0}, false, 1}},
	{{false, 0, 4, {10, 0}, {7, 0}},
	 1,
	 {false, 0, 0, {11, 0}, {0, 0}},
	 POSITION_FINE,
	 {{11, 0}, false, 1}},
	{{false, 0, 4, {10, 0}, {7, 0}},
	 1,
	 {false, 0, 2, {13, 0}, {12, 0}},
	 POSITION_TRIMMED,
	 {{11, 0}, false, 1}},
	{{false, 0, 4, {10, 0}, {7, 0}},
	 1,
	 {false, 0, 2, {9, 0}, {8, 0}},
	 POSITION_RECREATED,
	 {{0, 0}, false, 0}},
};

static void position_judges_after_a_reconnect(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(reconnects); i++) {
		struct position position;

		position_start(&position, &reconnects[i].start);
		for (unsigned n = 0; n < reconnects[i].read; n++)
			assert_true(position_advance(&position, (struct stream_id){11 + n, 0}));
		if (position_judge(&position, &reconnects[i].now) != reconnects[i].verdict)
			fail_msg("row %zu: verdict", i);
		if (stream_id_compare(position.last, reconnects[i].after.last) != 0 ||
		    position.has_counter != reconnects[i].after.has_counter ||
		    position.seen_count != reconnects[i].after.seen_count)
			fail_msg("row %zu: position", i);
		/* What was told is not told again. */
		if (reconnects[i].now.has_counter)
			assert_int_equal(position_judge(&position, &reconnects[i].now) ==
						 POSITION_RECREATED,
					 false);
		if (reconnects[i].verdict == POSITION_TRIMMED && reconnects[i].now.has_counter)
			assert_int_equal(position_judge(&position, &reconnects[i].now),
					 POSITION_FINE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stream_id_reads_what_it_writes),
		cmocka_unit_test(stream_id_is_ordered_by_both_parts),
		cmocka_unit_test(stream_info_takes_what_it_knows),
		cmocka_unit_test(stream_info_refuses_what_is_none),
		cmocka_unit_test(position_takes_only_later_entries),
		cmocka_unit_test(position_judges_after_a_reconnect),
	};

	return cmocka_run_group_tests_name("redis position", tests, NULL, NULL);
}
