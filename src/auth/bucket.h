/*
 * bucket: token buckets for the whole process, in a table of fixed size. Any thread, no lock: one compare-and-swap per
 * charge. When a set of the table is full the stalest bucket in it goes (a full bucket again: it favours the peer).
 * Source: edge.md §2.2, §5.
 */
#ifndef AUTH_BUCKET_H
#define AUTH_BUCKET_H

#include "base/hash.h"

struct bucket_table;

/* REQUESTS per WINDOW, BURST at once. requests 0: off, every charge passes. */
struct bucket_rule {
	uint64_t requests, window_ms, burst;
	uint8_t kind; /* which budget: the same key in two budgets is two buckets */
};

/* `entries` is rounded up to a power of two. Returns NULL without memory. */
struct bucket_table *bucket_table_create(size_t entries, struct hash_secret secret);
void bucket_table_destroy(struct bucket_table *table);

/*
 * Takes one token. Returns 0 when granted, else the milliseconds until one is there (≥ 1). Exact: over any time T no key is
 * granted more than burst + requests × T / window, so long as its bucket stays in the table.
 */
uint64_t bucket_charge(struct bucket_table *table, const struct bucket_rule *rule, struct span key, uint64_t now_ms);

/* Buckets that left a full set, since the start. */
uint64_t bucket_evicted_count(const struct bucket_table *table);

#endif
