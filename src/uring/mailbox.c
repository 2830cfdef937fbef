#include "uring/mailbox.h"

#include "uring/worker_internal.h"

/*
 * No wake-up is lost, and few are sent.
 *
 *   poster:  push the letter             target:  exchange(asleep_hint, true)
 *            exchange(asleep_hint, false)         look at every queue
 *            was true → MSG_RING                  wait
 *                                                 exchange(asleep_hint, false)
 *
 * All accesses to asleep_hint are exchanges with acquire and release, so they stand in one order
 * and each one sees what was written before any earlier one (a chain of read-modify-writes is one
 * release sequence). If the poster's exchange comes before the target's `true`, the target's look
 * sees the letter. If it comes after, either it reads true and sends a wake-up, or an earlier
 * poster has read that true and sends one: then the target comes back from its wait and passes
 * through its own `true` again, after this exchange. So the first poster of a sleep wakes for all.
 * That is why a poster that took the hint must see its wake-up through: one that the kernel refuses
 * is repeated until it is taken, without another look at the hint (wake_failed), and why hints are
 * taken only right before the submit that carries the wake-up. Exchanges rather than a store, a
 * fence and a load (Dekker): the same cost on x86, and ThreadSanitizer understands them.
 */

static void mark(uint64_t *bits, uint32_t index)
{
	bits[index / 64] |= UINT64_C(1) << index % 64;
}

void worker_wake(struct worker *from, struct worker *to)
{
	from->wake_targets[to->index] = to;
	mark(from->wake_pending, to->index);
}

void letter_post(struct worker *from, struct worker *to, struct letter *letter)
{
	mpsc_push(&to->mailbox, &letter->node);
	worker_wake(from, to);
}

void mailbox_set_asleep(struct worker *worker, bool asleep)
{
	atomic_exchange_explicit(&worker->asleep_hint, asleep, memory_order_acq_rel);
}

void mailbox_deliver(struct worker *worker)
{
	struct mpsc_node *next;

	for (struct mpsc_node *node = mpsc_take_all(&worker->mailbox); node; node = next) {
		struct letter *letter = CONTAINER_OF(node, struct letter, node);

		/* First: delivered, the letter belongs to its owner again. */
		next = node->next;
		metric_add(&worker->metrics.letters, 1);
		letter->deliver(worker, letter);
	}
}

static void wake_fail(struct worker *from, uint32_t index)
{
	metric_add(&from->metrics.wakes_failed, 1);
	mark(from->wake_failed, index);
	from->wake_retry_us = from->now_us + WORKER_WAKE_RETRY_US;
}

static void wake_send(struct worker *from, uint32_t index)
{
	const struct ring_submission submission = {
		.opcode = RING_MESSAGE,
		.user_data = user_data_make(RING_MESSAGE, index, USER_DATA_NO_SLOT),
		.quiet = true,
		.file = FILE_NONE,
		.message_fd = ring_fd(from->wake_targets[index]->ring),
		.target_user_data = user_data_make(OP_KIND_WOKEN, 0, USER_DATA_NO_SLOT),
	};

	if (ring_queue(from->ring, &submission) < 0) {
		wake_fail(from, index);
		return;
	}
	from->wakes_in_air = true;
	metric_add(&from->metrics.wakes_sent, 1);
}

void wake_refused(struct worker *worker, uint32_t target_index)
{
	CHECK(target_index < WORKERS_MAX && worker->wake_targets[target_index]);
	wake_fail(worker, target_index);
}

static uint64_t take_failed(struct worker *worker, size_t word)
{
	uint64_t failed = worker->wake_failed[word];

	worker->wake_failed[word] = 0;
	return failed;
}

bool wakes_post(struct worker *worker)
{
	bool retry = worker->wake_retry_us != 0 && worker->now_us >= worker->wake_retry_us;
	bool self = false;

	worker->wakes_in_air = false;
	if (retry)
		worker->wake_retry_us = 0;
	for (size_t word = 0; word < ARRAY_LEN(worker->wake_pending); word++) {
		uint64_t again = retry ? take_failed(worker, word) : 0;
		uint64_t pending = worker->wake_pending[word] | again;

		worker->wake_pending[word] = 0;
		while (pending) {
			unsigned bit = (unsigned)__builtin_ctzll(pending);
			uint32_t index = (uint32_t)(word * 64 + bit);
			struct worker *to = worker->wake_targets[index];

			pending &= pending - 1;
			if (to == worker)
				self = true;
			else if (again >> bit & 1 ||
				 atomic_exchange_explicit(&to->asleep_hint, false,
							  memory_order_acq_rel))
				wake_send(worker, index);
		}
	}
	return self;
}
