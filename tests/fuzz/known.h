/* known: where libprotobuf 3.21 reads a JSON text in a way of its own. */
#ifndef TESTS_FUZZ_KNOWN_H
#define TESTS_FUZZ_KNOWN_H

#include "fuzz/fuzz.h"
#include "fuzz/oracle.h"

#include <string.h>

/* Whether there is a number that a double does not hold, which is what libprotobuf reads it as when
 * it has a point or an exponent. */
static inline bool has_long_number(struct span text)
{
	size_t run = 0;

	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = text.data[i];

		run = (byte >= '0' && byte <= '9') || byte == '.' ? run + 1 : 0;
		if (run > 15)
			return true;
	}
	return false;
}

/* Where libprotobuf 3.21 is known to refuse or differ. */
static inline bool is_known_difference(struct span text, const char *why)
{
	static const char *const known[] = {
		"Message too deep", /* it counts brackets */
		"null_value",	    /* any number of a NullValue is null */
		"NULL_VALUE",	    /* null for a list of Values is a null in it to libprotobuf */
		": -0\n",	    /* it reads -0 as a whole number and loses the sign */
		"Invalid type URL", /* it takes type.googleapis.com/ only */
		"field_mask",	    /* runs of capitals in a path stay together */
		"must have a name", /* an empty member name, in what is ignored too */
		"TYPE_INT",	    /* whole numbers in quotes: digits only */
		"TYPE_BYTES",	    /* bits left over at the end of base64 */
		"TYPE_UINT",	    "TYPE_SINT", "TYPE_FIXED", "TYPE_SFIXED",
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strstr(why, known[i]))
			return true;
	}
	/* an Empty with a "value", as some write it */
	return has_long_number(text) || memmem(text.data, text.len, ".Empty", 6);
}

#endif
