/*
 * buf: growing bytes with a limit. One owner, any thread.
 * A failed append leaves the bytes as they were and sets `failed`, which sticks until buf_clear:
 * a writer may append many times and look once at the end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/span.h"

struct buf {
	uint8_t *data;
	size_t len;   /* bytes used */
	size_t cap;   /* bytes allocated */
	size_t max;   /* len never exceeds this */
	bool failed;  /* an append was refused: over max, or out of memory */
};

/* No allocation until the first append. */
void buf_init(struct buf *buf, size_t max);

/* Frees the bytes; the buf is as after buf_init. */
void buf_finish(struct buf *buf);

/* Forgets the bytes and the failure, keeps the memory up to `keep` bytes, frees it if larger. */
void buf_clear(struct buf *buf, size_t keep);

/* As buf_append, which takes the way through here when it needs memory. */
int buf_append_growing(struct buf *buf, struct span bytes);

/* Returns 0, -EMSGSIZE (over max) or -ENOMEM. */
static inline int buf_append(struct buf *buf, struct span bytes)
{
	if (bytes.len > buf->cap - buf->len || bytes.len > buf->max - buf->len || bytes.len == 0)
		return buf_append_growing(buf, bytes);
	memcpy(buf->data + buf->len, bytes.data, bytes.len);
	buf->len += bytes.len;
	return 0;
}

static inline int buf_append_byte(struct buf *buf, uint8_t byte)
{
	return buf_append(buf, span_make(&byte, 1));
}

int buf_append_uint(struct buf *buf, uint64_t value); /* decimal */
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Room for at least `len` more bytes, to be written in place and then claimed by buf_claim.
 * Returns NULL when refused.
 */
uint8_t *buf_reserve(struct buf *buf, size_t len);
void buf_claim(struct buf *buf, size_t len);

/* Drops the first `len` bytes; the rest moves to the front. */
void buf_consume(struct buf *buf, size_t len);

static inline struct span buf_span(const struct buf *buf)
{
	return span_make(buf->data, buf->len);
}

#endif
