/* print: what the commands say on standard output, in words or as JSON; each line leaves at once.
 */
#ifndef CLIENT_PRINT_H
#define CLIENT_PRINT_H

#include "base/buf.h"

#include <stdio.h>

#define PRINT_BYTES_MAX (400u << 20) /* the largest payload, escaped */

/* A line of either kind, built field by field: `name: value` lines in words, one object in JSON. */
struct print {
	struct buf out;
	bool is_json, has_fields;
};

void print_init(struct print *print, bool is_json);

/* Plain words go to one line each: "name: value"; what is no text of one line as "base64:…". */
void print_text(struct print *print, const char *name, struct span value);
void print_number(struct print *print, const char *name, int64_t value);
/* Text as it is if it can be read, else "base64:…"; JSON has the member `<name>_base64` instead
 * then. */
void print_bytes(struct print *print, const char *name, struct span value);

/* Appends to the words only. */
void print_words(struct print *print, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A value among words: text of one line as it is, else "base64:…". */
void print_word_bytes(struct print *print, struct span value);

/* Writes, flushes and forgets. Returns false if standard output is gone. */
bool print_finish(struct print *print);

/* The same words on another stream. */
bool print_finish_to(struct print *print, FILE *out);

#endif
