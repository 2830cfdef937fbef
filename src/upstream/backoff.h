/* backoff: when to try again, with jitter, so that many clients do not come at once. Any thread. */
#ifndef UPSTREAM_BACKOFF_H
#define UPSTREAM_BACKOFF_H

#include <stdint.h>

#define BACKOFF_SOON_MS                                                                            \
	90 /* first try within 100 ms; the rest is for the wheel's rounding and a busy turn */
#define BACKOFF_MAX_MS 2000

struct backoff {
	uint64_t random;       /* xorshift64; never 0 */
	uint32_t failed_tries; /* in a row */
};

void backoff_init(struct backoff *backoff);

/* Below `bound`, which is not 0. */
uint64_t backoff_random(struct backoff *backoff, uint64_t bound);

/* How long to wait now: up to BACKOFF_SOON_MS after no failure, then 100 ms doubled up to
 * BACKOFF_MAX_MS, half of it random. */
uint32_t backoff_wait_ms(struct backoff *backoff);

#endif
