/*
 * oracle: libprotobuf's C++ reading of the same bytes (tests/fuzz/oracle.cc), to compare with ours.
 * One thread. Types are those of tests/conformance/proto, by full name.
 */
#ifndef TESTS_FUZZ_ORACLE_H
#define TESTS_FUZZ_ORACLE_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oracle_bytes {
	const void *data;
	size_t len;
};

/* Once, before all else: the descriptor set in wire form. Aborts when it cannot be used. */
void oracle_start(struct oracle_bytes descriptor_set);

/* Whether the wire can be parsed. */
bool oracle_parses(const char *type, struct oracle_bytes wire);

/* Whether it can be parsed and has a JSON text. */
bool oracle_writes(const char *type, struct oracle_bytes wire);

#define ORACLE_UNPARSED "the wire does not parse" /* a `why` */

enum oracle_verdict {
	ORACLE_SAME,
	ORACLE_REFUSED, /* the text cannot be read */
	ORACLE_DIFFERS
};

/*
 * Whether the text reads as the message that is in the wire, its unknown fields aside. `why` gets a
 * line to print, from static memory.
 */
enum oracle_verdict oracle_compare(const char *type, struct oracle_bytes text,
				   struct oracle_bytes wire, bool ignore_unknown, const char **why);

#ifdef __cplusplus
}
#endif

#endif
