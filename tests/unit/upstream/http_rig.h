/* http_rig: the HTTP client pool on a worker that the test turns, and a service that the test plays
 * itself with plain sockets; time jumps where nothing else happens. */
#ifndef UNIT_UPSTREAM_HTTP_RIG_H
#define UNIT_UPSTREAM_HTTP_RIG_H

#include "unit/upstream/jumping_worker.h"

#include "upstream/http.h"

#include <netinet/tcp.h>

#define EXCHANGES_MAX  64
#define BODY_BYTES_MAX 4096
#define TIMEOUT_MS     60000 /* passes only by jump_ms */

/* Well before an idle connection would be closed for that. */
#define SOON_MS (HTTP_IDLE_MS / 2)
#define TURN_UNTIL_SOON(worker, condition)                                                         \
	do {                                                                                       \
		uint64_t late_ms_ = steady_ms() + SOON_MS;                                         \
		TURN_UNTIL(worker, (condition) || steady_ms() > late_ms_);                         \
		assert_true(steady_ms() <= late_ms_);                                              \
	} while (0)

static const struct config_breaker breaker_off; /* zeroed: off */

struct told { /* an exchange and what it was told */
	struct http_exchange exchange;
	struct rig *rig;
	bool done;
	enum http_outcome outcome;
	int status;
	char body[BODY_BYTES_MAX + 1];
	size_t body_len;
	struct told *cancels, *starts; /* in its done */
	bool stops_pool;
};

struct rig {
	struct worker *worker;
	int listener;
	uint16_t port;
	struct config_url url;
	struct http_pool_options options;
	struct metric_registry *metrics;
	struct http_pool *pool;
	struct told told[EXCHANGES_MAX];
	struct told *order[EXCHANGES_MAX]; /* as they were told */
	size_t told_count;
	char request[4096]; /* the last that peer_read took */
	bool stopped;
};

__attribute__((unused)) static void turns(struct rig *rig, int count)
{
	for (int i = 0; i < count; i++)
		assert_int_equal(worker_turn(rig->worker, 200), 0);
}

__attribute__((unused)) static void jump_ms(struct rig *rig, uint64_t ms)
{
	turns(rig, 3);
	ahead_us += ms * 1000;
	turns(rig, 3);
}

__attribute__((unused)) static void rig_listen(struct rig *rig)
{
	rig->listener = harness_listen(&rig->port, 64);
	harness_set_nonblocking(rig->listener);
}

/* Connections are refused from now on. */
__attribute__((unused)) static void rig_deafen(struct rig *rig)
{
	close(rig->listener);
	rig->listener = -1;
}

__attribute__((unused)) static void pool_open(struct rig *rig)
{
	assert_int_equal(http_pool_create(&rig->pool, rig->worker, &rig->options), 0);
	http_pool_start(rig->pool);
}

__attribute__((unused)) static void pool_stopped(void *context)
{
	((struct rig *)context)->stopped = true;
}

__attribute__((unused)) static void pool_close(struct rig *rig)
{
	rig->stopped = false;
	http_pool_stop(rig->pool, pool_stopped, rig);
	assert_false(rig->stopped);
	TURN_UNTIL(rig->worker, rig->stopped);
	http_pool_destroy(rig->pool);
	rig->pool = NULL;
}

__attribute__((unused)) static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	if (!rig)
		return -1;
	rig->worker = worker_make();
	rig->metrics = metric_registry_create();
	rig_listen(rig);
	rig->url = (struct config_url){
		.set = true,
		.endpoint = {.kind = ENDPOINT_HOST, .port = rig->port, .host = "127.0.0.1"},
		.path = "/base",
	};
	rig->options = (struct http_pool_options){
		.name = "auth",
		.url = &rig->url,
		.timeout_ms = TIMEOUT_MS,
		.connections_max = 2,
		.waiting_max = 3,
		.body_bytes_max = BODY_BYTES_MAX,
		.breaker = &breaker_off,
		.metrics = rig->metrics,
	};
	pool_open(rig);
	*state = rig;
	return 0;
}

__attribute__((unused)) static int teardown(void **state)
{
	struct rig *rig = *state;

	if (rig->pool)
		pool_close(rig);
	if (rig->listener >= 0)
		close(rig->listener);
	metric_registry_destroy(rig->metrics);
	harness_worker_finish(rig->worker);
	free(rig->worker);
	free(rig);
	return 0;
}

/* ---- the client's side ---- */

__attribute__((unused)) static int ask_for(struct rig *rig, size_t index,
					   const struct http_request *request);

#define REQUEST_LINE "POST /base/path/"

__attribute__((unused)) static int ask(struct rig *rig, size_t index)
{
	char path[32];

	snprintf(path, sizeof(path), "/path/%zu", index);
	return ask_for(rig, index,
		       &(struct http_request){
			       .method = "POST", .path = span_from_cstr(path), .body = SPAN("{}")});
}

__attribute__((unused)) static void exchange_done(struct http_exchange *exchange,
						  const struct http_response *response)
{
	struct told *told = CONTAINER_OF(exchange, struct told, exchange);
	struct rig *rig = told->rig;

	assert_false(told->done);
	told->done = true;
	told->outcome = response->outcome;
	told->status = response->head ? response->head->status : 0;
	told->body_len = response->body.len;
	assert_true(response->body.len <= BODY_BYTES_MAX);
	if (response->body.len > 0)
		memcpy(told->body, response->body.data, response->body.len);
	told->body[response->body.len] = '\0';
	assert_true((response->outcome == HTTP_ANSWERED) == (response->head != NULL));
	rig->order[rig->told_count++] = told;
	if (told->cancels)
		http_exchange_cancel(&told->cancels->exchange);
	if (told->starts)
		assert_int_equal(ask(rig, (size_t)(told->starts - rig->told)), 0);
	if (told->stops_pool)
		http_pool_stop(rig->pool, pool_stopped, rig);
}

__attribute__((unused)) static int ask_for(struct rig *rig, size_t index,
					   const struct http_request *request)
{
	struct told *told = &rig->told[index];
	struct told *cancels = told->cancels, *starts = told->starts;
	bool stops_pool = told->stops_pool;

	if (rig->told_count == EXCHANGES_MAX)
		rig->told_count = 0;
	*told = (struct told){
		.rig = rig, .cancels = cancels, .starts = starts, .stops_pool = stops_pool};

	int code = http_exchange_start(rig->pool, &told->exchange, exchange_done, request);

	assert_false(told->done);
	return code;
}

/* ---- the service's side ---- */

__attribute__((unused)) static int peer_accept(struct rig *rig)
{
	int fd = -1;

	TURN_UNTIL(rig->worker,
		   (fd = accept4(rig->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
	harness_set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* pieces leave as they are written */
	return fd;
}

/* Nobody connects, however long it is waited for. */
__attribute__((unused)) static void peer_is_not_asked(struct rig *rig)
{
	turns(rig, 10);
	assert_int_equal(accept4(rig->listener, NULL, NULL, SOCK_CLOEXEC), -1);
}

__attribute__((unused)) static bool peer_has_request(struct rig *rig, int fd, size_t *len)
{
	ssize_t got = recv(fd, rig->request + *len, sizeof(rig->request) - 1 - *len, 0);

	if (got > 0)
		*len += (size_t)got;
	rig->request[*len] = '\0';
	return *len >= 2 && strcmp(rig->request + *len - 2, "{}") == 0;
}

/* One request as `ask` makes them. */
__attribute__((unused)) static void peer_read(struct rig *rig, int fd)
{
	size_t len = 0;

	TURN_UNTIL(rig->worker, peer_has_request(rig, fd, &len));
}

/*
 * Two connections dialled at once: request 0 is read from the first, request 1 from the second. In
 * which order the kernel accepts them and tells that they are made is not said: 6.1 tells the last
 * one first.
 */
__attribute__((unused)) static void peer_accept_two(struct rig *rig, int fds[2])
{
	fds[0] = fds[1] = -1;
	for (int i = 0; i < 2; i++) {
		int fd = peer_accept(rig);

		peer_read(rig, fd);
		assert_memory_equal(rig->request, REQUEST_LINE, strlen(REQUEST_LINE));

		size_t index = strtoul(rig->request + strlen(REQUEST_LINE), NULL, 10);

		assert_true(index < 2 && fds[index] == -1);
		fds[index] = fd;
	}
}

/* What has come lies in the ring, seen by nobody: what comes after it is seen after it. */
__attribute__((unused)) static void fetch_completions(struct rig *rig)
{
	assert_int_equal(ring_enter(rig->worker->ring, 0), 0);
}

__attribute__((unused)) static void peer_write_bytes(int fd, struct span bytes)
{
	assert_int_equal(send(fd, bytes.data, bytes.len, MSG_NOSIGNAL), bytes.len);
}

__attribute__((unused)) static void peer_write(int fd, const char *text)
{
	peer_write_bytes(fd, span_from_cstr(text));
}

/* The pool has ended the connection. */
__attribute__((unused)) static void peer_sees_end(struct rig *rig, int fd)
{
	char byte;
	ssize_t got = -1;

	TURN_UNTIL_SOON(rig->worker, (got = recv(fd, &byte, 1, 0)) == 0 ||
					     (got < 0 && errno != EAGAIN && errno != EINTR));
	assert_true(got <= 0);
	close(fd);
}

__attribute__((unused)) static void peer_reset(int fd)
{
	const struct linger linger = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

/* Asks, answers with 200, and leaves the connection idle. */
__attribute__((unused)) static int peer_idle(struct rig *rig)
{
	assert_int_equal(ask(rig, EXCHANGES_MAX - 1), 0);

	int fd = peer_accept(rig);

	peer_read(rig, fd);
	peer_write(fd, OK_EMPTY);
	TURN_UNTIL(rig->worker, rig->told[EXCHANGES_MAX - 1].done);
	assert_int_equal(rig->told[EXCHANGES_MAX - 1].status, 200);
	return fd;
}

__attribute__((unused)) static enum http_outcome wait_told(struct rig *rig, size_t index)
{
	TURN_UNTIL(rig->worker, rig->told[index].done);
	return rig->told[index].outcome;
}

__attribute__((unused)) static bool find_metric(struct rig *rig, const char *line, bool is_told)
{
	struct buf text;

	buf_init(&text, 1u << 20);
	metric_render(rig->metrics, &text);
	buf_append_byte(&text, '\0');

	bool found = strstr((const char *)text.data, line) != NULL;

	if (!found && is_told)
		print_message("not in:\n%s\n", (const char *)text.data);
	buf_finish(&text);
	return found;
}

__attribute__((unused)) static bool has_metric(struct rig *rig, const char *line)
{
	return find_metric(rig, line, true);
}

#define WAIT_METRIC(rig, line) TURN_UNTIL_SOON((rig)->worker, find_metric(rig, line, false))

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
