#include "auth/bucket.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/*
 * The rule is GCRA in whole numbers. Time is counted in units of 1/rate ms, so that one token costs
 * `token` = window_ms units and nothing is ever rounded. A bucket is one number, the time at which
 * it will be full again; in the past means full. A charge adds one token's units to
 * max(time, now) and is granted if the sum is at most burst tokens ahead of now.
 *
 * Why no more than burst + T × rate / token is granted between the times a and b, whatever the order
 * of the threads: the first grant leaves the time at a × rate + token or later, each further one
 * adds a token, and the last one was granted only because it left the time at
 * b × rate + burst × token or earlier.
 */
#define RATE_MAX (UINT64_C(1) << 20)
#define WINDOW_MAX (UINT64_C(1) << 40)
#define NOW_MAX ((UINT64_C(1) << 42) - 1) /* the year 2109, if it is the wall clock's */
/* NOW_MAX × RATE_MAX + this + one token is below TIME_CHANGING. */
#define AHEAD_MAX (UINT64_C(1) << 61)

/*
 * Seams for a test that steps from one access that other threads can see to the next, in a table
 * small enough for that.
 */
#ifndef BUCKET_STEP
#define BUCKET_STEP() ((void)0)
#define BUCKET_YIELD() sched_yield()
#define SPINS_BEFORE_YIELD 64
#define WAYS 8
#endif

#define TAG_EMPTY 0
#define TIME_CHANGING UINT64_MAX /* the bucket is being given to another key */

/*
 * `claim` guards tags and rates against other writers, so that a key cannot get two buckets; readers
 * do not need it. A bucket changes hands like this, in this order:
 *
 *   times[i]: old → TIME_CHANGING (compare-and-swap)   rates[i], tags[i] := new   times[i] := new
 *
 * A charge reads times[i], then tags[i], then swaps times[i] only if it is unchanged. If the bucket
 * changed hands meanwhile, the swap fails, or (the fresh time being the very same number) the charge
 * is put on the new key: that one has a token less, nobody has one more.
 */
struct bucket_set {
	_Alignas(64) _Atomic uint64_t tags[WAYS]; /* hash of key and rule */
	_Atomic uint64_t times[WAYS];		  /* when it will be full, in 1/rate ms */
	_Atomic uint32_t rates[WAYS];
	_Atomic uint32_t claim;
};

struct bucket_table {
	struct bucket_set *sets;
	size_t set_mask;
	struct hash_secret secret;
	_Alignas(64) _Atomic uint64_t evicted_count;
};

/* One charge in the rule's units. */
struct charge {
	uint64_t tag, rate, token, ahead_max, now;
};

struct bucket_table *bucket_table_create(size_t entries, struct hash_secret secret)
{
	size_t set_count = 1;

	while (set_count * WAYS < entries) {
		if (set_count > SIZE_MAX / sizeof(struct bucket_set) / 2)
			return NULL;
		set_count *= 2;
	}

	struct bucket_table *table = aligned_alloc(_Alignof(struct bucket_table), sizeof(*table));

	if (!table)
		return NULL;
	*table = (struct bucket_table){
		.sets = aligned_alloc(_Alignof(struct bucket_set),
				      set_count * sizeof(struct bucket_set)),
		.set_mask = set_count - 1,
		.secret = secret,
	};
	if (!table->sets) {
		free(table);
		return NULL;
	}
	memset(table->sets, 0, set_count * sizeof(struct bucket_set));
	return table;
}

void bucket_table_destroy(struct bucket_table *table)
{
	if (!table)
		return;
	free(table->sets);
	free(table);
}

uint64_t bucket_evicted_count(const struct bucket_table *table)
{
	return atomic_load_explicit(&table->evicted_count, memory_order_relaxed);
}

/* The rule's numbers are part of the key: times of another rate would mean nothing. */
static uint64_t tag_of(const struct bucket_table *table, const struct bucket_rule *rule,
		       struct span key)
{
	uint64_t parts[] = { hash_bytes(table->secret, key), rule->requests, rule->window_ms,
			     rule->kind };
	uint64_t tag = hash_bytes(table->secret, span_make(parts, sizeof(parts)));

	return tag == TAG_EMPTY ? 1 : tag;
}

/* rate / token in smaller numbers, rounded so that the refill is slower, never faster. */
static void make_exact_enough(uint64_t *rate, uint64_t *token)
{
	uint64_t window_ms = *token;

	*token = RATE_MAX * window_ms / *rate;
	if (*token == 0) {
		*token = 1;
		*rate = RATE_MAX;
		return;
	}
	*rate = (uint64_t)((unsigned __int128)*rate * *token / window_ms);
}

static struct charge charge_make(const struct bucket_rule *rule, uint64_t tag, uint64_t now_ms)
{
	uint64_t rate = rule->requests, token = rule->window_ms ? rule->window_ms : 1;
	uint64_t burst = rule->burst ? rule->burst : 1;

	if (token > WINDOW_MAX)
		token = WINDOW_MAX;
	if (rate > RATE_MAX)
		make_exact_enough(&rate, &token);
	if (burst > AHEAD_MAX / token)
		burst = AHEAD_MAX / token;
	return (struct charge){
		.tag = tag,
		.rate = rate,
		.token = token,
		.ahead_max = burst * token,
		.now = (now_ms < NOW_MAX ? now_ms : NOW_MAX) * rate,
	};
}

/* Another thread is between two stores; it may have lost its CPU there. */
static void wait_a_little(unsigned *spins)
{
	if (++*spins < SPINS_BEFORE_YIELD)
		return;
	*spins = 0;
	BUCKET_YIELD();
}

/* Returns the way that holds the tag, or -1. A tag that was there all the time is found. */
static int set_find(struct bucket_set *set, uint64_t tag)
{
	for (int way = 0; way < WAYS; way++) {
		BUCKET_STEP();
		/* Relaxed: way_charge looks again, in order. */
		if (atomic_load_explicit(&set->tags[way], memory_order_relaxed) == tag)
			return way;
	}
	return -1;
}

/*
 * Returns false if the bucket is not this key's (any more); else `*wait_ms` is the answer.
 */
static bool way_charge(struct bucket_set *set, int way, const struct charge *charge,
		       uint64_t *wait_ms)
{
	BUCKET_STEP();
	/* Acquire, paired with the release in set_insert: a time of the new owner shows its tag. */
	uint64_t time = atomic_load_explicit(&set->times[way], memory_order_acquire);

	for (;;) {
		if (time == TIME_CHANGING)
			return false;
		BUCKET_STEP();
		/* Acquire: the second look at the time, below, must come after this one. */
		if (atomic_load_explicit(&set->tags[way], memory_order_acquire) != charge->tag)
			return false;

		uint64_t after = (time > charge->now ? time : charge->now) + charge->token;

		BUCKET_STEP();
		if (after - charge->now <= charge->ahead_max) {
			if (atomic_compare_exchange_weak_explicit(&set->times[way], &time, after,
								  memory_order_acq_rel,
								  memory_order_acquire)) {
				*wait_ms = 0;
				return true;
			}
			continue;
		}

		/* Refused: but was that the time of this tag? It was if it has not changed since. */
		uint64_t again = atomic_load_explicit(&set->times[way], memory_order_acquire);

		if (again == time) {
			uint64_t over = after - charge->now - charge->ahead_max;

			*wait_ms = over / charge->rate + (over % charge->rate != 0);
			return true;
		}
		time = again;
	}
}

/* Thread: the holder of the claim. The way to give away, and what its time was. */
static int set_choose(struct bucket_set *set, uint64_t *time)
{
	int stalest = 0;
	uint64_t stalest_ms = UINT64_MAX;

	for (int way = 0; way < WAYS; way++) {
		BUCKET_STEP();

		uint64_t at = atomic_load_explicit(&set->times[way], memory_order_relaxed);
		uint64_t full_ms = 0;

		/* Relaxed: only the holder of the claim, which is us, writes tags and rates. */
		if (atomic_load_explicit(&set->tags[way], memory_order_relaxed) != TAG_EMPTY)
			full_ms = 1 + at / atomic_load_explicit(&set->rates[way],
								memory_order_relaxed);
		if (full_ms < stalest_ms) {
			stalest_ms = full_ms;
			stalest = way;
			*time = at;
		}
	}
	return stalest;
}

/* Thread: the holder of the claim. Makes the bucket with its first token taken. */
static void set_insert(struct bucket_table *table, struct bucket_set *set,
		       const struct charge *charge)
{
	uint64_t time = 0;
	int way;

	/* A charge in between makes the bucket less stale: choose again. */
	do {
		way = set_choose(set, &time);
		BUCKET_STEP();
	} while (!atomic_compare_exchange_strong_explicit(&set->times[way], &time, TIME_CHANGING,
							  memory_order_acq_rel,
							  memory_order_relaxed));
	if (atomic_load_explicit(&set->tags[way], memory_order_relaxed) != TAG_EMPTY)
		atomic_fetch_add_explicit(&table->evicted_count, 1, memory_order_relaxed);
	atomic_store_explicit(&set->rates[way], (uint32_t)charge->rate, memory_order_relaxed);
	BUCKET_STEP();
	/* Release: who sees this tag sees TIME_CHANGING or a later time, never the old owner's. */
	atomic_store_explicit(&set->tags[way], charge->tag, memory_order_release);
	BUCKET_STEP();
	/* Release, paired with the acquire in way_charge. */
	atomic_store_explicit(&set->times[way], charge->now + charge->token, memory_order_release);
}

static bool set_try_claim(struct bucket_set *set)
{
	uint32_t free_claim = 0;

	BUCKET_STEP();
	/* Acquire, paired with the release in set_unclaim: the tags of earlier holders are seen. */
	return atomic_compare_exchange_strong_explicit(&set->claim, &free_claim, 1,
						       memory_order_acquire, memory_order_relaxed);
}

static void set_unclaim(struct bucket_set *set)
{
	BUCKET_STEP();
	atomic_store_explicit(&set->claim, 0, memory_order_release);
}

uint64_t bucket_charge(struct bucket_table *table, const struct bucket_rule *rule, struct span key,
		       uint64_t now_ms)
{
	if (rule->requests == 0)
		return 0;

	uint64_t tag = tag_of(table, rule, key), wait_ms = 0;
	struct charge charge = charge_make(rule, tag, now_ms);
	struct bucket_set *set = &table->sets[(size_t)tag & table->set_mask];

	for (unsigned spins = 0;; wait_a_little(&spins)) {
		int way = set_find(set, tag);

		if (way >= 0) {
			if (way_charge(set, way, &charge, &wait_ms))
				return wait_ms;
			continue;
		}
		if (!set_try_claim(set))
			continue;

		/* Another thread may have made it since we looked. */
		bool is_new = set_find(set, tag) < 0;

		if (is_new)
			set_insert(table, set, &charge);
		set_unclaim(set);
		if (is_new)
			return 0;
	}
}
