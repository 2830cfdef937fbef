/*
 * identities: whom one worker takes a session token for. One question to AuthService for all calls
 * that bring the same token meanwhile; its answer is kept for a short while, unless the session is
 * revoked. Tokens themselves are not kept: only their SHA-256. Thread: the worker's. Source: api.md
 * §4.
 *
 *   find ─► known: answered at once
 *        └► lookup (one per token) ─ ask ─► identities_answer ─► all waiters told
 */
#ifndef REST_IDENTITIES_H
#define REST_IDENTITIES_H

#include "auth/digest.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/metric.h"
#include "rest/departed.h"

#define IDENTITY_TOKEN_MAX   4096  /* bytes, of UTF-8; any other is nobody's */
#define IDENTITY_TEXT_MAX    256   /* bytes of a user's or a session's id */
#define IDENTITIES_MAX	     16384 /* kept; the least recently used leaves. Below 10 MiB */
#define IDENTITY_LOOKUPS_MAX 4096  /* questions under way */
#define IDENTITY_WAITERS_MAX 4096  /* calls waiting for one answer */
#define IDENTITY_REVOKED_MAX 1024  /* revocations remembered while questions are under way */

/* One for each session that is kept, waited for or followed. Counted; one worker's, so not atomic.
 */
struct identity {
	struct hash_node node; /* in identities->sessions while is_listed */
	struct identities *owner;
	uint32_t count;
	uint16_t user_len, session_len;
	bool is_listed;	       /* until revoked, or until the session is another user's */
	bool is_revoked;       /* for who has kept it, and follows it only later */
	struct list followers; /* streaming calls that end with the session */
	char text[];	       /* user, then session */
};

static inline struct span identity_user(const struct identity *identity)
{
	return span_make(identity->text, identity->user_len);
}

/* The device session that the token stands for. */
static inline struct span identity_session(const struct identity *identity)
{
	return span_make(identity->text + identity->user_len, identity->session_len);
}

void identity_get(struct identity *identity);
void identity_put(struct identity *identity); /* NULL is fine */

/* Embedded in a streaming call. */
struct identity_follower {
	struct list link; /* unlinked: follows nobody */
	void (*revoked)(struct identity_follower *follower);
};

void identity_follow(struct identity *identity, struct identity_follower *follower);
void identity_unfollow(struct identity_follower *follower);

enum identity_answer {
	IDENTITY_FOUND,	      /* identity is lent: identity_get to keep it */
	IDENTITY_REFUSED,     /* no session, or one that is over: 401 */
	IDENTITY_UNAVAILABLE, /* nobody can say: 503 */
	IDENTITY_PENDING      /* identities_find only: the waiter will be told */
};

struct identity_lookup;
struct identity_waiter;
typedef void identity_told_fn(struct identity_waiter *waiter, enum identity_answer answer,
			      struct identity *identity);

/* Embedded in the call that waits. */
struct identity_waiter {
	struct list link; /* unlinked: not waiting */
	struct identity_lookup *lookup;
	identity_told_fn *told; /* never inside identities_find */
};

struct identities_options {
	struct hash_secret secret;
	/*
	 * Puts the question; identities_answer follows once, never inside. Returns 0, or a negative
	 * code: unavailable.
	 */
	int (*ask)(void *context, struct identity_lookup *lookup, struct span token);
	void *context;
	struct departed *departed; /* what other workers signed out; NULL: none */
};

struct identities {
	struct identities_options options;
	struct digest *digest;
	struct hash_table tokens, lookups, sessions;
	struct list oldest_first; /* tokens by last use */
	uint32_t token_count, lookup_count;
	uint64_t keep_ms; /* 0: ask every time. May be set at any time */
	/* Hashes of the sessions revoked last, for answers that were under way. */
	uint64_t revoked[IDENTITY_REVOKED_MAX];
	uint64_t revoked_count; /* ever */
	uint64_t departed_seen;
	struct {
		struct metric_counter hit, asked, joined, refused, unavailable;
	} metrics;
};

/* Returns 0 or -ENOMEM; identities_finish, whatever was returned. */
int identities_init(struct identities *identities, const struct identities_options *options);
/* No waiter may be left (CHECK). */
void identities_finish(struct identities *identities);

enum identity_answer identities_find(struct identities *identities, struct span token,
				     uint64_t now_ms, struct identity_waiter *waiter,
				     struct identity **identity);

/* The waiter will not be told. Safe when it does not wait. */
void identities_cancel(struct identity_waiter *waiter);

/* What ValidateSession said. */
struct identity_facts {
	enum identity_answer answer;
	struct span user, session; /* IDENTITY_FOUND */
	uint64_t expires_in_ms;	   /* UINT64_MAX: never */
};

/* Ends the lookup. An answer that came with a revocation of its session meanwhile is a refusal. */
void identities_answer(struct identities *identities, struct identity_lookup *lookup,
		       const struct identity_facts *facts, uint64_t now_ms);

/*
 * The token's session was signed out: forgotten at once, followers told, and questions about the
 * token that are under way are refusals. Other workers find out with their next token.
 */
void identities_depart(struct identities *identities, struct span token);

/* The session is over: forgotten at once, followers told. */
void identities_revoke(struct identities *identities, struct span session);
/* Some events were missed: nothing kept can be trusted; followers go on. */
void identities_forget_all(struct identities *identities);

#endif
