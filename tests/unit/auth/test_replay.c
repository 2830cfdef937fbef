#include "auth/replay.h"
#include "base/check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void replay_key_names_its_lengths(void **state)
{
	static const struct {
		struct span prefix, session, request_id, key;
	} rows[] = {
		{ SPAN("gateway:replay:"), SPAN("s-1"), SPAN("r-1"),
		  SPAN("gateway:replay:3:s-1:r-1") },
		{ SPAN(""), SPAN("a:b"), SPAN("c"), SPAN("3:a:b:c") },
		{ SPAN(""), SPAN("a"), SPAN("b:c"), SPAN("1:a:b:c") },
		{ SPAN("p"), SPAN("0123456789"), SPAN(" "), SPAN("p10:0123456789: ") },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out;

		buf_init(&out, rows[i].key.len);
		assert_int_equal(replay_key(&out, rows[i].prefix, rows[i].session,
					    rows[i].request_id),
				 0);
		assert_true(span_equal(buf_span(&out), rows[i].key));
		buf_finish(&out);
	}
}

static void replay_key_is_appended_whole_or_not_at_all(void **state)
{
	(void)state;
	for (size_t max = 3; max < 3 + sizeof("p3:s-1:r-1") - 1; max++) {
		struct buf out;

		buf_init(&out, max);
		assert_int_equal(buf_append(&out, SPAN("abc")), 0);
		assert_int_equal(replay_key(&out, SPAN("p"), SPAN("s-1"), SPAN("r-1")), -EMSGSIZE);
		assert_true(span_equal(buf_span(&out), SPAN("abc")));
		assert_true(out.failed);
		buf_finish(&out);
	}
}

static void replay_ttl_reaches_a_second_beyond_the_window(void **state)
{
	static const struct {
		int64_t now_ms, timestamp_ms;
		uint64_t window_ms, ttl_ms;
	} rows[] = {
		{ 1000000, 1000000, 300000, 301000 },
		{ 1000000, 700000, 300000, 1000 },   /* the oldest that is fresh */
		{ 1000000, 1300000, 300000, 601000 }, /* the newest that is fresh */
		{ 1000000, 1, 300000, 1000 },	      /* left long ago */
		{ 1000000, 1000000, 0, 1000 },
		{ INT64_MIN, INT64_MAX, UINT64_MAX, UINT64_MAX },
		{ INT64_MAX, INT64_MIN, 0, 1000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(replay_ttl_ms(rows[i].now_ms, rows[i].timestamp_ms,
					       rows[i].window_ms),
				 rows[i].ttl_ms);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replay_key_names_its_lengths),
		cmocka_unit_test(replay_key_is_appended_whole_or_not_at_all),
		cmocka_unit_test(replay_ttl_reaches_a_second_beyond_the_window),
	};

	return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
