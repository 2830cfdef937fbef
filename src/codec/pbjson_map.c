#include "codec/number.h"
#include "codec/pbjson_write.h"

#include <errno.h>
#include <stdlib.h>

#define FEW	   16 /* entries whose places are kept on the stack */
#define OVERRIDDEN UINT32_MAX

/* One map on the wire: its entries by where they are. */
struct map {
	struct writer *writer;
	const struct schema_field *field;
	const uint8_t *base;
	struct pbjson_key *keys; /* at: the entry's bytes from base; len: theirs, or OVERRIDDEN */
	size_t count, cap;
	struct pbjson_key few[FEW];
};

struct entry {
	struct span key, value; /* of strings, bytes, messages */
	uint64_t key_number, value_number;
	bool has_value;
	bool merges; /* the value is a message that is there twice */
};

/* What the wire's number means as a key: equal keys have equal numbers. */
static uint64_t number_of(const struct schema_field *field, uint64_t number)
{
	switch ((enum schema_type)field->type) {
	case SCHEMA_INT32:
	case SCHEMA_UINT32:
	case SCHEMA_SINT32:
		return (uint32_t)number;
	case SCHEMA_BOOL:
		return number != 0;
	default:
		return number;
	}
}

/* Returns false when malformed. */
static bool read_entry(const struct schema_field *field, struct span wire, struct entry *entry)
{
	const struct schema_field *key = &field->message->fields[0], *value = key + 1;
	const uint8_t *at = wire.data, *end = pbjson_end_of(wire);

	*entry = (struct entry){0};
	while (at < end) {
		uint32_t tag;

		at = pbjson_take_tag(at, end, &tag);
		if (!at)
			return false;
		if (tag == (key->number << 3 | key->wire)) {
			at = key->wire == PB_BYTES
				     ? pbjson_take_bytes(at, end, &entry->key)
				     : pbjson_take_number(at, end, key->wire, &entry->key_number);
		} else if (tag == (value->number << 3 | value->wire)) {
			entry->merges = entry->has_value && value->type == SCHEMA_MESSAGE;
			entry->has_value = true;
			at = value->wire == PB_BYTES ? pbjson_take_bytes(at, end, &entry->value)
						     : pbjson_take_number(at, end, value->wire,
									  &entry->value_number);
		} else {
			at = pbjson_skip(at, end, tag);
		}
		if (!at)
			return false;
	}
	entry->key_number = number_of(key, entry->key_number);
	return true;
}

static struct span wire_of(const struct map *map, const struct pbjson_key *key)
{
	return span_make(map->base + key->at, key->len);
}

static int add_entry(struct map *map, struct span wire)
{
	if (map->count == map->cap) {
		size_t cap = 4 * map->cap;
		size_t more = (cap - map->cap) * sizeof(map->keys[0]);
		struct pbjson_key *keys;

		/* the table that finds those there twice is half as large again */
		if (2 * more > PBJSON_SCRATCH_MAX - map->writer->scratch_bytes)
			return pbjson_write_fail(map->writer, -EMSGSIZE, "too many entries");
		keys = realloc(map->keys == map->few ? NULL : map->keys, cap * sizeof(*keys));
		if (!keys)
			return pbjson_write_fail(map->writer, -ENOMEM, "no memory");
		if (map->keys == map->few)
			memcpy(keys, map->few, sizeof(map->few));
		map->writer->scratch_bytes += more;
		map->keys = keys;
		map->cap = cap;
	}
	map->keys[map->count++] = (struct pbjson_key){.at = (uint32_t)(wire.data - map->base),
						      .len = (uint32_t)wire.len};
	return 0;
}

/* All entries that follow each other. `*at` is behind the first tag, then behind the last entry. */
static int collect(struct map *map, const uint8_t **at, const uint8_t *end)
{
	const char *words = "malformed protobuf";

	for (;;) {
		struct span wire;
		uint32_t tag;

		*at = pbjson_take_bytes(*at, end, &wire);
		if (!*at)
			return pbjson_write_fail(map->writer, -EPROTO, words);

		int error = add_entry(map, wire);

		if (error || *at == end)
			return error;

		const uint8_t *behind = pbjson_take_tag(*at, end, &tag);

		if (!behind)
			return pbjson_write_fail(map->writer, -EPROTO, words);
		if (tag != (map->field->number << 3 | PB_BYTES))
			return 0;
		*at = behind;
	}
}

static bool is_same_key(void *context, const struct pbjson_key *a, const struct pbjson_key *b)
{
	const struct map *map = context;
	struct entry first, second;

	if (a->len == OVERRIDDEN || b->len == OVERRIDDEN ||
	    !read_entry(map->field, wire_of(map, a), &first) ||
	    !read_entry(map->field, wire_of(map, b), &second))
		return false;
	return first.key_number == second.key_number && span_equal(first.key, second.key);
}

/* The one before it goes: the last counts. */
static bool override(void *context, size_t earlier, size_t later)
{
	struct map *map = context;

	(void)later;
	map->keys[earlier].len = OVERRIDDEN;
	return true;
}

static int drop_overridden(struct map *map)
{
	const struct schema_field *key = &map->field->message->fields[0];
	struct pbjson_keys keys = {map->keys, map->count, is_same_key, override, map};
	struct entry entry;

	if (map->count < 2)
		return 0;
	for (size_t i = 0; i < map->count; i++) {
		if (!read_entry(map->field, wire_of(map, &map->keys[i]), &entry))
			return pbjson_write_fail(map->writer, -EPROTO, "malformed protobuf");
		map->keys[i].hash = key->wire == PB_BYTES
					    ? pbjson_hash_key(entry.key)
					    : pbjson_hash_key(span_make(&entry.key_number,
									sizeof(entry.key_number)));
	}
	return pbjson_find_twice(&keys) ? pbjson_write_fail(map->writer, -ENOMEM, "no memory") : 0;
}

/* Keys are strings in JSON, whatever they are. */
static int write_key(struct writer *writer, const struct schema_field *field,
		     const struct entry *entry)
{
	bool is_quoted = field->type == SCHEMA_INT64 || field->type == SCHEMA_UINT64 ||
			 field->type == SCHEMA_SINT64 || field->type == SCHEMA_FIXED64 ||
			 field->type == SCHEMA_SFIXED64 || field->type == SCHEMA_STRING;
	int error;

	if (is_quoted)
		error = pbjson_write_value(writer, field, entry->key_number, entry->key);
	else if (!(error = pbjson_append(writer, SPAN("\""))) &&
		 !(error = pbjson_write_value(writer, field, entry->key_number, entry->key)))
		error = pbjson_append(writer, SPAN("\""));
	return error ? error : pbjson_append(writer, SPAN(":"));
}

static int write_value(struct writer *writer, const struct schema_field *field,
		       const struct entry *entry)
{
	if (!entry->has_value && field->type != SCHEMA_MESSAGE)
		return pbjson_append(writer, pbjson_default_text(field));
	return pbjson_write_value(writer, field, entry->value_number, entry->value);
}

static int write_entry(struct map *map, struct span wire, bool more)
{
	struct writer *writer = map->writer;
	const struct schema_field *key = &map->field->message->fields[0];
	struct pbjson_frame *frame = &writer->frames.at[writer->frames.depth - 1];
	struct pbjson_sorted sorted = {.wire = wire};
	struct entry entry;
	int error = writer->sorts ? pbjson_sort(writer, map->field->message, wire, &sorted) : 0;

	if (error)
		return error;
	if (!read_entry(map->field, sorted.wire, &entry))
		error = pbjson_write_fail(writer, -EPROTO, "malformed protobuf");
	else if (entry.merges)
		error = PBJSON_UNSORTED;
	if (!error && more)
		error = pbjson_append(writer, SPAN(","));
	if (!error && !(error = write_key(writer, key, &entry))) {
		frame->key = key->type == SCHEMA_STRING ? entry.key : SPAN_EMPTY;
		error = write_value(writer, key + 1, &entry);
	}
	pbjson_sort_finish(writer, &sorted);
	if (!error)
		frame->key = SPAN_EMPTY;
	return error;
}

static int write_entries(struct map *map)
{
	bool more = false;
	int error = pbjson_append(map->writer, SPAN("{"));

	for (size_t i = 0; i < map->count && !error; i++) {
		if (map->keys[i].len == OVERRIDDEN)
			continue;
		error = write_entry(map, wire_of(map, &map->keys[i]), more);
		more = true;
	}
	return error ? error : pbjson_append(map->writer, SPAN("}"));
}

int pbjson_write_map(struct writer *writer, const struct schema_field *field, const uint8_t **at,
		     const uint8_t *end)
{
	struct map map = {.writer = writer, .field = field, .base = *at, .cap = FEW};
	size_t scratch_before = writer->scratch_bytes;
	int error;

	map.keys = map.few;
	error = collect(&map, at, end);
	if (!error)
		error = drop_overridden(&map);
	if (!error)
		error = write_entries(&map);
	if (map.keys != map.few)
		free(map.keys);
	writer->scratch_bytes = scratch_before;
	return error;
}
