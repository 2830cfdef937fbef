#include "codec/pbjson_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#define PAIRWISE_MAX 16 /* comparing each with each is cheaper than any table */
#define PROBES_MAX   32 /* longer chains are made on purpose: then by sorting */

uint64_t pbjson_hash_key(struct span bytes)
{
	uint64_t hash = bytes.len * UINT64_C(0x9e3779b97f4a7c15), word;
	size_t at = 0;

	for (; bytes.len - at >= 8; at += 8) {
		memcpy(&word, bytes.data + at, 8);
		hash = (hash ^ le64toh(word)) * UINT64_C(0xff51afd7ed558ccd);
		hash ^= hash >> 32;
	}
	word = 0;
	for (; at < bytes.len; at++)
		word = word << 8 | bytes.data[at];
	hash = (hash ^ word) * UINT64_C(0xc4ceb9fe1a85ec53);
	return hash ^ hash >> 29;
}

static bool is_same(const struct pbjson_keys *keys, size_t a, size_t b)
{
	return keys->keys[a].hash == keys->keys[b].hash &&
	       keys->same(keys->context, &keys->keys[a], &keys->keys[b]);
}

static void find_pairwise(const struct pbjson_keys *keys)
{
	for (size_t later = 1; later < keys->count; later++) {
		for (size_t earlier = later; earlier-- > 0;) {
			if (!is_same(keys, earlier, later))
				continue;
			if (!keys->twice(keys->context, earlier, later))
				return;
			break;
		}
	}
}

/* Returns false when chains get long; what was reported until then may be reported again. */
static bool find_by_table(const struct pbjson_keys *keys, uint32_t *slots, size_t mask)
{
	for (size_t later = 0; later < keys->count; later++) {
		size_t at = (size_t)keys->keys[later].hash & mask, probes = 0;

		for (; slots[at]; at = (at + 1) & mask) {
			size_t earlier = slots[at] - 1;

			if (is_same(keys, earlier, later)) {
				if (!keys->twice(keys->context, earlier, later))
					return true;
				break;
			}
			if (++probes > PROBES_MAX)
				return false;
		}
		slots[at] = (uint32_t)(later + 1);
	}
	return true;
}

struct sorted {
	uint64_t hash;
	size_t index;
};

static int compare_sorted(const void *left, const void *right)
{
	const struct sorted *a = left, *b = right;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return a->index < b->index ? -1 : 1;
}

/*
 * Of keys with the same hash only neighbours are compared: whoever makes many different ones with
 * one 64-bit hash may see one of them twice.
 */
static int find_by_sorting(const struct pbjson_keys *keys)
{
	struct sorted *sorted = malloc(keys->count * sizeof(*sorted));

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < keys->count; i++)
		sorted[i] = (struct sorted){.hash = keys->keys[i].hash, .index = i};
	qsort(sorted, keys->count, sizeof(*sorted), compare_sorted);
	for (size_t i = 1; i < keys->count; i++) {
		if (is_same(keys, sorted[i - 1].index, sorted[i].index) &&
		    !keys->twice(keys->context, sorted[i - 1].index, sorted[i].index))
			break;
	}
	free(sorted);
	return 0;
}

int pbjson_find_twice(const struct pbjson_keys *keys)
{
	size_t slot_count = (size_t)2 * PAIRWISE_MAX;

	if (keys->count <= PAIRWISE_MAX) {
		find_pairwise(keys);
		return 0;
	}
	while (slot_count < 2 * keys->count)
		slot_count *= 2;

	uint32_t *slots = calloc(slot_count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;

	bool done = find_by_table(keys, slots, slot_count - 1);

	free(slots);
	return done ? 0 : find_by_sorting(keys);
}
