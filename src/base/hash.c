#include "base/hash.h"

#include "base/check.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#define HASH_FIRST_BUCKETS 16
#define HASH_MOVES_PER_INSERT 2 /* one would just empty the old buckets before the next growth */

/* SipHash (Aumasson, Bernstein 2012), here with 1 round per word and 3 at the end. */
struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate_left(uint64_t word, unsigned bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void sip_round(struct sip *sip)
{
	sip->v0 += sip->v1;
	sip->v2 += sip->v3;
	sip->v1 = rotate_left(sip->v1, 13) ^ sip->v0;
	sip->v3 = rotate_left(sip->v3, 16) ^ sip->v2;
	sip->v0 = rotate_left(sip->v0, 32);
	sip->v2 += sip->v1;
	sip->v0 += sip->v3;
	sip->v1 = rotate_left(sip->v1, 17) ^ sip->v2;
	sip->v3 = rotate_left(sip->v3, 21) ^ sip->v0;
	sip->v2 = rotate_left(sip->v2, 32);
}

static inline void sip_word(struct sip *sip, uint64_t word)
{
	sip->v3 ^= word;
	sip_round(sip);
	sip->v0 ^= word;
}

static inline uint64_t load_le64(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return le64toh(word);
}

uint64_t hash_bytes(struct hash_secret secret, struct span bytes)
{
	uint64_t k0 = load_le64(secret.bytes), k1 = load_le64(secret.bytes + 8);
	struct sip sip = {
		.v0 = k0 ^ UINT64_C(0x736f6d6570736575),
		.v1 = k1 ^ UINT64_C(0x646f72616e646f6d),
		.v2 = k0 ^ UINT64_C(0x6c7967656e657261),
		.v3 = k1 ^ UINT64_C(0x7465646279746573),
	};
	size_t whole = bytes.len & ~(size_t)7;
	uint64_t last = (uint64_t)bytes.len << 56;

	for (size_t at = 0; at < whole; at += 8)
		sip_word(&sip, load_le64(bytes.data + at));
	for (size_t at = whole; at < bytes.len; at++)
		last |= (uint64_t)bytes.data[at] << 8 * (at - whole);
	sip_word(&sip, last);

	sip.v2 ^= 0xff;
	sip_round(&sip);
	sip_round(&sip);
	sip_round(&sip);
	return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}

void hash_init(struct hash_table *table, hash_match_fn *match, struct hash_secret secret)
{
	*table = (struct hash_table){ .match = match, .secret = secret };
}

void hash_finish(struct hash_table *table)
{
	free(table->now.heads);
	free(table->old.heads);
	hash_init(table, table->match, table->secret);
}

/* The one place where a node of this hash is: in `old` until its bucket moves, then in `now`. */
static struct hash_node **head_of(const struct hash_table *table, uint64_t hash)
{
	if (table->old.count) {
		size_t at = (size_t)hash & (table->old.count - 1);

		if (at >= table->moved_count)
			return &table->old.heads[at];
	}
	return &table->now.heads[(size_t)hash & (table->now.count - 1)];
}

static void push(struct hash_node **head, struct hash_node *node)
{
	node->next = *head;
	*head = node;
}

static void move_bucket(struct hash_table *table)
{
	struct hash_node *node = table->old.heads[table->moved_count];

	table->moved_count++;
	while (node) {
		struct hash_node *next = node->next;

		push(&table->now.heads[(size_t)node->hash & (table->now.count - 1)], node);
		node = next;
	}
	if (table->moved_count == table->old.count) {
		free(table->old.heads);
		table->old = (struct hash_buckets){ .heads = NULL };
		table->moved_count = 0;
	}
}

static int grow(struct hash_table *table)
{
	size_t count = table->now.count ? table->now.count * 2 : HASH_FIRST_BUCKETS;
	struct hash_node **heads = calloc(count, sizeof(struct hash_node *));

	if (!heads)
		return -ENOMEM;
	table->old = table->now;
	table->moved_count = 0;
	table->now = (struct hash_buckets){ .heads = heads, .count = count };
	return 0;
}

void hash_fetch(const struct hash_table *table, uint64_t hash)
{
	if (table->count > 0)
		__builtin_prefetch(head_of(table, hash));
}

struct hash_node *hash_first(const struct hash_table *table, uint64_t hash)
{
	return table->count > 0 ? *head_of(table, hash) : NULL;
}

struct hash_node *hash_find(const struct hash_table *table, struct span key)
{
	if (table->count == 0)
		return NULL;

	uint64_t hash = hash_bytes(table->secret, key);

	for (struct hash_node *node = *head_of(table, hash); node; node = node->next) {
		if (node->hash == hash && table->match(node, key))
			return node;
	}
	return NULL;
}

int hash_insert(struct hash_table *table, struct hash_node *node, struct span key)
{
	for (int i = 0; i < HASH_MOVES_PER_INSERT && table->old.count; i++)
		move_bucket(table);
	if (table->count >= table->now.count && !table->old.count) {
		/* Without memory the chains grow longer and the next insertion tries again. */
		if (grow(table) != 0 && table->now.count == 0)
			return -ENOMEM;
	}
	node->hash = hash_bytes(table->secret, key);
	push(head_of(table, node->hash), node);
	table->count++;
	return 0;
}

void hash_remove(struct hash_table *table, struct hash_node *node)
{
	CHECK(table->count > 0);

	struct hash_node **link = head_of(table, node->hash);

	while (*link && *link != node)
		link = &(*link)->next;
	CHECK(*link == node);
	*link = node->next;
	node->next = NULL;
	table->count--;
}

static bool each_from(struct hash_buckets buckets, size_t first,
		      bool (*visit)(struct hash_node *node, void *context), void *context)
{
	for (size_t i = first; i < buckets.count; i++) {
		struct hash_node *node = buckets.heads[i];

		while (node) {
			struct hash_node *next = node->next;

			if (!visit(node, context))
				return false;
			node = next;
		}
	}
	return true;
}

bool hash_each(struct hash_table *table, bool (*visit)(struct hash_node *node, void *context),
	       void *context)
{
	/* Removal moves nothing between `old` and `now`, so that no node is met twice or missed. */
	return each_from(table->old, table->moved_count, visit, context) &&
	       each_from(table->now, 0, visit, context);
}
