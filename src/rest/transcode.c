#include "rest/transcode.h"

#include "base/base64.h"
#include "base/check.h"
#include "codec/grpc.h"
#include "codec/json.h"
#include "codec/pb.h"
#include "codec/pbjson.h"
#include "rest/fields.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define PARAMETER_BYTES_MAX (64u << 10) /* of one decoded name or value */

/* Fields that one query sets; each is compared with all before it. */
#define PARAMETERS_MAX 128

struct field_path {
	const struct schema_field *fields[SCHEMA_PATH_MAX];
	size_t count;
};

struct parameters {
	struct field_path paths[PARAMETERS_MAX];
	size_t count;
};

struct reading {
	const struct plan *plan;
	const struct transcode_request *request;
	struct pbjson_options options;
	struct buf *out;    /* prefix and message */
	struct buf scratch; /* one decoded text */
	struct transcode_error *error;
};

__attribute__((format(printf, 2, 3))) static int invalid(struct reading *reading,
							 const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reading->error->text, sizeof(reading->error->text), format, args);
	va_end(args);
	return -EINVAL;
}

/* What the codec said of a text: its sentence is for the client as it is. */
static int from_codec(struct reading *reading, int code, const struct pbjson_error *error)
{
	if (code == -EINVAL)
		return invalid(reading, "%s", error->text);
	return code;
}

/* ---- body ---- */

static bool is_blank(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (!memchr(" \t\r\n", text.data[i], 4))
			return false;
	}
	return true;
}

static int read_body(struct reading *reading)
{
	const struct plan_route *route = reading->request->route;
	struct span body = reading->request->body;
	struct pbjson_error error;
	int code;

	if (is_blank(body))
		return 0;
	if (!route->takes_body)
		return invalid(reading, "this method takes no body");
	reading->options.ignore_unknown = reading->plan->rest->json.ignore_unknown_body;
	code = route->body_is_field ? pbjson_read_field(&reading->options, route->body, body,
							reading->out, &error)
				    : pbjson_read(&reading->options, route->rpc->input, body,
						  reading->out, &error);
	return from_codec(reading, code, &error);
}

/* ---- query ---- */

enum clash { CLASH_NONE, CLASH_SAME, CLASH_ONEOF };

/* Whether two settings cannot both be meant. */
static enum clash clash_of(const struct field_path *a, const struct field_path *b)
{
	size_t both = a->count < b->count ? a->count : b->count;

	for (size_t i = 0; i < both; i++) {
		if (a->fields[i] == b->fields[i])
			continue;
		return a->fields[i]->oneof >= 0 && a->fields[i]->oneof == b->fields[i]->oneof
			       ? CLASH_ONEOF
			       : CLASH_NONE;
	}
	return a->fields[both - 1]->is_repeated ? CLASH_NONE : CLASH_SAME;
}

/* "billingAddress.city: why" */
static int invalid_path(struct reading *reading, const struct field_path *path, const char *why)
{
	char name[TRANSCODE_TEXT_MAX / 2];
	size_t len = 0;

	for (size_t i = 0; i < path->count && len < sizeof(name); i++)
		len += (size_t)snprintf(name + len, sizeof(name) - len, "%s%.*s", i > 0 ? "." : "",
					SPAN_ARGS(path->fields[i]->json_name));
	return invalid(reading, "%s: %s", name, why);
}

/* `same`: what it is if they are the same field. */
static int check_clash(struct reading *reading, const struct field_path *path,
		       const struct field_path *other, const char *same)
{
	switch (clash_of(path, other)) {
	case CLASH_NONE:
		return 0;
	case CLASH_SAME:
		return invalid_path(reading, path, same);
	case CLASH_ONEOF:
		return invalid_path(reading, path, "another field of its oneof is set");
	}
	UNREACHABLE("every clash has its case");
}

/* The path and the body have the first word: api.md §3. */
static int check_bound(struct reading *reading, const struct field_path *path)
{
	static const char why[] = "is set by the path or the body, not by the query";
	const struct plan_route *route = reading->request->route;
	int code = 0;

	if (route->body_is_field && path->fields[0] == route->body)
		return invalid_path(reading, path, why);
	if (route->body_is_field)
		code = check_clash(reading, path, &(struct field_path){{route->body}, 1}, why);
	for (size_t i = 0; code == 0 && i < route->template.variable_count; i++) {
		const struct plan_variable *variable = &route->variables[i];
		struct field_path bound = {.count = variable->path_count};

		memcpy(bound.fields, variable->path, bound.count * sizeof(bound.fields[0]));
		code = check_clash(reading, path, &bound, why);
	}
	return code;
}

static bool is_same_path(const struct field_path *a, const struct field_path *b)
{
	return a->count == b->count &&
	       memcmp(a->fields, b->fields, a->count * sizeof(a->fields[0])) == 0;
}

/* Lists may go on; others may be set once. Returns 0 or what to refuse with. */
static int note_parameter(struct reading *reading, struct parameters *before,
			  const struct field_path *path)
{
	for (size_t i = 0; i < before->count; i++) {
		int code = check_clash(reading, path, &before->paths[i], "is there twice");

		if (code)
			return code;
		/* what has come since was compared with it */
		if (is_same_path(path, &before->paths[i]))
			return 0;
	}
	if (before->count == PARAMETERS_MAX)
		return invalid(reading, "more than %d parameters", PARAMETERS_MAX);
	before->paths[before->count++] = *path;
	return 0;
}

/* The value of one parameter, decoded in scratch. */
static int read_value(struct reading *reading, const struct schema_field *const *path, size_t count)
{
	struct pbjson_error error;
	int code = pbjson_read_text(&reading->options, path, count, buf_span(&reading->scratch),
				    reading->out, &error);

	return from_codec(reading, code, &error);
}

static int decode(struct reading *reading, struct span text, enum percent_form form)
{
	buf_clear(&reading->scratch, PARAMETER_BYTES_MAX);

	int code = percent_decode(text, form, &reading->scratch);

	if (code == -EINVAL)
		return invalid(reading, "a %% without two hexadecimal digits behind it");
	return code == -EMSGSIZE ? -EMSGSIZE : code;
}

static int read_parameter(struct reading *reading, struct parameters *before, struct span name,
			  struct span value)
{
	const struct plan_route *route = reading->request->route;
	struct field_path path;
	int code = decode(reading, name, PERCENT_QUERY);

	if (code)
		return code;
	path.count = schema_find_path(route->rpc->input, buf_span(&reading->scratch), path.fields);
	/* With "*" every field is the body's: google/api/http.proto. */
	if (path.count == 0 || (route->takes_body && !route->body_is_field)) {
		if (reading->plan->rest->json.ignore_unknown_query)
			return 0;
		return invalid(reading, "unknown parameter %.*s",
			       reading->scratch.len < 200 ? (int)reading->scratch.len : 200,
			       (const char *)reading->scratch.data);
	}
	code = check_bound(reading, &path);
	if (!code)
		code = note_parameter(reading, before, &path);
	if (!code)
		code = decode(reading, value, PERCENT_QUERY);
	return code ? code : read_value(reading, path.fields, path.count);
}

static int read_query(struct reading *reading)
{
	struct span query = reading->request->query, name, value;
	struct parameters before;

	if (query.len == 0)
		return 0;
	before.count = 0;
	reading->options.ignore_unknown = false;
	while (query_next(&query, &name, &value)) {
		int code = read_parameter(reading, &before, name, value);

		if (code)
			return code;
	}
	return 0;
}

/* ---- path ---- */

static int read_path(struct reading *reading)
{
	const struct plan_route *route = reading->request->route;

	for (size_t i = 0; i < route->template.variable_count; i++) {
		const struct plan_variable *variable = &route->variables[i];
		bool is_one = route->template.variables[i].is_one;
		int code = decode(reading, reading->request->values[i],
				  is_one ? PERCENT_PATH : PERCENT_PATH_MANY);

		if (!code)
			code = read_value(reading, variable->path, variable->path_count);
		if (code)
			return code;
	}
	return 0;
}

/* What comes later wins where both set a field. */
static int read_all(struct reading *reading)
{
	static const uint8_t prefix[GRPC_PREFIX_BYTES];
	int code = buf_append(reading->out, span_make(prefix, sizeof(prefix)));

	if (!code)
		code = read_body(reading);
	if (!code)
		code = read_query(reading);
	return code ? code : read_path(reading);
}

int transcode_read(const struct plan *plan, const struct transcode_request *request,
		   size_t bytes_max, struct payload **message, struct transcode_error *error)
{
	struct buf *out = request->room;
	struct reading reading = {
		.plan = plan,
		.request = request,
		.options = {.schema = plan->schema},
		.out = out,
		.error = error,
	};

	error->text[0] = '\0';
	out->max = GRPC_PREFIX_BYTES + bytes_max;
	buf_init(&reading.scratch, PARAMETER_BYTES_MAX);

	int code = read_all(&reading);

	if (!code) {
		grpc_write_prefix(out->data, (uint32_t)(out->len - GRPC_PREFIX_BYTES));
		*message = payload_copy(buf_span(out));
		code = *message ? 0 : -ENOMEM;
	}
	buf_clear(out, TRANSCODE_KEEP_BYTES);
	buf_finish(&reading.scratch);
	return code;
}

/* ---- answers ---- */

int transcode_write(const struct plan *plan, const struct plan_route *route, struct span message,
		    struct buf *out, struct transcode_error *error)
{
	const struct pbjson_options options = {
		.schema = plan->schema,
		.print_defaults = plan->rest->json.print_defaults,
	};
	const struct schema_message *output = route->rpc->output;
	struct pbjson_error why = {.text = ""};
	int code = route->response ? pbjson_write_field(&options, output, route->response, message,
							out, &why)
				   : pbjson_write(&options, output, message, out, &why);

	if (code)
		snprintf(error->text, sizeof(error->text), "%s", why.text);
	return code;
}

int transcode_http_status(enum grpc_status status)
{
	static const int statuses[GRPC_STATUS_COUNT] = {
		[GRPC_OK] = 200,
		[GRPC_CANCELLED] = 499,
		[GRPC_UNKNOWN] = 500,
		[GRPC_INVALID_ARGUMENT] = 400,
		[GRPC_DEADLINE_EXCEEDED] = 504,
		[GRPC_NOT_FOUND] = 404,
		[GRPC_ALREADY_EXISTS] = 409,
		[GRPC_PERMISSION_DENIED] = 403,
		[GRPC_RESOURCE_EXHAUSTED] = 429,
		[GRPC_FAILED_PRECONDITION] = 400,
		[GRPC_ABORTED] = 409,
		[GRPC_OUT_OF_RANGE] = 400,
		[GRPC_UNIMPLEMENTED] = 501,
		[GRPC_INTERNAL] = 500,
		[GRPC_UNAVAILABLE] = 503,
		[GRPC_DATA_LOSS] = 500,
		[GRPC_UNAUTHENTICATED] = 401,
	};

	return (unsigned)status < GRPC_STATUS_COUNT && statuses[status] ? statuses[status] : 500;
}

/* google.rpc.Status */
enum { STATUS_DETAILS = 3 };
enum { ANY_TYPE_URL = 1, ANY_VALUE = 2 };

/* One Any: as its own JSON if its type is known, else its bytes. */
static void write_detail(const struct plan *plan, struct span any, struct buf *out)
{
	const struct schema_message *type =
		schema_find_message(plan->schema, SPAN("google.protobuf.Any"));
	const struct pbjson_options options = {.schema = plan->schema};
	struct pbjson_error ignored;
	struct pb_reader reader = {.rest = any};
	struct pb_field field;
	struct span url = SPAN_EMPTY, value = SPAN_EMPTY;

	if (type && pbjson_write(&options, type, any, out, &ignored) == 0)
		return;
	while (pb_next(&reader, &field) > 0) {
		if (field.number == ANY_TYPE_URL && field.wire == PB_BYTES)
			url = field.bytes;
		if (field.number == ANY_VALUE && field.wire == PB_BYTES)
			value = field.bytes;
	}
	buf_append(out, SPAN("{\"@type\":"));
	(void)json_append_string(out, span_is_utf8(url) ? url : SPAN_EMPTY);
	buf_append(out, SPAN(",\"value\":\""));
	(void)base64_append(out, value);
	buf_append(out, SPAN("\"}"));
}

static void write_details(const struct plan *plan, struct span status, struct buf *out)
{
	struct pb_reader reader = {.rest = status};
	struct pb_field field;
	size_t count = 0;

	while (pb_next(&reader, &field) > 0) {
		if (field.number != STATUS_DETAILS || field.wire != PB_BYTES)
			continue;
		buf_append(out, count++ == 0 ? SPAN(",\"details\":[") : SPAN(","));
		write_detail(plan, field.bytes, out);
	}
	if (count > 0)
		buf_append_byte(out, ']');
}

int transcode_write_error(const struct plan *plan, int http_status, struct span message,
			  struct span details, struct buf *out)
{
	buf_append(out, SPAN("{\"error\":{\"code\":"));
	buf_append_uint(out, (uint64_t)http_status);
	buf_append(out, SPAN(",\"message\":"));
	(void)json_append_string(out, message);
	if (details.len > 0 && plan) {
		struct buf status;

		buf_init(&status, details.len + 3);
		if (base64_decode(&status, details) == 0)
			write_details(plan, buf_span(&status), out);
		buf_finish(&status);
	}
	buf_append(out, SPAN("}}"));
	return out->failed ? -ENOMEM : 0;
}
