#include "auth/ids.h"

#include <sodium.h>

void id_draw(struct id_pool *pool, char id[ID_BYTES])
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	if (pool->left == 0) {
		randombytes_buf(pool->drawn, sizeof(pool->drawn));
		pool->left = sizeof(pool->drawn);
	}
	pool->left -= ID_BYTES;
	for (size_t i = 0; i < ID_BYTES; i++)
		id[i] = letters[pool->drawn[pool->left + i] & 63];
}
