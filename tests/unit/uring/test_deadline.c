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
	};
	return cmocka_run_group_tests_name("deadline", tests, set_up, tear_down);
}
