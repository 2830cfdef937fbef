/*
 * node: the gateways' part of one worker: upstreams, the public server and the guest; and where the
 * edge gateway is on, Redis, sessions, signing, streams and the gRPC server. Everything here lives
 * on the worker's thread; what all nodes share is in struct node_shared, immutable or atomic.
 */
#ifndef GATEWAY_NODE_H
#define GATEWAY_NODE_H

#include "auth/bucket.h"
#include "base/slab.h"
#include "edge/server.h"
#include "gateway/bus.h"
#include "gateway/classes.h"
#include "gateway/guest.h"
#include "gateway/sessions.h"
#include "gateway/wire.h"
#include "net/zerocopy.h"
#include "upstream/http.h"
#include "upstream/upstreams.h"

/* Budgets of a call, in the order they are charged (edge.md §2.2). */
enum budget {
	BUDGET_IP,
	BUDGET_SESSION,
	BUDGET_USER,
	BUDGET_MESSAGE_TYPE,
	BUDGET_SEND_IDENTITY,	 /* of a public sign-in (§5): by normalised e-mail … */
	BUDGET_CONFIRM_IDENTITY, /* … and by challenge id */
	BUDGET_COUNT
};

#define BUDGET_ENTRIES                                                                             \
	(1u << 18) /* buckets of the process: 4 MiB; 50,000 clients with five budgets each */

struct node_shared {
	const struct config *config;
	bool has_edge; /* false: no bus, and of a node nothing that edge_create makes */
	const struct tls_context *redis_tls; /* NULL: plain */
	const struct signer *signer;
	struct bucket_table *buckets;
	struct bucket_rule budget_rules[BUDGET_COUNT];
	struct bus *bus;
	struct feed_budget feed_budget;
	struct connection_limit connections;
	struct peers *peers; /* NULL: connections are not counted by peer */
	struct class_rule class_rules[CLASS_COUNT];
	struct router *public_router, *grpc_router; /* the latter NULL without the edge gateway */
	const struct guest_operations *guest; /* NULL: none */
	void *guest_shared;
	struct metric_registry *metrics;
	struct hash_secret secret;
	struct payload *heartbeat;
	_Atomic bool draining; /* relaxed: /readyz and health answer by it; nothing else is ordered
				  against it */
};

struct node {
	struct node_shared *shared;
	struct worker *worker;
	struct bus_port *port; /* ours in the bus's table; port_of_node finds the way back */
	struct dns *dns;
	struct redis_client *redis; /* NULL: no edge gateway */
	struct sessions sessions;
	struct wire_signing signing;
	struct upstreams upstreams;
	struct http_pool *auth; /* NULL: no auth service is configured */
	struct zerocopy zerocopy; /* of both servers' connections */
	void *guest;
	struct server *public_server, *grpc_server; /* the latter NULL without the edge gateway */
	struct feed_ready ready;
	struct mpsc_node *draining; /* feeds taken from `ready` and not yet looked after */
	struct task drain;	    /* while there are some, or more in `ready` */
	bool has_drained;	    /* in this turn, for a fence */
	struct list streams;	 /* open or on their way in or out */
	struct slab stream_slab; /* their memory: of subscribe.c */
	struct list watches;	 /* health Watch calls */
	uint32_t parts_running;
	void (*redis_awaited)(struct node *node); /* NULL: nobody waits */
	struct deadline redis_deadline;
	void (*stopped)(struct node *node);
	void *context;
	struct {
		struct metric_counter refusals[ERR_COUNT], limited[CLASS_COUNT];
		struct metric_counter deliveries, delivered_bytes, copied_bytes, rechecks;
		struct metric_counter ended[FEED_FAILED + 1], ended_by_client;
	} metrics;
};

int node_create(struct node **node, struct worker *worker, struct node_shared *shared,
		struct bus_port *port);

/* Dials Redis and the upstreams. */
void node_start(struct node *node);

/*
 * Calls `done` once: when Redis is connected, at once where none is needed, or after
 * NODE_REDIS_WAIT_MS without it: commands fail then until it is. May come before this returns.
 * `context` is node->context.
 */
#define NODE_REDIS_WAIT_MS 1000
void node_await_redis(struct node *node, void (*done)(struct node *node), void *context);

/* Accepts from the listening descriptors of its servers. */
int node_listen(struct node *node, const struct listen_socket *public_socket,
		const struct listen_socket *grpc_socket, uint32_t index);

/* Redis, upstreams and resolver end; then `stopped`. Servers must have stopped before. */
void node_stop(struct node *node, void (*stopped)(struct node *node), void *context);

/* After the worker has ended. */
void node_destroy(struct node *node);

#endif
