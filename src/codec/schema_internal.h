/* schema's own: the tables while they are made. */
#ifndef CODEC_SCHEMA_INTERNAL_H
#define CODEC_SCHEMA_INTERNAL_H

#include "base/arena.h"
#include "codec/schema.h"

enum symbol_kind { SYMBOL_MESSAGE, SYMBOL_ENUM, SYMBOL_SERVICE };

struct symbol {
	struct span name;
	enum symbol_kind kind;
	const char *file;
	void *object;	    /* struct schema_message, schema_enum, schema_service */
	const void *source; /* the protobuf-c message it is made from: while building only */
	bool is_proto3;
};

struct schema {
	struct arena arena;
	struct symbol *symbols; /* by name, once sorted */
	size_t symbol_count, symbol_cap;
};

struct schema_name {
	struct span name; /* data NULL: free */
	uint32_t hash;
	uint16_t index;
};

const struct symbol *schema_find_symbol(const struct schema *schema, struct span name);

/* By length, then bytes. */
int schema_compare_names(struct span a, struct span b);

/* "file: where: what" (where may be empty). Returns code. */
int schema_complain(struct schema_error *error, int code, const char *file, struct span where,
		    const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Of long names the ends, the middle and the length: names of one message differ there. */
static inline uint32_t schema_hash_name(struct span name)
{
	uint64_t head = 0, tail = 0, middle = 0;

	if (name.len > 16)
		memcpy(&middle, name.data + name.len / 2 - 4, 8);
	if (name.len >= 8) {
		memcpy(&head, name.data, 8);
		memcpy(&tail, name.data + name.len - 8, 8);
	} else if (name.len >= 4) {
		memcpy(&head, name.data, 4);
		memcpy(&tail, name.data + name.len - 4, 4);
	} else if (name.len > 0) {
		head = name.data[0] | (uint64_t)name.data[name.len / 2] << 8 |
		       (uint64_t)name.data[name.len - 1] << 16;
	}
	head = (head ^ (tail << 29 | tail >> 35) ^ middle * 31 ^ name.len) *
	       UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(head >> 32);
}

/* schema_link.c: the tables of one message or enum, from its protobuf-c source. Return 0 or a code.
 */
int schema_link_message(struct schema *schema, const struct symbol *symbol,
			struct schema_error *error);
int schema_link_enum(struct schema *schema, const struct symbol *symbol,
		     struct schema_error *error);

/* schema_service.c */
int schema_link_service(struct schema *schema, const struct symbol *symbol,
			struct schema_error *error);

#endif
