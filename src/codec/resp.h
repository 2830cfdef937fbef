/*
 * resp: Redis protocol, RESP2, by hiredis's reader and formatter, without I/O. One thread at a
 * time.
 *
 * Lengths are bounded by an own walk before hiredis sees the bytes (its reader accepts any).
 */
#ifndef CODEC_RESP_H
#define CODEC_RESP_H

#include "base/buf.h"

enum resp_type { RESP_STRING, RESP_STATUS, RESP_ERROR, RESP_INTEGER, RESP_NIL, RESP_ARRAY };

struct resp_value {
	enum resp_type type;
	struct span text; /* string, status, error: NUL-terminated behind len as well */
	int64_t integer;
	size_t count; /* array */
	struct resp_value **items;
};

struct resp_limits {
	size_t value_bytes_max; /* a reply with everything in it */
	size_t items_max;	/* elements of one array */
	uint32_t depth_max;	/* ≤ 7, hiredis's own bound */
};

struct resp_reader;

/* Returns NULL without memory. */
struct resp_reader *resp_reader_create(const struct resp_limits *limits);
void resp_reader_destroy(struct resp_reader *reader);

/*
 * Takes all bytes. Returns 0, or -EPROTO (malformed, over a limit: the stream is lost), -ENOMEM;
 * an error sticks.
 */
int resp_reader_feed(struct resp_reader *reader, struct span bytes);

/*
 * Returns 1 with the next reply (the caller's: resp_value_free), 0 when more bytes are needed, or a
 * negative code as feed; replies that were whole before the fault come first.
 */
int resp_reader_next(struct resp_reader *reader, struct resp_value **value);

void resp_value_free(struct resp_value *value);

/* Appends one command. Returns 0 or buf's code. Binary-safe. */
int resp_format(struct buf *out, const struct span *args, size_t count);

bool resp_is_status(const struct resp_value *value, const char *text);

#endif
