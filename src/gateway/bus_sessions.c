/* Session events: revocations end streams, every worker hears every snapshot, a loss makes all of
 * them doubtful. */
#include "gateway/bus_internal.h"
#include "gateway/record.h"

#include <errno.h>
#include <stdlib.h>

/* What all workers are told, on its way; the bus has it back when the last one has taken it in. */
struct session_update {
	struct bus *bus;
	_Atomic uint32_t left; /* workers that have not taken it in. acq_rel: the last one's return
				  sees all reads done */
	struct letter back;
	struct bus_update update;
	char *text; /* the fields' bytes */
	struct update_copy {
		struct letter letter;
		struct session_update *of;
		struct bus_port *port;
	} copies[];
};

static struct session_update *update_alloc(struct bus *bus)
{
	struct session_update *update =
		calloc(1, sizeof(*update) + bus->port_count * sizeof(update->copies[0]));

	if (update)
		update->bus = bus;
	return update;
}

int bus_spare_create(struct bus *bus)
{
	bus->spare = update_alloc(bus);
	return bus->spare ? 0 : -ENOMEM;
}

void bus_spare_destroy(struct bus *bus)
{
	CHECK(!bus->spare_is_out);
	free(bus->spare);
}

static void spare_send(struct bus *bus);

static void update_returned(struct worker *to, struct letter *letter)
{
	struct session_update *update = CONTAINER_OF(letter, struct session_update, back);
	struct bus *bus = update->bus;

	(void)to;
	bus->updates_out--;
	if (update != bus->spare) {
		free(update->text);
		free(update);
	} else {
		bus->spare_is_out = false;
		if (bus->spare_is_owed)
			spare_send(bus);
	}
	bus_balance_reading(bus);
}

static void update_arrived(struct worker *to, struct letter *letter)
{
	struct update_copy *copy = CONTAINER_OF(letter, struct update_copy, letter);
	struct session_update *update = copy->of;

	copy->port->updated(copy->port, &update->update);
	if (atomic_fetch_sub_explicit(&update->left, 1, memory_order_acq_rel) == 1)
		letter_post(to, update->bus->worker, &update->back);
}

static void copy_field(char **at, struct span *field)
{
	if (field->len == 0)
		return; /* absent stays absent */
	memcpy(*at, field->data, field->len);
	*field = span_make(*at, field->len);
	*at += field->len;
}

/* With bytes of its own. Returns NULL without memory. */
static struct session_update *update_create(struct bus *bus, const struct bus_update *told)
{
	struct session_fields *fields;
	size_t bytes = told->fields.device_session_id.len + told->fields.user_id.len +
		       told->fields.client_public_key.len + told->fields.status.len +
		       told->fields.revoked_at_ms.len;
	struct session_update *update = update_alloc(bus);

	if (!update)
		return NULL;
	update->text = malloc(bytes + 1);
	if (!update->text) {
		free(update);
		return NULL;
	}
	char *at = update->text;

	update->update = *told;
	fields = &update->update.fields;
	copy_field(&at, &fields->device_session_id);
	copy_field(&at, &fields->user_id);
	copy_field(&at, &fields->client_public_key);
	copy_field(&at, &fields->status);
	copy_field(&at, &fields->revoked_at_ms);
	return update;
}

static void update_post(struct bus *bus, struct session_update *update)
{
	update->back.deliver = update_returned;
	atomic_store_explicit(&update->left, bus->port_count, memory_order_relaxed);
	bus->updates_out++;
	for (uint32_t i = 0; i < bus->port_count; i++) {
		struct update_copy *copy = &update->copies[i];

		copy->of = update;
		copy->port = &bus->ports[i];
		copy->letter.deliver = update_arrived;
		letter_post(bus->worker, bus->ports[i].worker, &copy->letter);
	}
}

/* Tells of all events so far. */
static void spare_send(struct bus *bus)
{
	bus->spare_is_owed = bus->spare_is_out;
	if (bus->spare_is_out)
		return;
	bus->spare_is_out = true;
	bus->spare->update = (struct bus_update){.kind = BUS_ALL_FORGOTTEN,
						 .sequence = recent_sequence(bus->recent)};
	update_post(bus, bus->spare);
}

/*
 * Tells every worker. A worker that is not told would go on with an old snapshot, so without memory
 * all are told, by what was allocated at the start, to forget every snapshot: Redis decides. While
 * that is owed, nothing overtakes it: no worker believes itself further than it is.
 */
static void tell_workers(struct bus *bus, const struct bus_update *told)
{
	struct session_update *update = bus->spare_is_owed ? NULL : update_create(bus, told);

	if (update) {
		update_post(bus, update);
		return;
	}
	metric_add(&bus->metrics.session_out_of_memory, 1);
	LOG(LOG_ERROR, "bus", "out of memory: workers forget all sessions",
	    LOG_SESSION(told->fields.device_session_id));
	spare_send(bus);
}

struct session_end {
	struct bus *bus;
	bool revoked; /* whatever the user */
	enum feed_end cause;
	struct span user;
	uint32_t ended;
};

static void end_stream(struct subscription *subscription, void *context)
{
	struct session_end *end = context;
	struct bus_member *member = bus_member_of(subscription);
	bool wake = false;

	if (!end->revoked && span_equal(session_user(member->session), end->user))
		return;
	if (feed_set_end(&subscription->feed, end->cause, &wake))
		end->ended++;
	if (wake)
		bus_note_wake(end->bus, member);
}

uint32_t bus_end_streams(struct bus *bus, struct span session, bool revoked, struct span user)
{
	struct session_end end = {
		.bus = bus, .revoked = revoked, .cause = FEED_REVOKED, .user = user};

	index_each_of_session(&bus->index, session, end_stream, &end);
	return end.ended;
}

void bus_fail_streams(struct bus *bus, struct span session)
{
	struct session_end end = {.bus = bus, .revoked = true, .cause = FEED_FAILED};

	index_each_of_session(&bus->index, session, end_stream, &end);
}

static void session_started(struct redis_tail *tail)
{
	struct bus *bus = redis_tail_context(tail);

	if (++bus->tails_started == 2)
		bus->started(bus->started_context);
}

/* Redis decides about a session whose event cannot be read. */
static void entry_is_malformed(struct bus *bus, const struct tail_entry *entry, struct span session,
			       const char *field)
{
	struct bus_update update = {.kind = BUS_SESSION_FORGOTTEN,
				    .fields.device_session_id = session};

	metric_add(&bus->metrics.session.malformed, 1);
	LOG(LOG_WARN, "bus", "session event is malformed", LOG_BYTES("entry", entry->id),
	    LOG_SESSION(session), LOG_TEXT("field", field));
	if (session.len == 0 || session.len > SESSION_ID_MAX)
		return;
	update.sequence = recent_add(bus->recent, session, false);
	tell_workers(bus, &update);
	bus_reread_one(bus, session);
}

/* A full snapshot. Returns how many streams it ended. */
static uint32_t take_snapshot(struct bus *bus, const struct session_fields *fields)
{
	struct bus_update update = {.kind = BUS_SESSION_REPLACED, .fields = *fields};
	bool revoked = span_equal(fields->status, SPAN("revoked"));

	update.sequence = recent_add(bus->recent, fields->device_session_id, revoked);
	uint32_t ended = bus_end_streams(bus, fields->device_session_id, revoked, fields->user_id);

	bus_reread_forget(bus, fields->device_session_id);
	tell_workers(bus, &update);
	return ended;
}

/*
 * One that is read again may bring back what a later one has ended, which may be lost: so it is no
 * snapshot. The record is as new at least: Redis decides, and is asked about open streams anyway
 * (session_lost). A revocation still ends them. Returns how many.
 */
static uint32_t take_replayed(struct bus *bus, const struct session_fields *fields)
{
	struct span id = fields->device_session_id;
	struct bus_update update = {
		.kind = BUS_SESSION_FORGOTTEN,
		.sequence = recent_add(bus->recent, id, false),
		.fields = {.device_session_id = id, .status = fields->status},
	};
	uint32_t ended = 0;

	if (span_equal(fields->status, SPAN("revoked")))
		ended = bus_end_streams(bus, id, true, SPAN_EMPTY);
	tell_workers(bus, &update);
	return ended;
}

static void session_entry(struct redis_tail *tail, const struct tail_entry *entry)
{
	struct bus *bus = redis_tail_context(tail);
	struct session_fields fields;
	const char *field;

	bus_note_lag(bus, &bus->metrics.session, entry->id_ms);
	if (record_read_session_event(entry, &fields, &field)) {
		entry_is_malformed(bus, entry, fields.device_session_id, field);
		return;
	}
	uint32_t ended =
		entry->is_replayed ? take_replayed(bus, &fields) : take_snapshot(bus, &fields);

	/* Only now: whoever reads that it was handled finds it in effect. */
	metric_add(&bus->metrics.session.handled, 1);
	LOG(LOG_INFO, "bus", "session event", LOG_SESSION(fields.device_session_id),
	    LOG_BYTES("status", fields.status), LOG_UINT("streams_ended", ended),
	    LOG_FLAG("replayed", entry->is_replayed));
}

static void session_batch_end(struct redis_tail *tail)
{
	struct bus *bus = redis_tail_context(tail);

	bus_wake_ports(bus);
	bus_balance_reading(bus);
}

static void session_lost(struct redis_tail *tail, enum tail_loss loss)
{
	struct bus *bus = redis_tail_context(tail);
	const struct bus_update update = {.kind = BUS_ALL_FORGOTTEN,
					  .sequence = recent_forget_all(bus->recent)};

	metric_add(loss == TAIL_RECREATED ? &bus->metrics.session.recreated
					  : &bus->metrics.session.trimmed,
		   1);
	LOG(LOG_WARN, "bus", "session events may have been lost: all sessions are read again",
	    LOG_TEXT("cause", loss == TAIL_RECREATED ? "stream recreated" : "stream trimmed"));
	tell_workers(bus, &update);
	bus_reread_all(bus);
	bus_wake_ports(bus);
}

const struct tail_handler bus_session_handler = {
	.started = session_started,
	.entry = session_entry,
	.batch_end = session_batch_end,
	.lost = session_lost,
};
