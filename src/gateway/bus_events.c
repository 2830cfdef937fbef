/* Client events: from the tail through signing into the feeds, with fences so that a busy worker is
 * no slow stream. */
#include "gateway/bus_internal.h"
#include "gateway/record.h"

#include <stdlib.h>

#define REFERENCES_AT_ONCE 1024 /* references added to a payload in one atomic step */

static struct bus_event *event_create(struct bus *bus, const struct client_event *client)
{
	struct bus_event *event =
		malloc(sizeof(*event) + client->user_id.len + client->device_session_id.len);

	if (!event)
		return NULL;
	event->payload = wire_write_event(&bus->signing, &client->event);
	if (!event->payload) {
		free(event);
		return NULL;
	}
	list_init(&event->link);
	event->user_len = (uint16_t)client->user_id.len;
	event->session_len = (uint16_t)client->device_session_id.len;
	memcpy(event->text, client->user_id.data, event->user_len);
	if (event->session_len)
		memcpy(event->text + event->user_len, client->device_session_id.data,
		       event->session_len);
	return event;
}

static void event_destroy(struct bus_event *event)
{
	payload_put(event->payload);
	free(event);
}

static struct span event_user(const struct bus_event *event)
{
	return span_make(event->text, event->user_len);
}

static void client_started(struct redis_tail *tail)
{
	struct bus *bus = redis_tail_context(tail);

	if (++bus->tails_started == 2)
		bus->started(bus->started_context);
}

static void client_entry(struct redis_tail *tail, const struct tail_entry *entry)
{
	struct bus *bus = redis_tail_context(tail);
	struct client_event client;
	const char *field;
	int64_t lag_ms = bus->worker->wall_ms - (int64_t)entry->id_ms;

	metric_gauge_set(&bus->metrics.client.lag_ms, lag_ms > 0 ? lag_ms : 0);
	if (record_read_client_event(entry, bus->config->grpc_max_message_bytes, &client, &field) ||
	    client.user_id.len > UINT16_MAX || client.device_session_id.len > UINT16_MAX) {
		metric_add(&bus->metrics.client.malformed, 1);
		LOG(LOG_WARN, "bus", "client event is malformed", LOG_BYTES("entry", entry->id),
		    LOG_TEXT("field", field));
		return;
	}
	client.event.timestamp_ms = bus->worker->wall_ms;
	struct bus_event *event = event_create(bus, &client);

	if (!event) {
		metric_add(&bus->metrics.undelivered, 1);
		LOG(LOG_ERROR, "bus", "client event dropped: out of memory",
		    LOG_BYTES("entry", entry->id));
		return;
	}
	metric_add(&bus->metrics.client.handled, 1);
	list_push_back(&bus->pending, &event->link);
	bus->pending_count++;
}

static void client_batch_end(struct redis_tail *tail)
{
	struct bus *bus = redis_tail_context(tail);

	bus_pump(bus);
	bus_balance_reading(bus);
}

static void client_lost(struct redis_tail *tail, enum tail_loss loss)
{
	struct bus *bus = redis_tail_context(tail);

	metric_add(loss == TAIL_RECREATED ? &bus->metrics.client.recreated
					  : &bus->metrics.client.trimmed,
		   1);
	LOG(LOG_WARN, "bus", "client events may have been lost",
	    LOG_TEXT("cause", loss == TAIL_RECREATED ? "stream recreated" : "stream trimmed"));
}

const struct tail_handler bus_client_handler = {
	.started = client_started,
	.entry = client_entry,
	.batch_end = client_batch_end,
	.lost = client_lost,
};

struct delivery {
	struct bus *bus;
	const struct bus_event *event;
	uint32_t references; /* of the payload, held for feeds to come */
};

static void deliver_to(struct subscription *subscription, void *context)
{
	struct delivery *delivery = context;
	struct bus_member *member = bus_member_of(subscription);
	bool wake = false;

	if (!span_equal(session_user(member->session), event_user(delivery->event))) {
		metric_add(&delivery->bus->metrics.wrong_user, 1);
		return;
	}
	if (delivery->references == 0) {
		payload_get(delivery->event->payload, REFERENCES_AT_ONCE);
		delivery->references = REFERENCES_AT_ONCE;
	}
	if (feed_push(&subscription->feed, delivery->event->payload, &wake) == FEED_PUSHED) {
		delivery->references--;
		wake = true; /* the fence waits for its worker, also if the feed was in its queue
				before */
	}
	if (wake)
		bus_note_wake(delivery->bus, member);
}

static void shed(struct subscription *subscription, void *context)
{
	struct bus *bus = context;
	bool wake = false;

	feed_set_end(&subscription->feed, FEED_OVERFLOWED, &wake);
	metric_add(&bus->metrics.over_budget, 1);
	if (wake)
		bus_note_wake(bus, bus_member_of(subscription));
}

/*
 * At the bound of all queued bytes the streams holding most overflow. What they hold is given back
 * when their workers let go, so it counts as gone until the next fence.
 */
static void make_room(struct bus *bus, uint64_t bytes)
{
	uint64_t queued = atomic_load_explicit(&bus->budget->queued_bytes, memory_order_relaxed);
	uint64_t allowed = bus->budget->max_bytes + bus->shed_bytes;

	if (queued + bytes > allowed)
		bus->shed_bytes += index_shed(&bus->index, queued + bytes - allowed, shed, bus);
}

static void deliver(struct bus *bus, struct bus_event *event)
{
	struct delivery delivery = {.bus = bus, .event = event};
	uint32_t visited;

	make_room(bus, event->payload->len);
	if (event->session_len)
		visited = index_each_of_session(
			&bus->index, span_make(event->text + event->user_len, event->session_len),
			deliver_to, &delivery);
	else
		visited = index_each_of_user(&bus->index, event_user(event), deliver_to, &delivery);
	if (visited == 0)
		metric_add(&bus->metrics.undelivered, 1);
	metric_add(&bus->metrics.events, 1);
	payload_put_many(event->payload, delivery.references);
}

/*
 * ---- fences: a feed that was drained at the last one can take what is pushed before the next:
 * `events_per_fence`, and the bootstrap of a stream that came after it ----
 */

static void fence_done(struct bus *bus)
{
	deadline_disarm(bus->worker, &bus->fence_deadline);
	bus->events_since_fence = 0;
	bus->shed_bytes = 0;
	bus_pump(bus);
	bus_balance_reading(bus);
}

static void fence_send(struct bus_port *port);

static void fence_returned(struct worker *to, struct letter *letter)
{
	struct bus_port *port = CONTAINER_OF(letter, struct bus_port, fence_back);

	(void)to;
	port->fence_is_out = false;
	if (!port->fence_awaited) { /* late: its fence has timed out, or reading has ended */
		port->fence_again = false;
		bus_balance_reading(port->bus);
		return;
	}
	if (port->fence_again) { /* late, and its drain pass may have come before the last pushes */
		port->fence_again = false;
		fence_send(port);
		return;
	}
	port->fence_awaited = false;
	if (--port->bus->fences_out == 0)
		fence_done(port->bus);
}

static void fence_drained(struct task *task)
{
	struct bus_port *port = CONTAINER_OF(task, struct bus_port, fence_done);

	if (!list_is_empty(
		    &port->worker->flush_tasks)) { /* the flush step is longer than one turn */
		worker_sweep_later(port->worker, task);
		return;
	}
	port->fence_back.deliver = fence_returned;
	letter_post(port->worker, port->bus->worker, &port->fence_back);
}

static void fence_arrived(struct worker *to, struct letter *letter)
{
	struct bus_port *port = CONTAINER_OF(letter, struct bus_port, fence_out);

	port->drain(port);
	/* after this turn's flush step has pulled the feeds */
	task_init(&port->fence_done, fence_drained);
	worker_sweep_later(to, &port->fence_done);
}

static void fence_send(struct bus_port *port)
{
	port->fence_is_out = true;
	port->fence_out.deliver = fence_arrived;
	letter_post(port->bus->worker, port->worker, &port->fence_out);
}

void bus_fence_expired(struct deadline *deadline)
{
	struct bus *bus = CONTAINER_OF(deadline, struct bus, fence_deadline);

	metric_add(&bus->metrics.fence_timeouts, 1);
	for (uint32_t i = 0; i < bus->port_count; i++)
		bus->ports[i].fence_awaited = false;
	bus->fences_out = 0;
	bus->events_since_fence = 0;
	bus_pump(bus);
	bus_balance_reading(bus);
}

/* Returns whether there is anyone to wait for. */
static bool fence_start(struct bus *bus)
{
	for (uint32_t i = 0; i < bus->port_count; i++) {
		struct bus_port *port = &bus->ports[i];

		if (!bus->port_woken[i])
			continue;
		bus->port_woken[i] = false;
		port->fence_awaited = true;
		bus->fences_out++;
		port->fence_again = port->fence_is_out; /* late from a fence that timed out */
		if (port->fence_is_out)
			worker_wake(bus->worker, port->worker);
		else
			fence_send(port);
	}
	bus->events_since_fence = 0;
	if (bus->fences_out == 0)
		return false;
	deadline_arm(bus->worker, &bus->fence_deadline, BUS_FENCE_MS);
	return true;
}

void bus_pump(struct bus *bus)
{
	struct list *link;

	while (bus->fences_out == 0 && (link = list_pop_front(&bus->pending))) {
		struct bus_event *event = CONTAINER_OF(link, struct bus_event, link);

		bus->pending_count--;
		deliver(bus, event);
		event_destroy(event);
		if (++bus->events_since_fence >= bus->events_per_fence && fence_start(bus))
			return;
	}
	if (bus->fences_out == 0)
		fence_start(bus);
}

void bus_events_drop(struct bus *bus)
{
	struct list *link;

	while ((link = list_pop_front(&bus->pending)))
		event_destroy(CONTAINER_OF(link, struct bus_event, link));
	bus->pending_count = 0;
}
