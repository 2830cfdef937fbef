#include "gateway/gateway_internal.h"

#include "base/explain.h"
#include "os/limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NODE_SQ_ENTRIES	     1024
#define NODE_CQ_ENTRIES	     32768 /* multishot receives complete without a submission */
#define NODE_BUFFERS	     2048  /* × 4 KiB: what one turn can bring in */
#define NODE_BUFFER_BYTES    4096
#define BUS_BUFFERS	     256 /* × 16 KiB: two streams and a client */
#define BUS_BUFFER_BYTES     16384
#define DESCRIPTORS_RESERVED 512 /* kept back per worker (edge.md §7, GATEWAY_MAX_CONNECTIONS) */

void gateway_tell(struct gateway_thread *thread, gateway_command *run)
{
	thread->run = run;
	if (!thread->is_reporting) {
		thread->is_reporting = true;
		thread->gateway->reports_due++;
	}
	letter_post(thread->gateway->control, &thread->worker, &thread->command);
}

void gateway_tell_nodes(struct gateway *gateway, gateway_command *run)
{
	for (uint32_t i = 0; i < gateway->node_count; i++)
		gateway_tell(&gateway->node_threads[i], run);
}

static void command_arrived(struct worker *to, struct letter *letter)
{
	struct gateway_thread *thread = CONTAINER_OF(letter, struct gateway_thread, command);

	(void)to;
	thread->run(thread);
}

static void report_arrived(struct worker *to, struct letter *letter)
{
	struct gateway_thread *thread = CONTAINER_OF(letter, struct gateway_thread, report);
	struct gateway *gateway = thread->gateway;

	(void)to;
	thread->is_reporting = false;
	if (--gateway->reports_due == 0)
		gateway->reported(gateway);
}

void gateway_report(struct gateway_thread *thread)
{
	letter_post(&thread->worker, thread->gateway->control, &thread->report);
}

/* ---- start ---- */

/*
 * What this thread holds no other can serve or end: clients would wait at its listener, streams for
 * their events. Whoever looks after the process begins it anew.
 */
static _Noreturn void ring_failed(const struct gateway_thread *thread, int error)
{
	LOG(LOG_ERROR, "gateway", "ring failed", LOG_TEXT("thread", thread->name),
	    LOG_TEXT("error", error == -EAGAIN
				      ? "no thread may be made beside it: " RING_THREADS_REMEDY
				      : errno_text(-error)));
	_exit(1);
}

static void *thread_main(void *argument)
{
	struct gateway_thread *thread = argument;
	int error = worker_turn(&thread->worker, 0); /* enables the ring for this thread */

	if (error)
		ring_failed(thread, error);
	if (thread->node)
		node_start(thread->node);
	else
		bus_start(thread->gateway->shared.bus);
	error = worker_run(&thread->worker);
	if (error)
		ring_failed(thread, error);
	return NULL;
}

static void all_listen(struct gateway *gateway)
{
	gateway->starting = false;
	if (!gateway->stopping)
		gateway->options.started(gateway->options.context);
}

static void listen_now(struct node *node)
{
	struct gateway_thread *thread = node->context;
	const struct gateway_options *options = &thread->gateway->options;
	int error = node_listen(thread->node, options->public_socket, options->grpc_socket,
				thread->index);

	if (error)
		LOG(LOG_ERROR, "gateway", "worker cannot accept", LOG_TEXT("worker", thread->name),
		    LOG_TEXT("error", errno_text(-error)));
	thread->listening = true;
	gateway_report(thread);
}

/* A worker takes no calls that it would have to fail for want of its own connection to Redis. */
static void command_listen(struct gateway_thread *thread)
{
	node_await_redis(thread->node, listen_now, thread);
}

static void listen_everywhere(struct gateway *gateway)
{
	gateway->reported = all_listen;
	gateway_tell_nodes(gateway, command_listen);
}

static void bus_started_arrived(struct worker *to, struct letter *letter)
{
	struct gateway *gateway = CONTAINER_OF(letter, struct gateway, bus_started);

	(void)to;
	if (!gateway->stopping)
		listen_everywhere(gateway);
}

/* Thread: bus. */
static void bus_started(void *context)
{
	struct gateway *gateway = context;

	letter_post(&gateway->bus_thread.worker, gateway->control, &gateway->bus_started);
}

static int thread_init(struct gateway *gateway, struct gateway_thread *thread, const char *name,
		       uint32_t index, char *why, size_t why_size)
{
	bool is_bus = thread == &gateway->bus_thread;
	uint32_t file_slots = is_bus ? 64 : (uint32_t)gateway->options.nofile;
	const struct worker_options options = {
		.name = thread->name,
		.index = index,
		.ring =
			{
				.sq_entries = NODE_SQ_ENTRIES,
				.cq_entries = NODE_CQ_ENTRIES,
				.file_slots = gateway->options.direct_files ? file_slots : 0,
				.buffer_count = is_bus ? BUS_BUFFERS : NODE_BUFFERS,
				.buffer_bytes = is_bus ? BUS_BUFFER_BYTES : NODE_BUFFER_BYTES,
			},
		.clock = worker_clock_system,
		.metrics = gateway->options.metrics,
	};

	snprintf(thread->name, sizeof(thread->name), "%s", name);
	thread->gateway = gateway;
	thread->command.deliver = command_arrived;
	thread->report.deliver = report_arrived;
	return worker_init(&thread->worker, &options, why, why_size);
}

static int shared_init(struct node_shared *shared, const struct gateway_options *options)
{
	const struct config *config = options->config;
	uint64_t per_worker =
		options->nofile > DESCRIPTORS_RESERVED ? options->nofile - DESCRIPTORS_RESERVED : 1;
	uint64_t tables = options->direct_files ? options->worker_count : 1;

	*shared = (struct node_shared){
		.config = config,
		.has_edge = config_has_edge(config),
		.redis_tls = options->redis_tls,
		.signer = options->signer,
		.guest = options->guest,
		.guest_shared = options->guest_shared,
		.metrics = options->metrics,
		.feed_budget.max_bytes = config->push_max_queued_bytes,
		.connections.max_count =
			config->max_connections ? config->max_connections : tables * per_worker,
		.budget_rules =
			{
				[BUDGET_IP] = {config->budget_ip_requests,
					       config->budget_ip_window_ms, config->budget_ip_burst,
					       BUDGET_IP},
				[BUDGET_SESSION] = {config->budget_session_requests,
						    config->budget_session_window_ms,
						    config->budget_session_burst, BUDGET_SESSION},
				[BUDGET_USER] = {config->budget_user_requests,
						 config->budget_user_window_ms,
						 config->budget_user_burst, BUDGET_USER},
				[BUDGET_MESSAGE_TYPE] = {config->budget_type_requests,
							 config->budget_type_window_ms,
							 config->budget_type_burst,
							 BUDGET_MESSAGE_TYPE},
				[BUDGET_SEND_IDENTITY] = {config->budget_identity_requests,
							  config->budget_identity_window_ms,
							  config->budget_identity_burst,
							  BUDGET_SEND_IDENTITY},
				[BUDGET_CONFIRM_IDENTITY] = {config->budget_identity_requests,
							     config->budget_identity_window_ms,
							     config->budget_identity_burst,
							     BUDGET_CONFIRM_IDENTITY},
			},
	};
	limits_random(&shared->secret, sizeof(shared->secret));
	classes_init(shared->class_rules, config, BUDGET_COUNT);
	if (config->max_connections_per_ip) {
		shared->peers = peers_create(shared->secret, config->max_connections_per_ip);
		if (!shared->peers)
			return -ENOMEM;
	}
	shared->buckets = bucket_table_create(BUDGET_ENTRIES, shared->secret);
	shared->public_router = router_create(shared->secret);
	return shared->buckets && shared->public_router ? 0 : -ENOMEM;
}

static int edge_shared_init(struct node_shared *shared)
{
	shared->grpc_router = router_create(shared->secret);
	if (!shared->grpc_router)
		return -ENOMEM;
	if (shared->config->push_heartbeat_interval_ms) {
		shared->heartbeat = wire_write_heartbeat();
		if (!shared->heartbeat)
			return -ENOMEM;
	}
	return 0;
}

static int create_bus(struct gateway *gateway)
{
	const struct bus_options options = {
		.config = gateway->options.config,
		.redis_tls = gateway->options.redis_tls,
		.signer = gateway->options.signer,
		.worker = &gateway->bus_thread.worker,
		.ports = gateway->ports,
		.port_count = gateway->node_count,
		.budget = &gateway->shared.feed_budget,
		.secret = gateway->shared.secret,
		.metrics = gateway->options.metrics,
		.started = bus_started,
		.context = gateway,
	};

	return bus_create(&gateway->shared.bus, &options);
}

static int create_node(struct gateway *gateway, uint32_t index, char *why, size_t why_size)
{
	struct gateway_thread *thread = &gateway->node_threads[index];
	char name[24];

	snprintf(name, sizeof(name), "worker-%u", index);
	thread->index = index;
	int error = thread_init(gateway, thread, name, index, why, why_size);

	return error ? error
		     : node_create(&thread->node, &thread->worker, &gateway->shared,
				   &gateway->ports[index]);
}

/* Each thread's ring, then what stands on it. */
static int create_parts(struct gateway *gateway, char *why, size_t why_size)
{
	bool has_edge = gateway->shared.has_edge;
	int error = 0;

	if (has_edge)
		error = thread_init(gateway, &gateway->bus_thread, "bus", gateway->node_count, why,
				    why_size);
	for (uint32_t i = 0; i < gateway->node_count && !error; i++)
		error = create_node(gateway, i, why, why_size);
	if (has_edge && !error)
		error = create_bus(gateway);
	return error;
}

int gateway_create(struct gateway **created, const struct gateway_options *options, char *why,
		   size_t why_size)
{
	struct gateway *gateway;

	snprintf(why, why_size, "out of memory");
	/* a worker's mailbox has a cache line of its own */
	if (posix_memalign((void **)&gateway, _Alignof(struct gateway), sizeof(*gateway)))
		return -ENOMEM;
	memset(gateway, 0, sizeof(*gateway));
	gateway->options = *options;
	gateway->control = options->control;
	gateway->node_count = options->worker_count;
	gateway->bus_started.deliver = bus_started_arrived;
	gateway->clean = true;
	gateway->ports = calloc(gateway->node_count, sizeof(*gateway->ports));
	if (posix_memalign((void **)&gateway->node_threads, _Alignof(struct gateway_thread),
			   gateway->node_count * sizeof(*gateway->node_threads)))
		gateway->node_threads = NULL;
	if (!gateway->ports || !gateway->node_threads)
		return -ENOMEM;
	memset(gateway->node_threads, 0, gateway->node_count * sizeof(*gateway->node_threads));
	gateway_stop_init(gateway);
	int error = gateway_errands_init(gateway);

	if (!error)
		error = shared_init(&gateway->shared, options);
	if (!error && gateway->shared.has_edge)
		error = edge_shared_init(&gateway->shared);
	if (!error)
		error = routes_add(&gateway->routes, options->config, gateway->shared.public_router,
				   gateway->shared.grpc_router);
	if (!error)
		error = create_parts(gateway, why, why_size);
	*created = gateway;
	return error;
}

static int thread_start(struct gateway_thread *thread)
{
	int error = pthread_create(&thread->thread, NULL, thread_main, thread);

	if (error)
		return -error;
	pthread_setname_np(thread->thread, thread->name);
	thread->is_running = true;
	return 0;
}

int gateway_start(struct gateway *gateway, char *why, size_t why_size)
{
	int error = 0;

	gateway->starting = true;
	for (uint32_t i = 0; i < gateway->node_count && !error; i++)
		error = thread_start(&gateway->node_threads[i]);
	if (!error && gateway->shared.bus)
		error = thread_start(&gateway->bus_thread);
	else if (!error)
		listen_everywhere(gateway);
	if (error)
		snprintf(why, why_size, "cannot start a thread: %s; %s", errno_text(-error),
			 RING_THREADS_REMEDY);
	return error;
}

bool gateway_is_draining(const struct gateway *gateway)
{
	return atomic_load_explicit(&gateway->shared.draining, memory_order_relaxed);
}

void gateway_destroy(struct gateway *gateway)
{
	for (uint32_t i = 0; i < gateway->node_count; i++)
		node_destroy(gateway->node_threads[i].node);
	if (gateway->shared.bus)
		bus_destroy(gateway->shared.bus);
	for (uint32_t i = 0; i < gateway->node_count; i++)
		worker_finish(&gateway->node_threads[i].worker);
	if (gateway->shared.bus)
		worker_finish(&gateway->bus_thread.worker);
	router_destroy(gateway->shared.public_router);
	router_destroy(gateway->shared.grpc_router);
	bucket_table_destroy(gateway->shared.buckets);
	peers_destroy(gateway->shared.peers);
	payload_put(gateway->shared.heartbeat);
	gateway_errands_finish(gateway);
	free(gateway->ports);
	free(gateway->node_threads);
	free(gateway);
}
