/*
 * pbjson: between protobuf wire bytes and canonical proto3 JSON, by the tables of a schema,
 * straight from one text to the other: no message is ever built. Pure; any thread, one call at a
 * time each. Source: protobuf.dev/programming-guides/json
 */
#ifndef CODEC_PBJSON_H
#define CODEC_PBJSON_H

#include "base/buf.h"
#include "codec/schema.h"

#define PBJSON_DEPTH_MAX                                                                           \
	64 /* messages in each other, the outermost being the first; each level of a Struct, Value \
	      or ListValue counts, too */

struct pbjson_error {
	size_t offset;	/* in the input, of the reader; 0 of the writer */
	char text[320]; /* "items[3].price: number out of range" */
};

/* Where output goes before it is complete. */
struct pbjson_sink {
	/* Takes what is in `out` and empties it (buf_clear). Returns 0 or a negative code, which
	 * ends the writing. */
	int (*flush)(void *context, struct buf *out);
	void *context;
	size_t chunk_bytes; /* called when there is about as much */
};

struct pbjson_options {
	const struct schema *schema;	/* where an Any's type is looked up */
	const struct pbjson_sink *sink; /* writer; NULL: `out` takes all */
	bool print_defaults; /* writer: fields without presence even if they have the default */
	bool ignore_unknown; /* reader: unknown members and names of enum values are left out */
};

/*
 * Appends the JSON text of the message in `wire`. What is repeated out of order, merged or
 * overridden on the wire comes out as a parser would have it; unknown fields and what is overridden
 * are left out and not looked into. Returns 0, -EPROTO (malformed wire), -EILSEQ (invalid UTF-8),
 * -EINVAL (no JSON for it: an unknown Any, a timestamp out of range, nested too deep), -EMSGSIZE
 * (out's bound, or too much to sort), -ENOMEM, the sink's code. On an error `out` is as it was,
 * unless a sink took part of it.
 */
int pbjson_write(const struct pbjson_options *options, const struct schema_message *message,
		 struct span wire, struct buf *out, struct pbjson_error *error);

/* The same for the value of one field of the message in `wire`; its default (null for a message
 * that is not there) when it has none. */
int pbjson_write_field(const struct pbjson_options *options, const struct schema_message *message,
		       const struct schema_field *field, struct span wire, struct buf *out,
		       struct pbjson_error *error);

/*
 * Appends the wire form of the message that is all of `text`.
 * Returns 0, -EINVAL (the error says what, in which field, at which byte), -EMSGSIZE, -ENOMEM.
 * On an error `out` is as it was.
 */
int pbjson_read(const struct pbjson_options *options, const struct schema_message *message,
		struct span text, struct buf *out, struct pbjson_error *error);

/* `text` is the JSON value of one field, which is appended with its tag. */
int pbjson_read_field(const struct pbjson_options *options, const struct schema_field *field,
		      struct span text, struct buf *out, struct pbjson_error *error);

/*
 * `text` is one value as a URL has it, decoded: no quotes, no escapes. The last field of `path`
 * (schema_find_path) is a scalar, an enum, or a message that JSON writes as a scalar (wrapper,
 * Timestamp, Duration, FieldMask); if it is repeated, this is one element. It is appended inside of
 * the messages before it in the path; what is appended twice merges, as protobuf's parsers do.
 */
int pbjson_read_text(const struct pbjson_options *options, const struct schema_field *const *path,
		     size_t path_count, struct span text, struct buf *out,
		     struct pbjson_error *error);

#endif
