/*
 * hpack: one header block that stands alone, without a session: what a peer sends that was told
 * SETTINGS_HEADER_TABLE_SIZE 0. By nghttp2's inflater. Any thread.
 * Source: RFC 7541.
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

#endif
