#include "base/arena.h"

#include <stdlib.h>

/* Most requests need no second block, and with its head it is half a kilobyte. */
#define ARENA_FIRST_BYTES 480
#define ARENA_BLOCK_BYTES_MAX (64u << 10) /* blocks double up to here: waste is bounded */

struct arena_block {
	struct arena_block *next;
	size_t used, cap; /* bytes of data */
	_Alignas(max_align_t) uint8_t data[];
};

void arena_init(struct arena *arena, size_t max_bytes)
{
	*arena = (struct arena){ .max_bytes = max_bytes };
}

void arena_finish(struct arena *arena)
{
	while (arena->blocks) {
		struct arena_block *block = arena->blocks;

		arena->blocks = block->next;
		free(block);
	}
	arena_init(arena, arena->max_bytes);
}

/* Returns a block with room for `bytes`, in the list, or NULL. `first_bytes`: of the first block. */
static struct arena_block *block_create(struct arena *arena, size_t bytes, size_t first_bytes)
{
	struct arena_block *newest = arena->blocks;
	size_t cap = newest ? newest->cap * 2 : first_bytes;

	if (cap > ARENA_BLOCK_BYTES_MAX)
		cap = ARENA_BLOCK_BYTES_MAX;
	if (cap > arena->max_bytes - arena->used_bytes)
		cap = arena->max_bytes - arena->used_bytes;

	bool is_large = newest && bytes > cap / 2;

	if (cap < bytes || is_large)
		cap = bytes;

	struct arena_block *block = malloc(sizeof(*block) + cap);

	if (!block)
		return NULL;
	block->used = 0;
	block->cap = cap;
	/* A large piece gets a block of its own behind the newest, whose room stays in use. */
	struct arena_block **link = is_large ? &newest->next : &arena->blocks;

	block->next = *link;
	*link = block;
	return block;
}

static void *take(struct arena *arena, size_t bytes, size_t align)
{
	struct arena_block *block = arena->blocks;
	size_t pad = block ? (0 - block->used) & (align - 1) : 0;

	if (bytes > arena->max_bytes - arena->used_bytes)
		return NULL;
	if (!block || pad > block->cap - block->used || bytes > block->cap - block->used - pad) {
		block = block_create(arena, bytes, ARENA_FIRST_BYTES);
		pad = 0;
		if (!block)
			return NULL;
	} else if (bytes + pad > arena->max_bytes - arena->used_bytes) {
		return NULL;
	}

	void *memory = block->data + block->used + pad;

	block->used += pad + bytes;
	arena->used_bytes += pad + bytes;
	return memory;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
	void *memory = take(arena, bytes ? bytes : 1, _Alignof(max_align_t));

	if (memory)
		memset(memory, 0, bytes);
	return memory;
}

struct span arena_copy(struct arena *arena, struct span bytes)
{
	if (bytes.len >= arena->max_bytes)
		return SPAN_EMPTY;

	uint8_t *copy = take(arena, bytes.len + 1, 1);

	if (!copy)
		return SPAN_EMPTY;
	if (bytes.len > 0)
		memcpy(copy, bytes.data, bytes.len);
	copy[bytes.len] = 0;
	return span_make(copy, bytes.len);
}

void arena_keep(struct arena *arena, struct span *const kept[], size_t count)
{
	struct arena small;
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += kept[i]->len > 0 ? kept[i]->len + 1 : 0;
	arena_init(&small, arena->max_bytes);
	if (bytes > 0 && (bytes > arena->max_bytes || !block_create(&small, bytes, bytes)))
		return;
	for (size_t i = 0; i < count; i++)
		*kept[i] = kept[i]->len > 0 ? arena_copy(&small, *kept[i]) : SPAN_EMPTY;
	arena_finish(arena);
	*arena = small;
}
