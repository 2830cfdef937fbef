/*
 * schema: what protobuf descriptor sets loaded at run time say, as tables that never change:
 * messages, enums, services, and the HTTP rules of their methods. Pure; once made, any thread reads
 * it. Source: google/protobuf/descriptor.proto, google/api/http.proto.
 */
#ifndef CODEC_SCHEMA_H
#define CODEC_SCHEMA_H

#include "base/span.h"

#define SCHEMA_SET_BYTES_MAX  (16u << 20)  /* of one descriptor set: source comments included */
#define SCHEMA_BYTES_MAX      (128u << 20) /* of all tables together */
#define SCHEMA_FILES_MAX      4096
#define SCHEMA_SYMBOLS_MAX    65536 /* messages, enums and services together */
#define SCHEMA_FIELDS_MAX     2048  /* of one message: readers keep a bit for each on the stack */
#define SCHEMA_ONEOFS_MAX     512   /* of one message: the same */
#define SCHEMA_VALUES_MAX     16384 /* of one enum */
#define SCHEMA_METHODS_MAX    1024  /* of one service */
#define SCHEMA_NESTING_MAX    32    /* of message definitions in each other */
#define SCHEMA_NAME_BYTES_MAX 1024  /* of a full name */
#define SCHEMA_RULES_MAX      64    /* HTTP bindings of one method */
#define SCHEMA_KEY_ROOM	      16
#define SCHEMA_PATH_MAX	      16 /* names in a dotted path */

/* FieldDescriptorProto.Type */
enum schema_type {
	SCHEMA_DOUBLE = 1,
	SCHEMA_FLOAT = 2,
	SCHEMA_INT64 = 3,
	SCHEMA_UINT64 = 4,
	SCHEMA_INT32 = 5,
	SCHEMA_FIXED64 = 6,
	SCHEMA_FIXED32 = 7,
	SCHEMA_BOOL = 8,
	SCHEMA_STRING = 9,
	SCHEMA_GROUP = 10, /* proto2; never in a table, such fields are left out */
	SCHEMA_MESSAGE = 11,
	SCHEMA_BYTES = 12,
	SCHEMA_UINT32 = 13,
	SCHEMA_ENUM = 14,
	SCHEMA_SFIXED32 = 15,
	SCHEMA_SFIXED64 = 16,
	SCHEMA_SINT32 = 17,
	SCHEMA_SINT64 = 18
};

/* Messages that JSON writes in a way of their own. */
enum schema_kind {
	SCHEMA_PLAIN,
	SCHEMA_ANY,
	SCHEMA_TIMESTAMP,
	SCHEMA_DURATION,
	SCHEMA_FIELD_MASK,
	SCHEMA_STRUCT,
	SCHEMA_VALUE,
	SCHEMA_LIST_VALUE,
	SCHEMA_WRAPPER, /* fields[0] is `value`, number 1 */
	SCHEMA_EMPTY
};

struct schema_enum_value {
	struct span name;
	struct span quoted; /* "NAME" with its quotes */
	int32_t number;
	uint16_t place; /* in the declaration */
};

struct schema_enum {
	struct span name; /* "pkg.Outer.Kind" */
	const struct schema_enum_value
		*by_number; /* ascending; of equals, the first declared first */
	const struct schema_enum_value **by_name; /* by length, then bytes */
	uint32_t value_count;
	bool is_null_value; /* google.protobuf.NullValue: null in JSON */
};

struct schema_field {
	struct span name;      /* as declared */
	struct span json_name; /* lowerCamelCase, or what the option says */
	struct span key; /* "jsonName": with quotes and colon, as written; a comma is before it and
			    SCHEMA_KEY_ROOM bytes behind it, so that copies need not be exact */
	const struct schema_message *message;  /* SCHEMA_MESSAGE: its type; of a map, the entry's */
	const struct schema_enum *enumeration; /* SCHEMA_ENUM */
	uint32_t number;
	uint16_t index;	   /* in the message's fields */
	int16_t oneof;	   /* index of the oneof that it is a member of, or -1 */
	uint8_t type;	   /* enum schema_type */
	uint8_t wire;	   /* enum pb_wire of one value */
	bool is_repeated;  /* maps too */
	bool is_packed;	   /* is written packed; both forms are read */
	bool is_map;	   /* message->fields[0] is the key, [1] the value */
	bool has_presence; /* a default value on the wire is a value: optional, oneof, message,
			      proto2 */
	uint8_t tag_bytes;
	uint8_t tag[5]; /* as it is written: the packed one's for a packed field */
};

struct schema_name; /* one slot of a message's table of names */

struct schema_message {
	struct span name;		   /* "pkg.Outer.Inner" */
	const char *file;		   /* where it is declared */
	const struct schema_field *fields; /* by number, ascending */
	const uint16_t *by_number; /* number -> index + 1, or 0; for numbers below dense_count */
	const struct schema_name *names; /* open addressing: both names of each field */
	uint32_t name_mask;
	uint32_t dense_count;
	uint16_t field_count;
	uint16_t oneof_count;
	enum schema_kind kind;
	bool is_map_entry;
};

/* One binding of google.api.http; of a method with additional_bindings, each is one. */
struct schema_http_rule {
	struct span verb;	   /* "GET", …, or a custom kind as written; "*" is any */
	struct span path;	   /* the template */
	struct span body;	   /* empty: none; "*"; or a field's name */
	struct span response_body; /* empty: the whole message; or a field's name */
};

struct schema_method {
	struct span name;
	struct span path; /* "/pkg.Service/Method" */
	const struct schema_service *service;
	const struct schema_message *input, *output;
	bool client_streams, server_streams;
	const struct schema_http_rule *rules; /* the method's own first, then the additional ones */
	size_t rule_count;		      /* 0: not annotated */
};

struct schema_service {
	struct span name; /* "pkg.Service" */
	const char *file;
	const struct schema_method *methods;
	size_t method_count;
};

struct schema_error {
	char text[384]; /* "file.proto: pkg.Message.field: what is wrong" */
};

struct schema;

/*
 * Reads FileDescriptorSets in wire form (protoc --include_imports --descriptor_set_out). A file
 * that is in several sets counts once; unless it is google's own it must be the same in all.
 * Returns 0, -EINVAL (the error says what and where), -EMSGSIZE (a bound above), -ENOMEM.
 * Owns: the caller frees the schema with schema_destroy; the sets are not needed afterwards.
 */
int schema_create(struct schema **schema, const struct span *sets, size_t set_count,
		  struct schema_error *error);
void schema_destroy(struct schema *schema);

/* By full name, without a leading dot. Return NULL when there is none. Lifetime: the schema's. */
const struct schema_message *schema_find_message(const struct schema *schema, struct span name);
const struct schema_enum *schema_find_enum(const struct schema *schema, struct span name);
const struct schema_service *schema_find_service(const struct schema *schema, struct span name);

/* "pkg.Service/Method", with or without a leading slash. */
const struct schema_method *schema_find_method(const struct schema *schema, struct span path);

const struct schema_method *schema_service_method(const struct schema_service *service,
						  struct span name);

const struct schema_field *schema_field_of_number(const struct schema_message *message,
						  uint32_t number);

/* By JSON name or declared name. */
const struct schema_field *schema_field_of_name(const struct schema_message *message,
						struct span name);

/*
 * The fields that a dotted path ("user.address.city") goes through; all but the last are singular
 * messages. Returns how many, or 0 when the path does not exist or is longer than SCHEMA_PATH_MAX.
 */
size_t schema_find_path(const struct schema_message *message, struct span path,
			const struct schema_field *fields[SCHEMA_PATH_MAX]);

/* Of values with this number the first declared, or NULL. */
const struct schema_enum_value *schema_value_of_number(const struct schema_enum *enumeration,
						       int32_t number);
const struct schema_enum_value *schema_value_of_name(const struct schema_enum *enumeration,
						     struct span name);

#endif
