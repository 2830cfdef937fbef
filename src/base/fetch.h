/* fetch: tells the processor which memory will be touched soon. Changes nothing. */
#ifndef BASE_FETCH_H
#define BASE_FETCH_H

#include <stddef.h>
#include <stdint.h>

#define FETCH_LINE_BYTES 64

static inline void memory_fetch(const void *memory, size_t bytes)
{
	const uint8_t *at = memory;

	for (size_t offset = 0; offset < bytes; offset += FETCH_LINE_BYTES)
		__builtin_prefetch(at + offset);
}

#endif
