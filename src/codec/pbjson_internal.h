/* pbjson's own: what the writer's and the reader's files share. */
#ifndef CODEC_PBJSON_INTERNAL_H
#define CODEC_PBJSON_INTERNAL_H

#include "codec/pb.h"
#include "codec/pbjson.h"

#include <endian.h>

/* Where in the message we are: one for each level of depth. */
struct pbjson_frame {
	const struct schema_field *field;
	struct span key; /* of a map or a Struct: as in the input, or empty */
	int64_t index;	 /* of a list, or -1 */
};

struct pbjson_frames {
	unsigned depth; /* of them in use; at[0] is the outermost message's */
	struct pbjson_frame at[PBJSON_DEPTH_MAX + 2];
};

/* Whether messages of this kind are a level of depth: those that may have others inside. */
static inline bool pbjson_nests(const struct schema_message *message)
{
	switch (message->kind) {
	case SCHEMA_PLAIN:
	case SCHEMA_EMPTY:
	case SCHEMA_ANY:
	case SCHEMA_STRUCT:
	case SCHEMA_LIST_VALUE:
		return true;
	default:
		return false; /* a Value's level is that of what is in it */
	}
}

/* "path: words" from the frames and, when it is not NULL, an unknown last name. Returns code. */
int pbjson_complain(struct pbjson_error *error, const struct pbjson_frames *frames,
		    const struct span *last, int code, const char *words);

/* ---- wire ---- */

/* What is behind the last byte; an empty span may have no place at all. */
static inline const uint8_t *pbjson_end_of(struct span bytes)
{
	return bytes.len > 0 ? bytes.data + bytes.len : bytes.data;
}

const uint8_t *pbjson_take_long_varint(const uint8_t *at, const uint8_t *end, uint64_t *value);

/* Returns what is behind the varint, or NULL when it is cut or too long. */
static inline const uint8_t *pbjson_take_varint(const uint8_t *at, const uint8_t *end,
						uint64_t *value)
{
	if (at < end && *at < 0x80) {
		*value = *at;
		return at + 1;
	}
	return pbjson_take_long_varint(at, end, value);
}

static inline const uint8_t *pbjson_take_fixed64(const uint8_t *at, const uint8_t *end,
						 uint64_t *value)
{
	if (end - at < 8)
		return NULL;
	memcpy(value, at, 8);
	*value = le64toh(*value);
	return at + 8;
}

static inline const uint8_t *pbjson_take_fixed32(const uint8_t *at, const uint8_t *end,
						 uint64_t *value)
{
	if (end - at < 4)
		return NULL;

	uint32_t word;

	memcpy(&word, at, 4);
	*value = le32toh(word);
	return at + 4;
}

static inline const uint8_t *pbjson_take_bytes(const uint8_t *at, const uint8_t *end,
					       struct span *bytes)
{
	uint64_t len;

	at = pbjson_take_varint(at, end, &len);
	if (!at || len > (uint64_t)(end - at))
		return NULL;
	*bytes = span_make(at, (size_t)len);
	return at + len;
}

/* One value of a wire type that is neither group nor length-delimited. */
static inline const uint8_t *pbjson_take_number(const uint8_t *at, const uint8_t *end,
						unsigned wire, uint64_t *value)
{
	if (wire == PB_VARINT)
		return pbjson_take_varint(at, end, value);
	return wire == PB_FIXED64 ? pbjson_take_fixed64(at, end, value)
				  : pbjson_take_fixed32(at, end, value);
}

#define PBJSON_TAG_MAX UINT32_MAX /* 29 bits of number, 3 of wire type */

/* Returns what is behind the value of a field that nobody wants, or NULL when malformed. */
const uint8_t *pbjson_skip(const uint8_t *at, const uint8_t *end, uint32_t tag);

/* Returns what is behind the tag, or NULL when it is none. */
static inline const uint8_t *pbjson_take_tag(const uint8_t *at, const uint8_t *end, uint32_t *tag)
{
	uint64_t value;

	at = pbjson_take_varint(at, end, &value);
	if (!at || value > PBJSON_TAG_MAX || value < 8)
		return NULL;
	*tag = (uint32_t)value;
	return at;
}

/* Whether a field may be on the wire in this type: its own, or packed. */
static inline bool pbjson_is_field_wire(const struct schema_field *field, unsigned wire)
{
	return wire == field->wire || (wire == PB_BYTES && field->is_repeated);
}

static inline size_t pbjson_varint_bytes(uint64_t value)
{
	return (size_t)(((64 - (unsigned)__builtin_clzll(value | 1)) + 6) / 7);
}

static inline uint8_t *pbjson_put_varint(uint8_t *at, uint64_t value)
{
	while (value >= 0x80) {
		*at++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*at++ = (uint8_t)value;
	return at;
}

/* ---- keys of a map, to find those that are there twice ---- */

struct pbjson_key {
	uint64_t hash;
	uint32_t at, len; /* whatever `same` makes of them: where the key or its entry is */
	uint32_t place;	  /* in the text: where to complain */
};

struct pbjson_keys {
	struct pbjson_key *keys;
	size_t count;
	bool (*same)(void *context, const struct pbjson_key *a, const struct pbjson_key *b);
	/* keys[earlier] and keys[later] are the same. Returns false to stop. */
	bool (*twice)(void *context, size_t earlier, size_t later);
	void *context;
};

/* Reports each key together with the one before it that is the same. Returns 0 or -ENOMEM. */
int pbjson_find_twice(const struct pbjson_keys *keys);

uint64_t pbjson_hash_key(struct span bytes);

/* ---- texts of well-known types ---- */

#define PBJSON_TIME_BYTES 40

/* Return the bytes written, or 0 when it is out of range. */
size_t pbjson_write_timestamp(uint8_t text[PBJSON_TIME_BYTES], int64_t seconds, int32_t nanos);
size_t pbjson_write_duration(uint8_t text[PBJSON_TIME_BYTES], int64_t seconds, int32_t nanos);
bool pbjson_read_timestamp(struct span text, int64_t *seconds, int32_t *nanos);
bool pbjson_read_duration(struct span text, int64_t *seconds, int32_t *nanos);

/* What a path of a FieldMask may have in JSON beside capitals: * stands for all fields. Others have
 * meanings of their own to some readers. */
static inline bool pbjson_is_path_byte(uint8_t byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' ||
	       byte == '*' || byte == '-';
}

/* The bytes of the character that begins here and is not ASCII, or 0. */
size_t pbjson_utf8_bytes(const uint8_t *at, const uint8_t *end);

#define PBJSON_EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Of eight bytes as they are in memory: the highest bit of each that is not plain, in the order of
 * le64toh; those behind the first such may be wrong. */
static inline uint64_t pbjson_special_bytes(uint64_t word)
{
	word = le64toh(word);

	uint64_t quote = word ^ PBJSON_EACH_BYTE('"'), escape = word ^ PBJSON_EACH_BYTE('\\');

	/* a byte of 0x80 or more is special anyway: what its sums borrow does not matter */
	return (word | (word - PBJSON_EACH_BYTE(0x20)) | (quote - PBJSON_EACH_BYTE(1)) |
		(escape - PBJSON_EACH_BYTE(1))) &
	       PBJSON_EACH_BYTE(0x80);
}

/* Which byte it is that the lowest of these bits stands for. */
static inline size_t pbjson_first_byte(uint64_t bits)
{
	return (size_t)__builtin_ctzll(bits) / 8;
}

/*
 * The length of the part of `text` that may stand in a JSON string as it is: printable ASCII but
 * quote and backslash.
 */
size_t pbjson_plain_bytes(const uint8_t *at, const uint8_t *end);

#endif
