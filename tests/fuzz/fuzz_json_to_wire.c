/*
 * fuzz_json_to_wire: texts to wire. What is taken must read the same to libprotobuf, come back as
 * the same wire through its own text, and not depend on what is behind it; what is refused takes
 * nothing.
 */
#include "fuzz/messages.h"

#include <stdio.h>

#define OUT_MAX	     (1u << 20)
#define TEXT_MAX     (16u << 10) /* with what is repeated */
#define REPEAT	     0xf8	 /* from here on: bytes that no UTF-8 has */
#define REPEATED_MAX 16

/*
 * The text that an input stands for. REPEAT to 0xff say that what is before them comes again, 15
 * times or, if odd, 255; the byte behind says how much of it. Else long texts are out of reach.
 */
static void write_text(struct buf *text, struct span input)
{
	buf_init(text, TEXT_MAX);
	while (input.len > 0) {
		uint8_t byte = fuzz_byte(&input), part[REPEATED_MAX];

		if (byte < REPEAT || input.len == 0) {
			(void)buf_append_byte(text, byte);
			continue;
		}

		size_t len = fuzz_byte(&input) % REPEATED_MAX + 1u;

		if (text->len < len)
			continue;
		memcpy(part, text->data + text->len - len, len);
		for (int left = byte % 2 ? 255 : 15; left > 0; left--)
			(void)buf_append(text, span_make(part, len));
	}
}

static void compare(const char *type, struct span text, struct span wire, bool ignore_unknown)
{
	const char *why;
	enum oracle_verdict verdict =
		oracle_compare(type, (struct oracle_bytes){text.data, text.len},
			       (struct oracle_bytes){wire.data, wire.len}, ignore_unknown, &why);

	if (verdict == ORACLE_SAME || is_known_difference(text, why))
		return;
	/* it reads the numbers in what it ignores */
	if (ignore_unknown && strstr(why, "exceeds the range of double"))
		return;
	fprintf(stderr, "%s: libprotobuf %s it: %s\n", type,
		verdict == ORACLE_REFUSED ? "refuses" : "reads something else in", why);
	abort();
}

static void check_taken(const struct pbjson_options *options, const char *type,
			const struct schema_message *message, struct span text, struct span wire)
{
	struct pbjson_error error;
	struct buf back, again;

	compare(type, text, wire, options->ignore_unknown);
	buf_init(&back, OUT_MAX);
	buf_init(&again, OUT_MAX);
	CHECK(pbjson_write(options, message, wire, &back, &error) == 0);
	CHECK(pbjson_read(options, message, buf_span(&back), &again, &error) == 0);
	compare(type, buf_span(&back), buf_span(&again), false);
	/* order is the text's the first time, and the numbers' or the text's the second */
	CHECK(again.len == wire.len);
	buf_finish(&back);
	buf_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	uint8_t steer = fuzz_byte(&input);
	const char *type = types[steer % ARRAY_LEN(types)];
	struct pbjson_error error;
	struct buf expanded, wire;

	if (!schema)
		start();

	const struct schema_message *message = schema_find_message(schema, span_from_cstr(type));
	struct pbjson_options options = {.schema = schema, .ignore_unknown = steer & 0x80};

	write_text(&expanded, input);

	uint8_t *copy = fuzz_copy(buf_span(&expanded));
	struct span text = span_make(copy, expanded.len);

	buf_finish(&expanded);
	buf_init(&wire, OUT_MAX);

	int code = pbjson_read(&options, message, text, &wire, &error);

	CHECK(code == 0 || (wire.len == 0 && error.text[0] && error.offset <= text.len));
	if (code == 0)
		check_taken(&options, type, message, text, buf_span(&wire));
	buf_finish(&wire);
	free(copy);
	return 0;
}
