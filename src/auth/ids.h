/*
 * ids: random names for requests, drawn from the kernel many at once: a system call for each would cost
 * more than the rest of it. Thread: the pool's owner.
 */
#ifndef AUTH_IDS_H
#define AUTH_IDS_H

#include <stddef.h>
#include <stdint.h>

#define ID_BYTES    22 /* letters, digits, '-' and '_': 132 random bits */
#define IDS_AT_ONCE 32

struct id_pool { /* zeroed: empty */
	uint8_t drawn[IDS_AT_ONCE * ID_BYTES];
	size_t left; /* of drawn, in front */
};

/* No NUL behind it. */
void id_draw(struct id_pool *pool, char id[ID_BYTES]);

#endif
