/* Seeded disorder: services that fail in every way, calls that come and go; each call ends once. */
#include "unit/upstream/rig.h"

#define STEPS 1500

static uint64_t seed;

static uint64_t random_below(uint64_t bound)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % bound;
}

static void start_any(struct rig *rig)
{
	size_t at = random_below(CALLS_MAX);
	struct call *call = &rig->calls[at];

	if (call->call.stream)
		return;
	*call = (struct call){0};
	if (random_below(4) == 0)
		call->cancels = &rig->calls[random_below(CALLS_MAX)];

	int code = start_sized(rig, at, random_below(3) == 0 ? random_below(60000) : 5,
			       random_below(2) ? 0 : 1 + random_below(500));

	assert_true(code == 0 || code == -UPSTREAM_BUSY || code == -UPSTREAM_UNAVAILABLE);
	if (code)
		call->done = true;
}

static void disturb(struct rig *rig)
{
	struct service *service = &rig->services[random_below(rig->service_count)];

	switch (random_below(8)) {
	case 0:
	case 1:
		service->script = (enum script)random_below(SCRIPT_BAD_ENCODING + 1);
		service->scripted_once = false;
		service->status = (enum grpc_status)random_below(GRPC_STATUS_COUNT);
		service->reset_code = (uint32_t)random_below(14);
		service->large_bytes = random_below(2 * MESSAGE_MAX);
		break;
	case 2:
		service->health = (enum health_script)random_below(HEALTH_HANGS + 1);
		break;
	case 3:
		LIST_FOR_EACH (&service->peers, node)
			if (random_below(2))
				conn_close(&CONTAINER_OF(node, struct peer, link)->conn);
		break;
	case 4:
		if (service->listening)
			service_unlisten(service);
		else
			service_listen(service, service->port);
		break;
	case 5:
		service->is_deaf = random_below(4) == 0;
		service->is_mute = random_below(6) == 0;
		break;
	case 6:
		service->max_concurrent_streams = (uint32_t)random_below(4);
		break;
	case 7:
		ahead_us += random_below(400000);
		break;
	}
}

static void storm_step(struct rig *rig)
{
	uint64_t choice = random_below(10);

	if (choice < 5)
		start_any(rig);
	else if (choice == 5)
		upstream_call_cancel(&rig->calls[random_below(CALLS_MAX)].call);
	else if (choice == 6)
		disturb(rig);
	assert_int_equal(worker_turn(rig->worker, 50), 0);
}

static bool is_quiet(const struct rig *rig)
{
	for (size_t i = 0; i < CALLS_MAX; i++)
		if (rig->calls[i].call.stream)
			return false;
	return true;
}

static void storm(struct rig *rig, uint64_t first_seed)
{
	seed = first_seed;
	rig_services(rig, 3);
	rig->config.connections = 2;
	rig->config.health = true;
	rig->config.health_interval_ms = 300;
	rig->config.deadline_ms = 600;
	rig_start(rig);
	for (int i = 0; i < STEPS; i++)
		storm_step(rig);

	/* the weather clears: what was called ends, and the pool finds back by itself */
	for (size_t i = 0; i < rig->service_count; i++) {
		struct service *service = &rig->services[i];

		service->script = SCRIPT_ECHO;
		service->health = HEALTH_SERVING;
		service->is_deaf = service->is_mute = false;
		service->max_concurrent_streams = 100;
		if (!service->listening)
			service_listen(service, service->port);
		service_close_peers(service);
	}
	for (int i = 0; i < 40; i++)
		jump_ms(rig, 250);
	assert_true(is_quiet(rig));
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	assert_true(has_metric(rig, "upstream_grpc_in_flight{upstream=\"fleet\"} 0\n"));
	for (size_t i = 0; i < 6; i++) {
		rig->calls[i] = (struct call){0};
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	}
}

static void every_call_ends_once_whatever_the_services_do(void **state)
{
	struct rig *rig = *state;

	storm(rig, 0x9e3779b97f4a7c15);
}

static void every_call_ends_once_in_another_storm(void **state)
{
	struct rig *rig = *state;

	storm(rig, 0xd1b54a32d192ed03);
}

static void stop_in_the_middle_of_a_storm(void **state)
{
	struct rig *rig = *state;

	seed = 0x2545f4914f6cdd1d;
	rig_services(rig, 3);
	rig->config.connections = 2;
	rig->config.health = true;
	rig_start(rig);
	for (int i = 0; i < STEPS / 2; i++)
		storm_step(rig);
	rig_stop_upstream(rig);
	assert_true(is_quiet(rig));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_call_ends_once_whatever_the_services_do),
		TEST(every_call_ends_once_in_another_storm),
		TEST(stop_in_the_middle_of_a_storm),
	};
	const struct log_options quiet = {
		.level = LOG_ERROR, .format = LOG_TEXT, .fd = STDERR_FILENO};

	log_setup(&quiet);
	return cmocka_run_group_tests_name("upstream/grpc_storm", tests, NULL, NULL);
}
