/* Sessions to be read again after a loss: what one event costs does not grow with how many wait. */
#include "unit/gateway/bus_rig.h"

static unsigned compared_count;

static bool counted_equal(struct span a, struct span b)
{
	compared_count++;
	return span_equal(a, b);
}

#define span_equal counted_equal
#include "gateway/bus_reread.c"
#undef span_equal

#define SESSIONS     1000
#define COMPARED_MAX 16 /* a chain of the table's is as long as that never */

static struct subscription subscriptions[SESSIONS];

static void updated(struct bus_port *port, const struct bus_update *update)
{
	(void)port;
	(void)update;
}

static struct span name_of(size_t which, char text[16])
{
	return span_make(text, (size_t)snprintf(text, 16, "s-%zu", which));
}

static size_t waiting_count(void)
{
	size_t count = 0;

	LIST_FOR_EACH (&rig.bus->rereads, link)
		count++;
	return count;
}

static int set_up(void **state)
{
	char text[16];

	(void)state;
	rig_init(true, 8);
	rig_hear(updated);
	for (size_t i = 0; i < SESSIONS; i++)
		assert_int_equal(
			index_add(&rig.bus->index, &subscriptions[i], SPAN("u"), name_of(i, text)),
			0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_stop_parts();
	for (size_t i = 0; i < SESSIONS; i++)
		index_remove(&rig.bus->index, &subscriptions[i]);
	rig_finish();
	return 0;
}

static void events_take_their_sessions_off_at_once_however_many_wait(void **state)
{
	char text[16];

	(void)state;
	bus_reread_all(rig.bus);
	assert_int_equal(waiting_count(), SESSIONS);
	for (size_t i = 0; i < SESSIONS; i++) {
		compared_count = 0;
		bus_reread_forget(rig.bus, name_of(i, text));
		assert_in_range(compared_count, 1, COMPARED_MAX);
	}
	assert_int_equal(waiting_count(), 0);
	compared_count = 0;
	bus_reread_forget(rig.bus, SPAN("nobody"));
	assert_in_range(compared_count, 0, COMPARED_MAX);
}

static struct span id_of(const struct list *link)
{
	return reread_id(CONTAINER_OF(link, struct bus_reread, link));
}

static void loss_after_loss_comes_to_every_session(void **state)
{
	char text[16];

	(void)state;
	bus_reread_all(rig.bus);

	struct span first = id_of(rig.bus->rereads.next);

	memcpy(text, first.data, first.len);
	first.data = (const uint8_t *)text;
	bus_reread_forget(rig.bus, first); /* it was read; the next loss comes */
	bus_reread_all(rig.bus);
	assert_int_equal(waiting_count(), SESSIONS);
	assert_true(span_equal(id_of(rig.bus->rereads.prev), first));
}

static void sessions_that_are_wanted_all_the_time_do_not_put_off_the_asking(void **state)
{
	char text[16];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		bus_reread_one(rig.bus, name_of(i, text));
		rig.now_us += (BUS_REREAD_TICK_MS - 2) * 1000;
		assert_int_equal(worker_turn(&rig.bus_worker, 0), 0);
	}
	/* There is no Redis. */
	assert_int_not_equal(metric_value(&rig.bus->metrics.reread_unanswered), 0);
}

static void session_waits_once_however_often_it_is_wanted(void **state)
{
	(void)state;
	bus_reread_all(rig.bus);
	bus_reread_one(rig.bus, SPAN("s-7"));
	bus_reread_one(rig.bus, SPAN("nobody")); /* has no stream */
	assert_int_equal(waiting_count(), SESSIONS);
	bus_reread_all(rig.bus);
	assert_int_equal(waiting_count(), SESSIONS);
	bus_reread_stop(rig.bus);
	assert_int_equal(waiting_count(), 0);
	bus_reread_one(rig.bus, SPAN("s-7"));
	assert_int_equal(waiting_count(), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			events_take_their_sessions_off_at_once_however_many_wait, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(loss_after_loss_comes_to_every_session, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			sessions_that_are_wanted_all_the_time_do_not_put_off_the_asking, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(session_waits_once_however_often_it_is_wanted,
						set_up, tear_down),
	};

	return cmocka_run_group_tests_name("bus_reread", tests, NULL, NULL);
}
