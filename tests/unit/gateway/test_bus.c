/*
 * The life of streams between workers and bus (DESIGN §4), every order of it: small scripts of
 * clients, a publisher and the end are run in all orders of their steps and of the threads' turns,
 * on one thread, against the real bus and real workers. A worker takes a turn only when it would
 * wake: a lost wake-up shows as something left undone at the end.
 *
 * A state that was reached before is not gone on from again.
 */
#include "unit/gateway/bus_world.h"

#include "uring/worker_internal.h"

#define CHOICES_MAX 256
#define STATES_MAX  (1u << 21) /* power of two; at most half are used */

/* ---- actions: steps of scripts, answers, turns ---- */

enum { ACTION_SCRIPT = 0, ACTION_STREAM = AGENTS, ACTION_BUS = AGENTS + STREAMS, ACTION_PORT };
#define ACTIONS (ACTION_PORT + RIG_PORTS)

static struct worker *thread_of(int action)
{
	return action == ACTION_BUS ? &rig.bus_worker : &rig.workers[action - ACTION_PORT];
}

/* Whether it would not sleep on: woken, with work of its own, or with wake-ups still to send. */
static bool is_awake(struct worker *worker)
{
	return !atomic_load(&worker->asleep_hint) || worker->wake_pending[0] ||
	       !list_is_empty(&worker->sweep_tasks) || !list_is_empty(&worker->flush_tasks) ||
	       wheel_next_ms(&worker->wheel) <= rig.now_us / 1000;
}

static bool is_possible(int action)
{
	if (action >= ACTION_BUS)
		return is_awake(thread_of(action));
	if (action >= ACTION_STREAM)
		return streams[action - ACTION_STREAM].state == STREAM_ASKED ||
		       streams[action - ACTION_STREAM].state == STREAM_CHECKED;

	uint8_t at = model.script_at[action];

	if (at == STEPS_MAX || scenario->scripts[action][at].kind == END)
		return false;
	return scenario->scripts[action][at].kind != FINISH || may_finish();
}

/* Of each session no more streams are in the index than may be. */
static void check_limit(void)
{
	uint32_t counts[SESSIONS] = {0};

	for (size_t i = 0; i < STREAMS; i++)
		counts[streams[i].session] += streams[i].member.subscription.feed.place.user != NULL;
	for (size_t i = 0; i < SESSIONS; i++)
		if (counts[i] > rig.config->push_max_streams_per_session)
			blame("more streams of a session than it may have");
}

static void notice_admissions(void)
{
	check_limit();
	for (size_t i = 0; i < STREAMS; i++) {
		struct stream *stream = &streams[i];

		if (stream->is_admitted || !stream->member.subscription.feed.place.user)
			continue;
		stream->is_admitted = true;
		stream->place = ++model.admissions;
		stream->said_before = model.said[stream->seen.user][stream->session];
	}
}

/* It sleeps on afterwards: it must be woken. */
static void turn(struct worker *worker)
{
	if (worker_turn(worker, 0))
		blame("a turn failed");
	mailbox_set_asleep(worker, true);
}

/*
 * On the bus's thread. A stream that reads may overflow only if a fence has timed out since its
 * worker last looked at it.
 */
static void watch_overflows(void (*act)(void *context), void *context)
{
	uint64_t timeouts = metric_value(&rig.bus->metrics.fence_timeouts);
	bool was_drained[STREAMS];
	enum feed_end ends[STREAMS];

	for (size_t i = 0; i < STREAMS; i++) {
		ends[i] = feed_get_end(&streams[i].member.subscription.feed);
		was_drained[i] = feed_depth(&streams[i].member.subscription.feed) == 0;
		if (was_drained[i])
			streams[i].is_late = false;
	}
	act(context);
	timeouts = metric_value(&rig.bus->metrics.fence_timeouts) - timeouts;
	for (size_t i = 0; i < STREAMS; i++) {
		struct stream *stream = &streams[i];

		if (timeouts > 0 && !was_drained[i])
			stream->is_late = true;
		if (feed_get_end(&stream->member.subscription.feed) == FEED_OVERFLOWED &&
		    ends[i] == FEED_OPEN && !stream->is_late && !stream->is_blocked)
			blame("a reading stream overflowed");
	}
}

static void turn_bus(void *context)
{
	(void)context;
	turn(&rig.bus_worker);
	notice_admissions();
}

static void step_next(void *context)
{
	int agent = *(int *)context;

	step_run(scenario->scripts[agent][model.script_at[agent]++]);
}

static void action_run(int action)
{
	if (action >= ACTION_PORT) {
		turn(thread_of(action));
		return;
	}
	if (action == ACTION_BUS) {
		watch_overflows(turn_bus, NULL);
		return;
	}
	if (action >= ACTION_STREAM) {
		struct stream *stream = &streams[action - ACTION_STREAM];

		if (stream->state == STREAM_CHECKED)
			stream_register(stream);
		else
			stream_answered(stream);
		return;
	}
	watch_overflows(step_next, &action);
}

struct traced {
	int action;
	struct step step; /* of a script */
};

static void traced_print(struct traced traced)
{
	int action = traced.action;

	static const char *const turns[] = {"bus", "worker-0", "worker-1"};

	if (action >= ACTION_BUS)
		print_message("  turn of %s\n", turns[action - ACTION_BUS]);
	else if (action >= ACTION_STREAM)
		print_message("  stream %d goes on\n", action - ACTION_STREAM);
	else
		print_message("  %s %u\n", step_names[traced.step.kind], traced.step.of);
}

/* ---- states ---- */

struct fingerprint {
	uint64_t hash;
};

static void mix(struct fingerprint *print, uint64_t value)
{
	print->hash = (print->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	print->hash ^= print->hash >> 31;
}

/* Letters of session updates are alike: which one it is follows from how many came before. */
static uint64_t letter_name(const struct mpsc_node *node)
{
	for (uint64_t i = 0; i < STREAMS; i++) {
		if (node == &streams[i].member.to_bus.node)
			return 1 + 2 * i;
		if (node == &streams[i].member.to_worker.node)
			return 2 + 2 * i;
	}
	for (uint64_t i = 0; i < RIG_PORTS; i++) {
		if (node == &rig.ports[i].fence_out.node)
			return 100 + 2 * i;
		if (node == &rig.ports[i].fence_back.node)
			return 101 + 2 * i;
	}
	return 200;
}

static uint64_t feed_name(const struct mpsc_node *node)
{
	const struct feed *feed = CONTAINER_OF(node, struct feed, ready_node);

	for (uint64_t i = 0; i < STREAMS; i++)
		if (feed == &streams[i].member.subscription.feed)
			return 1 + i;
	return 0;
}

static void mix_queue(struct fingerprint *print, struct mpsc *queue,
		      uint64_t (*name)(const struct mpsc_node *node))
{
	/* Newest first, as it stands. */
	for (struct mpsc_node *node = atomic_load(&queue->newest); node; node = node->next)
		mix(print, name(node));
	mix(print, 0xffff);
}

static void mix_worker(struct fingerprint *print, struct worker *worker)
{
	mix(print, atomic_load(&worker->asleep_hint));
	mix(print, worker->wake_pending[0]);
	mix(print, list_is_empty(&worker->sweep_tasks));
	mix(print, wheel_next_ms(&worker->wheel) <= rig.now_us / 1000);
	mix_queue(print, &worker->mailbox, letter_name);
}

static void mix_stream(struct fingerprint *print, struct stream *stream)
{
	struct feed *feed = &stream->member.subscription.feed;

	mix(print, stream->state);
	mix(print,
	    (uint64_t)stream->is_wanted | (uint64_t)stream->is_stale << 1 |
		    (uint64_t)stream->is_rechecked << 2 | (uint64_t)stream->seen.is_revoked << 3 |
		    (uint64_t)stream->reply_due << 4 | (uint64_t)stream->release_due << 5 |
		    (uint64_t)stream->was_open_at_loss << 6 | (uint64_t)stream->has_received << 7 |
		    (uint64_t)(stream->member.subscription.feed.place.user != NULL) << 8 |
		    (uint64_t)stream->is_late << 9);
	mix(print, stream->seen.user);
	mix(print, stream->asks);
	mix(print, stream->place);
	mix(print, stream->said_before);
	mix(print, stream->received);
	mix(print, stream->end);
	mix(print, stream->state >= STREAM_CHECKED
			   ? recent_sequence(rig.bus->recent) - stream->member.checked_sequence
			   : 0);
	mix(print, stream->member.verdict);
	mix(print, atomic_load(&feed->head));
	mix(print, atomic_load(&feed->tail));
	mix(print, atomic_load(&feed->end));
	mix(print, atomic_load(&feed->in_ready));
}

static uint64_t state_hash(void)
{
	struct fingerprint print = {.hash = 1};
	struct bus *bus = rig.bus;

	for (size_t i = 0; i < AGENTS; i++)
		mix(&print, model.script_at[i]);
	for (size_t i = 0; i < SESSIONS; i++)
		mix(&print, (uint64_t)model.records[i].is_revoked << 8 | model.records[i].user);
	for (size_t i = 0; i < STREAMS; i++)
		mix_stream(&print, &streams[i]);
	for (size_t i = 0; i < RIG_PORTS; i++) {
		mix_worker(&print, &rig.workers[i]);
		mix_queue(&print, &ready[i].queue, feed_name);
		mix(&print, model.updates[i]);
		mix(&print, bus->port_woken[i]);
		mix(&print, rig.ports[i].fence_is_out);
		mix(&print, rig.ports[i].fence_awaited);
		mix(&print, rig.ports[i].fence_again);
	}
	mix_worker(&print, &rig.bus_worker);
	mix(&print, model.log);
	mix(&print, model.done_count);
	mix(&print, bus->pending_count);
	mix(&print, bus->events_since_fence);
	mix(&print, bus->fences_out);
	mix(&print, bus->updates_out);
	mix(&print, bus->finished != NULL);
	return print.hash ? print.hash : 1;
}

static uint64_t *states;
static uint64_t state_count;

/* Returns whether it is new, and notes it. */
static bool state_note(void)
{
	uint64_t hash = state_hash();
	size_t at = (size_t)(hash >> 20) & (STATES_MAX - 1);

	while (states[at] && states[at] != hash)
		at = (at + 1) & (STATES_MAX - 1);
	if (states[at])
		return false;
	states[at] = hash;
	state_count++;
	return true;
}

/* ---- schedules ---- */

static uint8_t choices[CHOICES_MAX], options[CHOICES_MAX];
static size_t choice_count;
static uint64_t run_count, end_count;
static struct traced trace[1024];
static size_t trace_len;

/* Threads sleep, nothing is in the bus, ids were never used before: that makes `recent` new. */
static void schedule_begin(void)
{
	static uint64_t number;
	uint32_t capacity = scenario->capacity ? scenario->capacity : 8;

	number++;
	for (unsigned i = 0; i < SESSIONS; i++) {
		snprintf(names[i], sizeof(names[i]), "s%llu-%u", (unsigned long long)number, i);
		for (unsigned user = 0; user < 2; user++)
			snprintf(users[i][user], sizeof(users[i][user]), "u%llu-%u-%u",
				 (unsigned long long)number, i, user);
	}
	memset(&model, 0, sizeof(model));
	memset(streams, 0, sizeof(streams));
	for (size_t i = 0; i < STREAMS; i++) {
		struct bus_member *member = &streams[i].member;

		streams[i].port = scenario->streams[i].port;
		streams[i].session = scenario->streams[i].session;
		streams[i].is_blocked = scenario->streams[i].is_blocked;
		member->bus = rig.bus;
		member->worker = &rig.workers[streams[i].port];
		member->replied = replied;
		member->released = released;
	}
	for (size_t i = 0; i < RIG_PORTS; i++)
		model.sequences[i] = recent_sequence(rig.bus->recent);
	rig.bus->closing = false;
	rig.config->push_max_streams_per_session =
		scenario->streams_max ? scenario->streams_max : STREAMS;
	rig.bus->events_per_fence = capacity - 1;
	rig.bus->events_since_fence = 0;
}

static bool is_quiet(void)
{
	bool quiet = mpsc_is_empty(&rig.bus_worker.mailbox);

	for (size_t i = 0; i < RIG_PORTS; i++)
		quiet = quiet && mpsc_is_empty(&rig.workers[i].mailbox) &&
			mpsc_is_empty(&ready[i].queue);
	return quiet;
}

/* Nothing can happen any more: what holds then? */
static void check_end(void)
{
	if (!is_quiet())
		blame("a wake-up was lost");
	for (size_t i = 0; i < STREAMS; i++) {
		struct stream *stream = &streams[i];
		struct record record = model.records[stream->session];
		bool is_denied = record.is_revoked || record.user != stream->seen.user;

		if (stream->reply_due || stream->release_due)
			blame("a letter was never answered");
		if (stream->state == STREAM_LEAVING || stream->state == STREAM_REGISTERING)
			blame("a stream hangs");
		if (stream->state == STREAM_OPEN && model.is_closed)
			blame("a stream has outlived the end");
		if (stream->state == STREAM_OPEN && is_denied && !stream->was_open_at_loss)
			blame("a stream is open whose session was revoked or moved");
		if (stream->state != STREAM_OPEN || stream->is_blocked)
			continue;

		uint32_t said = model.said[stream->seen.user][stream->session];

		if (!stream->has_received ||
		    (stream->received == UINT32_MAX ? stream->said_before : stream->received) !=
			    said)
			blame("an open stream has not got everything");
	}
	if (model.done_count != model.is_finishing)
		blame("the end was told not once");
}

/* The next choice among what is possible: -1 when there is nothing, or only what is known. */
static int choose(size_t *depth, bool *is_known)
{
	int able[ACTIONS], count = 0;

	for (int action = 0; action < ACTIONS; action++)
		if (is_possible(action))
			able[count++] = action;
	if (count < 2)
		return count ? able[0] : -1;
	if (*depth == choice_count) {
		if (!state_note()) {
			*is_known = true;
			return -1;
		}
		CHECK(choice_count < CHOICES_MAX);
		choices[choice_count] = 0;
		options[choice_count++] = (uint8_t)count;
	}
	return able[choices[(*depth)++]];
}

/* Until all sleep. */
static void turns_run(void)
{
	bool has_turned = true;

	while (has_turned) {
		has_turned = false;
		for (int action = ACTION_BUS; action < ACTIONS; action++) {
			if (!is_awake(thread_of(action)))
				continue;
			has_turned = true;
			turn(thread_of(action));
		}
	}
}

/* All go, then the end; any order will do. */
static void schedule_end(void)
{
	for (size_t i = 0; i < STREAMS; i++)
		client_leaves(&streams[i]);
	if (!model.is_closed)
		step_run((struct step){.kind = CLOSE});
	turns_run();
	if (!model.is_finishing)
		step_run((struct step){.kind = FINISH});
	turns_run();
	bus_reread_stop(rig.bus);
	deadline_disarm(&rig.bus_worker, &rig.bus->fence_deadline);
	for (size_t i = 0; i < STREAMS; i++)
		if (streams[i].state != STREAM_GONE && streams[i].state != STREAM_NONE)
			blame("a stream is left");
	if (!is_quiet() || rig.bus->index.subscription_count > 0 || rig.bus->pending_count > 0 ||
	    rig.bus->updates_out > 0)
		blame("something is left");
	if (atomic_load(&rig.budget.queued_bytes) > 0)
		blame("bytes are left in a feed");
	if (model.done_count != 1)
		blame("the end was told not once");
}

static void schedule_run(void)
{
	size_t depth = 0;
	bool is_known = false;
	int action;

	schedule_begin();
	run_count++;
	trace_len = 0;
	while (!wrong && (action = choose(&depth, &is_known)) >= 0) {
		CHECK(trace_len < ARRAY_LEN(trace));
		trace[trace_len] = (struct traced){.action = action};
		if (action < ACTION_STREAM)
			trace[trace_len].step = scenario->scripts[action][model.script_at[action]];
		trace_len++;
		action_run(action);
	}
	if (!wrong && !is_known) {
		end_count++;
		check_end();
	}
	if (!wrong)
		schedule_end();
	if (!wrong)
		return;
	print_message("%s:\n", scenario->name);
	for (size_t i = 0; i < trace_len; i++)
		traced_print(trace[i]);
	fail_msg("%s", wrong);
}

/* The next order, or false. */
static bool schedule_next(void)
{
	while (choice_count > 0 && choices[choice_count - 1] + 1 == options[choice_count - 1])
		choice_count--;
	if (choice_count == 0)
		return false;
	choices[choice_count - 1]++;
	return true;
}

static void run_all(const struct scenario *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		scenario = &rows[i];
		memset(states, 0, STATES_MAX * sizeof(*states));
		run_count = end_count = state_count = 0;
		choice_count = 0;
		do {
			schedule_run();
			assert_true(state_count < STATES_MAX / 2);
		} while (schedule_next());
		print_message("%s: %llu schedules, %llu states\n", scenario->name,
			      (unsigned long long)run_count, (unsigned long long)state_count);
	}
}

/* ---- the tests ---- */

static int set_up(void **state)
{
	(void)state;
	rig_init(true, 8);
	states = calloc(STATES_MAX, sizeof(*states));
	assert_non_null(states);
	for (size_t i = 0; i < RIG_PORTS; i++) {
		feed_ready_init(&ready[i]);
		rig.ports[i].updated = updated;
		rig.ports[i].drain = drain;
		rig.workers[i].before_wait = drain_before_wait;
	}
	wrong = NULL;
	for (int action = ACTION_BUS; action < ACTIONS; action++)
		turn(thread_of(action));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(states);
	rig_stop_parts();
	rig_finish();
	return 0;
}

/* Lives of single streams, with whatever may befall their session on the way. */
static void every_order_of_one_stream_ends_well(void **state)
{
	static const struct scenario rows[] = {
		{"goes whenever it likes", .scripts = {{{OPEN, 0}, {LEAVE, 0}}}},
		{"revoked", .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{REVOKE, 0}, {TELL, 0}}}},
		{"moved", .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{MOVE, 0}, {TELL, 0}}}},
		{"told again", .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{TELL, 0}, {TELL, 0}}}},
		{"revoked and allowed",
		 .scripts = {{{OPEN, 0}, {LEAVE, 0}},
			     {{REVOKE, 0}, {TELL, 0}, {ALLOW, 0}, {TELL, 0}}}},
		{"moved and revoked",
		 .scripts = {{{OPEN, 0}}, {{MOVE, 0}, {TELL, 0}, {REVOKE, 0}, {TELL, 0}}}},
		{"of another session",
		 .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{REVOKE, 1}, {TELL, 1}, {TELL, 1}}}},
		{"in a loss",
		 .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{REVOKE, 0}, {LOSE, 0}, {TELL, 0}}}},
		{"revoked while it stays", .scripts = {{{OPEN, 0}}, {{REVOKE, 0}, {TELL, 0}}}},
		{"moved while it stays", .scripts = {{{OPEN, 0}}, {{MOVE, 0}, {TELL, 0}}}},
		{"told again while it stays",
		 .scripts = {{{OPEN, 0}}, {{TELL, 0}, {TELL, 0}, {SAY, 0}}}},
		{"revoked and allowed while it stays",
		 .scripts = {{{OPEN, 0}}, {{REVOKE, 0}, {TELL, 0}, {ALLOW, 0}, {TELL, 0}}}},
		{"whose revocation is lost", .scripts = {{{OPEN, 0}}, {{REVOKE, 0}, {LOSE, 0}}}},
		{"in a loss while it stays",
		 .scripts = {{{OPEN, 0}}, {{LOSE, 0}, {REVOKE, 0}, {TELL, 0}}}},
		{"at the end", .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{CLOSE, 0}, {FINISH, 0}}}},
		{"revoked at the end", .scripts = {{{OPEN, 0}, {LEAVE, 0}},
						   {{REVOKE, 0}, {TELL, 0}},
						   {{CLOSE, 0}, {FINISH, 0}}}},
		{"in a loss at the end",
		 .scripts = {{{OPEN, 0}}, {{LOSE, 0}}, {{CLOSE, 0}, {FINISH, 0}}}},
	};

	(void)state;
	run_all(rows, ARRAY_LEN(rows));
}

static void every_order_of_two_streams_ends_well(void **state)
{
	static const struct scenario rows[] = {
		{"of one session, revoked", .streams = {{0, 0, false}, {1, 0, false}},
		 .scripts = {{{OPEN, 0}}, {{OPEN, 1}, {LEAVE, 1}}, {{REVOKE, 0}, {TELL, 0}}}},
		{"of one session and worker, moved", .streams = {{0, 0, false}, {0, 0, false}},
		 .scripts = {{{OPEN, 0}, {OPEN, 1}, {LEAVE, 0}}, {{MOVE, 0}, {TELL, 0}}}},
		{"of two sessions, one revoked", .streams = {{0, 0, false}, {0, 1, false}},
		 .scripts = {{{OPEN, 0}}, {{OPEN, 1}}, {{REVOKE, 0}, {TELL, 0}}}},
		{"of a session that may have one", .streams_max = 1,
		 .streams = {{0, 0, false}, {1, 0, false}},
		 .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{OPEN, 1}}, {{TELL, 0}}}},
		{"at the end", .streams = {{0, 0, false}, {1, 1, false}},
		 .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{OPEN, 1}}, {{CLOSE, 0}, {FINISH, 0}}}},
	};

	(void)state;
	run_all(rows, ARRAY_LEN(rows));
}

static void every_order_of_events_delivers_all_of_them(void **state)
{
	static const struct scenario rows[] = {
		{"events", .scripts = {{{OPEN, 0}}, {{SAY, 0}, {SAY, 0}, {SAY, 0}}}},
		{"events as the client goes",
		 .scripts = {{{OPEN, 0}, {LEAVE, 0}}, {{SAY, 0}, {SAY, 0}}}},
		{"events and a revocation",
		 .scripts = {{{OPEN, 0}}, {{SAY, 0}, {SAY, 0}}, {{REVOKE, 0}, {TELL, 0}}}},
		{"events for two workers", .streams = {{0, 0, false}, {1, 0, false}},
		 .scripts = {{{OPEN, 0}}, {{OPEN, 1}}, {{SAY, 0}, {SAY, 0}}}},
		{"batches larger than a feed", .capacity = 2,
		 .scripts = {{{OPEN, 0}}, {{BATCH, 0}, {BATCH, 0}}}},
		{"batches for two workers", .capacity = 2,
		 .streams = {{0, 0, false}, {1, 0, false}},
		 .scripts = {{{OPEN, 0}}, {{OPEN, 1}}, {{BATCH, 0}}}},
		{"batches and a revocation", .capacity = 4,
		 .scripts = {{{OPEN, 0}}, {{BATCH, 0}, {BATCH, 0}}, {{REVOKE, 0}, {TELL, 0}}}},
		{"batches at the end", .capacity = 2,
		 .scripts = {{{OPEN, 0}}, {{BATCH, 0}}, {{CLOSE, 0}, {FINISH, 0}}}},
		{"batches and a fence that times out", .capacity = 4,
		 .scripts = {{{OPEN, 0}}, {{BATCH, 0}, {BATCH, 0}}, {{TIME, 0}, {TIME, 0}}}},
		{"a blocked stream beside a reading one", .capacity = 2,
		 .streams = {{0, 0, true}, {0, 0, false}},
		 .scripts = {{{OPEN, 0}, {READ, 0}}, {{OPEN, 1}}, {{BATCH, 0}}}},
	};

	(void)state;
	run_all(rows, ARRAY_LEN(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_order_of_one_stream_ends_well, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(every_order_of_two_streams_ends_well, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(every_order_of_events_delivers_all_of_them, set_up,
						tear_down),
	};

	return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}
