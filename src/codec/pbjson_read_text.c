#include "codec/number.h"
#include "codec/pbjson_read.h"

#include <errno.h>
#include <stdlib.h>

#define ROOM_FIRST 256

int pbjson_read_fail(struct reader *reader, const uint8_t *at, const char *words)
{
	reader->error->offset = (size_t)(at - reader->begin);
	pbjson_complain(reader->error, &reader->frames, NULL, -EINVAL, words);
	return -EINVAL;
}

static int fail_memory(struct reader *reader, int code)
{
	reader->error->offset = (size_t)(reader->at - reader->begin);
	pbjson_complain(reader->error, &reader->frames, NULL, code,
			code == -EMSGSIZE ? "the message is too long" : "no memory");
	return code;
}

int pbjson_read_out_of_memory(struct reader *reader)
{
	return fail_memory(reader, -ENOMEM);
}

int pbjson_read_too_long(struct reader *reader)
{
	return fail_memory(reader, -EMSGSIZE);
}

/* ---- output ---- */

int pbjson_target_grow(struct reader *reader, struct target *target, size_t len)
{
	struct buf *buf = target->buf;

	if (target->at)
		buf_claim(buf, (size_t)(target->at - (buf->data + buf->len)));
	target->at = target->end = NULL;

	size_t want = len < ROOM_FIRST && buf->max - buf->len >= ROOM_FIRST ? ROOM_FIRST : len;
	uint8_t *at = buf_reserve(buf, want);

	if (!at)
		return fail_memory(reader, len > buf->max - buf->len ? -EMSGSIZE : -ENOMEM);
	target->at = at;
	target->end = buf->data + (buf->cap < buf->max ? buf->cap : buf->max);
	return 0;
}

void *pbjson_double(void *array, const void *first, size_t bytes)
{
	void *grown = realloc(array == first ? NULL : array, 2 * bytes);

	if (grown && array == first)
		memcpy(grown, first, bytes);
	return grown;
}

int pbjson_open(struct reader *reader, struct opening *opening)
{
	int error = pbjson_target_room(reader, &reader->out, 1);

	if (error)
		return error;
	if (reader->gap_count == reader->gap_cap) {
		struct gap *gaps = pbjson_double(reader->gaps, reader->first_gaps,
						 reader->gap_cap * sizeof(*gaps));

		if (!gaps)
			return fail_memory(reader, -ENOMEM);
		reader->gaps = gaps;
		reader->gap_cap *= 2;
	}
	*opening = (struct opening){reader->gap_count, reader->missing_bytes};
	reader->gaps[reader->gap_count++].at = (uint32_t)pbjson_target_offset(&reader->out);
	reader->out.at++;
	return 0;
}

int pbjson_close(struct reader *reader, const struct opening *opening)
{
	struct gap *gap = &reader->gaps[opening->gap];
	size_t len = pbjson_target_offset(&reader->out) - gap->at - 1 +
		     (reader->missing_bytes - opening->missing_bytes);

	if (len < 0x80) {
		/* nothing inside was longer, so this is the last gap */
		reader->out.buf->data[gap->at] = (uint8_t)len;
		reader->gap_count = opening->gap;
		return 0;
	}
	if (len > UINT32_MAX)
		return fail_memory(reader, -EMSGSIZE);
	gap->len = (uint32_t)len;
	reader->missing_bytes += pbjson_varint_bytes(len) - 1;
	return 0;
}

int pbjson_put_bytes(struct reader *reader, struct span bytes)
{
	int error = pbjson_target_room(reader, &reader->out, bytes.len + 10);

	if (error)
		return error;
	reader->out.at = pbjson_put_varint(reader->out.at, bytes.len);
	if (bytes.len > 0)
		memcpy(reader->out.at, bytes.data, bytes.len);
	reader->out.at += bytes.len;
	return 0;
}

/* ---- text ---- */

bool pbjson_take_word(struct reader *reader, struct span word)
{
	size_t left = (size_t)(reader->end - reader->at);

	if (left < word.len || memcmp(reader->at, word.data, word.len) != 0)
		return false;
	reader->at += word.len;
	return true;
}

static bool take_hex(const uint8_t *at, const uint8_t *end, uint32_t *value)
{
	*value = 0;
	if (end - at < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		uint8_t byte = at[i] | 0x20;

		if (at[i] >= '0' && at[i] <= '9')
			*value = *value << 4 | (uint32_t)(at[i] - '0');
		else if (byte >= 'a' && byte <= 'f')
			*value = *value << 4 | (uint32_t)(byte - 'a' + 10);
		else
			return false;
	}
	return true;
}

static uint8_t *put_character(uint8_t *at, uint32_t character)
{
	if (character < 0x80) {
		*at++ = (uint8_t)character;
	} else if (character < 0x800) {
		*at++ = (uint8_t)(0xc0 | character >> 6);
		*at++ = (uint8_t)(0x80 | (character & 0x3f));
	} else if (character < 0x10000) {
		*at++ = (uint8_t)(0xe0 | character >> 12);
		*at++ = (uint8_t)(0x80 | (character >> 6 & 0x3f));
		*at++ = (uint8_t)(0x80 | (character & 0x3f));
	} else {
		*at++ = (uint8_t)(0xf0 | character >> 18);
		*at++ = (uint8_t)(0x80 | (character >> 12 & 0x3f));
		*at++ = (uint8_t)(0x80 | (character >> 6 & 0x3f));
		*at++ = (uint8_t)(0x80 | (character & 0x3f));
	}
	return at;
}

/* \uXXXX behind the u; two of them for a character beyond 16 bits. */
static int decode_unicode(struct reader *reader, struct target *target)
{
	const uint8_t *start = reader->at - 2;
	uint32_t character, low;

	if (!take_hex(reader->at, reader->end, &character))
		return pbjson_read_fail(reader, start, "a malformed escape");
	reader->at += 4;
	if (character >= 0xdc00 && character <= 0xdfff)
		return pbjson_read_fail(reader, start, "a lone surrogate");
	if (character >= 0xd800 && character <= 0xdbff) {
		if (reader->end - reader->at < 2 || reader->at[0] != '\\' || reader->at[1] != 'u' ||
		    !take_hex(reader->at + 2, reader->end, &low) || low < 0xdc00 || low > 0xdfff)
			return pbjson_read_fail(reader, start, "a lone surrogate");
		reader->at += 6;
		character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
	}
	target->at = put_character(target->at, character);
	return 0;
}

static int decode_escape(struct reader *reader, struct target *target)
{
	static const uint8_t meant[UINT8_MAX + 1] = {
		['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
		['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
	};
	uint8_t byte = reader->end - reader->at > 1 ? reader->at[1] : 0;

	if (byte == 'u') {
		reader->at += 2;
		return decode_unicode(reader, target);
	}
	if (!meant[byte])
		return pbjson_read_fail(reader, reader->at, "a malformed escape");
	reader->at += 2;
	*target->at++ = meant[byte];
	return 0;
}

/* The plain bytes that come next, and room for one character of up to 4 bytes behind them. */
static int decode_plain(struct reader *reader, struct target *target)
{
	/* by words, while text and room have as many */
	while (reader->end - reader->at >= 8 && target->end - target->at >= 8 + 4) {
		uint64_t word, special;

		memcpy(&word, reader->at, 8);
		/* what has room is there */
		memcpy(target->at, &word, 8); /* NOLINT(clang-analyzer-core.NonNull*) */
		special = pbjson_special_bytes(word);

		size_t plain = special ? pbjson_first_byte(special) : 8;

		reader->at += plain;
		target->at += plain;
		if (special)
			return 0;
	}

	size_t plain = pbjson_plain_bytes(reader->at, reader->end);
	int error = pbjson_target_room(reader, target, plain + 4);

	if (error)
		return error;
	/* there is room: the sum does not wrap */
	memcpy(target->at, reader->at, plain); /* NOLINT(clang-analyzer-core.NonNull*) */
	target->at += plain;
	reader->at += plain;
	return 0;
}

int pbjson_decode(struct reader *reader, struct target *target)
{
	for (;;) {
		int error = decode_plain(reader, target);

		if (error)
			return error;
		if (reader->at == reader->end)
			return pbjson_read_fail(reader, reader->at, "a string without its end");
		if (*reader->at == '"') {
			reader->at++;
			return 0;
		}
		if (*reader->at == '\\') {
			if ((error = decode_escape(reader, target)))
				return error;
			continue;
		}
		if (*reader->at < 0x20)
			return pbjson_read_fail(reader, reader->at, "a control character");

		size_t len = pbjson_utf8_bytes(reader->at, reader->end);

		if (len == 0)
			return pbjson_read_fail(reader, reader->at, "invalid UTF-8");
		memcpy(target->at, reader->at, len);
		target->at += len;
		reader->at += len;
	}
}

int pbjson_take_text(struct reader *reader, struct span *text)
{
	if (!pbjson_take(reader, '"'))
		return pbjson_read_fail(reader, reader->at, "expected a string");

	size_t plain = pbjson_plain_bytes(reader->at, reader->end);

	if (reader->at + plain < reader->end && reader->at[plain] == '"') {
		*text = span_make(reader->at, plain);
		reader->at += plain + 1;
		return 0;
	}

	/* each string begins at the front again */
	reader->text.buf->len = 0;
	if (reader->text.at)
		pbjson_target_rewind(&reader->text, 0);

	int error = pbjson_decode(reader, &reader->text);

	if (!error)
		*text = span_make(reader->text.buf->data, pbjson_target_offset(&reader->text));
	return error;
}

int pbjson_refuse_next(struct reader *reader, char last)
{
	if (reader->at < reader->end && *reader->at == (uint8_t)last)
		return pbjson_read_fail(reader, reader->at, "a comma too many");
	return pbjson_read_fail(reader, reader->at,
				last == '}' ? "expected , or }" : "expected , or ]");
}

/* ---- skipping ---- */

static int skip_scalar(struct reader *reader)
{
	struct number number;
	struct span text;
	uint8_t byte = pbjson_peek(reader);

	if (byte == '"')
		return pbjson_take_text(reader, &text);
	if (pbjson_take_word(reader, SPAN("true")) || pbjson_take_word(reader, SPAN("false")) ||
	    pbjson_take_word(reader, SPAN("null")))
		return 0;

	size_t len =
		number_scan(span_make(reader->at, (size_t)(reader->end - reader->at)), &number);

	if (len == 0)
		return pbjson_read_fail(reader, reader->at, "expected a value");
	reader->at += len;
	return 0;
}

/* A member's name and colon. */
static int skip_name(struct reader *reader)
{
	struct span name;
	int error = pbjson_take_text(reader, &name);

	if (error)
		return error;
	return pbjson_take(reader, ':') ? 0 : pbjson_read_fail(reader, reader->at, "expected :");
}

int pbjson_skip_value(struct reader *reader)
{
	char ends[PBJSON_DEPTH_MAX];
	unsigned depth = 0;
	bool is_first = true;

	do {
		uint8_t byte = pbjson_peek(reader);
		int more;

		if (depth > 0) {
			more = pbjson_take_next(reader, ends[depth - 1], is_first);
			if (more < 0)
				return more;
			is_first = false;
			if (!more) {
				depth--;
				continue;
			}
			if (ends[depth - 1] == '}' && (more = skip_name(reader)))
				return more;
			byte = pbjson_peek(reader);
		}
		if (byte == '{' || byte == '[') {
			if (depth + reader->frames.depth >= PBJSON_DEPTH_MAX)
				return pbjson_read_fail(reader, reader->at, "values nest too deep");
			ends[depth++] = byte == '{' ? '}' : ']';
			is_first = true;
			reader->at++;
		} else if ((more = skip_scalar(reader))) {
			return more;
		}
	} while (depth > 0);
	return 0;
}
