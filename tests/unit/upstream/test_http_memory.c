/* Every allocation of http.c and http_link.c made to fail in turn. */
#include "unit/base/failing_alloc.h"

#include "upstream/http.c"
#include "upstream/http_link.c"

#include "unit/upstream/http_rig.h"

static void pool_that_cannot_be_made_leaves_nothing_behind(void **state)
{
	struct rig *rig = *state;
	struct http_pool *pool = NULL;

	allocs_until_failure = 0;
	assert_int_equal(http_pool_create(&pool, rig->worker, &rig->options), -ENOMEM);
	allocs_until_failure = -1;
	assert_null(pool);
}

static void request_without_memory_for_a_connection_is_refused(void **state)
{
	struct rig *rig = *state;

	allocs_until_failure = 0;
	assert_int_equal(ask(rig, 0), -HTTP_UNAVAILABLE);
	allocs_until_failure = -1;
	http_exchange_cancel(&rig->told[0].exchange); /* idle */
	close(peer_idle(rig));
}

static void request_waits_for_a_connection_that_is_there(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	assert_int_equal(ask(rig, 0), 0);
	peer_read(rig, fd);
	allocs_until_failure = 0;
	assert_int_equal(ask(rig, 1), 0);
	peer_write(fd, OK_EMPTY);
	peer_read(rig, fd);
	allocs_until_failure = -1;
	peer_write(fd, OK_EMPTY);
	assert_int_equal(wait_told(rig, 1), HTTP_ANSWERED);
	close(fd);
}

static void waiting_requests_fail_when_none_can_be_made(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	assert_int_equal(ask(rig, 0), 0);
	peer_read(rig, fd);
	allocs_until_failure = 0;
	assert_int_equal(ask(rig, 1), 0);
	assert_int_equal(ask(rig, 2), 0);
	close(fd);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(wait_told(rig, i), HTTP_UNAVAILABLE);
	allocs_until_failure = -1;
	close(peer_idle(rig));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pool_that_cannot_be_made_leaves_nothing_behind),
		TEST(request_without_memory_for_a_connection_is_refused),
		TEST(request_waits_for_a_connection_that_is_there),
		TEST(waiting_requests_fail_when_none_can_be_made),
	};

	return cmocka_run_group_tests_name("upstream/http_memory", tests, NULL, NULL);
}
