/* Who asks Redis for a session, who is told, and which letters from the bus overtake an answer. */
#include "unit/gateway/sessions_rig.h"

/* ---- one flight ---- */

static void all_who_ask_share_one_get(void **state)
{
	enum { COUNT = 100 };

	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	write_record("s", "u", "active");
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(find(&askers[i], "s"), SESSIONS_PENDING);
	TURN_UNTIL(&worker, askers[COUNT - 1].told_count);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(askers[i].told_count, 1);
		assert_int_equal(askers[i].answer, SESSIONS_FOUND);
		assert_string_equal(askers[i].user, "u");
		assert_false(askers[i].is_revoked);
	}
	assert_int_equal(asked_count(), 1);
	assert_int_equal(metric_value(&sessions.metrics.found), 1);
	/* From now on it is known. */
	assert_int_equal(find(&askers[0], "s"), SESSIONS_FOUND);
	assert_string_equal(askers[0].user, "u");
	assert_int_equal(metric_value(&sessions.metrics.hit), 1);
	assert_int_equal(asked_count(), 1);
	assert_int_equal(sessions.lookup_count, 0);
}

static void sessions_are_looked_up_side_by_side(void **state)
{
	char id[16];

	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	for (int i = 0; i < 50; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		if (i % 3)
			write_record(id, id, i % 2 ? "active" : "revoked");
	}
	for (int i = 0; i < 50; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		assert_int_equal(find(&askers[i], id), SESSIONS_PENDING);
	}
	TURN_UNTIL(&worker, askers[49].told_count);
	for (int i = 0; i < 50; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		assert_int_equal(askers[i].told_count, 1);
		assert_int_equal(askers[i].answer, i % 3 ? SESSIONS_FOUND : SESSIONS_UNKNOWN);
		if (i % 3 == 0)
			continue;
		assert_string_equal(askers[i].user, id);
		assert_int_equal(askers[i].is_revoked, i % 2 == 0);
	}
}

/* ---- letters that overtake a GET ---- */

enum letter_kind { LETTER_REPLACE, LETTER_FORGET, LETTER_FORGET_ALL, LETTER_COUNT };

static void send_letter(enum letter_kind letter, const char *id)
{
	uint64_t next = sessions.sequence + 1;

	if (letter == LETTER_REPLACE)
		replace(id, "u", "revoked");
	else if (letter == LETTER_FORGET)
		sessions_forget(&sessions, span_from_cstr(id), next);
	else
		sessions_forget_all(&sessions, next);
	assert_int_equal(sessions.sequence, next);
}

/* moment 0: before the GET is sent; 1: when Redis has it; 2: at both. */
static void letter_at(enum letter_kind letter, int moment)
{
	const char *const get = "GET\r\n$3\r\np:s\r\n";
	struct asker *asker = &askers[0];

	begin_with_fake();
	assert_int_equal(find(asker, "s"), SESSIONS_PENDING);
	if (moment != 1)
		send_letter(letter, "s");
	fake_expect(&fake, get);
	if (moment != 0)
		send_letter(letter, "s");
	say_record("s", "u", "active");
	/* Asked again, with one GET; those who come now wait for that one. */
	fake_expect(&fake, get);
	assert_int_equal(asker->told_count, 0);
	assert_int_equal(metric_value(&sessions.metrics.asked_again), 1);
	say_record("s", "u", "revoked");
	TURN_UNTIL(&worker, asker->told_count);
	assert_int_equal(asker->answer, SESSIONS_FOUND);
	assert_true(asker->is_revoked);
	assert_int_equal(find(&askers[1], "s"), SESSIONS_FOUND);
	assert_true(askers[1].is_revoked);
	assert_int_equal(asked_count(), 2);
}

static void get_that_a_letter_overtook_is_asked_again(void **state)
{
	for (int letter = 0; letter < LETTER_COUNT; letter++) {
		for (int moment = 0; moment < 3; moment++) {
			letter_at((enum letter_kind)letter, moment);
			tear_down(state);
			set_up(state);
		}
	}
}

static void answer_of_nothing_that_a_letter_overtook_is_asked_again(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	fake_expect(&fake, "GET\r\n");
	sessions_forget(&sessions, SPAN("s"), 1);
	fake_say(&fake, "$-1\r\n");
	fake_expect(&fake, "GET\r\n");
	assert_int_equal(askers[0].told_count, 0);
	say_record("s", "u", "active");
	TURN_UNTIL(&worker, askers[0].told_count);
	assert_int_equal(askers[0].answer, SESSIONS_FOUND);
}

static void malformed_answer_that_a_letter_overtook_is_asked_again(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	fake_expect(&fake, "GET\r\n");
	replace("s", "u", "revoked");
	fake_say(&fake, "$1\r\n{\r\n");
	fake_expect(&fake, "GET\r\n");
	say_record("s", "u", "active");
	TURN_UNTIL(&worker, askers[0].told_count);
	assert_int_equal(askers[0].answer, SESSIONS_FOUND);
}

static void letter_of_another_session_changes_nothing(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	fake_expect(&fake, "GET\r\n");
	replace("t", "u", "revoked");
	sessions_forget(&sessions, SPAN("v"), 2);
	say_record("s", "u", "active");
	TURN_UNTIL(&worker, askers[0].told_count);
	assert_int_equal(askers[0].answer, SESSIONS_FOUND);
	assert_int_equal(asked_count(), 1);
	assert_int_equal(sessions.sequence, 2);
}

static void get_that_is_overtaken_for_ever_is_given_up(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	for (int asks = 1; asks <= LOOKUP_ASKS_MAX; asks++) {
		assert_int_equal(askers[0].told_count, 0);
		fake_expect(&fake, "GET\r\n$3\r\np:s\r\n");
		replace("s", "u", asks % 2 ? "revoked" : "active");
		say_record("s", "u", "active");
	}
	TURN_UNTIL(&worker, askers[0].told_count);
	assert_int_equal(askers[0].answer, SESSIONS_UNAVAILABLE);
	assert_int_equal(asked_count(), LOOKUP_ASKS_MAX);
	assert_int_equal(metric_value(&sessions.metrics.asked_again), LOOKUP_ASKS_MAX - 1);
	assert_int_equal(sessions.lookup_count, 0);
	/* The letters themselves are good. */
	assert_int_equal(find(&askers[0], "s"), SESSIONS_FOUND);
}

static void redis_lost_before_it_is_asked_again_is_told(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	fake_expect(&fake, "GET\r\n");
	sessions_forget(&sessions, SPAN("s"), 1);
	fake_hang_up(&fake);
	TURN_UNTIL(&worker, askers[0].told_count);
	assert_int_equal(askers[0].answer, SESSIONS_UNAVAILABLE);
	assert_int_equal(sessions.lookup_count, 0);
}

/* ---- letters and what is known ---- */

static void letter_replaces_what_is_known(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	write_record("s", "u", "active");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	replace("s", "v", "revoked");
	assert_int_equal(find(&askers[0], "s"), SESSIONS_FOUND);
	assert_true(askers[0].is_revoked);
	assert_string_equal(askers[0].user, "v");
	/* Known to be unknown is replaced as well. */
	assert_int_equal(find_out(&askers[0], "t"), SESSIONS_UNKNOWN);
	replace("t", "u", "active");
	assert_int_equal(find(&askers[0], "t"), SESSIONS_FOUND);
	assert_int_equal(asked_count(), 2);
}

static void forgotten_sessions_are_asked_for(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	write_record("s", "u", "active");
	write_record("t", "u", "active");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	assert_int_equal(find_out(&askers[0], "t"), SESSIONS_FOUND);
	assert_int_equal(find_out(&askers[0], "none"), SESSIONS_UNKNOWN);
	assert_int_equal(sessions.metrics.entries.value, 3);

	sessions_forget(&sessions, SPAN("s"), 1);
	assert_int_equal(find(&askers[0], "t"), SESSIONS_FOUND);
	write_record("s", "u", "revoked");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	assert_true(askers[0].is_revoked);
	assert_int_equal(asked_count(), 4);

	sessions_recheck(&sessions, SPAN("t"));
	assert_int_equal(sessions.sequence, 1);
	assert_int_equal(find_out(&askers[0], "t"), SESSIONS_FOUND);
	assert_int_equal(asked_count(), 5);

	sessions_forget_all(&sessions, 7);
	assert_int_equal(sessions.sequence, 7);
	assert_int_equal(sessions.metrics.entries.value, 0);
	write_record("none", "u", "active");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	assert_int_equal(find_out(&askers[0], "t"), SESSIONS_FOUND);
	assert_int_equal(find_out(&askers[0], "none"), SESSIONS_FOUND);
	assert_int_equal(asked_count(), 8);
}

static void all_forgotten_asks_every_get_again(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	for (int i = 0; i < 20; i++) {
		char id[16];

		snprintf(id, sizeof(id), "s-%d", i);
		write_record(id, "u", "active");
		assert_int_equal(find(&askers[i], id), SESSIONS_PENDING);
	}
	sessions_forget_all(&sessions, 1);
	for (int i = 0; i < 20; i++)
		TURN_UNTIL(&worker, askers[i].told_count);
	for (int i = 0; i < 20; i++)
		assert_int_equal(askers[i].answer, SESSIONS_FOUND);
	assert_int_equal(metric_value(&sessions.metrics.asked_again), 20);
	assert_int_equal(asked_count(), 40);
}

/* ---- those who go ---- */

static void cancelled_waiters_are_not_told(void **state)
{
	(void)state;
	begin_with_fake();
	for (int i = 0; i < 5; i++)
		assert_int_equal(find(&askers[i], "s"), SESSIONS_PENDING);
	sessions_cancel(&askers[0].waiter); /* before it is sent */
	fake_expect(&fake, "GET\r\n");
	sessions_cancel(&askers[2].waiter); /* before it is answered */
	sessions_cancel(&askers[2].waiter); /* twice */
	sessions_forget(&sessions, SPAN("s"), 1);
	say_record("s", "u", "active");
	fake_expect(&fake, "GET\r\n");
	sessions_cancel(&askers[4].waiter); /* before it is answered again */
	say_record("s", "u", "active");
	TURN_UNTIL(&worker, askers[3].told_count);
	for (int i = 0; i < 5; i++)
		assert_int_equal(askers[i].told_count, i % 2);
	sessions_cancel(&askers[1].waiter); /* after it was told */
	/* One may come again. */
	assert_int_equal(find(&askers[0], "s"), SESSIONS_FOUND);
}

static void lookup_that_nobody_waits_for_is_worth_caching(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	write_record("s", "u", "active");
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	sessions_cancel(&askers[0].waiter);
	TURN_UNTIL(&worker, sessions.lookup_count == 0);
	assert_int_equal(find(&askers[1], "s"), SESSIONS_FOUND);
	assert_int_equal(askers[0].told_count, 0);
	assert_int_equal(asked_count(), 1);
}

static void one_who_comes_after_all_have_gone_joins_the_same_get(void **state)
{
	(void)state;
	begin_with_fake();
	assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
	sessions_cancel(&askers[0].waiter);
	fake_expect(&fake, "GET\r\n");
	assert_int_equal(find(&askers[1], "s"), SESSIONS_PENDING);
	say_record("s", "u", "active");
	TURN_UNTIL(&worker, askers[1].told_count);
	assert_int_equal(askers[1].answer, SESSIONS_FOUND);
	assert_int_equal(asked_count(), 1);
}

static struct asker *victims[8];

static void cancel_victims(struct asker *asker)
{
	(void)asker;
	for (size_t i = 0; i < ARRAY_LEN(victims); i++)
		if (victims[i])
			sessions_cancel(&victims[i]->waiter);
}

/* Whoever is told, anyone else may go meanwhile; `canceller` cancels `victim` of five. */
static void waiters_cancel_each_other_inside_the_callback(void **state)
{
	static const char *const answers[] = {"record", "$-1\r\n", "-ERR no\r\n"};

	(void)state;
	begin_with_fake();
	for (size_t answer = 0; answer < ARRAY_LEN(answers); answer++) {
		for (int canceller = 0; canceller < 5; canceller++) {
			for (int victim = 0; victim < 5; victim++) {
				sessions_recheck(&sessions, SPAN("s"));
				memset(victims, 0, sizeof(victims));
				for (int i = 0; i < 5; i++)
					assert_int_equal(find(&askers[i], "s"), SESSIONS_PENDING);
				victims[0] = &askers[victim];
				askers[canceller].then = cancel_victims;
				fake_expect(&fake, "GET\r\n");
				if (answer == 0)
					say_record("s", "u", "active");
				else
					fake_say(&fake, answers[answer]);
				TURN_UNTIL(&worker, sessions.lookup_count == 0);
				for (int i = 0; i < 5; i++)
					assert_int_equal(askers[i].told_count,
							 i != victim || victim <= canceller);
			}
		}
	}
}

static void first_waiter_may_cancel_all_others(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	write_record("s", "u", "active");
	memset(victims, 0, sizeof(victims));
	for (int i = 0; i < 8; i++)
		assert_int_equal(find(&askers[i], "s"), SESSIONS_PENDING);
	for (int i = 1; i < 8; i++)
		victims[i] = &askers[i];
	askers[0].then = cancel_victims;
	TURN_UNTIL(&worker, askers[0].told_count);
	for (int i = 1; i < 8; i++)
		assert_int_equal(askers[i].told_count, 0);
}

static enum sessions_answer answer_inside;

static void ask_again(struct asker *asker)
{
	(void)asker;
	answer_inside = find(&askers[1], "s");
}

static void waiter_may_ask_again_inside_the_callback(void **state)
{
	static const struct {
		const char *answer;
		enum sessions_answer inside;
	} rows[] = {
		{NULL, SESSIONS_FOUND},
		{"$-1\r\n", SESSIONS_UNKNOWN},
		{"$1\r\n{\r\n", SESSIONS_PENDING},
		{"-ERR no\r\n", SESSIONS_PENDING},
	};

	(void)state;
	begin_with_fake();
	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		sessions_recheck(&sessions, SPAN("s"));
		assert_int_equal(find(&askers[0], "s"), SESSIONS_PENDING);
		askers[0].then = ask_again;
		fake_expect(&fake, "GET\r\n");
		if (rows[row].answer)
			fake_say(&fake, rows[row].answer);
		else
			say_record("s", "u", "active");
		TURN_UNTIL(&worker, askers[0].told_count);
		assert_int_equal(answer_inside, rows[row].inside);
		if (rows[row].inside != SESSIONS_PENDING)
			continue;
		/* A GET of its own. */
		fake_expect(&fake, "GET\r\n");
		assert_int_equal(askers[1].told_count, 0);
		say_record("s", "u", "active");
		TURN_UNTIL(&worker, askers[1].told_count);
		assert_int_equal(askers[1].answer, SESSIONS_FOUND);
	}
}

static struct session *kept;

static void forget_it(struct asker *asker)
{
	(void)asker;
	sessions_recheck(&sessions, SPAN("s"));
}

static void session_outlives_what_waiters_do_inside_the_callback(void **state)
{
	(void)state;
	NEEDS_REDIS_SERVER();
	begin_with_redis();
	write_record("s", "u", "active");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(find(&askers[i], "s"), SESSIONS_PENDING);
		askers[i].then = forget_it;
	}
	TURN_UNTIL(&worker, askers[2].told_count);
	for (int i = 0; i < 3; i++)
		assert_string_equal(askers[i].user, "u");
	assert_int_equal(find_out(&askers[0], "s"), SESSIONS_FOUND);
	/* A reference that was taken outlives the cache's. */
	assert_int_equal(sessions_find(&sessions, SPAN("s"), &askers[1].waiter, &kept),
			 SESSIONS_FOUND);
	session_get(kept);
	sessions_forget_all(&sessions, 1);
	assert_int_equal(kept->count, 1);
	session_put(kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SESSIONS_TEST(all_who_ask_share_one_get),
		SESSIONS_TEST(sessions_are_looked_up_side_by_side),
		SESSIONS_TEST(get_that_a_letter_overtook_is_asked_again),
		SESSIONS_TEST(answer_of_nothing_that_a_letter_overtook_is_asked_again),
		SESSIONS_TEST(malformed_answer_that_a_letter_overtook_is_asked_again),
		SESSIONS_TEST(letter_of_another_session_changes_nothing),
		SESSIONS_TEST(get_that_is_overtaken_for_ever_is_given_up),
		SESSIONS_TEST(redis_lost_before_it_is_asked_again_is_told),
		SESSIONS_TEST(letter_replaces_what_is_known),
		SESSIONS_TEST(forgotten_sessions_are_asked_for),
		SESSIONS_TEST(all_forgotten_asks_every_get_again),
		SESSIONS_TEST(cancelled_waiters_are_not_told),
		SESSIONS_TEST(lookup_that_nobody_waits_for_is_worth_caching),
		SESSIONS_TEST(one_who_comes_after_all_have_gone_joins_the_same_get),
		SESSIONS_TEST(waiters_cancel_each_other_inside_the_callback),
		SESSIONS_TEST(first_waiter_may_cancel_all_others),
		SESSIONS_TEST(waiter_may_ask_again_inside_the_callback),
		SESSIONS_TEST(session_outlives_what_waiters_do_inside_the_callback),
	};

	return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
