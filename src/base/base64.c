#include "base/base64.h"

#include <errno.h>

uint8_t *base64_write(uint8_t *at, struct span bytes)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *from = bytes.data;
	size_t left = bytes.len;

	for (; left >= 3; left -= 3, from += 3) {
		uint32_t word = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];

		*at++ = (uint8_t)digits[word >> 18];
		*at++ = (uint8_t)digits[word >> 12 & 63];
		*at++ = (uint8_t)digits[word >> 6 & 63];
		*at++ = (uint8_t)digits[word & 63];
	}
	if (left > 0) {
		uint32_t word = (uint32_t)from[0] << 16 | (left == 2 ? (uint32_t)from[1] << 8 : 0);

		*at++ = (uint8_t)digits[word >> 18];
		*at++ = (uint8_t)digits[word >> 12 & 63];
		*at++ = (uint8_t)(left == 2 ? digits[word >> 6 & 63] : '=');
		*at++ = '=';
	}
	return at;
}

#define NO_DIGIT 0xff

static uint8_t digit_of(uint8_t byte, unsigned *alphabets)
{
	if (byte >= 'A' && byte <= 'Z')
		return (uint8_t)(byte - 'A');
	if (byte >= 'a' && byte <= 'z')
		return (uint8_t)(byte - 'a' + 26);
	if (byte >= '0' && byte <= '9')
		return (uint8_t)(byte - '0' + 52);
	if (byte == '+' || byte == '/')
		*alphabets |= 1;
	else if (byte == '-' || byte == '_')
		*alphabets |= 2;
	else
		return NO_DIGIT;
	return byte == '+' || byte == '-' ? 62 : 63;
}

uint8_t *base64_read(uint8_t *at, struct span text)
{
	unsigned alphabets = 0, bits = 0;
	uint32_t word = 0;
	size_t padding = 0;

	while (text.len > 0 && text.data[text.len - 1] == '=' && padding < 2) {
		text.len--;
		padding++;
	}
	if (text.len % 4 == 1 || (padding > 0 && (text.len + padding) % 4 != 0))
		return NULL;
	for (size_t i = 0; i < text.len; i++) {
		uint8_t digit = digit_of(text.data[i], &alphabets);

		if (digit == NO_DIGIT)
			return NULL;
		word = word << 6 | digit;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			*at++ = (uint8_t)(word >> bits);
		}
	}
	return alphabets == 3 ? NULL : at;
}

int base64_append(struct buf *out, struct span bytes)
{
	if (bytes.len > SIZE_MAX / 2)
		return -EMSGSIZE;

	size_t len = BASE64_CHARS(bytes.len);
	uint8_t *at = buf_reserve(out, len);

	if (!at)
		return len > out->max - out->len ? -EMSGSIZE : -ENOMEM;
	base64_write(at, bytes);
	buf_claim(out, len);
	return 0;
}

int base64_decode(struct buf *out, struct span text)
{
	size_t len = text.len / 4 * 3 + 3;
	uint8_t *at = buf_reserve(out, len);

	if (!at)
		return len > out->max - out->len ? -EMSGSIZE : -ENOMEM;

	const uint8_t *end = base64_read(at, text);

	if (!end)
		return -EINVAL;
	buf_claim(out, (size_t)(end - at));
	return 0;
}
