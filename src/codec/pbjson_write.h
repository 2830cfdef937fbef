/* pbjson's own: the writer. */
#ifndef CODEC_PBJSON_WRITE_H
#define CODEC_PBJSON_WRITE_H

#include "codec/pbjson_internal.h"

#define PBJSON_SCRATCH_MAX                                                                         \
	(64u << 20) /* of sorted copies and keys at one time: 16 × the largest usual message */

/* The wire is out of order for one pass: begin again, sorting each message first. Never leaves. */
#define PBJSON_UNSORTED 1

struct writer {
	uint8_t *at, *end; /* free part of out, not claimed yet */
	struct buf *out;
	const struct pbjson_options *options;
	struct pbjson_error *error;
	const struct schema_message *top;
	size_t scratch_bytes;
	bool sorts; /* each message is looked through and, if need be, sorted before it is written
		     */
	struct pbjson_frames frames; /* last: not cleared before use */
};

/* Makes room for `len` bytes. Returns 0 or a code. */
int pbjson_writer_grow(struct writer *writer, size_t len);

static inline int pbjson_room(struct writer *writer, size_t len)
{
	return (size_t)(writer->end - writer->at) >= len ? 0 : pbjson_writer_grow(writer, len);
}

static inline void pbjson_put(struct writer *writer, struct span text)
{
	memcpy(writer->at, text.data, text.len);
	writer->at += text.len;
}

static inline int pbjson_append(struct writer *writer, struct span text)
{
	int error = pbjson_room(writer, text.len);

	if (!error)
		pbjson_put(writer, text);
	return error;
}

int pbjson_write_fail(struct writer *writer, int code, const char *words);

/* A quoted string; its UTF-8 is checked. */
int pbjson_write_string(struct writer *writer, struct span text);

/* The members of a plain message, without braces; `more`: something stands before them already. */
int pbjson_write_members(struct writer *writer, const struct schema_message *message,
			 struct span wire, bool more);

/* One value of a field: bytes or number, as its wire type is. */
int pbjson_write_value(struct writer *writer, const struct schema_field *field, uint64_t number,
		       struct span bytes);

/* Any message, as its kind is written. Counts as a level of depth if it nests. */
int pbjson_write_message(struct writer *writer, const struct schema_message *message,
			 struct span wire);

/* The value of one field of the message in `wire`, or `absent`. */
int pbjson_write_only(struct writer *writer, const struct schema_message *message,
		      const struct schema_field *field, struct span wire, struct span absent);

/* What a field without a value is printed as. */
struct span pbjson_default_text(const struct schema_field *field);

/* pbjson_known.c: the kinds that are not plain; depth is counted. */
int pbjson_write_known(struct writer *writer, const struct schema_message *message,
		       struct span wire);

/* pbjson_map.c: the map whose entries begin at `*at`, behind the first one's tag. */
int pbjson_write_map(struct writer *writer, const struct schema_field *field, const uint8_t **at,
		     const uint8_t *end);

/*
 * pbjson_sort.c: the message as a parser would understand it and a careful serializer write it: by
 * number, each singular field once (messages merged), one member of each oneof, nothing unknown.
 */
struct pbjson_sorted {
	struct span wire; /* the message itself if it was in order, else a copy */
	uint8_t *copy;	  /* freed by pbjson_sort_finish */
	size_t charged_bytes;
};

int pbjson_sort(struct writer *writer, const struct schema_message *message, struct span wire,
		struct pbjson_sorted *sorted);
void pbjson_sort_finish(struct writer *writer, struct pbjson_sorted *sorted);

#endif
