/* environment: the variables of the table, read and checked. Thread: main, at start-up. */
#ifndef CONFIG_ENVIRONMENT_H
#define CONFIG_ENVIRONMENT_H

#include "config/option.h"

enum environment_origin { ORIGIN_DEFAULT, ORIGIN_ENVIRONMENT, ORIGIN_FILE };

/* Where the value of a row comes from: the variable, <variable>_FILE, or neither. */
enum environment_origin environment_origin(char *const *environment, const struct option_row *row);

/*
 * Sets every row, from the environment or its default; reports mistakes and unknown variables.
 * Returns 0 or -ENOMEM.
 */
int environment_load(char *const *environment, struct config *config, struct report *report);

#endif
