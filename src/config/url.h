/* url: the base address of a service behind the gateway that speaks HTTP. Any thread. */
#ifndef CONFIG_URL_H
#define CONFIG_URL_H

#include "base/endpoint.h"

#define URL_PATH_MAX 512

struct config_url {
	bool set;		     /* false: empty */
	struct endpoint endpoint;    /* ENDPOINT_HOST; port 80 where the text has none */
	char path[URL_PATH_MAX + 1]; /* begins with '/', ends without: "/auth"; or "" */
};

#define URL_TEXT_MAX (ENDPOINT_TEXT_MAX + URL_PATH_MAX + 8)

/*
 * "http://host[:port][/path]"; empty text gives one that is not set. No https (put a TLS proxy in
 * between), no user information, query or fragment.
 * Returns 0, or -EINVAL with the reason: static text that goes behind "<value> ".
 */
int url_parse(struct span text, struct config_url *url, const char **why);

/* Writes text that parses back to the same, NUL-terminated. Returns its length. */
size_t url_format(const struct config_url *url, char text[URL_TEXT_MAX]);

#endif
