/*
 * sessions: what one worker knows about device sessions: snapshots kept up by the bus's letters,
 * else one GET for all who ask. Thread: the worker's. Source: edge.md §3 (records, events, the
 * stale GET).
 *
 *   find ─► cache hit / absent: answered at once
 *        └► lookup (one per id) ─ GET ─┬─ a letter for the id came meanwhile: asked again
 *                                      └─ answer: cached, all waiters told
 */
#ifndef GATEWAY_SESSIONS_H
#define GATEWAY_SESSIONS_H

#include "auth/session.h"
#include "redis/client.h"

/* GETs in flight per worker: half of what one connection may have waiting */
#define LOOKUPS_MAX	   (REDIS_IN_FLIGHT_MAX / 2)
#define LOOKUP_WAITERS_MAX 4096 /* calls waiting for one GET */
/* GETs overtaken by letters before the answer is "unavailable" */
#define LOOKUP_ASKS_MAX 8

struct sessions {
	struct worker *worker;
	struct redis_client *redis;
	struct span key_prefix;
	uint32_t timeout_ms;
	struct session_cache cache;
	struct hash_table lookups;
	uint32_t lookup_count;
	uint64_t sequence; /* of the last session event that the bus told this worker */
	struct {
		struct metric_counter hit, absent, found, unknown, failed, asked_again;
		struct metric_gauge entries;
	} metrics;
};

struct sessions_options {
	struct worker *worker;
	struct redis_client *redis;
	const struct config *config;
	struct hash_secret secret;
	struct metric_registry *metrics;
};

enum sessions_answer {
	SESSIONS_FOUND, /* session is lent: session_get to keep it */
	SESSIONS_UNKNOWN,
	SESSIONS_UNAVAILABLE, /* Redis down or late, or a record that cannot be decoded */
	SESSIONS_PENDING,     /* sessions_find only: the waiter will be told */
};

struct session_waiter;
typedef void session_waiter_fn(struct session_waiter *waiter, enum sessions_answer answer,
			       struct session *session);

/* Embedded in the call that waits. */
struct session_waiter {
	struct list link; /* unlinked: not waiting */
	struct session_lookup *lookup;
	session_waiter_fn *told; /* never inside sessions_find */
};

void sessions_init(struct sessions *sessions, const struct sessions_options *options);

/* No waiter may be left (CHECK). */
void sessions_finish(struct sessions *sessions);

/* The answer is based on all session events up to sessions->sequence at the moment it is given. */
enum sessions_answer sessions_find(struct sessions *sessions, struct span id,
				   struct session_waiter *waiter, struct session **session);

/* The waiter will not be told. Safe when it does not wait. */
void sessions_cancel(struct session_waiter *waiter);

/* The next sessions_find of this id asks Redis: the bus doubts the check. */
void sessions_recheck(struct sessions *sessions, struct span id);

/* ---- what the bus tells; each moves the sequence ---- */

/* A full snapshot: replaces what is known; takes a reference of its own. */
void sessions_replace(struct sessions *sessions, struct session *session, uint64_t sequence);
/* Redis decides: forgets the snapshot. */
void sessions_forget(struct sessions *sessions, struct span id, uint64_t sequence);
void sessions_forget_all(struct sessions *sessions, uint64_t sequence);

#endif
