/* pbjson's own: the reader. */
#ifndef CODEC_PBJSON_READ_H
#define CODEC_PBJSON_READ_H

#include "codec/pbjson_internal.h"

/* What a value was that shall be left out (ignore_unknown). Never leaves. */
#define PBJSON_LEFT_OUT 1

/* Where decoded bytes go. */
struct target {
	uint8_t *at, *end; /* free part of buf, not claimed yet */
	struct buf *buf;
};

/*
 * A length-delimited value of 128 bytes or more: its length needs more than the one byte that was
 * left for it. All of these are made room for at the end, in one pass from behind.
 */
struct gap {
	uint32_t at;  /* of that byte */
	uint32_t len; /* final: with what will be made room for inside */
};

struct reader {
	const uint8_t *at, *end, *begin; /* the text */
	struct target out;
	struct target text; /* strings that cannot be used as they stand in the text */
	struct buf text_buf;
	const struct pbjson_options *options;
	struct pbjson_error *error;
	struct pbjson_frames frames;
	struct gap *gaps; /* by place: each message's before those inside */
	size_t gap_count, gap_cap;
	size_t missing_bytes;	 /* that the gaps so far will need */
	struct pbjson_key *keys; /* of the maps being read, inner ones above */
	size_t key_count, key_cap;
	uint64_t scans_left; /* bytes that looking ahead for an Any's type may still cost */
};

/* A length-delimited value being written. */
struct opening {
	size_t gap;
	size_t missing_bytes; /* when it was opened */
};

/* Complains at a place in the text. Returns -EINVAL. */
int pbjson_read_fail(struct reader *reader, const uint8_t *at, const char *words);

int pbjson_read_out_of_memory(struct reader *reader); /* -ENOMEM */
int pbjson_read_too_long(struct reader *reader);      /* -EMSGSIZE */

/* ---- output ---- */

int pbjson_target_grow(struct reader *reader, struct target *target, size_t len);

static inline int pbjson_target_room(struct reader *reader, struct target *target, size_t len)
{
	return (size_t)(target->end - target->at) >= len ? 0
							 : pbjson_target_grow(reader, target, len);
}

static inline size_t pbjson_target_offset(const struct target *target)
{
	return (size_t)(target->at - target->buf->data);
}

static inline void pbjson_target_rewind(struct target *target, size_t offset)
{
	target->at = target->buf->data + offset;
}

int pbjson_open(struct reader *reader, struct opening *opening);
int pbjson_close(struct reader *reader, const struct opening *opening);

/* The tag of a field as it is written, and room for `len` more bytes. */
int pbjson_put_tag(struct reader *reader, const struct schema_field *field, size_t len);

/* Length and bytes. */
int pbjson_put_bytes(struct reader *reader, struct span bytes);

/* ---- text ---- */

static inline void pbjson_skip_blank(struct reader *reader)
{
	while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\n' ||
					    *reader->at == '\r' || *reader->at == '\t'))
		reader->at++;
}

/* The next byte that is no blank, or 0 at the end. */
static inline uint8_t pbjson_peek(struct reader *reader)
{
	pbjson_skip_blank(reader);
	return reader->at < reader->end ? *reader->at : 0;
}

/* Takes this byte, if it is the next that is no blank. */
static inline bool pbjson_take(struct reader *reader, char byte)
{
	if (pbjson_peek(reader) != (uint8_t)byte)
		return false;
	reader->at++;
	return true;
}

/* Takes true, false or null. */
bool pbjson_take_word(struct reader *reader, struct span word);

/* Decodes the string behind its first quote into the target; takes its last quote. */
int pbjson_decode(struct reader *reader, struct target *target);

/* A string with its quotes, decoded. Lent until the next string. */
int pbjson_take_text(struct reader *reader, struct span *text);

/* The comma before the next element, or the end. Returns 1 for another element, 0, or a code. */
int pbjson_take_next(struct reader *reader, char last, bool is_first);

/* Any value at all: what nobody wants. */
int pbjson_skip_value(struct reader *reader);

/* ---- values ---- */

/* A level of depth. */
int pbjson_enter(struct reader *reader);
void pbjson_leave(struct reader *reader);

/* The value of a member, null included, with its tag. Returns 0, PBJSON_LEFT_OUT or a code.
 * `*is_set`: it was a value, not null. */
int pbjson_read_member(struct reader *reader, const struct schema_field *field, bool *is_set);

/* One value as its type is written, behind its tag. */
int pbjson_read_value(struct reader *reader, const struct schema_field *field);

/* As it, with its tag; not written when it is the default and there is no presence. */
int pbjson_read_tagged(struct reader *reader, const struct schema_field *field);

int pbjson_read_list(struct reader *reader, const struct schema_field *field);
int pbjson_read_map(struct reader *reader, const struct schema_field *field);

/* A message's content, without its length. */
int pbjson_read_message(struct reader *reader, const struct schema_message *message);

/* The members of an object behind its brace; of an Any's, "@type" has been read already. */
int pbjson_read_members(struct reader *reader, const struct schema_message *message, bool is_any);

/* pbjson_read_known.c */
int pbjson_read_known(struct reader *reader, const struct schema_message *message);

/* The text of a Timestamp, Duration or FieldMask. */
int pbjson_read_known_text(struct reader *reader, const struct schema_message *message,
			   const uint8_t *at, struct span text);

/* pbjson_read_scalar.c: behind the tag. `at` is where to complain. */
int pbjson_read_number(struct reader *reader, const struct schema_field *field);
int pbjson_put_number_text(struct reader *reader, const struct schema_field *field,
			   const uint8_t *at, struct span text);
int pbjson_put_bool(struct reader *reader, bool value);
int pbjson_read_enum(struct reader *reader, const struct schema_field *field);
int pbjson_put_enum_text(struct reader *reader, const struct schema_field *field, const uint8_t *at,
			 struct span text);
int pbjson_put_base64(struct reader *reader, const uint8_t *at, struct span text);

#endif
