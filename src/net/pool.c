#include "net/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * About 2 MiB, 100 KiB and 1 MiB a thread: what a worker with a thousand busy connections turns
 * over.
 */
static const struct {
	size_t bytes, kept_max;
} kinds[POOL_KIND_COUNT] = {
	[POOL_CHUNK] = {POOL_CHUNK_BYTES, 1024},
	[POOL_SEND_SMALL] = {POOL_SEND_SMALL_BYTES, 256},
	[POOL_SEND_LARGE] = {POOL_SEND_LARGE_BYTES, 256},
};

struct free_block {
	struct free_block *next;
};

struct free_list {
	struct free_block *head;
	size_t count;
};

static _Thread_local struct free_list lists[POOL_KIND_COUNT];
static _Thread_local bool registered;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool key_made;

static void free_lists(void *unused)
{
	(void)unused;
	registered = false;
	for (size_t kind = 0; kind < POOL_KIND_COUNT; kind++) {
		while (lists[kind].head) {
			struct free_block *block = lists[kind].head;

			lists[kind].head = block->next;
			free(block);
		}
		lists[kind].count = 0;
	}
}

static void make_key(void)
{
	key_made = pthread_key_create(&key, free_lists) == 0;
}

/* The key's only use is to run free_lists when the thread ends. */
static bool thread_is_registered(void)
{
	if (!registered && pthread_once(&once, make_key) == 0 && key_made)
		registered = pthread_setspecific(key, lists) == 0;
	return registered;
}

void *pool_take(enum pool_kind kind)
{
	struct free_list *list = &lists[kind];
	struct free_block *block = list->head;

	if (!block)
		return malloc(kinds[kind].bytes);
	list->head = block->next;
	list->count--;
	return block;
}

void pool_give(enum pool_kind kind, void *pointer)
{
	struct free_list *list = &lists[kind];
	struct free_block *block = pointer;

	if (!block)
		return;
	if (list->count >= kinds[kind].kept_max || !thread_is_registered()) {
		free(block);
		return;
	}
	block->next = list->head;
	list->head = block;
	list->count++;
}

size_t pool_kept(enum pool_kind kind)
{
	return lists[kind].count;
}
