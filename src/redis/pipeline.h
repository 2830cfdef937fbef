/*
 * pipeline: who waits for which answer, in the order of sending: a ring that grows to
 * REDIS_IN_FLIGHT_MAX. Pure bookkeeping; thread: the worker's.
 *
 *   first                       next
 *     ▼                          ▼
 *   [call][tombstone][call][call] ·  ·        sequence & (cap - 1) is the place
 *
 * A tombstone is the place of a call that nobody waits for any more; its answer is still to come
 * and is dropped.
 */
#ifndef REDIS_PIPELINE_H
#define REDIS_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redis_call;

struct pipeline_entry {
	struct redis_call *call; /* NULL: tombstone */
	uint64_t sent_ms;	 /* worker's time */
	uint64_t patience_ms;	 /* longest silence that it bears as the oldest; 0: any */
};

struct pipeline {
	struct pipeline_entry *entries;
	size_t cap;	      /* power of two, or 0 before the first entry */
	uint64_t first, next; /* sequences; first == next: nothing waits */
};

/* No memory until the first entry. */
void pipeline_init(struct pipeline *pipeline);
void pipeline_finish(struct pipeline *pipeline);

/* Makes sure that one more entry fits. Returns 0, -ENOBUFS (REDIS_IN_FLIGHT_MAX) or -ENOMEM. */
int pipeline_reserve(struct pipeline *pipeline);

/* After pipeline_reserve. Returns the entry's sequence. */
uint64_t pipeline_push(struct pipeline *pipeline, struct pipeline_entry entry);

static inline bool pipeline_is_empty(const struct pipeline *pipeline)
{
	return pipeline->first == pipeline->next;
}

/* The oldest; NULL when empty. */
struct pipeline_entry *pipeline_oldest(const struct pipeline *pipeline);

/* Removes the oldest, which must be there. */
struct pipeline_entry pipeline_pop(struct pipeline *pipeline);

/* The entry of `sequence`, which must be waiting, becomes a tombstone. */
void pipeline_bury(struct pipeline *pipeline, uint64_t sequence);

#endif
