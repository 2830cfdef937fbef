/* routes: what the edge gateway answers on the public and on the authenticated listener. Source:
 * edge.md §2, §5. */
#ifndef GATEWAY_ROUTES_H
#define GATEWAY_ROUTES_H

#include "gateway/node.h"

#define ROUTES_MAX 16

/* The routes of both routers, in memory of the process: one configuration, so one set. */
struct routes {
	struct route rows[ROUTES_MAX];
	size_t count;
};

/* Fills `routes` and adds them; `grpc_router` NULL: no edge gateway, whose routes are left out.
 * Lifetime: `routes` outlives the routers. Returns 0 or a negative
 * errno. */
int routes_add(struct routes *routes, const struct config *config, struct router *public_router,
	       struct router *grpc_router);

#endif
