/*
 * fake_redis: a Redis of a few lines for simulations: PING, and GET, which answers with the key
 * itself, so that an answer to another's question shows. Thread: its worker's.
 */
#ifndef TESTS_SIM_FAKE_REDIS_H
#define TESTS_SIM_FAKE_REDIS_H

#include "net/listener.h"

struct fake_redis {
	struct listener listener;
	struct list peers; /* its connections; empty when the last has closed */
	void (*stopped)(void *context);
};

void fake_redis_start(struct fake_redis *redis, struct worker *worker, int fd);

/* Closes all connections; `stopped` when it accepts no more. */
void fake_redis_stop(struct fake_redis *redis, void (*stopped)(void *context));

#endif
