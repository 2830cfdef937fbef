/* Reloads as one worker lives them: nobody listens at the addresses, so that nothing is there but
 * their life. */
#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static int callocs_until_failure = -1; /* never */

static void *failing_calloc(size_t count, size_t size)
{
	if (callocs_until_failure == 0)
		return NULL;
	if (callocs_until_failure > 0)
		callocs_until_failure--;
	return calloc(count, size);
}

#define calloc failing_calloc
#include "upstream/upstreams.c"
#undef calloc

#define TURNS_MAX 4000

static _Alignas(64) struct worker worker;
static struct upstreams upstreams;
static struct metric_registry *registry;
static bool stopped;

static struct config_file *load(const char *text)
{
	char path[] = "/tmp/test-upstreams-XXXXXX";
	int fd = mkstemp(path);
	struct buf report;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	buf_init(&report, 4096);
	struct config_file *file = config_file_load(path, NULL, &report);

	unlink(path);
	assert_int_equal(report.len, 0);
	buf_finish(&report);
	assert_non_null(file);
	return file;
}

static void turns(unsigned count)
{
	while (count-- > 0)
		assert_int_equal(worker_turn(&worker, 1000), 0);
}

static size_t service_count(void)
{
	size_t count = 0;

	LIST_FOR_EACH (&upstreams.services, link)
		count++;
	return count;
}

static struct upstream *route(const char *type)
{
	return upstreams_route(&upstreams, span_from_cstr(type));
}

static void prepare(const char *text)
{
	struct config_file *file = load(text);

	assert_int_equal(upstreams_prepare(&upstreams, file), 0);
	config_file_put(file);
}

#define TWO                                                                                        \
	"upstreams:\n"                                                                             \
	"  a: { addresses: ['unix:/none/a'] }\n"                                                   \
	"  b: { addresses: ['unix:/none/b'] }\n"                                                   \
	"commands:\n"                                                                              \
	"- { message_type: 'a.*', upstream: a }\n"                                                 \
	"- { message_type: 'b.*', upstream: b }\n"

static int set_up(void **state)
{
	const struct worker_options options = {
		.name = "worker-0",
		.ring = {.sq_entries = 64,
			 .cq_entries = 1024,
			 .file_slots = 64,
			 .buffer_count = 64,
			 .buffer_bytes = 4096},
		.clock = worker_clock_system,
	};
	char why[256];

	(void)state;
	registry = metric_registry_create();
	stopped = false;
	assert_int_equal(worker_init(&worker, &options, why, sizeof(why)), 0);
	turns(1);
	const struct upstreams_options how = {
		.worker = &worker, .message_bytes_max = 4096, .metrics = registry};
	struct config_file *file = load(TWO);

	assert_int_equal(upstreams_init(&upstreams, &how, file), 0);
	config_file_put(file);
	return 0;
}

static void note_stopped(void *context)
{
	*(bool *)context = true;
}

static int tear_down(void **state)
{
	(void)state;
	if (upstreams.is_started) {
		upstreams_stop(&upstreams, note_stopped, &stopped);
		for (int n = 0; n < TURNS_MAX && !stopped; n++)
			turns(1);
		assert_true(stopped);
	}
	upstreams_finish(&upstreams);
	for (int n = 0; n < TURNS_MAX && worker_ops_in_flight(&worker) > 0; n++)
		turns(1);
	worker_finish(&worker);
	metric_registry_destroy(registry);
	return 0;
}

static void until_services(size_t wanted)
{
	for (int n = 0; n < TURNS_MAX && service_count() != wanted; n++)
		turns(1);
	assert_int_equal(service_count(), wanted);
}

static void what_is_the_same_is_kept(void **state)
{
	struct upstream *a = route("a.x"), *b = route("b.x");

	(void)state;
	upstreams_start(&upstreams);
	turns(3);
	prepare("upstreams:\n"
		"  b: { addresses: ['unix:/none/b'], deadline: 2s }\n" /* the default, in words */
		"  a: { addresses: ['unix:/none/a'] }\n"
		"commands: [{ message_type: 'x.*', upstream: a }, { message_type: 'a.*', upstream: "
		"b }]\n");
	assert_ptr_equal(route("a.x"), a); /* nothing changes before the commit */
	assert_null(route("x.x"));
	upstreams_commit(&upstreams);
	assert_ptr_equal(route("x.x"), a);
	assert_ptr_equal(route("a.x"), b);
	assert_null(route("b.x"));
	assert_int_equal(service_count(), 2);
}

static void every_difference_makes_another(void **state)
{
	static const char *const bodies[] = {
		"addresses: ['unix:/none/other']",
		"addresses: ['unix:/none/a', 'unix:/none/b']",
		"addresses: ['unix:/none/a'], deadline: 3s",
		"addresses: ['unix:/none/a'], connections: 1",
		"addresses: ['unix:/none/a'], max_in_flight: 7",
		"addresses: ['unix:/none/a'], health: false",
		"addresses: ['unix:/none/a'], health_interval: 9s",
		"addresses: ['unix:/none/a'], breaker: { enabled: false }",
		"addresses: ['unix:/none/a'], breaker: { failures: 9 }",
		"addresses: ['unix:/none/a'], breaker: { ratio: 9 }",
		"addresses: ['unix:/none/a'], breaker: { calls: 9 }",
		"addresses: ['unix:/none/a'], breaker: { window: 9s }",
		"addresses: ['unix:/none/a'], breaker: { open: 9s }",
	};

	(void)state;
	upstreams_start(&upstreams);
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		struct upstream *before = route("a.x"), *b = route("b.x");
		char text[512];

		snprintf(text, sizeof(text),
			 "upstreams: { a: { %s }, b: { addresses: ['unix:/none/b'] } }\n"
			 "commands: [{ message_type: 'a.*', upstream: a }, { message_type: 'b.*', "
			 "upstream: b }]\n",
			 bodies[i]);
		prepare(text);
		upstreams_commit(&upstreams);
		assert_ptr_not_equal(route("a.x"), before);
		assert_ptr_equal(route("b.x"), b);
		until_services(2); /* the old one has no calls: it ends */
	}
}

static void abandoned_file_leaves_no_trace(void **state)
{
	struct upstream *a = route("a.x");

	(void)state;
	upstreams_start(&upstreams);
	prepare("upstreams: { a: { addresses: ['unix:/none/a'] }, c: { addresses: ['unix:/none/c'] "
		"} }\n");
	assert_int_equal(service_count(), 3);
	upstreams_abandon(&upstreams);
	upstreams_abandon(&upstreams);
	assert_int_equal(service_count(), 2);
	assert_ptr_equal(route("a.x"), a);
}

static void file_without_memory_for_it_leaves_no_trace(void **state)
{
	struct config_file *file = load("upstreams:\n"
					"  a: { addresses: ['unix:/none/a'] }\n"
					"  c: { addresses: ['unix:/none/c'] }\n"
					"  d: { addresses: ['unix:/none/d'] }\n");
	struct upstream *a = route("a.x");

	(void)state;
	upstreams_start(&upstreams);
	for (int good = 0; good < 4; good++) { /* the array, the past, c's and d's service */
		callocs_until_failure = good;
		int error = upstreams_prepare(&upstreams, file);

		callocs_until_failure = -1;
		assert_int_equal(error, -ENOMEM);
		assert_int_equal(service_count(), 2);
		assert_ptr_equal(route("a.x"), a);
	}
	assert_int_equal(upstreams_prepare(&upstreams, file), 0);
	upstreams_commit(&upstreams);
	config_file_put(file);
	assert_int_equal(service_count(), 4); /* b is on its way out */
	until_services(3);
}

static void what_is_held_is_there_until_released(void **state)
{
	struct config_file *first = config_file_get(upstreams.current.file);
	struct upstream *a = route("a.x"), *b = route("b.x");

	(void)state;
	upstreams_start(&upstreams);
	upstreams_hold(&upstreams);
	upstreams_hold(&upstreams);
	prepare("upstreams: { b: { addresses: ['unix:/none/b'] } }\n"
		"commands: [{ message_type: 'b.*', upstream: b }]\n");
	upstreams_commit(&upstreams);

	struct config_file *second = config_file_get(upstreams.current.file);

	upstreams_hold(&upstreams);
	prepare("");
	upstreams_commit(&upstreams);
	turns(20);
	assert_null(route("a.x")); /* for new calls it has gone */
	assert_ptr_equal(upstreams_at(&upstreams, first, 0), a);
	assert_ptr_equal(upstreams_at(&upstreams, first, 1), b);
	assert_ptr_equal(upstreams_at(&upstreams, second, 0), b);
	upstreams_release(&upstreams, first);
	assert_ptr_equal(upstreams_at(&upstreams, first, 0), a);
	upstreams_release(&upstreams, first);
	assert_null(upstreams_at(&upstreams, first, 0));
	until_services(1); /* b: the second file's holder is there yet */
	assert_ptr_equal(upstreams_at(&upstreams, second, 0), b);
	upstreams_release(&upstreams, second);
	until_services(0);
	config_file_put(first);
	config_file_put(second);
}

static void what_is_held_at_the_end_ends_with_the_rest(void **state)
{
	struct config_file *first = config_file_get(upstreams.current.file);

	(void)state;
	upstreams_start(&upstreams);
	upstreams_hold(&upstreams);
	prepare("");
	upstreams_commit(&upstreams);
	upstreams_stop(&upstreams, note_stopped, &stopped);
	assert_null(upstreams_at(&upstreams, first, 0));
	upstreams_release(&upstreams, first);
	config_file_put(first);
	for (int n = 0; n < TURNS_MAX && !stopped; n++)
		turns(1);
	assert_true(stopped);
	upstreams.is_started = false; /* for tear_down */
}

static void empty_file_ends_all(void **state)
{
	(void)state;
	upstreams_start(&upstreams);
	turns(3);
	prepare("");
	upstreams_commit(&upstreams);
	assert_null(route("a.x"));
	until_services(0);
	prepare(TWO);
	upstreams_commit(&upstreams);
	assert_non_null(route("a.x"));
}

static void file_before_the_start_is_used_at_the_start(void **state)
{
	(void)state;
	prepare("upstreams: { c: { addresses: ['unix:/none/c'] } }\ncommands: [{ message_type: "
		"'*', upstream: c }]\n");
	upstreams_commit(&upstreams);
	assert_int_equal(service_count(), 1); /* never started: gone at once */
	upstreams_start(&upstreams);
	assert_non_null(route("a.x"));
}

static void end_takes_the_prepared_and_the_retired_with_it(void **state)
{
	(void)state;
	upstreams_start(&upstreams);
	turns(2);
	prepare("upstreams: { c: { addresses: ['unix:/none/c'] } }\n");
	upstreams_commit(&upstreams); /* a and b retire */
	prepare(TWO);
	/* tear_down stops them all, in whatever state they are */
}

static void never_started_is_finished_at_once(void **state)
{
	(void)state;
	prepare("upstreams: { c: { addresses: ['unix:/none/c'] } }\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_the_same_is_kept),
		TEST(every_difference_makes_another),
		TEST(abandoned_file_leaves_no_trace),
		TEST(file_without_memory_for_it_leaves_no_trace),
		TEST(what_is_held_is_there_until_released),
		TEST(what_is_held_at_the_end_ends_with_the_rest),
		TEST(empty_file_ends_all),
		TEST(file_before_the_start_is_used_at_the_start),
		TEST(end_takes_the_prepared_and_the_retired_with_it),
		TEST(never_started_is_finished_at_once),
	};

	return cmocka_run_group_tests_name("upstreams", tests, NULL, NULL);
}
