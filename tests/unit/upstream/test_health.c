/* Health checks. */
#include "unit/upstream/rig.h"

/* ---- health ---- */

static void rig_open_with_health(struct rig *rig, size_t count, enum health_script health)
{
	rig_services(rig, count);
	rig->config.health = true;
	rig->services[0].health = health;
	rig_start(rig);
	for (size_t i = 0; i < count; i++)
		TURN_UNTIL(rig->worker, rig->services[i].checks == 1);
	turns(rig, 20);
}

static void calls_wait_for_the_first_health_check(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->config.health = true;
	rig_start(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].checks, 1);
	/* checks are not among the calls */
	assert_true(
		has_metric(rig, "upstream_grpc_calls_total{upstream=\"fleet\",code=\"OK\"} 1\n"));
	assert_true(has_metric(rig, "upstream_healthy{upstream=\"fleet\",address=\"127.0.0.1:"));
}

static void service_without_health_checks_is_healthy(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 1, HEALTH_UNIMPLEMENTED);
	assert_true(upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
}

static void unhealthy_address_is_left_out_and_recovers(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 2, HEALTH_NOT_SERVING);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 0);
	assert_int_equal(rig->services[1].calls, 4);

	rig->services[0].health = HEALTH_SERVING;
	jump_ms(rig, 5600);
	TURN_UNTIL(rig->worker, rig->services[0].checks == 2);
	turns(rig, 20);
	for (size_t i = 4; i < 8; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 2);
}

static void no_healthy_address_is_unavailable_at_once(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 1, HEALTH_NOT_SERVING);
	assert_int_equal(start(rig, 0), -UPSTREAM_UNAVAILABLE);
	assert_false(upstream_is_ready(rig->upstream));
}

static void health_check_without_answer_is_unhealthy(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 1, HEALTH_HANGS);
	assert_int_equal(start_sized(rig, 0, 1, 0), 0);
	jump_ms(rig, 1900);
	jump_ms(rig, 110);
	assert_true(rig->calls[0].done);
	assert_int_equal(start(rig, 1), -UPSTREAM_UNAVAILABLE);
	rig->services[0].health = HEALTH_SERVING;
	jump_ms(rig, 5600);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(calls_wait_for_the_first_health_check),
		TEST(service_without_health_checks_is_healthy),
		TEST(unhealthy_address_is_left_out_and_recovers),
		TEST(no_healthy_address_is_unavailable_at_once),
		TEST(health_check_without_answer_is_unhealthy),
	};

	return cmocka_run_group_tests_name("upstream/health", tests, NULL, NULL);
}
