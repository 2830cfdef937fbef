#include "codec/reflect.h"

#include "base/check.h"
#include "base/err.h"
#include "codec/pb.h"

#include <errno.h>

/* google/protobuf/descriptor.proto */
enum { SET_FILE = 1 };
enum {
	FILE_NAME = 1,
	FILE_PACKAGE = 2,
	FILE_DEPENDENCY = 3,
	FILE_MESSAGE = 4,
	FILE_ENUM = 5,
	FILE_SERVICE = 6
};
enum { MESSAGE_NAME = 1, MESSAGE_NESTED = 3, MESSAGE_ENUM = 4 };
enum { SERVICE_NAME = 1, SERVICE_METHOD = 2, METHOD_NAME = 1, ENUM_NAME = 1 };
/* reflection.proto */
enum {
	REQUEST_HOST = 1,
	REQUEST_FILENAME = 3,
	REQUEST_SYMBOL = 4,
	REQUEST_EXTENSION = 5,
	REQUEST_EXTENSION_NUMBERS = 6,
	REQUEST_LIST = 7
};
enum {
	RESPONSE_HOST = 1,
	RESPONSE_ORIGINAL = 2,
	RESPONSE_FILES = 4,
	RESPONSE_EXTENSION_NUMBERS = 5,
	RESPONSE_SERVICES = 6,
	RESPONSE_ERROR = 7
};

#define NESTING_MAX 8 /* of messages in our own descriptors */

/* The first field of this number, or empty. */
static struct span find_bytes(struct span message, uint32_t number)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;

	while (pb_next(&reader, &field) > 0)
		if (field.number == number && field.wire == PB_BYTES)
			return field.bytes;
	return SPAN_EMPTY;
}

/* The next field of this number; returns false at the end. */
static bool next_bytes(struct pb_reader *reader, uint32_t number, struct span *bytes)
{
	struct pb_field field;

	while (pb_next(reader, &field) > 0) {
		if (field.number == number && field.wire == PB_BYTES) {
			*bytes = field.bytes;
			return true;
		}
	}
	return false;
}

/* Whether `symbol` is `name`, or `name` and something behind a dot; then `*rest` is what is behind.
 */
static bool take_name(struct span symbol, struct span name, struct span *rest)
{
	if (name.len == 0) {
		*rest = symbol;
		return true;
	}
	if (!span_starts_with(symbol, name))
		return false;
	*rest = span_from(symbol, name.len);
	if (rest->len == 0)
		return true;
	if (rest->data[0] != '.')
		return false;
	*rest = span_from(*rest, 1);
	return true;
}

/* Whether a child (field `number`, its name in `name_field`) has exactly this name. */
static bool has_child(struct span parent, uint32_t number, uint32_t name_field, struct span name)
{
	struct pb_reader reader = {.rest = parent};
	struct span child;

	while (next_bytes(&reader, number, &child))
		if (span_equal(find_bytes(child, name_field), name))
			return true;
	return false;
}

static bool message_has(struct span message, struct span symbol, unsigned depth)
{
	struct pb_reader reader = {.rest = message};
	struct span nested, rest;

	if (!take_name(symbol, find_bytes(message, MESSAGE_NAME), &rest))
		return false;
	if (rest.len == 0 || has_child(message, MESSAGE_ENUM, ENUM_NAME, rest))
		return true;
	while (depth < NESTING_MAX && next_bytes(&reader, MESSAGE_NESTED, &nested))
		if (message_has(nested, rest, depth + 1))
			return true;
	return false;
}

static bool service_has(struct span service, struct span symbol)
{
	struct span rest;

	if (!take_name(symbol, find_bytes(service, SERVICE_NAME), &rest))
		return false;
	return rest.len == 0 || has_child(service, SERVICE_METHOD, METHOD_NAME, rest);
}

static bool file_has(struct span file, struct span symbol)
{
	struct pb_reader messages = {.rest = file}, services = {.rest = file};
	struct span child, rest;

	if (!take_name(symbol, find_bytes(file, FILE_PACKAGE), &rest) || rest.len == 0)
		return false;
	while (next_bytes(&messages, FILE_MESSAGE, &child))
		if (message_has(child, rest, 0))
			return true;
	while (next_bytes(&services, FILE_SERVICE, &child))
		if (service_has(child, rest))
			return true;
	return has_child(file, FILE_ENUM, ENUM_NAME, rest);
}

static int put_error(struct buf *body, enum grpc_status status, const char *text)
{
	int error = pb_put_varint(body, 1, (uint64_t)status);

	return error ? error : pb_put_bytes(body, 2, span_from_cstr(text));
}

/* A file, and those it depends on: our descriptors import at most one level. */
static int put_file(struct span set, struct span file, struct buf *body)
{
	struct pb_reader dependencies = {.rest = file};
	struct span name, other;
	int error = pb_put_bytes(body, 1, file);

	while (!error && next_bytes(&dependencies, FILE_DEPENDENCY, &name)) {
		struct pb_reader files = {.rest = set};

		while (!error && next_bytes(&files, SET_FILE, &other))
			if (span_equal(find_bytes(other, FILE_NAME), name))
				error = pb_put_bytes(body, 1, other);
	}
	return error;
}

/* Fills the answer's part; returns its field number, or a negative code. */
static int find_file(struct span set, const struct pb_field *wanted, struct buf *body)
{
	struct pb_reader files = {.rest = set};
	struct span file;
	int error;

	while (next_bytes(&files, SET_FILE, &file)) {
		bool is_it = wanted->number == REQUEST_FILENAME
				     ? span_equal(find_bytes(file, FILE_NAME), wanted->bytes)
				     : file_has(file, wanted->bytes);

		if (!is_it)
			continue;
		error = put_file(set, file, body);
		return error ? error : RESPONSE_FILES;
	}
	error = put_error(body, GRPC_NOT_FOUND,
			  wanted->number == REQUEST_FILENAME ? "file not found"
							     : "symbol not found");
	return error ? error : RESPONSE_ERROR;
}

static int list_services(const struct reflect_source *source, struct buf *body)
{
	struct buf service;
	int error = 0;

	buf_init(&service, 1024);
	for (size_t i = 0; i < source->service_count && !error; i++) {
		buf_clear(&service, 1024);
		error = pb_put_bytes(&service, 1, span_from_cstr(source->services[i]));
		if (!error)
			error = pb_put_bytes(body, 1, buf_span(&service));
	}
	buf_finish(&service);
	return error ? error : RESPONSE_SERVICES;
}

static int find_extension_numbers(struct span set, struct span type, struct buf *body)
{
	struct pb_reader files = {.rest = set};
	struct span file;
	int error;

	while (next_bytes(&files, SET_FILE, &file)) {
		if (!file_has(file, type))
			continue;
		error = pb_put_bytes(body, 1, type); /* none of our messages can be extended */
		return error ? error : RESPONSE_EXTENSION_NUMBERS;
	}
	error = put_error(body, GRPC_NOT_FOUND, "type not found");
	return error ? error : RESPONSE_ERROR;
}

static int answer_field(const struct reflect_source *source, const struct pb_field *wanted,
			struct buf *body)
{
	struct span set = source->descriptor_set;
	int error;

	switch (wanted->number) {
	case REQUEST_FILENAME:
	case REQUEST_SYMBOL:
		return find_file(set, wanted, body);
	case REQUEST_EXTENSION:
		error = put_error(body, GRPC_NOT_FOUND, "extension not found");
		return error ? error : RESPONSE_ERROR;
	case REQUEST_EXTENSION_NUMBERS:
		return find_extension_numbers(set, wanted->bytes, body);
	case REQUEST_LIST:
		return list_services(source, body);
	default:
		error = put_error(body, GRPC_INVALID_ARGUMENT, "message_request is not set");
		return error ? error : RESPONSE_ERROR;
	}
}

int reflect_answer(const struct reflect_source *source, struct span request, struct buf *out)
{
	struct pb_reader reader = {.rest = request};
	struct pb_field field, wanted = {0};
	struct buf body;
	int more;

	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.wire != PB_BYTES)
			return -EPROTO;
		if (field.number >= REQUEST_FILENAME && field.number <= REQUEST_LIST)
			wanted = field; /* of a oneof the last one counts */
	}
	if (more < 0)
		return more;
	buf_init(&body, out->max);
	int part = answer_field(source, &wanted, &body);
	int error = part < 0 ? part
			     : pb_put_bytes(out, RESPONSE_HOST, find_bytes(request, REQUEST_HOST));

	if (!error)
		error = pb_put_bytes(out, RESPONSE_ORIGINAL, request);
	/* a part that is set and empty is not the same as none */
	if (!error)
		error = buf_append_byte(out, (uint8_t)(part << 3 | PB_BYTES));
	if (!error) {
		uint8_t len[10];
		uint8_t *end = len;
		uint64_t left = body.len;

		for (; left >= 0x80; left >>= 7)
			*end++ = (uint8_t)(left | 0x80);
		*end++ = (uint8_t)left;
		error = buf_append(out, span_make(len, (size_t)(end - len)));
	}
	if (!error)
		error = buf_append(out, buf_span(&body));
	buf_finish(&body);
	return error;
}
