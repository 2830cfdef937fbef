/*
 * payload: immutable bytes with a count, shared between threads.
 *
 *   create → (count 1, writer fills data[0..len)) → get ×n → put ×n → freed by the last put
 *
 * Bytes are written only by the creator, before the payload is shared.
 */
#ifndef BASE_PAYLOAD_H
#define BASE_PAYLOAD_H

#include "base/span.h"

#include <stdatomic.h>

struct payload {
	_Atomic uint32_t count; /* references; see payload_put for the ordering */
	uint32_t len;           /* bytes in data */
	uint16_t messages;      /* in data, one behind the other; 1 unless its writer says more */
	uint8_t data[];
};

#define PAYLOAD_BYTES_MAX (64u << 20) /* no message limit may be set above this */

/* Returns a payload with count 1 and `len` bytes to be filled; NULL: no memory, or too long. */
struct payload *payload_create(size_t len);

/* Gives back what lies behind `len`. The payload is not shared yet. Returns where it is now. */
struct payload *payload_trim(struct payload *payload);

/* As payload_create, filled from `bytes`. */
struct payload *payload_copy(struct span bytes);

/* Adds `count` references in one step. The caller holds one. */
void payload_get(struct payload *payload, uint32_t count);

/* Gives up `count` references in one step; the last one frees. NULL is allowed. */
void payload_put_many(struct payload *payload, uint32_t count);

static inline void payload_put(struct payload *payload)
{
	payload_put_many(payload, 1);
}

static inline struct span payload_span(const struct payload *payload)
{
	return span_make(payload->data, payload->len);
}

/* A part of a payload. Holds one reference unless a function says it borrows. */
struct payload_slice {
	struct payload *payload;
	uint32_t offset, len; /* bytes; offset + len ≤ payload->len */
};

#endif
