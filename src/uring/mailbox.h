/*
 * mailbox: letters from other threads to a worker. A letter is embedded in its owner, so posting
 * cannot fail; it carries the function that takes it in.
 *
 *   from: letter_post ──► mpsc ──(MSG_RING, one per turn and target)──► to: deliver
 *
 * A letter is in one mailbox at a time; its owner must not reuse it before it is delivered.
 */
#ifndef URING_MAILBOX_H
#define URING_MAILBOX_H

#include "base/mpsc.h"

struct worker;
struct letter;

/* Thread: the receiving worker's. The letter is out of the mailbox and may be posted again. */
typedef void letter_fn(struct worker *to, struct letter *letter);

struct letter {
	struct mpsc_node node;
	letter_fn *deliver;
};

/*
 * Posts; the wake-up leaves with the end of `from`'s turn. Thread: from's.
 * from == to is allowed: delivered next turn.
 * Letters of one sender to one target arrive in the order posted.
 * Lifetime: the target's ring outlives every worker that may post to it.
 */
void letter_post(struct worker *from, struct worker *to, struct letter *letter);

/* Only the wake-up, for queues of other kinds (feeds). Coalesced with letters. Thread: from's. */
void worker_wake(struct worker *from, struct worker *to);

#endif
