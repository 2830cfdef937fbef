#include "unit/net/dns_server.h"

#include "base/check.h"
#include "net/dns.h"

static const struct dns_row rows[] = {
	{"one.test", 1, 0, false, {"127.0.0.1"}},
	{"both.test", 1, 0, false, {"127.0.0.1", "127.0.0.2"}},
	{"both.test", 28, 0, false, {"::1"}},
	{"six.test", 28, 0, false, {"::1"}},
	{"many.test",
	 1,
	 0,
	 false,
	 {"127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4", "127.0.1.5", "127.0.1.6", "127.0.1.7",
	  "127.0.1.8", "127.0.1.9", "127.0.1.10", "127.0.1.11", "127.0.1.12", "127.0.1.13",
	  "127.0.1.14", "127.0.1.15", "127.0.1.16", "127.0.1.17", "127.0.1.18"}},
	{"empty.test", 99, 0, false, {NULL}}, /* the name is there, addresses are not */
	{"broken.test", 0, 2, false, {NULL}},
	{"silent.test", 0, 0, true, {NULL}},
};

struct asker {
	struct dns_query query;
	int done_calls, status;
	size_t count;
	struct address addresses[DNS_ADDRESSES_MAX];
	bool again, cancel_other;
	struct asker *other;
};

struct fixture {
	struct worker worker;
	struct dns *dns;
	struct dns_server server;
	int closed;
	int fds_before;
};

static void on_done(struct dns_query *query, int status, const struct address *addresses,
		    size_t count)
{
	struct asker *asker = CONTAINER_OF(query, struct asker, query);

	asker->done_calls++;
	asker->status = status;
	asker->count = count;
	assert_int_equal(status == 0, count > 0);
	assert_true(count <= DNS_ADDRESSES_MAX);
	if (count > 0)
		memcpy(asker->addresses, addresses, count * sizeof(*addresses));
	if (asker->cancel_other)
		dns_query_cancel(&asker->other->query);
	if (asker->again) {
		asker->again = false;
		dns_query_start(query->dns, query, "one.test", 7);
	}
}

static void on_closed(void *context)
{
	((struct fixture *)context)->closed++;
}

static void fixture_open(struct fixture *fixture)
{
	char text[32];

	*fixture = (struct fixture){.fds_before = descriptor_count()};
	harness_worker_init(&fixture->worker, 16, 16);
	dns_server_open(&fixture->server, rows, ARRAY_LEN(rows));
	assert_int_equal(dns_create(&fixture->dns, &fixture->worker), 0);
	assert_int_equal(dns_set_servers(fixture->dns, dns_server_text(&fixture->server, text)), 0);
}

static void fixture_close(struct fixture *fixture)
{
	dns_destroy(fixture->dns, on_closed, fixture);
	assert_int_equal(fixture->closed, 0);
	TURN_UNTIL(&fixture->worker, fixture->closed > 0);
	assert_int_equal(worker_turn(&fixture->worker, 0), 0);
	assert_int_equal(fixture->closed, 1);
	assert_int_equal(worker_ops_in_flight(&fixture->worker), 0);
	harness_worker_finish(&fixture->worker);
	close(fixture->server.fd);
	assert_int_equal(descriptor_count(), fixture->fds_before);
}

static void ask(struct fixture *fixture, struct asker *asker, const char *name)
{
	*asker = (struct asker){.query.done = on_done};
	dns_query_start(fixture->dns, &asker->query, name, 6379);
	assert_int_equal(asker->done_calls, 0);
}

#define SERVE_UNTIL(fixture, condition)                                                            \
	TURN_UNTIL(&(fixture)->worker, (dns_server_serve(&(fixture)->server), (condition)))

static bool has_address(const struct asker *asker, const char *text)
{
	for (size_t i = 0; i < asker->count; i++) {
		char formatted[ADDRESS_TEXT_MAX];

		address_format(&asker->addresses[i], formatted);
		if (strcmp(formatted, text) == 0)
			return true;
	}
	return false;
}

static void localhost_comes_from_the_hosts_file(void **state)
{
	struct fixture fixture;
	struct asker asker;

	(void)state;
	fixture_open(&fixture);
	ask(&fixture, &asker, "localhost");
	SERVE_UNTIL(&fixture, asker.done_calls == 1);
	assert_int_equal(asker.status, 0);
	assert_true(has_address(&asker, "127.0.0.1:6379"));
	assert_int_equal(fixture.server.asked, 0);
	fixture_close(&fixture);
}

static void names_have_addresses_of_both_families(void **state)
{
	static const struct {
		const char *name;
		size_t count;
		const char *addresses[3];
	} cases[] = {
		{"one.test", 1, {"127.0.0.1:6379"}},
		{"both.test", 3, {"127.0.0.1:6379", "127.0.0.2:6379", "[::1]:6379"}},
		{"six.test", 1, {"[::1]:6379"}},
		{"ONE.Test", 1, {"127.0.0.1:6379"}},
		{"one.test.", 1, {"127.0.0.1:6379"}},
		{"many.test", DNS_ADDRESSES_MAX, {NULL}},
	};
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct asker asker;

		ask(&fixture, &asker, cases[i].name);
		SERVE_UNTIL(&fixture, asker.done_calls == 1);
		assert_int_equal(asker.status, 0);
		assert_int_equal(asker.count, cases[i].count);
		for (size_t k = 0; k < 3 && cases[i].addresses[k]; k++)
			assert_true(has_address(&asker, cases[i].addresses[k]));
	}
	fixture_close(&fixture);
}

static void failures_have_their_errno(void **state)
{
	static const struct {
		const char *name;
		int status;
	} cases[] = {
		{"nothing.test", -ENOENT}, {"empty.test", -ENOENT},	{"broken.test", -EIO},
		{"a..b", -ENOENT},	   {"silent.test", -ETIMEDOUT},
	};
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct asker asker;

		ask(&fixture, &asker, cases[i].name);
		SERVE_UNTIL(&fixture, asker.done_calls == 1);
		if (asker.status != cases[i].status)
			fail_msg("%s: %d", cases[i].name, asker.status);
	}
	fixture_close(&fixture);
}

static void no_server_at_all_is_an_error_soon(void **state)
{
	struct fixture fixture;
	struct asker asker;
	uint64_t before_ms = steady_ms();

	(void)state;
	fixture_open(&fixture);
	close(fixture.server.fd);
	fixture.server.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ask(&fixture, &asker, "one.test");
	TURN_UNTIL(&fixture.worker, asker.done_calls == 1);
	/* refused, both questions: long before the first of them is asked again */
	assert_int_equal(asker.status, -EIO);
	assert_true(steady_ms() - before_ms < 900);
	fixture_close(&fixture);
}

static void every_query_asks_anew(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	for (int i = 0; i < 3; i++) {
		int before = fixture.server.asked;
		struct asker asker;

		ask(&fixture, &asker, "one.test");
		SERVE_UNTIL(&fixture, asker.done_calls == 1);
		assert_true(fixture.server.asked > before);
	}
	fixture_close(&fixture);
}

static void many_queries_at_once_each_get_their_answer(void **state)
{
	static struct asker askers[DNS_LOOKUPS_MAX + 10];
	struct fixture fixture;
	size_t done = 0;

	(void)state;
	fixture_open(&fixture);
	for (size_t i = 0; i < ARRAY_LEN(askers); i++)
		ask(&fixture, &askers[i], i % 2 ? "one.test" : "six.test");
	SERVE_UNTIL(&fixture, ({
		done = 0;
		for (size_t i = 0; i < ARRAY_LEN(askers); i++)
			done += (size_t)askers[i].done_calls;
		done == ARRAY_LEN(askers);
	}));
	for (size_t i = 0; i < ARRAY_LEN(askers); i++) {
		bool over = i >= DNS_LOOKUPS_MAX;

		assert_int_equal(askers[i].status, over ? -ENOBUFS : 0);
		if (!over)
			assert_true(
				has_address(&askers[i], i % 2 ? "127.0.0.1:6379" : "[::1]:6379"));
	}
	fixture_close(&fixture);
}

static void cancelled_query_is_never_called(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	/*
	 * At every stage: asked, polled, answered but not delivered; and found in the hosts file.
	 */
	for (int turns = 0; turns < 8; turns++) {
		struct asker *asker = malloc(sizeof(*asker));
		struct asker *local = malloc(sizeof(*local));
		int cancelled = 0;

		ask(&fixture, asker, "one.test");
		ask(&fixture, local, "localhost");
		for (int i = 0; i < turns; i++) {
			assert_int_equal(worker_turn(&fixture.worker, 500), 0);
			dns_server_serve(&fixture.server);
		}
		cancelled += asker->done_calls == 0;
		dns_query_cancel(&asker->query);
		dns_query_cancel(&asker->query);
		dns_query_cancel(&local->query);
		if (turns == 0)
			assert_int_equal(cancelled, 1);
		/* The memory is ours at once. */
		memset(asker, 0xa5, sizeof(*asker));
		free(asker);
		free(local);
	}
	fixture_close(&fixture);
}

static void destroy_leaves_nothing_though_answers_are_missing(void **state)
{
	(void)state;
	for (int turns = 0; turns < 4; turns++) {
		struct fixture fixture;
		struct asker askers[10];

		fixture_open(&fixture);
		for (size_t i = 0; i < ARRAY_LEN(askers); i++)
			ask(&fixture, &askers[i], "silent.test");
		for (int i = 0; i < turns; i++)
			assert_int_equal(worker_turn(&fixture.worker, 500), 0);
		for (size_t i = 0; i < ARRAY_LEN(askers); i++)
			dns_query_cancel(&askers[i].query);
		fixture_close(&fixture);
		for (size_t i = 0; i < ARRAY_LEN(askers); i++)
			assert_int_equal(askers[i].done_calls, 0);
	}
}

static void unused_dns_is_destroyed(void **state)
{
	struct fixture fixture = {.fds_before = descriptor_count()};

	(void)state;
	harness_worker_init(&fixture.worker, 16, 16);
	assert_int_equal(dns_create(&fixture.dns, &fixture.worker), 0);
	fixture.server.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fixture_close(&fixture);
}

static void done_may_start_again_and_cancel_others(void **state)
{
	struct fixture fixture;
	struct asker first, second;

	(void)state;
	fixture_open(&fixture);
	ask(&fixture, &first, "one.test");
	first.again = true;
	SERVE_UNTIL(&fixture, first.done_calls == 2);
	assert_int_equal(first.status, 0);
	assert_int_equal(address_port(&first.addresses[0]), 7);

	ask(&fixture, &first, "localhost"); /* both are answered in one turn */
	ask(&fixture, &second, "localhost");
	first.cancel_other = true;
	first.other = &second;
	SERVE_UNTIL(&fixture, first.done_calls == 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(worker_turn(&fixture.worker, 0), 0);
	assert_int_equal(second.done_calls, 0);
	fixture_close(&fixture);
}

static void servers_that_are_none_are_refused(void **state)
{
	struct fixture fixture;
	struct asker asker;

	(void)state;
	fixture_open(&fixture);
	assert_int_equal(dns_set_servers(fixture.dns, "no server"), -EINVAL);
	ask(&fixture, &asker, "one.test"); /* the old ones stay */
	SERVE_UNTIL(&fixture, asker.done_calls == 1);
	assert_int_equal(asker.status, 0);
	fixture_close(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(localhost_comes_from_the_hosts_file),
		cmocka_unit_test(names_have_addresses_of_both_families),
		cmocka_unit_test(failures_have_their_errno),
		cmocka_unit_test(no_server_at_all_is_an_error_soon),
		cmocka_unit_test(every_query_asks_anew),
		cmocka_unit_test(many_queries_at_once_each_get_their_answer),
		cmocka_unit_test(cancelled_query_is_never_called),
		cmocka_unit_test(destroy_leaves_nothing_though_answers_are_missing),
		cmocka_unit_test(unused_dns_is_destroyed),
		cmocka_unit_test(done_may_start_again_and_cancel_others),
		cmocka_unit_test(servers_that_are_none_are_refused),
	};

	return cmocka_run_group_tests_name("dns", tests, NULL, NULL);
}
