/*
 * admin: the operators' listener: /metrics, /healthz, /readyz and what others register as dumps:
 * /config, /streams. Thread: the control worker's (main). Source: edge.md §5 (bodies), §8.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "edge/server.h"

struct admin;
struct admin_gathering; /* one dump on its way */

/*
 * Something that operators may look at. Its text is made when it is asked for: `gather` answers
 * with admin_gathered or admin_gather_failed, once, inside itself or later. Never called again
 * before that: who asks meanwhile shares the answer.
 */
struct admin_dump {
	const char *path; /* "/config" */
	void (*gather)(void *context, struct admin_gathering *gathering);
	void *context;
};

#define ADMIN_DUMPS_MAX 8

struct admin_options {
	struct worker *worker;
	const struct config *config;
	struct metric_registry *metrics;
	struct hash_secret secret;
	bool (*is_ready)(const void *context); /* false: draining, or not yet started */
	const void *context;
	const struct admin_dump *dumps; /* copied; ≤ ADMIN_DUMPS_MAX */
	size_t dump_count;
};

/* Returns 0 or a negative errno. */
int admin_create(struct admin **admin, const struct admin_options *options);

/* Accepts from a listening descriptor. Returns 0 or a negative errno. */
int admin_listen(struct admin *admin, int fd);

/* Answers all who wait; `text` is lent. Nobody may wait any more: then nothing happens. */
void admin_gathered(struct admin_gathering *gathering, const char *content_type, struct span text);
void admin_gather_failed(struct admin_gathering *gathering, enum err err);

/* Stops accepting, lets answers in progress finish; `stopped` follows. What is left after
 * `timeout_ms` is cut. */
void admin_stop(struct admin *admin, uint64_t timeout_ms, void (*stopped)(void *context),
		void *context);

/* After `stopped`. No gathering may be under way (CHECK): whoever gathers has ended before. */
void admin_destroy(struct admin *admin);

#endif
