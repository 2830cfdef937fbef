/*
 * index: who listens: feeds by user and by session. Thread: the bus, alone. Pure.
 * Look-ups cost the same whatever else is in the index.
 */
#ifndef HUB_INDEX_H
#define HUB_INDEX_H

#include "base/hash.h"
#include "base/list.h"
#include "hub/feed.h"

struct index_user;
struct index_session;

/* One open stream as the hub sees it; embedded in the worker's object. */
struct subscription {
	struct feed feed;
	struct list in_user, in_session;
	struct index_user *user;       /* NULL: not in the index */
	struct index_session *session;
};

struct index {
	struct hash_table users, sessions;
	uint32_t subscription_count;
};

void index_init(struct index *index, struct hash_secret secret);
/* Must be empty (CHECK). */
void index_finish(struct index *index);

/* Returns 0 or -ENOMEM. Ids are copied. */
int index_add(struct index *index, struct subscription *subscription, struct span user, struct span session);
void index_remove(struct index *index, struct subscription *subscription);

/* Streams of this session open now. */
uint32_t index_session_count(const struct index *index, struct span session);

/* The user that the open streams of a session belong to; empty if none is open. */
struct span index_session_user(const struct index *index, struct span session);

typedef void index_visit_fn(struct subscription *subscription, void *context);

/* The visited subscription may be removed by the visit, no other. Return how many were visited. */
uint32_t index_each_of_user(struct index *index, struct span user, index_visit_fn *visit, void *context);
uint32_t index_each_of_session(struct index *index, struct span session, index_visit_fn *visit, void *context);
uint32_t index_each(struct index *index, index_visit_fn *visit, void *context);

/* Ids of all sessions with open streams, one after another: for reading them again. */
typedef bool index_session_fn(struct span session, struct span user, void *context);
void index_each_session(struct index *index, index_session_fn *visit, void *context);

#endif
