#include "codec/pbjson_read.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>

#define SCANS_OF_TEXT 8 /* looking ahead in Anys may cost as much as reading the text so often */

int pbjson_enter(struct reader *reader)
{
	struct pbjson_frames *frames = &reader->frames;

	if (frames->depth >= PBJSON_DEPTH_MAX)
		return pbjson_read_fail(reader, reader->at, "values nest too deep");
	frames->at[frames->depth++] = (struct pbjson_frame){.index = -1};
	return 0;
}

void pbjson_leave(struct reader *reader)
{
	reader->frames.depth--;
}

static struct pbjson_frame *frame_of(struct reader *reader)
{
	return &reader->frames.at[reader->frames.depth - 1];
}

/* ---- one value ---- */

/*
 * A string of less than 128 bytes that stand for themselves is copied while its end is looked for.
 * Returns false when it is no such string, or is too near to the end of the text or of the room;
 * then nothing is taken. `*is_plain`: there may be nothing in it but such bytes.
 */
static bool read_short_string(struct reader *reader, bool *is_plain)
{
	const uint8_t *at = reader->at;
	uint8_t *to = reader->out.at + 1; /* behind its length */
	ptrdiff_t text = reader->end - at, room = reader->out.end - to;
	ptrdiff_t most = room < text ? room : text;
	uint64_t word, special = 0;
	size_t len = 0;

	for (; most >= 8 && len < 0x80; most -= 8, len += 8) {
		memcpy(&word, at + len, 8);
		memcpy(to + len, &word, 8);
		special = pbjson_special_bytes(word);
		if (special)
			break;
	}
	*is_plain = true;
	if (!special)
		return false;
	len += pbjson_first_byte(special);
	if (at[len] != '"') {
		*is_plain = false;
		return false;
	}
	to[-1] = (uint8_t)len;
	reader->out.at = to + len;
	reader->at = at + len + 1;
	return true;
}

/* Behind its first quote. */
static int read_any_string(struct reader *reader, bool is_plain)
{
	struct opening opening;
	size_t plain = is_plain ? pbjson_plain_bytes(reader->at, reader->end) : 0;
	int error;

	if (is_plain && reader->at + plain < reader->end && reader->at[plain] == '"') {
		error = pbjson_put_bytes(reader, span_make(reader->at, plain));
		reader->at += plain + 1;
		return error;
	}
	if ((error = pbjson_open(reader, &opening)) ||
	    (error = pbjson_decode(reader, &reader->out)))
		return error;
	return pbjson_close(reader, &opening);
}

static int read_string(struct reader *reader)
{
	bool is_plain;

	if (!pbjson_take(reader, '"'))
		return pbjson_read_fail(reader, reader->at, "expected a string");
	return read_short_string(reader, &is_plain) ? 0 : read_any_string(reader, is_plain);
}

static int read_bytes(struct reader *reader)
{
	struct span text;
	uint8_t byte = pbjson_peek(reader);
	const uint8_t *at = reader->at;

	if (byte != '"')
		return pbjson_read_fail(reader, at, "expected base64 in a string");

	int error = pbjson_take_text(reader, &text);

	return error ? error : pbjson_put_base64(reader, at, text);
}

static int read_bool(struct reader *reader)
{
	pbjson_skip_blank(reader);
	if (pbjson_take_word(reader, SPAN("true")))
		return pbjson_put_bool(reader, true);
	if (pbjson_take_word(reader, SPAN("false")))
		return pbjson_put_bool(reader, false);
	return pbjson_read_fail(reader, reader->at, "expected true or false");
}

static int read_inner_message(struct reader *reader, const struct schema_message *message)
{
	struct opening opening;
	int error;

	if ((error = pbjson_open(reader, &opening)) ||
	    (error = pbjson_read_message(reader, message)))
		return error;
	return pbjson_close(reader, &opening);
}

static inline int read_value(struct reader *reader, const struct schema_field *field)
{
	switch ((enum schema_type)field->type) {
	case SCHEMA_STRING:
		return read_string(reader);
	case SCHEMA_BYTES:
		return read_bytes(reader);
	case SCHEMA_BOOL:
		return read_bool(reader);
	case SCHEMA_ENUM:
		return pbjson_read_enum(reader, field);
	case SCHEMA_MESSAGE:
		return read_inner_message(reader, field->message);
	default:
		return pbjson_read_number(reader, field);
	}
}

int pbjson_read_value(struct reader *reader, const struct schema_field *field)
{
	return read_value(reader, field);
}

/* ---- lists and maps ---- */

static bool takes_null(const struct schema_field *field)
{
	return field->type == SCHEMA_MESSAGE
		       ? field->message->kind == SCHEMA_VALUE
		       : field->type == SCHEMA_ENUM && field->enumeration->is_null_value;
}

static int read_element(struct reader *reader, const struct schema_field *field)
{
	size_t before = pbjson_target_offset(&reader->out);
	int error;

	if (pbjson_peek(reader) == 'n' && !takes_null(field))
		return pbjson_read_fail(reader, reader->at, "null in a list");
	error = field->is_packed ? 0 : pbjson_put_tag(reader, field, 0);
	if (!error)
		error = read_value(reader, field);
	if (error == PBJSON_LEFT_OUT) {
		pbjson_target_rewind(&reader->out, before);
		return 0;
	}
	return error;
}

static int read_elements(struct reader *reader, const struct schema_field *field)
{
	struct pbjson_frame *frame = frame_of(reader);
	int more, error;

	if (!pbjson_take(reader, '['))
		return pbjson_read_fail(reader, reader->at, "expected [");
	frame->index = 0;
	while ((more = pbjson_take_next(reader, ']', frame->index == 0)) > 0) {
		if ((error = read_element(reader, field)))
			return error;
		frame->index++;
	}
	if (!more)
		frame->index = -1;
	return more;
}

int pbjson_read_list(struct reader *reader, const struct schema_field *field)
{
	struct opening opening;
	size_t before = pbjson_target_offset(&reader->out);
	int error;

	if (!field->is_packed)
		return read_elements(reader, field);
	if ((error = pbjson_put_tag(reader, field, 0)) || (error = pbjson_open(reader, &opening)))
		return error;

	size_t start = pbjson_target_offset(&reader->out);

	if ((error = read_elements(reader, field)))
		return error;
	if (pbjson_target_offset(&reader->out) > start)
		return pbjson_close(reader, &opening);
	reader->gap_count = opening.gap;
	pbjson_target_rewind(&reader->out, before);
	return 0;
}

struct twice {
	struct reader *reader;
	size_t later;
	bool found;
};

/* Keys are written without gaps, so both stand in the output as they will stay. */
static bool is_same_key(void *context, const struct pbjson_key *a, const struct pbjson_key *b)
{
	const struct twice *twice = context;
	const uint8_t *out = twice->reader->out.buf->data;

	return a->len == b->len && memcmp(out + a->at, out + b->at, a->len) == 0;
}

static bool note_twice(void *context, size_t earlier, size_t later)
{
	struct twice *twice = context;

	(void)earlier;
	twice->later = later;
	twice->found = true;
	return false;
}

/* The keys from `first` on are those of one map. */
static int refuse_twice(struct reader *reader, size_t first)
{
	if (reader->key_count < first + 2)
		return 0;

	struct twice twice = {.reader = reader};
	struct pbjson_keys keys = {reader->keys + first, reader->key_count - first, is_same_key,
				   note_twice, &twice};

	if (pbjson_find_twice(&keys))
		return pbjson_read_out_of_memory(reader);
	if (!twice.found)
		return 0;
	return pbjson_read_fail(reader, reader->begin + keys.keys[twice.later].place,
				"a key is there twice");
}

static int note_key(struct reader *reader, size_t at, const uint8_t *place)
{
	const uint8_t *out = reader->out.buf->data;
	size_t len = pbjson_target_offset(&reader->out) - at;

	if (reader->key_count == reader->key_cap) {
		struct pbjson_key *keys = pbjson_double(reader->keys, reader->first_keys,
							reader->key_cap * sizeof(*keys));

		if (!keys)
			return pbjson_read_out_of_memory(reader);
		reader->keys = keys;
		reader->key_cap *= 2;
	}
	reader->keys[reader->key_count++] =
		(struct pbjson_key){.hash = pbjson_hash_key(span_make(out + at, len)),
				    .at = (uint32_t)at,
				    .len = (uint32_t)len,
				    .place = (uint32_t)(place - reader->begin)};
	return 0;
}

/* A member's name as the key of a map, with its tag; takes the colon. */
static int read_key(struct reader *reader, const struct schema_field *field)
{
	struct span text;
	int error;

	pbjson_skip_blank(reader);

	const uint8_t *place = reader->at;

	if ((error = pbjson_take_text(reader, &text)))
		return error;
	frame_of(reader)->key = span_make(place + 1, (size_t)(reader->at - place) - 2);
	if ((error = pbjson_put_tag(reader, field, 0)))
		return error;

	size_t at = pbjson_target_offset(&reader->out);

	if (field->type == SCHEMA_STRING)
		error = pbjson_put_bytes(reader, text);
	else if (field->type != SCHEMA_BOOL)
		error = pbjson_put_number_text(reader, field, place, text);
	else if (span_equal(text, SPAN("true")) || span_equal(text, SPAN("false")))
		error = pbjson_put_bool(reader, text.len == 4);
	else
		error = pbjson_read_fail(reader, place, "expected true or false");
	if (error || (error = note_key(reader, at, place)))
		return error;
	return pbjson_take(reader, ':') ? 0 : pbjson_read_fail(reader, reader->at, "expected :");
}

static int read_entry(struct reader *reader, const struct schema_field *field)
{
	const struct schema_field *key = &field->message->fields[0], *value = key + 1;
	size_t before = pbjson_target_offset(&reader->out);
	struct opening opening;
	int error;

	if ((error = pbjson_put_tag(reader, field, 0)) || (error = pbjson_open(reader, &opening)) ||
	    (error = read_key(reader, key)))
		return error;
	if (pbjson_peek(reader) == 'n' && !takes_null(value))
		return pbjson_read_fail(reader, reader->at, "null in a map");
	if (!(error = pbjson_put_tag(reader, value, 0)))
		error = read_value(reader, value);
	if (error == PBJSON_LEFT_OUT) {
		reader->key_count--;
		reader->gap_count = opening.gap;
		pbjson_target_rewind(&reader->out, before);
		return 0;
	}
	if (!error)
		error = pbjson_close(reader, &opening);
	return error;
}

int pbjson_read_map(struct reader *reader, const struct schema_field *field)
{
	size_t first_key = reader->key_count;
	bool is_first = true;
	int more, error;

	if (!pbjson_take(reader, '{'))
		return pbjson_read_fail(reader, reader->at, "expected {");
	for (; (more = pbjson_take_next(reader, '}', is_first)) > 0; is_first = false) {
		if ((error = read_entry(reader, field)))
			return error;
	}
	frame_of(reader)->key = SPAN_EMPTY;
	if (more < 0)
		return more;
	error = refuse_twice(reader, first_key);
	reader->key_count = first_key;
	return error;
}

/* ---- members ---- */

static inline int read_tagged(struct reader *reader, const struct schema_field *field)
{
	int error = pbjson_put_tag(reader, field, 0);

	if (error)
		return error;

	size_t value = pbjson_target_offset(&reader->out);

	error = read_value(reader, field);
	if (error == PBJSON_LEFT_OUT)
		pbjson_target_rewind(&reader->out, value - field->tag_bytes);
	if (error || field->has_presence)
		return error;

	const uint8_t *at = reader->out.buf->data + value;

	/* no default is longer; of a longer value the length may be missing yet */
	if (reader->out.at - at > 8)
		return 0;
	while (at < reader->out.at && *at == 0)
		at++;
	if (at == reader->out.at)
		pbjson_target_rewind(&reader->out, value - field->tag_bytes);
	return 0;
}

int pbjson_read_tagged(struct reader *reader, const struct schema_field *field)
{
	return read_tagged(reader, field);
}

static inline int read_member(struct reader *reader, const struct schema_field *field, bool *is_set)
{
	struct pbjson_frame *frame = frame_of(reader);
	int error;

	frame->field = field;
	*is_set = true;
	if (pbjson_peek(reader) == 'n' && (field->is_repeated || !takes_null(field))) {
		*is_set = false;
		error = pbjson_take_word(reader, SPAN("null"))
				? 0
				: pbjson_read_fail(reader, reader->at, "expected a value");
	} else if (field->is_map) {
		error = pbjson_read_map(reader, field);
	} else if (field->is_repeated) {
		error = pbjson_read_list(reader, field);
	} else {
		error = read_tagged(reader, field);
	}
	if (error >= 0)
		frame->field = NULL;
	return error;
}

/* What has been there in one object. */
struct members {
	const struct schema_message *message;
	uint32_t next; /* index of the field that would come next in the order of numbers */
	bool has_type; /* of an Any: "@type" */
	uint64_t fields[SCHEMA_FIELDS_MAX / 64];
	uint64_t oneofs[SCHEMA_ONEOFS_MAX / 64];
};

/* Sets the bit. Returns whether it was set. */
static bool set_bit(uint64_t *bits, unsigned bit)
{
	uint64_t mask = UINT64_C(1) << (bit % 64);
	bool was_set = bits[bit / 64] & mask;

	bits[bit / 64] |= mask;
	return was_set;
}

static int complain_of_name(struct reader *reader, const uint8_t *at, struct span name,
			    const char *words)
{
	reader->error->offset = (size_t)(at - reader->begin);
	return pbjson_complain(reader->error, &reader->frames, &name, -EINVAL, words);
}

static int refuse_unknown(struct reader *reader, const uint8_t *at, struct span name)
{
	if (!reader->options->ignore_unknown)
		return complain_of_name(reader, at, name, "no such field");
	return pbjson_take(reader, ':') ? pbjson_skip_value(reader)
					: pbjson_read_fail(reader, reader->at, "expected :");
}

/* A name that is not the expected one. Sets *field, or NULL when it has been dealt with. */
static int find_member(struct reader *reader, struct members *members, bool is_any,
		       const struct schema_field **field)
{
	const uint8_t *at = reader->at;
	struct span name;
	int error = pbjson_take_text(reader, &name);

	*field = NULL;
	if (error)
		return error;
	if (is_any && span_equal(name, SPAN("@type"))) {
		if (members->has_type)
			return complain_of_name(reader, at, name, "is there twice");
		members->has_type = true;
		return pbjson_take(reader, ':')
			       ? pbjson_skip_value(reader)
			       : pbjson_read_fail(reader, reader->at, "expected :");
	}
	*field = schema_field_of_name(members->message, name);
	if (!*field)
		return refuse_unknown(reader, at, name);
	return pbjson_take(reader, ':') ? 0 : pbjson_read_fail(reader, reader->at, "expected :");
}

/* As memcmp, but for short ones: by eight bytes, of which the last may be compared twice. */
static inline bool is_same_text(const uint8_t *a, const uint8_t *b, size_t len)
{
	if (len < 8)
		return memcmp(a, b, len) == 0;
	for (size_t i = 0; i + 8 < len; i += 8) {
		if (memcmp(a + i, b + i, 8) != 0)
			return false;
	}
	return memcmp(a + len - 8, b + len - 8, 8) == 0;
}

/* Most texts have their members in the order of numbers, without blanks before the colon. */
static const struct schema_field *take_expected(struct reader *reader,
						const struct members *members)
{
	const struct schema_field *field = &members->message->fields[members->next];

	if (members->next >= members->message->field_count ||
	    (size_t)(reader->end - reader->at) < field->key.len ||
	    !is_same_text(reader->at, field->key.data, field->key.len))
		return NULL;
	reader->at += field->key.len;
	return field;
}

/* What is no blank follows. */
static int read_one(struct reader *reader, struct members *members, bool is_any)
{
	const struct schema_field *field;
	const uint8_t *at = reader->at;
	bool is_set;
	int error = 0;

	field = take_expected(reader, members);
	if (!field)
		error = find_member(reader, members, is_any, &field);
	if (error || !field)
		return error;
	if (set_bit(members->fields, field->index))
		return complain_of_name(reader, at, field->json_name, "is there twice");
	members->next = field->index + 1u;
	error = read_member(reader, field, &is_set);
	if (error == PBJSON_LEFT_OUT)
		return 0;
	if (!error && is_set && field->oneof >= 0 &&
	    set_bit(members->oneofs, (unsigned)field->oneof))
		return complain_of_name(reader, at, field->json_name,
					"another field of its oneof is set");
	return error;
}

int pbjson_read_members(struct reader *reader, const struct schema_message *message, bool is_any)
{
	struct members members;
	bool is_first = true;
	int more, error;

	members.message = message;
	members.next = 0;
	members.has_type = false;
	memset(members.fields, 0, (message->field_count + 63u) / 64 * sizeof(members.fields[0]));
	memset(members.oneofs, 0, (message->oneof_count + 63u) / 64 * sizeof(members.oneofs[0]));
	for (; (more = pbjson_take_next(reader, '}', is_first)) > 0; is_first = false) {
		if ((error = read_one(reader, &members, is_any)))
			return error;
	}
	return more;
}

int pbjson_read_message(struct reader *reader, const struct schema_message *message)
{
	int error;

	if (message->kind != SCHEMA_PLAIN && message->kind != SCHEMA_EMPTY)
		return pbjson_read_known(reader, message);
	if (!pbjson_take(reader, '{'))
		return pbjson_read_fail(reader, reader->at, "expected {");
	if ((error = pbjson_enter(reader)) || (error = pbjson_read_members(reader, message, false)))
		return error;
	pbjson_leave(reader);
	return 0;
}

/* ---- whole texts ---- */

/* Writes the lengths that need more than a byte, from behind: each byte moves once. */
static int fill_gaps(struct reader *reader, size_t before)
{
	int error = pbjson_target_room(reader, &reader->out, reader->missing_bytes);
	size_t missing = reader->missing_bytes;

	if (error || reader->gap_count == 0)
		return error;

	uint8_t *data = reader->out.buf->data, *end = reader->out.at;

	reader->out.at += missing;
	for (size_t i = reader->gap_count; i-- > 0;) {
		const struct gap *gap = &reader->gaps[i];
		uint8_t *from = data + gap->at + 1;

		memmove(from + missing, from, (size_t)(end - from));
		missing -= pbjson_varint_bytes(gap->len) - 1;
		end = data + gap->at;
		pbjson_put_varint(end + missing, gap->len);
	}
	CHECK(missing == 0 && end >= data + before);
	return 0;
}

static int finish(struct reader *reader, size_t before, int error)
{
	struct buf *out = reader->out.buf;

	if (!error && pbjson_peek(reader))
		error = pbjson_read_fail(reader, reader->at, "more text behind the value");
	if (!error && reader->at < reader->end)
		error = pbjson_read_fail(reader, reader->at, "more text behind the value");
	if (!error)
		error = fill_gaps(reader, before);
	if (!error)
		buf_claim(out, pbjson_target_offset(&reader->out) - out->len);
	else
		out->len = before;
	CHECK(error <= 0);
	if (reader->gaps != reader->first_gaps)
		free(reader->gaps);
	if (reader->keys != reader->first_keys)
		free(reader->keys);
	buf_finish(&reader->text_buf);
	return error;
}

struct reading {
	const struct pbjson_options *options;
	struct pbjson_error *error;
	struct buf *out;
};

static int begin(struct reader *reader, const struct reading *reading, struct span text)
{
	static const uint8_t nothing[1];
	struct buf *out = reading->out;

	memset(reader, 0, offsetof(struct reader, frames.at));
	reader->options = reading->options;
	reader->error = reading->error;
	reader->gaps = reader->first_gaps;
	reader->gap_cap = GAPS_FIRST;
	reader->keys = reader->first_keys;
	reader->key_cap = KEYS_FIRST;
	reader->begin = reader->at = text.len ? text.data : nothing;
	reader->end = reader->begin + text.len;
	reader->scans_left = (uint64_t)text.len * SCANS_OF_TEXT;
	reader->error->offset = 0;
	reader->error->text[0] = 0;
	buf_init(&reader->text_buf, text.len + 8);
	reader->text = (struct target){.buf = &reader->text_buf};
	reader->out = (struct target){.buf = out};
	if (text.len > UINT32_MAX / 2 || out->len > UINT32_MAX / 2)
		return pbjson_read_too_long(reader);
	return pbjson_target_grow(reader, &reader->out, 0);
}

int pbjson_read(const struct pbjson_options *options, const struct schema_message *message,
		struct span text, struct buf *out, struct pbjson_error *error)
{
	struct reader reader;
	size_t before = out->len;
	int code = begin(&reader, &(struct reading){options, error, out}, text);

	if (!code)
		code = pbjson_read_message(&reader, message);
	return finish(&reader, before, code);
}

int pbjson_read_field(const struct pbjson_options *options, const struct schema_field *field,
		      struct span text, struct buf *out, struct pbjson_error *error)
{
	struct reader reader;
	size_t before = out->len;
	bool is_set;
	int code = begin(&reader, &(struct reading){options, error, out}, text);

	reader.frames.at[reader.frames.depth++] = (struct pbjson_frame){.index = -1};
	if (!code)
		code = read_member(&reader, field, &is_set);
	return finish(&reader, before, code == PBJSON_LEFT_OUT ? 0 : code);
}

/* ---- texts of a URL ---- */

static int put_text(struct reader *reader, const struct schema_field *field, struct span text)
{
	const uint8_t *at = reader->begin;

	switch ((enum schema_type)field->type) {
	case SCHEMA_STRING:
		return span_is_utf8(text) ? pbjson_put_bytes(reader, text)
					  : pbjson_read_fail(reader, at, "invalid UTF-8");
	case SCHEMA_BYTES:
		return pbjson_put_base64(reader, at, text);
	case SCHEMA_BOOL:
		if (!span_equal(text, SPAN("true")) && !span_equal(text, SPAN("false")))
			return pbjson_read_fail(reader, at, "expected true or false");
		return pbjson_put_bool(reader, text.len == 4);
	case SCHEMA_ENUM:
		if (text.len > 0 &&
		    (text.data[0] == '-' || (text.data[0] >= '0' && text.data[0] <= '9'))) {
			int error = pbjson_read_enum(reader, field);

			return error || reader->at == reader->end
				       ? error
				       : pbjson_read_fail(reader, at, "no number of an enum");
		}
		return pbjson_put_enum_text(reader, field, at, text);
	case SCHEMA_MESSAGE:
	case SCHEMA_GROUP:
		return pbjson_read_fail(reader, at, "a message is no single value");
	default:
		return pbjson_put_number_text(reader, field, at, text);
	}
}

static int put_message_text(struct reader *reader, const struct schema_message *message,
			    struct span text)
{
	const struct schema_field *value = &message->fields[0];
	int error;

	switch (message->kind) {
	case SCHEMA_TIMESTAMP:
	case SCHEMA_DURATION:
	case SCHEMA_FIELD_MASK:
		return pbjson_read_known_text(reader, message, reader->begin, text);
	case SCHEMA_WRAPPER:
		error = pbjson_put_tag(reader, value, 0);
		return error ? error : put_text(reader, value, text);
	default:
		return pbjson_read_fail(reader, reader->begin, "a message is no single value");
	}
}

/* The last field of the path: its tag and the value. */
static int put_last(struct reader *reader, const struct schema_field *field, struct span text)
{
	struct opening opening;
	int error;

	if (field->is_map)
		return pbjson_read_fail(reader, reader->begin, "a map is no single value");
	if ((error = pbjson_put_tag(reader, field, 0)))
		return error;
	if (field->is_packed) {
		if ((error = pbjson_open(reader, &opening)) ||
		    (error = put_text(reader, field, text)))
			return error;
		return pbjson_close(reader, &opening);
	}
	if (field->type != SCHEMA_MESSAGE)
		return put_text(reader, field, text);
	if ((error = pbjson_open(reader, &opening)) ||
	    (error = put_message_text(reader, field->message, text)))
		return error;
	return pbjson_close(reader, &opening);
}

static int put_path(struct reader *reader, const struct schema_field *const *path, size_t count,
		    struct span text)
{
	struct opening openings[SCHEMA_PATH_MAX];
	int error = 0;

	CHECK(count > 0 && count <= SCHEMA_PATH_MAX);
	for (size_t i = 0; i < count; i++)
		reader->frames.at[reader->frames.depth++] =
			(struct pbjson_frame){.field = path[i], .index = -1};
	for (size_t i = 0; i + 1 < count && !error; i++) {
		error = pbjson_put_tag(reader, path[i], 0);
		if (!error)
			error = pbjson_open(reader, &openings[i]);
	}
	if (!error)
		error = put_last(reader, path[count - 1], text);
	for (size_t i = count - 1; i-- > 0 && !error;)
		error = pbjson_close(reader, &openings[i]);
	return error;
}

int pbjson_read_text(const struct pbjson_options *options, const struct schema_field *const *path,
		     size_t path_count, struct span text, struct buf *out,
		     struct pbjson_error *error)
{
	struct reader reader;
	size_t before = out->len;
	int code = begin(&reader, &(struct reading){options, error, out}, text);

	if (!code)
		code = put_path(&reader, path, path_count, text);
	reader.at = reader.end;
	if (code == PBJSON_LEFT_OUT) {
		pbjson_target_rewind(&reader.out, before);
		reader.gap_count = 0;
		code = 0;
	}
	return finish(&reader, before, code);
}
