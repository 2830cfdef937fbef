/*
 * set_cookie: the value of a Set-Cookie header, of a cookie that pages cannot read and that goes to
 * this host alone, over TLS. Pure. Source: RFC 6265 §4.1, api.md §4.
 */
#ifndef REST_SET_COOKIE_H
#define REST_SET_COOKIE_H

#include "base/buf.h"

#define COOKIE_DAYS_MAX 400 /* browsers keep none longer: RFC 6265bis §5.5 */

struct set_cookie {
	const char *name;
	struct span value;
	const char *path;
	uint64_t now_s, expires_s; /* since 1970. expires_s 0: with the browser; ≤ now_s: at once */
};

/* Whether the bytes can be a cookie's value as they are. */
bool set_cookie_can_hold(struct span value);

/* Returns buf's code. */
int set_cookie_write(const struct set_cookie *cookie, struct buf *out);

#endif
