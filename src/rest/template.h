/*
 * template: a path template of google.api.http: "/v1/{shelf=**}:publish". Pure.
 * Source: google/api/http.proto, "Path template syntax".
 *
 *   Template = "/" Segments [ ":" LITERAL ]      Segments = Segment { "/" Segment }
 *   Segment  = "*" | "**" | LITERAL | Variable   Variable = "{" FieldPath [ "=" Segments ] "}"
 */
#ifndef REST_TEMPLATE_H
#define REST_TEMPLATE_H

#include "base/span.h"

#define TEMPLATE_SEGMENTS_MAX  32
#define TEMPLATE_VARIABLES_MAX 16

enum template_segment_kind {
	TEMPLATE_LITERAL,
	TEMPLATE_ONE, /* "*": any segment that is not empty */
	TEMPLATE_REST /* "**": any number of segments, none too; the last one */
};

struct template_segment {
	enum template_segment_kind kind;
	struct span literal; /* as written, percent-encoding and all */
};

struct template_variable {
	struct span field;    /* dotted path */
	uint8_t first, count; /* segments it spans; the last may be TEMPLATE_REST */
	bool is_one;	      /* one segment: "%2F" in it is a slash */
};

/* Its spans are the text's. */
struct template
{
	struct template_segment segments[TEMPLATE_SEGMENTS_MAX];
	struct template_variable variables[TEMPLATE_VARIABLES_MAX];
	uint8_t segment_count, variable_count;
	struct span verb; /* without its colon; empty: none */
};

/*
 * Returns 0, or -EINVAL with `*why` static text that goes behind the template: "has …".
 * Lifetime: the text's.
 */
int template_parse(struct span text, struct template *template, const char **why);

#endif
