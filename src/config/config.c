#include "config/config.h"

#include "base/arena.h"
#include "config/environment.h"
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

struct config *config_load(char *const *environment, struct buf *out)
{
	struct report report = { .out = out };
	struct config *config = config_create();
	int error = config ? environment_load(environment, config, &report) : -ENOMEM;

	if (!error && config->config_file[0] != '\0')
		error = routes_load(config, &report);
	if (error)
		report_mistake(&report, "configuration", "%s", strerrordesc_np(-error));
	if (report.mistake_count == 0)
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
		const char *value = row->kind == OPTION_KIND_SECRET ? option_string(row, config) : NULL;

		if (value)
			explicit_bzero((char *)(uintptr_t)value, strlen(value));
	}
	arena_finish(config->memory);
	free(config->memory);
	free(config);
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

int config_route(const struct config *config, struct span message_type)
{
	size_t low = 0, high = config->command_count; /* commands before `low` are ≤ the key */

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(message_type, config->commands[middle].message_type) >= 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* Every prefix of the key is the command before it, or one that this begins with. */
	for (int32_t at = (int32_t)low - 1; at >= 0; at = config->commands[at].shorter) {
		if (matches(&config->commands[at], message_type))
			return (int)config->commands[at].upstream;
	}
	return -1;
}
