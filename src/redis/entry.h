/* entry: what XREAD answers, as entries with their fields. Pure; one thread at a time. */
#ifndef REDIS_ENTRY_H
#define REDIS_ENTRY_H

#include "redis/position.h"

struct tail_field {
	struct span name, value;
};

#define TAIL_FIELDS_MAX 64 /* a wider entry is given with count 0: malformed */

struct tail_entry {
	struct span id; /* "1700000000000-0" */
	uint64_t id_ms;
	const struct tail_field *fields;
	size_t field_count;
	/* It was in the stream when that was found made anew: it may have been handled before, and
	 * what it tells may be long over. */
	bool is_replayed;
};

/* The entries in an answer of one stream, [[key, [entry, …]]]; NULL when it is none. */
const struct resp_value *tail_entries_of(const struct resp_value *answer);

/*
 * Reads one of them, [id, [name, value, …]], and moves the position to its id. What is wrong in its
 * fields is the reader's to say: a malformed entry has none.
 * Returns 1; 0 when it was deleted between its delivery and now (Redis then knows the id only);
 * -EPROTO when it is no entry, or none that may follow.
 * Lifetime: `entry` lends `fields` and the value.
 */
int tail_entry_read(const struct resp_value *value, struct position *position,
		    struct tail_field fields[TAIL_FIELDS_MAX], struct tail_entry *entry);

#endif
