/* identities: one question for all who ask, kept for its time, gone with the session. */
#include "rest/identities.h"

#include "base/check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define KEEP_MS 5000

static struct {
	struct identities identities;
	struct identity_lookup *asked[IDENTITY_LOOKUPS_MAX];
	size_t asked_count;
	int ask_fails;
} rig;

struct caller {
	struct identity_waiter waiter;
	struct identity_follower follower;
	enum identity_answer answer; /* PENDING: not told yet */
	char user[IDENTITY_TEXT_MAX + 1];
	struct identity *kept;
	int revoked_calls;
};

static int ask(void *context, struct identity_lookup *lookup, struct span token)
{
	(void)context, (void)token;
	if (rig.ask_fails)
		return rig.ask_fails;
	rig.asked[rig.asked_count++ % IDENTITY_LOOKUPS_MAX] = lookup;
	return 0;
}

static void open_rig(void)
{
	memset(&rig, 0, sizeof(rig));
	assert_int_equal(identities_init(&rig.identities,
					 &(struct identities_options){.secret = {{1}}, .ask = ask}),
			 0);
	rig.identities.keep_ms = KEEP_MS;
}

static void close_rig(void)
{
	identities_finish(&rig.identities);
}

static void note(struct caller *caller, enum identity_answer answer, struct identity *identity)
{
	caller->answer = answer;
	caller->user[0] = '\0';
	if (answer == IDENTITY_FOUND)
		snprintf(caller->user, sizeof(caller->user), "%.*s",
			 SPAN_ARGS(identity_user(identity)));
}

static void told(struct identity_waiter *waiter, enum identity_answer answer,
		 struct identity *identity)
{
	struct caller *caller = CONTAINER_OF(waiter, struct caller, waiter);

	note(caller, answer, identity);
	if (answer == IDENTITY_FOUND) {
		identity_get(identity);
		caller->kept = identity;
	}
}

static enum identity_answer find(struct caller *caller, const char *token, uint64_t now_ms)
{
	struct identity *identity = NULL;

	*caller = (struct caller){.waiter.told = told};
	list_init(&caller->waiter.link);
	list_init(&caller->follower.link);
	enum identity_answer answer = identities_find(&rig.identities, span_from_cstr(token),
						      now_ms, &caller->waiter, &identity);

	note(caller, answer, identity);
	return answer;
}

static void let_go(struct caller *caller)
{
	identity_put(caller->kept);
	caller->kept = NULL;
}

static void answer(size_t i, const char *user, const char *session, uint64_t now_ms)
{
	identities_answer(&rig.identities, rig.asked[i],
			  &(struct identity_facts){IDENTITY_FOUND, span_from_cstr(user),
						   span_from_cstr(session), UINT64_MAX},
			  now_ms);
}

static void one_question_answers_all_who_ask(void **state)
{
	(void)state;
	struct caller callers[20], other;

	open_rig();
	for (int i = 0; i < 20; i++)
		assert_int_equal(find(&callers[i], "token", 1000), IDENTITY_PENDING);
	assert_int_equal(find(&other, "another", 1000), IDENTITY_PENDING);
	assert_int_equal(rig.asked_count, 2);
	answer(0, "alice", "s1", 1000);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(callers[i].answer, IDENTITY_FOUND);
		assert_string_equal(callers[i].user, "alice");
		let_go(&callers[i]);
	}
	assert_int_equal(other.answer, IDENTITY_PENDING);
	answer(1, "bob", "s2", 1000);
	assert_string_equal(other.user, "bob");
	let_go(&other);
	close_rig();
}

static void answer_is_kept_for_its_time_and_not_beyond_the_session_s(void **state)
{
	(void)state;
	struct caller caller;

	open_rig();
	find(&caller, "a", 1000);
	answer(0, "alice", "s1", 1000);
	let_go(&caller);
	assert_int_equal(find(&caller, "a", 1000 + KEEP_MS - 1), IDENTITY_FOUND);
	assert_int_equal(find(&caller, "a", 1000 + KEEP_MS), IDENTITY_PENDING);
	identities_answer(&rig.identities, rig.asked[1],
			  &(struct identity_facts){IDENTITY_FOUND, SPAN("alice"), SPAN("s1"), 10},
			  7000);
	let_go(&caller);
	assert_int_equal(find(&caller, "a", 7009), IDENTITY_FOUND);
	assert_int_equal(find(&caller, "a", 7010), IDENTITY_PENDING);
	identities_answer(&rig.identities, rig.asked[2],
			  &(struct identity_facts){IDENTITY_FOUND, SPAN("alice"), SPAN("s1"), 0},
			  7010);
	assert_int_equal(caller.answer, IDENTITY_REFUSED);
	rig.identities.keep_ms = 0;
	assert_int_equal(find(&caller, "a", 8000), IDENTITY_PENDING);
	answer(3, "alice", "s1", 8000);
	let_go(&caller);
	assert_int_equal(find(&caller, "a", 8000), IDENTITY_PENDING);
	answer(4, "alice", "s1", 8000);
	let_go(&caller);
	close_rig();
}

static void refusals_are_not_kept(void **state)
{
	(void)state;
	static const enum identity_answer answers[] = {IDENTITY_REFUSED, IDENTITY_UNAVAILABLE};
	struct caller caller;

	open_rig();
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(find(&caller, "a", 1000), IDENTITY_PENDING);
		identities_answer(&rig.identities, rig.asked[i],
				  &(struct identity_facts){.answer = answers[i]}, 1000);
		assert_int_equal(caller.answer, answers[i]);
	}
	close_rig();
}

static void revoked_session_is_forgotten_at_once(void **state)
{
	(void)state;
	struct caller one, two;

	open_rig();
	find(&one, "a", 1000);
	answer(0, "alice", "s1", 1000);
	find(&two, "b", 1000);
	answer(1, "alice", "s1", 1000);
	assert_ptr_equal(one.kept, two.kept);
	let_go(&one);
	let_go(&two);
	identities_revoke(&rig.identities, SPAN("s2"));
	assert_int_equal(find(&one, "a", 1001), IDENTITY_FOUND);
	identities_revoke(&rig.identities, SPAN("s1"));
	assert_int_equal(find(&one, "a", 1001), IDENTITY_PENDING);
	assert_int_equal(find(&two, "b", 1001), IDENTITY_PENDING);
	identities_cancel(&one.waiter);
	identities_cancel(&two.waiter);
	answer(2, "alice", "s3", 1001);
	answer(3, "alice", "s3", 1001);
	close_rig();
}

static void revoked(struct identity_follower *follower)
{
	CONTAINER_OF(follower, struct caller, follower)->revoked_calls++;
}

static void followers_hear_of_the_end(void **state)
{
	(void)state;
	struct caller callers[3];

	open_rig();
	for (int i = 0; i < 3; i++) {
		find(&callers[i], i < 2 ? "a" : "b", 1000);
		callers[i].follower.revoked = revoked;
	}
	answer(0, "alice", "s1", 1000);
	answer(1, "bob", "s2", 1000);
	for (int i = 0; i < 3; i++)
		identity_follow(callers[i].kept, &callers[i].follower);
	identity_unfollow(&callers[1].follower);
	identities_revoke(&rig.identities, SPAN("s1"));
	identities_forget_all(&rig.identities);
	assert_int_equal(callers[0].revoked_calls, 1);
	assert_int_equal(callers[1].revoked_calls, 0);
	assert_int_equal(callers[2].revoked_calls, 0);
	identity_unfollow(&callers[2].follower);
	for (int i = 0; i < 3; i++)
		let_go(&callers[i]);
	close_rig();
}

/* The service was asked before, and answers after. */
static void answer_overtaken_by_a_revocation_is_a_refusal(void **state)
{
	(void)state;
	struct caller caller;
	char session[32];

	open_rig();
	find(&caller, "a", 1000);
	identities_revoke(&rig.identities, SPAN("s1"));
	answer(0, "alice", "s1", 1000);
	assert_int_equal(caller.answer, IDENTITY_REFUSED);
	find(&caller, "a", 1000);
	answer(1, "alice", "s1", 1000);
	assert_int_equal(caller.answer, IDENTITY_FOUND);
	let_go(&caller);
	find(&caller, "b", 1000);
	for (int i = 0; i <= IDENTITY_REVOKED_MAX; i++) {
		snprintf(session, sizeof(session), "other-%d", i);
		identities_revoke(&rig.identities, span_from_cstr(session));
	}
	answer(2, "alice", "s2", 1000);
	assert_int_equal(caller.answer, IDENTITY_UNAVAILABLE);
	find(&caller, "b", 1000);
	identities_forget_all(&rig.identities);
	answer(3, "alice", "s2", 1000);
	assert_int_equal(caller.answer, IDENTITY_UNAVAILABLE);
	close_rig();
}

static void cancelled_waiters_are_not_told(void **state)
{
	(void)state;
	struct caller one, two;

	open_rig();
	find(&one, "a", 1000);
	find(&two, "a", 1000);
	identities_cancel(&one.waiter);
	identities_cancel(&one.waiter);
	answer(0, "alice", "s1", 1000);
	assert_int_equal(one.answer, IDENTITY_PENDING);
	assert_int_equal(two.answer, IDENTITY_FOUND);
	let_go(&two);
	close_rig();
}

static void what_cannot_be_is_refused_or_unavailable(void **state)
{
	(void)state;
	static char longest[IDENTITY_TOKEN_MAX + 2], text[IDENTITY_TEXT_MAX + 2];
	struct caller caller;

	open_rig();
	memset(longest, 'a', IDENTITY_TOKEN_MAX + 1);
	memset(text, 'u', IDENTITY_TEXT_MAX + 1);
	assert_int_equal(find(&caller, "", 0), IDENTITY_REFUSED);
	assert_int_equal(find(&caller, longest, 0), IDENTITY_REFUSED);
	assert_int_equal(find(&caller, "no \xfe text", 0), IDENTITY_REFUSED);
	longest[IDENTITY_TOKEN_MAX] = '\0';
	rig.ask_fails = -ENOMEM;
	assert_int_equal(find(&caller, longest, 0), IDENTITY_UNAVAILABLE);
	rig.ask_fails = 0;
	const char *const facts[][2] = {
		{"", "s"}, {text, "s"}, {"u", text}, {"\xc3\xbc", "s"}, {"u", "a\nb"},
	};

	for (size_t i = 0; i < ARRAY_LEN(facts); i++) {
		assert_int_equal(find(&caller, longest, 0), IDENTITY_PENDING);
		answer(i, facts[i][0], facts[i][1], 0);
		assert_int_equal(caller.answer, IDENTITY_UNAVAILABLE);
	}
	close_rig();
}

static void every_bound_holds(void **state)
{
	(void)state;
	static struct caller callers[IDENTITY_LOOKUPS_MAX + 1];
	char token[32];

	open_rig();
	for (int i = 0; i <= IDENTITY_LOOKUPS_MAX; i++) {
		snprintf(token, sizeof(token), "t%d", i);
		assert_int_equal(find(&callers[i], token, 0), i < IDENTITY_LOOKUPS_MAX
								      ? IDENTITY_PENDING
								      : IDENTITY_UNAVAILABLE);
	}
	for (size_t i = 0; i < IDENTITY_LOOKUPS_MAX; i++) {
		answer(i, "u", token, 0);
		let_go(&callers[i]);
	}
	for (int i = 0; i <= IDENTITY_WAITERS_MAX; i++)
		assert_int_equal(find(&callers[i], "one", 0), i < IDENTITY_WAITERS_MAX
								      ? IDENTITY_PENDING
								      : IDENTITY_UNAVAILABLE);
	answer(0, "u", "s", 0);
	for (int i = 0; i < IDENTITY_WAITERS_MAX; i++)
		let_go(&callers[i]);
	for (int i = 0; i < IDENTITIES_MAX + 10; i++) {
		snprintf(token, sizeof(token), "many%d", i);
		assert_int_equal(find(&callers[0], token, 0), IDENTITY_PENDING);
		answer((rig.asked_count - 1) % IDENTITY_LOOKUPS_MAX, "u", token, 0);
		let_go(&callers[0]);
	}
	assert_int_equal(rig.identities.token_count, IDENTITIES_MAX);
	assert_int_equal(find(&callers[0], "many0", 0), IDENTITY_PENDING);
	answer((rig.asked_count - 1) % IDENTITY_LOOKUPS_MAX, "u", "s", 0);
	let_go(&callers[0]);
	close_rig();
}

/* Of tokens that come once. */
static void what_is_kept_is_what_came_within_its_time(void **state)
{
	(void)state;
	struct caller caller;
	char token[32];

	open_rig();
	for (int i = 0; i < 500; i++) {
		uint64_t now_ms = (uint64_t)i * rig.identities.keep_ms;

		snprintf(token, sizeof(token), "once%d", i);
		assert_int_equal(find(&caller, token, now_ms), IDENTITY_PENDING);
		answer((rig.asked_count - 1) % IDENTITY_LOOKUPS_MAX, "u", token, now_ms);
		let_go(&caller);
		assert_in_range(rig.identities.token_count, 1, 2);
	}
	close_rig();
}

static void signed_out_token_is_forgotten_with_all_of_its_session(void **state)
{
	(void)state;
	struct caller first, second, third;

	open_rig();
	assert_int_equal(find(&first, "one", 1000), IDENTITY_PENDING);
	assert_int_equal(find(&second, "two", 1000), IDENTITY_PENDING);
	assert_int_equal(find(&third, "three", 1000), IDENTITY_PENDING);
	for (size_t i = 0; i < 3; i++)
		answer(i, "alice", i < 2 ? "s1" : "s2", 1000);
	first.follower.revoked = revoked;
	identity_follow(first.kept, &first.follower);
	identities_depart(&rig.identities, SPAN("one"));
	assert_int_equal(first.revoked_calls, 1);
	let_go(&first);
	let_go(&second);
	let_go(&third);
	assert_int_equal(find(&third, "three", 1000), IDENTITY_FOUND);
	assert_int_equal(find(&first, "one", 1000), IDENTITY_PENDING);
	assert_int_equal(find(&second, "two", 1000), IDENTITY_PENDING);
	/* Asked before, and answered after the end. */
	identities_depart(&rig.identities, SPAN("one"));
	answer(3, "alice", "s3", 1000);
	assert_int_equal(first.answer, IDENTITY_REFUSED);
	answer(4, "alice", "s4", 1000);
	assert_int_equal(second.answer, IDENTITY_FOUND);
	let_go(&second);
	identities_depart(&rig.identities, SPAN("unheard of"));
	close_rig();
}

static void session_without_a_name_takes_no_other_along(void **state)
{
	(void)state;
	struct caller first, second;

	open_rig();
	assert_int_equal(find(&first, "one", 1000), IDENTITY_PENDING);
	answer(0, "alice", "", 1000);
	assert_int_equal(find(&second, "two", 1000), IDENTITY_PENDING);
	identities_depart(&rig.identities, SPAN("one"));
	answer(1, "bob", "", 1000);
	assert_int_equal(second.answer, IDENTITY_FOUND);
	/* who is under way with it goes on */
	assert_false(first.kept->is_revoked);
	let_go(&first);
	let_go(&second);
	assert_int_equal(find(&first, "one", 1000), IDENTITY_PENDING);
	answer(2, "alice", "", 1000);
	let_go(&first);
	close_rig();
}

static void other_workers_hear_of_a_sign_out_with_their_next_token(void **state)
{
	(void)state;
	struct identities other;
	struct departed *departed = departed_create();
	struct caller caller, late;
	uint8_t key[SHA256_BYTES] = {0};

	assert_non_null(departed);
	departed_add(departed, key);
	open_rig();
	close_rig();
	const struct identities_options options = {
		.secret = {{1}}, .ask = ask, .departed = departed};

	assert_int_equal(identities_init(&rig.identities, &options), 0);
	assert_int_equal(identities_init(&other, &options), 0);
	rig.identities.keep_ms = KEEP_MS;
	assert_int_equal(find(&caller, "one", 1000), IDENTITY_PENDING);
	answer(0, "alice", "s1", 1000);
	let_go(&caller);
	assert_int_equal(find(&caller, "one", 1000), IDENTITY_FOUND);
	identities_depart(&other, SPAN("one"));
	assert_int_equal(find(&caller, "one", 1000), IDENTITY_PENDING);
	identities_depart(&other, SPAN("one"));
	answer(1, "alice", "s1", 1000);
	assert_int_equal(caller.answer, IDENTITY_REFUSED);

	/* Who missed some trusts nothing. */
	assert_int_equal(find(&caller, "two", 1000), IDENTITY_PENDING);
	answer(2, "bob", "s2", 1000);
	let_go(&caller);
	assert_int_equal(find(&late, "three", 1000), IDENTITY_PENDING);
	for (int i = 0; i < DEPARTED_MAX; i++)
		departed_add(departed, key);
	assert_int_equal(find(&caller, "two", 1000), IDENTITY_PENDING);
	answer(3, "carol", "s3", 1000);
	assert_int_equal(late.answer, IDENTITY_UNAVAILABLE);
	answer(4, "bob", "s2", 1000);
	assert_int_equal(caller.answer, IDENTITY_FOUND);
	let_go(&caller);
	identities_finish(&other);
	close_rig();
	departed_destroy(departed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_question_answers_all_who_ask),
		cmocka_unit_test(answer_is_kept_for_its_time_and_not_beyond_the_session_s),
		cmocka_unit_test(refusals_are_not_kept),
		cmocka_unit_test(revoked_session_is_forgotten_at_once),
		cmocka_unit_test(followers_hear_of_the_end),
		cmocka_unit_test(answer_overtaken_by_a_revocation_is_a_refusal),
		cmocka_unit_test(cancelled_waiters_are_not_told),
		cmocka_unit_test(what_cannot_be_is_refused_or_unavailable),
		cmocka_unit_test(every_bound_holds),
		cmocka_unit_test(what_is_kept_is_what_came_within_its_time),
		cmocka_unit_test(signed_out_token_is_forgotten_with_all_of_its_session),
		cmocka_unit_test(session_without_a_name_takes_no_other_along),
		cmocka_unit_test(other_workers_hear_of_a_sign_out_with_their_next_token),
	};

	return cmocka_run_group_tests_name("rest/identities", tests, NULL, NULL);
}
