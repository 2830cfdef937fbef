#include "codec/http1_internal.h"

#include "base/check.h"

#define CHUNK_LINE_MAX	  255  /* size and extensions; line_len is a byte */
#define CHUNK_DIGITS_MAX  15   /* hex digits: 60 bits, so that `left` cannot overflow */
#define TRAILER_BYTES_MAX 8192 /* trailers are thrown away: no reason to read many */

enum chunk_state {
	CHUNK_SIZE,	 /* before the first digit */
	CHUNK_SIZE_MORE, /* behind a digit */
	CHUNK_NAME,	 /* behind ';': an extension's name must begin */
	CHUNK_NAME_MORE,
	CHUNK_VALUE, /* behind '=' */
	CHUNK_VALUE_MORE,
	CHUNK_QUOTED,
	CHUNK_QUOTED_PAIR, /* behind '\' */
	CHUNK_QUOTED_END,  /* behind the closing quote */
	CHUNK_LINE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER, /* at the start of a trailer line, or of the empty one */
	CHUNK_TRAILER_NAME,
	CHUNK_TRAILER_VALUE,
	CHUNK_TRAILER_LF,
	CHUNK_END_LF,
};

#define REFUSED (-1)

void http1_body_init(struct http1_body_reader *reader, const struct http1_head *head)
{
	*reader = (struct http1_body_reader){.kind = head->body, .state = CHUNK_SIZE};
	if (head->body == HTTP1_BODY_LENGTH)
		reader->left = head->content_length;
	reader->finished = head->body == HTTP1_BODY_NONE ||
			   (head->body == HTTP1_BODY_LENGTH && head->content_length == 0);
}

static int hex_digit(uint8_t byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	if (byte >= 'A' && byte <= 'F')
		return byte - 'A' + 10;
	if (byte >= 'a' && byte <= 'f')
		return byte - 'a' + 10;
	return -1;
}

static int size_step(struct http1_body_reader *reader, uint8_t byte)
{
	int digit = hex_digit(byte);

	if (digit >= 0) {
		/* line_len counts this digit already */
		if (reader->line_len > CHUNK_DIGITS_MAX)
			return REFUSED;
		reader->left = reader->left << 4 | (unsigned)digit;
		return CHUNK_SIZE_MORE;
	}
	if (reader->state == CHUNK_SIZE)
		return REFUSED;
	return byte == ';' ? CHUNK_NAME : byte == '\r' ? CHUNK_LINE_LF : REFUSED;
}

/* What may follow a complete name or value. */
static int extension_end(uint8_t byte)
{
	return byte == ';' ? CHUNK_NAME : byte == '\r' ? CHUNK_LINE_LF : REFUSED;
}

/*
 * RFC 9112 §7.1.1, without the blanks that it allows for bad senders. The extensions mean nothing
 * to us; a byte that another parser could take for the line's end is refused.
 */
static int extension_step(enum chunk_state state, uint8_t byte)
{
	switch (state) {
	case CHUNK_NAME:
		return is_token_byte(byte) ? CHUNK_NAME_MORE : REFUSED;
	case CHUNK_NAME_MORE:
		if (byte == '=')
			return CHUNK_VALUE;
		return is_token_byte(byte) ? CHUNK_NAME_MORE : extension_end(byte);
	case CHUNK_VALUE:
		if (byte == '"')
			return CHUNK_QUOTED;
		return is_token_byte(byte) ? CHUNK_VALUE_MORE : REFUSED;
	case CHUNK_VALUE_MORE:
		return is_token_byte(byte) ? CHUNK_VALUE_MORE : extension_end(byte);
	case CHUNK_QUOTED:
		if (byte == '"')
			return CHUNK_QUOTED_END;
		if (byte == '\\')
			return CHUNK_QUOTED_PAIR;
		return is_value_byte(byte) ? CHUNK_QUOTED : REFUSED;
	case CHUNK_QUOTED_PAIR:
		return is_value_byte(byte) ? CHUNK_QUOTED : REFUSED;
	case CHUNK_QUOTED_END:
		return extension_end(byte);
	default:
		UNREACHABLE("extension_step is called for its own states");
	}
}

static int trailer_step(struct http1_body_reader *reader, uint8_t byte)
{
	switch ((enum chunk_state)reader->state) {
	case CHUNK_TRAILER:
		if (byte == '\r')
			return CHUNK_END_LF;
		return is_token_byte(byte) ? CHUNK_TRAILER_NAME : REFUSED;
	case CHUNK_TRAILER_NAME:
		if (byte == ':')
			return CHUNK_TRAILER_VALUE;
		return is_token_byte(byte) ? CHUNK_TRAILER_NAME : REFUSED;
	case CHUNK_TRAILER_VALUE:
		if (byte == '\r')
			return CHUNK_TRAILER_LF;
		return is_value_byte(byte) ? CHUNK_TRAILER_VALUE : REFUSED;
	case CHUNK_TRAILER_LF:
		return byte == '\n' ? CHUNK_TRAILER : REFUSED;
	case CHUNK_END_LF:
		reader->finished = byte == '\n';
		return byte == '\n' ? CHUNK_END_LF : REFUSED;
	default:
		UNREACHABLE("trailer_step is called for its own states");
	}
}

/* Takes one byte that is not content. Returns the next state or REFUSED. */
static int frame_step(struct http1_body_reader *reader, uint8_t byte)
{
	switch ((enum chunk_state)reader->state) {
	case CHUNK_SIZE:
	case CHUNK_SIZE_MORE:
		return size_step(reader, byte);
	case CHUNK_LINE_LF:
		if (byte != '\n')
			return REFUSED;
		return reader->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
	case CHUNK_DATA_CR:
		return byte == '\r' ? CHUNK_DATA_LF : REFUSED;
	case CHUNK_DATA_LF:
		reader->line_len = 0;
		return byte == '\n' ? CHUNK_SIZE : REFUSED;
	case CHUNK_TRAILER:
	case CHUNK_TRAILER_NAME:
	case CHUNK_TRAILER_VALUE:
	case CHUNK_TRAILER_LF:
	case CHUNK_END_LF:
		return trailer_step(reader, byte);
	case CHUNK_DATA:
		UNREACHABLE("content is taken by take_content");
	default:
		return extension_step((enum chunk_state)reader->state, byte);
	}
}

static bool is_chunk_line(uint8_t state)
{
	return state <= CHUNK_LINE_LF;
}

/* Counts the byte against the bounds of what is not content. */
static bool count_overhead(struct http1_body_reader *reader)
{
	if (is_chunk_line(reader->state)) {
		if (reader->line_len == CHUNK_LINE_MAX)
			return false;
		reader->line_len++;
	}
	return ++reader->overhead <= CHUNK_LINE_MAX + TRAILER_BYTES_MAX;
}

static ptrdiff_t refuse(struct http1_body_reader *reader)
{
	reader->fault =
		reader->state >= CHUNK_TRAILER ? HTTP1_FAULT_TRAILER : HTTP1_FAULT_CHUNK;
	return http1_fault_code((enum http1_fault)reader->fault);
}

/* Content from the start of `bytes`, as much as there is of this chunk or body. */
static size_t take_content(struct http1_body_reader *reader, struct span bytes,
			   struct span *content)
{
	size_t len = bytes.len;

	if (reader->kind != HTTP1_BODY_UNTIL_CLOSE) {
		if (len > reader->left)
			len = (size_t)reader->left;
		reader->left -= len;
	}
	*content = span_first(bytes, len);
	return len;
}

static ptrdiff_t take_chunked(struct http1_body_reader *reader, struct span bytes,
			      struct span *content)
{
	size_t taken = 0;

	while (taken < bytes.len && !reader->finished) {
		if (reader->state == CHUNK_DATA) {
			taken += take_content(reader, span_from(bytes, taken), content);
			reader->overhead = 0;
			if (reader->left == 0)
				reader->state = CHUNK_DATA_CR;
			break;
		}
		if (!count_overhead(reader))
			return refuse(reader);

		int state = frame_step(reader, bytes.data[taken]);

		if (state == REFUSED)
			return refuse(reader);
		reader->state = (uint8_t)state;
		taken++;
	}
	return (ptrdiff_t)taken;
}

ptrdiff_t http1_body_take(struct http1_body_reader *reader, struct span bytes, struct span *content)
{
	*content = SPAN_EMPTY;
	if (reader->finished || bytes.len == 0)
		return 0;
	if (reader->kind == HTTP1_BODY_CHUNKED)
		return take_chunked(reader, bytes, content);

	size_t taken = take_content(reader, bytes, content);

	reader->finished = reader->kind == HTTP1_BODY_LENGTH && reader->left == 0;
	return (ptrdiff_t)taken;
}
