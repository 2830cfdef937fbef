#include "hub/index.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define STREAMS 200

static const struct hash_secret secret = { .bytes = { 1, 1, 2 } };

/* The subscriptions' number is their place. */
static struct hub {
	struct index index;
	struct feed_ready ready;
	struct feed_budget budget;
	struct subscription streams[STREAMS];
} hub;

static int set_up(void **state)
{
	(void)state;
	memset(&hub, 0, sizeof(hub));
	index_init(&hub.index, secret);
	feed_ready_init(&hub.ready);
	for (int i = 0; i < STREAMS; i++)
		feed_init(&hub.streams[i].feed, 8, &hub.ready, &hub.budget);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < STREAMS; i++) {
		if (hub.streams[i].feed.place.user)
			index_remove(&hub.index, &hub.streams[i]);
	}
	index_finish(&hub.index);
	for (struct mpsc_node *node = feed_ready_take(&hub.ready); feed_ready_next(&node);)
		;
	for (int i = 0; i < STREAMS; i++)
		feed_finish(&hub.streams[i].feed);
	return 0;
}

static void add(int stream, const char *user, const char *session)
{
	assert_int_equal(index_add(&hub.index, &hub.streams[stream], span_from_cstr(user),
				   span_from_cstr(session)),
			 0);
}

struct visits {
	uint32_t count, by_stream[STREAMS];
	bool remove;
};

static void visit(struct subscription *subscription, void *context)
{
	struct visits *visits = context;

	visits->count++;
	visits->by_stream[subscription - hub.streams]++;
	if (visits->remove)
		index_remove(&hub.index, subscription);
}

/* `list` names the streams, one letter each from 'a' on. */
static void assert_visited(const struct visits *visits, const char *list)
{
	assert_int_equal(visits->count, strlen(list));
	for (const char *at = list; *at; at++)
		assert_int_equal(visits->by_stream[*at - 'a'], 1);
}

static void assert_of_user(const char *user, const char *list)
{
	struct visits visits = { .count = 0 };

	assert_int_equal(index_each_of_user(&hub.index, span_from_cstr(user), visit, &visits),
			 strlen(list));
	assert_visited(&visits, list);
}

static void assert_of_session(const char *session, const char *list)
{
	struct visits visits = { .count = 0 };
	struct span id = span_from_cstr(session);

	assert_int_equal(index_each_of_session(&hub.index, id, visit, &visits), strlen(list));
	assert_visited(&visits, list);
	assert_int_equal(index_session_count(&hub.index, id), strlen(list));
}

static void assert_of_both(const char *user, const char *session, const char *list)
{
	struct visits visits = { .count = 0 };

	assert_int_equal(index_each_of_both(&hub.index, span_from_cstr(user),
					    span_from_cstr(session), visit, &visits),
			 strlen(list));
	assert_visited(&visits, list);
}

static void index_finds_streams_by_user_and_session(void **state)
{
	(void)state;
	add(0, "u1", "s1");
	add(1, "u1", "s1");
	add(2, "u1", "s2");
	add(3, "u2", "s3");
	assert_of_user("u1", "abc");
	assert_of_user("u2", "d");
	assert_of_user("u3", "");
	assert_of_user("", "");
	assert_of_session("s1", "ab");
	assert_of_session("s2", "c");
	assert_of_session("u1", ""); /* the names are apart */
	assert_of_both("u1", "s1", "ab");
	assert_of_both("u2", "s1", "");
	assert_of_both("u3", "s1", "");
	assert_true(span_equal(index_session_user(&hub.index, SPAN("s2")), SPAN("u1")));
	assert_int_equal(index_session_user(&hub.index, SPAN("s9")).len, 0);
	assert_true(span_equal(subscription_user(&hub.streams[3]), SPAN("u2")));
	assert_true(span_equal(subscription_session(&hub.streams[3]), SPAN("s3")));
	assert_int_equal(hub.index.subscription_count, 4);
}

static void index_fetches_what_is_there_and_what_is_not(void **state)
{
	static const char *const users[] = {"u1", "u2", "nobody"};

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (unsigned step = 0; step < INDEX_FETCH_STEPS; step++)
			for (size_t i = 0; i < sizeof(users) / sizeof(*users); i++)
				index_fetch_user(&hub.index,
						 index_hash_user(&hub.index, span_from_cstr(users[i])),
						 step);
		if (round == 0) {
			add(0, "u1", "s1");
			add(1, "u2", "s2");
		}
	}
	assert_of_user("u1", "a");
	assert_of_user("u2", "b");
	assert_of_user("nobody", "");
}

static void index_forgets_users_and_sessions_without_streams(void **state)
{
	(void)state;
	add(0, "u1", "s1");
	add(1, "u1", "s2");
	index_remove(&hub.index, &hub.streams[0]);
	assert_null(hub.streams[0].feed.place.user);
	assert_of_user("u1", "b");
	assert_of_session("s1", "");
	assert_int_equal(hub.index.users.count, 1);
	assert_int_equal(hub.index.sessions.count, 1);
	index_remove(&hub.index, &hub.streams[1]);
	assert_int_equal(hub.index.users.count, 0);
	assert_int_equal(hub.index.sessions.count, 0);
	add(0, "u1", "s1");
	assert_of_user("u1", "a");
}

static void index_copies_its_ids(void **state)
{
	char user[] = "u1", session[] = "s1";

	(void)state;
	add(0, user, session);
	memset(user, 'x', sizeof(user) - 1);
	memset(session, 'x', sizeof(session) - 1);
	assert_of_both("u1", "s1", "a");
	assert_of_user("xx", "");
}

/* The owner of a session has changed while an old stream is still open. */
static void index_keeps_two_users_of_a_session_apart(void **state)
{
	(void)state;
	add(0, "old", "s");
	add(1, "new", "s");
	assert_of_session("s", "ab");
	assert_of_both("old", "s", "a");
	assert_of_both("new", "s", "b");
	assert_of_user("old", "a");
	assert_true(span_equal(index_session_user(&hub.index, SPAN("s")), SPAN("new")));
	index_remove(&hub.index, &hub.streams[1]);
	assert_true(span_equal(index_session_user(&hub.index, SPAN("s")), SPAN("old")));
	index_remove(&hub.index, &hub.streams[0]);
	assert_int_equal(index_session_user(&hub.index, SPAN("s")).len, 0);
}

static void index_visit_may_remove_what_it_visits(void **state)
{
	struct visits visits = { .remove = true };

	(void)state;
	for (int i = 0; i < 5; i++)
		add(i, "u", "s");
	assert_int_equal(index_each_of_user(&hub.index, SPAN("u"), visit, &visits), 5);
	assert_int_equal(hub.index.subscription_count, 0);
	for (int i = 0; i < 5; i++)
		add(i, "u", "s");
	assert_int_equal(index_each_of_session(&hub.index, SPAN("s"), visit, &visits), 5);
	assert_int_equal(hub.index.subscription_count, 0);
	for (int i = 0; i < 5; i++)
		add(i, i % 2 ? "u" : "v", "s");
	assert_int_equal(index_each_of_both(&hub.index, SPAN("u"), SPAN("s"), visit, &visits), 2);
	assert_int_equal(hub.index.subscription_count, 3);
	assert_int_equal(index_each(&hub.index, visit, &visits), 3);
	assert_int_equal(hub.index.subscription_count, 0);
	assert_int_equal(visits.count, 15);
}

static void index_each_visits_all_and_may_remove_all(void **state)
{
	struct visits visits = { .count = 0 };
	char user[16], session[16];

	(void)state;
	for (int i = 0; i < STREAMS; i++) {
		snprintf(user, sizeof(user), "u%d", i / 3);
		snprintf(session, sizeof(session), "s%d", i / 2);
		add(i, user, session);
	}
	assert_int_equal(index_each(&hub.index, visit, &visits), STREAMS);
	for (int i = 0; i < STREAMS; i++)
		assert_int_equal(visits.by_stream[i], 1);
	visits.remove = true;
	assert_int_equal(index_each(&hub.index, visit, &visits), STREAMS);
	assert_int_equal(hub.index.subscription_count, 0);
}

struct session_visits {
	uint32_t count, limit;
	uint32_t by_number[STREAMS];
};

static bool visit_session(struct span session, struct span user, void *context)
{
	struct session_visits *visits = context;
	uint64_t number, user_number;

	assert_true(span_to_uint64(span_from(session, 1), &number));
	assert_true(span_to_uint64(span_from(user, 1), &user_number));
	assert_int_equal(number % 10, user_number);
	visits->by_number[number]++;
	return ++visits->count < visits->limit;
}

static void index_each_session_names_every_session_once(void **state)
{
	struct session_visits all = { .limit = UINT32_MAX }, some = { .limit = 5 };
	char user[16], session[16];

	(void)state;
	for (int i = 0; i < STREAMS; i++) {
		snprintf(user, sizeof(user), "u%d", i % 50 % 10);
		snprintf(session, sizeof(session), "s%d", i % 50);
		add(i, user, session);
	}
	index_each_session(&hub.index, visit_session, &all);
	assert_int_equal(all.count, 50);
	for (int i = 0; i < 50; i++)
		assert_int_equal(all.by_number[i], 1);
	index_each_session(&hub.index, visit_session, &some);
	assert_int_equal(some.count, 5);
}

/* Random use; the index and a plain table agree. */
static void index_agrees_with_a_plain_table(void **state)
{
	int users[STREAMS], sessions[STREAMS];
	unsigned seed = 5;

	(void)state;
	memset(users, -1, sizeof(users));
	for (int turn = 0; turn < 20000; turn++) {
		int stream = rand_r(&seed) % STREAMS;
		int which_user = rand_r(&seed) % 30, which_session = rand_r(&seed) % 60;
		uint32_t by_user = 0, by_session = 0, by_both = 0;
		char user[16], session[16];
		struct visits visits = { .count = 0 };

		snprintf(user, sizeof(user), "u%d", which_user);
		snprintf(session, sizeof(session), "s%d", which_session);
		if (users[stream] < 0) {
			add(stream, user, session);
			users[stream] = which_user;
			sessions[stream] = which_session;
		} else {
			index_remove(&hub.index, &hub.streams[stream]);
			users[stream] = -1;
		}
		for (int i = 0; i < STREAMS; i++) {
			bool of_user = users[i] == which_user;
			bool of_session = users[i] >= 0 && sessions[i] == which_session;

			by_user += of_user;
			by_session += of_session;
			by_both += of_user && of_session;
		}
		assert_int_equal(index_each_of_user(&hub.index, span_from_cstr(user), visit,
						    &visits),
				 by_user);
		assert_int_equal(index_session_count(&hub.index, span_from_cstr(session)),
				 by_session);
		assert_int_equal(index_each_of_both(&hub.index, span_from_cstr(user),
						    span_from_cstr(session), visit, &visits),
				 by_both);
	}
}

/* ---- who holds most ---- */

static void push(int stream, size_t len)
{
	bool wake = false;
	struct payload *payload = payload_create(len);

	assert_non_null(payload);
	assert_int_equal(feed_push(&hub.streams[stream].feed, payload, &wake), FEED_PUSHED);
}

static void index_heaviest_is_open_and_holds_most(void **state)
{
	bool wake = false;

	(void)state;
	assert_null(index_heaviest(&hub.index));
	for (int i = 0; i < 10; i++)
		add(i, i % 2 ? "u" : "v", "s");
	assert_null(index_heaviest(&hub.index));
	push(3, 100);
	push(4, 60);
	push(4, 60);
	push(5, 110);
	assert_ptr_equal(index_heaviest(&hub.index), &hub.streams[4]);
	payload_put(feed_pop(&hub.streams[4].feed));
	assert_ptr_equal(index_heaviest(&hub.index), &hub.streams[5]);
	feed_set_end(&hub.streams[5].feed, FEED_OVERFLOWED, &wake);
	assert_ptr_equal(index_heaviest(&hub.index), &hub.streams[3]);
}

struct shed_visits {
	uint64_t bytes, least_bytes;
	uint32_t count;
};

static void visit_shed(struct subscription *subscription, void *context)
{
	struct shed_visits *visits = context;
	uint64_t bytes = feed_queued_bytes(&subscription->feed);
	bool wake = false;

	assert_true(feed_set_end(&subscription->feed, FEED_OVERFLOWED, &wake));
	visits->count++;
	visits->bytes += bytes;
	if (visits->count == 1 || bytes < visits->least_bytes)
		visits->least_bytes = bytes;
}

static void index_shed_ends_the_heaviest_until_it_is_enough(void **state)
{
	static const struct {
		uint64_t wanted;
		uint32_t count;
		uint64_t held;
	} rows[] = {
		/* streams of 1, 2, 4, … 512 bytes: 1,023 in all */
		{ 0, 0, 0 },	  { 1, 1, 512 },     { 512, 1, 512 },
		{ 513, 2, 768 },  { 768, 2, 768 },   { 993, 6, 1008 },
		{ 1023, 10, 1023 }, { 5000, 10, 1023 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct shed_visits visits = { .count = 0 };

		tear_down(NULL);
		set_up(NULL);
		for (int stream = 0; stream < 10; stream++) {
			add(stream, stream % 3 ? "u" : "v", "s");
			push(stream, (size_t)1 << stream);
		}
		assert_int_equal(index_shed(&hub.index, rows[i].wanted, visit_shed, &visits),
				 rows[i].held);
		assert_int_equal(visits.count, rows[i].count);
		assert_int_equal(visits.bytes, rows[i].held);

		struct subscription *spared = index_heaviest(&hub.index);

		assert_true(!spared || visits.count == 0 ||
			    feed_queued_bytes(&spared->feed) < 2 * visits.least_bytes);
	}
}

static void index_shed_takes_no_more_streams_of_one_weight_than_needed(void **state)
{
	struct shed_visits visits = { .count = 0 };

	(void)state;
	for (int i = 0; i < STREAMS; i++) {
		add(i, i % 7 ? "u" : "v", "s");
		push(i, 1000);
	}
	assert_int_equal(index_shed(&hub.index, 10500, visit_shed, &visits), 11000);
	assert_int_equal(visits.count, 11);
	/* Those that ended hold their bytes still, and do not count again. */
	assert_int_equal(index_shed(&hub.index, UINT64_MAX, visit_shed, &visits),
			 (STREAMS - 11) * 1000);
	assert_int_equal(index_shed(&hub.index, UINT64_MAX, visit_shed, &visits), 0);
	assert_null(index_heaviest(&hub.index));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(index_finds_streams_by_user_and_session),
		TEST(index_fetches_what_is_there_and_what_is_not),
		TEST(index_forgets_users_and_sessions_without_streams),
		TEST(index_copies_its_ids),
		TEST(index_keeps_two_users_of_a_session_apart),
		TEST(index_visit_may_remove_what_it_visits),
		TEST(index_each_visits_all_and_may_remove_all),
		TEST(index_each_session_names_every_session_once),
		TEST(index_agrees_with_a_plain_table),
		TEST(index_heaviest_is_open_and_holds_most),
		TEST(index_shed_ends_the_heaviest_until_it_is_enough),
		TEST(index_shed_takes_no_more_streams_of_one_weight_than_needed),
	};

	return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
