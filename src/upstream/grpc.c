#include "base/check.h"
#include "codec/h2_memory.h"
#include "log/log.h"
#include "upstream/grpc_internal.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Streams of calls that are over but whose last word h2 has not had: RST_STREAM leaves in the same
 * turn, so few; with as many as max_in_flight a pool whose connections all hang still takes calls.
 */
#define STREAMS_PER_CALL 2

/* ---- which address ---- */

static struct upstream_link *pick(struct upstream *upstream, uint64_t avoided_link)
{
	for (size_t i = 0; i < upstream->backend_count; i++) {
		size_t at = (upstream->backend_next + i) % upstream->backend_count;
		struct backend *backend = &upstream->backends[at];

		if (backend->health != HEALTH_GOOD)
			continue;

		struct upstream_link *link = backend_pick(backend, avoided_link);

		if (link) {
			upstream->backend_next = at + 1;
			return link;
		}
	}
	return NULL;
}

static bool is_hopeful(const struct upstream *upstream, uint64_t avoided_link)
{
	for (size_t i = 0; i < upstream->backend_count; i++)
		if (backend_is_hopeful(&upstream->backends[i], avoided_link))
			return true;
	return false;
}

bool upstream_is_ready(const struct upstream *upstream)
{
	for (size_t i = 0; i < upstream->backend_count; i++) {
		const struct backend *backend = &upstream->backends[i];

		if (backend->health != HEALTH_GOOD)
			continue;
		LIST_FOR_EACH (&backend->links, node)
			if (link_has_room(CONTAINER_OF(node, struct upstream_link, link)))
				return true;
	}
	return false;
}

bool upstream_is_connected(const struct upstream *upstream)
{
	for (size_t i = 0; i < upstream->backend_count; i++)
		if (upstream->backends[i].ready_count > 0)
			return true;
	return false;
}

/* ---- calls that wait ---- */

void upstream_pump_later(struct upstream *upstream)
{
	if (!list_is_empty(&upstream->waiting))
		worker_flush_later(upstream->worker, &upstream->pump);
}

/* Sends, fails, or puts back; false: nor can those behind it be sent now. */
static bool pump_one(struct upstream *upstream, struct upstream_stream *stream)
{
	struct upstream_link *link = pick(upstream, stream->avoided_link);

	if (link && stream_send(stream, link) == 0)
		return true;
	list_push_back(&upstream->waiting, &stream->link);
	if (link || !is_hopeful(upstream, stream->avoided_link)) {
		stream_fail(stream, UPSTREAM_UNAVAILABLE, GRPC_UNAVAILABLE);
		return true;
	}
	return stream->avoided_link != 0;
}

static void pump(struct task *task)
{
	struct upstream *upstream = CONTAINER_OF(task, struct upstream, pump);
	struct list tried;

	/* `done` may start and cancel calls: each step looks at the list anew */
	list_init(&tried);
	list_splice_back(&tried, &upstream->waiting);
	for (struct list *node; (node = list_pop_front(&tried)) != NULL;) {
		if (!pump_one(upstream, CONTAINER_OF(node, struct upstream_stream, link)))
			break;
	}
	list_splice_back(&upstream->waiting, &tried);
}

/* ---- calls ---- */

static int refuse(struct upstream *upstream, struct span path, enum upstream_outcome outcome)
{
	enum grpc_status status =
		outcome == UPSTREAM_BUSY ? GRPC_RESOURCE_EXHAUSTED : GRPC_UNAVAILABLE;
	struct rpc_metrics *rpc = upstream_metrics_rpc(upstream, path);

	metric_add(&upstream->metrics.calls[status], 1);
	if (rpc)
		metric_add(&rpc->errors[status], 1);
	return -(int)outcome;
}

/* Sends it, or lets it wait. Without a stream the outcome says why not. */
static enum upstream_outcome place(struct upstream *upstream,
				   const struct upstream_request *request,
				   struct upstream_stream **stream)
{
	bool is_first = list_is_empty(&upstream->waiting);
	struct upstream_link *link = is_first ? pick(upstream, 0) : NULL;

	if (!link && !is_hopeful(upstream, 0))
		return UPSTREAM_UNAVAILABLE;

	struct upstream_stream *made = stream_create(upstream, request);

	if (!made)
		return UPSTREAM_BUSY;
	if (!link) {
		list_push_back(&upstream->waiting, &made->link);
	} else if (stream_send(made, link) != 0) {
		stream_free(made);
		return UPSTREAM_UNAVAILABLE;
	}
	*stream = made;
	return UPSTREAM_OK;
}

int upstream_call_start(struct upstream *upstream, struct upstream_call *call,
			upstream_done_fn *done, const struct upstream_request *request)
{
	*call = (struct upstream_call){.done = done, .message = request->message_received};
	if (!upstream->is_running)
		return refuse(upstream, request->path, UPSTREAM_UNAVAILABLE);
	if (upstream->in_flight_count >= upstream->config->max_in_flight)
		return refuse(upstream, request->path, UPSTREAM_BUSY);

	uint32_t pass = guard_admit(&upstream->guard);
	struct upstream_stream *stream = NULL;
	enum upstream_outcome outcome =
		pass ? place(upstream, request, &stream) : UPSTREAM_UNAVAILABLE;

	if (!stream) {
		/* our own bounds and memory tell nothing about the service */
		guard_report(&upstream->guard, pass,
			     is_hopeful(upstream, 0) ? BREAKER_UNTOLD : BREAKER_FAILED);
		return refuse(upstream, request->path, outcome);
	}
	stream->pass = pass;
	stream->call = call;
	call->stream = stream;
	upstream->in_flight_count++;
	metric_gauge_set(&upstream->metrics.in_flight, upstream->in_flight_count);
	return 0;
}

void upstream_call_pause(struct upstream_call *call)
{
	if (call->stream)
		call->stream->is_paused = true;
}

void upstream_call_resume(struct upstream_call *call)
{
	if (call->stream)
		stream_resume(call->stream);
}

void upstream_call_cancel(struct upstream_call *call)
{
	if (call->stream)
		stream_abandon(call->stream);
}

/* ---- life ---- */

static bool is_stopped(const struct upstream *upstream)
{
	for (size_t i = 0; i < upstream->backend_count; i++)
		if (!backend_is_stopped(&upstream->backends[i]))
			return false;
	return true;
}

static void settle(struct task *task)
{
	struct upstream *upstream = CONTAINER_OF(task, struct upstream, settle);

	if (upstream->is_retiring && upstream->in_flight_count == 0) {
		upstream_stop(upstream, upstream->stopped, upstream->stopped_context);
		return;
	}
	if (!upstream->is_stopping || !is_stopped(upstream))
		return;
	upstream->is_stopping = false;
	list_remove(&upstream->pump.link);
	if (upstream->stopped)
		upstream->stopped(upstream->stopped_context);
}

void upstream_settle_later(struct upstream *upstream)
{
	if (upstream->is_retiring || upstream->is_stopping)
		worker_sweep_later(upstream->worker, &upstream->settle);
}

static void fail_all(struct list *streams)
{
	while (!list_is_empty(streams)) {
		struct upstream_stream *stream =
			CONTAINER_OF(streams->next, struct upstream_stream, link);

		stream_fail(stream, UPSTREAM_UNAVAILABLE, GRPC_UNAVAILABLE);
	}
}

/* An empty HealthCheckRequest: the whole server is asked for. */
static struct payload *check_message_create(void)
{
	struct payload *message = payload_create(GRPC_PREFIX_BYTES);

	if (message)
		grpc_write_prefix(message->data, 0);
	return message;
}

static int create_backends(struct upstream *upstream)
{
	const struct config_upstream *config = upstream->config;

	upstream->backends = calloc(config->address_count, sizeof(*upstream->backends));
	if (!upstream->backends)
		return -ENOMEM;
	for (size_t i = 0; i < config->address_count; i++) {
		struct dialer *dialers = calloc(config->connections, sizeof(*dialers));

		if (!dialers)
			return -ENOMEM;
		upstream->backends[i].dialers = dialers;
		upstream->backend_count++;
		backend_init(&upstream->backends[i], upstream, &config->addresses[i]);
	}
	return 0;
}

static void release(struct upstream *upstream)
{
	for (size_t i = 0; i < upstream->backend_count; i++)
		free(upstream->backends[i].dialers);
	free(upstream->backends);
	payload_put(upstream->check_message);
	slab_finish(&upstream->streams);
	h2_memory_destroy(upstream->h2_memory);
	free(upstream);
}

int upstream_create(struct upstream **upstream, struct worker *worker,
		    const struct upstream_options *options)
{
	const struct config_upstream *config = options->config;

	CHECK(config->address_count > 0 && config->connections > 0 && config->max_in_flight > 0);

	struct upstream *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->worker = worker;
	made->options = *options;
	made->config = config;
	list_init(&made->waiting);
	list_init(&made->parked);
	task_init(&made->pump, pump);
	task_init(&made->settle, settle);
	backoff_init(&made->jitter);
	guard_init(&made->guard, worker, &config->breaker, config->name);
	/* and one health check for each address */
	slab_init(&made->streams, sizeof(struct upstream_stream),
		  (size_t)config->max_in_flight * STREAMS_PER_CALL +
			  config->address_count * STREAMS_PER_CALL);
	made->check_message = check_message_create();
	if (!made->check_message || h2_memory_create(&made->h2_memory) != 0 ||
	    create_backends(made) != 0) {
		release(made);
		return -ENOMEM;
	}
	upstream_metrics_register(made);
	if (config->health)
		upstream_announce(made, HEALTH_CHECK_PATH);
	*upstream = made;
	return 0;
}

void upstream_announce(struct upstream *upstream, struct span path)
{
	upstream_metrics_rpc(upstream, path); /* without memory the first call tries again */
}

void upstream_start(struct upstream *upstream)
{
	CHECK(!upstream->is_running && !upstream->is_stopping);
	upstream->is_running = true;
	for (size_t i = 0; i < upstream->backend_count; i++)
		backend_start(&upstream->backends[i]);
}

void upstream_retire(struct upstream *upstream, void (*stopped)(void *context), void *context)
{
	upstream->stopped = stopped;
	upstream->stopped_context = context;
	upstream->is_running = false;
	upstream->is_retiring = true;
	for (size_t i = 0; i < upstream->backend_count; i++)
		backend_show(&upstream->backends[i]);
	upstream_settle_later(upstream);
}

void upstream_stop(struct upstream *upstream, void (*stopped)(void *context), void *context)
{
	upstream->stopped = stopped;
	upstream->stopped_context = context;
	upstream->is_running = false;
	upstream->is_retiring = false;
	upstream->is_stopping = true;
	fail_all(&upstream->waiting);
	fail_all(&upstream->parked);
	for (size_t i = 0; i < upstream->backend_count; i++)
		backend_stop(&upstream->backends[i]);
	upstream_settle_later(upstream);
}

void upstream_destroy(struct upstream *upstream)
{
	if (!upstream)
		return;
	CHECK(!upstream->is_running && !upstream->is_retiring && !upstream->is_stopping &&
	      is_stopped(upstream));
	CHECK(list_is_empty(&upstream->pump.link) && list_is_empty(&upstream->settle.link));
	upstream_metrics_finish(upstream);
	release(upstream);
}
