#include "gateway/routes.h"

#include "gateway/execute.h"
#include "gateway/health.h"
#include "gateway/public_auth.h"
#include "gateway/subscribe.h"

#define HEALTH_REQUEST_MAX 4096 /* a service name */

static void reply_json(struct request *request, int status, struct span body)
{
	const struct reply reply = { .status = status, .content_type = "application/json", .body = body };

	request_reply(request, &reply);
}

static void healthz(struct request *request)
{
	reply_json(request, 200, SPAN("{\"status\":\"ok\"}"));
}

static void readyz(struct request *request)
{
	const struct node *node = request->service;

	if (atomic_load_explicit(&node->shared->draining, memory_order_relaxed))
		reply_json(request, 503, SPAN("{\"status\":\"draining\"}"));
	else
		reply_json(request, 200, SPAN("{\"status\":\"ready\"}"));
}

int routes_add(struct routes *routes, const struct config *config, struct router *public_router,
	       struct router *grpc_router)
{
	*routes = (struct routes){
		.healthz = { .kind = ROUTE_HTTP, .method = "GET", .path = "/healthz", .start = healthz },
		.readyz = { .kind = ROUTE_HTTP, .method = "GET", .path = "/readyz", .start = readyz },
		.send_email_code = { .kind = ROUTE_HTTP, .method = "POST", .path = PUBLIC_AUTH_SEND_PATH,
				     .body_bytes_max = PUBLIC_AUTH_BODY_MAX, .start = public_auth_send,
				     .cancelled = public_auth_cancelled },
		.confirm_email_code = { .kind = ROUTE_HTTP, .method = "POST", .path = PUBLIC_AUTH_CONFIRM_PATH,
					.body_bytes_max = PUBLIC_AUTH_BODY_MAX, .start = public_auth_confirm,
					.cancelled = public_auth_cancelled },
		.execute = { .kind = ROUTE_GRPC, .method = "POST",
			     .path = "/galaxy.gateway.v1.EdgeGateway/ExecuteCommand",
			     .body_bytes_max = config->grpc_max_message_bytes,
			     .start = execute_start, .cancelled = execute_cancelled },
		.subscribe = { .kind = ROUTE_GRPC, .method = "POST",
			       .path = "/galaxy.gateway.v1.EdgeGateway/SubscribeEvents",
			       .body_bytes_max = config->grpc_max_message_bytes,
			       .start = subscribe_start, .cancelled = subscribe_cancelled,
			       .pull = subscribe_pull, .long_lived = true },
		.health_check = { .kind = ROUTE_GRPC, .method = "POST", .path = "/grpc.health.v1.Health/Check",
				  .body_bytes_max = HEALTH_REQUEST_MAX, .start = health_check },
		.health_list = { .kind = ROUTE_GRPC, .method = "POST", .path = "/grpc.health.v1.Health/List",
				 .body_bytes_max = HEALTH_REQUEST_MAX, .start = health_list },
		.health_watch = { .kind = ROUTE_GRPC, .method = "POST", .path = "/grpc.health.v1.Health/Watch",
				  .body_bytes_max = HEALTH_REQUEST_MAX, .start = health_watch,
				  .cancelled = health_watch_cancelled, .long_lived = true },
	};
	const struct {
		struct router *router;
		const struct route *route;
	} rows[] = {
		{ public_router, &routes->healthz },
		{ public_router, &routes->readyz },
		{ public_router, &routes->send_email_code },
		{ public_router, &routes->confirm_email_code },
		{ grpc_router, &routes->execute },
		{ grpc_router, &routes->subscribe },
		{ grpc_router, &routes->health_check },
		{ grpc_router, &routes->health_list },
		{ grpc_router, &routes->health_watch },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int error = router_add(rows[i].router, rows[i].route);

		if (error)
			return error;
	}
	return 0;
}
