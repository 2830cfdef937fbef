#include "codec/pbjson_write.h"

#include <errno.h>
#include <math.h>

/* google.protobuf.Value */
enum { VALUE_NUMBER = 2, VALUE_BOOL = 4 };

static int malformed(struct writer *writer)
{
	return pbjson_write_fail(writer, -EPROTO, "malformed protobuf");
}

/* Seconds and nanos of a Timestamp or Duration. */
static int write_time(struct writer *writer, bool is_timestamp, struct span wire)
{
	struct pb_reader reader = {.rest = wire};
	struct pb_field field;
	int64_t seconds = 0;
	int32_t nanos = 0;
	int more, error;

	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number == 1 && field.wire == PB_VARINT)
			seconds = (int64_t)field.value;
		else if (field.number == 2 && field.wire == PB_VARINT)
			nanos = (int32_t)(uint32_t)field.value;
	}
	if (more < 0)
		return malformed(writer);
	if ((error = pbjson_room(writer, PBJSON_TIME_BYTES + 2)))
		return error;

	size_t len = is_timestamp ? pbjson_write_timestamp(writer->at + 1, seconds, nanos)
				  : pbjson_write_duration(writer->at + 1, seconds, nanos);

	if (len == 0)
		return pbjson_write_fail(writer, -EINVAL,
					 is_timestamp ? "timestamp out of range"
						      : "duration out of range");
	writer->at[0] = '"';
	writer->at[len + 1] = '"';
	writer->at += len + 2;
	return 0;
}

/* snake_case to lowerCamelCase, where the way back leads to the same. Returns false if it does not.
 */
static bool put_path(struct writer *writer, struct span path)
{
	uint8_t *at = writer->at;

	for (size_t i = 0; i < path.len; i++) {
		uint8_t byte = path.data[i];

		if (byte == '_') {
			if (++i == path.len || path.data[i] < 'a' || path.data[i] > 'z')
				return false;
			byte = (uint8_t)(path.data[i] - 'a' + 'A');
		} else if (!pbjson_is_path_byte(byte)) {
			return false;
		}
		*at++ = byte;
	}
	writer->at = at;
	return true;
}

static int write_field_mask(struct writer *writer, struct span wire)
{
	struct pb_reader reader = {.rest = wire};
	struct pb_field field;
	bool is_first = true;
	int more, error = pbjson_append(writer, SPAN("\""));

	while (!error && (more = pb_next(&reader, &field)) != 0) {
		if (more < 0)
			return malformed(writer);
		if (field.number != 1 || field.wire != PB_BYTES)
			continue;
		if ((error = pbjson_room(writer, field.bytes.len + 2)))
			return error;
		if (!is_first)
			*writer->at++ = ',';
		is_first = false;
		if (field.bytes.len == 0 || !put_path(writer, field.bytes))
			return pbjson_write_fail(writer, -EINVAL, "a path that JSON cannot have");
	}
	return error ? error : pbjson_append(writer, SPAN("\""));
}

/* A Value in order: one member, and nothing else that is known behind it. */
static int write_choice(struct writer *writer, const struct schema_message *message,
			struct span wire)
{
	const uint8_t *at = wire.data, *end = pbjson_end_of(wire);
	bool found = false;

	while (at < end) {
		const struct schema_field *field;
		struct span bytes = SPAN_EMPTY;
		uint64_t number = 0;
		double real;
		uint32_t tag;
		int error;

		if (!(at = pbjson_take_tag(at, end, &tag)))
			return malformed(writer);
		field = schema_field_of_number(message, tag >> 3);
		if (!field || field->wire != (tag & 7)) {
			if (!(at = pbjson_skip(at, end, tag)))
				return malformed(writer);
			continue;
		}
		if (found)
			return PBJSON_UNSORTED;
		found = true;
		at = field->wire == PB_BYTES ? pbjson_take_bytes(at, end, &bytes)
					     : pbjson_take_number(at, end, field->wire, &number);
		if (!at)
			return malformed(writer);
		memcpy(&real, &number, sizeof(real));
		if (field->number == VALUE_NUMBER && !isfinite(real))
			return pbjson_write_fail(writer, -EINVAL, "a Value that is no number");
		if ((error = pbjson_write_value(writer, field, number, bytes)))
			return error;
	}
	return found ? 0 : pbjson_append(writer, SPAN("null"));
}

static int write_value(struct writer *writer, const struct schema_message *message,
		       struct span wire)
{
	struct pbjson_sorted sorted = {.wire = wire};
	int error = writer->sorts ? pbjson_sort(writer, message, wire, &sorted) : 0;

	if (error)
		return error;
	error = write_choice(writer, message, sorted.wire);
	pbjson_sort_finish(writer, &sorted);
	return error;
}

/* The type that an Any's URL names, behind the last slash. */
static const struct schema_message *find_type(const struct writer *writer, struct span url)
{
	size_t name = url.len;

	while (name > 0 && url.data[name - 1] != '/')
		name--;
	return name > 0 && writer->options->schema
		       ? schema_find_message(writer->options->schema, span_from(url, name))
		       : NULL;
}

static int write_any(struct writer *writer, struct span wire)
{
	struct pb_reader reader = {.rest = wire};
	struct pb_field field;
	struct span url = SPAN_EMPTY, value = SPAN_EMPTY;
	int more, error;

	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number == 1 && field.wire == PB_BYTES)
			url = field.bytes;
		else if (field.number == 2 && field.wire == PB_BYTES)
			value = field.bytes;
	}
	if (more < 0)
		return malformed(writer);
	if (url.len == 0 && value.len == 0)
		return pbjson_append(writer, SPAN("{}"));

	const struct schema_message *type = find_type(writer, url);

	if (!type)
		return pbjson_write_fail(writer, -EINVAL, "an Any of a type that is not known");
	if ((error = pbjson_append(writer, SPAN("{\"@type\":"))) ||
	    (error = pbjson_write_string(writer, url)))
		return error;
	if (type->kind == SCHEMA_PLAIN || type->kind == SCHEMA_EMPTY)
		error = pbjson_write_members(writer, type, value, true);
	else if (!(error = pbjson_append(writer, SPAN(",\"value\":"))))
		error = pbjson_write_message(writer, type, value);
	return error ? error : pbjson_append(writer, SPAN("}"));
}

int pbjson_write_known(struct writer *writer, const struct schema_message *message,
		       struct span wire)
{
	switch (message->kind) {
	case SCHEMA_ANY:
		return write_any(writer, wire);
	case SCHEMA_TIMESTAMP:
	case SCHEMA_DURATION:
		return write_time(writer, message->kind == SCHEMA_TIMESTAMP, wire);
	case SCHEMA_FIELD_MASK:
		return write_field_mask(writer, wire);
	case SCHEMA_VALUE:
		return write_value(writer, message, wire);
	case SCHEMA_STRUCT:
	case SCHEMA_LIST_VALUE:
	case SCHEMA_WRAPPER:
		return pbjson_write_only(writer, message, &message->fields[0], wire,
					 pbjson_default_text(&message->fields[0]));
	case SCHEMA_PLAIN:
	case SCHEMA_EMPTY:
		break;
	}
	return pbjson_write_fail(writer, -EINVAL, "no such kind of message");
}
