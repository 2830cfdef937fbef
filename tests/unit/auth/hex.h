/* hex: what the vectors are written in. */
#ifndef TESTS_UNIT_AUTH_HEX_H
#define TESTS_UNIT_AUTH_HEX_H

#include "base/span.h"

#include <sodium.h>
#include <stdlib.h>

#define HEX_BYTES_MAX 1024

struct bytes {
	size_t len;
	uint8_t data[HEX_BYTES_MAX];
};

static inline struct bytes bytes_from_hex(const char *hex)
{
	struct bytes bytes = { .len = 0 };

	if (sodium_hex2bin(bytes.data, sizeof(bytes.data), hex, strlen(hex), NULL, &bytes.len,
			   NULL) != 0)
		abort();
	return bytes;
}

static inline struct span bytes_span(const struct bytes *bytes)
{
	return span_make(bytes->data, bytes->len);
}

#endif
