/*
 * pool: blocks of a few fixed sizes that are kept for the next use, so that I/O does not go through
 * malloc. A bounded list per thread and kind; beyond the bound blocks return to the system. Private
 * to net/.
 */
#ifndef NET_POOL_H
#define NET_POOL_H

#include <stddef.h>

enum pool_kind {
	POOL_CHUNK,	 /* struct sendq_chunk */
	POOL_SEND_SMALL, /* struct conn_send with CONN_SEND_IOV_SMALL iovecs */
	POOL_SEND_LARGE, /* struct conn_send with SENDQ_IOV_MAX iovecs */
	POOL_KIND_COUNT
};

#define POOL_CHUNK_BYTES      2048 /* some 35 messages of a 9-byte header and a slice */
#define POOL_SEND_SMALL_BYTES 384  /* a reply or a few */
#define POOL_SEND_LARGE_BYTES 4352

/* Returns a block that is not cleared, or NULL without memory. Thread: whichever gives it back. */
void *pool_take(enum pool_kind kind);
void pool_give(enum pool_kind kind, void *block);

/* Blocks of this kind kept by this thread. For tests. */
size_t pool_kept(enum pool_kind kind);

#endif
