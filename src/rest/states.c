#include "rest/states.h"

#include "base/check.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Fewer would keep the table full, more would make one call pay for all. */
#define FORGET_AT_ONCE 2

struct entry {
	struct hash_node node;
	uint64_t until_ms;
	char state[LOGIN_TEXT_BYTES];
};

struct states {
	/* Sign-ons are rare, and it is held for some steps: nobody waits for long. */
	pthread_mutex_t lock;
	struct hash_table table;
	struct entry *entries; /* a ring: all live equally long, so the oldest ends first */
	size_t max, first, count;
};

static bool entry_matches(const struct hash_node *node, struct span key)
{
	const struct entry *entry = CONTAINER_OF(node, struct entry, node);

	return span_equal(span_from_cstr(entry->state), key);
}

struct states *states_create(size_t max, struct hash_secret secret)
{
	struct states *states = calloc(1, sizeof(*states));

	if (!states)
		return NULL;
	states->max = max;
	states->entries = calloc(max, sizeof(states->entries[0]));
	if (!states->entries || pthread_mutex_init(&states->lock, NULL) != 0) {
		free(states->entries);
		free(states);
		return NULL;
	}
	hash_init(&states->table, entry_matches, secret);
	return states;
}

void states_destroy(struct states *states)
{
	if (!states)
		return;
	hash_finish(&states->table);
	pthread_mutex_destroy(&states->lock);
	free(states->entries);
	free(states);
}

static void forget_old(struct states *states, uint64_t now_ms)
{
	for (int i = 0; i < FORGET_AT_ONCE && states->count > 0; i++) {
		struct entry *oldest = &states->entries[states->first];

		if (oldest->until_ms > now_ms)
			return;
		hash_remove(&states->table, &oldest->node);
		states->first = (states->first + 1) % states->max;
		states->count--;
	}
}

static enum states_answer spend(struct states *states, const char *state, uint64_t now_ms)
{
	struct span key = span_from_cstr(state);

	if (hash_find(&states->table, key))
		return STATES_USED;
	if (states->count == states->max)
		return STATES_FULL;

	struct entry *entry = &states->entries[(states->first + states->count) % states->max];

	entry->until_ms = now_ms + STATES_LIFE_MS;
	CHECK(key.len < sizeof(entry->state));
	snprintf(entry->state, sizeof(entry->state), "%s", state);
	if (hash_insert(&states->table, &entry->node, key) != 0)
		return STATES_FULL;
	states->count++;
	return STATES_SPENT;
}

enum states_answer states_spend(struct states *states, const char *state, uint64_t now_ms)
{
	pthread_mutex_lock(&states->lock);
	forget_old(states, now_ms);

	enum states_answer answer = spend(states, state, now_ms);

	pthread_mutex_unlock(&states->lock);
	return answer;
}
