/*
 * pb: protobuf wire format read in place, and written straight into a buffer. One thread at a time.
 * Strings are judged on the wire bytes (protobuf-c stops at NUL and takes invalid UTF-8).
 * Source: protobuf.dev/programming-guides/encoding
 */
#ifndef CODEC_PB_H
#define CODEC_PB_H

#include "base/buf.h"

enum pb_wire {
	PB_VARINT = 0,
	PB_FIXED64 = 1,
	PB_BYTES = 2,
	PB_GROUP = 3,
	PB_END_GROUP = 4,
	PB_FIXED32 = 5
};

struct pb_field {
	uint32_t number;
	enum pb_wire wire;
	uint64_t value;	   /* varint, fixed */
	struct span bytes; /* PB_BYTES: lent */
};

struct pb_reader {
	struct span rest;
};

/* Returns 1 with the next field (unknown groups are skipped whole), 0 at the end, -EPROTO when
 * malformed. */
int pb_next(struct pb_reader *reader, struct pb_field *field);

/* For readers of their own: the rest begins behind the first tag of a group of this number, and is
 * behind its last one afterwards. Returns 0 or -EPROTO. */
int pb_skip_group(struct pb_reader *reader, uint32_t number);

size_t pb_varint_bytes(uint64_t value);

/* Append a field unless it has the default value (proto3). Return buf's code. */
int pb_put_bytes(struct buf *out, uint32_t number, struct span bytes);
int pb_put_varint(struct buf *out, uint32_t number, uint64_t value);

/* Sizes of the same, for exact allocation. */
size_t pb_size_bytes(uint32_t number, struct span bytes);
size_t pb_size_varint(uint32_t number, uint64_t value);

/* Writers into memory known to be large enough; return the end. */
uint8_t *pb_write_bytes(uint8_t *at, uint32_t number, struct span bytes);
uint8_t *pb_write_varint(uint8_t *at, uint32_t number, uint64_t value);

#endif
