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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pool_that_cannot_be_made_leaves_nothing_behind),
	};

	return cmocka_run_group_tests_name("upstream/grpc_memory", tests, NULL, NULL);
}
