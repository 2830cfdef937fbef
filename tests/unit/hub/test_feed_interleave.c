/* Every interleaving of the bus and a worker over a feed, one step at a time. */
#include "unit/interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void *ring_alloc(size_t count, size_t size);
static void ring_free(void *ring);

#define FEED_STEP() interleave_step()
#define MPSC_STEP() interleave_step()
#include "base/mpsc.c"
#define calloc(count, size) ring_alloc(count, size)
#define free(ring) ring_free(ring)
#include "hub/feed.c"
#undef calloc
#undef free

#define EVENTS_MAX 16
#define RING_MAX 16

/* One run's world. Static, so that equal states are equal bytes. */
static struct world {
	struct feed feeds[2];
	struct feed_ready ready;
	struct feed_budget budget;
	struct payload events[EVENTS_MAX];
	struct payload *ring[RING_MAX];
	bool ring_fails, ring_in_use;
	/* the script */
	uint32_t capacity;
	int pushes, batch; /* a wake after each batch */
	enum feed_end end;
	int pops_a_turn; /* the worker's stream is blocked after so many; 0: never */
	bool two_feeds;
	int pop_many;	 /* so many at once; 0: one by one */
	bool in_batches; /* payloads of 1, 2, 3 messages in turn */
	/* what happened */
	int pushed[2], refused, got[2];
	struct payload *got_events[2][EVENTS_MAX];
	enum feed_end heard[2];
	uint64_t uncounted; /* pushed, and not yet told the budget */
	bool wake;     /* the worker's eventfd, so to say */
	bool released; /* the bus will not touch the feeds again */
	bool is_wrong;
} world;

static void *ring_alloc(size_t count, size_t size)
{
	if (world.ring_fails)
		return NULL;
	world.ring_in_use = true;
	memset(world.ring, 0, sizeof(world.ring));
	if (count * size > sizeof(world.ring))
		abort();
	return world.ring;
}

static void ring_free(void *ring)
{
	if (ring && (ring != world.ring || !world.ring_in_use))
		world.is_wrong = true;
	world.ring_in_use = false;
}

static void set_up(void *context)
{
	struct world script = *(const struct world *)context;

	memset(&world, 0, sizeof(world));
	world.ring_fails = script.ring_fails;
	world.capacity = script.capacity;
	world.pushes = script.pushes;
	world.batch = script.batch;
	world.end = script.end;
	world.pops_a_turn = script.pops_a_turn;
	world.two_feeds = script.two_feeds;
	world.pop_many = script.pop_many;
	world.in_batches = script.in_batches;
	feed_ready_init(&world.ready);
	for (int i = 0; i < 2; i++)
		feed_init(&world.feeds[i], world.capacity, &world.ready, &world.budget);
	for (uint32_t i = 0; i < EVENTS_MAX; i++) {
		world.events[i].count = 2; /* so that none is freed */
		world.events[i].len = 0x10000u << i % 8;
		world.events[i].messages = (uint16_t)(world.in_batches ? 1 + i % 3 : 1);
	}
}

static void post_wake(bool *wake)
{
	if (!*wake)
		return;
	*wake = false;
	interleave_step();
	world.wake = true;
}

static uint64_t bytes_left(int which)
{
	uint64_t bytes = 0;

	for (int i = world.got[which]; i < world.pushed[which]; i++)
		bytes += world.events[world.two_feeds ? 2 * i + which : i].len;
	return bytes;
}

/* The batch's bytes at once. What then is queued was pushed: no more, and never below nothing. */
static void count_pushed(void)
{
	uint64_t most = bytes_left(0) + bytes_left(1);

	feed_budget_add(&world.budget, world.uncounted);
	world.uncounted = 0;
	if (atomic_load(&world.budget.queued_bytes) > most)
		world.is_wrong = true;
}

/* Events go to the feeds in turn; then the end, if the script has one. */
static void bus(void *context)
{
	bool wake = false;

	(void)context;
	for (int i = 0; i < world.pushes; i++) {
		int to = world.two_feeds ? i % 2 : 0;

		if (feed_push_uncounted(&world.feeds[to], &world.events[i], &wake) == FEED_PUSHED) {
			world.pushed[to]++;
			world.uncounted += world.events[i].len;
		} else {
			world.refused++;
		}
		if ((i + 1) % world.batch == 0) {
			count_pushed();
			post_wake(&wake);
		}
	}
	count_pushed();
	for (int i = 0; i <= (world.two_feeds ? 1 : 0) && world.end != FEED_OPEN; i++)
		feed_set_end(&world.feeds[i], world.end, &wake);
	post_wake(&wake);
}

static void bus_and_release(void *context)
{
	bus(context);
	interleave_step();
	world.released = true;
	world.wake = true; /* the letter wakes as well */
}

static void drain(struct feed *feed)
{
	int which = (int)(feed - world.feeds);
	enum feed_end end = feed_get_end(feed);
	uint32_t at_once = world.pop_many ? (uint32_t)world.pop_many : 1, count = 1;

	for (int i = 0; count > 0 && (world.pops_a_turn == 0 || i < world.pops_a_turn); i++) {
		count = feed_pop_many(feed, &world.got_events[which][world.got[which]], at_once,
				      UINT64_MAX);
		world.got[which] += (int)count;
	}
	world.heard[which] = end;
}

static void take_turn(void)
{
	struct mpsc_node *node = feed_ready_take(&world.ready);
	struct feed *feed;

	while ((feed = feed_ready_next(&node)))
		drain(feed);
}

/* Sleeps between turns. Ends when both sides must have said all: else it sleeps for ever. */
static void worker(void *context)
{
	(void)context;
	for (;;) {
		interleave_wait(&world.wake);
		world.wake = false;
		take_turn();

		bool done = world.heard[0] != FEED_OPEN;

		if (world.two_feeds)
			done = done && world.heard[1] != FEED_OPEN;
		if (done)
			return;
	}
}

/* Drains until released, then finishes the feeds as soon as none is in the ready queue. */
static void worker_until_release(void *context)
{
	(void)context;
	for (;;) {
		interleave_wait(&world.wake);
		world.wake = false;
		/* The mail is read before the feeds are drained. */
		interleave_step();

		bool released = world.released;

		take_turn();
		if (!released)
			continue;
		for (int i = 0; i < 2; i++) {
			if (feed_is_ready(&world.feeds[i]))
				world.is_wrong = true; /* the turn must have emptied it */
			else
				feed_finish(&world.feeds[i]);
		}
		return;
	}
}

static bool order_is_kept(int which)
{
	for (int i = 0; i < world.got[which]; i++) {
		int event = world.two_feeds ? 2 * i + which : i;

		if (world.got_events[which][i] != &world.events[event])
			return false;
	}
	return true;
}

/* What holds at the end of any run. */
static bool check_sums(void)
{
	uint64_t left = bytes_left(0) + bytes_left(1);

	return !world.is_wrong && order_is_kept(0) && order_is_kept(1) &&
	       world.got[0] <= world.pushed[0] && world.got[1] <= world.pushed[1] &&
	       feed_queued_bytes(&world.feeds[0]) == bytes_left(0) &&
	       feed_queued_bytes(&world.feeds[1]) == bytes_left(1) &&
	       atomic_load(&world.budget.queued_bytes) == left;
}

/* All was pushed, and the end was heard after the last event. */
static bool check_all_arrived(void *context)
{
	(void)context;
	return check_sums() && world.refused == 0 &&
	       world.pushed[0] + world.pushed[1] == world.pushes &&
	       world.got[0] == world.pushed[0] && world.got[1] == world.pushed[1] &&
	       world.heard[0] == world.end && (!world.two_feeds || world.heard[1] == world.end);
}

/* A blocked stream hears of the end, whatever it has not popped. */
static bool check_end_heard(void *context)
{
	(void)context;
	return check_sums() && world.heard[0] == world.end && world.refused == 0;
}

static uint32_t messages_of(int payloads)
{
	uint32_t messages = 0;

	for (int i = 0; i < payloads; i++)
		messages += world.events[i].messages;
	return messages;
}

/*
 * Either all went in, or the feed overflowed: the first refusal is the last push that was tried in
 * vain, the cause stays, and a ring that was full at that time had its capacity in it.
 */
static bool check_overflow(void *context)
{
	bool overflowed = world.refused > 0;

	(void)context;
	return check_sums() && world.pushed[0] + world.refused == world.pushes &&
	       world.heard[0] == (overflowed ? FEED_OVERFLOWED : world.end) &&
	       (!overflowed || messages_of(world.pushed[0] + 1) > world.capacity) &&
	       (overflowed || world.got[0] == world.pushed[0]);
}

static bool check_failed_ring(void *context)
{
	bool failed = world.refused > 0;

	(void)context;
	return check_sums() && world.heard[0] == (failed ? FEED_FAILED : world.end) &&
	       (!failed || world.pushed[0] >= FEED_INLINE);
}

static bool check_finished(void *context)
{
	(void)context;
	for (int i = 0; i < world.pushes; i++) {
		int which = world.two_feeds ? i % 2 : 0, place = world.two_feeds ? i / 2 : i;
		/* popped events are still held, finished ones were put */
		uint32_t want = place < world.got[which] || i >= world.pushed[0] + world.pushed[1]
					? 2
					: 1;

		if (atomic_load(&world.events[i].count) != want)
			return false;
	}
	return !world.is_wrong && !world.ring_in_use &&
	       atomic_load(&world.budget.queued_bytes) == 0 && mpsc_is_empty(&world.ready.queue);
}

/* Any thread may ask: what it hears is never less than nothing, nor more than was ever pushed. */
static void watcher(void *context)
{
	uint64_t most = 0;

	(void)context;
	for (int i = 0; i < world.pushes; i++)
		most += world.events[i].len;
	for (int i = 0; i < 2; i++) {
		interleave_step();
		if (feed_queued_bytes(&world.feeds[0]) > most)
			world.is_wrong = true;
	}
}

struct play {
	const char *name;
	struct world script;
	void (*bus)(void *context);
	void (*worker)(void *context);
	void (*watcher)(void *context);
	bool (*check)(void *context);
};

#define PLAY(title, ...) { .name = title, .script = { __VA_ARGS__ } }

static void run_plays(struct play *plays, size_t count)
{
	if (INTERLEAVE_WHY_NOT[0]) {
		printf("skip: %s\n", INTERLEAVE_WHY_NOT);
		skip();
	}
	for (size_t i = 0; i < count; i++) {
		struct play *play = &plays[i];
		struct interleave test = {
			.scripts = { play->bus ? play->bus : bus,
				     play->worker ? play->worker : worker, play->watcher },
			.set_up = set_up,
			.check = play->check,
			.context = &play->script,
			.memory = { { &world, sizeof(world) } },
		};
		bool passed = interleave_all(&test);

		printf("%s: %llu states, %llu ends\n", play->name,
		       (unsigned long long)test.state_count, (unsigned long long)test.end_count);
		if (!passed)
			fail_msg("%s:%s%s%s", play->name, test.is_stuck ? " a wake was lost" : "",
				 test.is_refused ? " wrong at the end" : "",
				 test.is_too_large ? " too many states" : "");
		assert_true(test.end_count > 0);
	}
}

static void feed_loses_nothing_and_no_wake_in_any_order(void **state)
{
	static struct play plays[] = {
		PLAY("one", .capacity = 8, .pushes = 1, .batch = 1, .end = FEED_REVOKED),
		PLAY("inline", .capacity = 8, .pushes = 2, .batch = 1, .end = FEED_REVOKED),
		PLAY("into the ring", .capacity = 8, .pushes = 4, .batch = 1, .end = FEED_SHUTDOWN),
		PLAY("in batches", .capacity = 8, .pushes = 6, .batch = 3, .end = FEED_SHUTDOWN),
		PLAY("long", .capacity = 8, .pushes = 6, .batch = 1, .end = FEED_REVOKED),
		PLAY("two feeds", .capacity = 8, .pushes = 4, .batch = 2, .end = FEED_REVOKED,
		     .two_feeds = true),
		PLAY("many at once", .capacity = 8, .pushes = 6, .batch = 2, .end = FEED_SHUTDOWN,
		     .pop_many = 4),
		PLAY("two at once", .capacity = 8, .pushes = 5, .batch = 1, .end = FEED_REVOKED,
		     .pop_many = 2),
		PLAY("payloads of many", .capacity = 8, .pushes = 4, .batch = 1,
		     .end = FEED_SHUTDOWN, .pop_many = 3, .in_batches = true),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++)
		plays[i].check = check_all_arrived;
	run_plays(plays, ARRAY_LEN(plays));
}

static void feed_tells_a_third_thread_no_nonsense_in_any_order(void **state)
{
	static struct play plays[] = {
		PLAY("inline", .capacity = 8, .pushes = 2, .batch = 1, .end = FEED_REVOKED),
		PLAY("into the ring", .capacity = 8, .pushes = 3, .batch = 2, .end = FEED_SHUTDOWN),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++) {
		plays[i].watcher = watcher;
		plays[i].check = check_all_arrived;
	}
	run_plays(plays, ARRAY_LEN(plays));
}

static void feed_overflows_cleanly_in_any_order(void **state)
{
	static struct play plays[] = {
		PLAY("inline only", .capacity = 2, .pushes = 5, .batch = 1, .end = FEED_REVOKED),
		PLAY("ring", .capacity = 4, .pushes = 6, .batch = 1, .end = FEED_REVOKED),
		PLAY("ring in batches", .capacity = 4, .pushes = 8, .batch = 4,
		     .end = FEED_REVOKED),
		PLAY("many at once", .capacity = 4, .pushes = 6, .batch = 1, .end = FEED_REVOKED,
		     .pop_many = 3),
		PLAY("payloads of many", .capacity = 4, .pushes = 6, .batch = 1,
		     .end = FEED_REVOKED, .pop_many = 2, .in_batches = true),
		PLAY("payloads of many, inline", .capacity = 2, .pushes = 4, .batch = 1,
		     .end = FEED_REVOKED, .pop_many = 2, .in_batches = true),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++)
		plays[i].check = check_overflow;
	run_plays(plays, ARRAY_LEN(plays));
}

static void feed_fails_cleanly_without_memory_in_any_order(void **state)
{
	static struct play plays[] = {
		PLAY("no ring", .capacity = 8, .pushes = 4, .batch = 1, .end = FEED_REVOKED,
		     .ring_fails = true),
	};

	(void)state;
	plays[0].check = check_failed_ring;
	run_plays(plays, ARRAY_LEN(plays));
}

static void feed_blocked_stream_hears_the_end_in_any_order(void **state)
{
	static struct play plays[] = {
		PLAY("blocked at once", .capacity = 8, .pushes = 4, .batch = 1,
		     .end = FEED_REVOKED, .pops_a_turn = 1),
		PLAY("blocked in the ring", .capacity = 8, .pushes = 5, .batch = 5,
		     .end = FEED_SHUTDOWN, .pops_a_turn = 2),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++)
		plays[i].check = check_end_heard;
	run_plays(plays, ARRAY_LEN(plays));
}

static void feed_is_finished_safely_after_the_release_in_any_order(void **state)
{
	static struct play plays[] = {
		PLAY("idle", .capacity = 8, .pushes = 0, .batch = 1),
		PLAY("inline", .capacity = 8, .pushes = 2, .batch = 1, .pops_a_turn = 1),
		PLAY("ring", .capacity = 8, .pushes = 5, .batch = 1, .pops_a_turn = 1),
		PLAY("ended", .capacity = 8, .pushes = 4, .batch = 2, .end = FEED_REVOKED,
		     .pops_a_turn = 1),
		PLAY("overflowed", .capacity = 4, .pushes = 6, .batch = 1, .pops_a_turn = 1),
		PLAY("two", .capacity = 8, .pushes = 4, .batch = 1, .pops_a_turn = 1,
		     .two_feeds = true),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++) {
		plays[i].bus = bus_and_release;
		plays[i].worker = worker_until_release;
		plays[i].check = check_finished;
	}
	run_plays(plays, ARRAY_LEN(plays));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(feed_loses_nothing_and_no_wake_in_any_order),
		cmocka_unit_test(feed_tells_a_third_thread_no_nonsense_in_any_order),
		cmocka_unit_test(feed_overflows_cleanly_in_any_order),
		cmocka_unit_test(feed_fails_cleanly_without_memory_in_any_order),
		cmocka_unit_test(feed_blocked_stream_hears_the_end_in_any_order),
		cmocka_unit_test(feed_is_finished_safely_after_the_release_in_any_order),
	};

	return cmocka_run_group_tests_name("feed interleaved", tests, NULL, NULL);
}
