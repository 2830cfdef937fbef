#include "hub/feed.h"

#include "base/check.h"

#include <stdlib.h>

/* Stands before every access that the other thread can see: a test steps from one to the next. */
#ifndef FEED_STEP
#define FEED_STEP() ((void)0)
#endif

void feed_ready_init(struct feed_ready *ready)
{
	mpsc_init(&ready->queue);
	ready->budget = NULL;
}

void feed_init(struct feed *feed, uint32_t capacity, struct feed_ready *ready,
	       struct feed_budget *budget)
{
	CHECK(capacity >= FEED_INLINE && (capacity & (capacity - 1)) == 0);
	/* Plain: the mail that registers the feed publishes all of it to the bus. */
	*feed = (struct feed){ .capacity = capacity, .ready = ready };
	/* Once only: the bus reads it through feeds that are registered already. */
	CHECK(!ready->budget || ready->budget == budget);
	if (!ready->budget)
		ready->budget = budget;
}

void feed_finish(struct feed *feed)
{
	struct payload *payload;

	CHECK(!feed_is_ready(feed));
	while ((payload = feed_pop(feed)))
		payload_put(payload);
	free(atomic_load_explicit(&feed->ring, memory_order_relaxed));
	atomic_store_explicit(&feed->ring, NULL, memory_order_relaxed);
}

bool feed_is_ready(const struct feed *feed)
{
	/* Relaxed: once the bus has released the feed, its mail orders all that it wrote. */
	return atomic_load_explicit(&feed->in_ready, memory_order_relaxed);
}

/*
 * Thread: bus. Puts the feed into the ready queue unless it is there.
 *
 * in_ready is only ever changed by read-modify-writes, which have one order:
 * - ours before the worker's in feed_ready_next: we read true and leave, or we queue the feed now and
 *   the worker comes to it. Either way the worker's exchange reads ours or one after it (release,
 *   paired with its acquire), so the head or end that we stored before is what it sees then.
 * - ours after the worker's: we read false and queue the feed again. Acquire, paired with the
 *   worker's release: it has read ready_node.next before we write it.
 * A load first, to spare the exchange, would lose wakes: it could run before our store of head.
 */
static void make_ready(struct feed *feed, bool *wake)
{
	FEED_STEP();
	if (atomic_exchange_explicit(&feed->in_ready, true, memory_order_acq_rel))
		return;
	FEED_STEP();
	mpsc_push(&feed->ready->queue, &feed->ready_node);
	*wake = true;
}

bool feed_set_end(struct feed *feed, enum feed_end end, bool *wake)
{
	uint32_t open = FEED_OPEN;

	FEED_STEP();
	/* Release, paired with the acquire in feed_get_end. Strong: a cause must not be lost. */
	if (!atomic_compare_exchange_strong_explicit(&feed->end, &open, end, memory_order_release,
						     memory_order_relaxed))
		return false;
	make_ready(feed, wake);
	return true;
}

/* Thread: bus. A fresh look at what the worker has taken. */
static void look_at_tail(struct feed *feed)
{
	FEED_STEP();
	/*
	 * Acquire, paired with the release in feed_pop_many: the tail that was stored before is seen
	 * next, so that slots are at least as free as the messages say.
	 */
	feed->popped_seen = atomic_load_explicit(&feed->popped_messages, memory_order_acquire);
	FEED_STEP();
	/* Acquire, paired with the release in feed_pop_many: the slots before it were read. */
	feed->tail_seen = atomic_load_explicit(&feed->tail, memory_order_acquire);
}

/* Thread: bus. Whether the inline slots are taken. */
static bool is_inline_full(struct feed *feed, uint32_t head)
{
	if (head - feed->tail_seen < FEED_INLINE)
		return false;
	look_at_tail(feed);
	return head - feed->tail_seen >= FEED_INLINE;
}

/* Thread: bus. Whether so many messages more are too many. */
static bool is_too_many(struct feed *feed, uint32_t messages)
{
	/* Relaxed: the bus is the only writer. */
	uint32_t pushed = atomic_load_explicit(&feed->pushed_messages, memory_order_relaxed);

	if (pushed - feed->popped_seen + messages <= feed->capacity)
		return false;
	look_at_tail(feed);
	return pushed - feed->popped_seen + messages > feed->capacity;
}

/*
 * Thread: bus. The slot for index `head`, or NULL and the cause. The ring is used from the index
 * on that first finds the inline slots taken; those drain in place. A payload holds a message at
 * least, so a ring whose messages fit has a slot.
 */
static struct payload **slot_for(struct feed *feed, uint32_t head, uint32_t messages,
				 enum feed_end *cause)
{
	/* Relaxed: the bus is the only writer of ring. */
	struct payload **ring = atomic_load_explicit(&feed->ring, memory_order_relaxed);

	if (is_too_many(feed, messages)) {
		*cause = FEED_OVERFLOWED;
		return NULL;
	}
	if (!ring && !is_inline_full(feed, head))
		return &feed->inline_slots[head & (FEED_INLINE - 1)];
	if (!ring) {
		ring = calloc(feed->capacity, sizeof(struct payload *));
		if (!ring) {
			*cause = FEED_FAILED;
			return NULL;
		}
		feed->ring_from = head;
		FEED_STEP();
		/* Release, paired with the acquire in slot_of: shows ring_from. */
		atomic_store_explicit(&feed->ring, ring, memory_order_release);
	}
	return &ring[head & (feed->capacity - 1)];
}

void feed_budget_add(struct feed_budget *budget, uint64_t bytes)
{
	FEED_STEP();
	/* Relaxed: a sum that only the bus reads, after its own additions. */
	atomic_fetch_add_explicit(&budget->queued_bytes, bytes, memory_order_relaxed);
}

enum feed_push feed_push(struct feed *feed, struct payload *payload, bool *wake)
{
	/* Before the push, which gives the payload away. */
	uint64_t bytes = payload->len;
	enum feed_push push = feed_push_uncounted(feed, payload, wake);

	if (push == FEED_PUSHED)
		feed_budget_add(feed->ready->budget, bytes);
	return push;
}

enum feed_push feed_push_uncounted(struct feed *feed, struct payload *payload, bool *wake)
{
	/* Relaxed, both: the bus is the only writer. */
	if (atomic_load_explicit(&feed->end, memory_order_relaxed) != FEED_OPEN)
		return FEED_REFUSED;

	uint32_t head = atomic_load_explicit(&feed->head, memory_order_relaxed);
	enum feed_end cause = FEED_OPEN;
	struct payload **slot = slot_for(feed, head, payload->messages, &cause);

	if (!slot) {
		feed_set_end(feed, cause, wake);
		return FEED_REFUSED;
	}
	*slot = payload;

	/* Relaxed, all: head's release shows them, so that no pop is counted before its push. */
	uint32_t messages = atomic_load_explicit(&feed->pushed_messages, memory_order_relaxed);

	atomic_store_explicit(&feed->pushed_messages, messages + payload->messages,
			      memory_order_relaxed);

	uint64_t pushed = atomic_load_explicit(&feed->pushed_bytes, memory_order_relaxed);

	FEED_STEP();
	atomic_store_explicit(&feed->pushed_bytes, pushed + payload->len, memory_order_relaxed);

	FEED_STEP();
	/* Release, paired with the acquire in count_ready: shows the slot, the ring and the bytes. */
	atomic_store_explicit(&feed->head, head + 1, memory_order_release);
	make_ready(feed, wake);
	return FEED_PUSHED;
}

/*
 * Thread: worker. The slot of index `tail`, which is before the head that was seen. Indices wrap, so
 * they are compared with ring_from for being equal only, once.
 */
static struct payload **slot_of(struct feed *feed, uint32_t tail)
{
	FEED_STEP();
	/*
	 * Acquire, paired with the release in slot_for: shows ring_from. If this index lives in the
	 * ring, the head that we saw was stored after ring, so that it is not NULL here.
	 */
	struct payload **ring = atomic_load_explicit(&feed->ring, memory_order_acquire);

	if (!feed->is_in_ring && ring && tail == feed->ring_from)
		feed->is_in_ring = true;
	return feed->is_in_ring ? &ring[tail & (feed->capacity - 1)]
				: &feed->inline_slots[tail & (FEED_INLINE - 1)];
}

/* Thread: worker. How many payloads there are, by a fresh look at head only if it saw none left. */
static uint32_t count_ready(struct feed *feed, uint32_t tail)
{
	if (tail == feed->head_seen) {
		FEED_STEP();
		/* Acquire, paired with the release in feed_push. */
		feed->head_seen = atomic_load_explicit(&feed->head, memory_order_acquire);
	}
	return feed->head_seen - tail;
}

/* Thread: worker. They are counted as gone, then their slots are the bus's again. */
static void give_back(struct feed *feed, uint32_t tail, uint64_t bytes, uint32_t messages)
{
	/* Relaxed, both: the worker is the only writer. */
	uint64_t popped = atomic_load_explicit(&feed->popped_bytes, memory_order_relaxed);
	uint32_t before = atomic_load_explicit(&feed->popped_messages, memory_order_relaxed);

	FEED_STEP();
	/* Release, paired with the acquire in feed_queued_bytes: its push is counted there too. */
	atomic_store_explicit(&feed->popped_bytes, popped + bytes, memory_order_release);
	FEED_STEP();
	/* Relaxed: a sum, which the bus reads when it has added all it pushed (feed_budget). */
	atomic_fetch_sub_explicit(&feed->ready->budget->queued_bytes, bytes, memory_order_relaxed);
	FEED_STEP();
	/* Release, paired with the acquire in look_at_tail: the slots were read before they are
	 * used again. */
	atomic_store_explicit(&feed->tail, tail, memory_order_release);
	FEED_STEP();
	/* Release, paired with the acquire in look_at_tail: shows the tail. */
	atomic_store_explicit(&feed->popped_messages, before + messages, memory_order_release);
}

uint32_t feed_pop_many(struct feed *feed, struct payload **payloads, uint32_t max,
		       uint64_t bytes_max)
{
	/* Relaxed: the worker is the only writer. */
	uint32_t tail = atomic_load_explicit(&feed->tail, memory_order_relaxed);
	uint32_t ready = count_ready(feed, tail), count = 0, messages = 0;
	uint64_t bytes = 0;

	while (count < ready && count < max && (count == 0 || bytes < bytes_max)) {
		struct payload *payload = *slot_of(feed, tail + count);

		bytes += payload->len;
		messages += payload->messages;
		payloads[count++] = payload;
	}
	if (count > 0)
		give_back(feed, tail + count, bytes, messages);
	return count;
}

struct payload *feed_pop(struct feed *feed)
{
	struct payload *payload;

	return feed_pop_many(feed, &payload, 1, 0) == 1 ? payload : NULL;
}

enum feed_end feed_get_end(const struct feed *feed)
{
	FEED_STEP();
	/* Acquire, paired with the release in feed_set_end: earlier pushes are seen. */
	return (enum feed_end)atomic_load_explicit(&feed->end, memory_order_acquire);
}

uint32_t feed_depth(const struct feed *feed)
{
	/* Relaxed: a number to look at; what is popped is our own. */
	return atomic_load_explicit(&feed->pushed_messages, memory_order_relaxed) -
	       atomic_load_explicit(&feed->popped_messages, memory_order_relaxed);
}

uint64_t feed_queued_bytes(const struct feed *feed)
{
	/* Acquire, first: see give_back. The sum of pushes is then at least as new. */
	uint64_t popped = atomic_load_explicit(&feed->popped_bytes, memory_order_acquire);

	FEED_STEP();
	return atomic_load_explicit(&feed->pushed_bytes, memory_order_relaxed) - popped;
}

struct mpsc_node *feed_ready_take(struct feed_ready *ready)
{
	FEED_STEP();
	return mpsc_take_all(&ready->queue);
}

struct feed *feed_ready_next(struct mpsc_node **node)
{
	if (!*node)
		return NULL;

	struct feed *feed = CONTAINER_OF(*node, struct feed, ready_node);

	/* Before the flag is cleared: from then on the node is the bus's again. */
	*node = (*node)->next;
	__builtin_prefetch(*node);
	FEED_STEP();
	/* See make_ready. An exchange, because a store could fall behind the load of head. */
	atomic_exchange_explicit(&feed->in_ready, false, memory_order_acq_rel);
	return feed;
}
