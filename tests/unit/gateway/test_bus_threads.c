/*
 * The bus and two workers on threads of their own: thousands of streams come and go while sessions
 * are revoked and events pushed, all at once. Threads do not assert: they leave a note. Meant for
 * ThreadSanitizer as well.
 */
#include "unit/gateway/bus_rig.h"

#include <pthread.h>

#define CAPACITY 8
#define SEATS	 64
#define SESSIONS 16

#ifdef __SANITIZE_THREAD__
#define LIVES 15000 /* streams of one worker that are admitted */
#else
#define LIVES 40000
#endif

enum seat_state { SEAT_FREE, SEAT_REGISTERING, SEAT_OPEN, SEAT_LEAVING };

struct seat {
	struct bus_member member;
	enum seat_state state;
	bool is_blocked; /* takes nothing: overflows */
	uint32_t session;
	uint32_t seen_revocations; /* of its session, when it was checked */
	uint32_t leave_after;	   /* events; 0: at once */
	uint32_t received;
	int64_t next; /* number of the event that must come next; -1: the bootstrap, 0: any */
};

struct party {
	struct seat *seats;
	struct feed_ready ready;
	struct task refill;
	struct letter done, settle, checked, stop;
	uint64_t sequence, random;
	uint32_t lives_left;
	bool has_told_done, is_settling, has_told_checked;
	uint32_t registered, replied, left, released, overflowed, revoked;
};

/* The publisher's: a record is written before its event is told. */
static struct {
	_Atomic bool is_revoked;
	_Atomic uint32_t revocations;
} records[SESSIONS];

static struct party parties[RIG_PORTS];
static char session_names[SESSIONS][16];
static _Atomic(const char *) wrong;

/* The bus's side. */
static struct {
	struct task task;
	uint64_t random;
	uint32_t said[SESSIONS];
	uint32_t done_count, checked_count, revoked_count;
	bool is_last_told, is_settling, finished_early;
	uint32_t finished_count;
} driver;

static void blame(const char *what)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&wrong, &none, what);
}

static uint32_t pick(uint64_t *random, uint32_t below)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return (uint32_t)(*random >> 32) % below;
}

static struct party *party_of(const struct bus_member *member)
{
	return &parties[member->worker - rig.workers];
}

/* ---- a worker's side ---- */

static void seat_register(struct party *party, struct seat *seat)
{
	struct bus_member *member = &seat->member;
	const char *name = session_names[seat->session];

	seat->received = 0;
	seat->next = -1;
	seat->is_blocked = pick(&party->random, 16) == 0;
	seat->leave_after = pick(&party->random, 4) * pick(&party->random, 8);
	member->checked_sequence = party->sequence;
	member->session = rig_session(name, name);
	member->bootstrap = rig_bootstrap();
	feed_init(&member->subscription.feed, CAPACITY, &party->ready, &rig.budget);
	seat->state = SEAT_REGISTERING;
	party->lives_left--;
	party->registered++;
	bus_register(member);
}

/* Every free seat gets a stream of a session that is not revoked, or the next turn tries again. */
static void party_refill(struct task *task)
{
	struct party *party = CONTAINER_OF(task, struct party, refill);
	struct worker *worker = &rig.workers[party - parties];

	for (size_t i = 0; i < SEATS && party->lives_left > 0; i++) {
		struct seat *seat = &party->seats[i];

		if (seat->state != SEAT_FREE)
			continue;
		seat->session = pick(&party->random, SESSIONS);
		seat->seen_revocations = atomic_load(&records[seat->session].revocations);
		if (atomic_load(&records[seat->session].is_revoked))
			worker_sweep_later(worker, task);
		else
			seat_register(party, seat);
	}
}

static void count_done(struct worker *to, struct letter *letter)
{
	(void)to;
	(void)letter;
	driver.done_count++;
}

static void count_checked(struct worker *to, struct letter *letter)
{
	(void)to;
	(void)letter;
	driver.checked_count++;
}

/* What is open at the end was never revoked, and has got everything. */
static void party_check(struct party *party, struct worker *worker)
{
	if (party->lives_left > 0)
		return;
	for (size_t i = 0; i < SEATS; i++)
		if (party->seats[i].state != SEAT_FREE && party->seats[i].state != SEAT_OPEN)
			return;
	for (size_t i = 0; i < SEATS; i++) {
		const struct seat *seat = &party->seats[i];

		if (seat->state != SEAT_OPEN)
			continue;
		if (seat->seen_revocations != atomic_load(&records[seat->session].revocations))
			blame("a stream is open whose session was revoked");
		if (!seat->is_blocked && seat->next > 0 && seat->next != driver.said[seat->session])
			blame("a stream has not got everything");
	}
	party->has_told_checked = true;
	party->checked.deliver = count_checked;
	letter_post(worker, &rig.bus_worker, &party->checked);
}

static void party_look(struct party *party)
{
	struct worker *worker = &rig.workers[party - parties];

	if (party->lives_left > 0) {
		worker_sweep_later(worker, &party->refill);
		return;
	}
	if (!party->has_told_done) {
		party->has_told_done = true;
		party->done.deliver = count_done;
		letter_post(worker, &rig.bus_worker, &party->done);
	}
	if (party->is_settling && !party->has_told_checked)
		party_check(party, worker);
}

static void seat_free(struct seat *seat)
{
	struct bus_member *member = &seat->member;

	if (feed_is_ready(&member->subscription.feed))
		blame("a released feed is still ready");
	feed_finish(&member->subscription.feed);
	session_put(member->session);
	payload_put(member->bootstrap);
	member->bootstrap = NULL;
	seat->state = SEAT_FREE;
	party_look(party_of(member));
}

static void seat_leave(struct seat *seat)
{
	seat->state = SEAT_LEAVING;
	party_of(&seat->member)->left++;
	bus_unregister(&seat->member);
}

static void seat_take(struct seat *seat)
{
	struct payload *payload;

	while ((payload = feed_pop(&seat->member.subscription.feed))) {
		for (uint32_t i = 0; i < payload->messages; i++) {
			int64_t number = rig_number_of(payload, i);

			if (seat->next != 0 ? number != seat->next : number < 1)
				blame("an event was lost, doubled or moved");
			seat->received++;
			seat->next = number + 1;
		}
		payload_put(payload);
	}
}

static void seat_look(struct seat *seat)
{
	struct party *party = party_of(&seat->member);
	enum feed_end end = feed_get_end(&seat->member.subscription.feed);

	if (!seat->is_blocked)
		seat_take(seat);
	if (end == FEED_OVERFLOWED && !seat->is_blocked)
		party->overflowed++;
	if (end == FEED_REVOKED)
		party->revoked++;
	if (end != FEED_OPEN || (party->lives_left > 0 && seat->received > seat->leave_after))
		seat_leave(seat);
}

static void drain(struct bus_port *port)
{
	struct mpsc_node *queue = feed_ready_take(&parties[port - rig.ports].ready);
	struct feed *feed;

	while ((feed = feed_ready_next(&queue))) {
		struct seat *seat = CONTAINER_OF(feed, struct seat, member.subscription.feed);

		if (seat->state == SEAT_OPEN)
			seat_look(seat);
	}
}

static void drain_before_wait(struct worker *worker)
{
	struct party *party = &parties[worker - rig.workers];

	drain(&rig.ports[worker - rig.workers]);
	if (party->is_settling && !party->has_told_checked)
		party_check(party, worker);
}

static void replied(struct bus_member *member)
{
	struct seat *seat = CONTAINER_OF(member, struct seat, member);

	if (seat->state != SEAT_REGISTERING)
		blame("a reply that nobody waits for");
	party_of(member)->replied++;
	if (member->verdict == BUS_CLOSING || member->verdict == BUS_NO_MEMORY)
		blame("refused without reason");
	if (member->verdict != BUS_ADMITTED) {
		party_of(member)->lives_left++; /* another one comes in its place */
		seat_free(seat);
		return;
	}
	seat->state = SEAT_OPEN;
	seat_look(seat);
}

static void released(struct bus_member *member)
{
	struct seat *seat = CONTAINER_OF(member, struct seat, member);

	if (seat->state != SEAT_LEAVING)
		blame("a release that nobody waits for");
	party_of(member)->released++;
	drain(&rig.ports[member->worker - rig.workers]);
	seat_free(seat);
}

static void updated(struct bus_port *port, const struct bus_update *update)
{
	struct party *party = &parties[port - rig.ports];

	if (update->sequence != party->sequence + 1)
		blame("an update was lost or moved");
	party->sequence = update->sequence;
}

static void settle(struct worker *to, struct letter *letter)
{
	(void)to;
	CONTAINER_OF(letter, struct party, settle)->is_settling = true;
}

static void stop(struct worker *to, struct letter *letter)
{
	(void)letter;
	worker_stop(to);
}

/* ---- the bus's side ---- */

static void finished(void *context)
{
	(void)context;
	driver.finished_count++;
	for (size_t i = 0; i < RIG_PORTS; i++) {
		parties[i].stop.deliver = stop;
		letter_post(&rig.bus_worker, &rig.workers[i], &parties[i].stop);
	}
	worker_stop(&rig.bus_worker);
}

static void parts_stopped(void *context)
{
	(void)context;
	bus_close_hub(rig.bus);
	bus_finish(rig.bus, finished, NULL);
}

static void revoke(uint32_t session)
{
	atomic_store(&records[session].is_revoked, true);
	atomic_fetch_add(&records[session].revocations, 1);
	rig_tell_session(session_names[session], session_names[session], "revoked");
	driver.revoked_count++;
}

static void allow(uint32_t session)
{
	atomic_store(&records[session].is_revoked, false);
	rig_tell_session(session_names[session], session_names[session], "active");
}

static void say(uint32_t session, uint32_t count)
{
	const char *name = session_names[session];

	for (uint32_t i = 0; i < count; i++)
		rig_add_client(name, i % 2 ? name : NULL, driver.said[session]++);
	rig_end_client_batch();
}

static void say_anything(void)
{
	uint32_t session = pick(&driver.random, SESSIONS);
	uint32_t kind = pick(&driver.random, 32);

	if (rig.bus->updates_out < 64 && kind == 0) {
		if (atomic_load(&records[session].is_revoked))
			allow(session);
		else
			revoke(session);
	} else if (rig.bus->pending_count < 256 && kind > 0) {
		say(session, 1 + pick(&driver.random, 20));
	}
}

static bool is_idle(const struct bus *bus)
{
	return bus->pending_count == 0 && bus->fences_out == 0 && bus->updates_out == 0;
}

/* Each turn of the bus, until the end. */
static void drive(struct task *task)
{
	if (driver.checked_count == RIG_PORTS) {
		bus_stop_reading(rig.bus, parts_stopped, NULL);
		return;
	}
	worker_sweep_later(&rig.bus_worker, task);
	if (driver.done_count < RIG_PORTS) {
		say_anything();
	} else if (!driver.is_last_told) {
		driver.is_last_told = true;
		for (uint32_t i = 0; i < SESSIONS; i++) {
			if (i % 2)
				revoke(i);
			else
				allow(i); /* there must be room for those who still come */
			say(i, 3);
		}
	} else if (!driver.is_settling && is_idle(rig.bus)) {
		driver.is_settling = true;
		for (size_t i = 0; i < RIG_PORTS; i++) {
			parties[i].settle.deliver = settle;
			letter_post(&rig.bus_worker, &rig.workers[i], &parties[i].settle);
		}
	}
}

/* ---- the test ---- */

static void *thread_main(void *context)
{
	if (worker_run(context))
		blame("worker_run failed");
	return NULL;
}

static void party_init(struct party *party, uint32_t index)
{
	*party = (struct party){.random = 77 + index, .lives_left = LIVES};
	feed_ready_init(&party->ready);
	task_init(&party->refill, party_refill);
	party->seats = aligned_alloc(_Alignof(struct seat), SEATS * sizeof(struct seat));
	assert_non_null(party->seats);
	memset(party->seats, 0, SEATS * sizeof(struct seat));
	for (size_t i = 0; i < SEATS; i++) {
		struct bus_member *member = &party->seats[i].member;

		member->bus = rig.bus;
		member->worker = &rig.workers[index];
		member->replied = replied;
		member->released = released;
	}
	rig.ports[index].updated = updated;
	rig.ports[index].drain = drain;
	rig.workers[index].before_wait = drain_before_wait;
	worker_sweep_later(&rig.workers[index], &party->refill);
}

static void party_finish(struct party *party)
{
	assert_int_equal(party->lives_left, 0);
	assert_int_equal(party->replied, party->registered);
	assert_int_equal(party->left, LIVES);
	assert_int_equal(party->released, LIVES);
	for (size_t i = 0; i < SEATS; i++)
		assert_int_equal(party->seats[i].state, SEAT_FREE);
	free(party->seats);
}

static void nothing_is_lost_between_threads(void **state)
{
	pthread_t bus, workers[RIG_PORTS];
	uint32_t overflowed = 0, revoked = 0;

	(void)state;
	rig_init(false, CAPACITY);
	/* Half of the sessions, those not revoked at the end, have room for all. */
	rig.config->push_max_streams_per_session = SEATS * RIG_PORTS / (SESSIONS / 2);
	driver.random = 99;
	task_init(&driver.task, drive);
	for (uint32_t i = 0; i < SESSIONS; i++) {
		snprintf(session_names[i], sizeof(session_names[i]), "s-%u", i);
		driver.said[i] = 1;
	}
	for (uint32_t i = 0; i < RIG_PORTS; i++)
		party_init(&parties[i], i);
	worker_sweep_later(&rig.bus_worker, &driver.task);
	assert_int_equal(pthread_create(&bus, NULL, thread_main, &rig.bus_worker), 0);
	for (size_t i = 0; i < RIG_PORTS; i++)
		assert_int_equal(pthread_create(&workers[i], NULL, thread_main, &rig.workers[i]),
				 0);
	assert_int_equal(pthread_join(bus, NULL), 0);
	for (size_t i = 0; i < RIG_PORTS; i++)
		assert_int_equal(pthread_join(workers[i], NULL), 0);

	if (atomic_load(&wrong))
		fail_msg("%s", atomic_load(&wrong));
	assert_int_equal(driver.finished_count, 1);
	for (size_t i = 0; i < RIG_PORTS; i++) {
		overflowed += parties[i].overflowed;
		revoked += parties[i].revoked;
		party_finish(&parties[i]);
	}
	assert_true(revoked > 0 && driver.revoked_count > SESSIONS);
	/* Streams that read overflow only where a thread got no processor for 100 ms. */
	if (metric_value(&rig.bus->metrics.fence_timeouts) == 0)
		assert_int_equal(overflowed, 0);
	print_message("%u revocations, %u streams revoked, %llu events, %llu fences timed out\n",
		      driver.revoked_count, revoked,
		      (unsigned long long)metric_value(&rig.bus->metrics.events),
		      (unsigned long long)metric_value(&rig.bus->metrics.fence_timeouts));
	rig_finish();
}

/* The end may be told in the turn that only enables the thread's ring, ahead of its beginning. */
static void reading_that_was_ended_does_not_begin(void **state)
{
	(void)state;
	rig_init(true, 8);
	rig_stop_parts();
	bus_start(rig.bus);
	rig_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_between_threads),
		cmocka_unit_test(reading_that_was_ended_does_not_begin),
	};

	return cmocka_run_group_tests_name("bus threads", tests, NULL, NULL);
}
