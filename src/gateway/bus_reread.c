/* After a loss of session events: the sessions of open streams are read again, 1,000 a second.
 * Source: edge.md §3. */
#include "gateway/bus_internal.h"
#include "gateway/record.h"

#include <stdlib.h>

static struct span reread_id(const struct bus_reread *reread)
{
	return span_make(reread->id, reread->id_len);
}

bool bus_reread_matches(const struct hash_node *node, struct span session)
{
	return span_equal(reread_id(CONTAINER_OF(node, struct bus_reread, node)), session);
}

/* Returns NULL without memory. */
static struct bus_reread *reread_create(struct bus *bus, struct span session)
{
	struct bus_reread *reread = calloc(1, sizeof(*reread) + session.len);

	if (!reread)
		return NULL;
	list_init(&reread->link);
	reread->bus = bus;
	reread->id_len = (uint16_t)session.len;
	memcpy(reread->id, session.data, session.len);
	if (hash_insert(&bus->reread_of, &reread->node, session) == 0)
		return reread;
	free(reread);
	return NULL;
}

static void queue_one(struct bus *bus, struct span session)
{
	struct bus_reread *reread = reread_create(bus, session);

	if (!reread) { /* nobody would ask again: its client does, with a stream anew */
		metric_add(&bus->metrics.reread_ended, 1);
		bus_fail_streams(bus, session);
		return;
	}
	list_push_back(&bus->rereads, &reread->link);
}

static bool queue_unless_waiting(struct span session, struct span user, void *context)
{
	struct bus *bus = context;

	(void)user;
	if (!hash_find(&bus->reread_of, session))
		queue_one(bus, session);
	return true;
}

static void reread_free(struct bus_reread *reread)
{
	redis_call_cancel(&reread->call);
	list_remove(&reread->link);
	hash_remove(&reread->bus->reread_of, &reread->node);
	free(reread);
}

/* One that is awaited is not put off. */
static void await_tick(struct bus *bus)
{
	if (!list_is_empty(&bus->rereads) && !deadline_is_armed(&bus->reread_tick))
		deadline_arm(bus->worker, &bus->reread_tick, BUS_REREAD_TICK_MS);
}

void bus_reread_all(struct bus *bus)
{
	/* Who waits keeps its place: else, with one loss after the other, some would never be asked
	 * about. What is asked already was asked too early. */
	LIST_FOR_EACH (&bus->rereads, link) {
		struct bus_reread *reread = CONTAINER_OF(link, struct bus_reread, link);

		redis_call_cancel(&reread->call);
		reread->not_before_ms = 0;
	}
	index_each_session(&bus->index, queue_unless_waiting, bus);
	await_tick(bus);
}

void bus_reread_one(struct bus *bus, struct span session)
{
	if (index_session_count(&bus->index, session) == 0)
		return;
	bus_reread_forget(bus, session);
	queue_one(bus, session);
	await_tick(bus);
}

void bus_reread_forget(struct bus *bus, struct span session)
{
	struct hash_node *node = hash_find(&bus->reread_of, session);

	if (node)
		reread_free(CONTAINER_OF(node, struct bus_reread, node));
}

void bus_reread_stop(struct bus *bus)
{
	struct list *link;

	deadline_disarm(bus->worker, &bus->reread_tick);
	while ((link = list_pop_front(&bus->rereads)))
		reread_free(CONTAINER_OF(link, struct bus_reread, link));
}

/* Missing, malformed or no answer: the stream stays open and is asked for again. */
static void ask_later(struct bus_reread *reread)
{
	struct bus *bus = reread->bus;

	metric_add(&bus->metrics.reread_unanswered, 1);
	if (index_session_count(&bus->index, reread_id(reread)) == 0) {
		reread_free(reread);
		return;
	}
	reread->not_before_ms = bus->worker->now_ms + BUS_REREAD_AGAIN_MS;
	list_remove(&reread->link);
	list_push_back(&bus->rereads, &reread->link);
	await_tick(bus);
}

static void reread_answered(struct redis_call *call, enum redis_outcome outcome,
			    const struct resp_value *value)
{
	struct bus_reread *reread = CONTAINER_OF(call, struct bus_reread, call);
	struct bus *bus = reread->bus;
	struct session *session;
	const char *field;

	if (outcome != REDIS_REPLY || value->type != RESP_STRING ||
	    record_read_session(&session, value->text, reread_id(reread), &field)) {
		ask_later(reread);
		return;
	}
	uint32_t ended = bus_end_streams(bus, session_id(session),
					 session->status == SESSION_REVOKED, session_user(session));

	metric_add(ended ? &bus->metrics.reread_ended : &bus->metrics.reread_kept, 1);
	bus_wake_ports(bus);
	session_put(session);
	reread_free(reread);
}

static void ask(struct bus_reread *reread)
{
	struct bus *bus = reread->bus;
	struct span prefix = span_from_cstr(bus->config->redis_key_prefix);
	uint8_t key[1024];

	CHECK(prefix.len + reread->id_len <= sizeof(key));
	if (prefix.len > 0)
		memcpy(key, prefix.data, prefix.len);
	memcpy(key + prefix.len, reread->id, reread->id_len);
	const struct span args[] = {SPAN("GET"), span_make(key, prefix.len + reread->id_len)};
	const struct redis_command command = {
		.args = args,
		.count = ARRAY_LEN(args),
		.role = REDIS_SESSION,
		.timeout_ms = (uint32_t)bus->config->redis_lookup_timeout_ms,
	};

	if (redis_call_start(bus->redis, &reread->call, reread_answered, &command))
		ask_later(reread);
}

void bus_reread_expired(struct deadline *deadline)
{
	struct bus *bus = CONTAINER_OF(deadline, struct bus, reread_tick);
	uint32_t asked = 0;
	bool waiting = false;

	LIST_FOR_EACH (&bus->rereads, link) {
		struct bus_reread *reread = CONTAINER_OF(link, struct bus_reread, link);

		if (reread->call.client)
			continue; /* in flight */
		waiting = true;
		if (asked == BUS_REREADS_PER_TICK)
			break;
		if (reread->not_before_ms > bus->worker->now_ms)
			continue;
		asked++;
		reread->not_before_ms = bus->worker->now_ms + BUS_REREAD_AGAIN_MS;
		ask(reread);
	}
	if (waiting)
		deadline_arm(bus->worker, deadline, BUS_REREAD_TICK_MS);
}
