#include "edge/glitches.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* How many of a kind at once end a connection that is new. */
static unsigned count_to_the_end(enum glitch glitch)
{
	struct glitches glitches;

	glitches_init(&glitches, 1000);
	for (unsigned count = 1; count < 1000000; count++)
		if (glitches_take(&glitches, glitch, 0, 1000) == GLITCHES_TOO_MANY)
			return count;
	return 0;
}

static void glitches_of_each_kind_end_a_connection_by_their_weight(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GLITCH_COUNT; i++) {
		unsigned points = GLITCHES_THRESHOLD + GLITCHES_CREDIT_MAX;
		unsigned weight = glitch_row(i)->weight;

		assert_non_null(glitch_row(i)->name);
		assert_int_equal(count_to_the_end(i),
				 weight == 0 ? 0 : (points + weight - 1) / weight);
	}
}

/* Ends of connections and states of ours have no weight: nothing to tolerate either. */
static void glitches_that_are_tolerated_have_a_weight(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GLITCH_COUNT; i++)
		assert_true(glitch_row(i)->weight > 0 || !glitch_row(i)->is_tolerated);
}

static void glitches_are_paid_for_by_credit_if_tolerated(void **state)
{
	struct glitches glitches;

	(void)state;
	glitches_init(&glitches, 0);
	for (unsigned i = 0; i < GLITCHES_CREDIT_MAX / 10; i++)
		assert_int_equal(glitches_take(&glitches, GLITCH_PING, 0, 0), GLITCHES_PAID);
	assert_int_equal(glitches_take(&glitches, GLITCH_PING, 0, 0), GLITCHES_COUNTED);
	glitches_init(&glitches, 0);
	assert_int_equal(glitches_take(&glitches, GLITCH_STREAM_ERROR, 0, 0), GLITCHES_COUNTED);
	assert_int_equal(glitches_take(&glitches, GLITCH_PREFACE, 0, 0), GLITCHES_COUNTED);
}

/* As many given up as answered, each answer of HEADERS, DATA and trailers; no time passes. */
static void glitches_are_forgiven_for_answers(void **state)
{
	struct glitches glitches;
	uint64_t answers = UINT32_MAX - 3000; /* the low bits come round */

	(void)state;
	glitches_init(&glitches, 0);
	glitches.answer_count = (uint32_t)answers;
	for (unsigned i = 0; i < 100000; i++) {
		answers += 3;
		assert_int_equal(glitches_take(&glitches, GLITCH_SMALL_FRAME, answers, 0),
				 GLITCHES_PAID);
		assert_int_equal(glitches_take(&glitches, GLITCH_RESET, answers, 0), GLITCHES_PAID);
	}
}

static void glitches_get_no_more_credit_than_there_is(void **state)
{
	struct glitches glitches;

	(void)state;
	glitches_init(&glitches, 0);
	for (unsigned i = 0; i < GLITCHES_CREDIT_MAX / 10; i++)
		assert_int_equal(glitches_take(&glitches, GLITCH_PING, 1u << 30, 0), GLITCHES_PAID);
	assert_int_equal(glitches_take(&glitches, GLITCH_PING, 1u << 30, 0), GLITCHES_COUNTED);
}

static void glitches_are_forgotten_in_time_but_earn_nothing_by_it(void **state)
{
	struct glitches glitches;
	uint64_t now_ms = (uint64_t)UINT32_MAX - 5000; /* the low bits come round */

	(void)state;
	glitches_init(&glitches, now_ms);
	/* 40 a second, for an hour */
	for (unsigned i = 0; i < 40 * 3600; i++, now_ms += 25)
		assert_int_not_equal(glitches_take(&glitches, GLITCH_RESET, 0, now_ms),
				     GLITCHES_TOO_MANY);
	now_ms += 24 * 3600 * 1000;
	assert_int_equal(glitches_take(&glitches, GLITCH_PING, 0, now_ms), GLITCHES_COUNTED);
	assert_int_equal(glitches.score, 10);
}

/* Looked at each millisecond, when no whole point is due. */
static void glitches_are_forgotten_however_often_they_come(void **state)
{
	struct glitches glitches;

	(void)state;
	glitches_init(&glitches, 0);
	glitches.score = 5000;
	for (uint64_t now_ms = 1; now_ms <= 2000; now_ms++)
		glitches_take(&glitches, GLITCH_PREFACE, 0, now_ms);
	assert_int_equal(glitches.score, 4000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(glitches_of_each_kind_end_a_connection_by_their_weight),
		cmocka_unit_test(glitches_that_are_tolerated_have_a_weight),
		cmocka_unit_test(glitches_are_paid_for_by_credit_if_tolerated),
		cmocka_unit_test(glitches_are_forgiven_for_answers),
		cmocka_unit_test(glitches_get_no_more_credit_than_there_is),
		cmocka_unit_test(glitches_are_forgotten_in_time_but_earn_nothing_by_it),
		cmocka_unit_test(glitches_are_forgotten_however_often_they_come),
	};

	return cmocka_run_group_tests_name("glitches", tests, NULL, NULL);
}
