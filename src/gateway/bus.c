#include "gateway/bus_internal.h"

#include "gateway/redis_options.h"

#include <errno.h>
#include <stdlib.h>

#define TAIL_REPLY_BYTES_MAX                                                                       \
	(256u << 20) /* 128 entries; a reply over it loses the connection, not the process */
#define TAIL_CONNECT_TIMEOUT_MS 5000
#define FENCE_EVENTS_MAX	TAIL_BATCH

static const struct metric_family entries_family = {
	"gateway_stream_entries_total", "Redis Stream entries read, by what became of them.",
	METRIC_COUNTER};
static const struct metric_family gaps_family = {"gateway_stream_gaps_total",
						 "Times that stream entries may have been lost.",
						 METRIC_COUNTER};
static const struct metric_family gap_causes_family = {
	"gateway_stream_gap_causes_total",
	"Gaps in streams by cause: trimmed past us, or recreated.", METRIC_COUNTER};
static const struct metric_family lag_family = {
	"gateway_stream_lag_seconds", "Age of the last entry when it was read.", METRIC_GAUGE_MS};
static const struct metric_family events_family = {
	"gateway_push_events_total", "Client events signed and offered to feeds.", METRIC_COUNTER};
static const struct metric_family undelivered_family = {
	"gateway_push_events_without_stream_total", "Client events that concerned no open stream.",
	METRIC_COUNTER};
static const struct metric_family wrong_user_family = {
	"gateway_push_events_wrong_user_total", "Client events for a session of another user.",
	METRIC_COUNTER};
static const struct metric_family over_budget_family = {
	"gateway_push_over_budget_total", "Streams ended because all queues together were full.",
	METRIC_COUNTER};
static const struct metric_family fence_family = {
	"gateway_push_fence_timeouts_total", "Batches that a worker did not drain within 100 ms.",
	METRIC_COUNTER};
static const struct metric_family out_of_memory_family = {
	"gateway_stream_entries_out_of_memory_total",
	"Redis Stream entries without memory: client events end the streams they are for, session "
	"events make workers forget all sessions.",
	METRIC_COUNTER};
static const struct metric_family registrations_family = {
	"gateway_push_registrations_total", "Streams offered to the hub, by its answer.",
	METRIC_COUNTER};
static const struct metric_family streams_family = {"gateway_push_streams_open",
						    "Open event streams.", METRIC_GAUGE};
static const struct metric_family rereads_family = {
	"gateway_session_rereads_total", "Sessions of open streams read again after a loss.",
	METRIC_COUNTER};

static void register_metrics(struct bus *bus, struct metric_registry *registry)
{
	const struct {
		const struct metric_family *family;
		const char *labels;
		const void *cell;
	} cells[] = {
		{&entries_family, "stream=\"session_events\",result=\"ok\"",
		 &bus->metrics.session.handled},
		{&entries_family, "stream=\"session_events\",result=\"malformed\"",
		 &bus->metrics.session.malformed},
		{&entries_family, "stream=\"client_events\",result=\"ok\"",
		 &bus->metrics.client.handled},
		{&entries_family, "stream=\"client_events\",result=\"malformed\"",
		 &bus->metrics.client.malformed},
		{&gaps_family, "stream=\"session_events\"", &bus->metrics.session.recreated},
		{&gap_causes_family, "stream=\"session_events\",cause=\"recreated\"",
		 &bus->metrics.session.recreated},
		{&gaps_family, "stream=\"session_events\"", &bus->metrics.session.trimmed},
		{&gap_causes_family, "stream=\"session_events\",cause=\"trimmed\"",
		 &bus->metrics.session.trimmed},
		{&gaps_family, "stream=\"client_events\"", &bus->metrics.client.recreated},
		{&gap_causes_family, "stream=\"client_events\",cause=\"recreated\"",
		 &bus->metrics.client.recreated},
		{&gaps_family, "stream=\"client_events\"", &bus->metrics.client.trimmed},
		{&gap_causes_family, "stream=\"client_events\",cause=\"trimmed\"",
		 &bus->metrics.client.trimmed},
		{&lag_family, "stream=\"session_events\"", &bus->metrics.session.lag_ms},
		{&lag_family, "stream=\"client_events\"", &bus->metrics.client.lag_ms},
		{&events_family, "", &bus->metrics.events},
		{&undelivered_family, "", &bus->metrics.undelivered},
		{&wrong_user_family, "", &bus->metrics.wrong_user},
		{&over_budget_family, "", &bus->metrics.over_budget},
		{&fence_family, "", &bus->metrics.fence_timeouts},
		{&out_of_memory_family, "stream=\"session_events\"",
		 &bus->metrics.session_out_of_memory},
		{&out_of_memory_family, "stream=\"client_events\"",
		 &bus->metrics.client_out_of_memory},
		{&registrations_family, "verdict=\"admitted\"",
		 &bus->metrics.verdicts[BUS_ADMITTED]},
		{&registrations_family, "verdict=\"revoked\"", &bus->metrics.verdicts[BUS_REVOKED]},
		{&registrations_family, "verdict=\"recheck\"", &bus->metrics.verdicts[BUS_RECHECK]},
		{&registrations_family, "verdict=\"too_many\"",
		 &bus->metrics.verdicts[BUS_TOO_MANY]},
		{&registrations_family, "verdict=\"closing\"", &bus->metrics.verdicts[BUS_CLOSING]},
		{&registrations_family, "verdict=\"no_memory\"",
		 &bus->metrics.verdicts[BUS_NO_MEMORY]},
		{&streams_family, "", &bus->metrics.members},
		{&rereads_family, "result=\"ended\"", &bus->metrics.reread_ended},
		{&rereads_family, "result=\"kept\"", &bus->metrics.reread_kept},
		{&rereads_family, "result=\"unanswered\"", &bus->metrics.reread_unanswered},
	};

	for (size_t i = 0; registry && i < ARRAY_LEN(cells); i++)
		metric_register(registry, cells[i].family, cells[i].labels, cells[i].cell);
}

static struct redis_options redis_options_for(const struct bus *bus, enum redis_role role,
					      struct metric_registry *metrics)
{
	struct redis_options options = redis_options_from(bus->config, bus->redis_tls);

	options.connect_timeout_ms = TAIL_CONNECT_TIMEOUT_MS;
	options.role = role;
	options.dns = bus->dns;
	options.limits = (struct resp_limits){
		.value_bytes_max = TAIL_REPLY_BYTES_MAX, .items_max = 1u << 16, .depth_max = 7};
	options.metrics = metrics;
	return options;
}

static int create_readers(struct bus *bus, struct metric_registry *metrics)
{
	const struct config *config = bus->config;
	struct tail_options session = {
		.redis = redis_options_for(bus, REDIS_SESSION_EVENTS, metrics),
		.stream = span_from_cstr(config->session_events_stream),
		.block_ms = (uint32_t)config->session_events_block_ms,
		.handler = &bus_session_handler,
		.context = bus,
	};
	struct tail_options client = {
		.redis = redis_options_for(bus, REDIS_CLIENT_EVENTS, metrics),
		.stream = span_from_cstr(config->client_events_stream),
		.block_ms = (uint32_t)config->client_events_block_ms,
		.gather_us = BUS_GATHER_US,
		.handler = &bus_client_handler,
		.context = bus,
	};
	struct redis_options rereads = redis_options_for(bus, REDIS_SESSION, metrics);
	int error = redis_tail_create(&bus->session_tail, bus->worker, &session);

	if (!error)
		error = redis_tail_create(&bus->client_tail, bus->worker, &client);
	if (!error)
		error = redis_client_create(&bus->redis, bus->worker, &rereads);
	return error;
}

static void finish_if_empty(struct task *task)
{
	struct bus *bus = CONTAINER_OF(task, struct bus, finish_task);

	if (!bus->finished || bus->index.subscription_count > 0 || bus->updates_out > 0)
		return;
	for (uint32_t i = 0; i < bus->port_count; i++)
		if (bus->ports[i].fence_is_out)
			return;
	void (*finished)(void *context) = bus->finished;

	bus->finished = NULL;
	finished(bus->finished_context);
}

int bus_create(struct bus **created, const struct bus_options *options)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	int error = -ENOMEM;

	if (!bus)
		return -ENOMEM;
	bus->worker = options->worker;
	bus->config = options->config;
	bus->redis_tls = options->redis_tls;
	bus->ports = options->ports;
	bus->port_count = options->port_count;
	bus->budget = options->budget;
	bus->started = options->started;
	bus->started_context = options->context;
	uint64_t room = options->config->push_queue_capacity - 1; /* beside a bootstrap */
	bus->events_per_fence = room < FENCE_EVENTS_MAX ? (uint32_t)room : FENCE_EVENTS_MAX;
	index_init(&bus->index, options->secret);
	list_init(&bus->pending);
	list_init(&bus->rereads);
	hash_init(&bus->reread_of, bus_reread_matches, options->secret);
	deadline_init(&bus->fence_deadline, bus_fence_expired);
	deadline_init(&bus->reread_tick, bus_reread_expired);
	task_init(&bus->finish_task, finish_if_empty);
	for (uint32_t i = 0; i < bus->port_count; i++)
		bus->ports[i].bus = bus;
	*created = bus;
	CHECK(bus->port_count > 0);
	bus->port_woken = calloc(bus->port_count, sizeof(*bus->port_woken));
	bus->recent = recent_create(options->secret);
	if (!bus->port_woken || !bus->recent || bus_spare_create(bus) ||
	    wire_signing_init(&bus->signing, options->signer))
		goto fail;
	error = dns_create(&bus->dns, bus->worker);
	if (!error)
		error = create_readers(bus, options->metrics);
	if (error)
		goto fail;
	register_metrics(bus, options->metrics);
	return 0;
fail:
	bus_destroy(bus);
	return error;
}

void bus_destroy(struct bus *bus)
{
	bus_events_drop(bus);
	if (bus->session_tail)
		redis_tail_destroy(bus->session_tail);
	if (bus->client_tail)
		redis_tail_destroy(bus->client_tail);
	if (bus->redis)
		redis_client_destroy(bus->redis);
	recent_destroy(bus->recent);
	hash_finish(&bus->reread_of);
	index_finish(&bus->index);
	wire_signing_finish(&bus->signing);
	bus_spare_destroy(bus);
	free(bus->port_woken);
	free(bus);
}

void bus_start(struct bus *bus)
{
	/* the turn that enabled the thread's ring may have brought the end already */
	if (bus->stopped_reading)
		return;
	bus->reading = true;
	redis_tail_start(bus->session_tail);
	redis_tail_start(bus->client_tail);
	redis_client_start(bus->redis, NULL, NULL);
}

/* A publisher may choose the id: it is any number, and of a time to come. */
void bus_note_lag(const struct bus *bus, struct bus_stream_metrics *metrics, uint64_t id_ms)
{
	int64_t now_ms = bus->worker->wall_ms;
	bool is_past = now_ms > 0 && id_ms < (uint64_t)now_ms;

	metric_gauge_set(&metrics->lag_ms, is_past ? now_ms - (int64_t)id_ms : 0);
}

void bus_balance_reading(struct bus *bus)
{
	if (bus->finished)
		worker_sweep_later(bus->worker, &bus->finish_task);
	if (!bus->reading)
		return;
	if (bus->pending_count > 0)
		redis_tail_pause(bus->client_tail);
	else
		redis_tail_resume(bus->client_tail);
	if (bus->updates_out >= BUS_UPDATES_MAX)
		redis_tail_pause(bus->session_tail);
	else
		redis_tail_resume(bus->session_tail);
}

/* ---- members ---- */

static uint32_t port_of(const struct bus *bus, const struct worker *worker)
{
	for (uint32_t i = 0; i < bus->port_count; i++)
		if (bus->ports[i].worker == worker)
			return i;
	UNREACHABLE("every member's worker has a port");
}

void bus_note_wake(struct bus *bus, struct bus_member *member)
{
	bus->port_woken[port_of(bus, member->worker)] = true;
}

void bus_wake_ports(struct bus *bus)
{
	if (bus->fences_out > 0)
		return; /* the fence that follows takes them along */
	for (uint32_t i = 0; i < bus->port_count; i++) {
		if (bus->port_woken[i])
			worker_wake(bus->worker, bus->ports[i].worker);
		bus->port_woken[i] = false;
	}
}

static void reply_arrived(struct worker *to, struct letter *letter)
{
	struct bus_member *member = CONTAINER_OF(letter, struct bus_member, to_worker);

	(void)to;
	member->replied(member);
}

static void release_arrived(struct worker *to, struct letter *letter)
{
	struct bus_member *member = CONTAINER_OF(letter, struct bus_member, to_worker);

	(void)to;
	member->released(member);
}

static enum bus_verdict admit(struct bus *bus, struct bus_member *member)
{
	struct span id = session_id(member->session);
	bool wake = false;

	if (bus->closing)
		return BUS_CLOSING;
	switch (recent_judge(bus->recent, id, member->checked_sequence)) {
	case RECENT_REVOKED:
		return BUS_REVOKED;
	case RECENT_DOUBTFUL:
		return BUS_RECHECK;
	case RECENT_CURRENT:
		break;
	}
	if (index_session_count(&bus->index, id) >= bus->config->push_max_streams_per_session)
		return BUS_TOO_MANY;
	if (index_add(&bus->index, &member->subscription, session_user(member->session), id))
		return BUS_NO_MEMORY;
	/* the first push of an open feed is never refused: it has two inline slots */
	CHECK(feed_push(&member->subscription.feed, member->bootstrap, &wake) == FEED_PUSHED);
	member->bootstrap = NULL;
	return BUS_ADMITTED; /* the reply's letter is the wake-up */
}

static void register_arrived(struct worker *to, struct letter *letter)
{
	struct bus_member *member = CONTAINER_OF(letter, struct bus_member, to_bus);
	struct bus *bus = member->bus;

	member->verdict = admit(bus, member);
	metric_add(&bus->metrics.verdicts[member->verdict], 1);
	metric_gauge_set(&bus->metrics.members, bus->index.subscription_count);
	member->to_worker.deliver = reply_arrived;
	letter_post(to, member->worker, &member->to_worker);
}

void bus_register(struct bus_member *member)
{
	member->to_bus.deliver = register_arrived;
	letter_post(member->worker, member->bus->worker, &member->to_bus);
}

static void unregister_arrived(struct worker *to, struct letter *letter)
{
	struct bus_member *member = CONTAINER_OF(letter, struct bus_member, to_bus);
	struct bus *bus = member->bus;

	index_remove(&bus->index, &member->subscription);
	metric_gauge_set(&bus->metrics.members, bus->index.subscription_count);
	member->to_worker.deliver = release_arrived;
	letter_post(to, member->worker, &member->to_worker);
	if (bus->finished)
		worker_sweep_later(bus->worker, &bus->finish_task);
}

void bus_unregister(struct bus_member *member)
{
	member->to_bus.deliver = unregister_arrived;
	letter_post(member->worker, member->bus->worker, &member->to_bus);
}

/* ---- the end ---- */

static void dns_closed(void *context)
{
	struct bus *bus = context;

	bus->dns = NULL;
	if (--bus->parts_running == 0)
		bus->stopped_reading(bus->stopped_reading_context);
}

static void part_stopped(void *context)
{
	struct bus *bus = context;

	if (--bus->parts_running > 1)
		return;
	dns_destroy(bus->dns, dns_closed, bus);
}

void bus_stop_reading(struct bus *bus, void (*done)(void *context), void *context)
{
	bus->reading = false;
	bus->stopped_reading = done;
	bus->stopped_reading_context = context;
	bus_reread_stop(bus);
	deadline_disarm(bus->worker, &bus->fence_deadline);
	bus->parts_running = 4; /* two tails, the client, then the resolver */
	redis_tail_stop(bus->session_tail, part_stopped, bus);
	redis_tail_stop(bus->client_tail, part_stopped, bus);
	redis_client_stop(bus->redis, part_stopped, bus);
}

static void end_for_shutdown(struct subscription *subscription, void *context)
{
	struct bus *bus = context;
	bool wake = false;

	feed_set_end(&subscription->feed, FEED_SHUTDOWN, &wake);
	if (wake)
		bus_note_wake(bus, bus_member_of(subscription));
}

void bus_close_hub(struct bus *bus)
{
	bus->closing = true;
	deadline_disarm(bus->worker, &bus->fence_deadline);
	bus->fences_out = 0;
	for (uint32_t i = 0; i < bus->port_count; i++)
		bus->ports[i].fence_awaited = false;
	bus_events_drop(bus);
	index_each(&bus->index, end_for_shutdown, bus);
	bus_wake_ports(bus);
}

void bus_finish(struct bus *bus, void (*done)(void *context), void *context)
{
	bus->finished = done;
	bus->finished_context = context;
	worker_sweep_later(bus->worker, &bus->finish_task);
}
