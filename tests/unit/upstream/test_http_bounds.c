/* Bounds of the HTTP client pool, deadlines, cancelling, the end. */
#include "unit/upstream/http_rig.h"

#define REQUESTS "upstream_http_requests_total{upstream=\"auth\","

/* ---- bounds ---- */

static void more_than_may_wait_are_refused_at_once(void **state)
{
	struct rig *rig = *state;
	int fds[2];

	assert_int_equal(ask(rig, 0), 0);
	assert_int_equal(ask(rig, 1), 0);
	peer_accept_two(rig, fds);
	for (size_t i = 2; i < 5; i++)
		assert_int_equal(ask(rig, i), 0);
	assert_int_equal(ask(rig, 5), -HTTP_BUSY);
	assert_true(has_metric(rig, REQUESTS "outcome=\"busy\",status=\"\"} 1\n"));
	assert_true(has_metric(rig, "upstream_http_in_flight{upstream=\"auth\"} 5\n"));
	peer_is_not_asked(rig);

	/* those that wait come in their order, each as a connection becomes free */
	for (size_t i = 0; i < 5; i++) {
		peer_write(fds[0], OK_EMPTY);
		TURN_UNTIL(rig->worker, rig->told_count == i + 1);
		if (i < 3)
			peer_read(rig, fds[0]);
		if (i == 3)
			break;
	}
	assert_ptr_equal(rig->order[1], &rig->told[2]);
	assert_ptr_equal(rig->order[2], &rig->told[3]);
	assert_ptr_equal(rig->order[3], &rig->told[4]);
	assert_false(rig->told[1].done);
	peer_write(fds[1], OK_EMPTY);
	assert_int_equal(wait_told(rig, 1), HTTP_ANSWERED);
	peer_is_not_asked(rig);
	close(fds[0]);
	close(fds[1]);
}

static void waiting_request_gets_the_place_of_a_closed_connection(void **state)
{
	struct rig *rig = *state;
	int fds[2];

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ask(rig, i), 0);
	peer_accept_two(rig, fds);
	peer_is_not_asked(rig);
	close(fds[0]);
	assert_int_equal(wait_told(rig, 0), HTTP_UNAVAILABLE);
	fds[0] = peer_accept(rig);
	peer_read(rig, fds[0]);
	peer_write(fds[0], OK_EMPTY);
	assert_int_equal(wait_told(rig, 2), HTTP_ANSWERED);
	close(fds[0]);
	close(fds[1]);
}

/* ---- time ---- */

static void late_answer_is_a_timeout(void **state)
{
	struct rig *rig = *state;
	static const char *const begun[] = {
		"",
		"HTTP/1.1 200 OK\r\nContent-",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
		"HTTP/1.1 200 OK\r\n\r\nuntil",
		"HTTP/1.1 100 Continue\r\n\r\n"};

	for (size_t i = 0; i < ARRAY_LEN(begun); i++) {
		assert_int_equal(ask(rig, i), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		jump_ms(rig, TIMEOUT_MS / 2);
		peer_write(fd, begun[i]); /* progress does not prolong it */
		jump_ms(rig, TIMEOUT_MS / 2 - 200);
		assert_false(rig->told[i].done);
		jump_ms(rig, 400);
		assert_int_equal(wait_told(rig, i), HTTP_TIMEOUT);
		peer_sees_end(rig, fd);
	}
	assert_true(has_metric(rig, REQUESTS "outcome=\"timeout\",status=\"\"} 6\n"));
}

static void shorter_deadline_of_a_request_is_kept(void **state)
{
	struct rig *rig = *state;
	struct http_request request = {
		.method = "POST", .path = SPAN("/"), .body = SPAN("{}"), .deadline_ms = 500};

	assert_int_equal(ask_for(rig, 0, &request), 0);
	request.deadline_ms = TIMEOUT_MS * 2; /* the pool's own applies as well */
	assert_int_equal(ask_for(rig, 1, &request), 0);

	int first = peer_accept(rig), second = peer_accept(rig);

	jump_ms(rig, 600);
	assert_int_equal(wait_told(rig, 0), HTTP_TIMEOUT);
	assert_false(rig->told[1].done);
	jump_ms(rig, TIMEOUT_MS - 500);
	assert_int_equal(wait_told(rig, 1), HTTP_TIMEOUT);
	close(first);
	close(second);
}

static void waiting_runs_against_the_deadline(void **state)
{
	struct rig *rig = *state;

	rig->told[0].rig = rig;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ask(rig, i), 0);

	int first = peer_accept(rig), second = peer_accept(rig);

	jump_ms(rig, TIMEOUT_MS + 100);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(wait_told(rig, i), HTTP_TIMEOUT);
	close(first);
	close(second);
}

/* ---- cancelling, and calls inside done ---- */

static void cancelled_request_ends_its_connection(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	assert_int_equal(ask(rig, 0), 0);
	peer_read(rig, fd);
	http_exchange_cancel(&rig->told[0].exchange);
	http_exchange_cancel(&rig->told[0].exchange); /* idle: nothing */
	peer_sees_end(rig, fd);
	assert_false(rig->told[0].done);
	assert_true(has_metric(rig, REQUESTS "outcome=\"cancelled\",status=\"\"} 1\n"));
	assert_true(has_metric(rig, "upstream_http_in_flight{upstream=\"auth\"} 0\n"));
	close(peer_idle(rig));
}

static void cancelled_while_it_waits_is_never_sent(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask(rig, 0), 0);
	http_exchange_cancel(&rig->told[0].exchange);

	/* the connection was on its way: it is there for the next */
	int fd = peer_accept(rig);

	assert_int_equal(ask(rig, 1), 0);
	peer_read(rig, fd);
	peer_write(fd, OK_EMPTY);
	assert_int_equal(wait_told(rig, 1), HTTP_ANSWERED);
	assert_false(rig->told[0].done);
	close(fd);
}

static void done_may_cancel_and_start_others(void **state)
{
	struct rig *rig = *state;

	rig->told[0].cancels = &rig->told[1];
	rig->told[0].starts = &rig->told[2];
	assert_int_equal(ask(rig, 0), 0);
	assert_int_equal(ask(rig, 1), 0);

	int fds[2];

	peer_accept_two(rig, fds);

	int first = fds[0], second = fds[1];

	peer_write(first, OK_EMPTY);
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	peer_sees_end(rig, second);
	peer_read(rig, first);
	peer_write(first, OK_EMPTY);
	assert_int_equal(wait_told(rig, 2), HTTP_ANSWERED);
	assert_false(rig->told[1].done);
	close(first);
}

static void done_may_start_itself_again(void **state)
{
	struct rig *rig = *state;

	pool_close(rig);
	rig->options.connections_max = 1;
	pool_open(rig);
	rig->told[0].starts = &rig->told[1];
	rig->told[1].starts = &rig->told[2];
	assert_int_equal(ask(rig, 0), 0);

	int fd = peer_accept(rig);

	for (size_t i = 0; i < 3; i++) {
		peer_read(rig, fd);
		peer_write(fd, OK_EMPTY);
		assert_int_equal(wait_told(rig, i), HTTP_ANSWERED);
	}
	close(fd);
}

static void done_may_stop_the_pool(void **state)
{
	struct rig *rig = *state;

	rig->told[0].stops_pool = true;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(ask(rig, i), 0);

	int fds[2];

	peer_accept_two(rig, fds);

	int first = fds[0], second = fds[1];

	for (size_t i = 2; i < 4; i++)
		assert_int_equal(ask(rig, i), 0);
	peer_write(first, OK_EMPTY);
	TURN_UNTIL(rig->worker, rig->stopped);
	assert_int_equal(rig->told[0].outcome, HTTP_ANSWERED);
	for (size_t i = 1; i < 4; i++)
		assert_int_equal(rig->told[i].outcome, HTTP_UNAVAILABLE);
	http_pool_destroy(rig->pool);
	rig->pool = NULL;
	close(first);
	close(second);
}

/* ---- the end ---- */

static void stop_ends_whatever_there_is(void **state)
{
	struct rig *rig = *state;

	pool_close(rig);

	int before = descriptor_count();

	rig->options.connections_max = 3;
	pool_open(rig);

	/* one idle, one in flight, one dialled, two waiting */
	int idle = peer_idle(rig);

	assert_int_equal(ask(rig, 0), 0);
	peer_read(rig, idle);
	assert_int_equal(ask(rig, 1), 0);

	int busy = peer_accept(rig);

	peer_read(rig, busy);
	peer_write(idle, OK_EMPTY);
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	rig->told[1].cancels = &rig->told[3];
	for (size_t i = 2; i < 5; i++)
		assert_int_equal(ask(rig, i), 0);
	pool_close(rig);
	for (size_t i = 1; i < 5; i++)
		assert_true(i == 3 || rig->told[i].outcome == HTTP_UNAVAILABLE);
	peer_sees_end(rig, idle);
	peer_sees_end(rig, busy);
	for (int fd; (fd = accept4(rig->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
		close(fd);
	assert_int_equal(descriptor_count(), before);
}

static void pool_that_does_not_run_refuses(void **state)
{
	struct rig *rig = *state;
	struct http_pool *pool;
	const struct http_request request = {.method = "GET", .path = SPAN("/")};

	assert_int_equal(http_pool_create(&pool, rig->worker, &rig->options), 0);
	assert_int_equal(http_exchange_start(pool, &rig->told[0].exchange, exchange_done, &request),
			 -HTTP_UNAVAILABLE);
	http_exchange_cancel(&rig->told[0].exchange);
	http_pool_destroy(pool);
	http_pool_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(more_than_may_wait_are_refused_at_once),
		TEST(waiting_request_gets_the_place_of_a_closed_connection),
		TEST(late_answer_is_a_timeout),
		TEST(shorter_deadline_of_a_request_is_kept),
		TEST(waiting_runs_against_the_deadline),
		TEST(cancelled_request_ends_its_connection),
		TEST(cancelled_while_it_waits_is_never_sent),
		TEST(done_may_cancel_and_start_others),
		TEST(done_may_start_itself_again),
		TEST(done_may_stop_the_pool),
		TEST(stop_ends_whatever_there_is),
		TEST(pool_that_does_not_run_refuses),
	};

	return cmocka_run_group_tests_name("upstream/http_bounds", tests, NULL, NULL);
}
