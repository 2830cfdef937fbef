#include "gateway/survey.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void add(struct survey *survey, uint32_t depth, uint64_t bytes)
{
	struct survey_row row = {.depth = depth, .queued_bytes = bytes};

	snprintf(row.session, sizeof(row.session), "s%u", (unsigned)(depth % 1000));
	survey->open_count++;
	survey_add(survey, &row);
}

static void deepest_come_first_and_ties_go_by_bytes(void **state)
{
	static const struct {
		uint32_t depth;
		uint64_t bytes;
	} in[] = {{1, 5}, {3, 1}, {0, 0}, {3, 9}, {2, 2}},
	  wanted[] = {{3, 9}, {3, 1}, {2, 2}, {1, 5}, {0, 0}};
	struct survey survey = {.worker = "w"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(in); i++)
		add(&survey, in[i].depth, in[i].bytes);
	assert_int_equal(survey.row_count, ARRAY_LEN(wanted));
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		assert_int_equal(survey.rows[i].depth, wanted[i].depth);
		assert_int_equal(survey.rows[i].queued_bytes, wanted[i].bytes);
	}
	survey_clear(&survey);
	assert_int_equal(survey.row_count + survey.open_count, 0);
	assert_string_equal(survey.worker, "w");
}

static void only_the_slowest_are_kept(void **state)
{
	struct survey survey = {.worker = "w"};

	(void)state;
	/* 0 … 999 in an order that rises and falls */
	for (uint32_t i = 0; i < 1000; i++)
		add(&survey, (i * 389) % 1000, 0);
	assert_int_equal(survey.open_count, 1000);
	assert_int_equal(survey.row_count, SURVEY_ROWS);
	for (uint32_t i = 0; i < SURVEY_ROWS; i++)
		assert_int_equal(survey.rows[i].depth, 999 - i);
	assert_false(survey_wants(&survey, 980, 0));
	assert_true(survey_wants(&survey, 980, 1));
	assert_true(survey_wants(&survey, 981, 0));
}

static void workers_are_merged_by_depth(void **state)
{
	struct survey surveys[2] = {{.worker = "worker-0"}, {.worker = "worker-1"}};
	struct buf out;

	(void)state;
	add(&surveys[0], 1, 10);
	add(&surveys[1], 2, 20);
	snprintf(surveys[1].rows[0].session, sizeof(surveys[1].rows[0].session), "a\"\\b");
	surveys[1].rows[0].age_ms = 7;
	surveys[1].rows[0].silent_ms = 3;
	buf_init(&out, 4096);
	assert_int_equal(survey_write(surveys, 2, &out), 0);
	buf_append_byte(&out, '\0');
	assert_string_equal(
		(const char *)out.data,
		"{\"open_streams\":2,\"workers\":[{\"worker\":\"worker-0\",\"open_streams\":1},"
		"{\"worker\":\"worker-1\",\"open_streams\":1}],\"slowest\":["
		"{\"worker\":\"worker-1\",\"session\":\"a\\\"\\\\b\",\"depth\":2,\"queued_bytes\":"
		"20,"
		"\"age_ms\":7,\"silent_ms\":3},"
		"{\"worker\":\"worker-0\",\"session\":\"s1\",\"depth\":1,\"queued_bytes\":10,"
		"\"age_ms\":0,\"silent_ms\":0}]}\n");
	buf_finish(&out);
}

static void twenty_of_all_workers_are_written(void **state)
{
	struct survey surveys[3] = {{.worker = "a"}, {.worker = "b"}, {.worker = "c"}};
	struct buf out;
	size_t count = 0;

	(void)state;
	for (uint32_t i = 0; i < 3 * SURVEY_ROWS; i++)
		add(&surveys[i % 3], i, 0);
	buf_init(&out, 1 << 16);
	assert_int_equal(survey_write(surveys, 3, &out), 0);
	buf_append_byte(&out, '\0');
	for (const char *at = (const char *)out.data; (at = strstr(at, "\"depth\":")); at++)
		count++;
	assert_int_equal(count, SURVEY_ROWS);
	assert_null(strstr((const char *)out.data, "\"depth\":39,"));
	assert_non_null(strstr((const char *)out.data, "\"depth\":40,"));
	buf_finish(&out);
}

static void writing_without_room_says_so(void **state)
{
	struct survey survey = {.worker = "w"};
	struct buf out;

	(void)state;
	buf_init(&out, 20);
	assert_true(survey_write(&survey, 1, &out) < 0);
	buf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deepest_come_first_and_ties_go_by_bytes),
		cmocka_unit_test(only_the_slowest_are_kept),
		cmocka_unit_test(workers_are_merged_by_depth),
		cmocka_unit_test(twenty_of_all_workers_are_written),
		cmocka_unit_test(writing_without_room_says_so),
	};

	return cmocka_run_group_tests_name("survey", tests, NULL, NULL);
}
