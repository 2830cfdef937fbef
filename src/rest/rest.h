/*
 * rest: the API gateway's part of one worker: which requests of the public listener are its, and
 * what it needs to serve them. Thread: the worker's. Source: api.md.
 */
#ifndef REST_REST_H
#define REST_REST_H

#include "base/hash.h"
#include "edge/router.h"
#include "redis/client.h"
#include "upstream/upstreams.h"

struct rest;
struct departed;
struct states;

/* What all workers share; outlives them. */
struct rest_shared {
	struct departed *departed;
	struct states *states; /* NULL where Redis remembers them */
};

struct rest_options {
	struct worker *worker;
	struct upstreams *upstreams; /* its file is the one that is served by */
	struct redis_client *redis;  /* NULL: there is none, and shared->states is there */
	const struct config *config;
	struct hash_secret secret;
	struct metric_registry *metrics;
	const struct rest_shared *shared;
	const struct router *rpcs; /* of the edge's own services, for gRPC-Web; NULL: none */
	struct metric_counter *copied_bytes; /* of payloads; may be NULL */
};

/* Returns 0 or -ENOMEM. */
int rest_create(struct rest **rest, const struct rest_options *options);

/* After its last request has ended and the upstreams have stopped. NULL is fine. */
void rest_destroy(struct rest *rest);

/* The route of a request whose head is there, for server_options.find; NULL: none of its paths. */
const struct route *rest_find(struct rest *rest, struct request *request);

/* The process ends: calls go on to their end, streams end now, with what they say last. */
void rest_drain(struct rest *rest);

/* A device session was revoked, or some events were missed. */
void rest_session_revoked(struct rest *rest, struct span session);
void rest_sessions_forgotten(struct rest *rest);

#endif
