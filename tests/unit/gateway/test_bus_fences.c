/*
 * Fences between bus and workers (DESIGN §2): a stream overflows because it is slow, never because
 * its worker is busy, or the burst long. All on one thread and a virtual clock; the test decides
 * whose turn it is.
 */
#include "unit/gateway/bus_rig.h"

#define CAPACITY    8
#define STREAMS_MAX 64
#define TURNS_MAX   100000

struct stream {
	struct bus_member member;
	bool is_open, is_released, is_blocked;
	int64_t next; /* number of the event that must come next; -1: the bootstrap */
	enum feed_end end;
	const struct payload *last; /* popped; only to be compared */
};

static struct stream streams[STREAMS_MAX];
static struct feed_ready ready[RIG_PORTS];
static uint32_t said;

static void stream_take(struct stream *stream, int64_t number)
{
	if (stream->next > 0)
		assert_int_equal(number, stream->next);
	if (stream->next < 0)
		assert_int_equal(number, -1);
	/* After the bootstrap any number may be the first: the burst may have begun. */
	stream->next = number + 1;
}

static void stream_pop_all(struct stream *stream)
{
	struct payload *payload;

	while ((payload = feed_pop(&stream->member.subscription.feed))) {
		for (uint32_t i = 0; i < payload->messages; i++)
			stream_take(stream, rig_number_of(payload, i));
		stream->last = payload;
		payload_put(payload);
	}
}

static void stream_look(struct stream *stream)
{
	stream->end = feed_get_end(&stream->member.subscription.feed);
	if (!stream->is_blocked)
		stream_pop_all(stream);
}

static void drain(struct bus_port *port)
{
	struct mpsc_node *queue = feed_ready_take(&ready[port - rig.ports]);
	struct feed *feed;

	while ((feed = feed_ready_next(&queue))) {
		struct stream *stream = CONTAINER_OF(feed, struct stream, member.subscription.feed);

		if (stream->is_open)
			stream_look(stream);
	}
}

static void drain_before_wait(struct worker *worker)
{
	drain(&rig.ports[worker - rig.workers]);
}

static void replied(struct bus_member *member)
{
	struct stream *stream = CONTAINER_OF(member, struct stream, member);

	assert_int_equal(member->verdict, BUS_ADMITTED);
	stream->is_open = true;
	stream_look(stream);
}

static void released(struct bus_member *member)
{
	struct stream *stream = CONTAINER_OF(member, struct stream, member);

	drain(&rig.ports[member->worker - rig.workers]);
	feed_finish(&member->subscription.feed);
	session_put(member->session);
	stream->is_released = true;
}

static void updated(struct bus_port *port, const struct bus_update *update)
{
	(void)port;
	(void)update;
}

static void stream_open(struct stream *stream, uint32_t port)
{
	struct bus_member *member = &stream->member;
	char session[24];

	memset(stream, 0, sizeof(*stream));
	stream->next = -1;
	snprintf(session, sizeof(session), "s-%zu", (size_t)(stream - streams) / 8);
	member->bus = rig.bus;
	member->worker = &rig.workers[port];
	member->replied = replied;
	member->released = released;
	member->session = rig_session(session, "u");
	member->bootstrap = rig_bootstrap();
	feed_init(&member->subscription.feed, CAPACITY, &ready[port], &rig.budget);
	bus_register(member);
}

static void turn_bus(void)
{
	assert_int_equal(worker_turn(&rig.bus_worker, 0), 0);
}

static void turn_port(uint32_t port)
{
	assert_int_equal(worker_turn(&rig.workers[port], 0), 0);
}

static void turn_all(int rounds)
{
	while (rounds-- > 0) {
		turn_bus();
		turn_port(0);
		turn_port(1);
	}
}

static void say(uint32_t count)
{
	while (count-- > 0)
		rig_add_client("u", NULL, said++);
	rig_end_client_batch();
}

static uint64_t fence_timeouts(void)
{
	return metric_value(&rig.bus->metrics.fence_timeouts);
}

static int set_up(void **state)
{
	(void)state;
	said = 1;
	rig_init(true, CAPACITY);
	for (size_t i = 0; i < RIG_PORTS; i++) {
		feed_ready_init(&ready[i]);
		rig.ports[i].updated = updated;
		rig.ports[i].drain = drain;
		rig.workers[i].before_wait = drain_before_wait;
	}
	memset(streams, 0, sizeof(streams));
	turn_all(1);
	return 0;
}

static int tear_down(void **state)
{
	bool done = false;

	(void)state;
	turn_all(4);
	rig_stop_parts();
	bus_close_hub(rig.bus);
	for (size_t i = 0; i < STREAMS_MAX; i++)
		if (streams[i].is_open && !streams[i].is_released)
			bus_unregister(&streams[i].member);
	bus_finish(rig.bus, rig_set_true, &done);
	turn_all(8);
	assert_true(done);
	rig_finish();
	return 0;
}

static void assert_all_received(const struct stream *stream)
{
	assert_true(stream->is_open);
	assert_int_equal(stream->end, FEED_OPEN);
	assert_int_equal(stream->next, said);
}

/* ---- bursts ---- */

static void reading_streams_never_overflow_in_a_burst(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		stream_open(&streams[i], i % RIG_PORTS);
	turn_all(3);
	for (int burst = 0; burst < 5; burst++) {
		say(1000);
		for (int turns = 0; rig.bus->pending_count > 0; turns++) {
			assert_true(turns < TURNS_MAX);
			turn_all(1);
		}
		turn_all(2);
		for (uint32_t i = 0; i < 8; i++)
			assert_all_received(&streams[i]);
	}
	assert_int_equal(fence_timeouts(), 0);
}

/* Its bootstrap takes a place, and may have put it into the ready queue before the burst. */
static void stream_that_comes_within_a_burst_does_not_overflow(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	turn_all(3);
	say(1000);
	for (uint32_t i = 1; i < STREAMS_MAX; i++) {
		stream_open(&streams[i], i % RIG_PORTS);
		/* Registered at every moment of a fence's way. */
		for (uint32_t turns = 0; turns < i % 7; turns++) {
			if (turns % 3 == 0)
				turn_bus();
			else
				turn_port((i + turns) % RIG_PORTS);
		}
	}
	for (int turns = 0; rig.bus->pending_count > 0; turns++) {
		assert_true(turns < TURNS_MAX);
		turn_all(1);
	}
	turn_all(3);
	say(1);
	turn_all(3);
	for (uint32_t i = 0; i < STREAMS_MAX; i++)
		assert_all_received(&streams[i]);
	assert_int_equal(fence_timeouts(), 0);
}

static void stream_registered_just_before_a_burst_does_not_overflow(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	turn_port(0);
	turn_bus(); /* admitted, its worker does not know it yet */
	say(1000);
	turn_bus();
	assert_int_equal(feed_get_end(&streams[0].member.subscription.feed), FEED_OPEN);
	for (int turns = 0; rig.bus->pending_count > 0; turns++) {
		assert_true(turns < TURNS_MAX);
		turn_all(1);
	}
	turn_all(2);
	assert_all_received(&streams[0]);
}

static void slow_stream_overflows_alone(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	stream_open(&streams[1], 0);
	turn_all(3);
	streams[0].is_blocked = true;
	say(100);
	for (int turns = 0; rig.bus->pending_count > 0; turns++) {
		assert_true(turns < TURNS_MAX);
		turn_all(1);
	}
	turn_all(2);
	assert_int_equal(streams[0].end, FEED_OVERFLOWED);
	assert_all_received(&streams[1]);
	/* What is queued came before what was lost: as many whole payloads as fit. */
	stream_pop_all(&streams[0]);
	assert_true(streams[0].next > 1 && streams[0].next <= 1 + CAPACITY);
	assert_int_equal(fence_timeouts(), 0);
}

/* Encoded, hashed and signed once (edge.md §4): the streams of both workers share the bytes. */
static void streams_share_the_bytes_of_an_event(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		stream_open(&streams[i], i % RIG_PORTS);
	turn_all(3);
	say(1);
	turn_bus(); /* all have it before any takes it: no two can be one freed and made again */
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(feed_depth(&streams[i].member.subscription.feed), 1);
	turn_all(2);
	for (uint32_t i = 0; i < 8; i++) {
		assert_all_received(&streams[i]);
		assert_ptr_equal(streams[i].last, streams[0].last);
	}
}

/* What waits for the stream must be these, in this order; returns in how many payloads. */
static uint32_t expect_waiting(struct stream *stream, const int64_t *numbers, uint32_t count)
{
	struct payload *payload;
	uint32_t at = 0, payloads = 0;

	for (; (payload = feed_pop(&stream->member.subscription.feed)); payloads++) {
		for (uint32_t i = 0; i < payload->messages; i++, at++) {
			assert_true(at < count);
			assert_int_equal(rig_number_of(payload, i), numbers[at]);
		}
		payload_put(payload);
	}
	assert_int_equal(at, count);
	return payloads;
}

/* A batch holds what the same streams get; a targeted event between keeps its place. */
static void targeted_event_keeps_its_place_among_batches(void **state)
{
	static const int64_t to_first[] = {0, 1, 2, 4, 6}, to_second[] = {0, 1, 2, 3, 4, 6};
	struct stream *first = &streams[0], *second = &streams[8];

	(void)state;
	stream_open(first, 0);
	stream_open(second, 1);
	turn_all(3);
	assert_int_equal(first->next, 0);
	first->is_blocked = second->is_blocked = true;
	for (uint32_t number = 0; number < 7; number++)
		rig_add_client(number == 5 ? "v" : "u", number == 3 ? "s-1" : NULL, number);
	assert_int_equal(rig.bus->pending_count, 7);
	rig_end_client_batch();
	turn_all(3);
	assert_int_equal(rig.bus->pending_count, 0);
	assert_int_equal(feed_depth(&first->member.subscription.feed), 5);
	/* 0 | 1 2 | 4 | 6, which begins a batch behind 4 across the other user's */
	assert_int_equal(expect_waiting(first, to_first, 5), 4);
	assert_int_equal(expect_waiting(second, to_second, 6), 5);
	assert_int_equal(metric_value(&rig.bus->metrics.events), 7);
	assert_int_equal(metric_value(&rig.bus->metrics.undelivered), 1);
}

/* ---- busy workers ---- */

static void pass(uint64_t ms)
{
	rig.now_us += ms * 1000;
}

static void worker_that_stands_still_holds_the_others_up_for_100_ms_only(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	stream_open(&streams[1], 1);
	turn_all(3);
	say(20); /* three windows of 7 */

	/* The first window waits for the worker that stands still. */
	for (uint64_t ms = 0; ms < BUS_FENCE_MS - 1; ms++) {
		pass(1);
		turn_bus();
		turn_port(1);
		assert_int_equal(streams[1].next, 1 + 7);
		assert_int_equal(rig.bus->pending_count, 13);
	}
	assert_int_equal(fence_timeouts(), 0);
	assert_int_equal(feed_get_end(&streams[0].member.subscription.feed), FEED_OPEN);

	/* Then it is not waited for, and its stream overflows; the other one goes on. */
	pass(2);
	turn_bus();
	assert_int_equal(fence_timeouts(), 1);
	assert_int_equal(feed_get_end(&streams[0].member.subscription.feed), FEED_OVERFLOWED);
	turn_port(1);
	assert_int_equal(streams[1].next, 1 + 14);
	for (int i = 0; i < 3; i++) {
		pass(BUS_FENCE_MS + 1);
		turn_bus();
		turn_port(1);
	}
	turn_bus();
	assert_int_equal(rig.bus->pending_count, 0);
	assert_all_received(&streams[1]);
	assert_true(fence_timeouts() <= 3);
	turn_all(3);
	assert_int_equal(streams[0].end, FEED_OVERFLOWED);
}

static void worker_that_is_late_by_less_loses_nothing(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	turn_all(3);
	say(1000);
	for (int turns = 0; rig.bus->pending_count > 0; turns++) {
		assert_true(turns < TURNS_MAX);
		pass(BUS_FENCE_MS - 1);
		turn_bus();
		turn_port(0);
		turn_bus();
	}
	turn_all(2);
	assert_int_equal(fence_timeouts(), 0);
	assert_all_received(&streams[0]);
}

/* The fence that comes back late has seen only what was pushed before it left. */
static void late_fence_does_not_stand_for_the_next(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	turn_all(3);
	say(1000);
	pass(BUS_FENCE_MS + 1);
	turn_port(0); /* drained, and its fence is on the way back … */
	turn_bus();   /* … when its time is over */
	assert_int_equal(fence_timeouts(), 1);
	for (int turns = 0; rig.bus->pending_count > 0; turns++) {
		assert_true(turns < TURNS_MAX);
		turn_bus();
		assert_true(feed_depth(&streams[0].member.subscription.feed) <= CAPACITY - 1);
		turn_port(0);
	}
	turn_all(2);
	assert_all_received(&streams[0]);
}

/* Small batches fill a feed as a burst does. */
static void every_batch_waits_for_a_worker_that_has_not_drained(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	turn_all(3);
	for (int batch = 0; batch < 20; batch++) {
		say(1);
		turn_bus();
		pass(1);
	}
	assert_int_equal(feed_get_end(&streams[0].member.subscription.feed), FEED_OPEN);
	assert_int_equal(feed_depth(&streams[0].member.subscription.feed), 1);
	for (int turns = 0; rig.bus->pending_count > 0; turns++) {
		assert_true(turns < TURNS_MAX);
		turn_all(1);
	}
	turn_all(2);
	assert_all_received(&streams[0]);
	assert_int_equal(fence_timeouts(), 0);
}

static void revocation_does_not_wait_behind_a_fence_for_long(void **state)
{
	(void)state;
	stream_open(&streams[0], 0);
	stream_open(&streams[8], 1); /* of another session */
	turn_all(3);
	say(20);
	/* Worker 0 stands still; the bus waits for it when the revocation comes. */
	rig_tell_session("s-1", "u", "revoked");
	assert_int_equal(feed_get_end(&streams[8].member.subscription.feed), FEED_REVOKED);
	pass(BUS_FENCE_MS + 1);
	turn_bus();
	turn_port(1);
	assert_int_equal(streams[8].end, FEED_REVOKED);
	turn_all(3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define FENCE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		FENCE_TEST(reading_streams_never_overflow_in_a_burst),
		FENCE_TEST(stream_that_comes_within_a_burst_does_not_overflow),
		FENCE_TEST(stream_registered_just_before_a_burst_does_not_overflow),
		FENCE_TEST(slow_stream_overflows_alone),
		FENCE_TEST(streams_share_the_bytes_of_an_event),
		FENCE_TEST(targeted_event_keeps_its_place_among_batches),
		FENCE_TEST(worker_that_stands_still_holds_the_others_up_for_100_ms_only),
		FENCE_TEST(worker_that_is_late_by_less_loses_nothing),
		FENCE_TEST(late_fence_does_not_stand_for_the_next),
		FENCE_TEST(every_batch_waits_for_a_worker_that_has_not_drained),
		FENCE_TEST(revocation_does_not_wait_behind_a_fence_for_long),
	};

	return cmocka_run_group_tests_name("bus fences", tests, NULL, NULL);
}
