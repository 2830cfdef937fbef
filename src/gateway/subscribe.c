#include "gateway/subscribe.h"

#include "base/fsm.h"
#include "gateway/admission.h"
#include "gateway/survey.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * Streams looked after before their sends go out: 64 sends are some 300 us, and what 64 streams
 * touch still lies in the second-level cache when they are sent.
 */
#define DRAIN_AT_ONCE 64
#define DRAIN_BATCH   16 /* streams whose memory is fetched together */

#define RECHECKS_MAX 5 /* session events that overtake one registration before it is given up */

enum stream_state {
	STREAM_ADMISSION,
	STREAM_REGISTERING,
	STREAM_RECHECKING,
	STREAM_OPEN,
	STREAM_LEAVING
};

static const char *const state_names[] = {"admission", "registering", "rechecking", "open",
					  "leaving"};
static const uint32_t state_moves[] = {
	[STREAM_ADMISSION] = FSM_TO(STREAM_REGISTERING),
	[STREAM_REGISTERING] =
		FSM_TO(STREAM_RECHECKING) | FSM_TO(STREAM_OPEN) | FSM_TO(STREAM_LEAVING),
	[STREAM_RECHECKING] = FSM_TO(STREAM_REGISTERING),
	[STREAM_OPEN] = FSM_TO(STREAM_LEAVING),
	[STREAM_LEAVING] = 0,
};
static const struct fsm stream_fsm = {
	.name = "stream",
	.state_count = ARRAY_LEN(state_names),
	.state_names = state_names,
	.moves = state_moves,
};

struct stream;

/* What a stream needs on its way in only: an open one does without. */
struct entry {
	struct admission admission;
	struct session_waiter recheck;
	struct stream *stream;
	uint8_t recheck_count;
};

/*
 * One for each open stream, so its bytes count: seven cache lines. Three are the feed's and the
 * index's; of the others the worker alone writes, but for the letters and the verdict.
 */
struct stream {
	struct bus_member member; /* its session is a reference of ours once registered */
	struct node *node;
	struct request *request; /* NULL: ended or gone */
	struct entry *entry;	 /* NULL: open, or was */
	struct list link;	 /* in node->streams */
	struct deadline heartbeat;
	uint64_t opened_ms, last_sent_ms;
	uint8_t state;
	bool is_released; /* the bus has forgotten it */
	bool is_full;	  /* takes no more before it is pulled */
};
_Static_assert(sizeof(struct stream) == SUBSCRIBE_STREAM_BYTES, "bench/README.md's table");

static struct node *stream_node(const struct stream *stream)
{
	return stream->node;
}

static void move(struct stream *stream, enum stream_state next)
{
	fsm_move(&stream_fsm, &stream->state, (uint8_t)next);
}

static void entry_free(struct stream *stream)
{
	struct entry *entry = stream->entry;

	if (!entry)
		return;
	sessions_cancel(&entry->recheck);
	admission_finish(&entry->admission);
	free(entry);
	stream->entry = NULL;
}

/* Only when the bus does not know the stream. */
static void stream_free(struct stream *stream)
{
	deadline_disarm(stream_node(stream)->worker, &stream->heartbeat);
	payload_put(stream->member.bootstrap);
	if (stream->state != STREAM_ADMISSION)
		feed_finish(&stream->member.subscription.feed);
	session_put(stream->member.session);
	entry_free(stream);
	list_remove(&stream->link);
	slab_free(&stream_node(stream)->stream_slab, stream);
}

static void stream_refuse(struct stream *stream, enum err err)
{
	if (stream->request)
		admission_refuse(stream_node(stream), stream->request, err);
	stream_free(stream);
}

static void stream_leave(struct stream *stream)
{
	stream->request = NULL;
	deadline_disarm(stream_node(stream)->worker, &stream->heartbeat);
	move(stream, STREAM_LEAVING);
	bus_unregister(&stream->member);
}

static enum err err_of_end(enum feed_end end)
{
	switch (end) {
	case FEED_REVOKED:
		return ERR_SESSION_REVOKED;
	case FEED_OVERFLOWED:
		return ERR_STREAM_OVERFLOWED;
	case FEED_SHUTDOWN:
		return ERR_SHUTTING_DOWN;
	case FEED_FAILED:
		return ERR_INTERNAL;
	case FEED_OPEN:
		break;
	}
	UNREACHABLE("an open feed has no end");
}

/* Taken from a feed at once: no more than the stream takes without being asked again. */
#define SEND_PAYLOADS 16
#define SEND_BYTES    (64u << 10)

/* Sends while the stream takes it. */
static void send_queued(struct stream *stream)
{
	struct node *node = stream_node(stream);
	struct payload *payloads[SEND_PAYLOADS];
	uint64_t messages = 0, bytes = 0;
	uint32_t count = 1;
	bool room = true;

	while (room && count > 0) {
		count = feed_pop_many(&stream->member.subscription.feed, payloads, SEND_PAYLOADS,
				      SEND_BYTES);
		for (uint32_t i = 0; i < count; i++) {
			messages += payloads[i]->messages;
			bytes += payloads[i]->len;
			room = rpc_give(stream->request, payloads[i]);
		}
	}
	stream->is_full = !room;
	if (messages > 0) {
		metric_add(&node->metrics.deliveries, messages);
		metric_add(&node->metrics.delivered_bytes, bytes);
		stream->last_sent_ms = node->worker->now_ms;
	}
}

/* The feed has a terminal cause: the client is told, the bus is asked to forget the stream. What is
 * still queued would not leave ahead of that. */
static void stream_end(struct stream *stream, enum feed_end end)
{
	metric_add(&stream_node(stream)->metrics.ended[end], 1);
	rpc_cut(stream->request, err_of_end(end));
	stream_leave(stream);
}

void subscribe_pull(struct request *request)
{
	struct stream *stream = request->context;

	enum feed_end end;

	if (stream->state != STREAM_OPEN)
		return;
	end = feed_get_end(&stream->member.subscription.feed);
	if (end != FEED_OPEN)
		stream_end(stream, end);
	else
		send_queued(stream);
}

static void look_after(struct stream *stream)
{
	enum feed_end end = feed_get_end(&stream->member.subscription.feed);

	if (end != FEED_OPEN)
		stream_end(stream, end);
	else
		rpc_resume(stream->request);
}

/* A batch's memory is fetched together, a step for each pointer on the way to what a delivery
 * touches: with many streams most of it has left the caches since the last event. */
static void fetch(struct stream *const *streams, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		__builtin_prefetch(&streams[i]->member.subscription.feed.head);
		__builtin_prefetch(&streams[i]->member.subscription.feed.tail);
		__builtin_prefetch(&streams[i]->request);
		__builtin_prefetch(&streams[i]->state);
	}
	for (unsigned step = 0; step < RPC_FETCH_STEPS; step++)
		for (uint32_t i = 0; i < count; i++)
			if (streams[i]->request)
				rpc_fetch(streams[i]->request, step);
}

/* Returns how many feeds it looked after. */
static uint32_t drain_batch(struct node *node)
{
	struct stream *streams[DRAIN_BATCH];
	uint32_t count = 0;
	struct feed *feed;

	while (count < DRAIN_BATCH && (feed = feed_ready_next(&node->draining)))
		streams[count++] = CONTAINER_OF(feed, struct stream, member.subscription.feed);
	fetch(streams, count);
	for (uint32_t i = 0; i < count; i++) {
		if (streams[i]->state == STREAM_OPEN)
			look_after(streams[i]);
		else if (streams[i]->is_released)
			stream_free(streams[i]);
	}
	return count;
}

/* While a flush task is left the next turn does not wait. */
static void come_back(struct node *node)
{
	if (node->draining || !mpsc_is_empty(&node->ready.queue))
		worker_flush_later(node->worker, &node->drain);
}

void subscribe_drain(struct node *node)
{
	for (uint32_t count = 0; count < DRAIN_AT_ONCE; count += DRAIN_BATCH) {
		if (!node->draining)
			node->draining = feed_ready_take(&node->ready);
		if (drain_batch(node) == 0)
			return;
	}
	come_back(node);
}

static void drain_run(struct task *task)
{
	come_back(CONTAINER_OF(task, struct node, drain));
}

void subscribe_drain_init(struct node *node)
{
	node->draining = NULL;
	task_init(&node->drain, drain_run);
}

static void heartbeat_expired(struct deadline *deadline)
{
	struct stream *stream = CONTAINER_OF(deadline, struct stream, heartbeat);
	struct node *node = stream_node(stream);
	struct payload *heartbeat = node->shared->heartbeat;
	uint64_t interval_ms = node->shared->config->push_heartbeat_interval_ms;
	uint64_t silent_ms = node->worker->now_ms - stream->last_sent_ms;

	if (silent_ms >= interval_ms) {
		/* a stream with events waiting is not silent but blocked: it needs no sign of life
		 */
		if (feed_depth(&stream->member.subscription.feed) == 0 && !stream->is_full)
			stream->is_full = !rpc_send(stream->request,
						    (struct payload_slice){.payload = heartbeat,
									   .len = heartbeat->len});
		stream->last_sent_ms = node->worker->now_ms;
		silent_ms = 0;
	}
	deadline_arm(node->worker, deadline, interval_ms - silent_ms);
}

void subscribe_survey(const struct node *node, struct survey *survey)
{
	survey_clear(survey);
	LIST_FOR_EACH (&node->streams, link) {
		const struct stream *stream = CONTAINER_OF(link, struct stream, link);
		const struct feed *feed = &stream->member.subscription.feed;

		if (stream->state != STREAM_OPEN)
			continue;
		survey->open_count++;
		uint32_t depth = feed_depth(feed);
		uint64_t queued_bytes = feed_queued_bytes(feed);

		if (!survey_wants(survey, depth, queued_bytes))
			continue;
		struct survey_row row = {
			.depth = depth,
			.queued_bytes = queued_bytes,
			.age_ms = node->worker->now_ms - stream->opened_ms,
			.silent_ms = node->worker->now_ms - stream->last_sent_ms,
		};
		struct span id = session_id(stream->member.session);

		snprintf(row.session, sizeof(row.session), "%.*s", SPAN_ARGS(id)); /* cut */
		survey_add(survey, &row);
	}
}

/* ---- registration ---- */

static void stream_register(struct stream *stream)
{
	move(stream, STREAM_REGISTERING);
	bus_register(&stream->member);
}

static void rechecked(struct stream *stream, enum sessions_answer answer, struct session *session)
{
	struct session *checked = stream->member.session;

	if (answer == SESSIONS_UNAVAILABLE) {
		stream_refuse(stream, ERR_SESSION_UNAVAILABLE);
		return;
	}
	if (answer == SESSIONS_UNKNOWN) {
		stream_refuse(stream, ERR_SESSION_UNKNOWN);
		return;
	}
	/* what was verified was another user's, or another key's */
	bool same =
		span_equal(session_user(session), session_user(checked)) &&
		memcmp(session->public_key, checked->public_key, sizeof(checked->public_key)) == 0;

	if (session->status == SESSION_REVOKED || !same) {
		stream_refuse(stream, ERR_SESSION_REVOKED);
		return;
	}
	session_get(session);
	session_put(checked);
	stream->member.session = session;
	stream->member.checked_sequence = stream_node(stream)->sessions.sequence;
	stream_register(stream);
}

static void recheck_told(struct session_waiter *waiter, enum sessions_answer answer,
			 struct session *session)
{
	rechecked(CONTAINER_OF(waiter, struct entry, recheck)->stream, answer, session);
}

static void stream_recheck(struct stream *stream)
{
	struct node *node = stream_node(stream);
	struct span id = session_id(stream->member.session);
	struct session *session = NULL;

	metric_add(&node->metrics.rechecks, 1);
	if (++stream->entry->recheck_count > RECHECKS_MAX) {
		stream_refuse(stream, ERR_SESSION_UNAVAILABLE);
		return;
	}
	move(stream, STREAM_RECHECKING);
	sessions_recheck(&node->sessions, id);
	enum sessions_answer answer =
		sessions_find(&node->sessions, id, &stream->entry->recheck, &session);

	if (answer != SESSIONS_PENDING)
		rechecked(stream, answer, session);
}

static void stream_opened(struct stream *stream)
{
	struct node *node = stream_node(stream);

	move(stream, STREAM_OPEN);
	entry_free(stream);
	if (!stream->request) {
		metric_add(&node->metrics.ended_by_client, 1);
		stream_leave(stream);
		return;
	}
	request_settle(stream->request);
	stream->opened_ms = node->worker->now_ms;
	stream->last_sent_ms = node->worker->now_ms;
	if (node->shared->heartbeat)
		deadline_arm(node->worker, &stream->heartbeat,
			     node->shared->config->push_heartbeat_interval_ms);
	/* its place in the ready queue may have come before this letter */
	look_after(stream);
}

static void stream_replied(struct bus_member *member)
{
	struct stream *stream = CONTAINER_OF(member, struct stream, member);

	if (member->verdict != BUS_ADMITTED && !stream->request) {
		stream_free(stream);
		return;
	}
	switch (member->verdict) {
	case BUS_ADMITTED:
		stream_opened(stream);
		return;
	case BUS_RECHECK:
		stream_recheck(stream);
		return;
	case BUS_REVOKED:
		stream_refuse(stream, ERR_SESSION_REVOKED);
		return;
	case BUS_TOO_MANY:
		stream_refuse(stream, ERR_TOO_MANY_STREAMS);
		return;
	case BUS_CLOSING:
		stream_refuse(stream, ERR_SHUTTING_DOWN);
		return;
	case BUS_NO_MEMORY:
		stream_refuse(stream, ERR_OUT_OF_MEMORY);
		return;
	case BUS_VERDICT_COUNT:
		break;
	}
	UNREACHABLE("every verdict has its case");
}

static void stream_released(struct bus_member *member)
{
	struct stream *stream = CONTAINER_OF(member, struct stream, member);

	/* the last push may still hold a place in the ready queue: then it goes when that comes */
	stream->is_released = true;
	if (!feed_is_ready(&member->subscription.feed))
		stream_free(stream);
}

/* ---- the call ---- */

static void subscribe_admitted(struct admission *admission)
{
	struct stream *stream = CONTAINER_OF(admission, struct entry, admission)->stream;
	struct node *node = admission->node;

	stream->member.bootstrap =
		wire_write_server_time(&node->signing, admission->envelope.request_id,
				       admission->envelope.trace_id, node->worker->wall_ms);
	if (!stream->member.bootstrap) {
		stream_refuse(stream, ERR_OUT_OF_MEMORY);
		return;
	}
	session_get(admission->session);
	stream->member.session = admission->session;
	stream->member.checked_sequence = admission->checked_sequence;
	feed_init(&stream->member.subscription.feed,
		  (uint32_t)node->shared->config->push_queue_capacity, &node->ready,
		  &node->shared->feed_budget);
	stream_register(stream);
}

static void subscribe_refused(struct admission *admission)
{
	stream_free(CONTAINER_OF(admission, struct entry, admission)->stream);
}

static const struct admission_handler subscribe_handler = {
	.admitted = subscribe_admitted,
	.refused = subscribe_refused,
};

/* Returns NULL without memory. */
static struct stream *stream_create(struct node *node)
{
	struct stream *stream = slab_alloc(&node->stream_slab);
	struct entry *entry = stream ? calloc(1, sizeof(*entry)) : NULL;

	if (!entry) {
		slab_free(&node->stream_slab, stream);
		return NULL;
	}
	entry->stream = stream;
	list_init(&entry->recheck.link);
	entry->recheck.told = recheck_told;
	stream->entry = entry;
	stream->node = node;
	stream->state = STREAM_ADMISSION;
	stream->member.bus = node->shared->bus;
	stream->member.worker = node->worker;
	stream->member.replied = stream_replied;
	stream->member.released = stream_released;
	deadline_init(&stream->heartbeat, heartbeat_expired);
	list_init(&stream->link);
	list_push_back(&node->streams, &stream->link);
	return stream;
}

void subscribe_start(struct request *request)
{
	struct node *node = request->service;
	struct stream *stream = stream_create(node);

	if (!stream) {
		admission_refuse(node, request, ERR_OUT_OF_MEMORY);
		return;
	}
	stream->request = request;
	request->context = stream;
	admission_start(&stream->entry->admission, request, &subscribe_handler);
}

void subscribe_cancelled(struct request *request)
{
	struct stream *stream = request->context;

	stream->request = NULL;
	switch (stream->state) {
	case STREAM_ADMISSION:
	case STREAM_RECHECKING:
		stream_free(stream);
		return;
	case STREAM_OPEN:
		metric_add(&stream_node(stream)->metrics.ended_by_client, 1);
		stream_leave(stream);
		return;
	default:
		return; /* the bus has it: its letter finds the request gone */
	}
}
