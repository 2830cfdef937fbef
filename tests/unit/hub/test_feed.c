#include "hub/feed.h"

#include "base/check.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#define CAPACITY 8

struct side {
	struct feed feed;
	struct feed_ready ready;
	struct feed_budget budget;
	bool wake;
};

static void side_init(struct side *side)
{
	*side = (struct side){ .budget = { .max_bytes = 1 << 20 } };
	feed_ready_init(&side->ready);
	feed_init(&side->feed, CAPACITY, &side->ready, &side->budget);
}

/* A payload whose first bytes say which one it is. */
static struct payload *numbered(uint32_t number, size_t len)
{
	struct payload *payload = payload_create(sizeof(number) + len);

	if (!payload)
		abort();
	memcpy(payload->data, &number, sizeof(number));
	return payload;
}

static uint32_t number_of(const struct payload *payload)
{
	uint32_t number;

	memcpy(&number, payload->data, sizeof(number));
	return number;
}

static void push(struct side *side, uint32_t number)
{
	assert_int_equal(feed_push(&side->feed, numbered(number, 0), &side->wake), FEED_PUSHED);
}

static void refuse(struct side *side)
{
	struct payload *payload = numbered(0, 0);

	assert_int_equal(feed_push(&side->feed, payload, &side->wake), FEED_REFUSED);
	payload_put(payload);
}

static void pop(struct side *side, uint32_t number)
{
	struct payload *payload = feed_pop(&side->feed);

	assert_non_null(payload);
	assert_int_equal(number_of(payload), number);
	payload_put(payload);
}

/* What the worker does before it may finish a feed. */
static int drain_ready(struct side *side)
{
	struct mpsc_node *node = feed_ready_take(&side->ready);
	int count = 0;

	for (struct feed *feed; (feed = feed_ready_next(&node)); count++)
		assert_ptr_equal(feed, &side->feed);
	return count;
}

static void finish(struct side *side)
{
	drain_ready(side);
	feed_finish(&side->feed);
	assert_int_equal(atomic_load(&side->budget.queued_bytes), 0);
	assert_int_equal(feed_queued_bytes(&side->feed), 0);
}

static void feed_gives_what_was_pushed_in_order(void **state)
{
	struct side side;
	uint32_t in = 0, out = 0;

	(void)state;
	side_init(&side);
	assert_null(feed_pop(&side.feed));
	/* Every depth up to the capacity, from every place of the ring. */
	for (uint32_t depth = 1; depth <= CAPACITY; depth++) {
		for (int round = 0; round < 2 * CAPACITY; round++) {
			while (in - out < depth)
				push(&side, in++);
			assert_int_equal(feed_depth(&side.feed), depth);
			pop(&side, out++);
		}
		while (out < in)
			pop(&side, out++);
		assert_null(feed_pop(&side.feed));
	}
	finish(&side);
}

static void feed_needs_no_ring_for_two(void **state)
{
	struct side side;

	(void)state;
	side_init(&side);
	for (uint32_t i = 0; i < 100; i++) {
		push(&side, 2 * i);
		push(&side, 2 * i + 1);
		pop(&side, 2 * i);
		pop(&side, 2 * i + 1);
	}
	assert_null(atomic_load(&side.feed.ring));
	push(&side, 0);
	push(&side, 1);
	push(&side, 2);
	assert_non_null(atomic_load(&side.feed.ring));
	pop(&side, 0);
	push(&side, 3); /* while the inline slots still drain */
	for (uint32_t i = 1; i < 4; i++)
		pop(&side, i);
	finish(&side);
}

static void push_messages(struct side *side, uint32_t number, uint16_t messages)
{
	struct payload *payload = numbered(number, 0);

	payload->messages = messages;
	assert_int_equal(feed_push(&side->feed, payload, &side->wake), FEED_PUSHED);
}

static void feed_counts_messages_against_its_capacity(void **state)
{
	struct side side;

	(void)state;
	side_init(&side);
	push_messages(&side, 0, CAPACITY / 2);
	push_messages(&side, 1, CAPACITY / 2 - 1);
	push_messages(&side, 2, 1);
	assert_int_equal(feed_depth(&side.feed), CAPACITY);
	pop(&side, 0);
	assert_int_equal(feed_depth(&side.feed), CAPACITY / 2);
	push_messages(&side, 3, CAPACITY / 2);
	refuse(&side);
	assert_int_equal(feed_get_end(&side.feed), FEED_OVERFLOWED);
	for (uint32_t i = 1; i < 4; i++)
		pop(&side, i);
	assert_int_equal(feed_depth(&side.feed), 0);
	finish(&side);
}

static void feed_takes_no_payload_of_more_messages_than_its_capacity(void **state)
{
	struct side side;
	struct payload *payload = numbered(0, 0);

	(void)state;
	side_init(&side);
	payload->messages = CAPACITY + 1;
	assert_int_equal(feed_push(&side.feed, payload, &side.wake), FEED_REFUSED);
	assert_int_equal(feed_get_end(&side.feed), FEED_OVERFLOWED);
	payload_put(payload);
	finish(&side);
}

static void feed_pops_many_within_their_bounds(void **state)
{
	/* of six payloads of four bytes each */
	static const struct {
		uint32_t max;
		uint64_t bytes_max;
		uint32_t wanted;
	} rows[] = { { 1, UINT64_MAX, 1 }, { 4, UINT64_MAX, 4 }, { 6, UINT64_MAX, 6 },
		     { 9, UINT64_MAX, 6 }, { 9, 0, 1 },		 { 9, 1, 1 },
		     { 9, 4, 1 },	   { 9, 5, 2 },		 { 9, 20, 5 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct payload *popped[9];
		struct side side;

		side_init(&side);
		assert_int_equal(feed_pop_many(&side.feed, popped, 9, UINT64_MAX), 0);
		for (uint32_t number = 0; number < 6; number++)
			push(&side, number);
		assert_int_equal(
			feed_pop_many(&side.feed, popped, rows[i].max, rows[i].bytes_max),
			rows[i].wanted);
		assert_int_equal(feed_depth(&side.feed), 6 - rows[i].wanted);
		assert_int_equal(feed_queued_bytes(&side.feed), 4 * (6 - rows[i].wanted));
		for (uint32_t number = 0; number < rows[i].wanted; number++) {
			assert_int_equal(number_of(popped[number]), number);
			payload_put(popped[number]);
		}
		for (uint32_t number = rows[i].wanted; number < 6; number++)
			pop(&side, number);
		finish(&side);
	}
}

static void feed_indices_may_wrap(void **state)
{
	(void)state;
	for (uint32_t before = 0; before < 12; before++) {
		struct side side;
		uint32_t from = UINT32_MAX - before;

		side_init(&side);
		atomic_store(&side.feed.head, from);
		atomic_store(&side.feed.tail, from);
		side.feed.tail_seen = side.feed.head_seen = from;
		atomic_store(&side.feed.pushed_messages, from);
		atomic_store(&side.feed.popped_messages, from);
		side.feed.popped_seen = from;
		for (uint32_t i = 0; i < CAPACITY; i++)
			push(&side, i);
		for (uint32_t i = 0; i < 3 * CAPACITY; i++) {
			pop(&side, i);
			push(&side, i + CAPACITY);
		}
		refuse(&side);
		for (uint32_t i = 3 * CAPACITY; i < 4 * CAPACITY; i++)
			pop(&side, i);
		assert_null(feed_pop(&side.feed));
		finish(&side);
	}
}

/* 2^31 and 2^32 events after the ring came, its first index is not mistaken for a new one. */
static void feed_stays_in_its_ring_for_ever(void **state)
{
	struct side side;
	uint32_t number = 0;

	(void)state;
	side_init(&side);
	for (uint32_t i = 0; i < CAPACITY; i++)
		push(&side, i);
	for (uint32_t i = 0; i < CAPACITY; i++)
		pop(&side, i);
	for (uint32_t jump = 0; jump < 8; jump++) {
		uint32_t index = atomic_load(&side.feed.head) + (UINT32_C(1) << 29);

		atomic_store(&side.feed.head, index);
		atomic_store(&side.feed.tail, index);
		side.feed.tail_seen = side.feed.head_seen = index;
		for (uint32_t i = 0; i < CAPACITY; i++)
			push(&side, number + i);
		for (uint32_t i = 0; i < CAPACITY; i++)
			pop(&side, number++);
	}
	finish(&side);
}

static void feed_full_ring_ends_the_feed_and_takes_nothing(void **state)
{
	struct payload *late = numbered(99, 0);
	struct side side;

	(void)state;
	side_init(&side);
	for (uint32_t i = 0; i < CAPACITY; i++)
		push(&side, i);
	assert_int_equal(feed_get_end(&side.feed), FEED_OPEN);
	drain_ready(&side);
	side.wake = false;
	assert_int_equal(feed_push(&side.feed, late, &side.wake), FEED_REFUSED);
	assert_true(side.wake);
	assert_int_equal(feed_get_end(&side.feed), FEED_OVERFLOWED);
	assert_int_equal(atomic_load(&late->count), 1);
	assert_int_equal(drain_ready(&side), 1);
	/* Once ended it stays so, room or not. */
	pop(&side, 0);
	side.wake = false;
	assert_int_equal(feed_push(&side.feed, late, &side.wake), FEED_REFUSED);
	assert_false(side.wake);
	assert_int_equal(feed_depth(&side.feed), CAPACITY - 1);
	payload_put(late);
	finish(&side);
}

static void feed_first_cause_stays(void **state)
{
	static const enum feed_end causes[] = { FEED_REVOKED, FEED_OVERFLOWED, FEED_SHUTDOWN,
						FEED_FAILED };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(causes); i++) {
		struct side side;

		side_init(&side);
		assert_true(feed_set_end(&side.feed, causes[i], &side.wake));
		for (size_t j = 0; j < ARRAY_LEN(causes); j++)
			assert_false(feed_set_end(&side.feed, causes[j], &side.wake));
		assert_int_equal(feed_get_end(&side.feed), causes[i]);
		finish(&side);
	}
}

static void feed_enters_its_ready_queue_once(void **state)
{
	struct side side;

	(void)state;
	side_init(&side);
	assert_false(feed_is_ready(&side.feed));
	push(&side, 0);
	assert_true(side.wake);
	assert_true(feed_is_ready(&side.feed));
	side.wake = false;
	push(&side, 1);
	assert_false(side.wake);
	assert_true(feed_set_end(&side.feed, FEED_REVOKED, &side.wake));
	assert_false(side.wake);
	assert_int_equal(drain_ready(&side), 1);
	assert_int_equal(drain_ready(&side), 0);
	assert_false(feed_is_ready(&side.feed));
	finish(&side);
}

/* Not popping anything, the stream is told of the end all the same. */
static void feed_end_queues_a_blocked_stream_again(void **state)
{
	struct side side;

	(void)state;
	side_init(&side);
	push(&side, 0);
	assert_int_equal(drain_ready(&side), 1);
	side.wake = false;
	assert_true(feed_set_end(&side.feed, FEED_SHUTDOWN, &side.wake));
	assert_true(side.wake);
	assert_int_equal(drain_ready(&side), 1);
	assert_int_equal(feed_get_end(&side.feed), FEED_SHUTDOWN);
	finish(&side);
}

static void feed_wake_is_set_and_never_cleared(void **state)
{
	struct side side;

	(void)state;
	side_init(&side);
	side.wake = true;
	push(&side, 0);
	push(&side, 1);
	assert_true(side.wake);
	finish(&side);
}

static void feed_ready_queue_keeps_the_order_of_feeds(void **state)
{
	struct feed_ready ready;
	struct feed_budget budget = { .queued_bytes = 0 };
	struct feed *feeds = aligned_alloc(_Alignof(struct feed), 10 * sizeof(*feeds));
	bool wake = false;

	(void)state;
	assert_non_null(feeds);
	feed_ready_init(&ready);
	for (int i = 0; i < 10; i++) {
		feed_init(&feeds[i], CAPACITY, &ready, &budget);
		feed_push(&feeds[i], numbered(0, 0), &wake);
		feed_push(&feeds[i / 2], numbered(0, 0), &wake);
	}

	struct mpsc_node *node = feed_ready_take(&ready);

	for (int i = 0; i < 10; i++) {
		struct feed *feed = feed_ready_next(&node);

		assert_ptr_equal(feed, &feeds[i]);
		/* It may enter again while the rest is still being worked through. */
		feed_push(feed, numbered(0, 0), &wake);
	}
	assert_null(feed_ready_next(&node));
	node = feed_ready_take(&ready);
	for (int i = 0; i < 10; i++)
		assert_ptr_equal(feed_ready_next(&node), &feeds[i]);
	for (int i = 0; i < 10; i++)
		feed_finish(&feeds[i]);
	assert_int_equal(atomic_load(&budget.queued_bytes), 0);
	free(feeds);
}

static void feed_counts_the_bytes_that_are_queued(void **state)
{
	struct side side;
	struct payload *large = numbered(0, 996), *small = numbered(1, 0);

	(void)state;
	side_init(&side);
	assert_int_equal(feed_push(&side.feed, large, &side.wake), FEED_PUSHED);
	assert_int_equal(feed_push(&side.feed, small, &side.wake), FEED_PUSHED);
	assert_int_equal(feed_queued_bytes(&side.feed), 1004);
	assert_int_equal(atomic_load(&side.budget.queued_bytes), 1004);
	pop(&side, 0);
	assert_int_equal(feed_queued_bytes(&side.feed), 4);
	assert_int_equal(atomic_load(&side.budget.queued_bytes), 4);
	finish(&side);
}

/* Many streams share one payload: each queue holds one reference, and finishing gives it back. */
static void feed_finish_gives_back_what_is_queued(void **state)
{
	struct payload *shared = numbered(0, 0);
	struct side side;

	(void)state;
	side_init(&side);
	payload_get(shared, 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(feed_push(&side.feed, shared, &side.wake), FEED_PUSHED);
	assert_int_equal(atomic_load(&shared->count), 6);
	payload_put(feed_pop(&side.feed));
	finish(&side);
	assert_int_equal(atomic_load(&shared->count), 1);
	payload_put(shared);
}

/* ---- threads ---- */

#define FEEDS 5
#ifdef __SANITIZE_THREAD__
#define EVENTS 60000
#else
#define EVENTS 300000
#endif

struct stress {
	struct feed *feeds;
	struct feed_ready ready;
	struct feed_budget budget;
	sem_t wake; /* the worker really sleeps on it */
	uint32_t batch;
	/* the bus's */
	uint32_t pushed[FEEDS];
	/* the worker's */
	uint32_t popped[FEEDS];
	enum feed_end heard[FEEDS];
	uint64_t wake_count;
	bool is_wrong, timed_out;
};

static void post(struct stress *stress, bool *wake)
{
	if (*wake)
		sem_post(&stress->wake);
	*wake = false;
}

/* Random feeds; one that has overflowed takes nothing more. */
static void *stress_bus(void *argument)
{
	struct stress *stress = argument;
	uint32_t random = 1;
	bool wake = false;

	for (uint32_t n = 0; n < EVENTS; n++) {
		random = random * 1664525 + 1013904223;

		uint32_t which = (random >> 24) % FEEDS;
		struct feed *feed = &stress->feeds[which];
		struct payload *payload = numbered(stress->pushed[which], random >> 28);

		if (feed_push(feed, payload, &wake) == FEED_PUSHED)
			stress->pushed[which]++;
		else
			payload_put(payload);
		if (n % stress->batch == 0)
			post(stress, &wake);
	}
	for (int i = 0; i < FEEDS; i++)
		feed_set_end(&stress->feeds[i], FEED_SHUTDOWN, &wake);
	post(stress, &wake);
	return NULL;
}

static void stress_drain(struct stress *stress, struct feed *feed)
{
	size_t which = (size_t)(feed - stress->feeds);
	enum feed_end end = feed_get_end(feed);
	struct payload *payload;

	while ((payload = feed_pop(feed))) {
		if (number_of(payload) != stress->popped[which]++)
			stress->is_wrong = true;
		payload_put(payload);
	}
	stress->heard[which] = end;
}

static bool stress_is_over(const struct stress *stress)
{
	for (int i = 0; i < FEEDS; i++) {
		if (stress->heard[i] == FEED_OPEN)
			return false;
	}
	return true;
}

static void *stress_worker(void *argument)
{
	struct stress *stress = argument;

	while (!stress_is_over(stress)) {
		struct timespec limit;

		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec += 60;
		/* A missed wake leaves us here. */
		if (sem_timedwait(&stress->wake, &limit) != 0) {
			stress->timed_out = true;
			return NULL;
		}
		stress->wake_count++;

		struct mpsc_node *node = feed_ready_take(&stress->ready);

		for (struct feed *feed; (feed = feed_ready_next(&node));)
			stress_drain(stress, feed);
	}
	return NULL;
}

static void run_stress(uint32_t capacity, uint32_t batch)
{
	struct stress stress = { .batch = batch };
	pthread_t bus, worker;

	stress.feeds = aligned_alloc(_Alignof(struct feed), FEEDS * sizeof(struct feed));
	assert_non_null(stress.feeds);
	feed_ready_init(&stress.ready);
	assert_int_equal(sem_init(&stress.wake, 0, 0), 0);
	for (int i = 0; i < FEEDS; i++)
		feed_init(&stress.feeds[i], capacity, &stress.ready, &stress.budget);
	assert_int_equal(pthread_create(&worker, NULL, stress_worker, &stress), 0);
	assert_int_equal(pthread_create(&bus, NULL, stress_bus, &stress), 0);
	assert_int_equal(pthread_join(bus, NULL), 0);
	assert_int_equal(pthread_join(worker, NULL), 0);
	assert_false(stress.timed_out);
	assert_false(stress.is_wrong);
	assert_true(stress.wake_count > 0);
	/* Whatever came after the worker heard the last end. */
	for (struct mpsc_node *node = feed_ready_take(&stress.ready); feed_ready_next(&node);)
		;
	for (int i = 0; i < FEEDS; i++) {
		assert_int_equal(stress.popped[i], stress.pushed[i]);
		feed_finish(&stress.feeds[i]);
	}
	assert_int_equal(atomic_load(&stress.budget.queued_bytes), 0);
	sem_destroy(&stress.wake);
	free(stress.feeds);
}

/* Large enough that none overflows: every event arrives. */
static void feed_threads_lose_nothing(void **state)
{
	(void)state;
	run_stress(1u << 19, 1);
	run_stress(1u << 19, 128);
}

/* Overflowing now and then: what was pushed before arrives. */
static void feed_threads_overflow_cleanly(void **state)
{
	(void)state;
	for (uint32_t capacity = 2; capacity <= 256; capacity *= 2) {
		run_stress(capacity, 1);
		run_stress(capacity, 64);
	}
}

struct ping {
	struct side side;
	sem_t wake;
	_Atomic uint32_t answered;
	_Atomic bool timed_out;
};

static void *ping_worker(void *argument)
{
	struct ping *ping = argument;

	for (;;) {
		struct timespec limit;

		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec += 60;
		if (sem_timedwait(&ping->wake, &limit) != 0) {
			ping->timed_out = true;
			return NULL;
		}

		struct mpsc_node *node = feed_ready_take(&ping->side.ready);

		for (struct feed *feed; (feed = feed_ready_next(&node));) {
			enum feed_end end = feed_get_end(feed);

			for (struct payload *payload; (payload = feed_pop(feed));) {
				payload_put(payload);
				atomic_fetch_add(&ping->answered, 1);
			}
			if (end != FEED_OPEN)
				return NULL;
		}
	}
}

static void feed_threads_never_miss_a_wake(void **state)
{
	struct ping *ping = aligned_alloc(_Alignof(struct ping), sizeof(*ping));
	uint32_t count = EVENTS / 10;
	pthread_t worker;
	bool wake = false;

	(void)state;
	assert_non_null(ping);
	memset(ping, 0, sizeof(*ping));
	side_init(&ping->side);
	assert_int_equal(sem_init(&ping->wake, 0, 0), 0);
	assert_int_equal(pthread_create(&worker, NULL, ping_worker, ping), 0);
	for (uint32_t i = 0; i < count; i++) {
		feed_push(&ping->side.feed, numbered(i, 0), &wake);
		if (wake)
			sem_post(&ping->wake);
		wake = false;
		/* Up to two in flight: the next push meets the worker at any place of its turn. */
		while (i + 1 - atomic_load(&ping->answered) > 2 && !ping->timed_out)
			sched_yield();
	}
	feed_set_end(&ping->side.feed, FEED_SHUTDOWN, &wake);
	sem_post(&ping->wake);
	assert_int_equal(pthread_join(worker, NULL), 0);
	assert_false(ping->timed_out);
	assert_int_equal(atomic_load(&ping->answered), count);
	finish(&ping->side);
	sem_destroy(&ping->wake);
	free(ping);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(feed_gives_what_was_pushed_in_order),
		cmocka_unit_test(feed_needs_no_ring_for_two),
		cmocka_unit_test(feed_counts_messages_against_its_capacity),
		cmocka_unit_test(feed_takes_no_payload_of_more_messages_than_its_capacity),
		cmocka_unit_test(feed_pops_many_within_their_bounds),
		cmocka_unit_test(feed_indices_may_wrap),
		cmocka_unit_test(feed_stays_in_its_ring_for_ever),
		cmocka_unit_test(feed_full_ring_ends_the_feed_and_takes_nothing),
		cmocka_unit_test(feed_first_cause_stays),
		cmocka_unit_test(feed_enters_its_ready_queue_once),
		cmocka_unit_test(feed_end_queues_a_blocked_stream_again),
		cmocka_unit_test(feed_wake_is_set_and_never_cleared),
		cmocka_unit_test(feed_ready_queue_keeps_the_order_of_feeds),
		cmocka_unit_test(feed_counts_the_bytes_that_are_queued),
		cmocka_unit_test(feed_finish_gives_back_what_is_queued),
		cmocka_unit_test(feed_threads_lose_nothing),
		cmocka_unit_test(feed_threads_overflow_cleanly),
		cmocka_unit_test(feed_threads_never_miss_a_wake),
	};

	return cmocka_run_group_tests_name("feed", tests, NULL, NULL);
}
