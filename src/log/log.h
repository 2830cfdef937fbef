/*
 * log: one JSON object (or text line) per event on standard error. Any thread; one write(2) per line.
 *
 * Never pass a payload, key, signature or e-mail. Session ids go through log_session.
 * A site (file and line of a LOG_* call) that repeats is held back after LOG_SITE_BURST lines per second;
 * its next line says how many were held ("held_back").
 */
#ifndef LOG_LOG_H
#define LOG_LOG_H

#include "base/span.h"

#include <stdatomic.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_JSON, LOG_TEXT };

#define LOG_SITE_BURST 10   /* lines per second and site */
#define LOG_LINE_MAX 4096   /* bytes; longer values are cut, the line stays valid JSON */

struct log_options {
	enum log_level level;
	enum log_format format;
	int fd;                  /* standard error; tests give a pipe */
};

/* Before the first thread starts. Until then: info, JSON, standard error. */
void log_setup(const struct log_options *options);

bool log_enabled(enum log_level level);

struct log_field {
	const char *name;
	enum { LOG_FIELD_SPAN, LOG_FIELD_INT, LOG_FIELD_UINT, LOG_FIELD_MS, LOG_FIELD_BOOL, LOG_FIELD_SESSION } kind;
	union {
		struct span text;
		int64_t number;
		uint64_t count;
		bool flag;
	};
};

#define LOG_TEXT(field, cstr) ((struct log_field){ .name = (field), .kind = LOG_FIELD_SPAN, .text = span_from_cstr(cstr) })
#define LOG_BYTES(field, value) ((struct log_field){ .name = (field), .kind = LOG_FIELD_SPAN, .text = (value) })
#define LOG_INT(field, value) ((struct log_field){ .name = (field), .kind = LOG_FIELD_INT, .number = (int64_t)(value) })
#define LOG_UINT(field, value) ((struct log_field){ .name = (field), .kind = LOG_FIELD_UINT, .count = (uint64_t)(value) })
#define LOG_FLAG(field, value) ((struct log_field){ .name = (field), .kind = LOG_FIELD_BOOL, .flag = (value) })
/* Microseconds, printed as milliseconds with three decimals. */
#define LOG_MS(field, us) ((struct log_field){ .name = (field), .kind = LOG_FIELD_MS, .count = (uint64_t)(us) })
/* Cut to its first 8 characters. */
#define LOG_SESSION(value) ((struct log_field){ .name = "session", .kind = LOG_FIELD_SESSION, .text = (value) })

struct log_site {
	_Atomic uint64_t window_ms; /* second this site counts in */
	_Atomic uint32_t count;     /* lines asked for in it */
	_Atomic uint32_t held_back;
};

/* Fields end at the first with name NULL. Bytes that are no UTF-8 come out as U+FFFD. */
void log_write(struct log_site *site, enum log_level level, const char *component, const char *message,
	       const struct log_field *fields);

/* LOG(LOG_WARN, "redis", "connection lost", LOG_TEXT("role", role), LOG_INT("error", code)) */
#define LOG(level, component, message, ...)                                                     \
	do {                                                                                    \
		static struct log_site log_site_;                                               \
		if (log_enabled(level))                                                         \
			log_write(&log_site_, (level), (component), (message),                  \
				  (const struct log_field[]){ __VA_ARGS__ __VA_OPT__(, ){ 0 } }); \
	} while (0)

/* Lines that could not be written (a full pipe): dropped, never waited for. */
uint64_t log_dropped_count(void);

#endif
