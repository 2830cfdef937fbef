/* option: the rows of option.def as data, and how one is set and shown. Thread: one at a time. */
#ifndef CONFIG_OPTION_H
#define CONFIG_OPTION_H

#include "config/config.h"
#include "config/report.h"

enum option_kind {
	OPTION_KIND_STRING,
	OPTION_KIND_SECRET,
	OPTION_KIND_ENDPOINT,
	OPTION_KIND_URL,
	OPTION_KIND_CIDRS,
	OPTION_KIND_DURATION,
	OPTION_KIND_SIZE,
	OPTION_KIND_COUNT,
	OPTION_KIND_BOOL,
	OPTION_KIND_LEVEL,
	OPTION_KIND_FORMAT,
	OPTION_KIND_ACCESS
};

#define OPTION_REQUIRED     1u /* of the edge gateway: any one set, all are needed */
#define OPTION_POWER_OF_TWO 2u
#define OPTION_DIALED       4u /* an endpoint that we connect to: a host and a port, or a path */
#define OPTION_EDGE	    8u /* of no effect without the edge gateway */

struct option_row {
	const char *variable, *fallback, *help;
	enum option_kind kind;
	unsigned flags;
	uint64_t min, max; /* of a string: bytes */
	size_t offset;     /* in struct config */
};

size_t option_count(void);
const struct option_row *option_row(size_t i);

/*
 * Parses and stores. A mistake is reported under `where` and leaves the field as it was.
 * Owns: strings are copied into the config's arena.
 * Returns 0, -EINVAL (reported) or -ENOMEM (not reported).
 */
int option_set(const struct option_row *row, struct config *config, struct span text,
	       struct report *report);

/* The value as it would be given; a secret as "********". */
void option_write_value(const struct option_row *row, const struct config *config, struct buf *out);

/* What may be given: "1ms to 1m", "debug, info, warn or error"; nothing for free text. */
void option_write_range(const struct option_row *row, struct buf *out);

/* Strings and secrets only. NULL before the first option_set. */
const char *option_string(const struct option_row *row, const struct config *config);

/* Of a secret only: wipes it and gives its memory back. */
void option_forget(const struct option_row *row, struct config *config);

/* Whether an endpoint, URL, string or secret has a value that is not empty; true for all others. */
bool option_is_filled(const struct option_row *row, const struct config *config);

/* 0 or -EINVAL with the reason reported: for an endpoint that we connect to. */
int option_check_dialed(const struct endpoint *endpoint, const char *where, struct report *report);

#endif
