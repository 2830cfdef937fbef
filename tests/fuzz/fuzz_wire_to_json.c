/*
 * fuzz_wire_to_json: wire to texts, of any bytes and of messages made up field by field. What is
 * written must read the same to libprotobuf and to our own reader; through a sink it is the same.
 */
#include "codec/pb.h"
#include "fuzz/messages.h"

#include <errno.h>
#include <stdio.h>

#define OUT_MAX	  (1u << 20)
#define DEPTH_MAX 5 /* of messages made up */

/* ---- messages made up ---- */

static void put_varint(struct buf *out, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		buf_append_byte(out, (uint8_t)(value | 0x80));
	buf_append_byte(out, (uint8_t)value);
}

static uint64_t take_number(struct span *input)
{
	uint64_t value = 0;
	uint8_t form = fuzz_byte(input);

	for (unsigned i = 0; i < (form & 7) + 1u; i++)
		value = value << 8 | fuzz_byte(input);
	return form & 0x80 ? 0 - value : value;
}

static void put_number(struct buf *out, unsigned wire, uint64_t value)
{
	if (wire == PB_VARINT) {
		put_varint(out, value);
		return;
	}
	for (unsigned i = 0; i < (wire == PB_FIXED32 ? 4u : 8u); i++)
		buf_append_byte(out, (uint8_t)(value >> (8 * i)));
}

static void make_message(struct span *input, const struct schema_message *message, unsigned depth,
			 struct buf *out);

static void put_delimited(struct span *input, const struct schema_field *field, unsigned depth,
			  struct buf *out)
{
	static const char *const strings[] = {
		"",	  "a",	      "type.googleapis.com/ringway.test.Odd",
		"\"\n",	  "\xc3\xa4", "x/google.protobuf.Duration",
		"foo_bar"};
	struct buf inner;

	buf_init(&inner, OUT_MAX);
	if (field->type == SCHEMA_MESSAGE) {
		make_message(input, field->message, depth + 1, &inner);
	} else if (field->type == SCHEMA_STRING) {
		buf_append(&inner, span_from_cstr(strings[fuzz_byte(input) % ARRAY_LEN(strings)]));
	} else if (field->type == SCHEMA_BYTES) {
		struct span bytes = fuzz_until(input, '\n');

		buf_append(&inner, bytes);
	} else {
		for (uint8_t left = fuzz_byte(input) % 4; left > 0; left--)
			put_number(&inner, field->wire, take_number(input));
	}
	put_varint(out, inner.len);
	buf_append(out, buf_span(&inner));
	buf_finish(&inner);
}

static void make_message(struct span *input, const struct schema_message *message, unsigned depth,
			 struct buf *out)
{
	if (message->field_count == 0 || depth > DEPTH_MAX)
		return;
	for (uint8_t left = fuzz_byte(input) % 8; left > 0; left--) {
		const struct schema_field *field =
			&message->fields[fuzz_byte(input) % message->field_count];
		bool is_packed =
			field->is_repeated && field->wire != PB_BYTES && fuzz_byte(input) % 2;

		put_varint(out, (uint64_t)field->number << 3 |
					(is_packed ? (unsigned)PB_BYTES : field->wire));
		if (is_packed || field->wire == PB_BYTES)
			put_delimited(input, field, depth, out);
		else
			put_number(out, field->wire, take_number(input));
	}
}

/* ---- checks ---- */

static int flush(void *context, struct buf *out)
{
	struct buf *all = context;

	CHECK(buf_append(all, buf_span(out)) == 0);
	buf_clear(out, OUT_MAX);
	return 0;
}

static void check_sink(const struct schema_message *message, struct span wire, int code, size_t len)
{
	struct buf all, out;
	struct pbjson_sink sink = {.flush = flush, .context = &all, .chunk_bytes = 16};
	struct pbjson_options options = {.schema = schema, .sink = &sink};
	struct pbjson_error error;

	buf_init(&all, OUT_MAX);
	buf_init(&out, OUT_MAX);
	CHECK((pbjson_write(&options, message, wire, &out, &error) == 0) == (code == 0));
	CHECK(code || all.len + out.len == len);
	buf_finish(&all);
	buf_finish(&out);
}

/* What libprotobuf writes must be written, unless it is one of the things that it lets pass. */
static void check_refused(const char *type, struct span wire, const struct pbjson_error *error)
{
	static const char *const stricter[] = {
		"invalid UTF-8", /* a dynamic message takes it */
		"nest too deep", /* its bound is 100 */
		"a Value that is no number",
		"a path that JSON cannot have",
		"type that is not known", /* an empty URL with a value */
		"malformed protobuf",	  /* bits of a varint beyond 64, the value of an Any */
		"out of range",
	};

	for (size_t i = 0; i < ARRAY_LEN(stricter); i++) {
		if (strstr(error->text, stricter[i]))
			return;
	}
	if (!oracle_writes(type, (struct oracle_bytes){wire.data, wire.len}))
		return;
	fprintf(stderr, "%s: libprotobuf writes it, we: %s\n", type, error->text);
	abort();
}

static void check_written(const char *type, const struct schema_message *message, struct span wire,
			  struct span text)
{
	struct pbjson_options options = {.schema = schema};
	struct pbjson_error error;
	struct buf again;
	const char *why;
	enum oracle_verdict verdict;

	buf_init(&again, OUT_MAX);
	CHECK(pbjson_read(&options, message, text, &again, &error) == 0);
	verdict = oracle_compare(type, (struct oracle_bytes){text.data, text.len},
				 (struct oracle_bytes){wire.data, wire.len}, false, &why);
	/* what is overridden, so that less is left, we do not look into */
	if (verdict != ORACLE_SAME && !is_known_difference(text, why) &&
	    !(strcmp(why, ORACLE_UNPARSED) == 0 && again.len < wire.len)) {
		fprintf(stderr, "%s: %.*s\n%s\n", type, SPAN_ARGS(text), why);
		abort();
	}
	verdict = oracle_compare(type, (struct oracle_bytes){text.data, text.len},
				 (struct oracle_bytes){again.data, again.len}, false, &why);
	CHECK(verdict == ORACLE_SAME || is_known_difference(text, why));
	buf_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	uint8_t steer = fuzz_byte(&input);
	const char *type = types[steer % ARRAY_LEN(types)];
	struct pbjson_error error;
	struct buf made, text;

	if (!schema)
		start();

	const struct schema_message *message = schema_find_message(schema, span_from_cstr(type));
	struct pbjson_options options = {.schema = schema};

	buf_init(&made, OUT_MAX);
	buf_init(&text, OUT_MAX);
	if (steer & 0x80)
		make_message(&input, message, 0, &made);
	else
		CHECK(buf_append(&made, input) == 0);

	uint8_t *copy = fuzz_copy(buf_span(&made));
	struct span wire = span_make(copy, made.len);
	int code = pbjson_write(&options, message, wire, &text, &error);

	CHECK(code == 0 || (text.len == 0 && error.text[0]));
	check_sink(message, wire, code, text.len);
	if (code)
		check_refused(type, wire, &error);
	else
		check_written(type, message, wire, buf_span(&text));
	free(copy);
	buf_finish(&made);
	buf_finish(&text);
	return 0;
}
