/* value: the text forms of durations, sizes and booleans (edge.md §7). Any thread. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "base/span.h"

/*
 * "250ms", "5s", "1m30s", "2h", "0": units once each, large before small.
 * Returns 0, -EINVAL or -ERANGE.
 */
int value_parse_duration(struct span text, uint64_t *ms);

/* "4096", "16KiB", "4MiB", "1GiB". Returns 0, -EINVAL or -ERANGE. */
int value_parse_size(struct span text, uint64_t *bytes);

/* "true", "false", "1", "0". Returns 0 or -EINVAL. */
int value_parse_bool(struct span text, bool *flag);

#define VALUE_TEXT_MAX 40

/* Text that parses back to the same. */
struct value_text {
	char text[VALUE_TEXT_MAX];
};

struct value_text value_format_duration(uint64_t ms);
struct value_text value_format_size(uint64_t bytes);

#endif
