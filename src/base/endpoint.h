/* endpoint: the address forms of the contract (edge.md §1) as parts; no look-up. Any thread. */
#ifndef BASE_ENDPOINT_H
#define BASE_ENDPOINT_H

#include "base/span.h"

#define ENDPOINT_HOST_MAX 253 /* RFC 1035 §2.3.4, without the root's dot */
#define ENDPOINT_PATH_MAX 107 /* sun_path less its NUL */

enum endpoint_kind {
	ENDPOINT_ANY,  /* ":port": every address */
	ENDPOINT_HOST, /* "host:port", "1.2.3.4:port", "[v6]:port" */
	ENDPOINT_UNIX, /* "unix:/path" */
};

struct endpoint {
	enum endpoint_kind kind;
	uint16_t port;
	char host[ENDPOINT_HOST_MAX + 1]; /* without brackets */
	char path[ENDPOINT_PATH_MAX + 1];
};

/* Returns 0 or -EINVAL. Port 0 is allowed: the kernel chooses (listeners only). */
int endpoint_parse(struct span text, struct endpoint *endpoint);

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

/* Writes the text form, NUL-terminated. Returns its length; `text` has room for ENDPOINT_TEXT_MAX. */
#define ENDPOINT_TEXT_MAX (ENDPOINT_HOST_MAX + 16)
size_t endpoint_format(const struct endpoint *endpoint, char text[ENDPOINT_TEXT_MAX]);

/*
 * What went wrong at this address, by a negative errno: of a host, -ENOENT and -EIO are its name's
 * (dns_done_fn), no file's. Lifetime: static.
 */
const char *endpoint_error_text(const struct endpoint *endpoint, int error);

#endif
