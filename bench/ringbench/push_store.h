/*
 * push_store: many commands to Redis in a pipeline, on the crew's own ring. Thread: its worker's.
 */
#ifndef RINGBENCH_PUSH_STORE_H
#define RINGBENCH_PUSH_STORE_H

#include "redis/client.h"

#define PUSH_STORE_CALLS 4096

struct push_store;

struct push_call {
	struct redis_call call;
	struct push_store *store;
	struct push_call *next_free;
};

struct push_store {
	struct worker *worker;
	struct redis_client *client;
	struct push_call *calls, *free_calls;
	uint32_t waiting; /* for an answer */
	uint64_t failed;
	bool stopped;
	char why[160];
};

/* Connects, turning the worker meanwhile. Returns 0 or a negative errno with a sentence. */
int push_store_open(struct push_store *store, struct worker *worker,
		    const struct endpoint *endpoint);

/* Returns 0, or -EAGAIN: as many are waiting as may. Other failures are counted in `failed`. */
int push_store_send(struct push_store *store, const struct span *args, size_t count);

/* As push_store_send, turning the worker until there is room. Returns 0 or the ring's code. */
int push_store_send_all(struct push_store *store, const struct span *args, size_t count);

/* Turns the worker until every answer is there. Returns 0 or a negative errno. */
int push_store_settle(struct push_store *store);

/* Safe on a zeroed store. */
void push_store_close(struct push_store *store);

#endif
