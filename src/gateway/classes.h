/*
 * classes: the anti-abuse classes of the public listener: which class a request is of, and what it
 * may cost. Thread: the worker's; classes_of is pure. Source: edge.md §5, §7.
 */
#ifndef GATEWAY_CLASSES_H
#define GATEWAY_CLASSES_H

#include "auth/bucket.h"
#include "config/config.h"
#include "edge/server.h"

enum public_class {
	CLASS_PUBLIC_AUTH,
	CLASS_BROWSER_BOOTSTRAP,
	CLASS_BROWSER_ASSET,
	CLASS_REST_API,
	CLASS_PUBLIC_MISC,
	CLASS_COUNT,
	CLASS_EXEMPT = CLASS_COUNT
};

/* A token bucket by class and peer address, and how much body a request may have. */
struct class_rule {
	struct bucket_rule bucket;
	size_t body_bytes_max;
};

/* As configured. The buckets' kinds are `first_kind` and up. */
void classes_init(struct class_rule rules[CLASS_COUNT], const struct config *config,
		  uint8_t first_kind);

/* `rest_base`: the path below which another room answers ("/api/v2"), empty if there is none. */
enum public_class classes_of(struct span method, struct span path, struct span rest_base);

struct node;

/* For server_options. */
struct server_gate classes_admit(const struct request *request);

/* gateway_public_limited_total. */
void classes_register(struct node *node);

#endif
