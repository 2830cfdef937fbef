#include "gateway/node.h"

#include "gateway/execute.h"
#include "gateway/public_auth.h"
#include "gateway/redis_options.h"
#include "gateway/subscribe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define REDIS_CONNECT_TIMEOUT_MS 5000
#define REDIS_REPLY_BYTES_MAX	 (1u << 20) /* a session record is bounded far below */

static const struct metric_family refusals_family = {
	"gateway_pipeline_refusals_total", "Calls refused, by the step that refused them.",
	METRIC_COUNTER};
static const struct metric_family deliveries_family = {"gateway_push_deliveries_total",
						       "Events handed to streams.", METRIC_COUNTER};
static const struct metric_family delivered_bytes_family = {
	"gateway_push_delivered_bytes_total", "Bytes of events handed to streams.", METRIC_COUNTER};
static const struct metric_family copied_bytes_family = {
	"gateway_push_copied_bytes_total",
	"Payload bytes copied in user space on the way to a socket.", METRIC_COUNTER};
static const struct metric_family ended_family = {"gateway_push_streams_ended_total",
						  "Event streams ended, by cause.", METRIC_COUNTER};
static const struct metric_family rechecks_family = {
	"gateway_push_rechecks_total",
	"Sessions read again because an event overtook a registration.", METRIC_COUNTER};

static void register_metrics(struct node *node)
{
	struct metric_registry *registry = node->shared->metrics;

	classes_register(node);
	zerocopy_register(&node->zerocopy, node->worker, registry);
	metric_register(registry, &copied_bytes_family, "", &node->metrics.copied_bytes);
}

static void register_edge_metrics(struct node *node)
{
	const struct {
		const struct metric_family *family;
		const char *labels;
		const void *cell;
	} cells[] = {
		{&deliveries_family, "", &node->metrics.deliveries},
		{&delivered_bytes_family, "", &node->metrics.delivered_bytes},
		{&rechecks_family, "", &node->metrics.rechecks},
		{&ended_family, "reason=\"revoked\"", &node->metrics.ended[FEED_REVOKED]},
		{&ended_family, "reason=\"overflowed\"", &node->metrics.ended[FEED_OVERFLOWED]},
		{&ended_family, "reason=\"shutdown\"", &node->metrics.ended[FEED_SHUTDOWN]},
		{&ended_family, "reason=\"failed\"", &node->metrics.ended[FEED_FAILED]},
		{&ended_family, "reason=\"client\"", &node->metrics.ended_by_client},
	};
	struct metric_registry *registry = node->shared->metrics;

	for (size_t i = 0; i < ARRAY_LEN(cells); i++)
		metric_register(registry, cells[i].family, cells[i].labels, cells[i].cell);
	for (int err = 0; err < ERR_COUNT; err++) {
		const char *step = err_row((enum err)err)->step;
		char labels[64];

		if (!step)
			continue;
		snprintf(labels, sizeof(labels), "step=\"%s\"", step);
		metric_register(registry, &refusals_family, labels, &node->metrics.refusals[err]);
	}
}

/* ---- what the bus tells ---- */

static struct node *node_of(struct bus_port *port)
{
	return port->worker->context;
}

/* A session that is no longer active is over for the guest, too. */
static void tell_guest(struct node *node, const struct bus_update *update)
{
	const struct guest_operations *guest = node->shared->guest;

	if (!guest)
		return;
	if (update->kind == BUS_ALL_FORGOTTEN)
		guest->sessions_forgotten(node->guest);
	else if (!span_equal(update->fields.status, SPAN("active")))
		guest->session_revoked(node->guest, update->fields.device_session_id);
}

static void updated(struct bus_port *port, const struct bus_update *update)
{
	struct node *node = node_of(port);
	struct session *session;
	const char *field;
	int error;

	tell_guest(node, update);
	switch (update->kind) {
	case BUS_ALL_FORGOTTEN:
		sessions_forget_all(&node->sessions, update->sequence);
		return;
	case BUS_SESSION_FORGOTTEN:
		sessions_forget(&node->sessions, update->fields.device_session_id,
				update->sequence);
		return;
	case BUS_SESSION_REPLACED:
		error = session_create(&session, &update->fields, &field);
		if (error) {
			CHECK(error == -ENOMEM); /* the bus has checked the fields. Redis decides */
			sessions_forget(&node->sessions, update->fields.device_session_id,
					update->sequence);
			return;
		}
		sessions_replace(&node->sessions, session, update->sequence);
		session_put(session);
		return;
	}
}

static void drain(struct bus_port *port)
{
	struct node *node = node_of(port);

	subscribe_drain(node);
	node->has_drained = true;
}

static void before_wait(struct worker *worker)
{
	struct node *node = worker->context;

	if (!node->has_drained)
		subscribe_drain(node);
	node->has_drained = false;
}

/* ---- life ---- */

static void redis_was_awaited(struct node *node)
{
	void (*done)(struct node * node) = node->redis_awaited;

	node->redis_awaited = NULL;
	deadline_disarm(node->worker, &node->redis_deadline);
	if (done)
		done(node);
}

static void redis_changed(struct redis_client *client, bool ready, void *context)
{
	(void)client;
	if (ready)
		redis_was_awaited(context);
}

static void redis_wait_expired(struct deadline *deadline)
{
	redis_was_awaited(CONTAINER_OF(deadline, struct node, redis_deadline));
}

static int create_redis(struct node *node)
{
	struct redis_options options =
		redis_options_from(node->shared->config, node->shared->redis_tls);

	options.connect_timeout_ms = REDIS_CONNECT_TIMEOUT_MS;
	options.role = REDIS_SESSION;
	options.dns = node->dns;
	options.limits = (struct resp_limits){
		.value_bytes_max = REDIS_REPLY_BYTES_MAX, .items_max = 1024, .depth_max = 7};
	options.metrics = node->shared->metrics;
	return redis_client_create(&node->redis, node->worker, &options);
}

static int create_upstreams(struct node *node)
{
	const struct config *config = node->shared->config;
	const struct upstreams_options options = {
		.worker = node->worker,
		.message_bytes_max = (uint32_t)config->grpc_max_message_bytes,
		.dns = node->dns,
		.metrics = node->shared->metrics,
		.announced_path = node->shared->has_edge ? UPSTREAM_HANDLE_PATH : SPAN_EMPTY,
	};

	return upstreams_init(&node->upstreams, &options, config->file);
}

static const struct route *find_guest_route(struct request *request)
{
	struct node *node = request->service;

	return node->shared->guest->find(node->guest, request);
}

static int create_guest(struct node *node)
{
	struct node_shared *shared = node->shared;
	const struct guest_home home = {
		.worker = node->worker,
		.upstreams = &node->upstreams,
		.redis = node->redis,
		.config = shared->config,
		.secret = shared->secret,
		.metrics = shared->metrics,
		.shared = shared->guest_shared,
		.rpcs = shared->grpc_router,
		.copied_bytes = &node->metrics.copied_bytes,
	};

	return shared->guest ? shared->guest->create(&node->guest, &home) : 0;
}

/* What both servers have alike. */
static struct server_options server_options_of(struct node *node)
{
	struct node_shared *shared = node->shared;

	return (struct server_options){
		.config = shared->config,
		.service = node,
		.limit = &shared->connections,
		.peers = shared->peers,
		.trusted_proxies = &shared->config->trusted_proxies,
		.metrics = shared->metrics,
		.copied_bytes = &node->metrics.copied_bytes,
		.zerocopy = &node->zerocopy,
	};
}

static int create_public_server(struct node *node)
{
	struct server_options options = server_options_of(node);

	options.name = "public";
	options.protocols = SERVER_HTTP1 | SERVER_HTTP2;
	options.router = node->shared->public_router;
	options.admit = classes_admit;
	options.find = node->shared->guest ? find_guest_route : NULL;
	return server_create(&node->public_server, node->worker, &options);
}

/* No `admit`: the pipeline has budgets of its own. */
static int create_grpc_server(struct node *node)
{
	struct server_options options = server_options_of(node);

	options.name = "grpc";
	options.protocols = SERVER_HTTP2 | SERVER_GRPC;
	options.router = node->shared->grpc_router;
	return server_create(&node->grpc_server, node->worker, &options);
}

static void listen_to_bus(struct node *node)
{
	node->port->worker = node->worker;
	node->port->updated = updated;
	node->port->drain = drain;
	node->worker->before_wait = before_wait;
}

/* All of a node that needs Redis, the signer or the bus. */
static int edge_create(struct node *node)
{
	struct node_shared *shared = node->shared;
	int error = wire_signing_init(&node->signing, shared->signer);

	if (!error)
		error = create_redis(node);
	if (error)
		return error;
	const struct sessions_options options = {
		.worker = node->worker,
		.redis = node->redis,
		.config = shared->config,
		.secret = shared->secret,
		.metrics = shared->metrics,
	};

	sessions_init(&node->sessions, &options);
	listen_to_bus(node);
	error = public_auth_open(node, &node->auth);
	if (!error)
		error = create_grpc_server(node);
	if (!error)
		register_edge_metrics(node);
	return error;
}

static void edge_destroy(struct node *node)
{
	http_pool_destroy(node->auth);
	sessions_finish(&node->sessions);
	redis_client_destroy(node->redis);
	server_destroy(node->grpc_server);
	wire_signing_finish(&node->signing);
}

int node_create(struct node **created, struct worker *worker, struct node_shared *shared,
		struct bus_port *port)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return -ENOMEM;
	node->shared = shared;
	node->worker = worker;
	node->port = port;
	list_init(&node->streams);
	slab_init(&node->stream_slab, SUBSCRIBE_STREAM_BYTES, SUBSCRIBE_STREAMS_MAX);
	list_init(&node->watches);
	deadline_init(&node->redis_deadline, redis_wait_expired);
	feed_ready_init(&node->ready);
	subscribe_drain_init(node);
	zerocopy_init(&node->zerocopy, worker);
	worker->context = node;
	*created = node;

	/* one that fails ends the start: the process gives it all back */
	int error = dns_create(&node->dns, worker);

	if (!error && shared->has_edge)
		error = edge_create(node);
	if (!error)
		error = create_upstreams(node);
	if (!error)
		error = create_guest(node);
	if (!error)
		error = create_public_server(node);
	if (!error)
		register_metrics(node);
	return error;
}

void node_await_redis(struct node *node, void (*done)(struct node *node), void *context)
{
	node->context = context;
	node->redis_awaited = done;
	if (!node->redis || redis_client_is_ready(node->redis))
		redis_was_awaited(node);
	else
		deadline_arm(node->worker, &node->redis_deadline, NODE_REDIS_WAIT_MS);
}

void node_start(struct node *node)
{
	if (node->redis)
		redis_client_start(node->redis, redis_changed, node);
	upstreams_start(&node->upstreams);
	if (node->auth)
		http_pool_start(node->auth);
}

static int listen_on(struct server *server, const struct listen_socket *socket, uint32_t index)
{
	return server_start(server, socket->fds[socket->shared ? 0 : index], socket->shared);
}

int node_listen(struct node *node, const struct listen_socket *public_socket,
		const struct listen_socket *grpc_socket, uint32_t index)
{
	int error = listen_on(node->public_server, public_socket, index);

	if (error || !node->grpc_server)
		return error;
	return listen_on(node->grpc_server, grpc_socket, index);
}

static void dns_closed(void *context)
{
	struct node *node = context;

	node->dns = NULL;
	node->stopped(node);
}

static void part_stopped(void *context)
{
	struct node *node = context;

	if (--node->parts_running == 0)
		dns_destroy(node->dns, dns_closed, node);
}

void node_stop(struct node *node, void (*stopped)(struct node *node), void *context)
{
	node->stopped = stopped;
	node->context = context;
	node->parts_running = 1u + (node->auth != NULL) + (node->redis != NULL);
	if (node->auth)
		http_pool_stop(node->auth, part_stopped, node);
	if (node->redis)
		redis_client_stop(node->redis, part_stopped, node);
	upstreams_stop(&node->upstreams, part_stopped, node);
}

void node_destroy(struct node *node)
{
	CHECK(list_is_empty(&node->streams));
	if (node->shared->guest)
		node->shared->guest->destroy(node->guest);
	upstreams_finish(&node->upstreams);
	if (node->shared->has_edge)
		edge_destroy(node);
	server_destroy(node->public_server);
	slab_finish(&node->stream_slab);
	free(node);
}
