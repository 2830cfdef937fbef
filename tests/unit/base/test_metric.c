#include "unit/base/base_test.h"

#include "unit/base/failing_alloc.h"

#include "base/metric.c"

static const struct metric_family requests = {
	.name = "requests_total",
	.help = "Requests answered.",
	.type = METRIC_COUNTER,
};
static const struct metric_family connected = {
	.name = "connected",
	.help = "Whether there is a connection.",
	.type = METRIC_GAUGE,
};
static const struct metric_family latency = {
	.name = "latency_seconds",
	.help = "Time to answer.",
	.type = METRIC_HISTOGRAM,
};

static char rendered[64 << 10];

static const char *render(struct metric_registry *registry)
{
	struct buf out;

	buf_init(&out, sizeof(rendered) - 1);
	metric_render(registry, &out);
	assert_false(out.failed);
	if (out.len > 0)
		memcpy(rendered, out.data, out.len);
	rendered[out.len] = '\0';
	buf_finish(&out);
	return rendered;
}

static void metric_render_of_nothing_is_empty(void **state)
{
	struct metric_registry *registry = metric_registry_create();

	(void)state;
	assert_string_equal(render(registry), "");
	metric_registry_destroy(registry);
	metric_registry_destroy(NULL);
}

static void metric_render_sorts_families_and_keeps_the_order_of_labels(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct metric_counter ok = { 0 }, bad = { 0 };
	struct metric_gauge up = { 0 };

	(void)state;
	metric_register(registry, &requests, "status=\"500\"", &bad);
	metric_register(registry, &connected, "", &up);
	metric_register(registry, &requests, "status=\"200\"", &ok);
	metric_add(&ok, 3);
	metric_add(&bad, 1);
	metric_gauge_set(&up, 1);
	metric_gauge_add(&up, -8);
	assert_string_equal(render(registry), "# HELP connected Whether there is a connection.\n"
					      "# TYPE connected gauge\n"
					      "connected -7\n"
					      "# HELP requests_total Requests answered.\n"
					      "# TYPE requests_total counter\n"
					      "requests_total{status=\"500\"} 1\n"
					      "requests_total{status=\"200\"} 3\n");
	metric_registry_destroy(registry);
}

static void metric_render_orders_names_whatever_the_order_of_registration(void **state)
{
	static const struct metric_family families[] = {
		{ .name = "a", .help = "A.", .type = METRIC_COUNTER },
		{ .name = "b", .help = "B.", .type = METRIC_COUNTER },
		{ .name = "c", .help = "C.", .type = METRIC_COUNTER },
	};
	static const int orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
					 { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		struct metric_registry *registry = metric_registry_create();
		struct metric_counter cell = { 0 };

		for (int n = 0; n < 3; n++)
			metric_register(registry, &families[orders[i][n]], "", &cell);
		assert_string_equal(render(registry), "# HELP a A.\n# TYPE a counter\na 0\n"
						      "# HELP b B.\n# TYPE b counter\nb 0\n"
						      "# HELP c C.\n# TYPE c counter\nc 0\n");
		metric_registry_destroy(registry);
	}
}

static void metric_render_sums_cells_of_equal_name_and_labels(void **state)
{
	const struct metric_family twin = requests; /* another copy of the same family */
	struct metric_registry *registry = metric_registry_create();
	struct metric_counter counters[3] = { { 1 }, { 20 }, { 300 } };
	struct metric_gauge gauges[2] = { { -5 }, { 3 } };

	(void)state;
	metric_register(registry, &requests, "a=\"1\"", &counters[0]);
	metric_register(registry, &twin, "a=\"1\"", &counters[1]);
	metric_register(registry, &requests, "a=\"2\"", &counters[2]);
	metric_register(registry, &connected, "", &gauges[0]);
	metric_register(registry, &connected, "", &gauges[1]);
	render(registry);
	assert_non_null(strstr(rendered, "\nrequests_total{a=\"1\"} 21\n"));
	assert_non_null(strstr(rendered, "\nrequests_total{a=\"2\"} 300\n"));
	assert_non_null(strstr(rendered, "\nconnected -2\n"));
	metric_registry_destroy(registry);
}

static void metric_render_escapes_backslashes_in_help(void **state)
{
	const struct metric_family family = { .name = "x", .help = "a\\b", .type = METRIC_GAUGE };
	struct metric_registry *registry = metric_registry_create();
	struct metric_gauge cell = { 0 };

	(void)state;
	metric_register(registry, &family, "", &cell);
	assert_string_equal(render(registry), "# HELP x a\\\\b\n# TYPE x gauge\nx 0\n");
	metric_registry_destroy(registry);
}

static void metric_histogram_is_cumulative_in_seconds(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct metric_histogram cell = { 0 };

	(void)state;
	metric_register(registry, &latency, "role=\"r\"", &cell);
	metric_observe_us(&cell, 0);
	metric_observe_us(&cell, 50);
	metric_observe_us(&cell, 51);
	metric_observe_us(&cell, 1600000);
	metric_observe_us(&cell, 60000000);
	assert_string_equal(render(registry),
			    "# HELP latency_seconds Time to answer.\n"
			    "# TYPE latency_seconds histogram\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.00005\"} 2\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0001\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0002\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0004\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0008\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0016\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0032\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0064\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0128\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0256\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.0512\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.1024\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.2048\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.4096\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"0.8192\"} 3\n"
			    "latency_seconds_bucket{role=\"r\",le=\"1.6384\"} 4\n"
			    "latency_seconds_bucket{role=\"r\",le=\"3.2768\"} 4\n"
			    "latency_seconds_bucket{role=\"r\",le=\"6.5536\"} 4\n"
			    "latency_seconds_bucket{role=\"r\",le=\"13.1072\"} 4\n"
			    "latency_seconds_bucket{role=\"r\",le=\"+Inf\"} 5\n"
			    "latency_seconds_sum{role=\"r\"} 61.600101\n"
			    "latency_seconds_count{role=\"r\"} 5\n");
	metric_registry_destroy(registry);
}

static void metric_histogram_without_labels_has_only_le(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct metric_histogram cells[2] = { 0 };

	(void)state;
	metric_register(registry, &latency, "", &cells[0]);
	metric_register(registry, &latency, "", &cells[1]);
	metric_observe_us(&cells[0], 1000000);
	metric_observe_us(&cells[1], 2000000);
	render(registry);
	assert_non_null(strstr(rendered, "\nlatency_seconds_bucket{le=\"0.8192\"} 0\n"));
	assert_non_null(strstr(rendered, "\nlatency_seconds_bucket{le=\"1.6384\"} 1\n"));
	assert_non_null(strstr(rendered, "\nlatency_seconds_bucket{le=\"+Inf\"} 2\n"));
	assert_non_null(strstr(rendered, "\nlatency_seconds_sum 3\nlatency_seconds_count 2\n"));
	metric_registry_destroy(registry);
}

static void metric_observe_puts_every_border_into_its_bucket(void **state)
{
	(void)state;
	for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
		struct metric_histogram cell = { 0 };
		bool last = i == METRIC_BUCKETS - 1;

		metric_observe_us(&cell, last ? UINT64_MAX / 2 : UINT64_C(50) << i);
		metric_observe_us(&cell, i ? (UINT64_C(50) << (i - 1)) + 1 : 0);
		for (unsigned at = 0; at < METRIC_BUCKETS; at++)
			assert_int_equal(cell.buckets[at], at == i ? 2 : 0);
	}
}

static void metric_renders_milliseconds_as_seconds(void **state)
{
	(void)state;
	static const struct metric_family lag = {
		.name = "lag_seconds", .help = "Lag.", .type = METRIC_GAUGE_MS,
	};
	struct metric_registry *registry = metric_registry_create();
	struct metric_gauge cells[2] = { { 1500 }, { -1750 } };

	metric_register(registry, &lag, "s=\"a\"", &cells[0]);
	metric_register(registry, &lag, "s=\"b\"", &cells[1]);
	assert_string_equal(render(registry), "# HELP lag_seconds Lag.\n# TYPE lag_seconds gauge\n"
					      "lag_seconds{s=\"a\"} 1.5\nlag_seconds{s=\"b\"} -1.75\n");
	metric_unregister(registry, cells, sizeof(cells));
	assert_string_equal(render(registry), "");
	metric_registry_destroy(registry);
}

static void metric_unregister_keeps_totals_and_drops_gauges(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct owner {
		struct metric_counter counter;
		struct metric_gauge gauge;
		struct metric_histogram histogram;
	} owners[2] = { 0 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		metric_register(registry, &requests, "", &owners[i].counter);
		metric_register(registry, &connected, "", &owners[i].gauge);
		metric_register(registry, &latency, "", &owners[i].histogram);
		metric_add(&owners[i].counter, 10);
		metric_gauge_set(&owners[i].gauge, 4);
		metric_observe_us(&owners[i].histogram, 1000);
	}
	metric_unregister(registry, &owners[0], sizeof(owners[0]));
	memset(&owners[0], 0xff, sizeof(owners[0])); /* no longer read */
	metric_add(&owners[1].counter, 1);
	render(registry);
	assert_non_null(strstr(rendered, "\nrequests_total 21\n"));
	assert_non_null(strstr(rendered, "\nconnected 4\n"));
	assert_non_null(strstr(rendered, "\nlatency_seconds_sum 0.002\nlatency_seconds_count 2\n"));

	metric_unregister(registry, &owners[1], sizeof(owners[1]));
	render(registry);
	assert_non_null(strstr(rendered, "\nrequests_total 21\n"));
	assert_null(strstr(rendered, "connected"));
	assert_non_null(strstr(rendered, "\nlatency_seconds_count 2\n"));

	struct metric_counter again = { 5 };

	metric_register(registry, &requests, "", &again);
	assert_non_null(strstr(render(registry), "\nrequests_total 26\n"));
	metric_registry_destroy(registry);
}

static void metric_unregister_takes_the_range_and_no_neighbour(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct metric_gauge gauges[4] = { { 1 }, { 10 }, { 100 }, { 1000 } };

	(void)state;
	for (int i = 0; i < 4; i++)
		metric_register(registry, &connected, "", &gauges[i]);
	metric_unregister(registry, &gauges[1], 2 * sizeof(gauges[0]));
	assert_non_null(strstr(render(registry), "\nconnected 1001\n"));
	metric_unregister(registry, &gauges[0], 0);
	assert_non_null(strstr(render(registry), "\nconnected 1001\n"));
	metric_registry_destroy(registry);
}

static void register_two_types(void)
{
	const struct metric_family gauge = { .name = "requests_total", .type = METRIC_GAUGE };
	struct metric_registry *registry = metric_registry_create();
	struct metric_counter cell = { 0 };

	metric_register(registry, &requests, "", &cell);
	metric_register(registry, &gauge, "", &cell);
}

static void metric_register_checks_that_a_name_has_one_type(void **state)
{
	(void)state;
	assert_aborts(register_two_types, "check failed: group->family->type == family->type");
}

static void metric_register_survives_every_failing_allocation(void **state)
{
	struct metric_counter cell = { 9 };

	(void)state;
	allocs_until_failure = 0;
	assert_null(metric_registry_create());
	for (long good = 0; good < 3; good++) {
		allocs_until_failure = -1;

		struct metric_registry *registry = metric_registry_create();

		allocs_until_failure = good;
		assert_int_equal(metric_register(registry, &requests, "a=\"1\"", &cell), -ENOMEM);
		assert_string_equal(render(registry), "");
		allocs_until_failure = -1;
		assert_int_equal(metric_register(registry, &requests, "a=\"1\"", &cell), 0);
		assert_non_null(strstr(render(registry), "\nrequests_total{a=\"1\"} 9\n"));
		metric_registry_destroy(registry);
	}
}

static void metric_register_refuses_more_series_than_the_maximum(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct metric_counter counter = { 0 };
	struct metric_gauge gauge = { 0 };
	char labels[32];

	(void)state;
	assert_int_equal(metric_register(registry, &connected, "", &gauge), 0);
	for (int i = 1; i < METRIC_SERIES_MAX; i++) {
		snprintf(labels, sizeof(labels), "n=\"%d\"", i);
		assert_int_equal(metric_register(registry, &requests, labels, &counter), 0);
	}
	assert_int_equal(metric_register(registry, &requests, "n=\"x\"", &counter), -ENOMEM);
	assert_int_equal(metric_register(registry, &requests, "n=\"1\"", &counter), 0);
	metric_unregister(registry, &gauge, sizeof(gauge)); /* its series goes: room for one */
	assert_int_equal(metric_register(registry, &requests, "n=\"x\"", &counter), 0);
	assert_int_equal(metric_register(registry, &requests, "n=\"y\"", &counter), -ENOMEM);
	metric_registry_destroy(registry);
}

static void metric_series_without_cells_makes_room_at_the_maximum(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct metric_counter old = {0}, counter = {0};
	char labels[32];

	(void)state;
	for (int i = 0; i < METRIC_SERIES_MAX; i++) {
		snprintf(labels, sizeof(labels), "n=\"%d\"", i);
		assert_int_equal(
			metric_register(registry, &requests, labels, i % 2 ? &counter : &old), 0);
	}
	assert_int_equal(metric_register(registry, &requests, "n=\"x\"", &counter), -ENOMEM);
	metric_unregister(registry, &old, sizeof(old));
	for (int i = 0; i < METRIC_SERIES_MAX / 2; i++) {
		snprintf(labels, sizeof(labels), "m=\"%d\"", i);
		assert_int_equal(metric_register(registry, &requests, labels, &counter), 0);
	}
	assert_int_equal(metric_register(registry, &requests, "n=\"x\"", &counter), -ENOMEM);
	metric_registry_destroy(registry);
}

static void metric_render_as_openmetrics_names_counters_without_total(void **state)
{
	static const struct metric_family odd = {"odd", "A \"quoted\" \\ word.", METRIC_COUNTER};
	struct metric_registry *registry = metric_registry_create();
	struct metric_counter counter = {0};
	struct metric_gauge gauge = {0};
	struct buf out;

	(void)state;
	metric_add(&counter, 3);
	metric_register(registry, &requests, "a=\"1\"", &counter);
	metric_register(registry, &odd, "", &counter);
	metric_register(registry, &connected, "", &gauge);
	buf_init(&out, 4096);
	metric_render_as(registry, METRIC_OPENMETRICS, &out);
	buf_append_byte(&out, '\0');
	assert_string_equal((const char *)out.data,
			    "# HELP connected Whether there is a connection.\n# TYPE connected "
			    "gauge\nconnected 0\n"
			    "# HELP odd A \\\"quoted\\\" \\\\ word.\n# TYPE odd counter\nodd 3\n"
			    "# HELP requests Requests answered.\n# TYPE requests counter\n"
			    "requests_total{a=\"1\"} 3\n");
	buf_clear(&out, 4096);
	metric_render_as(registry, METRIC_PROMETHEUS, &out);
	buf_append_byte(&out, '\0');
	assert_non_null(strstr((const char *)out.data, "# HELP odd A \"quoted\" \\\\ word.\n"));
	assert_non_null(strstr((const char *)out.data, "# TYPE requests_total counter\n"));
	buf_finish(&out);
	metric_registry_destroy(registry);
}

static void metric_render_into_a_small_buffer_fails_as_a_whole(void **state)
{
	struct metric_registry *registry = metric_registry_create();
	struct metric_counter cell = { 0 };
	struct buf out;

	(void)state;
	metric_register(registry, &requests, "", &cell);
	buf_init(&out, 60);
	metric_render(registry, &out);
	assert_true(out.failed);
	assert_true(out.len <= 60);
	buf_finish(&out);
	metric_registry_destroy(registry);
}

#define WRITERS 3
#define ADDS 20000

static struct metric_registry *shared;
static atomic_int writers_done;

/* Each writer's cell comes and goes: what it counted stays. */
static void *write_metrics(void *argument)
{
	(void)argument;
	for (int round = 0; round < 4; round++) {
		struct {
			struct metric_counter counter;
			struct metric_histogram histogram;
		} *cells = test_alloc_zeroed(1, sizeof(*cells));

		metric_register(shared, &requests, "", &cells->counter);
		metric_register(shared, &latency, "", &cells->histogram);
		for (uint64_t i = 0; i < ADDS / 4; i++) {
			metric_add(&cells->counter, 1);
			metric_observe_us(&cells->histogram, i);
		}
		metric_unregister(shared, cells, sizeof(*cells));
		free(cells);
	}
	atomic_fetch_add(&writers_done, 1);
	return NULL;
}

static uint64_t value_after(const char *text, const char *name)
{
	const char *found = strstr(text, name);

	return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

static void metric_render_beside_writers_never_goes_back(void **state)
{
	pthread_t threads[WRITERS];
	uint64_t before = 0, count_before = 0;

	(void)state;
	shared = metric_registry_create();
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_metrics, NULL), 0);
	for (bool done = false; !done;) {
		done = atomic_load(&writers_done) == WRITERS;

		const char *text = render(shared);
		uint64_t now = value_after(text, "\nrequests_total ");
		uint64_t count = value_after(text, "\nlatency_seconds_count ");

		assert_true(now >= before && count >= count_before);
		assert_true(count == value_after(text, "le=\"+Inf\"} "));
		before = now;
		count_before = count;
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(before, WRITERS * ADDS);
	assert_int_equal(count_before, WRITERS * ADDS);
	metric_registry_destroy(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(metric_render_of_nothing_is_empty),
		cmocka_unit_test(metric_render_sorts_families_and_keeps_the_order_of_labels),
		cmocka_unit_test(metric_render_orders_names_whatever_the_order_of_registration),
		cmocka_unit_test(metric_render_sums_cells_of_equal_name_and_labels),
		cmocka_unit_test(metric_render_escapes_backslashes_in_help),
		cmocka_unit_test(metric_histogram_is_cumulative_in_seconds),
		cmocka_unit_test(metric_histogram_without_labels_has_only_le),
		cmocka_unit_test(metric_observe_puts_every_border_into_its_bucket),
		cmocka_unit_test(metric_renders_milliseconds_as_seconds),
		cmocka_unit_test(metric_unregister_keeps_totals_and_drops_gauges),
		cmocka_unit_test(metric_unregister_takes_the_range_and_no_neighbour),
		cmocka_unit_test(metric_register_checks_that_a_name_has_one_type),
		cmocka_unit_test(metric_register_survives_every_failing_allocation),
		cmocka_unit_test(metric_register_refuses_more_series_than_the_maximum),
		cmocka_unit_test(metric_series_without_cells_makes_room_at_the_maximum),
		cmocka_unit_test(metric_render_as_openmetrics_names_counters_without_total),
		cmocka_unit_test(metric_render_into_a_small_buffer_fails_as_a_whole),
		cmocka_unit_test(metric_render_beside_writers_never_goes_back),
	};

	return cmocka_run_group_tests_name("metric", tests, NULL, NULL);
}
