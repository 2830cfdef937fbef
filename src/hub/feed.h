/*
 * feed: the per-stream ring of events. One producer (the bus), one consumer (the worker that owns
 * the stream).
 *
 *   bus: feed_push ─► [ p p p p · · · · ] ─► worker: feed_pop
 *                     tail            head         (indices only grow; index & mask is the place)
 *
 * A payload may hold several messages (payload.messages); capacity counts messages. A push beyond
 * it ends the feed with FEED_OVERFLOWED and takes nothing. The first cause set stays. Two slots are
 * inline; the ring of full capacity is allocated by the first push that finds them taken.
 *
 * A worker drains like this, and misses nothing:
 *
 *   node = feed_ready_take(ready);
 *   while ((feed = feed_ready_next(&node)))
 *           feed_get_end; then feed_pop_many until 0, or until the stream is blocked (then the worker
 *           comes back by itself when it no longer is)
 */
#ifndef HUB_FEED_H
#define HUB_FEED_H

#include "base/list.h"
#include "base/mpsc.h"
#include "base/payload.h"

enum feed_end {
	FEED_OPEN,
	FEED_REVOKED,
	FEED_OVERFLOWED,
	FEED_SHUTDOWN,
	FEED_FAILED, /* another user now owns the session, or memory ran out */
};

#define FEED_INLINE 2

/* Shared by all feeds of the hub: bytes queued, both sides count. */
struct feed_budget {
	/*
	 * The bus adds, workers subtract. Exact for the bus once it has added what it pushed; until
	 * then a worker may have subtracted before (it wraps), so nobody else reads it.
	 */
	_Atomic uint64_t queued_bytes;
	uint64_t max_bytes; /* the bus's to enforce: feed_push does not look at it */
};

/* Thread: bus. Bytes pushed by feed_push_uncounted, in one step for any number of pushes. */
void feed_budget_add(struct feed_budget *budget, uint64_t bytes);

/* Feeds of one worker that have something to drain. Many feeds, one producer, one consumer. */
struct feed_ready {
	struct mpsc queue;
	struct feed_budget *budget; /* of all its feeds; set by the first feed_init */
};

struct index_user;
struct index_session;

/* The index's part of a feed (hub/index.h), which only the bus looks at. */
struct feed_place {
	struct list in_user, in_session;
	struct index_user *user; /* NULL: not in the index */
	struct index_session *session;
};

/*
 * Must be allocated with its alignment (64 bytes). Three cache lines: with one, what a thread
 * writes would take the line from the other with every event.
 */
struct feed {
	/* producer's line; what the consumer reads of it was written before the head it saw */
	_Alignas(64) _Atomic uint32_t head;
	uint32_t tail_seen;          /* producer's: a tail it loaded before; never beyond `tail` */
	_Atomic uint32_t pushed_messages;
	uint32_t popped_seen;        /* producer's: popped_messages, loaded before tail_seen */
	uint32_t capacity;           /* power of two */
	uint32_t ring_from;          /* indices from here on live in `ring`; published by `ring` */
	_Atomic(struct payload **) ring; /* NULL until needed */
	_Atomic uint64_t pushed_bytes;
	struct feed_ready *ready;
	struct payload *inline_slots[FEED_INLINE];
	/* consumer's line */
	_Alignas(64) _Atomic uint32_t tail;
	uint32_t head_seen;          /* consumer's: a head it loaded before */
	bool is_in_ring;             /* consumer's: tail has reached ring_from */
	_Atomic uint32_t popped_messages;
	_Atomic uint64_t popped_bytes;
	/* both; and the index's, for who walks along it queues the feed next: one line for both */
	_Alignas(64) _Atomic uint32_t end; /* enum feed_end; set once */
	_Atomic bool in_ready;             /* in the ready queue, or taken and not yet looked at */
	struct mpsc_node ready_node;
	struct feed_place place;
};
#define FEED_BYTES 192
_Static_assert(sizeof(struct feed) == FEED_BYTES, "three lines for each stream, no fourth");

/*
 * Thread: the worker, before the feed is registered.
 * Limits: capacity is a power of two, at least FEED_INLINE (CHECK).
 */
void feed_init(struct feed *feed, uint32_t capacity, struct feed_ready *ready,
	       struct feed_budget *budget);

/*
 * Gives back what is queued. Thread: the worker, after the bus has released the feed.
 * A feed that is still in the ready queue must be taken out of it first (CHECK): look at
 * feed_is_ready after the release, and if it is, wait for feed_ready_next to return it.
 */
void feed_finish(struct feed *feed);

/* Thread: worker. Whether feed_ready_next will return this feed; after the release for good. */
bool feed_is_ready(const struct feed *feed);

enum feed_push {
	FEED_PUSHED,
	FEED_REFUSED, /* ended already, or by this push */
};

/*
 * Thread: bus. Consumes one of the caller's references when FEED_PUSHED; keeps the caller's on
 * refusal. A full ring ends the feed with FEED_OVERFLOWED, no memory for the ring with FEED_FAILED.
 * `*wake` is set (never cleared) when the feed entered its ready queue by this call: the worker
 * wants a wake-up.
 */
enum feed_push feed_push(struct feed *feed, struct payload *payload, bool *wake);

/* As feed_push, but what was pushed is the caller's to tell the budget: feed_budget_add. */
enum feed_push feed_push_uncounted(struct feed *feed, struct payload *payload, bool *wake);

/*
 * Thread: bus. Sets the cause unless one is set; queues the feed so that a blocked stream hears of
 * it. Returns whether it was first. What is queued stays until popped or finished.
 */
bool feed_set_end(struct feed *feed, enum feed_end end, bool *wake);

/*
 * Thread: worker. Takes up to `max` payloads with their references, fewer once they hold `bytes_max`
 * bytes, but one if there is one. Returns how many. Pops after the end too.
 */
uint32_t feed_pop_many(struct feed *feed, struct payload **payloads, uint32_t max,
		       uint64_t bytes_max);

/* As feed_pop_many of one; NULL for none. */
struct payload *feed_pop(struct feed *feed);

/* Thread: worker or bus. Acquire: what was pushed before the end is there for feed_pop. */
enum feed_end feed_get_end(const struct feed *feed);

/* Thread: worker. Messages queued. */
uint32_t feed_depth(const struct feed *feed);

/* Thread: any. Payload bytes queued; exact on the bus when the worker does not pop. */
uint64_t feed_queued_bytes(const struct feed *feed);

/*
 * Thread: worker. Takes the whole ready queue; each feed is out of it when feed_ready_next returns
 * it and may enter again at once: the in_ready flag is cleared before the worker looks at the ring,
 * so that no push is missed.
 */
struct mpsc_node *feed_ready_take(struct feed_ready *ready);

/* Returns the feed of `*node` and moves `*node` on; NULL at the end. */
struct feed *feed_ready_next(struct mpsc_node **node);

void feed_ready_init(struct feed_ready *ready);

#endif
