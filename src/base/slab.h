/*
 * slab: objects of one size, with a bound. One thread at a time.
 * Memory returns to the system at slab_finish.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

struct slab_chunk;

struct slab {
	struct slab_chunk *chunks;
	void *free_head;       /* linked through the objects */
	size_t object_bytes;
	size_t live_count, max_count;
};

/* Objects are aligned for any type; to a cache line if they are whole ones (64 bytes, 128 …). */
void slab_init(struct slab *slab, size_t object_bytes, size_t max_count);

/* Every object must have been freed (CHECK). */
void slab_finish(struct slab *slab);

/* Returns a zeroed object, or NULL (at the bound, out of memory). */
void *slab_alloc(struct slab *slab);

/* `object` came from this slab. NULL is allowed. */
void slab_free(struct slab *slab, void *object);

#endif
