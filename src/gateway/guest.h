/*
 * guest: another room's part of a worker, to which the edge gateway's node gives a home: other paths of
 * its public listener, its services, and what the bus says of sessions. main.c knows both. Thread: the
 * worker's.
 */
#ifndef GATEWAY_GUEST_H
#define GATEWAY_GUEST_H

#include "base/hash.h"
#include "edge/router.h"
#include "redis/client.h"
#include "upstream/upstreams.h"

/* What the node has for it; lives longer than it. */
struct guest_home {
	struct worker *worker;
	struct upstreams *upstreams;
	struct redis_client *redis; /* NULL without the edge gateway, as rpcs */
	const struct config *config;
	struct hash_secret secret;
	struct metric_registry *metrics;
	void *shared; /* gateway_options.guest_shared */
	const struct router *rpcs; /* the edge gateway's gRPC methods: they take its requests, too */
	struct metric_counter *copied_bytes; /* of payloads */
};

struct guest_operations {
	/* Returns 0 or -ENOMEM. */
	int (*create)(void **guest, const struct guest_home *home);
	/* After its last request and all services have ended. */
	void (*destroy)(void *guest);
	/* As server_options.find; request->context is the guest's. */
	const struct route *(*find)(void *guest, struct request *request);
	/* The process ends: what would go on for ever ends now, the rest with its last answer. */
	void (*drain)(void *guest);
	/* Snapshots of this session, of all, are no longer good. */
	void (*session_revoked)(void *guest, struct span session);
	void (*sessions_forgotten)(void *guest);
};

#endif
