/* fetch: tells the processor which memory will be touched soon. Changes nothing. */
#ifndef BASE_FETCH_H
#define BASE_FETCH_H

#include <stddef.h>
#include <stdint.h>

#define FETCH_LINE_BYTES 64

static inline void memory_fetch(const void *memory, size_t bytes)
{
	const uint8_t *end = (const uint8_t *)memory + bytes;
	/* From its first line's beginning: else the last line would be left out. */
	const uint8_t *line =
		(const uint8_t *)memory - ((uintptr_t)memory & (FETCH_LINE_BYTES - 1));

	for (; line < end; line += FETCH_LINE_BYTES)
		__builtin_prefetch(line);
}

#endif
