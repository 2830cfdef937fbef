#include "codec/number.h"
#include "codec/pbjson_read.h"

#include <errno.h>

/* google.protobuf.Value, Any */
enum {
	VALUE_NULL = 1,
	VALUE_NUMBER = 2,
	VALUE_STRING = 3,
	VALUE_BOOL = 4,
	VALUE_STRUCT = 5,
	VALUE_LIST = 6
};
enum { ANY_TYPE = 0, ANY_VALUE = 1 }; /* indices */

static int put_int64_field(struct reader *reader, const struct schema_field *field, int64_t value)
{
	int error;

	if (value == 0)
		return 0;
	if ((error = pbjson_put_tag(reader, field, 10)))
		return error;
	reader->out.at = pbjson_put_varint(reader->out.at, (uint64_t)value);
	return 0;
}

static int put_time(struct reader *reader, const struct schema_message *message, const uint8_t *at,
		    struct span text)
{
	bool is_timestamp = message->kind == SCHEMA_TIMESTAMP;
	int64_t seconds;
	int32_t nanos;
	int error;

	if (!(is_timestamp ? pbjson_read_timestamp(text, &seconds, &nanos)
			   : pbjson_read_duration(text, &seconds, &nanos)))
		return pbjson_read_fail(reader, at,
					is_timestamp ? "not a timestamp (RFC 3339, years 1 to 9999)"
						     : "not a duration (\"1.5s\")");
	error = put_int64_field(reader, &message->fields[0], seconds);
	return error ? error : put_int64_field(reader, &message->fields[1], nanos);
}

/* One path of a FieldMask, back to snake_case. */
static int put_path(struct reader *reader, const struct schema_field *field, const uint8_t *at,
		    struct span path)
{
	struct opening opening;
	int error;

	if (path.len == 0)
		return pbjson_read_fail(reader, at, "an empty path");
	if ((error = pbjson_put_tag(reader, field, 0)) || (error = pbjson_open(reader, &opening)) ||
	    (error = pbjson_target_room(reader, &reader->out, 2 * path.len)))
		return error;
	for (size_t i = 0; i < path.len; i++) {
		uint8_t byte = path.data[i];

		if (byte >= 'A' && byte <= 'Z') {
			*reader->out.at++ = '_';
			byte = (uint8_t)(byte - 'A' + 'a');
		} else if (!pbjson_is_path_byte(byte)) {
			return pbjson_read_fail(reader, at, "not a path in lowerCamelCase");
		}
		*reader->out.at++ = byte;
	}
	return pbjson_close(reader, &opening);
}

static int put_field_mask(struct reader *reader, const struct schema_message *message,
			  const uint8_t *at, struct span text)
{
	while (text.len > 0) {
		ptrdiff_t comma = span_find_byte(text, ',');
		struct span path = comma < 0 ? text : span_first(text, (size_t)comma);
		int error = put_path(reader, &message->fields[0], at, path);

		if (error || comma < 0)
			return error;
		text = span_from(text, (size_t)comma + 1);
		if (text.len == 0)
			return pbjson_read_fail(reader, at, "an empty path");
	}
	return 0;
}

int pbjson_read_known_text(struct reader *reader, const struct schema_message *message,
			   const uint8_t *at, struct span text)
{
	return message->kind == SCHEMA_FIELD_MASK ? put_field_mask(reader, message, at, text)
						  : put_time(reader, message, at, text);
}

static int read_text(struct reader *reader, const struct schema_message *message)
{
	struct span text;
	uint8_t byte = pbjson_peek(reader);
	const uint8_t *at = reader->at;

	if (byte != '"')
		return pbjson_read_fail(reader, at, "expected a string");

	int error = pbjson_take_text(reader, &text);

	return error ? error : pbjson_read_known_text(reader, message, at, text);
}

/* A Struct or a ListValue: a level of depth around its only field. */
static int read_container(struct reader *reader, const struct schema_message *message)
{
	int error;

	if ((error = pbjson_enter(reader)))
		return error;
	error = message->kind == SCHEMA_STRUCT ? pbjson_read_map(reader, &message->fields[0])
					       : pbjson_read_list(reader, &message->fields[0]);
	if (!error)
		pbjson_leave(reader);
	return error;
}

static int read_json_number(struct reader *reader, const struct schema_field *field)
{
	uint8_t byte = pbjson_peek(reader);

	/* a string would be a string: only JSON's own numbers come here */
	return byte == '-' || (byte >= '0' && byte <= '9')
		       ? pbjson_read_number(reader, field)
		       : pbjson_read_fail(reader, reader->at, "expected a value");
}

static int read_value(struct reader *reader, const struct schema_message *message)
{
	uint32_t number;
	int error;

	switch (pbjson_peek(reader)) {
	case 'n':
		number = VALUE_NULL;
		break;
	case 't':
	case 'f':
		number = VALUE_BOOL;
		break;
	case '"':
		number = VALUE_STRING;
		break;
	case '{':
		number = VALUE_STRUCT;
		break;
	case '[':
		number = VALUE_LIST;
		break;
	default:
		number = VALUE_NUMBER;
	}

	const struct schema_field *field = &message->fields[number - 1];

	if ((error = pbjson_put_tag(reader, field, 0)))
		return error;
	if (number == VALUE_NULL && !pbjson_take_word(reader, SPAN("null")))
		return pbjson_read_fail(reader, reader->at, "expected a value");
	if (number == VALUE_NULL)
		return pbjson_put_bool(reader, false);
	return number == VALUE_NUMBER ? read_json_number(reader, field)
				      : pbjson_read_value(reader, field);
}

/* ---- Any ---- */

/* Looks through the members behind the brace for "@type" and comes back. *url is lent until the
 * next string. */
static int find_type_url(struct reader *reader, struct span *url, bool *is_empty)
{
	const uint8_t *start = reader->at;
	bool is_first = true;
	int more, error = 0;

	*url = SPAN_EMPTY;
	for (; (more = pbjson_take_next(reader, '}', is_first)) > 0; is_first = false) {
		struct span name;

		if ((error = pbjson_take_text(reader, &name)))
			return error;

		bool is_type = span_equal(name, SPAN("@type"));

		if (!pbjson_take(reader, ':'))
			return pbjson_read_fail(reader, reader->at, "expected :");
		if (is_type) {
			error = pbjson_take_text(reader, url);
			break;
		}
		if ((error = pbjson_skip_value(reader)))
			break;
	}
	if (error || more < 0)
		return error ? error : more;
	*is_empty = is_first && more == 0;

	uint64_t cost = (uint64_t)(reader->at - start);

	reader->at = start;
	if (cost > reader->scans_left)
		return pbjson_read_fail(reader, start, "@type must come first");
	reader->scans_left -= cost;
	return 0;
}

/* Members of a type that JSON does not write as an object: "@type" and "value". */
static int read_any_value(struct reader *reader, const struct schema_message *type)
{
	bool is_first = true, has_type = false, has_value = false;
	int more, error;

	for (; (more = pbjson_take_next(reader, '}', is_first)) > 0; is_first = false) {
		struct span name;

		pbjson_skip_blank(reader);

		const uint8_t *at = reader->at;

		if ((error = pbjson_take_text(reader, &name)))
			return error;

		bool is_type = span_equal(name, SPAN("@type"));
		bool is_value = span_equal(name, SPAN("value"));

		if ((is_type && has_type) || (is_value && has_value))
			return pbjson_read_fail(reader, at, "a member is there twice");
		if (!is_type && !is_value && !reader->options->ignore_unknown)
			return pbjson_read_fail(reader, at,
						"an Any of this type has \"@type\" and \"value\"");
		if (!pbjson_take(reader, ':'))
			return pbjson_read_fail(reader, reader->at, "expected :");
		has_type |= is_type;
		has_value |= is_value;
		error = is_value ? pbjson_read_message(reader, type) : pbjson_skip_value(reader);
		if (error)
			return error;
	}
	if (more < 0)
		return more;
	return has_value ? 0 : pbjson_read_fail(reader, reader->at, "an Any without \"value\"");
}

static const struct schema_message *find_type(const struct reader *reader, struct span url)
{
	size_t name = url.len;

	while (name > 0 && url.data[name - 1] != '/')
		name--;
	return name > 0 && reader->options->schema
		       ? schema_find_message(reader->options->schema, span_from(url, name))
		       : NULL;
}

/* Whether this Empty has a "value", as some write it. */
static bool has_value(struct reader *reader)
{
	const uint8_t *start = reader->at;
	bool is_first = true, found = false;
	struct span name;

	for (; pbjson_take_next(reader, '}', is_first) > 0; is_first = false) {
		if (pbjson_take_text(reader, &name))
			break;
		found |= span_equal(name, SPAN("value"));
		if (!pbjson_take(reader, ':') || pbjson_skip_value(reader))
			break;
	}
	reader->at = start;
	return found;
}

static int read_any_members(struct reader *reader, const struct schema_message *any)
{
	const struct schema_message *type;
	struct opening opening;
	size_t before, start;
	struct span url;
	bool is_empty = false;
	int error = find_type_url(reader, &url, &is_empty);

	if (error)
		return error;
	if (is_empty)
		return pbjson_take(reader, '}') ? 0 : -EINVAL;
	if (!(type = find_type(reader, url)))
		return pbjson_read_fail(reader, reader->at,
					url.data ? "an Any of a type that is not known"
						 : "an Any without \"@type\"");
	if ((error = pbjson_put_tag(reader, &any->fields[ANY_TYPE], 0)) ||
	    (error = pbjson_put_bytes(reader, url)))
		return error;
	before = pbjson_target_offset(&reader->out);
	if ((error = pbjson_put_tag(reader, &any->fields[ANY_VALUE], 0)) ||
	    (error = pbjson_open(reader, &opening)))
		return error;
	start = pbjson_target_offset(&reader->out);
	if (type->kind == SCHEMA_PLAIN || (type->kind == SCHEMA_EMPTY && !has_value(reader)))
		error = pbjson_read_members(reader, type, true);
	else
		error = read_any_value(reader, type);
	if (error)
		return error;
	if (pbjson_target_offset(&reader->out) > start)
		return pbjson_close(reader, &opening);
	reader->gap_count = opening.gap;
	pbjson_target_rewind(&reader->out, before);
	return 0;
}

static int read_any(struct reader *reader, const struct schema_message *message)
{
	int error;

	if (!pbjson_take(reader, '{'))
		return pbjson_read_fail(reader, reader->at, "expected {");
	if ((error = pbjson_enter(reader)) || (error = read_any_members(reader, message)))
		return error;
	pbjson_leave(reader);
	return 0;
}

int pbjson_read_known(struct reader *reader, const struct schema_message *message)
{
	switch (message->kind) {
	case SCHEMA_ANY:
		return read_any(reader, message);
	case SCHEMA_TIMESTAMP:
	case SCHEMA_DURATION:
	case SCHEMA_FIELD_MASK:
		return read_text(reader, message);
	case SCHEMA_STRUCT:
	case SCHEMA_LIST_VALUE:
		return read_container(reader, message);
	case SCHEMA_VALUE:
		return read_value(reader, message);
	case SCHEMA_WRAPPER:
		return pbjson_read_tagged(reader, &message->fields[0]);
	case SCHEMA_PLAIN:
	case SCHEMA_EMPTY:
		break;
	}
	return pbjson_read_fail(reader, reader->at, "no such kind of message");
}
