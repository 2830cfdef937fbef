/* worker_internal: the steps of a turn that other files of this room bring. Thread: the worker's. */
#ifndef URING_WORKER_INTERNAL_H
#define URING_WORKER_INTERNAL_H

#include "uring/worker.h"

/* deadline.c: calls every deadline that is due now. */
void deadlines_run(struct worker *worker);

/* op.c: hands one completion to the op it belongs to. */
void op_complete(struct worker *worker, const struct ring_completion *completion);

/* mailbox.c: takes in the letters that are there; those posted meanwhile wait for the next turn. */
void mailbox_deliver(struct worker *worker);

/* mailbox.c: whether a poster must send a wake-up from now on. Before the turn's last look at the queues: true. */
void mailbox_set_asleep(struct worker *worker, bool asleep);

/* mailbox.c: queues one wake-up per marked target that may be asleep. Returns whether this worker woke itself. */
bool wakes_post(struct worker *worker);

/* mailbox.c: a completion whose user_data has USER_DATA_NO_SLOT and kind RING_MESSAGE: a wake-up that failed. */
void wake_refused(struct worker *worker, uint32_t target_index);

/* Kind of the completion that a wake-up makes in its target's ring. */
#define OP_KIND_WOKEN ((uint8_t)RING_OPCODE_COUNT)

#endif
