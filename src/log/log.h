/*
 * log: one JSON object (or text line) per event on standard error. Any thread; one write per line.
 *
 * JSON: {"ts":"2026-01-02T03:04:05.678Z","level":"info","msg":"…","component":"…",fields…}
 * Text: 2026-01-02T03:04:05.678Z INFO component: msg key=value key="a value with blanks"
 *
 * Never pass a payload, key, signature or e-mail. Session ids go through LOG_SESSION.
 * A site (file and line of a LOG call) that repeats is held back after LOG_SITE_BURST lines per
 * second; its next line says how many were held ("held_back").
 *
 * A line never waits for the reader of the log: on a full pipe or socket it is dropped and counted,
 * whether or not the descriptor is O_NONBLOCK (that flag is not ours to set: the description may be
 * shared with the parent process). Sockets are written with MSG_DONTWAIT, pipes with RWF_NOWAIT;
 * where the kernel has that for no pipes (before 6.4), and on terminals, poll(2) is asked first, and
 * then a line can wait if another writer took the last room in between. Files are written as usual.
 * The process ignores SIGPIPE and SIGXFSZ: a reader that went away, or a file that may not grow, counts
 * as a full one. Where a full disk took a part of a line only, the next line that it takes begins anew.
 *
 * Source: edge.md §8.
 */
#ifndef LOG_LOG_H
#define LOG_LOG_H

#include "base/span.h"

#include <stdatomic.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_JSON, LOG_TEXT };

#define LOG_SITE_BURST 10 /* lines per second and site */
/*
 * Bytes of a line with its newline; PIPE_BUF, so that lines of several threads never mix. What does not
 * fit is left out, the line stays valid JSON and ends with "cut":true.
 */
#define LOG_LINE_MAX 4096
#define LOG_VALUE_MAX 1024 /* bytes of one value as written, so that one cannot push out the others */

struct log_options {
	enum log_level level;
	enum log_format format;
	int fd; /* standard error; tests give a pipe */
};

/* Before the first thread starts. Until then: info, JSON, standard error. */
void log_setup(const struct log_options *options);

bool log_enabled(enum log_level level);

/* "debug", "info", "warn", "error". */
const char *log_level_name(enum log_level level);

struct log_field {
	const char *name;
	enum {
		LOG_FIELD_SPAN,
		LOG_FIELD_INT,
		LOG_FIELD_UINT,
		LOG_FIELD_MS,
		LOG_FIELD_BOOL,
		LOG_FIELD_SESSION
	} kind;
	union {
		struct span text;
		int64_t number;
		uint64_t count;
		bool flag;
	};
};

#define LOG_FIELD_(field, kind_, member, value) \
	((struct log_field){ .name = (field), .kind = (kind_), .member = (value) })

#define LOG_TEXT(field, cstr)    LOG_FIELD_(field, LOG_FIELD_SPAN, text, span_from_cstr(cstr))
#define LOG_BYTES(field, value)  LOG_FIELD_(field, LOG_FIELD_SPAN, text, value)
#define LOG_INT(field, value)    LOG_FIELD_(field, LOG_FIELD_INT, number, (int64_t)(value))
#define LOG_UINT(field, value)   LOG_FIELD_(field, LOG_FIELD_UINT, count, (uint64_t)(value))
#define LOG_FLAG(field, value)   LOG_FIELD_(field, LOG_FIELD_BOOL, flag, value)
/* Microseconds, printed as milliseconds with three decimals. */
#define LOG_MS(field, us)        LOG_FIELD_(field, LOG_FIELD_MS, count, (uint64_t)(us))
/* Cut to its first 8 characters. */
#define LOG_SESSION(value)       LOG_FIELD_("session", LOG_FIELD_SESSION, text, value)

struct log_site {
	_Atomic uint64_t window_ms; /* when the second this site counts in began; monotonic clock */
	_Atomic uint32_t count;     /* lines asked for in it */
	_Atomic uint32_t held_back; /* not yet told */
};

/*
 * Fields end at the first with name NULL. Bytes that are no UTF-8 come out as U+FFFD.
 * `site` NULL: never held back.
 */
void log_write(struct log_site *site, enum log_level level, const char *component,
	       const char *message, const struct log_field *fields);

/* LOG(LOG_WARN, "redis", "connection lost", LOG_TEXT("role", role), LOG_INT("error", code)) */
#define LOG(level, component, message, ...)                                                     \
	do {                                                                                    \
		static struct log_site log_site_;                                               \
		if (log_enabled(level))                                                         \
			log_write(&log_site_, (level), (component), (message),                  \
				  &(const struct log_field[]){ { 0 }, ##__VA_ARGS__, { 0 } }[1]); \
	} while (0)

/* Lines that could not be written (a full pipe, a reader gone): dropped, never waited for. */
uint64_t log_dropped_count(void);

#endif
