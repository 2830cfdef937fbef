/*
 * fuzz: what the fuzz targets share. Each target is one file: libFuzzer calls
 * LLVMFuzzerTestOneInput with any bytes; a broken CHECK, a sanitizer's finding or a leak is a
 * finding. Corpus: tests/fuzz/corpus/<name>/.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "base/check.h"
#include "base/span.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input's first bytes steer, the rest is the matter. Nothing is left: zero. */
static inline uint8_t fuzz_byte(struct span *input)
{
	if (input->len == 0)
		return 0;

	uint8_t byte = (uint8_t)input->data[0];

	*input = span_from(*input, 1);
	return byte;
}

/* The part up to the next `mark`, which is taken too; else all. */
static inline struct span fuzz_until(struct span *input, char mark)
{
	const char *end = input->len ? memchr(input->data, mark, input->len) : NULL;
	size_t len = end ? (size_t)(end - (const char *)input->data) : input->len;
	struct span part = span_make(input->data, len);

	*input = span_from(*input, end ? len + 1 : len);
	return part;
}

/*
 * A copy on the heap of exactly these bytes, so that a read beyond them is found. Freed by the
 * caller; never NULL.
 */
static inline uint8_t *fuzz_copy(struct span bytes)
{
	uint8_t *copy = malloc(bytes.len ? bytes.len : 1);

	CHECK(copy);
	if (bytes.len)
		memcpy(copy, bytes.data, bytes.len);
	return copy;
}

#endif
