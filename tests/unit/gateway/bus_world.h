/*
 * bus_world: what surrounds the bus in test_bus.c, as a model that takes one step at a time:
 * clients and their streams as subscribe.c leads them, the publisher's records in Redis, the end.
 */
#ifndef TESTS_UNIT_GATEWAY_BUS_WORLD_H
#define TESTS_UNIT_GATEWAY_BUS_WORLD_H

#include "unit/gateway/bus_rig.h"

#define STREAMS	  3
#define SESSIONS  2
#define AGENTS	  4
#define STEPS_MAX 6
#define ASKS_MAX  8

/* ---- scenarios ---- */

enum step_kind {
	END,	/* of the script */
	OPEN,	/* the client of stream `of` comes: its session is looked up */
	LEAVE,	/* … and goes, wherever the stream is then */
	READ,	/* … takes what is queued: a stream that is `blocked` does so only here */
	REVOKE, /* the publisher writes session `of` as revoked … */
	MOVE,	/* … as another user's */
	ALLOW,	/* … as active again, its first user's */
	TELL,	/* … and the session event of the last record written is read by the bus */
	SAY,	/* a client event for the user of session `of` */
	BATCH,	/* eight of them, in one batch */
	LOSE,	/* the bus learns that session events may be lost */
	TIME,	/* 100 ms pass */
	CLOSE,	/* the end */
	FINISH,
};

static const char *const step_names[] = {
	"end",	"open", "leave", "read", "revoke", "move",  "allow",
	"tell", "say",	"batch", "lose", "time",   "close", "finish",
};

struct step {
	enum step_kind kind;
	uint8_t of;
};

struct scenario {
	const char *name;
	uint32_t capacity; /* of feeds; 0: 8 */
	uint32_t streams_max; /* of one session; 0: as many as there are */
	struct {
		uint8_t port, session;
		bool is_blocked;
	} streams[STREAMS];
	struct step scripts[AGENTS][STEPS_MAX];
};

/* ---- the model of what surrounds the bus ---- */

enum stream_state {
	STREAM_NONE,
	STREAM_ASKED,	/* GET is out */
	STREAM_CHECKED, /* answered; the replay reservation is out */
	STREAM_REGISTERING,
	STREAM_OPEN,
	STREAM_LEAVING,
	STREAM_GONE,
};

struct record {
	bool is_revoked;
	uint8_t user; /* 0: the first one */
};

struct stream {
	struct bus_member member;
	enum stream_state state;
	bool is_wanted, is_blocked, is_stale, is_rechecked;
	uint8_t port, session, asks;
	struct record seen;
	bool reply_due, release_due;
	bool is_admitted; /* the bus has it in its index */
	bool was_open_at_loss, is_late;
	uint8_t place;			/* order of admission */
	uint32_t said_before, received; /* numbers of events; received: the next one to come */
	bool has_received;
	enum feed_end end; /* that it has heard of */
};

static struct stream streams[STREAMS];
static struct feed_ready ready[RIG_PORTS];
static struct model {
	struct record records[SESSIONS];
	struct record told[SESSIONS]; /* by the last event that the bus has read */
	uint32_t said[2][SESSIONS];   /* client events by user: of each session, first and second */
	uint8_t script_at[AGENTS];
	uint64_t sequences[RIG_PORTS], updates[RIG_PORTS];
	uint64_t log; /* hash of what the bus was told, in order */
	uint8_t admissions;
	bool is_closed, is_finishing, is_losing;
	uint32_t done_count;
} model;

static const struct scenario *scenario;
static char names[SESSIONS][40], users[SESSIONS][2][40];
static const char *wrong; /* the first thing that was */

static void blame(const char *what)
{
	if (!wrong)
		wrong = what;
}

static struct stream *stream_of(struct bus_member *member)
{
	return CONTAINER_OF(member, struct stream, member);
}

static const char *user_of(const struct stream *stream)
{
	return users[stream->session][stream->seen.user];
}

static void stream_ask(struct stream *stream)
{
	stream->state = STREAM_ASKED;
	stream->is_stale = false;
	stream->seen = model.records[stream->session];
	stream->asks++;
}

/* The bus does not know it (any more). */
static void stream_end(struct stream *stream)
{
	if (stream->state != STREAM_ASKED && feed_is_ready(&stream->member.subscription.feed))
		blame("a released feed is still ready");
	if (stream->member.subscription.feed.place.user)
		blame("a stream ends that the bus still knows");
	if (stream->member.session) {
		if (!wrong)
			feed_finish(&stream->member.subscription.feed);
		session_put(stream->member.session);
		stream->member.session = NULL;
	}
	payload_put(stream->member.bootstrap);
	stream->member.bootstrap = NULL;
	stream->state = STREAM_GONE;
}

static void stream_register(struct stream *stream)
{
	stream->state = STREAM_REGISTERING;
	stream->reply_due = true;
	bus_register(&stream->member);
}

/* A record has come that nothing is known to have overtaken. */
static void stream_check(struct stream *stream)
{
	struct bus_member *member = &stream->member;

	if (stream->seen.is_revoked) {
		stream_end(stream);
		return;
	}
	member->checked_sequence = model.sequences[stream->port];
	if (stream->is_rechecked) {
		/* what was verified was another user's */
		if (!span_equal(session_user(member->session), span_from_cstr(user_of(stream))))
			stream_end(stream);
		else
			stream_register(stream);
		return;
	}
	member->session = rig_session(names[stream->session], user_of(stream));
	member->bootstrap = rig_bootstrap();
	feed_init(&member->subscription.feed, scenario->capacity ? scenario->capacity : 8,
		  &ready[stream->port], &rig.budget);
	stream->state = STREAM_CHECKED;
}

static void stream_answered(struct stream *stream)
{
	if (stream->asks > ASKS_MAX)
		blame("asked for ever");
	else if (stream->is_stale)
		stream_ask(stream);
	else
		stream_check(stream);
}

static void stream_take_one(struct stream *stream, int64_t number)
{
	if (!stream->has_received) {
		if (number != -1)
			blame("the bootstrap did not come first");
		stream->has_received = true;
		stream->received = UINT32_MAX;
		return;
	}
	if (number < 0 || (stream->received != UINT32_MAX && number != stream->received))
		blame("an event was lost, doubled or moved");
	if (stream->received == UINT32_MAX && number > stream->said_before)
		blame("the first event after the bootstrap was lost");
	stream->received = (uint32_t)number + 1;
}

static void stream_take(struct stream *stream)
{
	struct payload *payload;

	while ((payload = feed_pop(&stream->member.subscription.feed))) {
		for (uint32_t i = 0; i < payload->messages; i++)
			stream_take_one(stream, rig_number_of(payload, i));
		payload_put(payload);
	}
}

static void stream_leave(struct stream *stream)
{
	stream->is_wanted = false;
	stream->state = STREAM_LEAVING;
	stream->release_due = true;
	bus_unregister(&stream->member);
}

static void stream_look(struct stream *stream)
{
	enum feed_end end = feed_get_end(&stream->member.subscription.feed);

	if (!stream->is_blocked)
		stream_take(stream);
	if (end == FEED_OPEN)
		return;
	stream->end = end;
	stream_leave(stream);
}

static void drain(struct bus_port *port)
{
	struct mpsc_node *queue = feed_ready_take(&ready[port - rig.ports]);
	struct feed *feed;

	while ((feed = feed_ready_next(&queue))) {
		struct stream *stream = CONTAINER_OF(feed, struct stream, member.subscription.feed);

		if (stream->state == STREAM_OPEN)
			stream_look(stream);
	}
}

static void drain_before_wait(struct worker *worker)
{
	drain(&rig.ports[worker - rig.workers]);
}

static void replied(struct bus_member *member)
{
	struct stream *stream = stream_of(member);

	if (!stream->reply_due || stream->state != STREAM_REGISTERING)
		blame("a reply that nobody waits for");
	stream->reply_due = false;
	if (member->verdict == BUS_ADMITTED) {
		stream->state = STREAM_OPEN;
		if (stream->is_wanted)
			stream_look(stream);
		else
			stream_leave(stream);
		return;
	}
	if (!stream->is_wanted || member->verdict != BUS_RECHECK) {
		if (member->verdict == BUS_CLOSING && !model.is_closed)
			blame("refused for an end that has not begun");
		if ((member->verdict == BUS_TOO_MANY && scenario->streams_max == 0) ||
		    member->verdict == BUS_NO_MEMORY)
			blame("refused without reason");
		stream_end(stream);
		return;
	}
	stream->is_rechecked = true;
	stream_ask(stream);
}

static void released(struct bus_member *member)
{
	struct stream *stream = stream_of(member);

	if (!stream->release_due || stream->state != STREAM_LEAVING)
		blame("a release that nobody waits for");
	stream->release_due = false;
	drain(&rig.ports[stream->port]);
	stream_end(stream);
}

static void updated(struct bus_port *port, const struct bus_update *update)
{
	size_t at = (size_t)(port - rig.ports);

	if (update->sequence <= model.sequences[at])
		blame("updates in another order than told");
	model.sequences[at] = update->sequence;
	model.updates[at]++;
	for (size_t i = 0; i < STREAMS; i++) {
		const char *id = names[streams[i].session];

		if (streams[i].port == at &&
		    (update->kind == BUS_ALL_FORGOTTEN ||
		     span_equal(update->fields.device_session_id, span_from_cstr(id))))
			streams[i].is_stale = true;
	}
}

/* ---- steps ---- */

static void note(uint64_t what)
{
	model.log = (model.log ^ what) * UINT64_C(0x100000001b3);
	model.log ^= model.log >> 29;
}

static void tell(uint8_t session)
{
	struct record record = model.records[session];

	rig_tell_session(names[session], users[session][record.user],
			 record.is_revoked ? "revoked" : "active");
	model.told[session] = record;
	for (size_t i = 0; i < STREAMS; i++) {
		struct stream *stream = &streams[i];

		if (!stream->member.subscription.feed.place.user || stream->session != session)
			continue;
		if ((record.is_revoked || record.user != stream->seen.user) &&
		    feed_get_end(&stream->member.subscription.feed) == FEED_OPEN)
			blame("a revoked stream was left open");
	}
}

static void say(uint8_t session, uint32_t count)
{
	uint8_t user = model.records[session].user;

	for (uint32_t i = 0; i < count; i++)
		rig_add_client(users[session][user], NULL, model.said[user][session]++);
	rig_end_client_batch();
}

static void lose(void)
{
	for (size_t i = 0; i < STREAMS; i++)
		streams[i].was_open_at_loss = streams[i].member.subscription.feed.place.user != NULL;
	bus_session_handler.lost(rig.bus->session_tail, TAIL_TRIMMED);
	bus_session_handler.batch_end(rig.bus->session_tail);
}

static void client_leaves(struct stream *stream)
{
	if (stream->state == STREAM_OPEN)
		stream_leave(stream);
	else if (stream->state == STREAM_ASKED || stream->state == STREAM_CHECKED)
		stream_end(stream);
	else
		stream->is_wanted = false;
}

static void finished(void *context)
{
	(void)context;
	model.done_count++;
	for (size_t i = 0; i < STREAMS; i++)
		if (streams[i].member.subscription.feed.place.user)
			blame("finished with a member");
	if (rig.bus->index.subscription_count > 0 || rig.bus->updates_out > 0)
		blame("finished too early");
}

static void step_run(struct step step)
{
	note((uint64_t)step.kind << 8 | step.of);
	switch (step.kind) {
	case OPEN:
		streams[step.of].is_wanted = true;
		stream_ask(&streams[step.of]);
		break;
	case LEAVE:
		client_leaves(&streams[step.of]);
		break;
	case READ:
		if (streams[step.of].state == STREAM_OPEN)
			stream_take(&streams[step.of]);
		break;
	case REVOKE:
		model.records[step.of].is_revoked = true;
		break;
	case MOVE:
		model.records[step.of] = (struct record){.user = 1};
		break;
	case ALLOW:
		model.records[step.of] = (struct record){.user = 0};
		break;
	case TELL:
		tell(step.of);
		break;
	case SAY:
		say(step.of, 1);
		break;
	case BATCH:
		say(step.of, 8);
		break;
	case LOSE:
		lose();
		break;
	case TIME:
		rig.now_us += 100000;
		break;
	case CLOSE:
		model.is_closed = true;
		bus_close_hub(rig.bus);
		break;
	case FINISH:
		model.is_finishing = true;
		bus_finish(rig.bus, finished, NULL);
		break;
	case END:
		break;
	}
}

/* The last part of the end comes when no call is left (gateway.h). */
static bool may_finish(void)
{
	for (size_t i = 0; i < STREAMS; i++) {
		if (streams[i].is_wanted && streams[i].state != STREAM_GONE)
			return false;
		if (streams[i].state == STREAM_ASKED || streams[i].state == STREAM_CHECKED)
			return false;
	}
	for (size_t agent = 0; agent < AGENTS; agent++) {
		const struct step *script = scenario->scripts[agent];

		for (size_t at = model.script_at[agent]; at < STEPS_MAX; at++)
			if (script[at].kind == OPEN)
				return false;
	}
	return true;
}

#endif
