/* A worker drains the feeds of its streams some at a time, and frees none that is still queued; a
 * stream's heartbeats keep to what its face takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/bus.h"

/* There is no bus here: the test says when it has forgotten a stream. */
#define bus_unregister(member) ((void)(member))
#include "gateway/subscribe.c"
#undef bus_unregister

#define STREAMS	 150
#define CAPACITY 8

#define HEARTBEAT_MS 1000

static struct {
	struct worker worker;
	struct node_shared shared;
	struct node node;
	struct request requests[STREAMS];
	struct stream *streams[STREAMS];
	unsigned resumed[STREAMS], order[STREAMS * 4], resumed_count, cut_count;
	unsigned given_count;
	bool is_full; /* the face has no room for more */
	struct payload *event;
} world;

static const struct config config = {.push_heartbeat_interval_ms = HEARTBEAT_MS};

static void on_resume(struct request *request)
{
	unsigned which = (unsigned)(request - world.requests);

	world.resumed[which]++;
	world.order[world.resumed_count++] = which;
}

static bool on_give(struct request *request, struct payload_slice slice)
{
	(void)request;
	world.given_count++;
	payload_put(slice.payload);
	return !world.is_full;
}

static void on_drop_queue(struct request *request)
{
	(void)request;
}

static void on_finish(struct request *request, int grpc_status, struct span message,
		      uint64_t retry_after_ms)
{
	(void)grpc_status, (void)message, (void)retry_after_ms;
	request->ended = true;
	world.cut_count++;
}

static const struct face_operations face = {
	.resume = on_resume, .give = on_give, .drop_queue = on_drop_queue, .finish = on_finish};

static struct feed *feed_of(unsigned which)
{
	return &world.streams[which]->member.subscription.feed;
}

static void push(unsigned which)
{
	bool wake = false;

	payload_get(world.event, 1);
	assert_int_equal(feed_push(feed_of(which), world.event, &wake), FEED_PUSHED);
}

static void drain_before_wait(struct worker *worker)
{
	(void)worker;
	subscribe_drain(&world.node);
}

static void begin(void)
{
	const struct worker_options options = {
		.name = "worker-0",
		.ring = {.sq_entries = 64, .cq_entries = 4096},
		.clock = worker_clock_system,
	};
	char why[256] = "";

	memset(&world, 0, sizeof(world));
	if (worker_init(&world.worker, &options, why, sizeof(why)))
		fail_msg("worker_init: %s", why);
	assert_int_equal(worker_turn(&world.worker, 0), 0);
	world.node.worker = &world.worker;
	world.worker.before_wait = drain_before_wait;
	world.node.shared = &world.shared;
	world.shared.config = &config;
	list_init(&world.node.streams);
	slab_init(&world.node.stream_slab, SUBSCRIBE_STREAM_BYTES, STREAMS);
	feed_ready_init(&world.node.ready);
	subscribe_drain_init(&world.node);
	world.event = payload_copy(SPAN("event"));
	world.event->messages = 1;
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *stream = stream_create(&world.node);

		assert_non_null(stream);
		entry_free(stream);
		stream->state = STREAM_OPEN;
		stream->request = &world.requests[i];
		world.requests[i] = (struct request){.face = &face, .context = stream};
		feed_init(&stream->member.subscription.feed, CAPACITY, &world.node.ready,
			  &world.shared.feed_budget);
		world.streams[i] = stream;
	}
}

/* The bus forgets all that is left; what they hold goes with them. */
static void end(void)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		if (!world.streams[i])
			continue;
		if (world.streams[i]->state == STREAM_OPEN)
			subscribe_cancelled(&world.requests[i]);
		stream_released(&world.streams[i]->member);
	}
	assert_int_equal(atomic_load(&world.shared.feed_budget.queued_bytes), 0);
	assert_int_equal(atomic_load(&world.event->count), 1);
	payload_put(world.event);
	slab_finish(&world.node.stream_slab); /* checks that none is left */
	worker_finish(&world.worker);
}

static void turn(void)
{
	assert_int_equal(worker_turn(&world.worker, 0), 0);
}

static void drain_looks_after_64_streams_a_step(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < STREAMS; i++)
		push(i);
	subscribe_drain(&world.node);
	assert_int_equal(world.resumed_count, 64);
	turn(); /* submits what they send, then comes back by itself */
	assert_int_equal(world.resumed_count, 128);
	turn();
	assert_int_equal(world.resumed_count, STREAMS);
	for (unsigned i = 0; i < STREAMS; i++)
		assert_int_equal(world.order[i], i);
	assert_true(list_is_empty(&world.node.drain.link));
	turn();
	assert_int_equal(world.resumed_count, STREAMS);
	end();
}

static void drain_of_exactly_one_step_asks_for_no_other(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < 64; i++)
		push(i);
	subscribe_drain(&world.node);
	assert_int_equal(world.resumed_count, 64);
	assert_true(list_is_empty(&world.node.drain.link));
	end();
}

static void drain_misses_no_push_between_its_steps(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < 100; i++)
		push(i);
	subscribe_drain(&world.node);
	push(0);   /* looked after already: queued again */
	push(99);  /* still in the step's queue: not twice */
	push(120); /* new */
	turn();
	turn();
	assert_int_equal(world.resumed[0], 2);
	assert_int_equal(world.resumed[99], 1);
	assert_int_equal(world.resumed[120], 1);
	assert_int_equal(world.resumed_count, 102);
	assert_true(list_is_empty(&world.node.drain.link));
	end();
}

static void stream_released_while_queued_is_freed_by_the_drain(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < 100; i++)
		push(i);
	subscribe_drain(&world.node);
	/* 90 waits for the second step when its client goes and the bus forgets it. */
	subscribe_cancelled(&world.requests[90]);
	stream_released(&world.streams[90]->member);
	assert_true(feed_is_ready(feed_of(90)));
	assert_int_equal(atomic_load(&world.event->count), 1 + 100);
	turn();
	world.streams[90] = NULL;
	assert_int_equal(world.resumed[90], 0);
	assert_int_equal(world.resumed_count, 99);
	assert_int_equal(atomic_load(&world.event->count), 1 + 99);
	/* 10 is in no queue: freed at once. */
	subscribe_cancelled(&world.requests[10]);
	stream_released(&world.streams[10]->member);
	world.streams[10] = NULL;
	assert_int_equal(atomic_load(&world.event->count), 1 + 98);
	end();
}

static void queued_stream_that_left_waits_for_its_release(void **state)
{
	(void)state;
	begin();
	push(5);
	subscribe_cancelled(&world.requests[5]);
	subscribe_drain(&world.node); /* out of the queue, but the bus still knows it */
	assert_int_equal(world.resumed_count, 0);
	assert_int_equal(world.streams[5]->state, STREAM_LEAVING);
	stream_released(&world.streams[5]->member);
	world.streams[5] = NULL;
	end();
}

static void ended_feed_is_told_by_the_drain(void **state)
{
	bool wake = false;

	(void)state;
	begin();
	push(7);
	assert_true(feed_set_end(feed_of(7), FEED_REVOKED, &wake));
	subscribe_drain(&world.node);
	assert_int_equal(world.cut_count, 1);
	assert_int_equal(world.resumed_count, 0);
	assert_int_equal(world.streams[7]->state, STREAM_LEAVING);
	assert_int_equal(metric_value(&world.node.metrics.ended[FEED_REVOKED]), 1);
	end();
}

/* Ahead of the end its face would send nothing of what it is given now. */
static void ended_stream_is_given_nothing_more(void **state)
{
	static const enum feed_end ends[] = {FEED_REVOKED, FEED_SHUTDOWN};
	bool wake = false;

	(void)state;
	begin();
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
		push(2 * i);
		push(2 * i + 1);
		assert_true(feed_set_end(feed_of(2 * i), ends[i], &wake));
		assert_true(feed_set_end(feed_of(2 * i + 1), ends[i], &wake));
		subscribe_pull(&world.requests[2 * i]); /* has room before the drain looks */
		subscribe_drain(&world.node);
		assert_int_equal(world.given_count, 0);
		assert_int_equal(world.cut_count, 2 * i + 2);
		assert_int_equal(metric_value(&world.node.metrics.ended[ends[i]]), 2);
	}
	assert_int_equal(metric_value(&world.node.metrics.deliveries), 0);
	end();
}

/* Else the streams admitted would be more than those open and those ended. */
static void stream_that_opens_for_a_client_that_has_gone_counts_as_ended_by_it(void **state)
{
	(void)state;
	begin();
	world.streams[2]->state = STREAM_REGISTERING;
	subscribe_cancelled(&world.requests[2]);
	assert_int_equal(metric_value(&world.node.metrics.ended_by_client), 0);
	world.streams[2]->member.verdict = BUS_ADMITTED;
	stream_replied(&world.streams[2]->member);
	assert_int_equal(world.streams[2]->state, STREAM_LEAVING);
	assert_int_equal(metric_value(&world.node.metrics.ended_by_client), 1);
	end();
}

/* A second of silence. */
static void be_silent(unsigned which)
{
	world.streams[which]->last_sent_ms = world.worker.now_ms - HEARTBEAT_MS;
	heartbeat_expired(&world.streams[which]->heartbeat);
}

static void heartbeats_wait_until_the_stream_takes_more(void **state)
{
	(void)state;
	begin();
	world.shared.heartbeat = world.event;
	be_silent(3);
	be_silent(3);
	assert_int_equal(world.given_count, 2);
	world.is_full = true; /* its client has stopped reading */
	be_silent(3);
	be_silent(3);
	be_silent(3);
	assert_int_equal(world.given_count, 3);
	subscribe_pull(&world.requests[3]); /* all that was given has left */
	be_silent(3);
	assert_int_equal(world.given_count, 4);
	subscribe_pull(&world.requests[3]);
	/* An event fills it as well as they do. */
	push(3);
	subscribe_drain(&world.node);
	subscribe_pull(&world.requests[3]);
	assert_int_equal(world.given_count, 5);
	be_silent(3);
	assert_int_equal(world.given_count, 5);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drain_looks_after_64_streams_a_step),
		cmocka_unit_test(drain_of_exactly_one_step_asks_for_no_other),
		cmocka_unit_test(drain_misses_no_push_between_its_steps),
		cmocka_unit_test(stream_released_while_queued_is_freed_by_the_drain),
		cmocka_unit_test(queued_stream_that_left_waits_for_its_release),
		cmocka_unit_test(ended_feed_is_told_by_the_drain),
		cmocka_unit_test(ended_stream_is_given_nothing_more),
		cmocka_unit_test(
			stream_that_opens_for_a_client_that_has_gone_counts_as_ended_by_it),
		cmocka_unit_test(heartbeats_wait_until_the_stream_takes_more),
	};

	return cmocka_run_group_tests_name("subscribe_drain", tests, NULL, NULL);
}
