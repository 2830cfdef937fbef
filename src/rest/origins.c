#include "rest/origins.h"

static bool has(const struct config_texts *origins, struct span origin)
{
	for (size_t i = 0; i < origins->count; i++) {
		if (span_equal(span_from_cstr(origins->items[i].text), origin))
			return true;
	}
	return false;
}

struct span origin_of_url(struct span url)
{
	ptrdiff_t colon = span_find_byte(url, ':');

	if (colon <= 0 || !span_starts_with(span_from(url, (size_t)colon), SPAN("://")))
		return SPAN_EMPTY;

	size_t len = (size_t)colon + 3;

	while (len < url.len && !memchr("/?#", url.data[len], 3))
		len++;
	return len > (size_t)colon + 3 ? span_first(url, len) : SPAN_EMPTY;
}

bool origins_vouch(const struct config_texts *allowed, struct span origin, struct span referer)
{
	/* "null", as a sandboxed frame sends, is in no list. */
	if (origin.len > 0)
		return has(allowed, origin);

	struct span of_referer = origin_of_url(referer);

	return of_referer.len > 0 && has(allowed, of_referer);
}

struct cors cors_judge(const struct config_rest_cors *rules, struct span origin)
{
	bool any = has(&rules->origins, SPAN("*"));
	struct cors cors = {.vary = rules->origins.count > 0 && !any};

	if (origin.len == 0)
		return cors;
	if (any)
		cors.allow_origin = SPAN("*");
	else if (has(&rules->origins, origin))
		cors.allow_origin = origin;
	cors.allow_credentials = rules->credentials && cors.allow_origin.len > 0;
	return cors;
}
