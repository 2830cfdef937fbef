#include "unit/uring/rig.h"

/* A worker whose time is the test's. */
struct watch {
	struct worker worker;
	uint64_t time_us;
};

static struct watch watch;

static uint64_t watch_us(void *context)
{
	return ((struct watch *)context)->time_us;
}

static int64_t watch_wall(void *context)
{
	return (int64_t)((struct watch *)context)->time_us / 1000 + 1700000000000;
}

static int set_up(void **state)
{
	const struct worker_options options = {
		.name = "watch",
		.ring = {.sq_entries = 8, .cq_entries = 64},
		.clock = {watch_us, watch_wall, &watch},
	};
	char why[256];

	(void)state;
	watch.time_us = 5000000;
	return worker_init(&watch.worker, &options, why, sizeof(why));
}

static int tear_down(void **state)
{
	(void)state;
	worker_finish(&watch.worker);
	return 0;
}

struct alarm_clock {
	struct deadline deadline;
	unsigned rung;
	uint64_t rung_at_us;
	struct alarm_clock *also; /* disarmed or armed by `rings` */
	uint64_t again_ms;
};

static void alarm_rings(struct deadline *deadline)
{
	struct alarm_clock *alarm = CONTAINER_OF(deadline, struct alarm_clock, deadline);

	assert_false(deadline_is_armed(deadline));
	alarm->rung++;
	alarm->rung_at_us = watch.time_us;
	if (alarm->also)
		deadline_disarm(&watch.worker, &alarm->also->deadline);
	if (alarm->again_ms)
		deadline_arm(&watch.worker, deadline, alarm->again_ms);
}

static void alarm_init(struct alarm_clock *alarm)
{
	*alarm = (struct alarm_clock){0};
	deadline_init(&alarm->deadline, alarm_rings);
}

static void turn_at(uint64_t time_us)
{
	watch.time_us = time_us;
	assert_int_equal(worker_turn(&watch.worker, 0), 0);
}

static void a_deadline_is_never_early_whatever_the_microsecond(void **state)
{
	(void)state;
	static const uint64_t offsets_us[] = {0, 1, 499, 500, 999};

	for (size_t i = 0; i < ARRAY_LEN(offsets_us); i++) {
		struct alarm_clock alarm;
		uint64_t from_us = (watch.time_us / 1000 + 100) * 1000 + offsets_us[i];

		alarm_init(&alarm);
		turn_at(from_us);
		deadline_arm(&watch.worker, &alarm.deadline, 10);
		for (uint64_t now_us = from_us; now_us < from_us + 10000; now_us += 137) {
			turn_at(now_us);
			assert_int_equal(alarm.rung, 0);
		}
		turn_at(from_us + 11000);
		assert_int_equal(alarm.rung, 1);
		assert_false(deadline_is_armed(&alarm.deadline));
		turn_at(from_us + 30000);
		assert_int_equal(alarm.rung, 1);
	}
}

static void an_armed_deadline_is_moved(void **state)
{
	(void)state;
	struct alarm_clock alarm;
	uint64_t from_us = watch.time_us + 1000000;

	alarm_init(&alarm);
	turn_at(from_us);
	deadline_arm(&watch.worker, &alarm.deadline, 5);
	deadline_arm(&watch.worker, &alarm.deadline, 50);
	turn_at(from_us + 20000);
	assert_int_equal(alarm.rung, 0);
	assert_true(deadline_is_armed(&alarm.deadline));
	turn_at(from_us + 52000);
	assert_int_equal(alarm.rung, 1);
}

static void a_disarmed_deadline_never_rings(void **state)
{
	(void)state;
	struct alarm_clock alarm;

	alarm_init(&alarm);
	deadline_disarm(&watch.worker, &alarm.deadline);
	turn_at(watch.time_us + 1000);
	deadline_arm(&watch.worker, &alarm.deadline, 5);
	deadline_disarm(&watch.worker, &alarm.deadline);
	turn_at(watch.time_us + 1000000);
	assert_int_equal(alarm.rung, 0);
}

static void a_due_deadline_disarmed_by_another_of_the_same_turn_is_not_called(void **state)
{
	(void)state;
	struct alarm_clock first, second;

	alarm_init(&first);
	alarm_init(&second);
	first.also = &second;
	second.also = &first;
	turn_at(watch.time_us + 1000);
	deadline_arm(&watch.worker, &first.deadline, 5);
	deadline_arm(&watch.worker, &second.deadline, 5);
	turn_at(watch.time_us + 1000000);
	assert_int_equal(first.rung + second.rung, 1);
	turn_at(watch.time_us + 1000000);
	assert_int_equal(first.rung + second.rung, 1);
	assert_int_equal(watch.worker.wheel.armed_count, 0);
}

static void a_deadline_may_arm_itself_and_rings_once_a_turn(void **state)
{
	(void)state;
	struct alarm_clock alarm;

	alarm_init(&alarm);
	alarm.again_ms = 10;
	turn_at(watch.time_us + 1000);
	deadline_arm(&watch.worker, &alarm.deadline, 10);
	/* A long pause: due many times over, called once. */
	turn_at(watch.time_us + 1000000);
	assert_int_equal(alarm.rung, 1);
	turn_at(watch.time_us + 11000);
	assert_int_equal(alarm.rung, 2);
	alarm.again_ms = 0;
	turn_at(watch.time_us + 11000);
	assert_int_equal(alarm.rung, 3);
	assert_false(deadline_is_armed(&alarm.deadline));
}

static void deadlines_ring_in_the_order_of_their_time(void **state)
{
	(void)state;
	struct alarm_clock late, early;

	alarm_init(&late);
	alarm_init(&early);
	early.also = &late; /* if late were first, it would have rung */
	turn_at(watch.time_us + 1000);
	deadline_arm(&watch.worker, &late.deadline, 300);
	deadline_arm(&watch.worker, &early.deadline, 3);
	turn_at(watch.time_us + 1000000);
	assert_int_equal(early.rung, 1);
	assert_int_equal(late.rung, 0);
}

static void the_longest_deadline_does_not_overflow(void **state)
{
	(void)state;
	struct alarm_clock alarm;

	alarm_init(&alarm);
	turn_at(watch.time_us + 1000);
	deadline_arm(&watch.worker, &alarm.deadline, UINT64_MAX);
	turn_at(watch.time_us + 86400000000);
	assert_int_equal(alarm.rung, 0);
	assert_true(deadline_is_armed(&alarm.deadline));
	deadline_disarm(&watch.worker, &alarm.deadline);
}

/* ── to the microsecond ── */

struct stop_watch {
	struct fine_deadline deadline;
	unsigned rung;
	struct stop_watch *also; /* disarmed when this one rings */
};

static void stop_watch_rings(struct fine_deadline *deadline)
{
	struct stop_watch *rings = CONTAINER_OF(deadline, struct stop_watch, deadline);

	assert_false(fine_deadline_is_armed(deadline));
	rings->rung++;
	if (rings->also)
		fine_deadline_disarm(&rings->also->deadline);
}

static void stop_watch_init(struct stop_watch *stop_watch)
{
	*stop_watch = (struct stop_watch){0};
	fine_deadline_init(&stop_watch->deadline, stop_watch_rings);
}

static void a_fine_deadline_rings_at_its_microsecond_and_not_before(void **state)
{
	(void)state;
	struct stop_watch early, late;

	stop_watch_init(&early);
	stop_watch_init(&late);
	turn_at(watch.time_us + 123);
	fine_deadline_arm(&watch.worker, &late.deadline, 900);
	fine_deadline_arm(&watch.worker, &early.deadline, 7);
	turn_at(watch.time_us + 6);
	assert_int_equal(early.rung, 0);
	turn_at(watch.time_us + 1);
	assert_int_equal(early.rung, 1);
	assert_true(fine_deadline_is_armed(&late.deadline));
	/* Armed again it is moved. */
	fine_deadline_arm(&watch.worker, &late.deadline, 2000);
	turn_at(watch.time_us + 1999);
	assert_int_equal(late.rung, 0);
	turn_at(watch.time_us + 1);
	assert_int_equal(early.rung + late.rung, 2);
}

static void a_disarmed_fine_deadline_never_rings(void **state)
{
	(void)state;
	struct stop_watch first, second;

	stop_watch_init(&first);
	stop_watch_init(&second);
	turn_at(watch.time_us + 1);
	fine_deadline_arm(&watch.worker, &first.deadline, 5);
	fine_deadline_arm(&watch.worker, &second.deadline, 5);
	first.also = &second;
	turn_at(watch.time_us + 100);
	assert_int_equal(first.rung, 1);
	assert_int_equal(second.rung, 0);
	fine_deadline_arm(&watch.worker, &second.deadline, 5);
	fine_deadline_disarm(&second.deadline);
	fine_deadline_disarm(&second.deadline);
	turn_at(watch.time_us + 100);
	assert_int_equal(second.rung, 0);
}

static struct worker stopped_worker;

static void alarm_stops(struct deadline *deadline)
{
	CONTAINER_OF(deadline, struct alarm_clock, deadline)->rung++;
	worker_stop(&stopped_worker);
}

/* The real clock: the wait itself must end for the deadline. */
static void a_waiting_worker_wakes_for_its_deadline(void **state)
{
	(void)state;
	struct ring_options ring = {.sq_entries = 8, .cq_entries = 64};
	struct worker *worker = &stopped_worker;
	struct alarm_clock alarm = {0};

	rig_worker_init(worker, 1, &ring);
	deadline_init(&alarm.deadline, alarm_stops);
	uint64_t from_us = worker->now_us;

	deadline_arm(worker, &alarm.deadline, 20);
	assert_int_equal(worker_run(worker), 0);
	assert_int_equal(alarm.rung, 1);
	assert_true(worker->now_us >= from_us + 20000);
	worker_finish(worker);
}

static void stop_watch_stops(struct fine_deadline *deadline)
{
	CONTAINER_OF(deadline, struct stop_watch, deadline)->rung++;
	worker_stop(&stopped_worker);
}

static void a_waiting_worker_wakes_for_its_fine_deadline(void **state)
{
	(void)state;
	struct ring_options ring = {.sq_entries = 8, .cq_entries = 64};
	struct worker *worker = &stopped_worker;
	struct stop_watch stops = {0};

	rig_worker_init(worker, 1, &ring);
	fine_deadline_init(&stops.deadline, stop_watch_stops);
	uint64_t from_us = worker->now_us;

	fine_deadline_arm(worker, &stops.deadline, 2345);
	assert_int_equal(worker_run(worker), 0);
	assert_int_equal(stops.rung, 1);
	assert_true(worker->now_us >= from_us + 2345);
	worker_finish(worker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_deadline_is_never_early_whatever_the_microsecond),
		cmocka_unit_test(an_armed_deadline_is_moved),
		cmocka_unit_test(a_disarmed_deadline_never_rings),
		cmocka_unit_test(a_due_deadline_disarmed_by_another_of_the_same_turn_is_not_called),
		cmocka_unit_test(a_deadline_may_arm_itself_and_rings_once_a_turn),
		cmocka_unit_test(deadlines_ring_in_the_order_of_their_time),
		cmocka_unit_test(the_longest_deadline_does_not_overflow),
		cmocka_unit_test(a_waiting_worker_wakes_for_its_deadline),
		cmocka_unit_test(a_fine_deadline_rings_at_its_microsecond_and_not_before),
		cmocka_unit_test(a_disarmed_fine_deadline_never_rings),
		cmocka_unit_test(a_waiting_worker_wakes_for_its_fine_deadline),
	};
	return cmocka_run_group_tests_name("deadline", tests, set_up, tear_down);
}
