/* worker_internal: steps of a turn that other files of this room bring. Thread: the worker's. */
#ifndef URING_WORKER_INTERNAL_H
#define URING_WORKER_INTERNAL_H

#include "uring/worker.h"

/* deadline.c: calls every deadline that is due now. */
void deadlines_run(struct worker *worker);

/* deadline.c: when the first fine one is due; UINT64_MAX: none. */
uint64_t fine_deadlines_next_us(const struct worker *worker);

/* op.c: hands one completion to the op it belongs to. */
void op_complete(struct worker *worker, const struct ring_completion *completion);

/* op.c: closes again what op_discard found no room for. */
void discards_retry(struct worker *worker);

/* mailbox.c: takes in the letters that are there; those posted meanwhile wait for the next turn. */
void mailbox_deliver(struct worker *worker);

/* mailbox.c: whether a poster must wake us from now on. True before the last look at the queues. */
void mailbox_set_asleep(struct worker *worker, bool asleep);

/* mailbox.c: queues one wake-up per marked target that may sleep. Returns whether one is itself. */
bool wakes_post(struct worker *worker);

/* mailbox.c: the kernel refused the wake-up for this target: it is sent again. */
void wake_refused(struct worker *worker, uint32_t target_index);

/* Kind of the completion that a wake-up makes in its target's ring. */
#define OP_KIND_WOKEN ((uint8_t)RING_OPCODE_COUNT)

#endif
