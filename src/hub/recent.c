#include "hub/recent.h"

#include "base/check.h"

#include <assert.h>
#include <stdlib.h>

static_assert((RECENT_EVENTS & (RECENT_EVENTS - 1)) == 0, "sequence & mask is the place");

/* One noted event; in `last_by_session` while it is the last one of its session. */
struct event {
	struct hash_node node;
	uint64_t sequence;
	bool is_linked, is_revoked;
	uint8_t id_len;
	char id[RECENT_ID_MAX];
};

static_assert(RECENT_ID_MAX <= UINT8_MAX, "id_len");

struct recent {
	struct hash_table last_by_session;
	uint64_t sequence;     /* of the last event */
	uint64_t forgotten_to; /* checks before this one are doubtful */
	struct event events[RECENT_EVENTS]; /* event n at n & (RECENT_EVENTS - 1) */
};

static struct event *event_of(const struct hash_node *node)
{
	return CONTAINER_OF(node, struct event, node);
}

static bool event_match(const struct hash_node *node, struct span key)
{
	const struct event *event = event_of(node);

	return span_equal(span_make(event->id, event->id_len), key);
}

struct recent *recent_create(struct hash_secret secret)
{
	struct recent *recent = calloc(1, sizeof(*recent));

	if (!recent)
		return NULL;
	hash_init(&recent->last_by_session, event_match, secret);
	/* Only the very first insertion can fail: it is made here, so that recent_add cannot. */
	if (hash_insert(&recent->last_by_session, &recent->events[0].node, SPAN_EMPTY) != 0) {
		free(recent);
		return NULL;
	}
	hash_remove(&recent->last_by_session, &recent->events[0].node);
	return recent;
}

void recent_destroy(struct recent *recent)
{
	if (!recent)
		return;
	hash_finish(&recent->last_by_session);
	free(recent);
}

static void event_unlink(struct recent *recent, struct event *event)
{
	if (event->is_linked)
		hash_remove(&recent->last_by_session, &event->node);
	event->is_linked = false;
}

static struct event *event_find(const struct recent *recent, struct span session)
{
	struct hash_node *node = hash_find(&recent->last_by_session, session);

	return node ? event_of(node) : NULL;
}

/* The place of the next event, emptied. */
static struct event *event_next(struct recent *recent)
{
	recent->sequence++;

	struct event *event = &recent->events[recent->sequence & (RECENT_EVENTS - 1)];

	event_unlink(recent, event);
	return event;
}

uint64_t recent_add(struct recent *recent, struct span session, bool revoked)
{
	struct event *earlier = event_find(recent, session);
	struct event *event = event_next(recent);

	if (session.len > RECENT_ID_MAX)
		return recent->sequence; /* no request can have this id: see recent_judge */
	if (earlier)
		event_unlink(recent, earlier);
	event->sequence = recent->sequence;
	event->is_revoked = revoked;
	event->id_len = (uint8_t)session.len;
	if (session.len)
		memcpy(event->id, session.data, session.len);
	/* Cannot fail: see recent_create. */
	CHECK(hash_insert(&recent->last_by_session, &event->node, session) == 0);
	event->is_linked = true;
	return recent->sequence;
}

uint64_t recent_forget_all(struct recent *recent)
{
	for (size_t i = 0; i < RECENT_EVENTS; i++)
		event_unlink(recent, &recent->events[i]);
	event_next(recent);
	recent->forgotten_to = recent->sequence;
	return recent->sequence;
}

/* All events after `sequence` are in the table. */
static bool is_covered(const struct recent *recent, uint64_t sequence)
{
	return sequence <= recent->sequence && recent->sequence - sequence <= RECENT_EVENTS &&
	       sequence >= recent->forgotten_to;
}

enum recent_verdict recent_judge(const struct recent *recent, struct span session,
				 uint64_t sequence)
{
	if (session.len > RECENT_ID_MAX)
		return RECENT_DOUBTFUL;

	const struct event *event = event_find(recent, session);

	if (event && event->sequence > sequence)
		return event->is_revoked ? RECENT_REVOKED : RECENT_DOUBTFUL;
	return is_covered(recent, sequence) ? RECENT_CURRENT : RECENT_DOUBTFUL;
}

uint64_t recent_sequence(const struct recent *recent)
{
	return recent->sequence;
}
