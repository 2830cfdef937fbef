/* report: mistakes and warnings in a configuration, gathered one per line. Thread: one at a time. */
#ifndef CONFIG_REPORT_H
#define CONFIG_REPORT_H

#include "base/buf.h"

struct report {
	struct buf *out;
	size_t mistake_count; /* exact even when `out` is full */
};

/* "<where>: <text>". */
void report_mistake(struct report *report, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void report_warning(struct report *report, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define QUOTED_MAX 80 /* bytes of a value shown: enough to find it */

/* Foreign text made fit to print: in double quotes, controls and non-ASCII as \xNN, cut with "…". */
struct quoted {
	char text[QUOTED_MAX * 4 + 8];
};

struct quoted quoted_make(struct span text);

/* Steps (insert, drop, change, swap neighbours) from one name to the other; 128 bytes of each count. */
size_t name_distance(struct span a, struct span b);

#endif
