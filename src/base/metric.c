#include "base/metric.h"

#include "base/check.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#define FIRST_BOUND_US 50

const struct metric_family metric_glitches_family = {
	"gateway_glitches_total",
	"Faults of peers that were survived, by kind.",
	METRIC_COUNTER,
};

/* What one or more cells counted. A counter or gauge uses `value` only. */
struct total {
	uint64_t value; /* a gauge's: two's complement */
	uint64_t buckets[METRIC_BUCKETS];
	uint64_t sum_us;
};

struct cell {
	struct list link; /* in series.cells */
	const void *memory;
};

/* All cells of one family with the same labels. */
struct series {
	struct list link; /* in group.series, in order of registration */
	struct list cells;
	struct total retained; /* of cells that have left */
	char labels[];
};

/* All series of one family. */
struct group {
	struct list link; /* in registry.groups, by name */
	struct list series;
	const struct metric_family *family;
};

struct metric_registry {
	pthread_mutex_t lock; /* over all below; the cells themselves are atomics */
	struct list groups;
	size_t series_count; /* ≤ METRIC_SERIES_MAX */
};

static void bump(_Atomic uint64_t *cell, uint64_t amount)
{
	atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + amount,
			      memory_order_relaxed);
}

void metric_observe_us(struct metric_histogram *histogram, uint64_t us)
{
	unsigned at = 0;

	while (at < METRIC_BUCKETS - 1 && us > (uint64_t)FIRST_BOUND_US << at)
		at++;
	bump(&histogram->buckets[at], 1);
	bump(&histogram->sum_us, us);
}

struct metric_registry *metric_registry_create(void)
{
	struct metric_registry *registry = malloc(sizeof(*registry));

	if (!registry)
		return NULL;
	if (pthread_mutex_init(&registry->lock, NULL) != 0) {
		free(registry);
		return NULL;
	}
	list_init(&registry->groups);
	registry->series_count = 0;
	return registry;
}

static void series_destroy(struct series *series)
{
	LIST_FOR_EACH(&series->cells, link)
		free(CONTAINER_OF(link, struct cell, link));
	list_remove(&series->link);
	free(series);
}

static void group_destroy(struct group *group)
{
	LIST_FOR_EACH(&group->series, link)
		series_destroy(CONTAINER_OF(link, struct series, link));
	list_remove(&group->link);
	free(group);
}

void metric_registry_destroy(struct metric_registry *registry)
{
	if (!registry)
		return;
	LIST_FOR_EACH(&registry->groups, link)
		group_destroy(CONTAINER_OF(link, struct group, link));
	pthread_mutex_destroy(&registry->lock);
	free(registry);
}

/* Finds the family's group, or makes it in its place by name. */
static struct group *group_of(struct metric_registry *registry, const struct metric_family *family)
{
	struct list *position = &registry->groups;

	LIST_FOR_EACH(&registry->groups, link) {
		struct group *group = CONTAINER_OF(link, struct group, link);
		int order = strcmp(group->family->name, family->name);

		if (order == 0) {
			CHECK(group->family->type == family->type);
			return group;
		}
		if (order > 0) {
			position = link;
			break;
		}
	}

	struct group *group = malloc(sizeof(*group));

	if (!group)
		return NULL;
	group->family = family;
	list_init(&group->series);
	list_insert_before(position, &group->link);
	return group;
}

/* Makes room: the first series that no cell counts in any more goes. Returns whether there was one. */
static bool drop_left_behind(struct metric_registry *registry)
{
	LIST_FOR_EACH(&registry->groups, group_link) {
		struct group *group = CONTAINER_OF(group_link, struct group, link);

		LIST_FOR_EACH(&group->series, link) {
			struct series *series = CONTAINER_OF(link, struct series, link);

			if (!list_is_empty(&series->cells))
				continue;
			series_destroy(series);
			registry->series_count--;
			return true;
		}
	}
	return false;
}

static struct series *series_of(struct metric_registry *registry, struct group *group,
				const char *labels)
{
	LIST_FOR_EACH(&group->series, link) {
		struct series *series = CONTAINER_OF(link, struct series, link);

		if (strcmp(series->labels, labels) == 0)
			return series;
	}

	if (registry->series_count == METRIC_SERIES_MAX && !drop_left_behind(registry))
		return NULL;

	size_t bytes = strlen(labels) + 1;
	struct series *series = calloc(1, sizeof(*series) + bytes);

	if (!series)
		return NULL;
	memcpy(series->labels, labels, bytes);
	list_init(&series->cells);
	list_push_back(&group->series, &series->link);
	registry->series_count++;
	return series;
}

int metric_register(struct metric_registry *registry, const struct metric_family *family,
		    const char *labels, const void *memory)
{
	struct cell *cell = malloc(sizeof(*cell));

	if (!cell)
		return -ENOMEM;
	cell->memory = memory;
	pthread_mutex_lock(&registry->lock);

	/* An empty group that is left behind on failure is not rendered. */
	struct group *group = group_of(registry, family);
	struct series *series = group ? series_of(registry, group, labels) : NULL;

	if (series)
		list_push_back(&series->cells, &cell->link);
	pthread_mutex_unlock(&registry->lock);
	if (!series) {
		free(cell);
		return -ENOMEM;
	}
	return 0;
}

static void total_add(struct total *total, enum metric_type type, const void *memory)
{
	switch (type) {
	case METRIC_COUNTER:
		total->value += metric_value(memory);
		return;
	case METRIC_GAUGE:
	case METRIC_GAUGE_MS:
		total->value += (uint64_t)metric_gauge_value(memory);
		return;
	case METRIC_HISTOGRAM: {
		const struct metric_histogram *histogram = memory;

		for (unsigned i = 0; i < METRIC_BUCKETS; i++)
			total->buckets[i] += atomic_load_explicit(&histogram->buckets[i],
								  memory_order_relaxed);
		total->sum_us += atomic_load_explicit(&histogram->sum_us, memory_order_relaxed);
		return;
	}
	}
	UNREACHABLE("every type returns");
}

static bool is_gauge(enum metric_type type)
{
	return type == METRIC_GAUGE || type == METRIC_GAUGE_MS;
}

static void series_drop_cells(struct series *series, enum metric_type type, const void *first,
			      size_t bytes)
{
	LIST_FOR_EACH(&series->cells, link) {
		struct cell *cell = CONTAINER_OF(link, struct cell, link);

		if ((uintptr_t)cell->memory - (uintptr_t)first >= bytes)
			continue;
		if (!is_gauge(type))
			total_add(&series->retained, type, cell->memory);
		list_remove(&cell->link);
		free(cell);
	}
}

void metric_unregister(struct metric_registry *registry, const void *first, size_t bytes)
{
	pthread_mutex_lock(&registry->lock);
	LIST_FOR_EACH(&registry->groups, group_link) {
		struct group *group = CONTAINER_OF(group_link, struct group, link);

		LIST_FOR_EACH(&group->series, link) {
			struct series *series = CONTAINER_OF(link, struct series, link);

			series_drop_cells(series, group->family->type, first, bytes);
			if (is_gauge(group->family->type) && list_is_empty(&series->cells)) {
				series_destroy(series);
				registry->series_count--;
			}
		}
	}
	pthread_mutex_unlock(&registry->lock);
}

/* Seconds without trailing zeros; integers only, so that neither locale nor rounding has a say. */
static void append_seconds(struct buf *out, uint64_t us)
{
	unsigned digits = 6;
	uint64_t fraction = us % 1000000;

	while (digits > 0 && fraction % 10 == 0) {
		fraction /= 10;
		digits--;
	}
	buf_append_uint(out, us / 1000000);
	if (digits > 0)
		buf_printf(out, ".%0*" PRIu64, (int)digits, fraction);
}

static void append_milliseconds(struct buf *out, int64_t ms)
{
	if (ms < 0)
		buf_append_byte(out, '-');
	append_seconds(out, (ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms) * 1000);
}

static void append_text(struct buf *out, const char *text)
{
	buf_append(out, span_from_cstr(text));
}

/* "name{labels} " */
static void append_name(struct buf *out, const char *name, const char *suffix, const char *labels)
{
	append_text(out, name);
	append_text(out, suffix);
	if (labels[0] != '\0') {
		buf_append_byte(out, '{');
		append_text(out, labels);
		buf_append_byte(out, '}');
	}
	buf_append_byte(out, ' ');
}

static void render_histogram(const char *name, const char *labels, const struct total *total,
			     struct buf *out)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
		count += total->buckets[i];
		append_text(out, name);
		append_text(out, "_bucket{");
		append_text(out, labels);
		append_text(out, labels[0] != '\0' ? ",le=\"" : "le=\"");
		if (i < METRIC_BUCKETS - 1)
			append_seconds(out, (uint64_t)FIRST_BOUND_US << i);
		else
			append_text(out, "+Inf");
		append_text(out, "\"} ");
		buf_append_uint(out, count);
		buf_append_byte(out, '\n');
	}
	append_name(out, name, "_sum", labels);
	append_seconds(out, total->sum_us);
	buf_append_byte(out, '\n');
	append_name(out, name, "_count", labels);
	buf_append_uint(out, count);
	buf_append_byte(out, '\n');
}

static void render_series(const struct metric_family *family, struct series *series,
			  struct buf *out)
{
	struct total total = series->retained;

	LIST_FOR_EACH(&series->cells, link)
		total_add(&total, family->type, CONTAINER_OF(link, struct cell, link)->memory);

	if (family->type == METRIC_HISTOGRAM) {
		render_histogram(family->name, series->labels, &total, out);
		return;
	}
	append_name(out, family->name, "", series->labels);
	if (family->type == METRIC_GAUGE)
		buf_printf(out, "%" PRId64, (int64_t)total.value);
	else if (family->type == METRIC_GAUGE_MS)
		append_milliseconds(out, (int64_t)total.value);
	else
		buf_append_uint(out, total.value);
	buf_append_byte(out, '\n');
}

static const char *const type_names[] = {
	[METRIC_COUNTER] = "counter",
	[METRIC_GAUGE] = "gauge",
	[METRIC_GAUGE_MS] = "gauge",
	[METRIC_HISTOGRAM] = "histogram",
};

/* OpenMetrics names a counter's family without the _total of its samples. */
static struct span family_name(const struct metric_family *family, enum metric_format format)
{
	static const char total[] = "_total";
	struct span name = span_from_cstr(family->name);
	size_t suffix = sizeof(total) - 1;

	if (format == METRIC_OPENMETRICS && family->type == METRIC_COUNTER && name.len > suffix &&
	    span_equal(span_from(name, name.len - suffix), span_from_cstr(total)))
		return span_first(name, name.len - suffix);
	return name;
}

/* OpenMetrics escapes quotes in help too. */
static void append_help(struct buf *out, const char *help, enum metric_format format)
{
	for (; *help != '\0'; help++) {
		if (*help == '\\' || (*help == '"' && format == METRIC_OPENMETRICS))
			buf_append_byte(out, '\\');
		buf_append_byte(out, (uint8_t)*help);
	}
}

void metric_render_head(const struct metric_family *family, enum metric_format format, struct buf *out)
{
	struct span name = family_name(family, format);

	append_text(out, "# HELP ");
	buf_append(out, name);
	buf_append_byte(out, ' ');
	append_help(out, family->help, format);
	append_text(out, "\n# TYPE ");
	buf_append(out, name);
	buf_append_byte(out, ' ');
	append_text(out, type_names[family->type]);
	buf_append_byte(out, '\n');
}

void metric_render_as(struct metric_registry *registry, enum metric_format format, struct buf *out)
{
	pthread_mutex_lock(&registry->lock);
	LIST_FOR_EACH(&registry->groups, group_link) {
		struct group *group = CONTAINER_OF(group_link, struct group, link);

		if (list_is_empty(&group->series))
			continue;
		metric_render_head(group->family, format, out);
		LIST_FOR_EACH(&group->series, link)
			render_series(group->family, CONTAINER_OF(link, struct series, link), out);
	}
	pthread_mutex_unlock(&registry->lock);
}

void metric_render(struct metric_registry *registry, struct buf *out)
{
	metric_render_as(registry, METRIC_PROMETHEUS, out);
}
