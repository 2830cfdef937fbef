/*
 * Session events that are read again, because their stream was found made anew (a failover to a
 * replica that lacks the last ones): nothing that has ended since comes back by them. And what an
 * entry's id tells of its age.
 */
#include "unit/gateway/bus_rig.h"

static struct {
	enum bus_update_kind kind;
	char status[16];
} told; /* the first worker, last */
static unsigned told_count;
static struct feed_ready ready;

static void updated(struct bus_port *port, const struct bus_update *update)
{
	if (port != &rig.ports[0])
		return;
	told.kind = update->kind;
	snprintf(told.status, sizeof(told.status), "%.*s", SPAN_ARGS(update->fields.status));
	told_count++;
}

static int set_up(void **state)
{
	(void)state;
	told_count = 0;
	rig_init(true, 8);
	rig_hear(updated);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_stop_parts();
	rig_finish();
	return 0;
}

static void turn_all(void)
{
	for (int i = 0; i < 4; i++) {
		assert_int_equal(worker_turn(&rig.bus_worker, 0), 0);
		assert_int_equal(worker_turn(&rig.workers[0], 0), 0);
		assert_int_equal(worker_turn(&rig.workers[1], 0), 0);
	}
}

static void expect_told(unsigned count, enum bus_update_kind kind, const char *status)
{
	turn_all();
	assert_int_equal(told_count, count);
	assert_int_equal(told.kind, kind);
	assert_string_equal(told.status, status);
}

static void snapshot_that_is_read_again_replaces_none(void **state)
{
	(void)state;
	rig_tell_session("a", "u", "revoked");
	expect_told(1, BUS_SESSION_REPLACED, "revoked");
	bus_session_handler.lost(rig.bus->session_tail, TAIL_RECREATED);
	expect_told(2, BUS_ALL_FORGOTTEN, "");
	/* Whether the revocation comes again, nobody knows: the record does. */
	rig_tell_session_entry("a", "u", "active", true);
	expect_told(3, BUS_SESSION_FORGOTTEN, "active");
	rig_tell_session_entry("a", "u", "revoked", true);
	expect_told(4, BUS_SESSION_FORGOTTEN, "revoked");
	/* News is as it ever was. */
	rig_tell_session("a", "u", "active");
	expect_told(5, BUS_SESSION_REPLACED, "active");
	assert_int_equal(metric_value(&rig.bus->metrics.session.handled), 4);
}

static void note_reply(struct bus_member *member)
{
	assert_int_equal(member->verdict, BUS_ADMITTED);
}

static void note_release(struct bus_member *member)
{
	struct mpsc_node *queue = feed_ready_take(&ready);

	while (feed_ready_next(&queue))
		;
	feed_finish(&member->subscription.feed);
	session_put(member->session);
	member->session = NULL;
}

static void entry_that_is_read_again_ends_a_stream_only_if_it_revokes(void **state)
{
	static struct bus_member member;

	(void)state;
	feed_ready_init(&ready);
	member = (struct bus_member){
		.bus = rig.bus,
		.worker = &rig.workers[0],
		.session = rig_session("a", "u"),
		.bootstrap = rig_bootstrap(),
		.replied = note_reply,
		.released = note_release,
	};
	feed_init(&member.subscription.feed, 8, &ready, &rig.budget);
	bus_register(&member);
	turn_all();
	bus_session_handler.lost(rig.bus->session_tail, TAIL_RECREATED);
	rig_tell_session_entry("a", "u", "active", true);
	rig_tell_session_entry("a", "somebody-before", "active", true);
	assert_int_equal(feed_get_end(&member.subscription.feed), FEED_OPEN);
	/* Its record is still to be read: the loss wants it. */
	assert_false(list_is_empty(&rig.bus->rereads));
	rig_tell_session_entry("a", "u", "revoked", true);
	assert_int_equal(feed_get_end(&member.subscription.feed), FEED_REVOKED);
	bus_unregister(&member);
	turn_all();
	assert_null(member.session);
}

static void id_of_a_time_to_come_is_no_lag(void **state)
{
	static const struct {
		uint64_t id_ms;
		int64_t lag_ms;
	} rows[] = {
		{0, 1700000001000}, {1700000000000, 1000}, {1700000001000, 0},
		{1700000001001, 0}, {INT64_MAX, 0},	   {(uint64_t)INT64_MAX + 1, 0},
		{UINT64_MAX, 0},
	};
	struct tail_entry entry = {.id = SPAN("0-1")};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		entry.id_ms = rows[i].id_ms;
		bus_session_handler.entry(rig.bus->session_tail, &entry);
		bus_client_handler.entry(rig.bus->client_tail, &entry);
		assert_int_equal(metric_gauge_value(&rig.bus->metrics.session.lag_ms),
				 rows[i].lag_ms);
		assert_int_equal(metric_gauge_value(&rig.bus->metrics.client.lag_ms),
				 rows[i].lag_ms);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(id_of_a_time_to_come_is_no_lag, set_up, tear_down),
		cmocka_unit_test_setup_teardown(snapshot_that_is_read_again_replaces_none, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			entry_that_is_read_again_ends_a_stream_only_if_it_revokes, set_up,
			tear_down),
	};

	return cmocka_run_group_tests_name("bus_replay", tests, NULL, NULL);
}
