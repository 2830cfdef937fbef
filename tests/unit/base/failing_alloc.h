/*
 * failing_alloc: malloc, calloc and realloc that can be told to fail. A test includes this, then
 * the .c file under test, so that only that file's calls go through here (the archive's copy is then
 * not linked).
 */
#ifndef TESTS_FAILING_ALLOC_H
#define TESTS_FAILING_ALLOC_H

#include <stdbool.h>
#include <stdlib.h>

static long allocs_until_failure = -1; /* -1: never fail; 0: every call fails from now on */

static bool alloc_refused(void)
{
	if (allocs_until_failure < 0)
		return false;
	if (allocs_until_failure == 0)
		return true;
	allocs_until_failure--;
	return false;
}

__attribute__((unused)) static void *test_alloc_plain(size_t bytes)
{
	return alloc_refused() ? NULL : malloc(bytes);
}

__attribute__((unused)) static void *test_alloc_zeroed(size_t count, size_t bytes)
{
	return alloc_refused() ? NULL : calloc(count, bytes);
}

__attribute__((unused)) static void *test_alloc_again(void *memory, size_t bytes)
{
	return alloc_refused() ? NULL : realloc(memory, bytes);
}

#define malloc(bytes) test_alloc_plain(bytes)
#define calloc(count, bytes) test_alloc_zeroed(count, bytes)
#define realloc(memory, bytes) test_alloc_again(memory, bytes)

#endif
