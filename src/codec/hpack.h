/*
 * hpack: header blocks outside a session, by nghttp2's inflater: one that stands alone (its peer
 * was told SETTINGS_HEADER_TABLE_SIZE 0), or all blocks of a connection in order. One thread at a
 * time. Source: RFC 7541.
 */
#ifndef CODEC_HPACK_H
#define CODEC_HPACK_H

#include "base/span.h"

/* One field, in order. Lent. */
typedef void hpack_field_fn(void *context, struct span name, struct span value);

/*
 * Returns 0, -EPROTO (malformed, or it leans on a table that is not there) or -ENOMEM; fields in
 * front of the fault have been told.
 */
int hpack_read(struct span block, hpack_field_fn *field, void *context);

/* What a connection's blocks share: a table of 4,096 bytes, the default of both sides. */
struct hpack;

/* Returns 0 or -ENOMEM. */
int hpack_create(struct hpack **hpack);
void hpack_destroy(struct hpack *hpack); /* NULL is allowed */

/* Every block of the connection, in order. Returns as hpack_read; after a fault it is of no use. */
int hpack_decode(struct hpack *hpack, struct span block, hpack_field_fn *field, void *context);

/*
 * Whether a well-formed block leaves the table as it is. The same bytes mean the same again then,
 * until another block changes the table.
 */
bool hpack_is_neutral(struct span block);

#endif
