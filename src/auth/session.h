/*
 * session: snapshots of device sessions, kept per worker, bounded. Pure; thread: the worker's.
 *
 * Records are immutable once in the cache and counted, so that a call in progress keeps what it was
 * checked against.
 */
#ifndef AUTH_SESSION_H
#define AUTH_SESSION_H

#include "auth/envelope.h"
#include "base/hash.h"
#include "base/list.h"

#define SESSION_ID_MAX 128
#define SESSION_USER_MAX 256 /* bytes of a user id; longer makes the record malformed */

enum session_status { SESSION_ACTIVE, SESSION_REVOKED };

struct session {
	uint32_t count; /* references; one worker's, so not atomic */
	enum session_status status;
	int64_t revoked_at_ms; /* 0: not given */
	uint8_t public_key[ENVELOPE_KEY_BYTES];
	uint16_t id_len, user_len;
	char text[]; /* id, then user */
};

static inline struct span session_id(const struct session *session)
{
	return span_make(session->text, session->id_len);
}

static inline struct span session_user(const struct session *session)
{
	return span_make(session->text + session->id_len, session->user_len);
}

/* What a record or an event says. Spans lent. */
struct session_fields {
	struct span device_session_id, user_id, client_public_key, status;
	struct span revoked_at_ms; /* data NULL: not given; given, it must be a decimal number */
};

/*
 * Checks the fields (edge.md §3) and makes a session with count 1.
 * A small-order key is taken: no signature verifies under it.
 * Returns 0, -EINVAL (malformed: `*field` names it, static text) or -ENOMEM.
 */
int session_create(struct session **session, const struct session_fields *fields,
		   const char **field);
void session_get(struct session *session);
void session_put(struct session *session); /* NULL is allowed */

enum session_found {
	SESSION_MISS,   /* not known here: ask Redis */
	SESSION_HIT,    /* *session is lent until the cache's next change: session_get to keep it */
	SESSION_ABSENT, /* known to be unknown (negative entry) */
};

struct session_cache {
	struct hash_table table;
	struct list oldest_first; /* by last use */
	uint32_t count, max_count; /* negative entries count too */
	uint64_t ttl_ms, negative_ttl_ms;
};

void session_cache_init(struct session_cache *cache, uint32_t max_count, uint64_t ttl_ms,
			uint64_t negative_ttl_ms, struct hash_secret secret);
void session_cache_finish(struct session_cache *cache);

/* An entry lives for its time from the store on; a hit moves it back in the order of use only. */
enum session_found session_cache_find(struct session_cache *cache, struct span id, uint64_t now_ms,
				      struct session **session);

/*
 * Replace what is there; at the bound the least recently used leaves, and with each store two of
 * those first in that order whose time is over. session_cache_store takes a reference of its own.
 * Return 0 or -ENOMEM: then nothing is known about the id, the old neither.
 * Limits: max_count 0 keeps nothing.
 */
int session_cache_store(struct session_cache *cache, struct session *session, uint64_t now_ms);
int session_cache_store_absent(struct session_cache *cache, struct span id, uint64_t now_ms);

void session_cache_forget(struct session_cache *cache, struct span id);
void session_cache_forget_all(struct session_cache *cache);

#endif
