/*
 * planned: configuration files with a section rest, made into plans, over the descriptors of
 * tests/conformance/proto.
 */
#ifndef UNIT_REST_PLANNED_H
#define UNIT_REST_PLANNED_H

#include "config/config.h"
#include "conformance/descriptors.h"
#include "rest/plan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* The first five lines of each file; what a test writes begins on line 6, in the section rest. */
#define PLANNED_HEAD                                                                               \
	"descriptor_sets: ['%s']\n"                                                                \
	"upstreams:\n"                                                                             \
	"  shop: { addresses: ['127.0.0.1:1'] }\n"                                                 \
	"rest:\n"                                                                                  \
	"  auth: { upstream: shop }\n"

struct planned {
	struct config_file *file; /* NULL: mistakes */
	const struct plan *plan;
	char report[16384];
};

static inline void write_temporary(char path[64], struct span bytes)
{
	snprintf(path, 64, "/tmp/test-rest-XXXXXX");
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	if (bytes.len > 0)
		assert_int_equal(write(fd, bytes.data, bytes.len), bytes.len);
	close(fd);
}

/* Of these descriptors, `text` with one %s for their path. Lines of the report begin "6:30: ". */
static inline struct planned plan_text(const char *text, struct span descriptors)
{
	struct planned planned = {.report = ""};
	char set[64], path[64], whole[16384];
	struct buf report;

	write_temporary(set, descriptors);
	snprintf(whole, sizeof(whole), text, set);
	write_temporary(path, span_from_cstr(whole));
	buf_init(&report, sizeof(planned.report) - 1);
	planned.file = config_file_load(path, plan_compile, &report);
	planned.plan = planned.file ? plan_of(planned.file) : NULL;
	unlink(path);
	unlink(set);

	/* without the names of the files, which are never the same */
	struct span rest = buf_span(&report);
	size_t len = 0;

	while (rest.len > 0) {
		if (span_starts_with(rest, span_from_cstr(path)))
			rest = span_from(rest, strlen(path) + 1);
		if (rest.len > 0 && span_starts_with(rest, span_from_cstr(set))) {
			len += (size_t)snprintf(planned.report + len, sizeof(planned.report) - len,
						"SET");
			rest = span_from(rest, strlen(set));
			continue;
		}
		planned.report[len++] = (char)rest.data[0];
		rest = span_from(rest, 1);
	}
	planned.report[len] = '\0';
	buf_finish(&report);
	return planned;
}

/* What stands below PLANNED_HEAD. */
static inline struct planned plan_rest(const char *rest)
{
	char text[8192];

	snprintf(text, sizeof(text), "%s%s", PLANNED_HEAD, rest);
	return plan_text(text, test_descriptors());
}

static inline void planned_finish(struct planned *planned)
{
	config_file_put(planned->file);
}

/* The route of a method and a path, or NULL. */
static inline const struct plan_route *planned_find(const struct planned *planned,
						    const char *method, const char *path,
						    struct table_match *match)
{
	char allow[TABLE_ALLOW_MAX];

	return table_find(planned->plan->table, span_from_cstr(method), span_from_cstr(path), match,
			  allow) == TABLE_FOUND
		       ? match->target
		       : NULL;
}

#endif
