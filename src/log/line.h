/* line: the bytes of one log line, in a fixed buffer. Pure: no clock, no descriptor. Any thread. */
#ifndef LOG_LINE_H
#define LOG_LINE_H

#include "log/log.h"

struct line {
	enum log_format format;
	bool cut;   /* something did not fit */
	size_t len; /* bytes used; room for the end of the line is always kept */
	uint8_t bytes[LOG_LINE_MAX];
};

struct line_head {
	int64_t unix_ms;
	enum log_level level;
	const char *component;
	const char *message;
	uint32_t held_back; /* 0: not mentioned */
};

void line_begin(struct line *line, enum log_format format, const struct line_head *head);
void line_add(struct line *line, const struct log_field *field);

/* The finished line with its newline. Lifetime: the line. */
struct span line_end(struct line *line);

#endif
