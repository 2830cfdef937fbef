/*
 * hash: intrusive hash table with a secret (SipHash-1-3), so that peers cannot choose collisions.
 * One thread at a time. Grows by moving a few buckets per insertion: no call takes longer because
 * the table is large. Growth that cannot allocate is put off: insertion never fails.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/span.h"

struct hash_node {
	struct hash_node *next;
	uint64_t hash;
};

/* Whether `node` has this key. */
typedef bool hash_match_fn(const struct hash_node *node, struct span key);

struct hash_secret {
	uint8_t bytes[16];
};

struct hash_buckets {
	struct hash_node **heads; /* NULL until the first insertion */
	size_t count;             /* power of two, or 0 */
};

struct hash_table {
	struct hash_buckets now, old; /* old: being moved into now, from moved_count on */
	size_t moved_count;
	size_t count; /* nodes in both */
	hash_match_fn *match;
	struct hash_secret secret;
};

/* No allocation until the first insertion. */
void hash_init(struct hash_table *table, hash_match_fn *match, struct hash_secret secret);

/* Frees the buckets; the nodes are their owners'. */
void hash_finish(struct hash_table *table);

struct hash_node *hash_find(const struct hash_table *table, struct span key);

/*
 * Tells the processor where a key of this hash would be found; changes nothing. `hash_first` is
 * where it is found or its chain begins; NULL: it is not there.
 */
void hash_fetch(const struct hash_table *table, uint64_t hash);
struct hash_node *hash_first(const struct hash_table *table, uint64_t hash);

/* The key must not be in the table. Returns 0, or -ENOMEM for the very first insertion only. */
int hash_insert(struct hash_table *table, struct hash_node *node, struct span key);

/* The node must be in the table. */
void hash_remove(struct hash_table *table, struct hash_node *node);

/*
 * Visits every node once; `visit` may remove the node it is given and nothing else.
 * Returns false if a visit did (and stopped there).
 */
bool hash_each(struct hash_table *table, bool (*visit)(struct hash_node *node, void *context),
	       void *context);

/* SipHash-1-3 of the bytes. */
uint64_t hash_bytes(struct hash_secret secret, struct span bytes);

#endif
