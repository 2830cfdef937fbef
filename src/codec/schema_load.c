#include "codec/number.h"
#include "codec/pb.h"
#include "codec/schema_internal.h"
#include "google/protobuf/descriptor.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* descriptor.proto, as far as it is read before protobuf-c has judged it */
enum { SET_FILE = 1, FILE_MESSAGE = 4, MESSAGE_NESTED = 3 };

#define SYMBOLS_FIRST 256

/* What is only needed while building. */
struct loading {
	struct schema *schema;
	struct schema_error *error;
	struct span *files;	 /* descriptors of the files taken, in wire form */
	struct span *file_names; /* lent by protobuf-c */
	size_t file_count;
	const char *file; /* being read; the schema's copy, or set_name before there is one */
	char set_name[48];
	bool is_proto3;
};

static bool is_letter(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
}

static bool is_identifier(const char *name)
{
	if (!name || !is_letter(*name))
		return false;
	while (*++name) {
		if (!is_letter(*name) && (*name < '0' || *name > '9'))
			return false;
	}
	return true;
}

/* Packages are identifiers with dots between. */
static bool is_package(const char *name)
{
	while (*name) {
		if (!is_letter(*name))
			return false;
		while (is_letter(*name) || (*name >= '0' && *name <= '9'))
			name++;
		if (*name == '.' && !*++name)
			return false;
	}
	return true;
}

static int complain(struct loading *loading, int code, struct span where, const char *what)
{
	return schema_complain(loading->error, code, loading->file, where, "%s", what);
}

/* "scope.name" in the schema's arena. */
static int join(struct loading *loading, struct span scope, const char *name, struct span *full)
{
	size_t dot = scope.len > 0, len = is_identifier(name) ? strlen(name) : 0;

	if (len == 0)
		return complain(loading, -EINVAL, scope, "a name is no identifier");
	if (scope.len + dot + len > SCHEMA_NAME_BYTES_MAX)
		return complain(loading, -EMSGSIZE, scope, "a name in it is too long");

	char *text = arena_alloc(&loading->schema->arena, scope.len + dot + len + 1);

	if (!text)
		return -ENOMEM;
	if (dot) {
		memcpy(text, scope.data, scope.len);
		text[scope.len] = '.';
	}
	memcpy(text + scope.len + dot, name, len);
	*full = span_make(text, scope.len + dot + len);
	return 0;
}

static int add_symbol(struct loading *loading, struct symbol symbol)
{
	struct schema *schema = loading->schema;

	if (schema->symbol_count == SCHEMA_SYMBOLS_MAX)
		return complain(loading, -EMSGSIZE, symbol.name, "too many definitions in all");
	if (schema->symbol_count == schema->symbol_cap) {
		size_t cap = schema->symbol_cap ? 2 * schema->symbol_cap : SYMBOLS_FIRST;
		struct symbol *symbols = realloc(schema->symbols, cap * sizeof(*symbols));

		if (!symbols)
			return -ENOMEM;
		schema->symbols = symbols;
		schema->symbol_cap = cap;
	}
	symbol.file = loading->file;
	symbol.is_proto3 = loading->is_proto3;
	schema->symbols[schema->symbol_count++] = symbol;
	return 0;
}

static int add(struct loading *loading, struct span scope, const char *name, struct symbol symbol)
{
	static const size_t sizes[] = {
		[SYMBOL_MESSAGE] = sizeof(struct schema_message),
		[SYMBOL_ENUM] = sizeof(struct schema_enum),
		[SYMBOL_SERVICE] = sizeof(struct schema_service),
	};
	int error = join(loading, scope, name, &symbol.name);

	if (error)
		return error;
	symbol.object = arena_alloc(&loading->schema->arena, sizes[symbol.kind]);
	return symbol.object ? add_symbol(loading, symbol) : -ENOMEM;
}

static int add_enums(struct loading *loading, struct span scope,
		     Google__Protobuf__EnumDescriptorProto *const *sources, size_t count)
{
	int error = 0;

	for (size_t i = 0; i < count && !error; i++)
		error = add(loading, scope, sources[i]->name,
			    (struct symbol){.kind = SYMBOL_ENUM, .source = sources[i]});
	return error;
}

/* The nesting was bounded before protobuf-c saw it. */
static int add_messages(struct loading *loading, struct span scope,
			Google__Protobuf__DescriptorProto *const *sources, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const Google__Protobuf__DescriptorProto *source = sources[i];
		int error = add(loading, scope, source->name,
				(struct symbol){.kind = SYMBOL_MESSAGE, .source = source});

		if (error)
			return error;

		struct span name = loading->schema->symbols[loading->schema->symbol_count - 1].name;

		error = add_enums(loading, name, source->enum_type, source->n_enum_type);
		if (!error)
			error = add_messages(loading, name, source->nested_type,
					     source->n_nested_type);
		if (error)
			return error;
	}
	return 0;
}

/* Whether the file is there already. Sets *error when what is there differs. */
static bool is_known(struct loading *loading, const char *name, struct span wire, int *error)
{
	struct span text = span_from_cstr(name);

	*error = 0;
	for (size_t i = 0; i < loading->file_count; i++) {
		if (!span_equal(loading->file_names[i], text))
			continue;
		/* every protoc brings its own edition of these; what JSON needs of them is the same
		 */
		if (!span_equal(loading->files[i], wire) &&
		    !span_starts_with(text, SPAN("google/protobuf/")))
			*error = complain(loading, -EINVAL, SPAN_EMPTY,
					  "differs between two descriptor sets");
		return true;
	}
	return false;
}

static int add_file(struct loading *loading, const Google__Protobuf__FileDescriptorProto *source,
		    struct span wire)
{
	const char *package = source->package ? source->package : "";
	const char *syntax = source->syntax ? source->syntax : "proto2";
	struct span name = arena_copy(&loading->schema->arena, span_from_cstr(source->name));
	int error;

	if (!name.data)
		return -ENOMEM;
	loading->file = (const char *)name.data;
	if (is_known(loading, loading->file, wire, &error))
		return error;
	if (loading->file_count == SCHEMA_FILES_MAX)
		return complain(loading, -EMSGSIZE, SPAN_EMPTY, "too many files in all");
	loading->file_names[loading->file_count] = name;
	loading->files[loading->file_count++] = wire;
	loading->is_proto3 = strcmp(syntax, "proto3") == 0;
	if (!loading->is_proto3 && strcmp(syntax, "proto2") != 0)
		return complain(loading, -EINVAL, SPAN_EMPTY, "its syntax is not proto2 or proto3");
	if (!is_package(package))
		return complain(loading, -EINVAL, SPAN_EMPTY, "its package is no name");

	struct span scope = span_from_cstr(package);

	if ((error = add_enums(loading, scope, source->enum_type, source->n_enum_type)) ||
	    (error = add_messages(loading, scope, source->message_type, source->n_message_type)))
		return error;
	for (size_t i = 0; i < source->n_service && !error; i++)
		error = add(loading, scope, source->service[i]->name,
			    (struct symbol){.kind = SYMBOL_SERVICE, .source = source->service[i]});
	return error;
}

static int add_set(struct loading *loading, const Google__Protobuf__FileDescriptorSet *set,
		   struct span wire)
{
	struct pb_reader reader = {.rest = wire};
	struct pb_field field;
	size_t count = 0;

	while (pb_next(&reader, &field) > 0) {
		if (field.number != SET_FILE || field.wire != PB_BYTES)
			continue;

		int error = count < set->n_file ? add_file(loading, set->file[count++], field.bytes)
						: -EINVAL;

		if (error)
			return error;
	}
	return 0;
}

/* Whether messages are defined in each other no deeper than allowed: protobuf-c reads by recursion.
 */
static bool is_shallow(struct span message, unsigned depth)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;
	int more;

	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number == MESSAGE_NESTED && field.wire == PB_BYTES &&
		    (depth == SCHEMA_NESTING_MAX || !is_shallow(field.bytes, depth + 1)))
			return false;
	}
	return more == 0;
}

static bool is_readable(struct span set)
{
	struct pb_reader files = {.rest = set};
	struct pb_field file, message;
	int more;

	while ((more = pb_next(&files, &file)) > 0) {
		struct pb_reader messages = {.rest = file.bytes};

		if (file.number != SET_FILE || file.wire != PB_BYTES)
			continue;
		while ((more = pb_next(&messages, &message)) > 0) {
			if (message.number == FILE_MESSAGE && message.wire == PB_BYTES &&
			    !is_shallow(message.bytes, 1))
				return false;
		}
		if (more < 0)
			return false;
	}
	return more == 0;
}

static int compare_symbols(const void *left, const void *right)
{
	const struct symbol *a = left, *b = right;

	return schema_compare_names(a->name, b->name);
}

static int link_all(struct loading *loading)
{
	struct schema *schema = loading->schema;
	struct symbol *symbols = schema->symbols;
	int error = 0;

	if (schema->symbol_count > 0)
		qsort(symbols, schema->symbol_count, sizeof(symbols[0]), compare_symbols);
	for (size_t i = 1; i < schema->symbol_count; i++) {
		if (span_equal(symbols[i].name, symbols[i - 1].name))
			return schema_complain(loading->error, -EINVAL, symbols[i].file,
					       symbols[i].name, "is defined twice (and in %s)",
					       symbols[i - 1].file);
	}
	for (size_t i = 0; i < schema->symbol_count && !error; i++) {
		if (symbols[i].kind == SYMBOL_ENUM)
			error = schema_link_enum(schema, &symbols[i], loading->error);
	}
	for (size_t i = 0; i < schema->symbol_count && !error; i++) {
		if (symbols[i].kind == SYMBOL_MESSAGE)
			error = schema_link_message(schema, &symbols[i], loading->error);
	}
	for (size_t i = 0; i < schema->symbol_count && !error; i++) {
		if (symbols[i].kind == SYMBOL_SERVICE)
			error = schema_link_service(schema, &symbols[i], loading->error);
	}
	for (size_t i = 0; i < schema->symbol_count; i++)
		symbols[i].source = NULL;
	return error;
}

static int load(struct loading *loading, const struct span *sets, size_t set_count,
		Google__Protobuf__FileDescriptorSet **unpacked)
{
	for (size_t i = 0; i < set_count; i++) {
		snprintf(loading->set_name, sizeof(loading->set_name), "descriptor set %zu", i + 1);
		loading->file = loading->set_name;
		if (sets[i].len > SCHEMA_SET_BYTES_MAX)
			return complain(loading, -EMSGSIZE, SPAN_EMPTY, "is too large");
		if (!is_readable(sets[i]))
			return complain(loading, -EINVAL, SPAN_EMPTY,
					"is no FileDescriptorSet, or nests too deep");
		unpacked[i] = google__protobuf__file_descriptor_set__unpack(NULL, sets[i].len,
									    sets[i].data);
		if (!unpacked[i])
			return complain(loading, -EINVAL, SPAN_EMPTY, "is no FileDescriptorSet");

		int error = add_set(loading, unpacked[i], sets[i]);

		if (error)
			return error;
	}
	return link_all(loading);
}

int schema_create(struct schema **schema, const struct span *sets, size_t set_count,
		  struct schema_error *error)
{
	struct loading loading = {.error = error};
	Google__Protobuf__FileDescriptorSet **unpacked = NULL;
	int code = -ENOMEM;

	*schema = NULL;
	error->text[0] = 0;
	number_prepare(); /* whoever loads a schema is about to transcode */
	loading.schema = calloc(1, sizeof(*loading.schema));
	loading.files = calloc(SCHEMA_FILES_MAX, sizeof(*loading.files));
	loading.file_names = calloc(SCHEMA_FILES_MAX, sizeof(*loading.file_names));
	unpacked = calloc(set_count ? set_count : 1, sizeof(*unpacked));
	if (!loading.schema || !loading.files || !loading.file_names || !unpacked)
		goto out;
	arena_init(&loading.schema->arena, SCHEMA_BYTES_MAX);
	code = load(&loading, sets, set_count, unpacked);
	if (!code) {
		*schema = loading.schema;
		loading.schema = NULL;
	}
out:
	if (code == -ENOMEM)
		schema_complain(error, code, "descriptor sets", SPAN_EMPTY, "no memory");
	for (size_t i = 0; unpacked && i < set_count; i++) {
		if (unpacked[i])
			google__protobuf__file_descriptor_set__free_unpacked(unpacked[i], NULL);
	}
	free(unpacked);
	free(loading.files);
	free(loading.file_names);
	schema_destroy(loading.schema);
	return code;
}
