#include "codec/pb.h"
#include "codec/schema_internal.h"
#include "google/protobuf/descriptor.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#define DENSE_MIN  64 /* numbers always looked up directly */
#define NUMBER_MAX 0x1fffffff

/* What one message's linking shares. */
struct linking {
	struct schema *schema;
	const struct symbol *symbol;
	const Google__Protobuf__DescriptorProto *source;
	struct schema_error *error;
};

static const uint8_t wires[] = {
	[SCHEMA_DOUBLE] = PB_FIXED64,	[SCHEMA_FLOAT] = PB_FIXED32, [SCHEMA_INT64] = PB_VARINT,
	[SCHEMA_UINT64] = PB_VARINT,	[SCHEMA_INT32] = PB_VARINT,  [SCHEMA_FIXED64] = PB_FIXED64,
	[SCHEMA_FIXED32] = PB_FIXED32,	[SCHEMA_BOOL] = PB_VARINT,   [SCHEMA_STRING] = PB_BYTES,
	[SCHEMA_GROUP] = PB_GROUP,	[SCHEMA_MESSAGE] = PB_BYTES, [SCHEMA_BYTES] = PB_BYTES,
	[SCHEMA_UINT32] = PB_VARINT,	[SCHEMA_ENUM] = PB_VARINT,   [SCHEMA_SFIXED32] = PB_FIXED32,
	[SCHEMA_SFIXED64] = PB_FIXED64, [SCHEMA_SINT32] = PB_VARINT, [SCHEMA_SINT64] = PB_VARINT,
};

static const struct {
	const char *name;
	enum schema_kind kind;
} kinds[] = {
	{"google.protobuf.Any", SCHEMA_ANY},
	{"google.protobuf.Timestamp", SCHEMA_TIMESTAMP},
	{"google.protobuf.Duration", SCHEMA_DURATION},
	{"google.protobuf.FieldMask", SCHEMA_FIELD_MASK},
	{"google.protobuf.Struct", SCHEMA_STRUCT},
	{"google.protobuf.Value", SCHEMA_VALUE},
	{"google.protobuf.ListValue", SCHEMA_LIST_VALUE},
	{"google.protobuf.Empty", SCHEMA_EMPTY},
	{"google.protobuf.DoubleValue", SCHEMA_WRAPPER},
	{"google.protobuf.FloatValue", SCHEMA_WRAPPER},
	{"google.protobuf.Int64Value", SCHEMA_WRAPPER},
	{"google.protobuf.UInt64Value", SCHEMA_WRAPPER},
	{"google.protobuf.Int32Value", SCHEMA_WRAPPER},
	{"google.protobuf.UInt32Value", SCHEMA_WRAPPER},
	{"google.protobuf.BoolValue", SCHEMA_WRAPPER},
	{"google.protobuf.StringValue", SCHEMA_WRAPPER},
	{"google.protobuf.BytesValue", SCHEMA_WRAPPER},
};

static enum schema_kind kind_of(struct span name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (span_equal(name, span_from_cstr(kinds[i].name)))
			return kinds[i].kind;
	}
	return SCHEMA_PLAIN;
}

static int complain(const struct linking *linking, int code, const char *field, const char *what)
{
	return schema_complain(linking->error, code, linking->symbol->file, linking->symbol->name,
			       "%s%s%s", field ? field : "", field ? ": " : "", what);
}

static int copy(struct schema *schema, const char *text, struct span *to)
{
	*to = arena_copy(&schema->arena, span_from_cstr(text));
	return to->data ? 0 : -ENOMEM;
}

/* `"text"`; names are identifiers, or a json_name without what needs escapes. */
static int quote(struct schema *schema, struct span text, struct span *to)
{
	char *quoted = arena_alloc(&schema->arena, text.len + 2);

	if (!quoted)
		return -ENOMEM;
	quoted[0] = '"';
	memcpy(quoted + 1, text.data, text.len);
	quoted[text.len + 1] = '"';
	*to = span_make(quoted, text.len + 2);
	return 0;
}

static int make_key(struct schema *schema, struct span name, struct span *to)
{
	char *text = arena_alloc(&schema->arena, name.len + sizeof(",\"\":") + SCHEMA_KEY_ROOM);

	if (!text)
		return -ENOMEM;
	memcpy(text, ",\"", 2);
	memcpy(text + 2, name.data, name.len);
	memcpy(text + 2 + name.len, "\":", 2);
	*to = span_make(text + 1, name.len + 3);
	return 0;
}

/* protoc's own rule: underscores go, and what follows one is a capital. */
static int camel(struct schema *schema, const char *name, struct span *to)
{
	char *text = arena_alloc(&schema->arena, strlen(name) + 1);
	size_t len = 0;
	bool capital = false;

	if (!text)
		return -ENOMEM;
	for (; *name; name++) {
		if (*name == '_') {
			capital = true;
			continue;
		}
		text[len++] =
			capital && *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name;
		capital = false;
	}
	*to = span_make(text, len);
	return 0;
}

static bool is_plain(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == '"' || *text == '\\')
			return false;
	}
	return true;
}

static int link_names(const struct linking *linking, struct schema_field *field,
		      const Google__Protobuf__FieldDescriptorProto *source)
{
	struct schema *schema = linking->schema;
	int error;

	if (!source->name || !*source->name || strlen(source->name) > SCHEMA_NAME_BYTES_MAX)
		return complain(linking, -EINVAL, NULL, "a field without a name, or a long one");
	if (!is_plain(source->name) || (source->json_name && !is_plain(source->json_name)) ||
	    !span_is_utf8(span_from_cstr(source->name)) ||
	    (source->json_name && !span_is_utf8(span_from_cstr(source->json_name))))
		return complain(linking, -EINVAL, NULL, "a field's name has quotes or controls");
	if ((error = copy(schema, source->name, &field->name)))
		return error;
	error = source->json_name && *source->json_name
			? copy(schema, source->json_name, &field->json_name)
			: camel(schema, source->name, &field->json_name);
	return error ? error : make_key(schema, field->json_name, &field->key);
}

static void set_tag(struct schema_field *field)
{
	uint64_t tag =
		(uint64_t)field->number << 3 | (field->is_packed ? (uint8_t)PB_BYTES : field->wire);

	field->tag_bytes = 0;
	for (; tag >= 0x80; tag >>= 7)
		field->tag[field->tag_bytes++] = (uint8_t)(tag | 0x80);
	field->tag[field->tag_bytes++] = (uint8_t)tag;
}

/* The type that a field names: a full name with a leading dot, as protoc writes it. */
static int link_type(const struct linking *linking, struct schema_field *field,
		     const Google__Protobuf__FieldDescriptorProto *source)
{
	bool is_enum = field->type == SCHEMA_ENUM;

	if (field->type != SCHEMA_MESSAGE && !is_enum)
		return 0;
	if (!source->type_name || source->type_name[0] != '.')
		return complain(linking, -EINVAL, source->name, "its type has no full name");

	const struct symbol *type =
		schema_find_symbol(linking->schema, span_from_cstr(source->type_name + 1));

	if (!type || type->kind != (is_enum ? SYMBOL_ENUM : SYMBOL_MESSAGE))
		return schema_complain(linking->error, -EINVAL, linking->symbol->file,
				       linking->symbol->name,
				       "%s: there is no %s %s in the descriptor sets", source->name,
				       is_enum ? "enum" : "message", source->type_name + 1);
	if (is_enum) {
		field->enumeration = type->object;
		return 0;
	}

	const Google__Protobuf__DescriptorProto *target = type->source;

	field->message = type->object;
	field->is_map = field->is_repeated && target->options && target->options->map_entry;
	return 0;
}

static int link_field(const struct linking *linking, struct schema_field *field,
		      const Google__Protobuf__FieldDescriptorProto *source)
{
	bool is_proto3 = linking->symbol->is_proto3;
	int error = link_names(linking, field, source);

	if (error)
		return error;
	if (source->number < 1 || source->number > NUMBER_MAX)
		return complain(linking, -EINVAL, source->name, "its number is out of range");
	if (!source->has_type || (int)source->type < SCHEMA_DOUBLE ||
	    (int)source->type > SCHEMA_SINT64)
		return complain(linking, -EINVAL, source->name, "its type is not known");
	field->number = (uint32_t)source->number;
	field->type = (uint8_t)source->type;
	field->wire = wires[field->type];
	field->is_repeated =
		source->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED;
	field->oneof = -1;
	if (source->has_oneof_index && !source->proto3_optional) {
		if (source->oneof_index < 0 ||
		    (size_t)source->oneof_index >= linking->source->n_oneof_decl ||
		    field->is_repeated)
			return complain(linking, -EINVAL, source->name, "its oneof does not exist");
		field->oneof = (int16_t)source->oneof_index;
	}
	if (field->is_repeated && field->wire != PB_BYTES)
		field->is_packed = source->options && source->options->has_packed
					   ? source->options->packed
					   : is_proto3;
	field->has_presence =
		!field->is_repeated && (!is_proto3 || field->oneof >= 0 ||
					source->proto3_optional || field->type == SCHEMA_MESSAGE);
	set_tag(field);
	return link_type(linking, field, source);
}

static int compare_numbers(const void *left, const void *right)
{
	const struct schema_field *a = left, *b = right;

	return a->number < b->number ? -1 : a->number > b->number;
}

static int link_numbers(const struct linking *linking, struct schema_message *message,
			struct schema_field *fields)
{
	uint32_t last = 0, count = message->field_count;

	qsort(fields, count, sizeof(fields[0]), compare_numbers);
	for (uint32_t i = 0; i < count; i++) {
		if (i > 0 && fields[i].number == fields[i - 1].number)
			return complain(linking, -EINVAL, (const char *)fields[i].name.data,
					"its number is taken");
		fields[i].index = (uint16_t)i;
		last = fields[i].number;
	}
	message->dense_count = last + 1 < DENSE_MIN + 4 * count ? last + 1 : DENSE_MIN + 4 * count;

	uint16_t *dense =
		arena_alloc(&linking->schema->arena, message->dense_count * sizeof(dense[0]));

	if (!dense)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && fields[i].number < message->dense_count; i++)
		dense[fields[i].number] = (uint16_t)(i + 1);
	message->by_number = dense;
	return 0;
}

/* Takes a free slot. Returns false when the name is there already. */
static bool put_name(struct schema_name *names, uint32_t mask, struct span name, uint16_t index)
{
	uint32_t hash = schema_hash_name(name), at = hash & mask;

	for (; names[at].name.data; at = (at + 1) & mask) {
		if (names[at].hash == hash && span_equal(names[at].name, name))
			return false;
	}
	names[at] = (struct schema_name){.name = name, .hash = hash, .index = index};
	return true;
}

/* Both names of every field; a JSON name goes before another field's declared name. */
static int link_name_table(const struct linking *linking, struct schema_message *message)
{
	uint32_t slots = 4;

	while (slots < 4u * message->field_count)
		slots *= 2;

	struct schema_name *names = arena_alloc(&linking->schema->arena, slots * sizeof(names[0]));

	if (!names)
		return -ENOMEM;
	message->name_mask = slots - 1;
	message->names = names;
	for (uint16_t i = 0; i < message->field_count; i++) {
		const struct schema_field *field = &message->fields[i];

		if (!put_name(names, slots - 1, field->json_name, i))
			return complain(linking, -EINVAL, (const char *)field->name.data,
					"its JSON name is another field's too");
	}
	for (uint16_t i = 0; i < message->field_count; i++)
		put_name(names, slots - 1, message->fields[i].name, i);
	return 0;
}

/* A Value reads and writes the one that it holds without a level of depth: none holds a Value. */
static bool is_value(const struct schema_message *message)
{
	static const uint8_t types[] = {SCHEMA_ENUM, SCHEMA_DOUBLE,  SCHEMA_STRING,
					SCHEMA_BOOL, SCHEMA_MESSAGE, SCHEMA_MESSAGE};
	const struct schema_field *fields = message->fields;

	if (message->field_count != sizeof(types))
		return false;
	for (uint32_t i = 0; i < sizeof(types); i++) {
		if (fields[i].number != i + 1 || fields[i].type != types[i] ||
		    fields[i].is_repeated || fields[i].message == message)
			return false;
	}
	return true;
}

/* What readers and writers take for granted of the messages that they know by name. */
static bool has_shape(const struct schema_message *message)
{
	const struct schema_field *first = message->fields;
	uint16_t count = message->field_count;

	if (message->is_map_entry && message->kind != SCHEMA_PLAIN)
		return false;
	switch (message->kind) {
	case SCHEMA_WRAPPER:
		return count == 1 && first->number == 1 && !first->is_repeated &&
		       first->type != SCHEMA_MESSAGE && first->type != SCHEMA_ENUM;
	case SCHEMA_ANY:
		return count == 2 && first[0].number == 1 && first[0].type == SCHEMA_STRING &&
		       first[1].number == 2 && first[1].type == SCHEMA_BYTES;
	case SCHEMA_TIMESTAMP:
	case SCHEMA_DURATION:
		return count == 2 && first[0].number == 1 && first[0].type == SCHEMA_INT64 &&
		       first[1].number == 2 && first[1].type == SCHEMA_INT32;
	case SCHEMA_FIELD_MASK:
		return count == 1 && first->number == 1 && first->type == SCHEMA_STRING &&
		       first->is_repeated;
	case SCHEMA_STRUCT:
		return count == 1 && first->number == 1 && first->is_map;
	case SCHEMA_VALUE:
		return is_value(message);
	case SCHEMA_LIST_VALUE:
		return count == 1 && first->number == 1 && first->is_repeated &&
		       first->type == SCHEMA_MESSAGE;
	case SCHEMA_EMPTY:
		return count == 0;
	case SCHEMA_PLAIN:
		break;
	}
	if (!message->is_map_entry)
		return true;
	return count == 2 && first[0].number == 1 && first[1].number == 2 &&
	       !first[0].is_repeated && !first[1].is_repeated && first[0].type != SCHEMA_MESSAGE &&
	       first[0].type != SCHEMA_ENUM && first[0].type != SCHEMA_BYTES &&
	       first[0].type != SCHEMA_DOUBLE && first[0].type != SCHEMA_FLOAT;
}

int schema_link_message(struct schema *schema, const struct symbol *symbol,
			struct schema_error *error)
{
	const Google__Protobuf__DescriptorProto *source = symbol->source;
	struct linking linking = {schema, symbol, source, error};
	struct schema_message *message = symbol->object;
	uint16_t count = 0;

	if (source->n_field > SCHEMA_FIELDS_MAX || source->n_oneof_decl > SCHEMA_ONEOFS_MAX)
		return complain(&linking, -EMSGSIZE, NULL, "too many fields or oneofs");

	struct schema_field *fields =
		arena_alloc(&schema->arena, (source->n_field + 1) * sizeof(fields[0]));

	if (!fields)
		return -ENOMEM;
	for (size_t i = 0; i < source->n_field; i++) {
		if ((int)source->field[i]->type == SCHEMA_GROUP)
			continue;

		int code = link_field(&linking, &fields[count++], source->field[i]);

		if (code)
			return code;
	}
	message->name = symbol->name;
	message->file = symbol->file;
	message->fields = fields;
	message->field_count = count;
	message->oneof_count = (uint16_t)source->n_oneof_decl;
	message->kind = kind_of(symbol->name);
	message->is_map_entry = source->options && source->options->map_entry;

	int code = link_numbers(&linking, message, fields);

	if (code || (code = link_name_table(&linking, message)))
		return code;
	return has_shape(message) ? 0
				  : complain(&linking, -EINVAL, NULL,
					     "is not what its name or its options promise");
}

static int compare_values(const void *left, const void *right)
{
	const struct schema_enum_value *a = left, *b = right;

	if (a->number != b->number)
		return a->number < b->number ? -1 : 1;
	return a->place < b->place ? -1 : 1;
}

static int compare_value_names(const void *left, const void *right)
{
	const struct schema_enum_value *const *a = left, *const *b = right;

	return schema_compare_names((*a)->name, (*b)->name);
}

int schema_link_enum(struct schema *schema, const struct symbol *symbol, struct schema_error *error)
{
	const Google__Protobuf__EnumDescriptorProto *source = symbol->source;
	struct schema_enum *enumeration = symbol->object;
	size_t count = source->n_value;

	if (count == 0 || count > SCHEMA_VALUES_MAX)
		return schema_complain(error, -EMSGSIZE, symbol->file, symbol->name,
				       "no values, or too many");

	struct schema_enum_value *values = arena_alloc(&schema->arena, count * sizeof(values[0]));
	const struct schema_enum_value **names =
		arena_alloc(&schema->arena, count * sizeof(names[0]));

	if (!values || !names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const Google__Protobuf__EnumValueDescriptorProto *value = source->value[i];

		if (!value->name || !*value->name || !is_plain(value->name))
			return schema_complain(error, -EINVAL, symbol->file, symbol->name,
					       "a value without a name");
		if (copy(schema, value->name, &values[i].name) ||
		    quote(schema, values[i].name, &values[i].quoted))
			return -ENOMEM;
		values[i].number = value->number;
		values[i].place = (uint16_t)i;
	}
	enumeration->name = symbol->name;
	enumeration->is_null_value = span_equal(symbol->name, SPAN("google.protobuf.NullValue"));
	qsort(values, count, sizeof(values[0]), compare_values);
	for (size_t i = 0; i < count; i++)
		names[i] = &values[i];
	qsort(names, count, sizeof(names[0]), compare_value_names);
	enumeration->by_number = values;
	enumeration->by_name = names;
	enumeration->value_count = (uint32_t)count;
	return 0;
}
