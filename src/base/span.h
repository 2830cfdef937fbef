/* span: a borrowed run of bytes, never owned, never NUL-terminated. Any thread. */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const uint8_t *data; /* may be NULL only when len is 0 */
	size_t len;          /* bytes */
};

#define SPAN_EMPTY ((struct span){ .data = NULL, .len = 0 })

/* A string literal as a span, without its NUL. */
#define SPAN(literal) \
	((struct span){ .data = (const uint8_t *)("" literal), .len = sizeof(literal) - 1 })

/*
 * For clang's analyzer, which takes any look at `data` for a hint that it may be NULL in spite of a
 * length; nothing to a compiler.
 */
#ifdef __clang_analyzer__
#define SPAN_HOLDS(span) ((span).data || (span).len == 0 ? (void)0 : __builtin_unreachable())
#else
#define SPAN_HOLDS(span) ((void)0)
#endif

/* printf: "%.*s", SPAN_ARGS(span). Only for text known to be free of NUL. */
#define SPAN_ARGS(span) (int)(span).len, (span).data ? (const char *)(span).data : ""

static inline struct span span_make(const void *data, size_t len)
{
	return (struct span){ .data = data, .len = len };
}

/* NULL gives the empty span. */
static inline struct span span_from_cstr(const char *text)
{
	return span_make(text, text ? strlen(text) : 0);
}

/* Not constant time: never for secrets. */
static inline bool span_equal(struct span a, struct span b)
{
	SPAN_HOLDS(a);
	SPAN_HOLDS(b);
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool span_starts_with(struct span text, struct span prefix)
{
	return text.len >= prefix.len && span_equal(span_make(text.data, prefix.len), prefix);
}

/* The part from `offset` on; offset ≤ len. */
static inline struct span span_from(struct span text, size_t offset)
{
	SPAN_HOLDS(text);
	if (!text.data)
		return SPAN_EMPTY;
	return span_make(text.data + offset, text.len - offset);
}

/* The first `len` bytes; len ≤ text.len. */
static inline struct span span_first(struct span text, size_t len)
{
	return span_make(text.data, len);
}

/* Two runs of `len` bytes, ASCII case folded. */
bool bytes_equal_nocase(const uint8_t *a, const uint8_t *b, size_t len);

/* ASCII case folded. */
static inline bool span_equal_nocase(struct span a, struct span b)
{
	return a.len == b.len && bytes_equal_nocase(a.data, b.data, a.len);
}

/* Returns the index of `byte`, or -1. */
static inline ptrdiff_t span_find_byte(struct span text, uint8_t byte)
{
	SPAN_HOLDS(text);

	const uint8_t *found = text.len > 0 ? memchr(text.data, byte, text.len) : NULL;

	return found ? found - text.data : -1;
}

/* Without leading and trailing spaces and tabs. */
struct span span_trim(struct span text);

#define SPAN_DECIMAL_BYTES 20 /* 2^64 - 1 has 20 digits */

/* The number in decimal, at the end of `text`. */
struct span span_write_uint64(char text[SPAN_DECIMAL_BYTES], uint64_t value);

/* Strict decimal: digits only, no sign, no blank. Returns false on overflow or any other byte. */
bool span_to_uint64(struct span text, uint64_t *value);

/* As span_to_uint64, with one leading '-' allowed. */
bool span_to_int64(struct span text, int64_t *value);

/* Whether no byte is 0x80 or above. */
bool span_is_ascii(struct span text);

/* Whether this is well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong). NUL is allowed. */
bool span_is_utf8(struct span text);

#endif
