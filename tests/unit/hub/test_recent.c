#include "hub/recent.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct hash_secret secret = { .bytes = { 7, 8, 9 } };

static struct recent *make(void)
{
	struct recent *recent = recent_create(secret);

	assert_non_null(recent);
	return recent;
}

static struct span id(char text[16], unsigned number)
{
	return span_make(text, (size_t)snprintf(text, 16, "s-%u", number));
}

static void recent_numbers_events_from_one(void **state)
{
	struct recent *recent = make();

	(void)state;
	assert_int_equal(recent_sequence(recent), 0);
	assert_int_equal(recent_add(recent, SPAN("a"), false), 1);
	assert_int_equal(recent_add(recent, SPAN("a"), false), 2);
	assert_int_equal(recent_forget_all(recent), 3);
	assert_int_equal(recent_add(recent, SPAN("b"), true), 4);
	assert_int_equal(recent_sequence(recent), 4);
	recent_destroy(recent);
	recent_destroy(NULL);
}

static void recent_judges_by_the_last_event_since_the_check(void **state)
{
	struct recent *recent = make();

	(void)state;
	assert_int_equal(recent_judge(recent, SPAN("a"), 0), RECENT_CURRENT);
	recent_add(recent, SPAN("a"), true);  /* 1 */
	recent_add(recent, SPAN("b"), false); /* 2 */
	recent_add(recent, SPAN("c"), true);  /* 3 */
	recent_add(recent, SPAN("c"), false); /* 4: active again */
	recent_add(recent, SPAN("d"), false); /* 5 */
	recent_add(recent, SPAN("d"), true);  /* 6 */

	static const struct {
		struct span session;
		uint64_t sequence;
		enum recent_verdict verdict;
	} rows[] = {
		{ SPAN("a"), 0, RECENT_REVOKED },  { SPAN("a"), 1, RECENT_CURRENT },
		{ SPAN("a"), 6, RECENT_CURRENT },  { SPAN("b"), 1, RECENT_DOUBTFUL },
		{ SPAN("b"), 2, RECENT_CURRENT },  { SPAN("c"), 2, RECENT_DOUBTFUL },
		{ SPAN("c"), 3, RECENT_DOUBTFUL }, { SPAN("c"), 4, RECENT_CURRENT },
		{ SPAN("d"), 4, RECENT_REVOKED },  { SPAN("d"), 5, RECENT_REVOKED },
		{ SPAN("d"), 6, RECENT_CURRENT },  { SPAN("e"), 0, RECENT_CURRENT },
		{ SPAN("e"), 6, RECENT_CURRENT },  { SPAN("e"), 7, RECENT_DOUBTFUL },
		{ SPAN("a"), UINT64_MAX, RECENT_DOUBTFUL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(recent_judge(recent, rows[i].session, rows[i].sequence),
				 rows[i].verdict);
	recent_destroy(recent);
}

static void recent_check_older_than_the_table_is_doubtful(void **state)
{
	struct recent *recent = make();
	char text[16];

	(void)state;
	for (unsigned i = 1; i <= RECENT_EVENTS; i++)
		recent_add(recent, id(text, i), false);
	/* All events are still there. */
	assert_int_equal(recent_judge(recent, SPAN("other"), 0), RECENT_CURRENT);
	assert_int_equal(recent_judge(recent, id(text, 1), 0), RECENT_DOUBTFUL);
	assert_int_equal(recent_judge(recent, id(text, 1), 1), RECENT_CURRENT);
	recent_add(recent, SPAN("one more"), false);
	assert_int_equal(recent_judge(recent, SPAN("other"), 0), RECENT_DOUBTFUL);
	assert_int_equal(recent_judge(recent, SPAN("other"), 1), RECENT_CURRENT);
	recent_destroy(recent);
}

/* A revocation that is known is told even to a check that is older than the table. */
static void recent_known_revocation_beats_age(void **state)
{
	struct recent *recent = make();
	char text[16];

	(void)state;
	for (unsigned i = 1; i <= 2 * RECENT_EVENTS; i++)
		recent_add(recent, id(text, i), true);
	assert_int_equal(recent_judge(recent, id(text, 2 * RECENT_EVENTS), 0), RECENT_REVOKED);
	assert_int_equal(recent_judge(recent, id(text, RECENT_EVENTS + 1), 0), RECENT_REVOKED);
	assert_int_equal(recent_judge(recent, id(text, RECENT_EVENTS), 0), RECENT_DOUBTFUL);
	recent_destroy(recent);
}

static void recent_forget_all_makes_every_check_before_doubtful(void **state)
{
	struct recent *recent = make();

	(void)state;
	recent_add(recent, SPAN("a"), true);
	recent_add(recent, SPAN("b"), false);

	uint64_t gap = recent_forget_all(recent);

	for (uint64_t sequence = 0; sequence < gap; sequence++) {
		/* Even the revocation: an event that was missed may have taken it back. */
		assert_int_equal(recent_judge(recent, SPAN("a"), sequence), RECENT_DOUBTFUL);
		assert_int_equal(recent_judge(recent, SPAN("b"), sequence), RECENT_DOUBTFUL);
		assert_int_equal(recent_judge(recent, SPAN("c"), sequence), RECENT_DOUBTFUL);
	}
	assert_int_equal(recent_judge(recent, SPAN("a"), gap), RECENT_CURRENT);
	recent_add(recent, SPAN("c"), true);
	assert_int_equal(recent_judge(recent, SPAN("c"), gap), RECENT_REVOKED);
	assert_int_equal(recent_judge(recent, SPAN("c"), 0), RECENT_REVOKED);
	recent_destroy(recent);
}

static void recent_too_long_id_is_counted_and_doubtful(void **state)
{
	static const char text[RECENT_ID_MAX + 1] = "x";
	struct span fits = span_make(text, RECENT_ID_MAX), over = span_make(text, sizeof(text));
	struct recent *recent = make();

	(void)state;
	assert_int_equal(recent_add(recent, fits, true), 1);
	assert_int_equal(recent_add(recent, over, true), 2);
	assert_int_equal(recent_judge(recent, fits, 0), RECENT_REVOKED);
	assert_int_equal(recent_judge(recent, over, 2), RECENT_DOUBTFUL);
	assert_int_equal(recent_add(recent, SPAN_EMPTY, true), 3);
	assert_int_equal(recent_judge(recent, SPAN_EMPTY, 2), RECENT_REVOKED);
	recent_destroy(recent);
}

/* ---- against the whole history ---- */

#define HISTORY 20000
#define SESSIONS 40

struct past {
	int session; /* -1: forgotten here */
	bool revoked;
};

static enum recent_verdict judge_by_history(const struct past *past, uint64_t last, int session,
					    uint64_t sequence)
{
	bool gap = last - sequence > RECENT_EVENTS;

	for (uint64_t n = last; n > sequence && n > 0; n--) {
		if (past[n].session < 0)
			return RECENT_DOUBTFUL;
		if (past[n].session == session && last - n < RECENT_EVENTS)
			return past[n].revoked ? RECENT_REVOKED : RECENT_DOUBTFUL;
	}
	return gap ? RECENT_DOUBTFUL : RECENT_CURRENT;
}

static void recent_agrees_with_the_whole_history(void **state)
{
	struct past *past = calloc(HISTORY + 1, sizeof(*past));
	struct recent *recent = make();
	unsigned seed = 3;
	char text[16];

	(void)state;
	assert_non_null(past);
	for (uint64_t n = 1; n <= HISTORY; n++) {
		/* Rare sessions and many of one: places are freed early and late. */
		int session = rand_r(&seed) % 3 ? SESSIONS - 1 : rand_r(&seed) % SESSIONS;

		past[n] = (struct past){ .session = session, .revoked = rand_r(&seed) % 2 };
		if (rand_r(&seed) % 5000 == 0) {
			past[n].session = -1;
			assert_int_equal(recent_forget_all(recent), n);
		} else {
			assert_int_equal(recent_add(recent, id(text, (unsigned)session),
						    past[n].revoked),
					 n);
		}
		if (n % 7)
			continue;

		uint64_t back = (uint64_t)rand_r(&seed) % (n % 2 ? 100 : 6000);
		uint64_t sequence = back > n ? 0 : n - back;

		session = rand_r(&seed) % SESSIONS;
		assert_int_equal(recent_judge(recent, id(text, (unsigned)session), sequence),
				 judge_by_history(past, n, session, sequence));
	}
	recent_destroy(recent);
	free(past);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recent_numbers_events_from_one),
		cmocka_unit_test(recent_judges_by_the_last_event_since_the_check),
		cmocka_unit_test(recent_check_older_than_the_table_is_doubtful),
		cmocka_unit_test(recent_known_revocation_beats_age),
		cmocka_unit_test(recent_forget_all_makes_every_check_before_doubtful),
		cmocka_unit_test(recent_too_long_id_is_counted_and_doubtful),
		cmocka_unit_test(recent_agrees_with_the_whole_history),
	};

	return cmocka_run_group_tests_name("recent", tests, NULL, NULL);
}
