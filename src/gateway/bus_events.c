/* Client events: from the tail through signing into the feeds, with fences so that a busy worker is
 * no slow stream. */
#include "gateway/bus_internal.h"
#include "gateway/record.h"

#include <errno.h>
#include <stdlib.h>

#define FETCHED_AT_ONCE	   32	/* events whose users are looked up together */
#define REFERENCES_AT_ONCE 1024 /* references added to a payload in one atomic step */

static struct span event_user(const struct bus_event *event)
{
	return span_make(event->text, event->user_len);
}

static struct span event_session(const struct bus_event *event)
{
	return span_make(event->text + event->user_len, event->session_len);
}

/* The last one that waits and concerns a stream of this user; NULL if none does. */
static struct bus_event *find_last_of(struct bus *bus, struct span user, uint64_t user_hash)
{
	for (struct list *link = bus->pending.prev; link != &bus->pending; link = link->prev) {
		struct bus_event *event = CONTAINER_OF(link, struct bus_event, link);

		if (event->user_hash == user_hash && span_equal(event_user(event), user))
			return event;
	}
	return NULL;
}

/* Encodes: into a payload of its own, or as the first of a batch. */
static struct payload *write_event(struct bus *bus, const struct wire_event *event,
				   uint32_t capacity)
{
	struct payload *batch;

	if (capacity == 0)
		return wire_write_event(&bus->signing, event);
	batch = wire_batch_create(capacity);
	if (batch && wire_batch_add(&bus->signing, batch, capacity, event)) {
		payload_put(batch);
		return NULL;
	}
	return batch;
}

/* `capacity`: 0, or of the batch that it begins. */
static struct bus_event *event_create(struct bus *bus, const struct client_event *client,
				      uint32_t capacity)
{
	struct bus_event *event =
		malloc(sizeof(*event) + client->user_id.len + client->device_session_id.len);

	if (!event)
		return NULL;
	event->payload = write_event(bus, &client->event, capacity);
	if (!event->payload) {
		free(event);
		return NULL;
	}
	list_init(&event->link);
	event->capacity = capacity;
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

/* What a batch has not used is given back. */
static void event_close(struct bus_event *event)
{
	if (event->capacity)
		event->payload = payload_trim(event->payload);
	event->capacity = 0;
}

/*
 * Events for the same streams, none for only some of them between, share a payload: it is pushed,
 * queued and sent as one, and copied nowhere. Other users' events may stand between: no stream gets
 * both. A lone event has a payload of just its size; the second one begins a batch.
 */
static int event_keep(struct bus *bus, const struct client_event *client)
{
	uint64_t user_hash = index_hash_user(&bus->index, client->user_id);
	struct bus_event *last = find_last_of(bus, client->user_id, user_hash);
	uint32_t capacity = 0;

	if (last && span_equal(event_session(last), client->device_session_id)) {
		/* whole payloads fill the window between two fences, if there is one user only */
		bool begins_window = bus->pending_count % bus->events_per_fence == 0;

		if (last->capacity && !begins_window &&
		    last->payload->messages < bus->events_per_fence) {
			int code = wire_batch_add(&bus->signing, last->payload, last->capacity,
						  &client->event);

			bus->pending_count += code == 0;
			if (code != -ENOBUFS)
				return code;
		}
		capacity = BUS_BATCH_BYTES;
	}
	if (last)
		event_close(last);
	if (client->event.payload_bytes.len > BUS_BATCH_BYTES / 4)
		capacity = 0; /* few would fit */

	struct bus_event *event = event_create(bus, client, capacity);

	if (!event)
		return -ENOMEM;
	event->user_hash = user_hash;
	list_push_back(&bus->pending, &event->link);
	bus->pending_count++;
	return 0;
}

static void client_started(struct redis_tail *tail)
{
	struct bus *bus = redis_tail_context(tail);

	if (++bus->tails_started == 2)
		bus->started(bus->started_context);
}

struct dropped {
	struct bus *bus;
	struct span user;
};

static void fail_stream(struct subscription *subscription, void *context)
{
	const struct dropped *dropped = context;
	struct bus_member *member = bus_member_of(subscription);
	bool wake = false;

	if (!span_equal(session_user(member->session), dropped->user))
		return;
	feed_set_end(&subscription->feed, FEED_FAILED, &wake);
	if (wake)
		bus_note_wake(dropped->bus, member);
}

/* No memory for it: a stream that it is for must not go on as if it had not been. */
static void drop_entry(struct bus *bus, const struct tail_entry *entry,
		       const struct client_event *client)
{
	struct dropped dropped = {bus, client->user_id};

	metric_add(&bus->metrics.client_out_of_memory, 1);
	LOG(LOG_ERROR, "bus", "out of memory for a client event: its streams end",
	    LOG_BYTES("entry", entry->id));
	if (client->device_session_id.len)
		index_each_of_session(&bus->index, client->device_session_id, fail_stream,
				      &dropped);
	else
		index_each_of_user(&bus->index, client->user_id, fail_stream, &dropped);
}

static void client_entry(struct redis_tail *tail, const struct tail_entry *entry)
{
	struct bus *bus = redis_tail_context(tail);
	struct client_event client;
	const char *field;

	bus_note_lag(bus, &bus->metrics.client, entry->id_ms);
	if (record_read_client_event(entry, bus->config->grpc_max_message_bytes, &client, &field) ||
	    client.user_id.len > UINT16_MAX || client.device_session_id.len > UINT16_MAX) {
		metric_add(&bus->metrics.client.malformed, 1);
		LOG(LOG_WARN, "bus", "client event is malformed", LOG_BYTES("entry", entry->id),
		    LOG_TEXT("field", field));
		return;
	}
	client.event.timestamp_ms = bus->worker->wall_ms;

	if (event_keep(bus, &client) != 0) {
		drop_entry(bus, entry, &client);
		return;
	}
	metric_add(&bus->metrics.client.handled, 1);
}

/* Users of events are many, and most of them have left the caches since their last one. */
static void fetch_pending(const struct bus *bus)
{
	for (unsigned step = 0; step < INDEX_FETCH_STEPS; step++) {
		unsigned count = 0;

		LIST_FOR_EACH (&bus->pending, link) {
			if (++count > FETCHED_AT_ONCE)
				break;
			index_fetch_user(&bus->index,
					 CONTAINER_OF(link, struct bus_event, link)->user_hash, step);
		}
	}
}

static void client_batch_end(struct redis_tail *tail)
{
	struct bus *bus = redis_tail_context(tail);

	fetch_pending(bus);
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
	uint64_t pushed;     /* how many feeds took it */
};

static void deliver_to(struct subscription *subscription, void *context)
{
	struct delivery *delivery = context;
	struct bus_member *member = bus_member_of(subscription);
	bool wake = false;

	if (!span_equal(subscription_user(subscription), event_user(delivery->event))) {
		metric_add(&delivery->bus->metrics.wrong_user, delivery->event->payload->messages);
		return;
	}
	if (delivery->references == 0) {
		payload_get(delivery->event->payload, REFERENCES_AT_ONCE);
		delivery->references = REFERENCES_AT_ONCE;
	}
	if (feed_push_uncounted(&subscription->feed, delivery->event->payload, &wake) ==
	    FEED_PUSHED) {
		delivery->references--;
		delivery->pushed++;
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
		visited = index_each_of_session(&bus->index, event_session(event), deliver_to,
						&delivery);
	else
		visited = index_each_of_user(&bus->index, event_user(event), deliver_to, &delivery);
	if (visited == 0)
		metric_add(&bus->metrics.undelivered, event->payload->messages);
	metric_add(&bus->metrics.events, event->payload->messages);
	if (delivery.pushed > 0)
		feed_budget_add(bus->budget, delivery.pushed * event->payload->len);
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
	while (bus->fences_out == 0 && !list_is_empty(&bus->pending)) {
		struct bus_event *event =
			CONTAINER_OF(bus->pending.next, struct bus_event, link);
		uint32_t count = event->payload->messages;

		if (bus->events_since_fence + count > bus->events_per_fence && fence_start(bus))
			return;
		event_close(event);
		list_remove(&event->link);
		bus->pending_count -= count;
		bus->events_since_fence += count;
		deliver(bus, event);
		event_destroy(event);
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
