/* routes: the YAML file with upstreams and commands (edge.md §2.3). Thread: main. */
#ifndef CONFIG_ROUTES_H
#define CONFIG_ROUTES_H

#include "config/config.h"
#include "config/report.h"

#define ROUTES_FILE_MAX (4u << 20) /* bytes: COMMANDS_MAX long rows fit several times */

/*
 * Reads the file at `path` into `file`'s upstreams and commands, which live in its arena.
 * Every mistake is reported with its place. Returns 0 or -ENOMEM.
 */
int routes_load(struct config_file *file, const char *path, struct report *report);

/* The same from bytes; `path` is for the report. */
int routes_parse(struct config_file *file, const char *path, struct span text, struct report *report);

/* Sorts the commands and links each to the next shorter prefix, as config_route needs them. */
void routes_link(struct config_command *commands, size_t count);

#endif
