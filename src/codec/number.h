/*
 * number: numbers as JSON writes them, fast and exact. Pure; any thread.
 * Source: RFC 8259 section 6; Giulietti, "The Schubfach way to render doubles"; Lemire, "Number
 * parsing at a gigabyte per second".
 */
#ifndef CODEC_NUMBER_H
#define CODEC_NUMBER_H

#include "base/span.h"

#define NUMBER_TEXT_BYTES 32   /* room that any of the writers may need */
#define NUMBER_BYTES_MAX  1024 /* of a number that is read: more digits than any double needs */

/* Makes the table of powers that the rest makes at its first use: some ms that no request should
 * wait for. */
void number_prepare(void);

/* Write the shortest text that reads back as the same value; return its end. */
uint8_t *number_write_uint64(uint8_t *at, uint64_t value);
uint8_t *number_write_int64(uint8_t *at, int64_t value);
uint8_t *number_write_double(uint8_t *at, double value); /* finite */
uint8_t *number_write_float(uint8_t *at, float value);	 /* finite */

/* A number that was read: (-1)^negative × mantissa × 10^exponent, if it is exact. */
struct number {
	struct span text; /* lent */
	uint64_t mantissa;
	int32_t exponent;
	bool negative;
	bool exact; /* false: digits that do not fit were left out, so it is a little more */
};

/*
 * Reads the number that `text` begins with. Returns the bytes taken, 0 when there is none (JSON's
 * grammar: no plus, no leading zeros) or it is longer than NUMBER_BYTES_MAX.
 */
size_t number_scan(struct span text, struct number *number);

/* Whether it is a whole number and its magnitude fits. 1.0 and 1e3 are whole. */
bool number_to_uint64(const struct number *number, uint64_t *magnitude);

/* The nearest; infinite when it is too large. */
double number_to_double(const struct number *number);
float number_to_float(const struct number *number);

#endif
