#include "config/config.h"

#include "base/arena.h"
#include "base/explain.h"
#include "base/vault.h"
#include "config/environment.h"
#include "config/rooms.h"
#include "config/routes.h"

#include <errno.h>
#include <stdlib.h>

#define CONFIG_MEMORY_MAX (16u << 20) /* every table at its limit takes about 8 MiB */

static struct config *config_create(void)
{
	struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return NULL;
	config->memory = malloc(sizeof(*config->memory));
	if (!config->memory) {
		free(config);
		return NULL;
	}
	arena_init(config->memory, CONFIG_MEMORY_MAX);
	return config;
}

static struct config_file *config_file_create(void)
{
	struct config_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->memory = malloc(sizeof(*file->memory));
	if (!file->memory) {
		free(file);
		return NULL;
	}
	arena_init(file->memory, CONFIG_MEMORY_MAX);
	atomic_init(&file->references, 1);
	return file;
}

struct config_file *config_file_get(struct config_file *file)
{
	/* relaxed: whoever takes one holds one */
	atomic_fetch_add_explicit(&file->references, 1, memory_order_relaxed);
	return file;
}

void config_file_put(struct config_file *file)
{
	/* release: our reading is done; acquire: so is everybody else's when it is freed */
	if (!file || atomic_fetch_sub_explicit(&file->references, 1, memory_order_acq_rel) > 1)
		return;
	if (file->release)
		file->release(file->compiled);
	arena_finish(file->memory);
	free(file->memory);
	free(file);
}

/* Returns NULL without memory; mistakes are in the report. */
static struct config_file *file_load(const char *path, config_compile_fn *compile,
				     struct report *report)
{
	struct config_file *file = config_file_create();

	if (!file)
		return NULL;
	if (path[0] != '\0' && (routes_load(file, path, report) != 0 ||
			       (compile && compile(file, path, report) != 0))) {
		config_file_put(file);
		return NULL;
	}
	return file;
}

/* `config` NULL: whatever the file is good for. */
static struct config_file *load_again(const struct config *config, const char *path,
				      config_compile_fn *compile, struct buf *out)
{
	struct report report = { .out = out };
	struct config_file *file = file_load(path, compile, &report);

	if (!file)
		report_mistake(&report, "GATEWAY_CONFIG_FILE", "%s", errno_text(ENOMEM));
	else if (config && report.mistake_count == 0)
		rooms_check(config, file, &report);
	if (report.mistake_count == 0)
		return file;
	config_file_put(file);
	return NULL;
}

struct config_file *config_file_load(const char *path, config_compile_fn *compile, struct buf *out)
{
	return load_again(NULL, path, compile, out);
}

struct config_file *config_file_reload(const struct config *config, config_compile_fn *compile,
				       struct buf *out)
{
	return load_again(config, config->config_file, compile, out);
}

/* Of a file with mistakes nobody knows what it would have asked for. */
static int load_file(struct config *config, char *const *environment, config_compile_fn *compile,
		     struct report *report)
{
	size_t mistake_count = report->mistake_count;

	config->file = file_load(config->config_file, compile, report);
	if (!config->file)
		return -ENOMEM;
	if (report->mistake_count > mistake_count)
		return 0;
	rooms_check(config, config->file, report);
	/* a variable with a mistake may have been the one that turns a gateway on */
	if (report->mistake_count == 0)
		rooms_check_environment(config, environment, report);
	return 0;
}

struct config *config_read(char *const *environment, config_compile_fn *compile, struct buf *out,
			   size_t *mistake_count)
{
	struct report report = {.out = out};
	struct config *config = config_create();
	int error = config ? environment_load(environment, config, &report) : -ENOMEM;

	if (!error)
		error = load_file(config, environment, compile, &report);
	if (error) {
		report_mistake(&report, "configuration", "%s", errno_text(-error));
		config_destroy(config);
		config = NULL;
	}
	*mistake_count = report.mistake_count;
	return config;
}

struct config *config_load(char *const *environment, config_compile_fn *compile, struct buf *out)
{
	size_t mistake_count;
	struct config *config = config_read(environment, compile, out, &mistake_count);

	if (mistake_count == 0)
		return config;
	config_destroy(config);
	return NULL;
}

void config_destroy(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		if (row->kind == OPTION_KIND_SECRET)
			option_forget(row, config);
	}
	config_file_put(config->file);
	arena_finish(config->memory);
	free(config->memory);
	free(config);
}

bool config_secrets_are_locked(const struct config *config)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		if (row->kind == OPTION_KIND_SECRET && option_is_filled(row, config) &&
		    !vault_is_locked(option_string(row, config)))
			return false;
	}
	return true;
}

static int compare(struct span key, const char *text)
{
	size_t len = strlen(text);
	size_t both = key.len < len ? key.len : len;
	int order = both > 0 ? memcmp(key.data, text, both) : 0;

	return order ? order : (key.len > len) - (key.len < len);
}

static bool matches(const struct config_command *command, struct span key)
{
	struct span text = span_from_cstr(command->message_type);

	return command->prefix ? span_starts_with(key, text) : span_equal(key, text);
}

int config_route(const struct config_file *file, struct span message_type)
{
	size_t low = 0, high = file->command_count; /* commands before `low` are ≤ the key */

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(message_type, file->commands[middle].message_type) >= 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* Every prefix of the key is the command before it, or one that this begins with. */
	for (int32_t at = (int32_t)low - 1; at >= 0; at = file->commands[at].shorter) {
		if (matches(&file->commands[at], message_type))
			return (int)file->commands[at].upstream;
	}
	return -1;
}

const struct config_breaker config_breaker_default = {
	.enabled = true,
	.failures = 10,
	/* one of two addresses that always fails must not close the way to the other */
	.ratio = 80,
	.calls = 20,
	.window_ms = 10000,
	.open_ms = 2000,
};

static bool breaker_equal(const struct config_breaker *a, const struct config_breaker *b)
{
	return a->enabled == b->enabled && a->failures == b->failures && a->ratio == b->ratio &&
	       a->calls == b->calls && a->window_ms == b->window_ms && a->open_ms == b->open_ms;
}

int config_upstream_find(const struct config_file *file, struct span name)
{
	for (size_t i = 0; i < file->upstream_count; i++) {
		if (span_equal(span_from_cstr(file->upstreams[i].name), name))
			return (int)i;
	}
	return -1;
}

bool config_upstream_equal(const struct config_upstream *a, const struct config_upstream *b)
{
	if (strcmp(a->name, b->name) != 0 || a->address_count != b->address_count ||
	    a->deadline_ms != b->deadline_ms || a->connections != b->connections ||
	    a->max_in_flight != b->max_in_flight || a->health != b->health ||
	    a->health_interval_ms != b->health_interval_ms ||
	    !breaker_equal(&a->breaker, &b->breaker))
		return false;
	for (size_t i = 0; i < a->address_count; i++)
		if (!endpoint_equal(&a->addresses[i], &b->addresses[i]))
			return false;
	return true;
}
