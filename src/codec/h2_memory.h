/*
 * h2_memory: where the HTTP/2 sessions of one thread live, one block each. One thread at a time.
 *
 *   block: | head, objects of the session's birth, small ones ─► ··· | frame buffer ──────────────
 * | └───────────── whole pages in use ────────────────────────┴─ its first bytes ─ untouched ┘
 *
 * nghttp2 asks for a frame buffer of 16 KiB per session of which it writes the first few hundred
 * bytes, unless a header block or a GOAWAY is large. Its beginning shares a page with the small
 * objects, the rest are pages that stay untouched and so cost nothing. What does not fit in a block
 * comes from malloc. A session's end gives everything back at once.
 *
 * A block that is given back keeps its pages for the next session, until h2_memory_trim.
 */
#ifndef CODEC_H2_MEMORY_H
#define CODEC_H2_MEMORY_H

#include "base/metric.h"

struct h2_memory;

/* Returns 0 or -ENOMEM. */
int h2_memory_create(struct h2_memory **memory);

/* Every session in it has been destroyed (CHECK). NULL is allowed. */
void h2_memory_destroy(struct h2_memory *memory);

/*
 * Bytes that sessions have asked for and not given back, frame buffers left out: they are seldom
 * touched. Lifetime: the memory's.
 */
const struct metric_gauge *h2_memory_used_bytes(const struct h2_memory *memory);

/* What one block costs when a session is in it: bytes of the pages in use. */
size_t h2_memory_block_bytes(const struct h2_memory *memory);

/*
 * From now on it is noted which blocks are free all the time. Returns whether more are free than
 * one in eight of those in use, and a few, which keep their pages.
 */
bool h2_memory_watch(struct h2_memory *memory);

/*
 * Gives pages of up to `blocks_max` free blocks back to the system, some microseconds each: of what
 * is too many, those that were free ever since h2_memory_watch. Clients that come back after a
 * moment find the others. Returns whether there are more.
 */
bool h2_memory_trim(struct h2_memory *memory, uint32_t blocks_max);

/*
 * For tests: after `count` more allocations every one is refused, until it is called again.
 * UINT64_MAX: none is.
 */
void h2_memory_fail_after(struct h2_memory *memory, uint64_t count);

#endif
