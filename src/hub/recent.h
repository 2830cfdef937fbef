/*
 * recent: the last session events by sequence number, so that a session check can be told stale.
 * Thread: the bus. Pure.
 */
#ifndef HUB_RECENT_H
#define HUB_RECENT_H

#include "base/hash.h"

#define RECENT_EVENTS 4096 /* events remembered; an older check is always asked again */
#define RECENT_ID_MAX 128  /* bytes: no request can name a longer session (edge.md §2.2) */

enum recent_verdict {
	RECENT_CURRENT,  /* no event for this session since the check */
	RECENT_REVOKED,  /* there was one since, and the last one says revoked */
	RECENT_DOUBTFUL, /* there was one since, or one may be forgotten: read Redis again */
};

struct recent;

/* Returns NULL without memory. */
struct recent *recent_create(struct hash_secret secret);
void recent_destroy(struct recent *recent);

/* Notes one session event; returns its sequence number (1, 2, …). Never fails. */
uint64_t recent_add(struct recent *recent, struct span session, bool revoked);

/* Every check made before now is doubtful (after a gap). Returns the sequence number of that. */
uint64_t recent_forget_all(struct recent *recent);

/*
 * What is known about a check that was based on events up to `sequence` (0: none yet).
 * A sequence that was never given out, and a session id over RECENT_ID_MAX, is doubtful.
 */
enum recent_verdict recent_judge(const struct recent *recent, struct span session,
				 uint64_t sequence);

uint64_t recent_sequence(const struct recent *recent);

#endif
