/*
 * The end, component by component (edge.md §6): each has GATEWAY_SHUTDOWN_TIMEOUT, then it is cut
 * and named. Clients that have not sent their request or taken their answer by then are closed, too,
 * but that is no failure: else any of them could make one of every end.
 */
#include "gateway/gateway_internal.h"

#include "gateway/health.h"

#include <stdlib.h>
#include <unistd.h>

#define CUT_TIMEOUT_MS 1000 /* what was cut ends by itself; if not, the process does */

/* ---- on the nodes ---- */

#define SERVERS_MAX 2

static size_t servers_of(const struct gateway_thread *thread, struct server *servers[SERVERS_MAX])
{
	size_t count = 0;

	servers[count++] = thread->node->public_server;
	if (thread->node->grpc_server)
		servers[count++] = thread->node->grpc_server;
	return count;
}

static void command_stop_accepting(struct gateway_thread *thread)
{
	struct server *servers[SERVERS_MAX];
	size_t count = thread->listening ? servers_of(thread, servers) : 0;

	for (size_t i = 0; i < count; i++)
		server_stop_accepting(servers[i]);
	gateway_report(thread);
}

static void server_drained(void *context)
{
	struct gateway_thread *thread = context;

	if (--thread->servers_open == 0)
		gateway_report(thread);
}

static void command_drain(struct gateway_thread *thread)
{
	const struct guest_operations *guest = thread->node->shared->guest;
	struct server *servers[SERVERS_MAX];
	size_t count = servers_of(thread, servers);

	thread->servers_open = (uint8_t)count;
	for (size_t i = 0; i < count; i++)
		server_drain(servers[i], server_drained, thread);
	/* behind them, so that no connection waits for another request */
	if (guest)
		guest->drain(thread->node->guest);
}

static void command_cut(struct gateway_thread *thread)
{
	struct server *servers[SERVERS_MAX];
	size_t count = servers_of(thread, servers);
	uint32_t cut = 0;

	if (thread->servers_open == 0)
		return; /* it has reported meanwhile: owing_count is control's */
	thread->owing_count = 0;
	for (size_t i = 0; i < count; i++)
		thread->owing_count += server_owing_count(servers[i]);
	for (size_t i = 0; i < count; i++)
		cut += server_cut(servers[i]);
	LOG(LOG_WARN, "gateway", "connections cut", LOG_TEXT("worker", thread->name),
	    LOG_UINT("connections", cut), LOG_UINT("awaiting_service", thread->owing_count));
}

static void node_stopped(struct node *node)
{
	struct gateway_thread *thread = node->context;

	gateway_report(thread);
	worker_stop(&thread->worker);
}

static void command_stop_node(struct gateway_thread *thread)
{
	node_stop(thread->node, node_stopped, thread);
}

/* ---- on the bus ---- */

static void bus_done(void *context)
{
	gateway_report(context);
}

static void command_stop_reading(struct gateway_thread *thread)
{
	bus_stop_reading(thread->gateway->shared.bus, bus_done, thread);
}

static void command_close_hub(struct gateway_thread *thread)
{
	bus_close_hub(thread->gateway->shared.bus);
	gateway_report(thread);
}

static void bus_finished(void *context)
{
	struct gateway_thread *thread = context;

	gateway_report(thread);
	worker_stop(&thread->worker);
}

static void command_finish_bus(struct gateway_thread *thread)
{
	bus_finish(thread->gateway->shared.bus, bus_finished, thread);
}

/* ---- on control ---- */

static void cut_noticed(struct worker *to, struct letter *letter)
{
	(void)to;
	command_cut(CONTAINER_OF(letter, struct gateway_thread, cut_notice));
}

struct stop_step {
	const char *component;
	gateway_command *on_nodes, *on_bus;
	/* NULL: nothing that could be cut; the process ends. Brought by cut_notice. */
	void (*cut)(struct worker *to, struct letter *letter);
};

static const struct stop_step steps[] = {
	{.component = "listeners", .on_nodes = command_stop_accepting},
	{.component = "subscribers", .on_bus = command_stop_reading},
	{.component = "push hub", .on_bus = command_close_hub},
	{.component = "calls", .on_nodes = command_drain, .cut = cut_noticed},
	{.component = "bus", .on_bus = command_finish_bus},
	{.component = "workers", .on_nodes = command_stop_node},
};

/* What is on the bus is skipped where there is none. */
static bool step_has_part(const struct gateway *gateway, size_t step)
{
	return steps[step].on_nodes || gateway->shared.bus;
}

static void step_begin(struct gateway *gateway)
{
	const struct stop_step *step = &steps[gateway->step];

	gateway->step_was_cut = false;
	gateway->step_started_ms = gateway->control->now_ms;
	deadline_arm(gateway->control, &gateway->step_deadline,
		     gateway->options.config->shutdown_timeout_ms);
	/* letters arrive in the order posted: errands that are out come back before the nodes end
	 */
	if (step->on_nodes == command_stop_node)
		gateway->nodes_leave = true;
	if (step->on_nodes)
		gateway_tell_nodes(gateway, step->on_nodes);
	if (step->on_bus)
		gateway_tell(&gateway->bus_thread, step->on_bus);
}

static void join(struct gateway_thread *thread)
{
	if (!thread->is_running)
		return;
	pthread_join(thread->thread, NULL);
	thread->is_running = false;
}

static void step_failed(struct gateway *gateway)
{
	gateway->clean = false;
	LOG(LOG_ERROR, "gateway", "component did not stop in time and is cut",
	    LOG_TEXT("cut", steps[gateway->step].component));
}

/* Whether anything was cut that did not wait for its peer alone. */
static bool step_cut_services(const struct gateway *gateway)
{
	for (uint32_t i = 0; gateway->step_was_cut && i < gateway->node_count; i++)
		if (gateway->node_threads[i].owing_count > 0)
			return true;
	return false;
}

static void step_reported(struct gateway *gateway)
{
	if (!gateway->stopping || gateway->starting)
		return;
	deadline_disarm(gateway->control, &gateway->step_deadline);

	bool is_late = step_cut_services(gateway);

	if (is_late)
		step_failed(gateway);
	LOG(LOG_INFO, "gateway", "component stopped",
	    LOG_TEXT("stopped", steps[gateway->step].component),
	    LOG_UINT("took_ms", gateway->control->now_ms - gateway->step_started_ms),
	    LOG_FLAG("cut", is_late));
	if (steps[gateway->step].on_nodes == command_stop_accepting)
		gateway->options.accepting_stopped(gateway->options.context);
	do {
		gateway->step++;
	} while (gateway->step < ARRAY_LEN(steps) && !step_has_part(gateway, gateway->step));
	if (gateway->step < ARRAY_LEN(steps)) {
		step_begin(gateway);
		return;
	}
	join(&gateway->bus_thread);
	for (uint32_t i = 0; i < gateway->node_count; i++)
		join(&gateway->node_threads[i]);
	gateway->options.stopped(gateway->options.context, gateway->clean);
}

static void step_expired(struct deadline *deadline)
{
	struct gateway *gateway = CONTAINER_OF(deadline, struct gateway, step_deadline);
	const struct stop_step *step = &steps[gateway->step];

	if (!step->cut || gateway->step_was_cut) {
		step_failed(gateway);
		_exit(1);
	}
	gateway->step_was_cut = true;
	deadline_arm(gateway->control, deadline, CUT_TIMEOUT_MS);
	for (uint32_t i = 0; i < gateway->node_count; i++) {
		struct gateway_thread *thread = &gateway->node_threads[i];

		/* Not by the command's letter: a worker that hangs has not opened it yet. */
		thread->cut_notice.deliver = step->cut;
		if (thread->is_reporting)
			letter_post(gateway->control, &thread->worker, &thread->cut_notice);
	}
}

/* What was told before the end began (listen) has been answered. */
static void start_settled(struct gateway *gateway)
{
	gateway->starting = false;
	gateway->reported = step_reported;
	gateway->step = 0;
	step_begin(gateway);
}

static void delay_expired(struct deadline *deadline)
{
	struct gateway *gateway = CONTAINER_OF(deadline, struct gateway, delay_deadline);

	if (gateway->reports_due > 0)
		gateway->reported = start_settled;
	else
		start_settled(gateway);
}

void gateway_stop_init(struct gateway *gateway)
{
	deadline_init(&gateway->step_deadline, step_expired);
	deadline_init(&gateway->delay_deadline, delay_expired);
}

static void drain_noticed(struct worker *to, struct letter *letter)
{
	(void)to;
	health_announce(CONTAINER_OF(letter, struct gateway_thread, drain_notice)->node);
}

void gateway_stop(struct gateway *gateway)
{
	CHECK(!gateway->stopping);
	gateway->stopping = true;
	atomic_store_explicit(&gateway->shared.draining, true, memory_order_relaxed);
	for (uint32_t i = 0; i < gateway->node_count; i++) {
		struct gateway_thread *thread = &gateway->node_threads[i];

		thread->drain_notice.deliver = drain_noticed;
		letter_post(gateway->control, &thread->worker, &thread->drain_notice);
	}
	if (gateway->options.config->shutdown_delay_ms)
		deadline_arm(gateway->control, &gateway->delay_deadline,
			     gateway->options.config->shutdown_delay_ms);
	else
		delay_expired(&gateway->delay_deadline);
}
