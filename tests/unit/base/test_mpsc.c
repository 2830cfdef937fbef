#include "unit/base/base_test.h"

#include "base/check.h"
#include "base/mpsc.h"

#include <pthread.h>
#include <sched.h>

struct letter {
	struct mpsc_node node;
	unsigned producer, number;
};

static void mpsc_gives_nothing_when_empty(void **state)
{
	struct mpsc queue;

	(void)state;
	mpsc_init(&queue);
	assert_true(mpsc_is_empty(&queue));
	assert_null(mpsc_take_all(&queue));
}

static void mpsc_takes_all_oldest_first(void **state)
{
	(void)state;
	for (unsigned count = 1; count < 6; count++) {
		struct letter letters[6];
		struct mpsc queue;

		mpsc_init(&queue);
		for (unsigned i = 0; i < count; i++)
			mpsc_push(&queue, &letters[i].node);
		assert_false(mpsc_is_empty(&queue));

		struct mpsc_node *node = mpsc_take_all(&queue);

		for (unsigned i = 0; i < count; i++, node = node->next)
			assert_ptr_equal(node, &letters[i].node);
		assert_null(node);
		assert_true(mpsc_is_empty(&queue));
	}
}

static void mpsc_push_tells_the_first_one_after_a_take(void **state)
{
	struct letter letters[3];
	struct mpsc queue;

	(void)state;
	mpsc_init(&queue);
	for (int round = 0; round < 3; round++) {
		assert_true(mpsc_push(&queue, &letters[0].node));
		assert_false(mpsc_push(&queue, &letters[1].node));
		assert_false(mpsc_push(&queue, &letters[2].node));
		mpsc_take_all(&queue);
	}
}

#define PRODUCERS 3u
#define LETTERS 20000u

static struct mpsc shared;
static struct letter letters[PRODUCERS][LETTERS];
static atomic_uint first_count; /* pushes that found the queue empty */

static void *produce(void *argument)
{
	unsigned producer = (unsigned)(uintptr_t)argument, firsts = 0;

	for (unsigned i = 0; i < LETTERS; i++) {
		/* Plain writes: that the consumer sees them is what the queue promises. */
		letters[producer][i].producer = producer;
		letters[producer][i].number = i;
		firsts += mpsc_push(&shared, &letters[producer][i].node);
	}
	atomic_fetch_add(&first_count, firsts);
	return NULL;
}

static void mpsc_loses_nothing_and_keeps_each_producers_order(void **state)
{
	pthread_t threads[PRODUCERS];
	unsigned next[PRODUCERS] = { 0 }, taken = 0, batches = 0;

	(void)state;
	mpsc_init(&shared);
	for (uintptr_t i = 0; i < PRODUCERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, produce, (void *)i), 0);
	while (taken < PRODUCERS * LETTERS) {
		struct mpsc_node *node = mpsc_take_all(&shared);

		if (!node) {
			sched_yield();
			continue;
		}
		batches++;
		while (node) {
			struct letter *letter = CONTAINER_OF(node, struct letter, node);

			node = node->next;
			assert_in_range(letter->producer, 0, PRODUCERS - 1);
			assert_int_equal(letter->number, next[letter->producer]);
			next[letter->producer]++;
			taken++;
		}
	}
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	assert_true(mpsc_is_empty(&shared));
	/* Exactly one push per batch found the queue empty: no wake-up is lost, none is double. */
	assert_int_equal(atomic_load(&first_count), batches);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mpsc_gives_nothing_when_empty),
		cmocka_unit_test(mpsc_takes_all_oldest_first),
		cmocka_unit_test(mpsc_push_tells_the_first_one_after_a_take),
		cmocka_unit_test(mpsc_loses_nothing_and_keeps_each_producers_order),
	};

	return cmocka_run_group_tests_name("mpsc", tests, NULL, NULL);
}
