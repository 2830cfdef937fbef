#include "codec/grpc_web.h"

#include "base/check.h"
#include "codec/grpc.h"

#include <errno.h>

#define TYPE_BINARY "application/grpc-web"
#define TYPE_TEXT   "application/grpc-web-text"

/* ---- media types ---- */

enum grpc_web_kind grpc_web_kind_of(struct span media_type)
{
	static const struct {
		const char *name;
		enum grpc_web_kind kind;
	} names[] = {
		{TYPE_BINARY, GRPC_WEB_BINARY},	      {TYPE_BINARY "+proto", GRPC_WEB_BINARY},
		{TYPE_TEXT, GRPC_WEB_TEXT},	      {TYPE_TEXT "+proto", GRPC_WEB_TEXT},
		{TYPE_TEXT "-base64", GRPC_WEB_TEXT},
	};
	ptrdiff_t end = span_find_byte(media_type, ';');
	struct span name = span_trim(end < 0 ? media_type : span_first(media_type, (size_t)end));

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (span_equal_nocase(name, span_from_cstr(names[i].name)))
			return names[i].kind;
	return GRPC_WEB_NONE;
}

enum grpc_web_kind grpc_web_answer_kind(struct span accept, enum grpc_web_kind kind)
{
	while (accept.len > 0) {
		ptrdiff_t comma = span_find_byte(accept, ',');
		size_t len = comma < 0 ? accept.len : (size_t)comma;
		enum grpc_web_kind named = grpc_web_kind_of(span_first(accept, len));

		if (named != GRPC_WEB_NONE)
			return named;
		accept = span_from(accept, comma < 0 ? len : len + 1);
	}
	return kind;
}

const char *grpc_web_media_type(enum grpc_web_kind kind)
{
	return kind == GRPC_WEB_TEXT ? TYPE_TEXT "+proto" : TYPE_BINARY "+proto";
}

/* ---- text ---- */

#define GROUP_DIGITS 4
#define PIECE_BYTES  3072 /* decoded before they are appended */

/* Returns the digit's value, or -1. */
static int digit_value(uint8_t byte)
{
	if (byte >= 'A' && byte <= 'Z')
		return byte - 'A';
	if (byte >= 'a' && byte <= 'z')
		return byte - 'a' + 26;
	if (byte >= '0' && byte <= '9')
		return byte - '0' + 52;
	if (byte == '+')
		return 62;
	return byte == '/' ? 63 : -1;
}

/* The group is whole: its one to three bytes. Returns how many, or -EPROTO. */
static int close_group(struct grpc_web_text *text, uint8_t to[3])
{
	static const uint32_t unused[] = {0, 0xff, 0xffff}; /* bits, by padding */
	uint8_t pads = text->pads;
	uint32_t bits = text->bits;

	*text = (struct grpc_web_text){0};
	if ((bits & unused[pads]) != 0)
		return -EPROTO;
	to[0] = (uint8_t)(bits >> 16);
	to[1] = (uint8_t)(bits >> 8);
	to[2] = (uint8_t)bits;
	return 3 - pads;
}

/* Returns the bytes that the digit completes, or -EPROTO. */
static int take_digit(struct grpc_web_text *text, uint8_t byte, uint8_t to[3])
{
	int value = 0;

	if (byte == '=') {
		if (text->digits < 2)
			return -EPROTO;
		text->pads++;
	} else {
		value = digit_value(byte);
		if (value < 0 || text->pads > 0)
			return -EPROTO;
	}
	text->bits = text->bits << 6 | (uint32_t)value;
	text->digits++;
	return text->digits == GROUP_DIGITS ? close_group(text, to) : 0;
}

int grpc_web_text_take(struct grpc_web_text *text, struct span bytes, struct buf *out)
{
	uint8_t piece[PIECE_BYTES];
	size_t len = 0;

	for (size_t i = 0; i < bytes.len; i++) {
		int count = take_digit(text, bytes.data[i], piece + len);

		if (count < 0)
			return count;
		len += (size_t)count;
		if (len + 3 <= sizeof(piece))
			continue;

		int code = buf_append(out, span_make(piece, len));

		if (code)
			return code;
		len = 0;
	}
	return buf_append(out, span_make(piece, len));
}

/* ---- trailers ---- */

/* What would end its line and begin another is left out. */
static void append_line(struct buf *out, struct span name, struct span value)
{
	if (span_find_byte(value, '\r') >= 0 || span_find_byte(value, '\n') >= 0)
		return;
	buf_append(out, name);
	buf_append(out, SPAN(": "));
	buf_append(out, value);
	buf_append(out, SPAN("\r\n"));
}

int grpc_web_append_trailers(struct buf *out, const struct grpc_web_trailers *trailers)
{
	size_t begin = out->len;
	char number[SPAN_DECIMAL_BYTES];

	if (!buf_reserve(out, GRPC_PREFIX_BYTES))
		return -ENOMEM;
	buf_claim(out, GRPC_PREFIX_BYTES);
	append_line(out, SPAN("grpc-status"),
		    span_write_uint64(number, (uint64_t)trailers->status));
	if (trailers->message.len > 0) {
		buf_append(out, SPAN("grpc-message: "));
		(void)grpc_encode_message(out, trailers->message);
		buf_append(out, SPAN("\r\n"));
	}
	if (trailers->details.len > 0)
		append_line(out, SPAN("grpc-status-details-bin"), trailers->details);
	if (trailers->retry_after_ms > 0)
		append_line(out, SPAN("retry-after-ms"),
			    span_write_uint64(number, trailers->retry_after_ms));
	if (out->failed)
		return -ENOMEM;
	grpc_write_prefix(out->data + begin, (uint32_t)(out->len - begin - GRPC_PREFIX_BYTES));
	out->data[begin] = GRPC_WEB_TRAILERS;
	return 0;
}
