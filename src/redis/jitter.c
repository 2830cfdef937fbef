#include "redis/client_internal.h"

#include <sys/random.h>

#define BACKOFF_FIRST_MS  100u
#define BACKOFF_MAX_MS	  2000u
#define BACKOFF_DOUBLINGS 5 /* 100 ms × 2^5 is beyond the bound */

uint64_t jitter_seed(void)
{
	uint64_t seed = 0;

	/* Early in the machine's life there may be none: then every process jitters alike, which
	 * harms little. */
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed) || seed == 0)
		seed = UINT64_C(0x9e3779b97f4a7c15);
	return seed;
}

/* xorshift64: only to keep many clients from coming at once. */
uint64_t jitter_below(uint64_t *state, uint64_t bound)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % bound;
}

uint32_t jitter_backoff_ms(uint64_t *state, uint32_t failed_tries)
{
	uint32_t doublings = failed_tries < BACKOFF_DOUBLINGS ? failed_tries : BACKOFF_DOUBLINGS;
	uint32_t base = BACKOFF_FIRST_MS << doublings;

	if (base > BACKOFF_MAX_MS)
		base = BACKOFF_MAX_MS;
	return base / 2 + (uint32_t)jitter_below(state, base / 2 + 1);
}
