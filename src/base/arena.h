/* arena: memory that lives and dies together (one request). One thread at a time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/span.h"

struct arena_block;

struct arena {
	struct arena_block *blocks; /* newest first */
	size_t used_bytes;          /* handed out and lost to alignment, all blocks */
	size_t max_bytes;           /* used_bytes never exceeds this */
};

/* No allocation until the first use. */
void arena_init(struct arena *arena, size_t max_bytes);

/* Frees everything; the arena is as after arena_init. */
void arena_finish(struct arena *arena);

/*
 * Returns memory aligned for any type, zeroed, or NULL (limit, out of memory).
 * Lifetime: arena_finish.
 * Limits: what alignment costs counts too.
 */
void *arena_alloc(struct arena *arena, size_t bytes);

/* A copy with a NUL behind it (not counted in len). data is NULL when refused. */
struct span arena_copy(struct arena *arena, struct span bytes);

/*
 * Frees everything but the bytes of these spans, which are copied and set anew, a NUL behind each
 * (not counted). Without memory for the copies nothing is freed.
 */
void arena_keep(struct arena *arena, struct span *const kept[], size_t count);

#endif
