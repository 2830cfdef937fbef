/* The admin listener over a real ring, clients in the same thread: dumps that take their time. */
#include "admin/admin.h"

#include "base/check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#define TURNS_MAX 4000

struct rig {
	struct worker worker;
	struct metric_registry *registry;
	struct config config;
	struct admin *admin;
	struct sockaddr_in address;
	int listen_fd;
	struct admin_gathering *gathering; /* held until the test answers */
	unsigned gathered_count;
	bool ready, stopped;
};

static _Alignas(64) struct rig rig;

static void hold(void *context, struct admin_gathering *gathering)
{
	struct rig *held = context;

	assert_null(held->gathering); /* never called again before it has answered */
	held->gathering = gathering;
	held->gathered_count++;
}

static void answer_at_once(void *context, struct admin_gathering *gathering)
{
	(void)context;
	admin_gathered(gathering, "text/plain", SPAN("now"));
}

static void refuse(void *context, struct admin_gathering *gathering)
{
	(void)context;
	admin_gather_failed(gathering, ERR_SHUTTING_DOWN);
}

static void answer(const char *text)
{
	struct admin_gathering *gathering = rig.gathering;

	rig.gathering = NULL;
	admin_gathered(gathering, "text/plain", span_from_cstr(text));
}

static bool is_ready(const void *context)
{
	return ((const struct rig *)context)->ready;
}

static void turn(void)
{
	assert_int_equal(worker_turn(&rig.worker, 1000), 0);
}

#define UNTIL(condition)                                                                           \
	do {                                                                                       \
		for (int n_ = 0; n_ < TURNS_MAX && !(condition); n_++)                             \
			turn();                                                                    \
		assert_true(condition);                                                            \
	} while (0)

static int connect_client(const char *request)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&rig.address, sizeof(rig.address)), 0);
	assert_int_equal(write(fd, request, strlen(request)), strlen(request));
	return fd;
}

/* Returns the answers once `count` of them have come. */
static const char *read_answers(int fd, unsigned count)
{
	static char text[8192];
	size_t len = 0;
	unsigned seen = 0;

	for (int n = 0; n < TURNS_MAX && seen < count; n++) {
		ssize_t got = recv(fd, text + len, sizeof(text) - 1 - len, MSG_DONTWAIT);

		if (got > 0)
			len += (size_t)got;
		text[len] = '\0';
		seen = 0;
		for (const char *at = text; (at = strstr(at, "HTTP/1.1 ")); at++)
			seen++;
		turn();
	}
	assert_int_equal(seen, count);
	return text;
}

static int set_up(void **state)
{
	static const struct admin_dump dumps[] = {
		{"/held", hold, &rig},
		{"/now", answer_at_once, NULL},
		{"/refused", refuse, NULL},
	};
	socklen_t len = sizeof(rig.address);
	char why[256];

	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.config.http_header_timeout_ms = rig.config.http_body_timeout_ms = 60000;
	rig.config.http_idle_timeout_ms = 60000;
	rig.config.http_max_header_bytes = 16384;
	rig.registry = metric_registry_create();
	const struct worker_options options = {
		.name = "main",
		.ring = {.sq_entries = 64,
			 .cq_entries = 1024,
			 .file_slots = 64,
			 .buffer_count = 64,
			 .buffer_bytes = 4096},
		.clock = worker_clock_system,
		.metrics = rig.registry,
	};

	assert_int_equal(worker_init(&rig.worker, &options, why, sizeof(why)), 0);
	const struct admin_options admin = {
		.worker = &rig.worker,
		.config = &rig.config,
		.metrics = rig.registry,
		.is_ready = is_ready,
		.context = &rig,
		.dumps = dumps,
		.dump_count = ARRAY_LEN(dumps),
	};

	assert_int_equal(admin_create(&rig.admin, &admin), 0);
	rig.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rig.address = (struct sockaddr_in){.sin_family = AF_INET,
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(rig.listen_fd, (struct sockaddr *)&rig.address, sizeof(rig.address)),
			 0);
	assert_int_equal(listen(rig.listen_fd, 64), 0);
	assert_int_equal(getsockname(rig.listen_fd, (struct sockaddr *)&rig.address, &len), 0);
	turn();
	assert_int_equal(admin_listen(rig.admin, rig.listen_fd), 0);
	return 0;
}

static void note_stopped(void *context)
{
	((struct rig *)context)->stopped = true;
}

static int tear_down(void **state)
{
	(void)state;
	admin_stop(rig.admin, 1000, note_stopped, &rig);
	UNTIL(rig.stopped);
	UNTIL(worker_ops_in_flight(&rig.worker) == 0);
	admin_destroy(rig.admin);
	close(rig.listen_fd);
	worker_finish(&rig.worker);
	metric_registry_destroy(rig.registry);
	return 0;
}

static const char held_request[] = "GET /held HTTP/1.1\r\nHost: a\r\n\r\n";

static void who_asks_meanwhile_shares_the_answer(void **state)
{
	int first = connect_client(held_request), second, third;

	(void)state;
	UNTIL(rig.gathering);
	second = connect_client(held_request);
	third = connect_client("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_non_null(strstr(read_answers(third, 1),
			       "{\"status\":\"ok\"}")); /* nothing else waits for it */
	for (int n = 0; n < 50; n++)
		turn();
	assert_int_equal(rig.gathered_count, 1);
	answer("shared");
	assert_non_null(strstr(read_answers(first, 1), "\r\n\r\nshared"));
	assert_non_null(strstr(read_answers(second, 1), "\r\n\r\nshared"));
	assert_int_equal(rig.gathered_count, 1);
	close(first);
	close(second);
	close(third);
}

static void pipelined_request_begins_the_next_gathering(void **state)
{
	int client = connect_client(
		"GET /held HTTP/1.1\r\nHost: a\r\n\r\nGET /held HTTP/1.1\r\nHost: a\r\n\r\n");

	(void)state;
	UNTIL(rig.gathering);
	answer("first");
	UNTIL(rig.gathering);
	assert_int_equal(rig.gathered_count, 2);
	answer("second");
	const char *text = strstr(read_answers(client, 2), "first");

	assert_non_null(text);
	assert_non_null(strstr(text, "second"));
	close(client);
}

static void client_that_goes_away_is_forgotten(void **state)
{
	int gone = connect_client(held_request), stays;
	struct linger at_once = {.l_onoff = 1};

	(void)state;
	UNTIL(rig.gathering);
	stays = connect_client(held_request);
	setsockopt(gone, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(gone);
	for (int n = 0; n < 100; n++)
		turn();
	answer("for who stayed");
	assert_non_null(strstr(read_answers(stays, 1), "for who stayed"));
	close(stays);
}

static void answer_for_nobody_is_fine_and_the_next_one_gathers_anew(void **state)
{
	int client = connect_client(held_request);
	struct linger at_once = {.l_onoff = 1};

	(void)state;
	UNTIL(rig.gathering);
	setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(client);
	for (int n = 0; n < 100; n++)
		turn();
	answer("nobody");
	client = connect_client(held_request);
	UNTIL(rig.gathering);
	assert_int_equal(rig.gathered_count, 2);
	answer("somebody");
	assert_non_null(strstr(read_answers(client, 1), "somebody"));
	close(client);
}

static void one_who_stops_waits_for_the_answer(void **state)
{
	int client = connect_client(held_request);

	(void)state;
	UNTIL(rig.gathering);
	admin_stop(rig.admin, 60000, note_stopped, &rig);
	for (int n = 0; n < 50; n++)
		turn();
	assert_false(rig.stopped);
	answer("last");
	assert_non_null(strstr(read_answers(client, 1), "last"));
	close(client);
	UNTIL(rig.stopped);
	rig.stopped = false;
	UNTIL(worker_ops_in_flight(&rig.worker) == 0);
	admin_destroy(rig.admin);
	close(rig.listen_fd);
	worker_finish(&rig.worker);
	metric_registry_destroy(rig.registry);
}

static void one_that_is_cut_forgets_who_waits(void **state)
{
	int client = connect_client(held_request);

	(void)state;
	UNTIL(rig.gathering);
	admin_stop(rig.admin, 1, note_stopped, &rig);
	UNTIL(rig.stopped);
	answer("too late");
	close(client);
	UNTIL(worker_ops_in_flight(&rig.worker) == 0);
	admin_destroy(rig.admin);
	close(rig.listen_fd);
	worker_finish(&rig.worker);
	metric_registry_destroy(rig.registry);
}

static void dumps_may_answer_or_refuse_at_once(void **state)
{
	int client = connect_client("GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
				    "HEAD /now HTTP/1.1\r\nHost: a\r\n\r\n"
				    "GET /refused HTTP/1.1\r\nHost: a\r\n\r\n"
				    "GET /now HTTP/1.1\r\nHost: a\r\n\r\n"
				    "POST /now HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n"
				    "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
	const char *text = read_answers(client, 6);

	(void)state;
	assert_non_null(strstr(text, "\r\n\r\nnow"));
	assert_non_null(strstr(text, "HTTP/1.1 405 "));
	assert_non_null(strstr(text, "HTTP/1.1 503 "));
	assert_non_null(strstr(text, "gateway is shutting down"));
	assert_non_null(strstr(text, "{\"status\":\"draining\"}"));
	close(client);
}

#define FAMILIES 16 /* as a registry looks through one family's series */

/* Every path a service ever named leaves its latency and a count of its calls, until the bound. */
static void metrics_are_shown_with_as_many_series_as_may_be(void **state)
{
	static char names[FAMILIES][40];
	static struct metric_family families[FAMILIES];
	static struct metric_histogram histogram;
	static struct metric_counter counter;
	char labels[257];
	int client, registered = 0;

	(void)state;
	memset(labels, 'x', sizeof(labels));
	for (size_t i = 0; i < FAMILIES; i++) {
		snprintf(names[i], sizeof(names[i]), "http_request_latency_seconds_%zu", i);
		families[i] = (struct metric_family){names[i], "Help.",
						     i % 2 ? METRIC_COUNTER : METRIC_HISTOGRAM};
	}
	for (int i = 0; i < METRIC_SERIES_MAX; i++) {
		const struct metric_family *family = &families[i % FAMILIES];
		int len = snprintf(labels, sizeof(labels), "path=\"/%d/", i);

		labels[len] = 'x';
		memcpy(labels + sizeof(labels) - 2, "\"", 2);
		registered += metric_register(rig.registry, family, labels,
					      family->type == METRIC_COUNTER ? (void *)&counter
									     : &histogram) == 0;
	}
	assert_in_range(registered, METRIC_SERIES_MAX - 200, METRIC_SERIES_MAX); /* admin's own */
	client = connect_client("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
	const char *text = read_answers(client, 1);

	assert_non_null(strstr(text, "HTTP/1.1 200 "));
	close(client);
	metric_unregister(rig.registry, &histogram, sizeof(histogram));
	metric_unregister(rig.registry, &counter, sizeof(counter));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_asks_meanwhile_shares_the_answer, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(pipelined_request_begins_the_next_gathering, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(client_that_goes_away_is_forgotten, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			answer_for_nobody_is_fine_and_the_next_one_gathers_anew, set_up, tear_down),
		cmocka_unit_test_setup(one_who_stops_waits_for_the_answer, set_up),
		cmocka_unit_test_setup(one_that_is_cut_forgets_who_waits, set_up),
		cmocka_unit_test_setup_teardown(dumps_may_answer_or_refuse_at_once, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(metrics_are_shown_with_as_many_series_as_may_be,
						set_up, tear_down),
	};

	return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
