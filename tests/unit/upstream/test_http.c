/* Connections of the HTTP client pool: made, kept, given up. */
#include "unit/upstream/http_rig.h"

#include "net/dns.h"

#define REQUESTS "upstream_http_requests_total{upstream=\"auth\","

/* ---- requests ---- */

static void request_is_written_as_http1(void **state)
{
	struct rig *rig = *state;
	const struct http1_header headers[] = {
		{SPAN("accept"), SPAN("application/json")},
		{SPAN("x-request-id"), SPAN("a\r\nx-evil: 1")},
		{SPAN("x-other"), SPAN("a\nb")},
		{SPAN("x-third"), SPAN("a\0b")},
		{SPAN("x-empty"), SPAN("")},
	};
	char wanted[256];

	assert_int_equal(ask_for(rig, 0,
				 &(struct http_request){.method = "POST",
							.path = SPAN("/x?y"),
							.headers = headers,
							.header_count = ARRAY_LEN(headers),
							.body = SPAN("{}")}),
			 0);

	int fd = peer_accept(rig);

	peer_read(rig, fd);
	snprintf(wanted, sizeof(wanted),
		 "POST /base/x?y HTTP/1.1\r\nhost: 127.0.0.1:%u\r\naccept: application/json\r\n"
		 "x-empty: \r\ncontent-length: 2\r\n\r\n{}",
		 rig->port);
	assert_string_equal(rig->request, wanted);
	close(fd);
}

static void get_has_no_length_and_post_always(void **state)
{
	struct rig *rig = *state;
	const struct {
		const char *method;
		bool has_length;
	} rows[] = {{"GET", false}, {"HEAD", false}, {"DELETE", false},
		    {"POST", true}, {"PUT", true},   {"PATCH", true}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct http_request request = {.method = rows[i].method, .path = SPAN("/")};
		size_t len = 0;

		assert_int_equal(ask_for(rig, 0, &request), 0);

		int fd = peer_accept(rig);

		TURN_UNTIL(rig->worker, (peer_has_request(rig, fd, &len),
					 strstr(rig->request, "\r\n\r\n") != NULL));
		assert_true(!strstr(rig->request, "content-length: 0\r\n") == !rows[i].has_length);
		peer_write(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
		assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
		peer_sees_end(rig, fd);
	}
}

static void default_port_is_not_said(void **state)
{
	struct rig *rig = *state;
	struct config_url url = rig->url;
	struct http_pool *pool;

	/* nobody needs to listen there: only what would be sent is looked at */
	url.endpoint.port = 80;
	rig->options.url = &url;
	assert_int_equal(http_pool_create(&pool, rig->worker, &rig->options), 0);
	http_pool_start(pool);

	struct told *told = &rig->told[0];
	const struct http_request request = {.method = "GET", .path = SPAN("/")};

	told->rig = rig;
	assert_int_equal(http_exchange_start(pool, &told->exchange, exchange_done, &request), 0);
	assert_true(span_equal(buf_span(&told->exchange.request),
			       SPAN("GET /base/ HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")));
	http_pool_stop(pool, pool_stopped, rig);
	TURN_UNTIL(rig->worker, rig->stopped);
	assert_int_equal(told->outcome, HTTP_UNAVAILABLE);
	http_pool_destroy(pool);
	rig->options.url = &rig->url;
}

static void request_over_its_bound_is_refused(void **state)
{
	struct rig *rig = *state;
	uint8_t *body = calloc(1, HTTP_REQUEST_BYTES_MAX);

	assert_non_null(body);

	const struct http_request request = {.method = "POST",
					     .path = SPAN("/"),
					     .body = span_make(body, HTTP_REQUEST_BYTES_MAX)};

	assert_int_equal(ask_for(rig, 0, &request), -HTTP_UNAVAILABLE);
	free(body);
	peer_is_not_asked(rig);
}

static void service_may_be_named(void **state)
{
	struct rig *rig = *state;

	pool_close(rig);
	memcpy(rig->url.endpoint.host, "localhost", 10);
	assert_int_equal(dns_create(&rig->options.dns, rig->worker), 0);
	pool_open(rig);
	assert_int_equal(ask(rig, 0), 0);

	int fd = peer_accept(rig);

	peer_read(rig, fd);
	assert_non_null(strstr(rig->request, "host: localhost:"));
	close(fd);
	assert_int_equal(wait_told(rig, 0), HTTP_UNAVAILABLE);
	pool_close(rig);
	rig->stopped = false;
	dns_destroy(rig->options.dns, pool_stopped, rig);
	TURN_UNTIL(rig->worker, rig->stopped);
}

/* ---- reuse ---- */

static void connection_is_reused(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(ask(rig, i), 0);
		peer_read(rig, fd);
		peer_write(fd, OK_EMPTY);
		assert_int_equal(wait_told(rig, i), HTTP_ANSWERED);
	}
	peer_is_not_asked(rig);
	assert_true(has_metric(rig, "upstream_http_reuses_total{upstream=\"auth\"} 5\n"));
	assert_true(has_metric(rig, REQUESTS "outcome=\"answered\",status=\"2xx\"} 6\n"));
	assert_true(has_metric(
		rig, "upstream_http_connects_total{upstream=\"auth\",outcome=\"connected\"} 1\n"));
	close(fd);
}

static void last_used_connection_is_reused_first(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask(rig, 0), 0);
	assert_int_equal(ask(rig, 1), 0);

	int first = peer_accept(rig), second = peer_accept(rig);

	peer_read(rig, first);
	peer_read(rig, second);
	peer_write(second, OK_EMPTY);
	turns(rig, 3);
	peer_write(first, OK_EMPTY);
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	assert_int_equal(wait_told(rig, 1), HTTP_ANSWERED);
	for (size_t i = 2; i < 5; i++) {
		assert_int_equal(ask(rig, i), 0);
		peer_read(rig, first);
		peer_write(first, OK_EMPTY);
		assert_int_equal(wait_told(rig, i), HTTP_ANSWERED);
	}
	close(first);
	close(second);
}

static void idle_connection_is_closed_after_its_time(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);
	char byte;

	jump_ms(rig, HTTP_IDLE_MS - 200);
	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	jump_ms(rig, 400);
	peer_sees_end(rig, fd);
	WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
}

static void promise_of_the_service_shortens_the_idle_time(void **state)
{
	struct rig *rig = *state;
	const struct {
		const char *keep_alive;
		uint64_t idle_ms; /* 0: closed at once */
	} rows[] = {
		{"timeout=0", 0},	{"timeout=1", 0},     {"timeout=3", 2000},
		{"x, Timeout=2", 1000}, {"timeout=60", 4000}, {"timeout=x", 4000},
		{"timeout=", 4000},	{",,", 4000},	      {"timeout=2;max=9", 4000},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char response[128], byte;

		snprintf(response, sizeof(response),
			 "HTTP/1.1 204 No Content\r\nKeep-Alive: %s\r\n\r\n", rows[i].keep_alive);
		assert_int_equal(ask(rig, 0), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		peer_write(fd, response);
		assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
		if (rows[i].idle_ms > 0) {
			jump_ms(rig, rows[i].idle_ms - 300);
			assert_int_equal(recv(fd, &byte, 1, 0), -1);
			jump_ms(rig, 600);
		}
		peer_sees_end(rig, fd);
	}
}

static void connection_that_was_finished_is_not_used(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	close(fd);
	WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
	close(peer_idle(rig));
}

static void word_of_parting_ends_an_idle_connection(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	peer_write(fd, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
	peer_sees_end(rig, fd);
	close(peer_idle(rig));
}

static void connection_is_not_kept_against_the_service(void **state)
{
	struct rig *rig = *state;
	static const char *const responses[] = {
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		/* and not against our own safety: something is behind it */
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
		OK_EMPTY OK_EMPTY,
	};

	for (size_t i = 0; i < ARRAY_LEN(responses); i++) {
		assert_int_equal(ask(rig, 0), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		peer_write(fd, responses[i]);
		assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
		peer_sees_end(rig, fd);
	}
	assert_true(has_metric(rig, "upstream_http_reuses_total{upstream=\"auth\"} 0\n"));
}

static void answer_to_half_a_request_ends_the_connection(void **state)
{
	struct rig *rig = *state;
	size_t bytes = HTTP_REQUEST_BYTES_MAX - 1024;
	uint8_t *body = calloc(1, bytes);

	assert_non_null(body);
	/* so that the kernel does not take all of it at once */
	harness_set_int(rig->listener, SOL_SOCKET, SO_RCVBUF, 4096);
	harness_set_int(rig->listener, IPPROTO_TCP, TCP_MAXSEG, 1000);
	assert_int_equal(ask_for(rig, 0,
				 &(struct http_request){.method = "POST",
							.path = SPAN("/"),
							.body = span_make(body, bytes)}),
			 0);
	free(body);

	int fd = peer_accept(rig);

	turns(rig, 10);
	peer_write(fd, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	assert_int_equal(rig->told[0].status, 413);
	WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
	close(fd);
}

/* ---- connections that end ---- */

static void request_that_has_left_is_never_sent_again(void **state)
{
	struct rig *rig = *state;

	for (int is_reset = 0; is_reset < 2; is_reset++) {
		int fd = peer_idle(rig);

		assert_int_equal(ask(rig, 0), 0);
		peer_read(rig, fd);
		if (is_reset)
			peer_reset(fd);
		else
			close(fd);
		assert_int_equal(wait_told(rig, 0), HTTP_UNAVAILABLE);
		peer_is_not_asked(rig);
	}
	assert_true(has_metric(rig, "upstream_http_retries_total{upstream=\"auth\"} 0\n"));
	assert_true(has_metric(rig, REQUESTS "outcome=\"unavailable\",status=\"\"} 2\n"));
}

static void request_that_has_not_left_goes_over_a_new_connection(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	/* the reset is in our socket before the request is written to it */
	peer_reset(fd);
	assert_int_equal(ask(rig, 0), 0);
	fd = peer_accept(rig);
	peer_read(rig, fd);
	peer_write(fd, OK_EMPTY);
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	assert_true(has_metric(rig, "upstream_http_retries_total{upstream=\"auth\"} 1\n"));
	close(fd);
}

static void unsent_request_is_tried_twice_and_no_more(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask(rig, 0), 0);
	for (int i = 0; i < 2; i++) {
		int fd;

		/* between the handshake, which the kernel makes, and the turn that hears of it */
		while ((fd = accept4(rig->listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
			assert_int_equal(worker_turn(rig->worker, 0), 0);
		peer_reset(fd);
	}
	assert_int_equal(wait_told(rig, 0), HTTP_UNAVAILABLE);
	assert_true(has_metric(rig, "upstream_http_retries_total{upstream=\"auth\"} 1\n"));
	peer_is_not_asked(rig);
}

static void answer_before_the_request_is_none_to_it(void **state)
{
	struct rig *rig = *state;
	int fd = peer_idle(rig);

	/* both are there when the worker looks: the old word first */
	peer_write(fd, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
	shutdown(fd, SHUT_WR);
	turns(rig, 1);
	assert_int_equal(ask(rig, 0), 0);

	int next = peer_accept(rig);

	peer_read(rig, next);
	peer_write(next, OK_EMPTY);
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	assert_int_equal(rig->told[0].status, 200);
	close(fd);
	close(next);
}

static void request_that_has_not_left_takes_no_other_old_connection(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask(rig, 0), 0);
	assert_int_equal(ask(rig, 1), 0);

	int fds[2];

	peer_accept_two(rig, fds);

	int old = fds[0], last = fds[1];

	peer_write(old, OK_EMPTY);
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	peer_write(last, OK_EMPTY);
	assert_int_equal(wait_told(rig, 1), HTTP_ANSWERED);
	peer_reset(last);
	assert_int_equal(ask(rig, 2), 0);

	int fresh = peer_accept(rig);

	peer_read(rig, fresh);
	peer_write(fresh, OK_EMPTY);
	assert_int_equal(wait_told(rig, 2), HTTP_ANSWERED);
	close(old);
	close(fresh);
}

static void request_that_has_not_left_is_first_again(void **state)
{
	struct rig *rig = *state;

	pool_close(rig);
	rig->options.connections_max = 1;
	pool_open(rig);

	int fd = peer_idle(rig);

	peer_reset(fd);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ask(rig, i), 0);
	fd = peer_accept(rig);
	for (size_t i = 0; i < 3; i++) {
		peer_read(rig, fd);
		peer_write(fd, OK_EMPTY);
		assert_int_equal(wait_told(rig, i), HTTP_ANSWERED);
	}
	assert_true(has_metric(rig, "upstream_http_retries_total{upstream=\"auth\"} 1\n"));
	close(fd);
}

static void connection_that_is_ending_is_not_picked(void **state)
{
	struct rig *rig = *state;
	int idle = peer_idle(rig);

	rig->told[0].starts = &rig->told[2];
	assert_int_equal(ask(rig, 1), 0);
	assert_int_equal(ask(rig, 0), 0);

	int busy = peer_accept(rig);

	peer_read(rig, idle);
	peer_read(rig, busy);
	peer_write(idle, OK_EMPTY);
	assert_int_equal(wait_told(rig, 1), HTTP_ANSWERED);
	/* in one turn: the idle one breaks, and `done` asks for another */
	peer_reset(idle);
	fetch_completions(rig);
	peer_write(busy, OK_EMPTY);
	fetch_completions(rig);
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	peer_read(rig, busy);
	peer_write(busy, OK_EMPTY);
	assert_int_equal(wait_told(rig, 2), HTTP_ANSWERED);
	close(busy);
}

static void no_more_are_dialled_than_wait(void **state)
{
	struct rig *rig = *state;
	int fds[2];

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ask(rig, i), 0);
	for (size_t i = 0; i < 2; i++) {
		fds[i] = peer_accept(rig);
		peer_read(rig, fds[i]);
	}
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(wait_told(rig, 0), HTTP_UNAVAILABLE);
	assert_int_equal(wait_told(rig, 1), HTTP_UNAVAILABLE);
	fds[0] = peer_accept(rig);
	peer_read(rig, fds[0]);
	peer_is_not_asked(rig);
	peer_write(fds[0], OK_EMPTY);
	assert_int_equal(wait_told(rig, 2), HTTP_ANSWERED);
	close(fds[0]);
}

static void as_many_are_dialled_as_wait(void **state)
{
	struct rig *rig = *state;
	int fds[2];

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(ask(rig, i), 0);
	for (size_t i = 0; i < 2; i++) {
		fds[i] = peer_accept(rig);
		peer_read(rig, fds[i]);
	}
	for (size_t i = 2; i < 4; i++)
		assert_int_equal(ask(rig, i), 0);
	for (size_t i = 0; i < 2; i++)
		close(fds[i]);
	for (size_t i = 0; i < 2; i++) {
		fds[i] = peer_accept(rig);
		peer_read(rig, fds[i]);
	}
	for (size_t i = 0; i < 2; i++)
		peer_write(fds[i], OK_EMPTY);
	for (size_t i = 2; i < 4; i++)
		assert_int_equal(wait_told(rig, i), HTTP_ANSWERED);
	close(fds[0]);
	close(fds[1]);
}

static void refused_connection_fails_who_waits(void **state)
{
	struct rig *rig = *state;

	rig_deafen(rig);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ask(rig, i), 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(wait_told(rig, i), HTTP_UNAVAILABLE);
	for (size_t i = 0; i < 3; i++)
		assert_ptr_equal(rig->order[i], &rig->told[i]);
	WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
	assert_true(has_metric(rig, REQUESTS "outcome=\"unavailable\",status=\"\"} 3\n"));

	/* nothing is remembered: the next request asks anew */
	rig_listen(rig);
	rig->url.endpoint.port = rig->port;
	close(peer_idle(rig));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(request_is_written_as_http1),
		TEST(get_has_no_length_and_post_always),
		TEST(default_port_is_not_said),
		TEST(request_over_its_bound_is_refused),
		TEST(service_may_be_named),
		TEST(connection_is_reused),
		TEST(last_used_connection_is_reused_first),
		TEST(idle_connection_is_closed_after_its_time),
		TEST(promise_of_the_service_shortens_the_idle_time),
		TEST(connection_that_was_finished_is_not_used),
		TEST(word_of_parting_ends_an_idle_connection),
		TEST(connection_is_not_kept_against_the_service),
		TEST(answer_to_half_a_request_ends_the_connection),
		TEST(request_that_has_left_is_never_sent_again),
		TEST(request_that_has_not_left_goes_over_a_new_connection),
		TEST(unsent_request_is_tried_twice_and_no_more),
		TEST(answer_before_the_request_is_none_to_it),
		TEST(request_that_has_not_left_takes_no_other_old_connection),
		TEST(request_that_has_not_left_is_first_again),
		TEST(connection_that_is_ending_is_not_picked),
		TEST(no_more_are_dialled_than_wait),
		TEST(as_many_are_dialled_as_wait),
		TEST(refused_connection_fails_who_waits),
	};

	return cmocka_run_group_tests_name("upstream/http", tests, NULL, NULL);
}
