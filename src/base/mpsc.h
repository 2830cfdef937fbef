/*
 * mpsc: intrusive queue, many producers, one consumer, never full, lock-free.
 *
 *   push (any thread) ─► newest → … → oldest ─► take_all (the consumer), oldest first
 *
 * A node is in at most one queue at a time; its owner guarantees that.
 */
#ifndef BASE_MPSC_H
#define BASE_MPSC_H

#include <stdatomic.h>
#include <stdbool.h>

struct mpsc_node {
	struct mpsc_node *next;
};

struct mpsc {
	_Alignas(64) _Atomic(struct mpsc_node *) newest;
};

void mpsc_init(struct mpsc *queue);

/*
 * Thread: any. Returns true if the queue was empty before: the consumer may be asleep and wants a
 * wake-up. Ordering: release, paired with the acquire in mpsc_take_all; what was written before is
 * seen there.
 */
bool mpsc_push(struct mpsc *queue, struct mpsc_node *node);

/* Thread: the consumer. Returns all nodes, oldest first, linked by `next`, or NULL. */
struct mpsc_node *mpsc_take_all(struct mpsc *queue);

bool mpsc_is_empty(struct mpsc *queue);

#endif
