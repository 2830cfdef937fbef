/*
 * admin: the operators' listener: /metrics, /healthz, /readyz. Thread: the control worker's (main).
 * Source: edge.md §5 (bodies), §8.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "edge/server.h"

struct admin;

struct admin_options {
	struct worker *worker;
	const struct config *config;
	struct metric_registry *metrics;
	struct hash_secret secret;
	bool (*is_ready)(const void *context); /* false: draining, or not yet started */
	const void *context;
};

/* Returns 0 or a negative errno. */
int admin_create(struct admin **admin, const struct admin_options *options);

/* Accepts from a listening descriptor. Returns 0 or a negative errno. */
int admin_listen(struct admin *admin, int fd);

/* Stops accepting, lets answers in progress finish; `stopped` follows. What is left after `timeout_ms` is cut. */
void admin_stop(struct admin *admin, uint64_t timeout_ms, void (*stopped)(void *context), void *context);

void admin_destroy(struct admin *admin);

#endif
