/* routes: what the edge gateway answers on the public and on the authenticated listener. Source: edge.md §2, §5. */
#ifndef GATEWAY_ROUTES_H
#define GATEWAY_ROUTES_H

#include "gateway/node.h"

/* The routes of both routers, in memory of the process: one configuration, so one set. */
struct routes {
	struct route healthz, readyz, send_email_code, confirm_email_code;
	struct route execute, subscribe;
	struct route health_check, health_list, health_watch;
};

/* Fills `routes` and adds them. Lifetime: `routes` outlives the routers. Returns 0 or a negative errno. */
int routes_add(struct routes *routes, const struct config *config, struct router *public_router,
	       struct router *grpc_router);

#endif
