/*
 * sendq: what a connection has still to send: small copied bytes and slices of shared payloads, in
 * order. Pure bookkeeping over one worker's memory; thread: the worker's.
 *
 *   first ─► chunk ─► chunk ◄─ last        a chunk: | copied bytes ──►   ◄── segments |
 *
 * A segment is a run of the chunk's own bytes or a slice of a payload; nothing that was gathered
 * ever moves. What a zero-copy send has gathered is pinned: sent or dropped, its memory and its
 * references stay until the pin is given back.
 */
#ifndef NET_SENDQ_H
#define NET_SENDQ_H

#include "base/payload.h"

#include <sys/uio.h>

struct sendq_chunk;

struct sendq {
	struct sendq_chunk *first, *last;
	size_t bytes;	  /* queued and not yet acknowledged by sendq_advance */
	size_t bytes_max; /* appends beyond it are refused, nothing half taken */
};

/* one gather send: 64 messages of header + payload, twice; well under UIO_MAXIOV */
#define SENDQ_IOV_MAX 256

/* No memory while empty. */
void sendq_init(struct sendq *queue, size_t bytes_max);

/*
 * Gives back every reference and all memory that no pin holds. The queue is then empty and may be
 * used again.
 */
void sendq_finish(struct sendq *queue);

/* Copies. Returns 0, -ENOBUFS (over bytes_max) or -ENOMEM. */
int sendq_append(struct sendq *queue, struct span bytes);

#define SENDQ_SECRET_MAX ((size_t)1024)

/*
 * As sendq_append, for bytes that must leave no trace: the chunk that they are in is wiped once it is
 * sent or dropped. Limits: SENDQ_SECRET_MAX.
 */
int sendq_append_secret(struct sendq *queue, struct span bytes);

/* Takes a reference of its own on the payload. Returns as sendq_append. */
int sendq_append_slice(struct sendq *queue, struct payload_slice slice);

/*
 * As sendq_append_slice, but takes over the caller's reference. On failure it stays the caller's.
 */
int sendq_give_slice(struct sendq *queue, struct payload_slice slice);

/*
 * Fills iovecs from the front; they stay valid until sendq_advance or sendq_finish, appends
 * included. Returns how many; `bytes` is their sum.
 */
size_t sendq_gather(const struct sendq *queue, struct iovec *iov, size_t iov_max, size_t *bytes);

/* Bytes in the first `iov_count` pieces that are slices of payloads. */
size_t sendq_slice_bytes(const struct sendq *queue, size_t iov_count);

/* Chunks that a zero-copy send reads, first to last. */
struct sendq_pin {
	struct sendq_chunk *first;
	uint32_t chunk_count;
};

#define SENDQ_PINS_MAX 255 /* of one queue at a time */

/* Of what sendq_gather gave as its first `iov_count` (≥ 1) pieces. */
struct sendq_pin sendq_pin(struct sendq *queue, size_t iov_count);

/* Frees what has left the queue meanwhile, with the last pin on it. The queue itself may be over. */
void sendq_unpin(struct sendq_pin pin);

/* The first `bytes` have been sent; at most what is queued (CHECK). */
void sendq_advance(struct sendq *queue, size_t bytes);

#endif
