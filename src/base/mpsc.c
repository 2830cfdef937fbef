#include "base/mpsc.h"

#include <stddef.h>

/* Stands before every access that another thread can see: a test steps from one to the next. */
#ifndef MPSC_STEP
#define MPSC_STEP() ((void)0)
#endif

void mpsc_init(struct mpsc *queue)
{
	atomic_init(&queue->newest, NULL);
}

bool mpsc_push(struct mpsc *queue, struct mpsc_node *node)
{
	MPSC_STEP();

	struct mpsc_node *newest = atomic_load_explicit(&queue->newest, memory_order_relaxed);

	/*
	 * Release, paired with the acquire in mpsc_take_all. Pushes of other threads on top of ours
	 * are read-modify-writes and continue our release sequence: taking theirs shows ours too.
	 * No ABA: nodes leave only all at once, so if `newest` is the same, so is all below it.
	 */
	do {
		node->next = newest;
		MPSC_STEP();
	} while (!atomic_compare_exchange_weak_explicit(&queue->newest, &newest, node,
							memory_order_release,
							memory_order_relaxed));
	return newest == NULL;
}

struct mpsc_node *mpsc_take_all(struct mpsc *queue)
{
	MPSC_STEP();
	/* Acquire: see mpsc_push. */
	struct mpsc_node *node =
		atomic_exchange_explicit(&queue->newest, NULL, memory_order_acquire);
	struct mpsc_node *oldest = NULL;

	while (node) {
		struct mpsc_node *next = node->next;

		node->next = oldest;
		oldest = node;
		node = next;
	}
	return oldest;
}

bool mpsc_is_empty(struct mpsc *queue)
{
	return atomic_load_explicit(&queue->newest, memory_order_acquire) == NULL;
}
