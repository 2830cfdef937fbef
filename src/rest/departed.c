#include "rest/departed.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define WORDS (SHA256_BYTES / sizeof(uint64_t))

struct departed {
	_Atomic uint64_t turn; /* twice the count; odd while one is being written */
	_Atomic uint64_t keys[DEPARTED_MAX][WORDS];
};

struct departed *departed_create(void)
{
	return calloc(1, sizeof(struct departed));
}

void departed_destroy(struct departed *departed)
{
	free(departed);
}

/* Pairs with the acquires of departed_count (the words of a count that is seen are there) and of
 * departed_get's words (a word that is seen to be newer makes the odd turn before it seen, too). */
void departed_add(struct departed *departed, const uint8_t key[SHA256_BYTES])
{
	uint64_t turn = atomic_load_explicit(&departed->turn, memory_order_relaxed);
	uint64_t words[WORDS];

	memcpy(words, key, sizeof(words));
	for (;;) {
		if (turn & 1) {
			sched_yield();
			turn = atomic_load_explicit(&departed->turn, memory_order_relaxed);
		} else if (atomic_compare_exchange_weak_explicit(&departed->turn, &turn, turn + 1,
								 memory_order_acq_rel,
								 memory_order_relaxed)) {
			break;
		}
	}
	for (size_t i = 0; i < WORDS; i++)
		atomic_store_explicit(&departed->keys[turn / 2 % DEPARTED_MAX][i], words[i],
				      memory_order_release);
	atomic_store_explicit(&departed->turn, turn + 2, memory_order_release);
}

uint64_t departed_count(const struct departed *departed)
{
	return atomic_load_explicit(&departed->turn, memory_order_acquire) / 2;
}

bool departed_get(const struct departed *departed, uint64_t number, uint8_t key[SHA256_BYTES])
{
	uint64_t words[WORDS];

	for (size_t i = 0; i < WORDS; i++)
		words[i] = atomic_load_explicit(&departed->keys[number % DEPARTED_MAX][i],
						memory_order_acquire);
	memcpy(key, words, sizeof(words));
	/* The next to be written may be under way: its place counts as gone. */
	return departed_count(departed) - number < DEPARTED_MAX;
}
