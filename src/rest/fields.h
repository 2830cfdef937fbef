/*
 * fields: small texts that browsers send: cookies, bearer tokens, queries, percent-encoding. Pure.
 */
#ifndef REST_FIELDS_H
#define REST_FIELDS_H

#include "base/buf.h"

/*
 * The value of the first cookie with this name in a Cookie header, quotes taken off. Returns false
 * when it is not there. Source: RFC 6265 §5.4.
 */
bool cookie_find(struct span header, struct span name, struct span *value);

/* "Bearer <token>". Returns false when it is another scheme or none. Source: RFC 6750 §2.1. */
bool bearer_find(struct span header, struct span *token);

/* What a '+' or a "%2F" is. */
enum percent_form {
	PERCENT_PATH,	   /* '+' is a plus */
	PERCENT_PATH_MANY, /* as PERCENT_PATH, and "%2F" stays: it is no separator */
	PERCENT_QUERY	   /* '+' is a space */
};

/* Appends the decoded bytes. Returns 0, -EINVAL (% without two digits), or buf's code. */
int percent_decode(struct span text, enum percent_form form, struct buf *out);

/* Appends the text with all but RFC 3986's unreserved bytes encoded. Returns buf's code. */
int percent_encode(struct span text, struct buf *out);

/* Walks "a=1&b=2": takes the next pair off `query`, both still encoded. Empty pairs are passed
 * over. Returns false at the end. */
bool query_next(struct span *query, struct span *name, struct span *value);

/* The decoded value of the first parameter with this name. Returns 0, -ENOENT, -EINVAL, buf's code.
 */
int query_find(struct span query, struct span name, struct buf *value);

/*
 * Whether a browser may be sent to this path of ours: begins with one '/', has no backslash and no
 * control byte, so that it cannot mean another host.
 */
bool path_is_local(struct span path);

/* Whether it may be the value of a gRPC header: printable ASCII, else a peer may refuse the call.
 * Source: grpc/doc/PROTOCOL-HTTP2.md, ASCII-Value. */
bool text_is_printable(struct span text);

#endif
