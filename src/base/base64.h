/* base64: RFC 4648 §4 for what is no secret: the time that it takes tells of the bytes. Pure. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/buf.h"

#define BASE64_CHARS(bytes) (((bytes) + 2) / 3 * 4)

/* With padding. `at` has room for BASE64_CHARS(bytes.len). Returns the end. */
uint8_t *base64_write(uint8_t *at, struct span bytes);

/*
 * Either alphabet of RFC 4648, but not both; padding or none. `at` has room for 3 × ⌈len ÷ 4⌉.
 * Returns the end, or NULL.
 */
uint8_t *base64_read(uint8_t *at, struct span text);

/* Appends it, whole or not at all. Returns buf's code. */
int base64_append(struct buf *out, struct span bytes);

/* Appends what the text says, as base64_read. Returns 0, -EINVAL, or buf's code. */
int base64_decode(struct buf *out, struct span text);

#endif
