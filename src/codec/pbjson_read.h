/* pbjson's own: the reader. */
#ifndef CODEC_PBJSON_READ_H
#define CODEC_PBJSON_READ_H

#include "codec/pbjson_internal.h"

/* What a value was that shall be left out (ignore_unknown). Never leaves. */
#define PBJSON_LEFT_OUT 1

/* What needs no memory of its own. */
#define GAPS_FIRST 32
#define KEYS_FIRST 32

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
	struct gap *gaps; /* by place: each message's before those inside */
	size_t gap_count, gap_cap;
	size_t missing_bytes;	 /* that the gaps so far will need */
	struct pbjson_key *keys; /* of the maps being read, inner ones above */
	size_t key_count, key_cap;
	uint64_t scans_left;	     /* bytes that looking ahead for an Any's type may still cost */
	struct pbjson_frames frames; /* this and what is behind it: not cleared before use */
	struct gap first_gaps[GAPS_FIRST];
	struct pbjson_key first_keys[KEYS_FIRST];
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

/* An array of `bytes` with as much again; `first` is the one that is in the reader itself. Returns
 * NULL without memory: the array is as it was. */
void *pbjson_double(void *array, const void *first, size_t bytes);

int pbjson_open(struct reader *reader, struct opening *opening);
int pbjson_close(struct reader *reader, const struct opening *opening);

/* The tag of a field as it is written, and room for `len` more bytes. */
static inline int pbjson_put_tag(struct reader *reader, const struct schema_field *field,
				 size_t len)
{
	int error = pbjson_target_room(reader, &reader->out, sizeof(field->tag) + len);

	if (error)
		return error;
	memcpy(reader->out.at, field->tag, sizeof(field->tag));
	reader->out.at += field->tag_bytes;
	return 0;
}

/* Length and bytes. */
int pbjson_put_bytes(struct reader *reader, struct span bytes);

/* ---- text ---- */

static inline void pbjson_skip_blank(struct reader *reader)
{
	/* one look tells of most bytes that they are none */
	while (reader->at < reader->end && *reader->at <= ' ' &&
	       (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' ||
		*reader->at == '\t'))
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

int pbjson_refuse_next(struct reader *reader, char last); /* what pbjson_take_next complains of */

/* The comma before the next element, or the end. Returns 1 for another element, which is no blank,
 * 0, or a code. */
static inline int pbjson_take_next(struct reader *reader, char last, bool is_first)
{
	uint8_t byte = pbjson_peek(reader);

	if (byte == (uint8_t)last) {
		reader->at++;
		return 0;
	}
	if (is_first)
		return 1;
	if (byte != ',')
		return pbjson_refuse_next(reader, last);
	reader->at++;
	return pbjson_peek(reader) == (uint8_t)last ? pbjson_refuse_next(reader, last) : 1;
}

/* Any value at all: what nobody wants. */
int pbjson_skip_value(struct reader *reader);

/* ---- values ---- */

/* A level of depth. */
int pbjson_enter(struct reader *reader);
void pbjson_leave(struct reader *reader);

/* One value as its type is written, behind its tag. */
int pbjson_read_value(struct reader *reader, const struct schema_field *field);

/* As it, with its tag, of a field that is not repeated; not written when it is the default and
 * there is no presence (which messages always have). */
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
