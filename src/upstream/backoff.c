#include "upstream/backoff.h"

#include <sys/random.h>

#define FIRST_MS      100u
#define DOUBLINGS_MAX 5 /* 100 ms × 2^5 is beyond the bound */

void backoff_init(struct backoff *backoff)
{
	uint64_t seed = 0;

	/* Early in the machine's life there may be none: then all jitter alike, which harms little.
	 */
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed) || seed == 0)
		seed = UINT64_C(0x9e3779b97f4a7c15);
	*backoff = (struct backoff){.random = seed};
}

uint64_t backoff_random(struct backoff *backoff, uint64_t bound)
{
	backoff->random ^= backoff->random << 13;
	backoff->random ^= backoff->random >> 7;
	backoff->random ^= backoff->random << 17;
	return backoff->random % bound;
}

uint32_t backoff_wait_ms(struct backoff *backoff)
{
	if (backoff->failed_tries == 0)
		return (uint32_t)backoff_random(backoff, BACKOFF_SOON_MS + 1);

	uint32_t doublings = backoff->failed_tries - 1 < DOUBLINGS_MAX ? backoff->failed_tries - 1
								       : DOUBLINGS_MAX;
	uint32_t base_ms = FIRST_MS << doublings;

	if (base_ms > BACKOFF_MAX_MS)
		base_ms = BACKOFF_MAX_MS;
	return base_ms / 2 + (uint32_t)backoff_random(backoff, base_ms / 2 + 1);
}
