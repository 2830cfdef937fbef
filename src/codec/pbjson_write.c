#include "base/base64.h"
#include "codec/number.h"
#include "codec/pbjson_write.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#define ROOM_FIRST  256 /* out grows at least by as much */
#define ONEOFS_FAST 64	/* of a message, to be watched in one word */

/* ---- output ---- */

static void claim(struct writer *writer)
{
	if (writer->at)
		buf_claim(writer->out,
			  (size_t)(writer->at - (writer->out->data + writer->out->len)));
}

static int lend_room(struct writer *writer, size_t len)
{
	struct buf *out = writer->out;
	uint8_t *at = buf_reserve(
		out, len < ROOM_FIRST && out->max - out->len >= ROOM_FIRST ? ROOM_FIRST : len);

	writer->at = writer->end = NULL;
	if (!at)
		return len > out->max - out->len ? -EMSGSIZE : -ENOMEM;
	writer->at = at;
	writer->end = out->data + (out->cap < out->max ? out->cap : out->max);
	return 0;
}

int pbjson_writer_grow(struct writer *writer, size_t len)
{
	const struct pbjson_sink *sink = writer->options->sink;

	claim(writer);
	if (sink && writer->out->len >= sink->chunk_bytes) {
		int error = sink->flush(sink->context, writer->out);

		if (error) {
			writer->at = writer->end = NULL;
			return error;
		}
	}

	int error = lend_room(writer, len);

	return error ? pbjson_write_fail(writer, error,
					 error == -EMSGSIZE ? "the text is too long" : "no memory")
		     : 0;
}

int pbjson_write_fail(struct writer *writer, int code, const char *words)
{
	return pbjson_complain(writer->error, &writer->frames, NULL, code, words);
}

static int malformed(struct writer *writer)
{
	pbjson_write_fail(writer, -EPROTO, "malformed protobuf");
	return -EPROTO;
}

/* ---- strings ---- */

static int write_escape(struct writer *writer, uint8_t byte)
{
	static const char letters[0x20] = {
		['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
	};
	static const char hex[] = "0123456789abcdef";
	uint8_t *at = writer->at;

	*at++ = '\\';
	if (byte >= 0x20 || letters[byte]) {
		*at++ = byte >= 0x20 ? byte : (uint8_t)letters[byte];
	} else {
		memcpy(at, "u00", 3);
		at[3] = (uint8_t)hex[byte >> 4];
		at[4] = (uint8_t)hex[byte & 15];
		at += 5;
	}
	writer->at = at;
	return 0;
}

/* As put_plain, of less than eight bytes. */
static inline size_t put_plain_short(uint8_t *to, const uint8_t *at, size_t len)
{
	uint64_t word = PBJSON_EACH_BYTE(' ') << (8 * len), special;
	uint32_t head, tail;

	if (len >= 4) {
		memcpy(&head, at, 4);
		memcpy(&tail, at + len - 4, 4);
		memcpy(to, &head, 4);
		memcpy(to + len - 4, &tail, 4);
		word |= le32toh(head) | (uint64_t)le32toh(tail) << (8 * (len - 4));
	} else {
		for (size_t i = 0; i < len; i++) {
			to[i] = at[i];
			word |= (uint64_t)at[i] << (8 * i);
		}
	}
	special = pbjson_special_bytes(htole64(word));
	return special ? pbjson_first_byte(special) : len;
}

/*
 * Copies a string, by words of which the last may take some bytes again, up to the first byte that
 * is not plain; what is in `to` behind it does not count. Returns the bytes before it.
 */
static inline size_t put_plain(uint8_t *to, const uint8_t *at, size_t len)
{
	if (len < 8)
		return put_plain_short(to, at, len);
	for (size_t done = 0;; done = len - done < 16 ? len - 8 : done + 8) {
		uint64_t word, special;

		memcpy(&word, at + done, 8);
		memcpy(to + done, &word, 8);
		special = pbjson_special_bytes(word);
		if (special)
			return done + pbjson_first_byte(special);
		if (done + 8 == len)
			return len;
	}
}

/* What is behind the plain part of a string. */
static int write_string_rest(struct writer *writer, const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		size_t len = *at < 0x80 ? 1 : pbjson_utf8_bytes(at, end);

		/* room for all that is left, an escape and the last quote */
		int error = pbjson_room(writer, (size_t)(end - at) + 6 + 1);

		if (error)
			return error;
		if (len == 0)
			return pbjson_write_fail(writer, -EILSEQ, "invalid UTF-8 in a string");
		if (len == 1)
			write_escape(writer, *at);
		else
			pbjson_put(writer, span_make(at, len));
		at += len;
		len = at < end ? put_plain(writer->at, at, (size_t)(end - at)) : 0;
		writer->at += len;
		at += len;
	}
	return 0;
}

int pbjson_write_string(struct writer *writer, struct span text)
{
	int error = pbjson_room(writer, text.len + 2);

	if (error)
		return error;
	*writer->at++ = '"';
	if (text.len > 0) {
		size_t plain = put_plain(writer->at, text.data, text.len);

		writer->at += plain;
		if (plain < text.len) {
			error = write_string_rest(writer, text.data + plain, text.data + text.len);
			if (error)
				return error;
		}
	}
	*writer->at++ = '"'; /* the rest's own room has it, too */
	return 0;
}

static int write_bytes(struct writer *writer, struct span bytes)
{
	int error = pbjson_room(writer, (bytes.len + 2) / 3 * 4 + 2);

	if (error)
		return error;
	*writer->at++ = '"';
	writer->at = base64_write(writer->at, bytes);
	*writer->at++ = '"';
	return 0;
}

/* ---- scalars ---- */

static void put_real(struct writer *writer, double value, bool is_float)
{
	if (isnan(value))
		pbjson_put(writer, SPAN("\"NaN\""));
	else if (isinf(value))
		pbjson_put(writer, value > 0 ? SPAN("\"Infinity\"") : SPAN("\"-Infinity\""));
	else
		writer->at = is_float ? number_write_float(writer->at, (float)value)
				      : number_write_double(writer->at, value);
}

static void put_quoted(struct writer *writer, uint64_t value, bool is_signed)
{
	*writer->at++ = '"';
	writer->at = is_signed ? number_write_int64(writer->at, (int64_t)value)
			       : number_write_uint64(writer->at, value);
	*writer->at++ = '"';
}

static int write_enum(struct writer *writer, const struct schema_enum *enumeration, int32_t number)
{
	const struct schema_enum_value *value;

	if (enumeration->is_null_value)
		return pbjson_append(writer, SPAN("null"));
	value = schema_value_of_number(enumeration, number);
	if (value)
		return pbjson_append(writer, value->quoted);

	int error = pbjson_room(writer, NUMBER_TEXT_BYTES);

	if (!error)
		writer->at = number_write_int64(writer->at, number);
	return error;
}

static uint64_t unzigzag(uint64_t value)
{
	return value >> 1 ^ (0 - (value & 1));
}

/* A value that is not length-delimited, as the wire has it. */
static int write_number(struct writer *writer, const struct schema_field *field, uint64_t value)
{
	double real;
	float single;
	uint32_t low = (uint32_t)value;
	int error = pbjson_room(writer, NUMBER_TEXT_BYTES + 2);

	if (error)
		return error;
	switch ((enum schema_type)field->type) {
	case SCHEMA_INT32:
	case SCHEMA_SFIXED32:
		writer->at = number_write_int64(writer->at, (int32_t)low);
		return 0;
	case SCHEMA_UINT32:
	case SCHEMA_FIXED32:
		writer->at = number_write_uint64(writer->at, low);
		return 0;
	case SCHEMA_SINT32:
		writer->at = number_write_int64(writer->at, (int32_t)unzigzag(low));
		return 0;
	case SCHEMA_INT64:
	case SCHEMA_SFIXED64:
		put_quoted(writer, value, true);
		return 0;
	case SCHEMA_UINT64:
	case SCHEMA_FIXED64:
		put_quoted(writer, value, false);
		return 0;
	case SCHEMA_SINT64:
		put_quoted(writer, unzigzag(value), true);
		return 0;
	case SCHEMA_BOOL:
		pbjson_put(writer, value ? SPAN("true") : SPAN("false"));
		return 0;
	case SCHEMA_DOUBLE:
		memcpy(&real, &value, sizeof(real));
		put_real(writer, real, false);
		return 0;
	case SCHEMA_FLOAT:
		memcpy(&single, &low, sizeof(single));
		put_real(writer, (double)single, true);
		return 0;
	case SCHEMA_ENUM:
		return write_enum(writer, field->enumeration, (int32_t)low);
	case SCHEMA_STRING:
	case SCHEMA_BYTES:
	case SCHEMA_MESSAGE:
	case SCHEMA_GROUP:
		break;
	}
	return pbjson_write_fail(writer, -EINVAL, "no such type");
}

static int write_delimited(struct writer *writer, const struct schema_field *field,
			   struct span bytes)
{
	if (field->type == SCHEMA_MESSAGE)
		return pbjson_write_message(writer, field->message, bytes);
	return field->type == SCHEMA_STRING ? pbjson_write_string(writer, bytes)
					    : write_bytes(writer, bytes);
}

int pbjson_write_value(struct writer *writer, const struct schema_field *field, uint64_t number,
		       struct span bytes)
{
	return field->wire == PB_BYTES ? write_delimited(writer, field, bytes)
				       : write_number(writer, field, number);
}

struct span pbjson_default_text(const struct schema_field *field)
{
	const struct schema_enum_value *value;

	if (field->is_repeated)
		return field->is_map ? SPAN("{}") : SPAN("[]");
	switch ((enum schema_type)field->type) {
	case SCHEMA_MESSAGE:
		return SPAN("null");
	case SCHEMA_ENUM:
		if (field->enumeration->is_null_value)
			return SPAN("null");
		value = schema_value_of_number(field->enumeration, 0);
		return value ? value->quoted : SPAN("0");
	case SCHEMA_BOOL:
		return SPAN("false");
	case SCHEMA_STRING:
	case SCHEMA_BYTES:
		return SPAN("\"\"");
	case SCHEMA_INT64:
	case SCHEMA_UINT64:
	case SCHEMA_SINT64:
	case SCHEMA_FIXED64:
	case SCHEMA_SFIXED64:
		return SPAN("\"0\"");
	default:
		return SPAN("0");
	}
}

/* ---- members ---- */

/* One message's members as they are written. */
struct members {
	const struct schema_message *message;
	uint32_t next;	 /* index of the first field that may still come */
	uint64_t oneofs; /* those that have a member */
	bool more;	 /* a comma is due */
};

static inline int write_key(struct writer *writer, struct members *members,
			    const struct schema_field *field)
{
	size_t comma = members->more, len = comma + field->key.len;
	const uint8_t *key = field->key.data - comma;

	members->more = true;
	if ((size_t)(writer->end - writer->at) < len + SCHEMA_KEY_ROOM)
		return pbjson_append(writer, span_make(key, len));
	for (size_t i = 0; i < len; i += SCHEMA_KEY_ROOM)
		memcpy(writer->at + i, key + i, SCHEMA_KEY_ROOM);
	writer->at += len;
	return 0;
}

/* The fields between the last one written and this one. */
static int write_defaults(struct writer *writer, struct members *members, uint32_t until)
{
	for (; members->next < until; members->next++) {
		const struct schema_field *field = &members->message->fields[members->next];
		int error;

		if (field->has_presence)
			continue;
		if ((error = write_key(writer, members, field)) ||
		    (error = pbjson_append(writer, pbjson_default_text(field))))
			return error;
	}
	return 0;
}

/* One list: all occurrences that follow each other, packed or not. */
struct list {
	struct members *members;
	const struct schema_field *field;
	struct pbjson_frame *frame;
	bool with_key;
	bool is_empty; /* once written */
};

static int open_element(struct writer *writer, struct list *list)
{
	int error = 0;

	if (++list->frame->index > 0)
		return pbjson_append(writer, SPAN(","));
	if (list->with_key)
		error = write_key(writer, list->members, list->field);
	return error ? error : pbjson_append(writer, SPAN("["));
}

static int write_packed(struct writer *writer, struct list *list, struct span packed)
{
	const uint8_t *at = packed.data, *end = pbjson_end_of(packed);
	uint64_t value;

	while (at < end) {
		at = pbjson_take_number(at, end, list->field->wire, &value);
		if (!at)
			return malformed(writer);

		int error = open_element(writer, list);

		if (error || (error = write_number(writer, list->field, value)))
			return error;
	}
	return 0;
}

/* What is behind one tag of the list. */
static int write_occurrence(struct writer *writer, struct list *list, unsigned wire,
			    const uint8_t **at, const uint8_t *end)
{
	const struct schema_field *field = list->field;
	struct span bytes;
	uint64_t value;
	int error;

	if (wire != PB_BYTES) {
		*at = pbjson_take_number(*at, end, wire, &value);
		if (!*at)
			return malformed(writer);
		error = open_element(writer, list);
		return error ? error : write_number(writer, field, value);
	}
	*at = pbjson_take_bytes(*at, end, &bytes);
	if (!*at)
		return malformed(writer);
	if (field->wire != PB_BYTES)
		return write_packed(writer, list, bytes);
	error = open_element(writer, list);
	return error ? error : write_delimited(writer, field, bytes);
}

/* `*at` is behind the first tag; afterwards behind the last value that follows without a gap. */
static int write_list(struct writer *writer, struct list *list, unsigned wire, const uint8_t **at,
		      const uint8_t *end)
{
	struct pbjson_frame *frame = list->frame;

	frame->index = -1;
	for (;;) {
		uint32_t tag;
		int error = write_occurrence(writer, list, wire, at, end);

		if (error)
			return error;
		if (*at == end)
			break;

		const uint8_t *behind = pbjson_take_tag(*at, end, &tag);

		if (!behind)
			return malformed(writer);
		if (tag >> 3 != list->field->number || !pbjson_is_field_wire(list->field, tag & 7))
			break;
		wire = tag & 7;
		*at = behind;
	}

	list->is_empty = frame->index < 0;
	frame->index = -1;
	return list->is_empty ? 0 : pbjson_append(writer, SPAN("]"));
}

static int write_repeated(struct writer *writer, struct members *members,
			  const struct schema_field *field, unsigned wire, const uint8_t **at,
			  const uint8_t *end)
{
	struct list list = {.members = members,
			    .field = field,
			    .frame = &writer->frames.at[writer->frames.depth - 1],
			    .with_key = true};
	int error;

	if (field->is_map) {
		error = write_key(writer, members, field);
		return error ? error : pbjson_write_map(writer, field, at, end);
	}
	error = write_list(writer, &list, wire, at, end);
	if (error || !list.is_empty || !writer->options->print_defaults)
		return error;
	error = write_key(writer, members, field);
	return error ? error : pbjson_append(writer, SPAN("[]"));
}

/* Types of 32 bits are cut to them: what is left may be 0. */
static bool is_default(const struct schema_field *field, uint64_t value)
{
	switch ((enum schema_type)field->type) {
	case SCHEMA_INT32:
	case SCHEMA_UINT32:
	case SCHEMA_SINT32:
	case SCHEMA_ENUM:
		return (uint32_t)value == 0;
	default:
		return value == 0;
	}
}

static bool hides_default(const struct writer *writer, const struct schema_field *field)
{
	return !field->has_presence && !writer->options->print_defaults;
}

static int write_singular(struct writer *writer, struct members *members,
			  const struct schema_field *field, const uint8_t **at, const uint8_t *end)
{
	struct span bytes;
	uint64_t value;
	int error;

	if (field->wire == PB_BYTES) {
		*at = pbjson_take_bytes(*at, end, &bytes);
		if (!*at)
			return malformed(writer);
		if (bytes.len == 0 && hides_default(writer, field))
			return 0;
		error = write_key(writer, members, field);
		return error ? error : write_delimited(writer, field, bytes);
	}
	*at = pbjson_take_number(*at, end, field->wire, &value);
	if (!*at)
		return malformed(writer);
	if (is_default(field, value) && hides_default(writer, field))
		return 0;
	error = write_key(writer, members, field);
	return error ? error : write_number(writer, field, value);
}

/* Whether the field may come here in one pass. */
static bool is_in_order(struct members *members, const struct schema_field *field)
{
	if (field->index < members->next)
		return false;
	if (field->oneof >= 0) {
		if (field->oneof >= ONEOFS_FAST)
			return false;

		uint64_t bit = UINT64_C(1) << field->oneof;

		if (members->oneofs & bit)
			return false;
		members->oneofs |= bit;
	}
	return true;
}

static int write_in_order(struct writer *writer, struct members *members, struct span wire)
{
	const struct schema_message *message = members->message;
	const uint8_t *at = wire.data, *end = pbjson_end_of(wire);
	struct pbjson_frame *frame = &writer->frames.at[writer->frames.depth - 1];

	while (at < end) {
		const struct schema_field *field = &message->fields[members->next];
		uint32_t tag;
		int error = 0;

		/* mostly it is the next one, and its tag a byte */
		if (members->next < message->field_count && field->tag_bytes == 1 &&
		    field->tag[0] == *at) {
			tag = *at++;
		} else {
			at = pbjson_take_tag(at, end, &tag);
			if (!at)
				return malformed(writer);
			field = schema_field_of_number(message, tag >> 3);
		}
		if (!field || !pbjson_is_field_wire(field, tag & 7)) {
			at = pbjson_skip(at, end, tag);
			if (!at)
				return malformed(writer);
			continue;
		}
		if (!is_in_order(members, field) && !writer->sorts)
			return PBJSON_UNSORTED;
		if (writer->options->print_defaults)
			error = write_defaults(writer, members, field->index);
		if (error)
			return error;
		frame->field = field;
		members->next = field->index + 1u;
		error = field->is_repeated
				? write_repeated(writer, members, field, tag & 7, &at, end)
				: write_singular(writer, members, field, &at, end);
		if (error)
			return error;
	}
	frame->field = NULL;
	return writer->options->print_defaults
		       ? write_defaults(writer, members, message->field_count)
		       : 0;
}

int pbjson_write_members(struct writer *writer, const struct schema_message *message,
			 struct span wire, bool more)
{
	struct members members = {.message = message, .more = more};
	struct pbjson_sorted sorted;
	int error;

	if (!writer->sorts)
		return write_in_order(writer, &members, wire);
	error = pbjson_sort(writer, message, wire, &sorted);
	if (error)
		return error;
	error = write_in_order(writer, &members, sorted.wire);
	pbjson_sort_finish(writer, &sorted);
	return error;
}

int pbjson_write_message(struct writer *writer, const struct schema_message *message,
			 struct span wire)
{
	struct pbjson_frames *frames = &writer->frames;
	int error;

	if (!pbjson_nests(message))
		return pbjson_write_known(writer, message, wire);
	if (frames->depth > PBJSON_DEPTH_MAX - 1)
		return pbjson_write_fail(writer, -EINVAL, "messages nest too deep");
	frames->at[frames->depth++] = (struct pbjson_frame){.index = -1};
	if (message->kind != SCHEMA_PLAIN && message->kind != SCHEMA_EMPTY) {
		error = pbjson_write_known(writer, message, wire);
	} else {
		error = pbjson_append(writer, SPAN("{"));
		if (!error)
			error = pbjson_write_members(writer, message, wire, false);
		if (!error)
			error = pbjson_append(writer, SPAN("}"));
	}
	/* on an error the path to it stays for whoever names it */
	if (!error)
		frames->depth--;
	return error;
}

/* ---- one field of a message ---- */

static int write_only_list(struct writer *writer, const struct schema_field *field, unsigned wire,
			   const uint8_t **at, const uint8_t *end)
{
	struct list list = {.field = field, .frame = &writer->frames.at[writer->frames.depth - 1]};
	int error = write_list(writer, &list, wire, at, end);

	return error || !list.is_empty ? error : pbjson_append(writer, SPAN("[]"));
}

static int write_only_value(struct writer *writer, const struct schema_field *field, unsigned wire,
			    const uint8_t **at, const uint8_t *end)
{
	struct span bytes;
	uint64_t value;

	if (field->is_map)
		return pbjson_write_map(writer, field, at, end);
	if (field->is_repeated)
		return write_only_list(writer, field, wire, at, end);
	if (field->wire == PB_BYTES) {
		*at = pbjson_take_bytes(*at, end, &bytes);
		return *at ? write_delimited(writer, field, bytes) : malformed(writer);
	}
	*at = pbjson_take_number(*at, end, field->wire, &value);
	return *at ? write_number(writer, field, value) : malformed(writer);
}

/* The message is in order, or this returns PBJSON_UNSORTED. */
static int write_only_in_order(struct writer *writer, const struct schema_field *field,
			       struct span wire, struct span absent)
{
	const uint8_t *at = wire.data, *end = pbjson_end_of(wire);
	bool found = false;

	while (at < end) {
		uint32_t tag;

		at = pbjson_take_tag(at, end, &tag);
		if (!at)
			return malformed(writer);
		if (tag >> 3 == field->number && pbjson_is_field_wire(field, tag & 7)) {
			if (found)
				return PBJSON_UNSORTED;
			found = true;

			int error = write_only_value(writer, field, tag & 7, &at, end);

			if (error)
				return error;
		} else if (!(at = pbjson_skip(at, end, tag))) {
			return malformed(writer);
		}
	}
	return found ? 0 : pbjson_append(writer, absent);
}

int pbjson_write_only(struct writer *writer, const struct schema_message *message,
		      const struct schema_field *field, struct span wire, struct span absent)
{
	struct pbjson_sorted sorted;
	int error;

	if (!writer->sorts)
		return write_only_in_order(writer, field, wire, absent);
	error = pbjson_sort(writer, message, wire, &sorted);
	if (error)
		return error;
	error = write_only_in_order(writer, field, sorted.wire, absent);
	pbjson_sort_finish(writer, &sorted);
	return error;
}

/* ---- whole texts ---- */

struct job {
	const struct schema_message *message;
	const struct schema_field *field; /* NULL: all of the message */
	struct span wire;
};

static int run_once(struct writer *writer, const struct job *job)
{
	int error = lend_room(writer, 0);

	if (error)
		return pbjson_write_fail(writer, error, "no memory");
	writer->frames.depth = 0;
	writer->scratch_bytes = 0;
	if (!job->field)
		return pbjson_write_message(writer, job->message, job->wire);
	writer->frames.at[writer->frames.depth++] =
		(struct pbjson_frame){.field = job->field, .index = -1};
	return pbjson_write_only(writer, job->message, job->field, job->wire,
				 pbjson_default_text(job->field));
}

static int run(const struct pbjson_options *options, const struct job *job, struct buf *out,
	       struct pbjson_error *error)
{
	struct writer writer;
	size_t before = out->len;
	int code;

	memset(&writer, 0, offsetof(struct writer, frames.at));
	writer.out = out;
	writer.options = options;
	writer.error = error;
	writer.sorts = options->sink != NULL;

	error->offset = 0;
	error->text[0] = 0;
	if (job->wire.len > UINT32_MAX)
		return pbjson_write_fail(&writer, -EMSGSIZE, "the message is too long");
	code = run_once(&writer, job);
	/* what cannot be written may be overridden further on */
	if (code && code != -ENOMEM && code != -EMSGSIZE && !writer.sorts) {
		out->len = before;
		writer.sorts = true;
		code = run_once(&writer, job);
	}
	if (!code)
		claim(&writer);
	else if (!options->sink)
		out->len = before;
	return code;
}

int pbjson_write(const struct pbjson_options *options, const struct schema_message *message,
		 struct span wire, struct buf *out, struct pbjson_error *error)
{
	return run(options, &(struct job){.message = message, .wire = wire}, out, error);
}

int pbjson_write_field(const struct pbjson_options *options, const struct schema_message *message,
		       const struct schema_field *field, struct span wire, struct buf *out,
		       struct pbjson_error *error)
{
	return run(options, &(struct job){.message = message, .field = field, .wire = wire}, out,
		   error);
}
