#include "auth/secrets.h"

#include "base/check.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/*
 * A handful of private keys with what is computed from them: an RSA key of 4096 bits takes about 4 KiB.
 * Locked pages are few where RLIMIT_MEMLOCK is small. A power of two, both.
 */
#define SECURE_HEAP_BYTES ((size_t)64 << 10)
#define SECURE_HEAP_LEAST ((size_t)32)

static enum { HEAP_NONE, HEAP_UNLOCKED, HEAP_LOCKED } heap;

static void *plain_alloc(size_t bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	return malloc(bytes);
}

static void wiping_free(void *memory, const char *file, int line)
{
	(void)file;
	(void)line;
	if (memory)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

/* realloc would leave the old copy where it was. */
static void *wiping_realloc(void *memory, size_t bytes, const char *file, int line)
{
	if (!memory)
		return plain_alloc(bytes, file, line);
	if (bytes == 0) {
		wiping_free(memory, file, line);
		return NULL;
	}

	size_t had = malloc_usable_size(memory);

	if (bytes <= had && bytes > had / 2)
		return memory;

	void *moved = malloc(bytes);

	if (!moved)
		return NULL;
	memcpy(moved, memory, had < bytes ? had : bytes);
	wiping_free(memory, file, line);
	return moved;
}

int secrets_init(void)
{
	if (heap != HEAP_NONE)
		return 0;
	if (CRYPTO_set_mem_functions(plain_alloc, wiping_realloc, wiping_free) != 1)
		return -EBUSY;
	/* 1: all of it; 2: the pages are there, but could not be locked or guarded. */
	int made = CRYPTO_secure_malloc_init(SECURE_HEAP_BYTES, SECURE_HEAP_LEAST);

	if (made == 0)
		return -ENOMEM;
	heap = made == 1 ? HEAP_LOCKED : HEAP_UNLOCKED;
	return 0;
}

bool secrets_are_locked(void)
{
	return heap == HEAP_LOCKED;
}
