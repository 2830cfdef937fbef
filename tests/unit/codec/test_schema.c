#include "base/buf.h"
#include "base/check.h"
#include "codec/pb.h"
#include "codec/schema.h"
#include "conformance/descriptors.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int set_up(void **state)
{
	struct span set = test_descriptors();
	struct schema_error error;

	return schema_create((struct schema **)state, &set, 1, &error);
}

static int tear_down(void **state)
{
	schema_destroy(*state);
	return 0;
}

static struct span text(const char *literal)
{
	return span_from_cstr(literal);
}

static void types_are_found_by_full_name_only(void **state)
{
	const struct schema *schema = *state;
	static const char *const missing[] = {"",
					      "Order",
					      "ringway.test",
					      "ringway.test.Order.",
					      ".ringway.test.Order",
					      "ringway.test.order"};

	assert_non_null(schema_find_message(schema, text("ringway.test.Order")));
	assert_non_null(schema_find_message(schema, text("ringway.test.Order.Line")));
	assert_non_null(schema_find_enum(schema, text("ringway.test.Order.Status")));
	assert_non_null(schema_find_service(schema, text("ringway.test.Shop")));
	assert_null(schema_find_message(schema, text("ringway.test.Order.Status")));
	assert_null(schema_find_enum(schema, text("ringway.test.Order")));
	for (size_t i = 0; i < ARRAY_LEN(missing); i++)
		assert_null(schema_find_message(schema, text(missing[i])));
}

static void every_field_is_found_by_number_and_by_both_names(void **state)
{
	static const char *const names[] = {"ringway.test.Order", "ringway.test.Odd",
					    "protobuf_test_messages.proto3.TestAllTypesProto3",
					    "google.protobuf.FieldDescriptorProto"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct schema_message *message = schema_find_message(*state, text(names[i]));

		assert_non_null(message);
		assert_true(message->field_count > 5);
		for (uint16_t at = 0; at < message->field_count; at++) {
			const struct schema_field *field = &message->fields[at];

			assert_int_equal(field->index, at);
			assert_ptr_equal(schema_field_of_number(message, field->number), field);
			assert_ptr_equal(schema_field_of_name(message, field->json_name), field);
			assert_ptr_equal(schema_field_of_name(message, field->name), field);
			assert_true(at == 0 || field[-1].number < field->number);
		}
		assert_null(schema_field_of_number(message, 0));
		assert_null(schema_field_of_number(message, 536870910));
		assert_null(schema_field_of_name(message, text("nothing")));
		assert_null(schema_field_of_name(message, SPAN_EMPTY));
	}
}

static const struct {
	const char *name, *json_name;
} camels[] = {
	{"fieldname1", "fieldname1"},	   {"field_name2", "fieldName2"},
	{"_field_name3", "FieldName3"},	   {"field__name4_", "fieldName4"},
	{"field0name5", "field0name5"},	   {"field_0_name6", "field0Name6"},
	{"fieldName7", "fieldName7"},	   {"FieldName8", "FieldName8"},
	{"field_Name9", "fieldName9"},	   {"FIELD_NAME11", "FIELDNAME11"},
	{"__field_name13", "FieldName13"}, {"field_name17__", "fieldName17"},
};

static void json_names_are_protoc_s(void **state)
{
	const struct schema_message *message = schema_find_message(
		*state, text("protobuf_test_messages.proto3.TestAllTypesProto3"));
	const struct schema_message *odd = schema_find_message(*state, text("ringway.test.Odd"));

	for (size_t i = 0; i < ARRAY_LEN(camels); i++)
		assert_true(
			span_equal(schema_field_of_name(message, text(camels[i].name))->json_name,
				   text(camels[i].json_name)));
	assert_string_equal(
		(const char *)schema_field_of_name(odd, text("renamed"))->json_name.data,
		"other-name");
}

/* A descriptor set with one file a.proto, package p, message M with the fields given in wire form.
 */
struct made {
	struct buf set, file, message;
};

static void put(struct buf *out, uint32_t number, struct span bytes)
{
	assert_int_equal(pb_put_bytes(out, number, bytes), 0);
}

static struct span make_set_of(struct made *made, const char *package, const char *syntax)
{
	buf_init(&made->set, 1 << 20);
	buf_init(&made->file, 1 << 20);
	put(&made->file, 1, text("a.proto"));
	put(&made->file, 2, text(package));
	put(&made->file, 4, buf_span(&made->message));
	put(&made->file, 12, text(syntax));
	put(&made->set, 1, buf_span(&made->file));
	return buf_span(&made->set);
}

static struct span make_set(struct made *made, const char *syntax)
{
	return make_set_of(made, "p", syntax);
}

static void free_set(struct made *made)
{
	buf_finish(&made->set);
	buf_finish(&made->file);
	buf_finish(&made->message);
}

/* `type_name` of a message or an enum, else NULL. */
static void add_field_of(struct made *made, const char *name, uint32_t number, unsigned type,
			 const char *type_name)
{
	struct buf field;

	buf_init(&field, 1024);
	put(&field, 1, text(name));
	assert_int_equal(pb_put_varint(&field, 3, number), 0);
	assert_int_equal(pb_put_varint(&field, 4, 1), 0);
	assert_int_equal(pb_put_varint(&field, 5, type), 0);
	if (type_name)
		put(&field, 6, text(type_name));
	put(&made->message, 2, buf_span(&field));
	buf_finish(&field);
}

static void add_field(struct made *made, const char *name, uint32_t number, unsigned type)
{
	add_field_of(made, name, number, type, type == SCHEMA_MESSAGE ? ".p.Gone" : NULL);
}

/* A JSON name that the descriptor does not give is made by protoc's rule. */
static void json_name_is_made_when_it_is_not_given(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(camels); i++) {
		struct made made;
		struct schema *schema;
		struct schema_error error;

		buf_init(&made.message, 4096);
		put(&made.message, 1, text("M"));
		add_field(&made, camels[i].name, 1, SCHEMA_INT32);

		struct span set = make_set(&made, "proto3");

		assert_int_equal(schema_create(&schema, &set, 1, &error), 0);
		assert_true(
			span_equal(schema_find_message(schema, text("p.M"))->fields[0].json_name,
				   text(camels[i].json_name)));
		schema_destroy(schema);
		free_set(&made);
	}
}

static void field_says_how_it_is_written(void **state)
{
	const struct schema_message *odd = schema_find_message(*state, text("ringway.test.Odd"));
	const struct schema_message *all = schema_find_message(
		*state, text("protobuf_test_messages.proto3.TestAllTypesProto3"));
	const struct schema_field *field = schema_field_of_name(odd, text("maybe_number"));

	assert_true(field->has_presence && field->oneof == -1 && !field->is_repeated);
	field = schema_field_of_name(odd, text("far"));
	assert_false(field->has_presence);
	assert_int_equal(field->tag_bytes, 5);
	assert_memory_equal(field->tag, "\xf8\xff\xff\xff\x0f", 5);
	field = schema_field_of_name(odd, text("by_number"));
	assert_true(field->is_map && field->is_repeated && !field->is_packed);
	assert_true(field->message->is_map_entry);
	assert_ptr_equal(field->message->fields[1].message, odd);
	assert_int_equal(schema_field_of_name(odd, text("a"))->oneof, 0);
	assert_int_equal(schema_field_of_name(odd, text("e"))->oneof, 1);
	assert_true(schema_field_of_name(odd, text("a"))->has_presence);
	assert_true(schema_field_of_name(all, text("repeated_int32"))->is_packed);
	assert_true(schema_field_of_name(all, text("packed_bool"))->is_packed);
	assert_false(schema_field_of_name(all, text("unpacked_bool"))->is_packed);
	assert_false(schema_field_of_name(all, text("repeated_string"))->is_packed);
	assert_int_equal(schema_field_of_name(all, text("optional_any"))->message->kind,
			 SCHEMA_ANY);
	assert_int_equal(schema_field_of_name(all, text("optional_bool_wrapper"))->message->kind,
			 SCHEMA_WRAPPER);
}

static void enum_alias_is_written_by_its_first_name_and_read_by_all(void **state)
{
	const struct schema_enum *enumeration = schema_find_enum(
		*state, text("protobuf_test_messages.proto3.TestAllTypesProto3.AliasedEnum"));
	static const char *const names[] = {"ALIAS_BAZ", "MOO", "moo", "bAz"};

	assert_string_equal((const char *)schema_value_of_number(enumeration, 2)->name.data,
			    "ALIAS_BAZ");
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(schema_value_of_name(enumeration, text(names[i]))->number, 2);
	assert_null(schema_value_of_name(enumeration, text("alias_baz")));
	assert_null(schema_value_of_number(enumeration, 3));
	assert_null(schema_value_of_number(enumeration, -1));
	enumeration = schema_find_enum(
		*state, text("protobuf_test_messages.proto3.TestAllTypesProto3.NestedEnum"));
	assert_true(span_equal(schema_value_of_number(enumeration, -1)->quoted, text("\"NEG\"")));
	assert_true(span_equal(schema_value_of_number(enumeration, 2)->quoted, text("\"BAZ\"")));
}

static void method_has_its_types_streams_and_http_rules(void **state)
{
	const struct schema_method *get = schema_find_method(*state, text("ringway.test.Shop/Get"));
	const struct schema_method *put_ =
		schema_find_method(*state, text("/ringway.test.Shop/Put"));
	const struct schema_method *probe =
		schema_find_method(*state, text("ringway.test.Shop/Probe"));
	const struct schema_method *watch =
		schema_find_method(*state, text("ringway.test.Shop/Watch"));
	const struct schema_method *talk =
		schema_find_method(*state, text("ringway.test.Shop/Talk"));

	assert_true(span_equal(get->path, text("/ringway.test.Shop/Get")));
	assert_true(span_equal(get->name, text("Get")));
	assert_true(span_equal(get->input->name, text("ringway.test.GetRequest")));
	assert_true(span_equal(get->output->name, text("ringway.test.Order")));
	assert_int_equal(get->rule_count, 3);
	assert_true(span_equal(get->rules[0].verb, text("GET")));
	assert_true(span_equal(get->rules[0].path, text("/v1/{name=orders/*}")));
	assert_int_equal(get->rules[0].body.len, 0);
	assert_true(span_equal(get->rules[1].path, text("/v1/orders:find")));
	assert_true(span_equal(get->rules[2].verb, text("POST")));
	assert_true(span_equal(get->rules[2].body, text("near")));
	assert_true(span_equal(get->rules[2].response_body, text("lines")));
	assert_true(span_equal(put_->rules[0].verb, text("PUT")));
	assert_true(span_equal(put_->rules[0].body, text("*")));
	assert_true(span_equal(probe->rules[0].verb, text("HEAD")));
	assert_true(span_equal(probe->rules[0].path, text("/v1/orders")));
	assert_false(get->server_streams || get->client_streams);
	assert_true(watch->server_streams && !watch->client_streams && watch->rule_count == 0);
	assert_true(talk->server_streams && talk->client_streams);
	assert_null(schema_find_method(*state, text("ringway.test.Shop/None")));
	assert_null(schema_find_method(*state, text("ringway.test.Shop")));
	assert_null(schema_find_method(*state, text("ringway.test.Order/Get")));
}

static void http_rule_in_several_statements_is_one(void **state)
{
	const struct schema_method *change =
		schema_find_method(*state, text("ringway.test.Shop/Change"));

	assert_int_equal(change->rule_count, 2);
	assert_true(span_equal(change->rules[0].verb, text("PATCH")));
	assert_true(span_equal(change->rules[0].path, text("/v1/orders/{order_id}")));
	assert_true(span_equal(change->rules[0].body, text("*")));
	assert_true(span_equal(change->rules[1].verb, text("POST")));
	assert_true(span_equal(change->rules[1].path, text("/v1/orders/{order_id}:change")));
	assert_true(span_equal(change->rules[1].body, text("*")));
}

static void dotted_path_goes_through_singular_messages_only(void **state)
{
	const struct schema_message *order =
		schema_find_message(*state, text("ringway.test.Order"));
	const struct schema_field *fields[SCHEMA_PATH_MAX];
	static const char *const wrong[] = {
		"",	      ".",	   "lines.sku",	    "status.x", "labels.key",
		"order_id.x", "order_id.", "voucher..code", "none"};

	assert_int_equal(schema_find_path(order, text("order_id"), fields), 1);
	assert_int_equal(schema_find_path(order, text("lines"), fields), 1);
	assert_int_equal(schema_find_path(order, text("billing_address.countryCode"), fields), 2);
	assert_int_equal(fields[1]->number, 3);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_int_equal(schema_find_path(order, text(wrong[i]), fields), 0);

	char deep[6 * (SCHEMA_PATH_MAX + 1) + 1];
	const struct schema_message *odd = schema_find_message(*state, text("ringway.test.Odd"));

	for (size_t i = 0; i <= SCHEMA_PATH_MAX; i++)
		memcpy(deep + 6 * i, "child.", 6);
	deep[6 * SCHEMA_PATH_MAX - 1] = 0;
	assert_int_equal(schema_find_path(odd, text(deep), fields), SCHEMA_PATH_MAX);
	deep[6 * SCHEMA_PATH_MAX - 1] = '.';
	deep[6 * (SCHEMA_PATH_MAX + 1) - 1] = 0;
	assert_int_equal(schema_find_path(odd, text(deep), fields), 0);
}

/* Fails, and the error has these words. */
static void refuse(const struct span *sets, size_t count, int code, const char *words)
{
	struct schema *schema;
	struct schema_error error;

	assert_int_equal(schema_create(&schema, sets, count, &error), code);
	assert_null(schema);
	if (!strstr(error.text, words))
		fail_msg("\"%s\" is not in \"%s\"", words, error.text);
}

static const struct {
	const char *name;
	uint32_t number;
	unsigned type;
	const char *words;
} bad_fields[] = {
	{"f", 0, SCHEMA_INT32, "a.proto: p.M: f: its number"},
	{"f", 0x20000000, SCHEMA_INT32, "a.proto: p.M: f: its number"},
	{"f", 1, 0, "a.proto: p.M: f: its type"},
	{"f", 1, 19, "a.proto: p.M: f: its type"},
	{"f", 1, SCHEMA_MESSAGE, "a.proto: p.M: f: there is no message p.Gone"},
	{"", 1, SCHEMA_INT32, "a.proto: p.M: a field without a name"},
	{"a\"b", 1, SCHEMA_INT32, "a.proto: p.M: a field's name"},
	{"a\xff", 1, SCHEMA_INT32, "a.proto: p.M: a field's name"},
	{"other", 7, SCHEMA_INT32, "other: its number is taken"},
	{"fOo", 8, SCHEMA_INT32, "its JSON name is another field's too"},
};

static void mistake_is_named_with_file_and_type(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad_fields); i++) {
		struct made made;

		buf_init(&made.message, 4096);
		put(&made.message, 1, text("M"));
		add_field(&made, "f_oo", 7, SCHEMA_INT32);
		add_field(&made, bad_fields[i].name, bad_fields[i].number, bad_fields[i].type);

		struct span set = make_set(&made, "proto3");

		refuse(&set, 1, -EINVAL, bad_fields[i].words);
		free_set(&made);
	}
}

/* It has not the two fields that are looked at in each entry. */
static void message_that_json_writes_its_own_way_is_no_map_entry(void **state)
{
	struct buf options;
	struct made made;

	(void)state;
	buf_init(&options, 64);
	buf_init(&made.message, 4096);
	put(&made.message, 1, text("Empty"));
	assert_int_equal(pb_put_varint(&options, 7, 1), 0); /* map_entry */
	put(&made.message, 7, buf_span(&options));

	struct span set = make_set_of(&made, "google.protobuf", "proto3");

	refuse(&set, 1, -EINVAL, "a.proto: google.protobuf.Empty: is not what");
	free_set(&made);
	buf_finish(&options);
}

/* google.protobuf.Value with its last two members of this type. */
static struct span make_value(struct made *made, const char *type_name)
{
	struct buf value, kind;

	buf_init(&made->message, 4096);
	put(&made->message, 1, text("Value"));
	buf_init(&value, 64);
	put(&value, 1, text("NONE"));
	buf_init(&kind, 64);
	put(&kind, 1, text("Kind"));
	put(&kind, 2, buf_span(&value));
	put(&made->message, 4, buf_span(&kind));
	put(&made->message, 3, SPAN("\x0a\x04Held"));
	add_field_of(made, "f1", 1, SCHEMA_ENUM, ".google.protobuf.Value.Kind");
	add_field_of(made, "f2", 2, SCHEMA_DOUBLE, NULL);
	add_field_of(made, "f3", 3, SCHEMA_STRING, NULL);
	add_field_of(made, "f4", 4, SCHEMA_BOOL, NULL);
	add_field_of(made, "f5", 5, SCHEMA_MESSAGE, type_name);
	add_field_of(made, "f6", 6, SCHEMA_MESSAGE, type_name);
	buf_finish(&value);
	buf_finish(&kind);
	return make_set_of(made, "google.protobuf", "proto3");
}

/* One byte of JSON, a bracket, would be read for ever. */
static void value_that_holds_values_is_none(void **state)
{
	struct made made;
	struct schema *schema;
	struct schema_error error;
	struct span set = make_value(&made, ".google.protobuf.Value.Held");

	(void)state;
	assert_int_equal(schema_create(&schema, &set, 1, &error), 0);
	schema_destroy(schema);
	free_set(&made);
	set = make_value(&made, ".google.protobuf.Value");
	refuse(&set, 1, -EINVAL, "a.proto: google.protobuf.Value: is not what");
	free_set(&made);
}

static void file_of_two_sets_counts_once_or_differs(void **state)
{
	struct made made, other;
	struct schema *schema;
	struct schema_error error;

	(void)state;
	buf_init(&made.message, 4096);
	buf_init(&other.message, 4096);
	put(&made.message, 1, text("M"));
	put(&other.message, 1, text("N"));

	struct span first = make_set(&made, "proto3");
	struct span sets[] = {first, first, make_set(&other, "proto3"), test_descriptors(),
			      test_descriptors()};

	assert_int_equal(schema_create(&schema, sets, 2, &error), 0);
	schema_destroy(schema);
	assert_int_equal(schema_create(&schema, sets + 2, 3, &error), 0);
	assert_non_null(schema_find_message(schema, text("p.N")));
	assert_non_null(schema_find_message(schema, text("ringway.test.Odd")));
	schema_destroy(schema);
	refuse(sets + 1, 2, -EINVAL, "a.proto: differs");
	free_set(&other);
	free_set(&made);
}

static void syntax_is_proto2_or_proto3(void **state)
{
	struct made made;

	(void)state;
	buf_init(&made.message, 4096);
	put(&made.message, 1, text("M"));

	struct span set = make_set(&made, "editions");

	refuse(&set, 1, -EINVAL, "a.proto: its syntax");
	free_set(&made);
}

static void definitions_nested_too_deep_are_refused_before_they_recurse(void **state)
{
	struct buf inner, outer;
	struct made made;

	(void)state;
	buf_init(&inner, 1 << 20);
	buf_init(&outer, 1 << 20);
	put(&inner, 1, text("M"));
	for (int i = 0; i < SCHEMA_NESTING_MAX; i++) {
		buf_clear(&outer, 1 << 20);
		put(&outer, 1, text("M"));
		put(&outer, 3, buf_span(&inner));
		buf_clear(&inner, 1 << 20);
		assert_int_equal(buf_append(&inner, buf_span(&outer)), 0);
	}
	buf_init(&made.message, 1 << 20);
	assert_int_equal(buf_append(&made.message, buf_span(&inner)), 0);

	struct span set = make_set(&made, "proto3");

	refuse(&set, 1, -EINVAL, "nests too deep");
	free_set(&made);
	buf_finish(&inner);
	buf_finish(&outer);
}

/* Cut or changed anywhere: refused or read, never a crash; what is read answers look-ups. */
static void damaged_set_is_refused_or_read(void **state)
{
	struct span set = test_descriptors();
	uint8_t *copy = malloc(set.len);
	struct schema *schema;
	struct schema_error error;

	(void)state;
	assert_non_null(copy);
	for (size_t at = 1; at < set.len; at += 97) {
		memcpy(copy, set.data, set.len);
		copy[at] ^= (uint8_t)(1 + at % 255);

		struct span damaged = span_make(copy, at % 2 ? set.len : at);

		if (schema_create(&schema, &damaged, 1, &error) == 0)
			schema_find_message(schema, text("ringway.test.Order"));
		else
			assert_true(error.text[0]);
		schema_destroy(schema);
	}
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(types_are_found_by_full_name_only),
		cmocka_unit_test(every_field_is_found_by_number_and_by_both_names),
		cmocka_unit_test(json_names_are_protoc_s),
		cmocka_unit_test(json_name_is_made_when_it_is_not_given),
		cmocka_unit_test(field_says_how_it_is_written),
		cmocka_unit_test(enum_alias_is_written_by_its_first_name_and_read_by_all),
		cmocka_unit_test(method_has_its_types_streams_and_http_rules),
		cmocka_unit_test(http_rule_in_several_statements_is_one),
		cmocka_unit_test(dotted_path_goes_through_singular_messages_only),
		cmocka_unit_test(mistake_is_named_with_file_and_type),
		cmocka_unit_test(message_that_json_writes_its_own_way_is_no_map_entry),
		cmocka_unit_test(value_that_holds_values_is_none),
		cmocka_unit_test(file_of_two_sets_counts_once_or_differs),
		cmocka_unit_test(syntax_is_proto2_or_proto3),
		cmocka_unit_test(definitions_nested_too_deep_are_refused_before_they_recurse),
		cmocka_unit_test(damaged_set_is_refused_or_read),
	};

	return cmocka_run_group_tests_name("schema", tests, set_up, tear_down);
}
