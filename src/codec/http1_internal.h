/* http1_internal: what http1.c (heads) and http1_body.c (bodies) share. Nobody else includes it. */
#ifndef CODEC_HTTP1_INTERNAL_H
#define CODEC_HTTP1_INTERNAL_H

#include "codec/http1.h"

/* The row that a fault is answered by, negative. */
int http1_fault_code(enum http1_fault fault);

/* Whether the byte may stand in a token. RFC 9110 §5.6.2 */
static inline bool is_token_byte(uint8_t byte)
{
	/* clang-format off */
	static const bool table[256] = {
		['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true,
		['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true, ['&'] = true,
		['\''] = true, ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true,
		['^'] = true, ['_'] = true, ['`'] = true, ['|'] = true, ['~'] = true,
	};
	/* clang-format on */

	return table[byte];
}

/* Whether the byte may stand in a field value: visible, blank or beyond ASCII. RFC 9110 §5.5 */
static inline bool is_value_byte(uint8_t byte)
{
	return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
}

#endif
