/* account: calls by the labels that services give their paths: few texts, whatever comes. */
#include "edge/account.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static _Alignas(64) struct worker worker;
static struct config config;
static struct metric_registry *registry;
static struct router *router;
static struct account *account;

static void start(struct request *request)
{
	(void)request;
}

static const struct route fixed = {
	.kind = ROUTE_HTTP, .method = "GET", .path = "/healthz", .start = start};
static const struct route many = {
	.kind = ROUTE_HTTP, .method = "*", .path = "/*", .start = start};

static int set_up(void **state)
{
	(void)state;
	worker.now_us = 5000000;
	worker.now_ms = 5000;
	registry = metric_registry_create();
	router = router_create((struct hash_secret){0});
	assert_int_equal(router_add(router, &fixed), 0);
	const struct server_options options = {
		.name = "public",
		.protocols = SERVER_HTTP1,
		.router = router,
		.config = &config,
		.metrics = registry,
	};

	assert_int_equal(account_create(&account, &worker, &options), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (account)
		account_destroy(account);
	account = NULL;
	router_destroy(router);
	metric_registry_destroy(registry);
	return 0;
}

static struct request request_of(const char *label)
{
	return (struct request){.route = &many,
				.label = label,
				.method = SPAN("GET"),
				.status = 200,
				.started_us = worker.now_us};
}

static void call(const char *label)
{
	const struct request request = request_of(label);

	account_call(account, &request, ROUTE_HTTP);
}

static bool metrics_have(const char *line)
{
	struct buf text;
	bool has;

	buf_init(&text, 64u << 20);
	metric_render(registry, &text);
	buf_append_byte(&text, '\0');
	assert_false(text.failed);
	has = strstr((const char *)text.data, line) != NULL;
	buf_finish(&text);
	return has;
}

static void calls_count_by_their_label(void **state)
{
	(void)state;
	call("/users/{user_id}");
	call("/users/{user_id}");
	call("/users");
	call(NULL);
	assert_true(metrics_have("http_requests_total{path=\"/users/{user_id}\",method=\"GET\","
				 "status=\"200\"} 2\n"));
	assert_true(metrics_have("http_requests_total{path=\"/users\",method=\"GET\","
				 "status=\"200\"} 1\n"));
	assert_true(metrics_have("http_requests_total{path=\"unmatched\",method=\"GET\","
				 "status=\"200\"} 1\n"));
	assert_true(metrics_have(
		"http_request_latency_seconds_count{path=\"/users/{user_id}\"} 2\n"));
}

/* So that the first ones of a burst are a rate already. */
static void errors_are_there_before_they_happen(void **state)
{
	static const int statuses[] = {500, 503, 504};
	char line[128];

	(void)state;
	call("/users");
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		snprintf(line, sizeof(line), "{path=\"/users\",method=\"GET\",status=\"%d\"} 0\n",
			 statuses[i]);
		assert_true(metrics_have(line));
	}
	assert_false(metrics_have("path=\"unmatched\",method=\"GET\",status=\"503\""));
}

static void labels_never_spoil_the_text(void **state)
{
	(void)state;
	call("/a\"b\\c\nd\xc3\xa9\x7f");
	assert_true(metrics_have("{path=\"/a_b_c_d___\",method"));
}

static void long_labels_are_cut(void **state)
{
	char label[1000] = "/";

	(void)state;
	memset(label + 1, 'x', sizeof(label) - 2);
	call(label);
	assert_true(metrics_have("xxx\",method=\"GET\",status=\"200\"} 1\n"));
}

static void other_methods_and_statuses_are_few(void **state)
{
	struct request request = request_of("/a");

	(void)state;
	request.method = SPAN("BREW");
	for (int status = 100; status < 2000; status++) {
		request.status = status;
		account_call(account, &request, ROUTE_HTTP);
	}
	assert_true(metrics_have("{path=\"/a\",method=\"other\",status=\"other\"} "));
}

static void labels_beyond_the_bound_count_as_other(void **state)
{
	char label[32];

	(void)state;
	for (int i = 0; i < ACCOUNT_LABELS_MAX + 10; i++) {
		snprintf(label, sizeof(label), "/label-%d", i);
		call(label);
	}
	assert_true(metrics_have("{path=\"other\",method=\"GET\",status=\"200\"} 10\n"));
	call("/label-0"); /* those that are known go on */
	assert_true(metrics_have("{path=\"/label-0\",method=\"GET\",status=\"200\"} 2\n"));
}

/* Files come and go: what no call has had for long makes room, and what it counted is not lost. */
static void labels_that_rest_make_room(void **state)
{
	char label[32];

	(void)state;
	for (int i = 0; i < ACCOUNT_LABELS_MAX; i++) {
		snprintf(label, sizeof(label), "/label-%d", i);
		call(label);
	}
	worker.now_ms += ACCOUNT_LABEL_IDLE_MS - 1;
	call("/label-0");
	call("/new");
	assert_false(metrics_have("/new"));
	worker.now_ms += 1;
	call("/new");
	assert_true(metrics_have("{path=\"/new\",method=\"GET\",status=\"200\"} 1\n"));
	call("/label-0");
	assert_true(metrics_have("{path=\"/label-0\",method=\"GET\",status=\"200\"} 3\n"));
	call("/label-1"); /* had to leave, comes back, has all it had */
	assert_true(metrics_have("{path=\"/label-1\",method=\"GET\",status=\"200\"} 2\n"));
}

/* Each look goes through all that it has, and holds up every thread. */
static void full_registry_is_asked_again_after_a_second(void **state)
{
	static const struct metric_family family = {"others", "Others.", METRIC_GAUGE};
	static struct metric_gauge others, last;
	const struct metric_gauge *cell = &last;
	char labels[32];

	(void)state;
	for (int i = 0;; i++, cell = &others) {
		snprintf(labels, sizeof(labels), "i=\"%d\"", i);
		if (metric_register(registry, &family, labels, cell) != 0)
			break;
	}
	call("/new");
	metric_unregister(registry, &last, sizeof(last));
	worker.now_ms += 999;
	call("/new");
	assert_false(metrics_have("/new"));
	worker.now_ms += 1;
	call("/new");
	assert_true(metrics_have("/new"));
}

/* A stream of an hour is not an answer that took an hour. */
static void streams_are_timed_to_their_head(void **state)
{
	struct request request = request_of("/watch");

	(void)state;
	worker.now_us += 1000;
	account_begun(account, &request);
	request.is_begun = true;
	worker.now_us += 3600000000;
	account_call(account, &request, ROUTE_HTTP);
	assert_true(metrics_have("http_request_latency_seconds_sum{path=\"/watch\"} 0.001\n"));
	assert_true(metrics_have("http_request_latency_seconds_count{path=\"/watch\"} 1\n"));
}

static void everything_leaves_with_its_listener(void **state)
{
	(void)state;
	call("/users");
	account_destroy(account);
	account = NULL;
	/* counted for good, though the cells have gone */
	assert_true(metrics_have("{path=\"/users\",method=\"GET\",status=\"200\"} 1\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(calls_count_by_their_label),
		TEST(errors_are_there_before_they_happen),
		TEST(labels_never_spoil_the_text),
		TEST(long_labels_are_cut),
		TEST(other_methods_and_statuses_are_few),
		TEST(labels_beyond_the_bound_count_as_other),
		TEST(labels_that_rest_make_room),
		TEST(full_registry_is_asked_again_after_a_second),
		TEST(streams_are_timed_to_their_head),
		TEST(everything_leaves_with_its_listener),
	};

	return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
