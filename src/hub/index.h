/*
 * index: who listens: feeds by user and by session. Thread: the bus, alone. Pure.
 * Look-ups cost the same whatever else is in the index.
 *
 * A session belongs to one user. Should streams of one session be open under two users (its owner
 * has just changed), each stream keeps its own: see subscription_user.
 */
#ifndef HUB_INDEX_H
#define HUB_INDEX_H

#include "base/hash.h"
#include "base/list.h"
#include "hub/feed.h"

/*
 * One open stream as the hub sees it; embedded in the worker's object. What the index keeps of it is
 * feed.place, whose `user` feed_init sets to NULL. Must be allocated with its alignment (64 bytes:
 * the feed's).
 */
struct subscription {
	struct feed feed;
};

struct index {
	struct hash_table users, sessions;
	uint32_t subscription_count;
};

void index_init(struct index *index, struct hash_secret secret);
/* Must be empty (CHECK). */
void index_finish(struct index *index);

/* Returns 0 or -ENOMEM (then nothing has changed). Ids are copied. */
int index_add(struct index *index, struct subscription *subscription, struct span user,
	      struct span session);
void index_remove(struct index *index, struct subscription *subscription);

/* Of a subscription in the index. Lifetime: until it is removed. */
struct span subscription_user(const struct subscription *subscription);
struct span subscription_session(const struct subscription *subscription);

/* Streams of this session open now, of whatever user. */
uint32_t index_session_count(const struct index *index, struct span session);

/*
 * The user that the open streams of a session belong to; empty if none is open. Of two, the one
 * that came last. Lifetime: until the next change.
 */
struct span index_session_user(const struct index *index, struct span session);

/*
 * Tells the processor what a visit of this user's streams will touch, up to the first of them;
 * changes nothing. Each step follows the pointer that the one before has fetched: do a step for all
 * of several users, then the next.
 */
#define INDEX_FETCH_STEPS 3
uint64_t index_hash_user(const struct index *index, struct span user);
void index_fetch_user(const struct index *index, uint64_t user_hash, unsigned step);

typedef void index_visit_fn(struct subscription *subscription, void *context);

/* The visited subscription may be removed by the visit, no other. Return how many were visited. */
uint32_t index_each_of_user(struct index *index, struct span user, index_visit_fn *visit,
			    void *context);
uint32_t index_each_of_session(struct index *index, struct span session, index_visit_fn *visit,
			       void *context);
uint32_t index_each(struct index *index, index_visit_fn *visit, void *context);

/* As index_each_of_session, but only streams that were opened by this user. */
uint32_t index_each_of_both(struct index *index, struct span user, struct span session,
			    index_visit_fn *visit, void *context);

/*
 * Ids of all sessions with open streams, one after another: for reading them again. `user` as in
 * index_session_user. The visit returns whether to go on; it changes nothing.
 */
typedef bool index_session_fn(struct span session, struct span user, void *context);
void index_each_session(struct index *index, index_session_fn *visit, void *context);

/*
 * The open stream with the most bytes queued; NULL if no open stream has any.
 * Limits: looks at every stream. Where many must go, index_shed looks twice for all of them.
 */
struct subscription *index_heaviest(struct index *index);

/*
 * Visits the heaviest open streams, in no order, until they hold at least `bytes`: none that is
 * spared holds twice as much as one that is visited. The visit ends the feed; it removes nothing.
 * Returns the bytes that the visited hold.
 */
uint64_t index_shed(struct index *index, uint64_t bytes, index_visit_fn *visit, void *context);

#endif
