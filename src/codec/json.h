/* json: small documents by jansson, bounded. One thread at a time. */
#ifndef CODEC_JSON_H
#define CODEC_JSON_H

#include "base/buf.h"

struct json_document; /* an object */

/*
 * Parses one JSON object, UTF-8, no duplicate members, nothing behind it, no NUL in strings.
 * Returns 0, -EINVAL (malformed, not an object, over bytes_max or 32 levels) or
 * -ENOMEM; without memory it may be -EINVAL too, as jansson cannot always tell.
 */
int json_parse_object(struct json_document **document, struct span text, size_t bytes_max);
void json_free(struct json_document *document);

/* A string member, lent until json_free. Returns false when absent or not a string. */
bool json_get_string(const struct json_document *document, const char *name, struct span *value);

/* An integer member, or a string that is a strict decimal. Returns false when absent or neither. */
bool json_get_int64(const struct json_document *document, const char *name, int64_t *value);

/* An object member, lent until json_free of the whole; never freed by itself. NULL when absent or no
 * object. */
const struct json_document *json_get_object(const struct json_document *document, const char *name);

bool json_has(const struct json_document *document, const char *name);

/* Appends a quoted, escaped JSON string. Invalid UTF-8 comes out as U+FFFD. Returns buf's code. */
int json_append_string(struct buf *out, struct span text);

#endif
