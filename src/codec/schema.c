#include "codec/schema_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int schema_compare_names(struct span a, struct span b)
{
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return a.len ? memcmp(a.data, b.data, a.len) : 0;
}

int schema_complain(struct schema_error *error, int code, const char *file, struct span where,
		    const char *format, ...)
{
	int len = snprintf(error->text, sizeof(error->text), "%s: %.*s%s", file, SPAN_ARGS(where),
			   where.len ? ": " : "");
	va_list args;

	if (len >= 0 && (size_t)len < sizeof(error->text)) {
		va_start(args, format);
		vsnprintf(error->text + len, sizeof(error->text) - (size_t)len, format, args);
		va_end(args);
	}
	return code;
}

void schema_destroy(struct schema *schema)
{
	if (!schema)
		return;
	arena_finish(&schema->arena);
	free(schema->symbols);
	free(schema);
}

const struct symbol *schema_find_symbol(const struct schema *schema, struct span name)
{
	size_t low = 0, high = schema->symbol_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = schema_compare_names(name, schema->symbols[middle].name);

		if (order == 0)
			return &schema->symbols[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static const void *find(const struct schema *schema, struct span name, enum symbol_kind kind)
{
	const struct symbol *symbol = schema_find_symbol(schema, name);

	return symbol && symbol->kind == kind ? symbol->object : NULL;
}

const struct schema_message *schema_find_message(const struct schema *schema, struct span name)
{
	return find(schema, name, SYMBOL_MESSAGE);
}

const struct schema_enum *schema_find_enum(const struct schema *schema, struct span name)
{
	return find(schema, name, SYMBOL_ENUM);
}

const struct schema_service *schema_find_service(const struct schema *schema, struct span name)
{
	return find(schema, name, SYMBOL_SERVICE);
}

const struct schema_method *schema_service_method(const struct schema_service *service,
						  struct span name)
{
	for (size_t i = 0; i < service->method_count; i++) {
		if (span_equal(service->methods[i].name, name))
			return &service->methods[i];
	}
	return NULL;
}

const struct schema_method *schema_find_method(const struct schema *schema, struct span path)
{
	if (path.len > 0 && path.data[0] == '/')
		path = span_from(path, 1);

	ptrdiff_t slash = span_find_byte(path, '/');

	if (slash < 0)
		return NULL;

	const struct schema_service *service =
		schema_find_service(schema, span_first(path, (size_t)slash));

	return service ? schema_service_method(service, span_from(path, (size_t)slash + 1)) : NULL;
}

const struct schema_field *schema_field_of_number(const struct schema_message *message,
						  uint32_t number)
{
	size_t low = 0, high = message->field_count;

	if (number < message->dense_count) {
		uint16_t place = message->by_number[number];

		return place ? &message->fields[place - 1] : NULL;
	}
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct schema_field *field = &message->fields[middle];

		if (field->number == number)
			return field;
		if (number < field->number)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct schema_field *schema_field_of_name(const struct schema_message *message,
						struct span name)
{
	uint32_t hash = schema_hash_name(name);

	for (uint32_t at = hash & message->name_mask;; at = (at + 1) & message->name_mask) {
		const struct schema_name *slot = &message->names[at];

		if (!slot->name.data)
			return NULL;
		if (slot->hash == hash && span_equal(slot->name, name))
			return &message->fields[slot->index];
	}
}

size_t schema_find_path(const struct schema_message *message, struct span path,
			const struct schema_field *fields[SCHEMA_PATH_MAX])
{
	size_t count = 0;

	for (;;) {
		ptrdiff_t dot = span_find_byte(path, '.');
		struct span name = dot < 0 ? path : span_first(path, (size_t)dot);

		if (!message || count == SCHEMA_PATH_MAX)
			return 0;

		const struct schema_field *field = schema_field_of_name(message, name);

		if (!field)
			return 0;
		fields[count++] = field;
		if (dot < 0)
			return count;
		message = field->is_repeated ? NULL : field->message;
		path = span_from(path, (size_t)dot + 1);
	}
}

const struct schema_enum_value *schema_value_of_number(const struct schema_enum *enumeration,
						       int32_t number)
{
	const struct schema_enum_value *values = enumeration->by_number;
	size_t low = 0, high = enumeration->value_count;

	/* most enums count from 0 without a gap */
	if (number >= 0 && (uint32_t)number < high && values[number].number == number &&
	    (number == 0 || values[number - 1].number != number))
		return &values[number];
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (values[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < enumeration->value_count && values[low].number == number ? &values[low] : NULL;
}

const struct schema_enum_value *schema_value_of_name(const struct schema_enum *enumeration,
						     struct span name)
{
	size_t low = 0, high = enumeration->value_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct schema_enum_value *value = enumeration->by_name[middle];
		int order = schema_compare_names(name, value->name);

		if (order == 0)
			return value;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
