/* h2_memory_internal: a session's block, for h2.c. Nobody else includes it. */
#ifndef CODEC_H2_MEMORY_INTERNAL_H
#define CODEC_H2_MEMORY_INTERNAL_H

#include "codec/h2_memory.h"

#include <nghttp2/nghttp2.h>

struct h2_block;

/* Returns a block for one session, or NULL without memory. */
struct h2_block *h2_block_take(struct h2_memory *memory);

/* With everything that is still in it. */
void h2_block_give(struct h2_block *block);

/* Whether an allocation failed: nghttp2's state is not to be trusted, the session must end. */
bool h2_block_was_refused(const struct h2_block *block);

/* The session is made: large objects come from malloc from now on, the block's room is for small.
 */
void h2_block_end_birth(struct h2_block *block);

/* Fetches the small objects that were made after the birth: with one stream open, its own. */
void h2_block_fetch(const struct h2_block *block);

/* Of an object of this block: as many bytes as were asked for. */
size_t h2_block_object_bytes(const void *object);

/* nghttp2's hooks, that take from this block. Lifetime: nghttp2 copies them. */
nghttp2_mem h2_block_hooks(struct h2_block *block);

/* Zeroed, or NULL. */
void *h2_block_alloc(struct h2_block *block, size_t bytes);
void h2_block_free(struct h2_block *block, void *object);

#endif
