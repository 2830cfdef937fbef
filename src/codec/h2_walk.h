/*
 * h2_walk: looks at the head of each frame that comes, before nghttp2 does, which says nothing of
 * those it ignores: unknown types, frames of streams that have ended. Private to h2.c. Pure.
 * Source: RFC 9113 §4.1, §6.
 */
#ifndef CODEC_H2_WALK_H
#define CODEC_H2_WALK_H

#include "codec/h2.h"

struct h2_walk {
	uint32_t left_bytes; /* of the frame's payload, or of the preface */
	uint8_t head[10];    /* of a frame that came in parts: with DATA's pad length */
	uint8_t head_len;
	bool in_block : 1;     /* CONTINUATION is to come */
	bool is_headers : 1;   /* the frame carries a header block, or a part of it */
	bool block_is_new : 1; /* it has begun in the last bytes */
};

typedef void h2_walk_fn(struct h2_session *session, enum h2_oddity oddity);

/* A server's peer begins with the preface. */
void h2_walk_init(struct h2_walk *walk, enum h2_role role);

/* The next bytes, all of them. `odd` is told of each frame that is one, whatever came of it. */
void h2_walk_take(struct h2_walk *walk, struct span bytes, h2_walk_fn *odd,
		  struct h2_session *session);

/* Where the bytes so far end. */
enum h2_header_progress h2_walk_progress(const struct h2_walk *walk);

#endif
