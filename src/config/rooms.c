#include "config/rooms.h"

#include "config/environment.h"

#include <inttypes.h>
#include <stdio.h>

#define NO_EFFECT "has no effect, because the edge gateway is not configured"

/* Each row's value decides, not the variable: an empty address is none. */
bool config_has_edge(const struct config *config)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		if ((row->flags & OPTION_REQUIRED) && option_is_filled(row, config))
			return true;
	}
	return false;
}

static void report_nothing(struct report *report)
{
	struct buf names;

	buf_init(&names, 1024);
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		if (row->flags & OPTION_REQUIRED)
			buf_printf(&names, "%s%s", names.len > 0 ? ", " : "", row->variable);
	}
	report_mistake(report, "configuration",
		       "nothing to do, no gateway is configured; the edge gateway needs %.*s; "
		       "the API gateway needs a section rest in GATEWAY_CONFIG_FILE",
		       SPAN_ARGS(buf_span(&names)));
	buf_finish(&names);
}

static void warn_at(const char *path, struct config_place place, const char *what,
		    struct report *report)
{
	char where[4400];

	snprintf(where, sizeof(where), "%s:%" PRIu32 ":%" PRIu32, path, place.line, place.column);
	report_warning(report, where, "%s " NO_EFFECT, what);
}

void rooms_check(const struct config *config, const struct config_file *file, struct report *report)
{
	if (config_has_edge(config))
		return;
	if (!file->rest) {
		report_nothing(report);
		return;
	}
	if (file->command_count > 0)
		warn_at(config->config_file, file->commands_place, "commands", report);
	for (size_t i = 0; i < file->rest->grpc_web.count; i++) {
		const struct config_text *name = &file->rest->grpc_web.items[i];

		if (strcmp(name->text, EDGE_SERVICE) == 0)
			warn_at(config->config_file, name->place, "grpc_web: " EDGE_SERVICE,
				report);
	}
}

void rooms_check_environment(const struct config *config, char *const *environment,
			     struct report *report)
{
	if (config_has_edge(config))
		return;
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		if ((row->flags & OPTION_EDGE) &&
		    environment_origin(environment, row) != ORIGIN_DEFAULT)
			report_warning(report, row->variable, NO_EFFECT);
	}
}
