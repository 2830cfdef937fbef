/* router: exact paths to routes. Built before the workers start, then immutable; any thread. */
#ifndef EDGE_ROUTER_H
#define EDGE_ROUTER_H

#include "base/hash.h"
#include "edge/request.h"

struct router;

/* Returns NULL without memory. */
struct router *router_create(struct hash_secret secret);
void router_destroy(struct router *router);

/* The route is the caller's and outlives the router. Returns 0, -EEXIST (method and path taken),
 * -ENOMEM. */
int router_add(struct router *router, const struct route *route);

/*
 * Returns the route, or NULL with `*err` ERR_NOT_FOUND or ERR_METHOD_NOT_ALLOWED; then `allow`
 * (room for ROUTER_ALLOW_MAX) has the value of the Allow header.
 */
#define ROUTER_ALLOW_MAX 64
const struct route *router_find(const struct router *router, struct span method, struct span path,
				enum err *err, char allow[ROUTER_ALLOW_MAX]);

/* Calls visit for each route, in the order added: for metrics. */
void router_each(const struct router *router,
		 void (*visit)(const struct route *route, void *context), void *context);

#endif
