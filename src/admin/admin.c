#include "admin/admin.h"

#include "admin/process.h"
#include "base/check.h"
#include "base/payload.h"
#include "codec/accept.h"

#include <errno.h>
#include <stdlib.h>

/* METRIC_SERIES_MAX series with labels of 256 bytes, every other one a histogram, stay below. */
#define METRICS_BYTES_MAX PAYLOAD_BYTES_MAX

struct admin_gathering {
	struct admin_dump dump;
	struct route route;
	struct list waiters;
	bool is_under_way;
};

/* In the request's arena. */
struct waiter {
	struct list link; /* in its gathering's waiters */
	struct request *request;
};

struct admin {
	struct admin_options options;
	struct admin_gathering gatherings[ADMIN_DUMPS_MAX];
	struct router *router;
	struct server *server;
	struct deadline cut;
	void (*stopped)(void *context);
	void *stopped_context;
};

static void reply(struct request *request, int status, const char *content_type, struct span body)
{
	const struct reply answer = {.status = status, .content_type = content_type, .body = body};

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
	bool open = accept_prefers(request->accept, SPAN("application/openmetrics-text"),
				   SPAN("text/plain"));
	enum metric_format format = open ? METRIC_OPENMETRICS : METRIC_PROMETHEUS;
	struct buf out;

	buf_init(&out, METRICS_BYTES_MAX);
	metric_render_as(admin->options.metrics, format, &out);
	process_render(format, &out);
	if (open)
		buf_append(&out, SPAN("# EOF\n"));
	if (out.failed)
		request_reply_error(request, ERR_OUT_OF_MEMORY, NULL, 0);
	else
		reply(request, 200,
		      open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
			   : "text/plain; version=0.0.4; charset=utf-8",
		      buf_span(&out));
	buf_finish(&out);
}

/* ---- dumps ---- */

static void dump_start(struct request *request)
{
	struct admin *admin = request->service;
	struct waiter *waiter = arena_alloc(&request->arena, sizeof(*waiter));
	struct admin_gathering *gathering = admin->gatherings;

	while (&gathering->route != request->route)
		gathering++;
	if (!waiter) {
		request_reply_error(request, ERR_OUT_OF_MEMORY, NULL, 0);
		return;
	}
	waiter->request = request;
	request->context = waiter;
	list_push_back(&gathering->waiters, &waiter->link);
	if (gathering->is_under_way)
		return;
	gathering->is_under_way = true;
	gathering->dump.gather(gathering->dump.context, gathering);
}

static void dump_cancelled(struct request *request)
{
	struct waiter *waiter = request->context;

	list_remove(&waiter->link);
}

/* Who waits now. An answer may bring in the next request of its connection: that one belongs to the
 * next gathering. */
static void take_waiters(struct admin_gathering *gathering, struct list *waiters)
{
	CHECK(gathering->is_under_way);
	gathering->is_under_way = false;
	list_init(waiters);
	list_splice_back(waiters, &gathering->waiters);
}

void admin_gathered(struct admin_gathering *gathering, const char *content_type, struct span text)
{
	struct list waiters;

	take_waiters(gathering, &waiters);
	for (struct list *link; (link = list_pop_front(&waiters)) != NULL;)
		reply(CONTAINER_OF(link, struct waiter, link)->request, 200, content_type, text);
}

void admin_gather_failed(struct admin_gathering *gathering, enum err err)
{
	struct list waiters;

	take_waiters(gathering, &waiters);
	for (struct list *link; (link = list_pop_front(&waiters)) != NULL;)
		request_reply_error(CONTAINER_OF(link, struct waiter, link)->request, err, NULL, 0);
}

static int add_dumps(struct admin *admin)
{
	CHECK(admin->options.dump_count <= ADMIN_DUMPS_MAX);
	for (size_t i = 0; i < admin->options.dump_count; i++) {
		struct admin_gathering *gathering = &admin->gatherings[i];

		gathering->dump = admin->options.dumps[i];
		list_init(&gathering->waiters);
		gathering->route = (struct route){
			.kind = ROUTE_HTTP,
			.method = "GET",
			.path = gathering->dump.path,
			.start = dump_start,
			.cancelled = dump_cancelled,
		};
		int error = router_add(admin->router, &gathering->route);

		if (error)
			return error;
	}
	return 0;
}

static const struct route routes[] = {
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/metrics", .start = metrics},
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/healthz", .start = healthz},
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/readyz", .start = readyz},
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
	error = add_dumps(admin);
	if (error)
		goto destroy_router;
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

void admin_stop(struct admin *admin, uint64_t timeout_ms, void (*stopped)(void *context),
		void *context)
{
	admin->stopped = stopped;
	admin->stopped_context = context;
	deadline_arm(admin->options.worker, &admin->cut, timeout_ms);
	server_stop_accepting(admin->server);
	server_drain(admin->server, drained, admin);
}

void admin_destroy(struct admin *admin)
{
	for (size_t i = 0; i < admin->options.dump_count; i++)
		CHECK(!admin->gatherings[i].is_under_way);
	server_destroy(admin->server);
	router_destroy(admin->router);
	free(admin);
}
