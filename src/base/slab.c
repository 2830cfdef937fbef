#include "base/slab.h"

#include "base/check.h"
#include "base/poison.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_CHUNK_BYTES (16u << 10) /* asked of malloc at once; larger objects come one by one */

#define LINE_BYTES 64 /* of the cache */

/* The objects lie behind it, aligned. */
struct slab_chunk {
	struct slab_chunk *next;
};

void slab_init(struct slab *slab, size_t object_bytes, size_t max_count)
{
	size_t align = _Alignof(max_align_t);

	CHECK(object_bytes > 0 && object_bytes < SIZE_MAX - 2 * align);
	*slab = (struct slab){
		.object_bytes = (object_bytes + align - 1) & ~(align - 1),
		.max_count = max_count,
	};
}

void slab_finish(struct slab *slab)
{
	CHECK(slab->live_count == 0);
	while (slab->chunks) {
		struct slab_chunk *chunk = slab->chunks;

		slab->chunks = chunk->next;
		free(chunk);
	}
	slab->free_head = NULL;
}

static void push_free(struct slab *slab, void *object)
{
	memcpy(object, &slab->free_head, sizeof(slab->free_head));
	slab->free_head = object;
	ASAN_POISON_MEMORY_REGION(object, slab->object_bytes);
}

/* Objects that are whole cache lines begin at one. */
static size_t object_align(const struct slab *slab)
{
	return slab->object_bytes % LINE_BYTES == 0 ? LINE_BYTES : _Alignof(max_align_t);
}

static bool add_chunk(struct slab *slab)
{
	size_t count = SLAB_CHUNK_BYTES / slab->object_bytes, align = object_align(slab);

	if (count == 0)
		count = 1;

	struct slab_chunk *chunk = malloc(sizeof(*chunk) + align + count * slab->object_bytes);

	if (!chunk)
		return false;
	chunk->next = slab->chunks;
	slab->chunks = chunk;

	uint8_t *objects = (uint8_t *)(chunk + 1);

	objects += (0 - (uintptr_t)objects) & (align - 1);
	/* Backwards, so that they are handed out in the order of their addresses. */
	for (size_t i = count; i > 0; i--)
		push_free(slab, objects + (i - 1) * slab->object_bytes);
	return true;
}

void *slab_alloc(struct slab *slab)
{
	if (slab->live_count == slab->max_count)
		return NULL;
	if (!slab->free_head && !add_chunk(slab))
		return NULL;

	void *object = slab->free_head;

	ASAN_UNPOISON_MEMORY_REGION(object, slab->object_bytes);
	memcpy(&slab->free_head, object, sizeof(slab->free_head));
	memset(object, 0, slab->object_bytes);
	slab->live_count++;
	return object;
}

void slab_free(struct slab *slab, void *object)
{
	if (!object)
		return;
	CHECK(slab->live_count > 0);
	slab->live_count--;
	push_free(slab, object);
}
