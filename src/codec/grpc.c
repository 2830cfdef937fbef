#include "codec/grpc.h"

#include "base/check.h"

#include <errno.h>
#include <stdio.h>
#include <zlib.h>

#define GZIP_WINDOW_BITS   (15 + 16) /* largest window, gzip wrapper only: zlib.h, inflateInit2 */
#define INFLATE_STEP_BYTES 4096	     /* first guess of a message's size; doubled from there */
#define KEEP_BYTES	   4096 /* memory kept between two messages; a larger one is given back */
#define TIMEOUT_DIGITS_MAX 8	/* PROTOCOL-HTTP2.md: TimeoutValue */
#define TIMEOUT_VALUE_MAX  99999999u

void grpc_deframer_init(struct grpc_deframer *deframer, enum grpc_encoding encoding,
			uint32_t message_max)
{
	*deframer = (struct grpc_deframer){.encoding = encoding, .message_max = message_max};
	buf_init(&deframer->message, message_max);
}

void grpc_deframer_finish(struct grpc_deframer *deframer)
{
	buf_finish(&deframer->message);
	deframer->prefix_len = 0;
}

bool grpc_deframer_is_idle(const struct grpc_deframer *deframer)
{
	return deframer->prefix_len == 0;
}

/* The prefix is complete: what it announces. Returns 0 or a negative code. */
static int open_message(struct grpc_deframer *deframer)
{
	const uint8_t *prefix = deframer->prefix;

	if (prefix[0] > 1 || (prefix[0] == 1 && deframer->encoding == GRPC_IDENTITY))
		return -EPROTO;
	deframer->compressed = prefix[0] == 1;
	deframer->message_len = grpc_read_prefix(prefix);
	return deframer->message_len > deframer->message_max ? -EMSGSIZE : 0;
}

/* Runs zlib until the stream ends, `out` is over `message_max`, or the input is found wanting. */
static int inflate_all(z_stream *zlib, struct buf *out, uint32_t message_max)
{
	for (;;) {
		size_t step = out->len < INFLATE_STEP_BYTES ? INFLATE_STEP_BYTES : out->len;

		if (step > out->max - out->len)
			step = out->max - out->len;

		uint8_t *at = buf_reserve(out, step);

		if (!at)
			return -ENOMEM;
		zlib->next_out = at;
		zlib->avail_out = (uInt)step;

		int result = inflate(zlib, Z_NO_FLUSH);

		buf_claim(out, step - zlib->avail_out);
		if (out->len > message_max)
			return -EMSGSIZE;
		if (result == Z_STREAM_END)
			return zlib->avail_in == 0 ? 0 : -EPROTO;
		if (result == Z_MEM_ERROR)
			return -ENOMEM;
		/* room was left, so it is the input that has run out */
		if (result != Z_OK || zlib->avail_out > 0)
			return -EPROTO;
	}
}

/* Replaces deframer->message by `compressed`, inflated; `compressed` may lie in it. */
static int inflate_message(struct grpc_deframer *deframer, struct span compressed)
{
	z_stream zlib = {.next_in = (z_const Bytef *)compressed.data,
			 .avail_in = (uInt)compressed.len};
	struct buf out;
	int result = inflateInit2(&zlib, GZIP_WINDOW_BITS);

	if (result != Z_OK)
		return -ENOMEM;
	/* one byte more than allowed, so that a message of just the limit still ends by its trailer
	 */
	buf_init(&out, (size_t)deframer->message_max + 1);

	int error = inflate_all(&zlib, &out, deframer->message_max);

	inflateEnd(&zlib);
	if (error) {
		buf_finish(&out);
		return error;
	}
	buf_finish(&deframer->message);
	out.max = deframer->message.max;
	deframer->message = out;
	return 0;
}

/* A whole message lies in `raw`: lent as it is, or inflated. */
static int close_message(struct grpc_deframer *deframer, struct span raw, struct span *message)
{
	deframer->prefix_len = 0;
	if (deframer->compressed) {
		int error = inflate_message(deframer, raw);

		if (error)
			return error;
		raw = buf_span(&deframer->message);
	}
	*message = raw.len > 0 ? raw : span_make(deframer->prefix, 0);
	return 0;
}

ptrdiff_t grpc_deframer_take(struct grpc_deframer *deframer, struct span bytes,
			     struct span *message)
{
	size_t taken = 0;
	int error;

	*message = SPAN_EMPTY;
	if (deframer->prefix_len == 0)
		buf_clear(&deframer->message, KEEP_BYTES);
	if (deframer->prefix_len < GRPC_PREFIX_BYTES) {
		while (taken < bytes.len && deframer->prefix_len < GRPC_PREFIX_BYTES)
			deframer->prefix[deframer->prefix_len++] = bytes.data[taken++];
		if (deframer->prefix_len < GRPC_PREFIX_BYTES)
			return (ptrdiff_t)taken;
		error = open_message(deframer);
		if (error)
			return error;
	}

	size_t wanted = deframer->message_len - deframer->message.len;
	struct span rest = span_from(bytes, taken);

	if (rest.len >= wanted && deframer->message.len == 0) {
		error = close_message(deframer, span_first(rest, wanted), message);
		return error ? error : (ptrdiff_t)(taken + wanted);
	}
	if (rest.len > wanted)
		rest = span_first(rest, wanted);
	error = buf_append(&deframer->message, rest);
	if (!error && deframer->message.len == deframer->message_len)
		error = close_message(deframer, buf_span(&deframer->message), message);
	return error ? error : (ptrdiff_t)(taken + rest.len);
}

void grpc_write_prefix(uint8_t prefix[GRPC_PREFIX_BYTES], uint32_t message_len)
{
	prefix[0] = 0;
	prefix[1] = (uint8_t)(message_len >> 24);
	prefix[2] = (uint8_t)(message_len >> 16);
	prefix[3] = (uint8_t)(message_len >> 8);
	prefix[4] = (uint8_t)message_len;
}

uint32_t grpc_read_prefix(const uint8_t prefix[GRPC_PREFIX_BYTES])
{
	return (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 | (uint32_t)prefix[3] << 8 |
	       prefix[4];
}

size_t grpc_rest_of_message(struct span messages, size_t offset)
{
	size_t at = 0;

	while (at < offset && messages.len - at >= GRPC_PREFIX_BYTES)
		at += GRPC_PREFIX_BYTES + grpc_read_prefix(messages.data + at);
	return at >= offset && at <= messages.len ? at - offset : messages.len - offset;
}

int64_t grpc_parse_timeout(struct span text)
{
	uint64_t value;

	if (text.len < 2 || text.len > TIMEOUT_DIGITS_MAX + 1 ||
	    !span_to_uint64(span_first(text, text.len - 1), &value))
		return -1;

	/* 8 digits of hours are 3.6e17 us: nothing here overflows */
	switch (text.data[text.len - 1]) {
	case 'H':
		return (int64_t)(value * 3600 * 1000000);
	case 'M':
		return (int64_t)(value * 60 * 1000000);
	case 'S':
		return (int64_t)(value * 1000000);
	case 'm':
		return (int64_t)(value * 1000);
	case 'u':
		return (int64_t)value;
	case 'n':
		return (int64_t)((value + 999) / 1000);
	}
	return -1;
}

static size_t write_timeout(uint64_t value, char unit, char text[16])
{
	char digits[SPAN_DECIMAL_BYTES];
	struct span number = span_write_uint64(digits, value);

	memcpy(text, number.data, number.len);
	text[number.len] = unit;
	text[number.len + 1] = '\0';
	return number.len + 1;
}

size_t grpc_format_timeout(uint64_t us, char text[16])
{
	static const struct {
		uint64_t us;
		char unit;
	} units[] = {
		{1, 'u'}, {1000, 'm'}, {1000000, 'S'}, {60000000, 'M'}, {3600000000, 'H'},
	};

	/* the value must be positive: PROTOCOL-HTTP2.md, TimeoutValue */
	if (us == 0)
		return write_timeout(1, 'n', text);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		uint64_t value = us / units[i].us + (us % units[i].us != 0);

		if (value <= TIMEOUT_VALUE_MAX)
			return write_timeout(value, units[i].unit, text);
	}
	return write_timeout(TIMEOUT_VALUE_MAX, 'H', text);
}

int grpc_encode_message(struct buf *out, struct span text)
{
	static const char hex[] = "0123456789ABCDEF";
	int error = 0;

	for (size_t i = 0; i < text.len && !error; i++) {
		uint8_t byte = text.data[i];

		if (byte >= 0x20 && byte <= 0x7e && byte != '%') {
			error = buf_append_byte(out, byte);
		} else {
			uint8_t escape[3] = {'%', (uint8_t)hex[byte >> 4], (uint8_t)hex[byte & 15]};

			error = buf_append(out, span_make(escape, sizeof(escape)));
		}
	}
	return error;
}

static int hex_value(uint8_t byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	if (byte >= 'A' && byte <= 'F')
		return byte - 'A' + 10;
	if (byte >= 'a' && byte <= 'f')
		return byte - 'a' + 10;
	return -1;
}

int grpc_decode_message(struct buf *out, struct span text)
{
	int error = 0;

	for (size_t i = 0; i < text.len && !error; i++) {
		uint8_t byte = text.data[i];

		if (byte == '%' && text.len - i > 2) {
			int high = hex_value(text.data[i + 1]), low = hex_value(text.data[i + 2]);

			if (high >= 0 && low >= 0) {
				byte = (uint8_t)(high << 4 | low);
				i += 2;
			}
		}
		error = buf_append_byte(out, byte);
	}
	return error;
}

enum grpc_status grpc_parse_status(struct span text)
{
	uint64_t value;

	if (text.len == 0 || text.len > 2 || (text.len == 2 && text.data[0] == '0') ||
	    !span_to_uint64(text, &value) || value >= GRPC_STATUS_COUNT)
		return GRPC_UNKNOWN;
	return (enum grpc_status)value;
}

enum grpc_status grpc_status_from_http(int http_status)
{
	switch (http_status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	}
	return GRPC_UNKNOWN;
}
