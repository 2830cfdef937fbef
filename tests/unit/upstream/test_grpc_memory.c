/* Every allocation of grpc.c made to fail in turn. */
#include "unit/base/failing_alloc.h"

#include "upstream/grpc.c"

#include "unit/upstream/rig.h"

static void pool_that_cannot_be_made_leaves_nothing_behind(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 3);

	const struct upstream_options options = {
		.config = &rig->config,
		.message_bytes_max = MESSAGE_MAX,
		.metrics = rig->metrics,
	};
	int made = -ENOMEM;

	for (long i = 0; made != 0; i++) {
		struct upstream *upstream = NULL;

		assert_true(i < 100);
		allocs_until_failure = i;
		made = upstream_create(&upstream, rig->worker, &options);
		allocs_until_failure = -1;
		assert_true(made == 0 || made == -ENOMEM);
		if (made == 0)
			upstream_destroy(upstream);
		else
			assert_null(upstream);
	}
}

/* What a service does, and what the call may have come to when memory for HTTP/2 ran out meanwhile. */
static const struct scene {
	enum script script;
	enum upstream_outcome well;
	bool is_cancelled; /* hangs, and is given up */
} scenes[] = {
	{SCRIPT_ECHO, UPSTREAM_OK, false},
	{SCRIPT_LATE_STATUS, UPSTREAM_STATUS, false},
	{SCRIPT_LARGE, UPSTREAM_OK, false},
	{SCRIPT_RESET, UPSTREAM_STATUS, false},
	{SCRIPT_GOAWAY_SEEN, UPSTREAM_OK, false},
	{SCRIPT_HANG, UPSTREAM_UNAVAILABLE, true},
};

/* Returns whether a refusal was felt. */
static bool play(struct rig *rig, const struct scene *scene, uint64_t nth)
{
	struct service *service = &rig->services[0];
	struct call *call = &rig->calls[0];
	unsigned connections = service->connections, cancelled = service->cancelled;
	enum upstream_outcome outcome;

	*call = (struct call){.done = false};
	service->script = scene->script;
	h2_memory_fail_after(rig->upstream->h2_memory, nth);

	int code = start_sized(rig, 0, 300, 0);

	if (code == 0 && scene->is_cancelled) {
		unsigned calls = service->calls;

		TURN_UNTIL(rig->worker, call->done || service->calls > calls ||
						service->connections > connections);
		upstream_call_cancel(&call->call);
		/* told to its service, or its connection is no more */
		TURN_UNTIL(rig->worker,
			   service->cancelled > cancelled || !upstream_is_ready(rig->upstream));
		outcome = UPSTREAM_UNAVAILABLE;
	} else if (code == 0) {
		TURN_UNTIL(rig->worker, call->done);
		outcome = call->result.outcome;
	} else {
		outcome = (enum upstream_outcome)-code;
	}
	assert_true(outcome == scene->well || outcome == UPSTREAM_UNAVAILABLE);
	turns(rig, 3);
	h2_memory_fail_after(rig->upstream->h2_memory, UINT64_MAX);
	/* by itself, and soon */
	for (unsigned i = 0; i < 10 && !upstream_is_ready(rig->upstream); i++)
		jump_ms(rig, 1000);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	service->script = SCRIPT_ECHO;
	rig->calls[1] = (struct call){.done = false};
	assert_int_equal(call_once(rig, 1).outcome, UPSTREAM_OK);
	return service->connections > connections || outcome != scene->well;
}

/* Not by their deadline, which is two seconds away: the clock stands while a call is out. */
static void calls_without_memory_for_http2_end_at_once_and_the_pool_recovers(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].large_bytes = 40000;
	rig->services[0].reset_code = H2_CANCEL;
	rig->services[0].status = GRPC_NOT_FOUND;
	rig->services[0].status_message = "no such thing";
	for (size_t i = 0; i < ARRAY_LEN(scenes); i++) {
		uint64_t nth = 0;

		/* GOAWAY ends the connection anyway: as many as the longest of the others needs */
		while (play(rig, &scenes[i], nth) && nth < 60)
			nth++;
		assert_in_range(nth, 3, 60);
	}
	rig_stop_upstream(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pool_that_cannot_be_made_leaves_nothing_behind),
		TEST(calls_without_memory_for_http2_end_at_once_and_the_pool_recovers),
	};

	return cmocka_run_group_tests_name("upstream/grpc_memory", tests, NULL, NULL);
}
