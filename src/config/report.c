#include "config/report.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>

#define REPORT_TEXT_MAX 1024 /* bytes of one mistake; names and values in it are cut before */
#define NAME_BYTES_MAX  128

static void write_row(struct buf *out, const char *kind, const char *where, const char *text)
{
	/* One append, so that a full buffer ends with a whole line. */
	buf_printf(out, "%s%s: %s\n", kind, where, text);
}

void report_mistake(struct report *report, const char *where, const char *format, ...)
{
	char text[REPORT_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report->mistake_count++;
	write_row(report->out, "", where, text);
}

void report_warning(struct report *report, const char *where, const char *format, ...)
{
	char text[REPORT_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	write_row(report->out, "warning: ", where, text);
}

struct quoted quoted_make(struct span text)
{
	static const char hex[] = "0123456789abcdef";
	struct quoted quoted;
	size_t shown = text.len < QUOTED_MAX ? text.len : QUOTED_MAX;
	size_t at = 0;

	quoted.text[at++] = '"';
	for (size_t i = 0; i < shown; i++) {
		uint8_t byte = text.data[i];

		if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
			quoted.text[at++] = (char)byte;
			continue;
		}
		quoted.text[at++] = '\\';
		quoted.text[at++] = 'x';
		quoted.text[at++] = hex[byte >> 4];
		quoted.text[at++] = hex[byte & 15];
	}
	quoted.text[at++] = '"';
	if (shown < text.len) {
		memcpy(quoted.text + at, "...", 3);
		at += 3;
	}
	CHECK(at < sizeof(quoted.text));
	quoted.text[at] = '\0';
	return quoted;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Optimal string alignment: three rows of the table are enough. */
size_t name_distance(struct span a, struct span b)
{
	size_t rows[3][NAME_BYTES_MAX + 1];
	size_t *before = rows[0], *last = rows[1], *row = rows[2];

	a.len = least(a.len, NAME_BYTES_MAX);
	b.len = least(b.len, NAME_BYTES_MAX);
	for (size_t j = 0; j <= b.len; j++)
		before[j] = last[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t change = last[j - 1] + (a.data[i - 1] != b.data[j - 1]);

			row[j] = least(change, least(last[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] &&
			    a.data[i - 2] == b.data[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}

		size_t *spare = before;

		before = last;
		last = row;
		row = spare;
	}
	return last[b.len];
}
