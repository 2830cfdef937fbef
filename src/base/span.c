#include "base/span.h"

static uint8_t fold(uint8_t byte)
{
	return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

bool bytes_equal_nocase(const uint8_t *a, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (a[i] != b[i] && fold(a[i]) != fold(b[i]))
			return false;
	}
	return true;
}

static bool is_blank(uint8_t byte)
{
	return byte == ' ' || byte == '\t';
}

struct span span_trim(struct span text)
{
	while (text.len > 0 && is_blank(text.data[0]))
		text = span_from(text, 1);
	while (text.len > 0 && is_blank(text.data[text.len - 1]))
		text.len--;
	return text;
}

struct span span_write_uint64(char text[SPAN_DECIMAL_BYTES], uint64_t value)
{
	size_t at = SPAN_DECIMAL_BYTES;

	do {
		text[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	return span_make(text + at, SPAN_DECIMAL_BYTES - at);
}

bool span_to_uint64(struct span text, uint64_t *value)
{
	uint64_t sum = 0;

	if (text.len == 0)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = text.data[i]; /* NOLINT: a span without a pointer has no length */

		if (byte < '0' || byte > '9')
			return false;
		if (__builtin_mul_overflow(sum, UINT64_C(10), &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)(byte - '0'), &sum))
			return false;
	}
	*value = sum;
	return true;
}

bool span_to_int64(struct span text, int64_t *value)
{
	bool negative = text.len > 0 && text.data[0] == '-';
	uint64_t magnitude;

	if (!span_to_uint64(negative ? span_from(text, 1) : text, &magnitude))
		return false;
	if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return false;
	/* Two's complement: 0 - 2^63 is INT64_MIN, which no positive int64_t can be negated to. */
	*value = (int64_t)(negative ? 0 - magnitude : magnitude);
	return true;
}

/* Bytes that start a character (RFC 3629 section 4): how many follow, the range of the first. */
struct utf8_lead {
	uint8_t first, last;
	uint8_t more_count;
	uint8_t next_min, next_max;
};

static const struct utf8_lead utf8_leads[] = {
	{ 0xc2, 0xdf, 1, 0x80, 0xbf }, /* c0 and c1 would be overlong */
	{ 0xe0, 0xe0, 2, 0xa0, 0xbf }, /* below a0: overlong */
	{ 0xe1, 0xec, 2, 0x80, 0xbf },
	{ 0xed, 0xed, 2, 0x80, 0x9f }, /* above 9f: surrogates */
	{ 0xee, 0xef, 2, 0x80, 0xbf },
	{ 0xf0, 0xf0, 3, 0x90, 0xbf }, /* below 90: overlong */
	{ 0xf1, 0xf3, 3, 0x80, 0xbf },
	{ 0xf4, 0xf4, 3, 0x80, 0x8f }, /* above 8f: beyond U+10FFFF */
};

static const struct utf8_lead *utf8_lead_of(uint8_t byte)
{
	for (size_t i = 0; i < sizeof(utf8_leads) / sizeof(utf8_leads[0]); i++) {
		if (byte >= utf8_leads[i].first && byte <= utf8_leads[i].last)
			return &utf8_leads[i];
	}
	return NULL;
}

/* Returns the bytes of the character that `text` starts with, 0 if it is none. */
static size_t utf8_char_bytes(struct span text)
{
	const struct utf8_lead *lead = utf8_lead_of(text.data[0]);

	if (!lead || text.len < 1u + lead->more_count)
		return 0;
	if (text.data[1] < lead->next_min || text.data[1] > lead->next_max)
		return 0;
	for (size_t i = 2; i <= lead->more_count; i++) {
		if ((text.data[i] & 0xc0) != 0x80)
			return 0;
	}
	return 1u + lead->more_count;
}

bool span_is_ascii(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] >= 0x80)
			return false;
	return true;
}

bool span_is_utf8(struct span text)
{
	size_t at = 0;

	while (at < text.len) {
		uint64_t eight;

		if (text.data[at] < 0x80) {
			/* Most text is ASCII: eight bytes a step while it lasts. */
			while (text.len - at >= sizeof(eight)) {
				memcpy(&eight, text.data + at, sizeof(eight));
				if (eight & UINT64_C(0x8080808080808080))
					break;
				at += sizeof(eight);
			}
			while (at < text.len && text.data[at] < 0x80)
				at++;
			continue;
		}

		size_t taken = utf8_char_bytes(span_from(text, at));

		if (taken == 0)
			return false;
		at += taken;
	}
	return true;
}
