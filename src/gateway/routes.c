#include "gateway/routes.h"

#include "gateway/execute.h"
#include "gateway/health.h"
#include "gateway/public_auth.h"
#include "gateway/reflection.h"
#include "gateway/subscribe.h"

#define HEALTH_REQUEST_MAX 4096 /* a service name */

static void reply_json(struct request *request, int status, struct span body)
{
	const struct reply reply = {
		.status = status, .content_type = "application/json", .body = body};

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

#define EDGE_SERVICE   "/galaxy.gateway.v1.EdgeGateway/"
#define HEALTH_SERVICE "/grpc.health.v1.Health/"

static const struct route public_routes[] = {
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/healthz", .start = healthz},
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/readyz", .start = readyz},
};

static const struct route public_auth_routes[] = {
	{.kind = ROUTE_HTTP,
	 .method = "POST",
	 .path = PUBLIC_AUTH_SEND_PATH,
	 .body_bytes_max = PUBLIC_AUTH_BODY_MAX,
	 .start = public_auth_send,
	 .cancelled = public_auth_cancelled},
	{.kind = ROUTE_HTTP,
	 .method = "POST",
	 .path = PUBLIC_AUTH_CONFIRM_PATH,
	 .body_bytes_max = PUBLIC_AUTH_BODY_MAX,
	 .start = public_auth_confirm,
	 .cancelled = public_auth_cancelled},
};

/* body_bytes_max 0: GATEWAY_GRPC_MAX_MESSAGE_BYTES. */
static const struct route grpc_routes[] = {
	{.path = EDGE_SERVICE "ExecuteCommand",
	 .start = execute_start,
	 .cancelled = execute_cancelled},
	{.path = EDGE_SERVICE "SubscribeEvents",
	 .start = subscribe_start,
	 .cancelled = subscribe_cancelled,
	 .pull = subscribe_pull,
	 .long_lived = true},
	{.path = HEALTH_SERVICE "Check",
	 .body_bytes_max = HEALTH_REQUEST_MAX,
	 .start = health_check},
	{.path = HEALTH_SERVICE "List", .body_bytes_max = HEALTH_REQUEST_MAX, .start = health_list},
	{.path = HEALTH_SERVICE "Watch",
	 .body_bytes_max = HEALTH_REQUEST_MAX,
	 .start = health_watch,
	 .cancelled = health_watch_cancelled,
	 .long_lived = true},
};

static const struct route reflection_routes[] = {
	{.path = REFLECTION_V1_PATH,
	 .body_bytes_max = REFLECTION_REQUEST_MAX,
	 .start = reflection_start,
	 .message = reflection_message,
	 .half_closed = reflection_half_closed,
	 .long_lived = true},
	{.path = REFLECTION_V1ALPHA_PATH,
	 .body_bytes_max = REFLECTION_REQUEST_MAX,
	 .start = reflection_start,
	 .message = reflection_message,
	 .half_closed = reflection_half_closed,
	 .long_lived = true},
};

_Static_assert(ARRAY_LEN(public_routes) + ARRAY_LEN(public_auth_routes) + ARRAY_LEN(grpc_routes) +
			       ARRAY_LEN(reflection_routes) <=
		       ROUTES_MAX,
	       "struct routes holds them all");

struct addition {
	struct routes *routes;
	struct router *router;
	const struct config *config;
};

static int add_all(const struct addition *to, const struct route *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct route *route = &to->routes->rows[to->routes->count++];

		*route = rows[i];
		if (!route->method) {
			route->kind = ROUTE_GRPC;
			route->method = "POST";
			if (route->body_bytes_max == 0)
				route->body_bytes_max = to->config->grpc_max_message_bytes;
		}
		int error = router_add(to->router, route);

		if (error)
			return error;
	}
	return 0;
}

int routes_add(struct routes *routes, const struct config *config, struct router *public_router,
	       struct router *grpc_router)
{
	const struct addition to_public = {routes, public_router, config};
	const struct addition to_grpc = {routes, grpc_router, config};

	routes->count = 0;
	int error = add_all(&to_public, public_routes, ARRAY_LEN(public_routes));

	if (!grpc_router)
		return error;
	if (!error)
		error = add_all(&to_public, public_auth_routes, ARRAY_LEN(public_auth_routes));
	if (!error)
		error = add_all(&to_grpc, grpc_routes, ARRAY_LEN(grpc_routes));
	if (!error && config->grpc_reflection_enabled)
		error = add_all(&to_grpc, reflection_routes, ARRAY_LEN(reflection_routes));
	return error;
}
