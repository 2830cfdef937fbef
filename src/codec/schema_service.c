#include "codec/pb.h"
#include "codec/schema_internal.h"
#include "google/protobuf/descriptor.pb-c.h"

#include <errno.h>

/* google/api/annotations.proto, google/api/http.proto */
enum { METHOD_OPTIONS_HTTP = 72295728 };
enum {
	RULE_GET = 2,
	RULE_PUT = 3,
	RULE_POST = 4,
	RULE_DELETE = 5,
	RULE_PATCH = 6,
	RULE_BODY = 7,
	RULE_CUSTOM = 8,
	RULE_ADDITIONAL = 11,
	RULE_RESPONSE_BODY = 12
};
enum { CUSTOM_KIND = 1, CUSTOM_PATH = 2 };

static const char *const verbs[] = {
	[RULE_GET] = "GET",	  [RULE_PUT] = "PUT",	  [RULE_POST] = "POST",
	[RULE_DELETE] = "DELETE", [RULE_PATCH] = "PATCH",
};

struct rules {
	struct schema *schema;
	struct schema_http_rule *list;
	size_t count;
};

/* Returns false when malformed. The last of a field counts. */
static bool read_custom(struct span custom, struct schema_http_rule *rule)
{
	struct pb_reader reader = {.rest = custom};
	struct pb_field field;
	int more;

	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.wire != PB_BYTES)
			continue;
		if (field.number == CUSTOM_KIND)
			rule->verb = field.bytes;
		else if (field.number == CUSTOM_PATH)
			rule->path = field.bytes;
	}
	return more == 0;
}

/* One HttpRule without its additional bindings; what it has is still the descriptor's. */
static bool read_rule(struct span wire, struct schema_http_rule *rule)
{
	struct pb_reader reader = {.rest = wire};
	struct pb_field field;
	int more;

	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.wire != PB_BYTES)
			continue;
		if (field.number >= RULE_GET && field.number <= RULE_PATCH) {
			rule->verb = span_from_cstr(verbs[field.number]);
			rule->path = field.bytes;
		} else if (field.number == RULE_BODY) {
			rule->body = field.bytes;
		} else if (field.number == RULE_RESPONSE_BODY) {
			rule->response_body = field.bytes;
		} else if (field.number == RULE_CUSTOM && !read_custom(field.bytes, rule)) {
			return false;
		}
	}
	return more == 0;
}

static bool is_text(struct span text)
{
	return span_is_utf8(text) && span_find_byte(text, 0) < 0;
}

/* Returns NULL or what is wrong. */
static const char *add_rule(struct rules *rules, struct span wire)
{
	struct schema_http_rule rule = {0};
	struct arena *arena = &rules->schema->arena;
	struct span *const spans[] = {&rule.verb, &rule.path, &rule.body, &rule.response_body};

	if (rules->count == SCHEMA_RULES_MAX)
		return "too many HTTP bindings";
	if (!read_rule(wire, &rule))
		return "its HTTP rule is malformed";
	if (rule.verb.len == 0 || rule.path.len == 0)
		return "an HTTP rule without a verb or a path";
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		if (!is_text(*spans[i]))
			return "its HTTP rule is no text";
		*spans[i] = arena_copy(arena, *spans[i]);
		if (!spans[i]->data)
			return "no memory for its HTTP rules";
	}
	rules->list[rules->count++] = rule;
	return NULL;
}

static const char *add_rules(struct rules *rules, struct span wire)
{
	struct pb_reader reader = {.rest = wire};
	struct pb_field field;
	const char *wrong = add_rule(rules, wire);

	while (!wrong && pb_next(&reader, &field) > 0) {
		if (field.number == RULE_ADDITIONAL && field.wire == PB_BYTES)
			wrong = add_rule(rules, field.bytes);
	}
	return wrong;
}

/* The value of a length-delimited field that protobuf-c did not know: it keeps the length too. */
static struct span value_of(const ProtobufCMessageUnknownField *unknown)
{
	struct span rest = span_make(unknown->data, unknown->len);

	while (rest.len > 0 && rest.data[0] >= 0x80)
		rest = span_from(rest, 1);
	return rest.len > 0 ? span_from(rest, 1) : rest;
}

static bool is_http_option(const ProtobufCMessageUnknownField *unknown)
{
	return unknown->tag == METHOD_OPTIONS_HTTP &&
	       unknown->wire_type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
}

/*
 * protoc writes one part for each statement (`option (google.api.http).post = …;` and another for
 * its `.body`); one behind the other they are the message. Returns false without memory. No option:
 * data is NULL.
 */
static bool join_parts(struct schema *schema, const ProtobufCMessage *options, struct span *joined)
{
	size_t parts = 0, bytes = 0;

	*joined = SPAN_EMPTY;
	for (unsigned i = 0; i < options->n_unknown_fields; i++) {
		if (!is_http_option(&options->unknown_fields[i]))
			continue;
		parts++;
		bytes += value_of(&options->unknown_fields[i]).len;
	}
	if (parts == 0)
		return true;

	uint8_t *start = arena_alloc(&schema->arena, bytes), *at = start;

	if (!start)
		return false;
	for (unsigned i = 0; i < options->n_unknown_fields; i++) {
		struct span part = value_of(&options->unknown_fields[i]);

		if (!is_http_option(&options->unknown_fields[i]) || part.len == 0)
			continue;
		memcpy(at, part.data, part.len);
		at += part.len;
	}
	*joined = span_make(start, bytes);
	return true;
}

static const char *link_rules(struct schema *schema, struct schema_method *method,
			      const Google__Protobuf__MethodOptions *options)
{
	struct schema_http_rule list[SCHEMA_RULES_MAX];
	struct rules rules = {.schema = schema, .list = list};
	struct span option = SPAN_EMPTY;

	if (options && !join_parts(schema, &options->base, &option))
		return "no memory for its HTTP rules";

	const char *wrong = option.data ? add_rules(&rules, option) : NULL;

	if (wrong || rules.count == 0)
		return wrong;

	struct schema_http_rule *kept = arena_alloc(&schema->arena, rules.count * sizeof(list[0]));

	if (!kept)
		return "no memory for its HTTP rules";
	memcpy(kept, list, rules.count * sizeof(list[0]));
	method->rules = kept;
	method->rule_count = rules.count;
	return NULL;
}

static const struct schema_message *find_type(const struct schema *schema, const char *name)
{
	return name && name[0] == '.' ? schema_find_message(schema, span_from_cstr(name + 1))
				      : NULL;
}

/* "/pkg.Service/Method" */
static int link_path(struct schema *schema, struct schema_method *method, const char *name)
{
	struct span service = method->service->name;
	size_t len = strlen(name);
	char *path = arena_alloc(&schema->arena, service.len + len + 2);

	if (!path)
		return -ENOMEM;
	path[0] = '/';
	memcpy(path + 1, service.data, service.len);
	path[service.len + 1] = '/';
	memcpy(path + service.len + 2, name, len);
	method->path = span_make(path, service.len + len + 2);
	method->name = span_from(method->path, service.len + 2);
	return 0;
}

static int link_method(struct schema *schema, struct schema_method *method,
		       const Google__Protobuf__MethodDescriptorProto *source,
		       struct schema_error *error)
{
	const struct schema_service *service = method->service;
	const char *name = source->name ? source->name : "";

	if (!*name || strlen(name) > SCHEMA_NAME_BYTES_MAX || strpbrk(name, "/. "))
		return schema_complain(error, -EINVAL, service->file, service->name,
				       "a method without a proper name");
	if (schema_service_method(service, span_from_cstr(name)))
		return schema_complain(error, -EINVAL, service->file, service->name,
				       "%s: is there twice", name);
	method->input = find_type(schema, source->input_type);
	method->output = find_type(schema, source->output_type);
	if (!method->input || !method->output)
		return schema_complain(error, -EINVAL, service->file, service->name,
				       "%s: there is no message %s in the descriptor sets", name,
				       method->input ? source->output_type : source->input_type);
	method->client_streams = source->client_streaming;
	method->server_streams = source->server_streaming;
	if (link_path(schema, method, name))
		return -ENOMEM;

	const char *wrong = link_rules(schema, method, source->options);

	return wrong ? schema_complain(error, -EINVAL, service->file, service->name, "%s: %s", name,
				       wrong)
		     : 0;
}

int schema_link_service(struct schema *schema, const struct symbol *symbol,
			struct schema_error *error)
{
	const Google__Protobuf__ServiceDescriptorProto *source = symbol->source;
	struct schema_service *service = symbol->object;

	service->name = symbol->name;
	service->file = symbol->file;
	if (source->n_method > SCHEMA_METHODS_MAX)
		return schema_complain(error, -EMSGSIZE, symbol->file, symbol->name,
				       "too many methods");

	struct schema_method *methods =
		arena_alloc(&schema->arena, (source->n_method + 1) * sizeof(methods[0]));

	if (!methods)
		return -ENOMEM;
	service->methods = methods;
	for (size_t i = 0; i < source->n_method; i++) {
		methods[i].service = service;

		int code = link_method(schema, &methods[i], source->method[i], error);

		if (code)
			return code;
		service->method_count = i + 1;
	}
	return 0;
}
