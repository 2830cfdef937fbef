/*
 * bucket: token buckets for the whole process, in a table of fixed size. Any thread.
 *
 * A charge of a known key is one compare-and-swap. A key that is new claims its set (8 buckets) for
 * the few stores that make its bucket; charges of other keys in the set go on meanwhile. When the
 * set is full the stalest bucket in it goes: the one that is, or will first be, full of tokens
 * (it would come back full: that favours the peer).
 * Source: edge.md §2.2, §5.
 */
#ifndef AUTH_BUCKET_H
#define AUTH_BUCKET_H

#include "base/hash.h"

struct bucket_table;

/*
 * REQUESTS per WINDOW, BURST at once. requests 0: off, every charge passes. burst 0 counts as 1
 * (else nothing would ever pass), window_ms 0 as 1.
 * Limits: requests up to 2^20 and windows up to 2^40 ms are exact; with more requests, refill is
 * slower by less than 1 in 2^19, and 2^20 a millisecond at most; longer windows count as 2^40 ms.
 */
struct bucket_rule {
	uint64_t requests, window_ms, burst;
	uint8_t kind; /* which budget: the same key in two budgets is two buckets */
};

/*
 * `entries` is rounded up to a power of two, at least 8; each takes 24 bytes.
 * Returns NULL without memory.
 */
struct bucket_table *bucket_table_create(size_t entries, struct hash_secret secret);

/* NULL is allowed. */
void bucket_table_destroy(struct bucket_table *table);

/*
 * Takes one token. Returns 0 when granted, else the milliseconds until one is there (≥ 1).
 * Exact: over any time T no key is granted more than burst + requests × T / window, so long as its
 * bucket stays in the table; the threads' clocks may differ. Changed numbers make a new bucket.
 */
uint64_t bucket_charge(struct bucket_table *table, const struct bucket_rule *rule, struct span key,
		       uint64_t now_ms);

/* Buckets that left a full set, since the start. */
uint64_t bucket_evicted_count(const struct bucket_table *table);

#endif
