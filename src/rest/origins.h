/* origins: what other sites' pages may do. Pure. Source: api.md §4, §5; Fetch standard §3.2, §3.3.
 */
#ifndef REST_ORIGINS_H
#define REST_ORIGINS_H

#include "base/span.h"
#include "config/rest.h"

/*
 * Whether a write that a cookie vouches for comes from a page of ours: Origin, or where there is
 * none Referer, is one of `allowed`. Neither: no.
 */
bool origins_vouch(const struct config_texts *allowed, struct span origin, struct span referer);

/* The origin of an absolute URL ("https://a.b:1/c?d" → "https://a.b:1"); empty when it is none. */
struct span origin_of_url(struct span url);

/* Headers of an answer to a page of another origin. */
struct cors {
	struct span allow_origin; /* empty: none, the browser keeps the answer from the page */
	bool allow_credentials;
	bool vary; /* Vary: Origin, because another origin gets another answer */
};

/* `origin` empty: no page of another origin asked. */
struct cors cors_judge(const struct config_rest_cors *rules, struct span origin);

#endif
