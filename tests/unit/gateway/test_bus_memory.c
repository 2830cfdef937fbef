/*
 * Session events for which there is no memory: every worker hears of each revocation all the same,
 * in the end as "forget all", and none believes itself further than it is.
 */
#include "unit/gateway/bus_rig.h"

#include "unit/base/failing_alloc.h"

#include "gateway/bus_sessions.c"

#define NOTES_MAX 16

static struct note {
	enum bus_update_kind kind;
	uint64_t sequence;
} notes[RIG_PORTS][NOTES_MAX];
static size_t note_counts[RIG_PORTS];

static void updated(struct bus_port *port, const struct bus_update *update)
{
	size_t which = (size_t)(port - rig.ports);

	assert_true(note_counts[which] < NOTES_MAX);
	notes[which][note_counts[which]++] = (struct note){update->kind, update->sequence};
}

static int set_up(void **state)
{
	(void)state;
	memset(note_counts, 0, sizeof(note_counts));
	rig_init(true, 8);
	rig_hear(updated);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	allocs_until_failure = -1;
	rig_stop_parts();
	rig_finish();
	return 0;
}

static void turns(struct worker *worker)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(worker_turn(worker, 0), 0);
}

static void turn_all(void)
{
	for (int i = 0; i < 4; i++) {
		turns(&rig.bus_worker);
		turns(&rig.workers[0]);
		turns(&rig.workers[1]);
	}
}

static void expect_note(uint32_t port, size_t at, enum bus_update_kind kind, uint64_t sequence)
{
	assert_true(note_counts[port] > at);
	assert_int_equal(notes[port][at].kind, kind);
	assert_int_equal(notes[port][at].sequence, sequence);
}

static void event_without_memory_makes_every_worker_forget(void **state)
{
	(void)state;
	for (long allocs = 0; allocs < 2; allocs++) {
		allocs_until_failure = allocs; /* the update, then its text */
		rig_tell_session("a", "u", "revoked");
		allocs_until_failure = -1;
		turn_all();
		for (uint32_t port = 0; port < RIG_PORTS; port++)
			expect_note(port, (size_t)allocs, BUS_ALL_FORGOTTEN, (uint64_t)allocs + 1);
	}
	assert_int_equal(metric_value(&rig.bus->metrics.session_out_of_memory), 2);
	assert_int_equal(rig.bus->updates_out, 0);
}

static void later_events_do_not_overtake_what_is_owed(void **state)
{
	(void)state;
	allocs_until_failure = 0;
	rig_tell_session("a", "u", "revoked"); /* the letter leaves … */
	turns(&rig.bus_worker);
	turns(&rig.workers[0]); /* … and one worker has not taken it in */
	rig_tell_session("b", "u", "revoked");
	allocs_until_failure = -1;
	rig_tell_session("c", "u", "active");
	turns(&rig.bus_worker);
	turns(&rig.workers[0]);
	assert_int_equal(note_counts[0], 1);
	expect_note(0, 0, BUS_ALL_FORGOTTEN, 1);
	turn_all();
	for (uint32_t port = 0; port < RIG_PORTS; port++) {
		assert_int_equal(note_counts[port], 2);
		expect_note(port, 1, BUS_ALL_FORGOTTEN, 3);
	}
	rig_tell_session("d", "u", "active");
	turn_all();
	for (uint32_t port = 0; port < RIG_PORTS; port++)
		expect_note(port, 2, BUS_SESSION_REPLACED, 4);
	assert_int_equal(metric_value(&rig.bus->metrics.session_out_of_memory), 3);
	assert_int_equal(rig.bus->updates_out, 0);
}

static void with_the_letter_on_its_way_memory_that_is_back_is_used(void **state)
{
	(void)state;
	allocs_until_failure = 0;
	rig_tell_session("a", "u", "revoked");
	allocs_until_failure = -1;
	rig_tell_session("b", "u", "active");
	turn_all();
	for (uint32_t port = 0; port < RIG_PORTS; port++) {
		assert_int_equal(note_counts[port], 2);
		expect_note(port, 0, BUS_ALL_FORGOTTEN, 1);
		expect_note(port, 1, BUS_SESSION_REPLACED, 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(event_without_memory_makes_every_worker_forget,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(later_events_do_not_overtake_what_is_owed, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			with_the_letter_on_its_way_memory_that_is_back_is_used, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("bus_memory", tests, NULL, NULL);
}
