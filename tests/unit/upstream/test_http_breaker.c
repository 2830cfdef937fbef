/* The breaker of the HTTP client pool. */
#include "unit/upstream/http_rig.h"

static const struct config_breaker config = {
	.enabled = true,
	.failures = 3,
	.ratio = 100,
	.calls = 100,
	.window_ms = 600000,
	.open_ms = 50000, /* passes only by jump_ms */
};

static void reopen_with_breaker(struct rig *rig)
{
	pool_close(rig);
	rig->options.breaker = &config;
	pool_open(rig);
}

/* A connection of its own for each. */
static void answer(struct rig *rig, size_t index, const char *response)
{
	assert_int_equal(ask(rig, index), 0);

	int fd = peer_accept(rig);

	peer_read(rig, fd);
	peer_write(fd, response);
	assert_int_equal(wait_told(rig, index), HTTP_ANSWERED);
	close(fd);
}

static void expect_open_then_one_probe(struct rig *rig)
{
	assert_int_equal(ask(rig, 10), -HTTP_UNAVAILABLE);
	peer_is_not_asked(rig);
	assert_true(
		has_metric(rig, "upstream_breaker_state{upstream=\"auth\",state=\"open\"} 1\n"));
	assert_true(has_metric(rig, "upstream_breaker_refused_total{upstream=\"auth\"} 1\n"));
	jump_ms(rig, 50100);
	assert_int_equal(ask(rig, 11), 0);
	assert_int_equal(ask(rig, 12), -HTTP_UNAVAILABLE);

	int fd = peer_accept(rig);

	peer_read(rig, fd);
	peer_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	assert_int_equal(wait_told(rig, 11), HTTP_ANSWERED);
	close(fd);
	assert_true(
		has_metric(rig, "upstream_breaker_state{upstream=\"auth\",state=\"closed\"} 1\n"));
	answer(rig, 13, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

static void statuses_of_a_service_that_cannot_open_it(void **state)
{
	static const char *const rows[] = {
		"HTTP/1.1 502 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 503 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 504 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	};
	struct rig *rig = *state;

	reopen_with_breaker(rig);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		answer(rig, i, rows[i]);
	expect_open_then_one_probe(rig);
}

static void other_answers_never_open_it(void **state)
{
	static const char *const rows[] = {
		"HTTP/1.1 400 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 429 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 500 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 501 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 505 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	};
	struct rig *rig = *state;

	reopen_with_breaker(rig);
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++)
		answer(rig, i, rows[i % ARRAY_LEN(rows)]);
	assert_true(has_metric(rig, "upstream_breaker_opened_total{upstream=\"auth\"} 0\n"));
}

static void refused_and_lost_connections_open_it(void **state)
{
	struct rig *rig = *state;

	reopen_with_breaker(rig);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(ask(rig, i), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		peer_reset(fd);
		assert_int_equal(wait_told(rig, i), HTTP_UNAVAILABLE);
	}
	expect_open_then_one_probe(rig);
}

static void silence_opens_it_but_not_a_shorter_deadline_nor_leaving(void **state)
{
	const struct http_request short_one = {
		.method = "POST", .path = SPAN("/path/0"), .body = SPAN("{}"), .deadline_ms = 500};
	struct rig *rig = *state;

	reopen_with_breaker(rig);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(ask_for(rig, i, &short_one), 0);

		int fd = peer_accept(rig);

		jump_ms(rig, 600);
		assert_int_equal(wait_told(rig, i), HTTP_TIMEOUT);
		peer_sees_end(rig, fd);
		assert_int_equal(ask(rig, i), 0);
		fd = peer_accept(rig);
		peer_read(rig, fd);
		http_exchange_cancel(&rig->told[i].exchange);
		peer_sees_end(rig, fd);
	}
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(ask(rig, i), 0);

		int fd = peer_accept(rig);

		jump_ms(rig, TIMEOUT_MS + 100);
		assert_int_equal(wait_told(rig, i), HTTP_TIMEOUT);
		peer_sees_end(rig, fd);
	}
	expect_open_then_one_probe(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(statuses_of_a_service_that_cannot_open_it),
		TEST(other_answers_never_open_it),
		TEST(refused_and_lost_connections_open_it),
		TEST(silence_opens_it_but_not_a_shorter_deadline_nor_leaving),
	};

	return cmocka_run_group_tests_name("upstream/http_breaker", tests, NULL, NULL);
}
