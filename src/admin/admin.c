#include "admin/admin.h"

#include "admin/process.h"

#include <errno.h>
#include <stdlib.h>

#define METRICS_BYTES_MAX (16u << 20) /* METRIC_SERIES_MAX series with their buckets stay below */

struct admin {
	struct admin_options options;
	struct router *router;
	struct server *server;
	struct deadline cut;
	void (*stopped)(void *context);
	void *stopped_context;
};

static void reply(struct request *request, int status, const char *content_type, struct span body)
{
	const struct reply answer = { .status = status, .content_type = content_type, .body = body };

	request_reply(request, &answer);
}

static void healthz(struct request *request)
{
	reply(request, 200, "application/json", SPAN("{\"status\":\"ok\"}"));
}

static void readyz(struct request *request)
{
	const struct admin *admin = request->service;

	if (admin->options.is_ready(admin->options.context))
		reply(request, 200, "application/json", SPAN("{\"status\":\"ready\"}"));
	else
		reply(request, 503, "application/json", SPAN("{\"status\":\"draining\"}"));
}

static void metrics(struct request *request)
{
	const struct admin *admin = request->service;
	struct buf out;

	buf_init(&out, METRICS_BYTES_MAX);
	metric_render(admin->options.metrics, &out);
	process_render(&out);
	if (out.failed)
		request_reply_error(request, ERR_OUT_OF_MEMORY, NULL, 0);
	else
		reply(request, 200, "text/plain; version=0.0.4; charset=utf-8", buf_span(&out));
	buf_finish(&out);
}

static const struct route routes[] = {
	{ .kind = ROUTE_HTTP, .method = "GET", .path = "/metrics", .start = metrics },
	{ .kind = ROUTE_HTTP, .method = "GET", .path = "/healthz", .start = healthz },
	{ .kind = ROUTE_HTTP, .method = "GET", .path = "/readyz", .start = readyz },
};

static void cut_expired(struct deadline *deadline)
{
	server_cut(CONTAINER_OF(deadline, struct admin, cut)->server);
}

int admin_create(struct admin **created, const struct admin_options *options)
{
	struct admin *admin = calloc(1, sizeof(*admin));
	int error = -ENOMEM;

	if (!admin)
		return -ENOMEM;
	admin->options = *options;
	deadline_init(&admin->cut, cut_expired);
	admin->router = router_create(options->secret);
	if (!admin->router)
		goto free_admin;
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		error = router_add(admin->router, &routes[i]);
		if (error)
			goto destroy_router;
	}
	const struct server_options server = {
		.name = "admin",
		.protocols = SERVER_HTTP1,
		.router = admin->router,
		.config = options->config,
		.service = admin,
		.metrics = options->metrics,
	};

	error = server_create(&admin->server, options->worker, &server);
	if (error)
		goto destroy_router;
	*created = admin;
	return 0;
destroy_router:
	router_destroy(admin->router);
free_admin:
	free(admin);
	return error;
}

int admin_listen(struct admin *admin, int fd)
{
	return server_start(admin->server, fd, true);
}

static void drained(void *context)
{
	struct admin *admin = context;

	deadline_disarm(admin->options.worker, &admin->cut);
	admin->stopped(admin->stopped_context);
}

void admin_stop(struct admin *admin, uint64_t timeout_ms, void (*stopped)(void *context), void *context)
{
	admin->stopped = stopped;
	admin->stopped_context = context;
	deadline_arm(admin->options.worker, &admin->cut, timeout_ms);
	server_stop_accepting(admin->server);
	server_drain(admin->server, drained, admin);
}

void admin_destroy(struct admin *admin)
{
	server_destroy(admin->server);
	router_destroy(admin->router);
	free(admin);
}
