#include "codec/number.h"
#include "codec/pbjson_internal.h"

#include <stdio.h>

#define SECONDS_MIN  INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define SECONDS_MAX  INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define DURATION_MAX INT64_C(315576000000) /* whole seconds: 10,000 years */
#define NANOS	     1000000000
#define DAY	     86400

/* ---- errors ---- */

/* What snprintf printed into `room` bytes, of which the last is its NUL. */
static size_t printed(int wanted, size_t room)
{
	if (wanted < 0)
		return 0;
	return (size_t)wanted < room ? (size_t)wanted : room - 1;
}

/* What came in, but nothing that could upset a log or a terminal. */
static size_t copy_plain(char *to, size_t room, struct span from)
{
	size_t len = from.len < room - 1 ? from.len : room - 1;

	for (size_t i = 0; i < len; i++)
		to[i] = from.data[i] >= 0x20 && from.data[i] < 0x7f ? (char)from.data[i] : '?';
	to[len] = 0;
	return len;
}

static size_t print_key(char *to, size_t room, struct span key)
{
	char text[33];
	size_t len = copy_plain(text, sizeof(text), key);

	return printed(snprintf(to, room, "[\"%s%s\"]", text, len < key.len ? "..." : ""), room);
}

static size_t print_name(char *to, size_t room, bool is_first, struct span name)
{
	char text[65];

	copy_plain(text, sizeof(text), name);
	return printed(snprintf(to, room, "%s%s", is_first ? "" : ".", text), room);
}

int pbjson_complain(struct pbjson_error *error, const struct pbjson_frames *frames,
		    const struct span *last, int code, const char *words)
{
	const size_t path_max = sizeof(error->text) - 96; /* the words come after it, whole */
	char *text = error->text;
	size_t len = 0;

	for (unsigned i = 0; i < frames->depth; i++) {
		const struct pbjson_frame *frame = &frames->at[i];

		if (frame->field)
			len += print_name(text + len, path_max - len, len == 0,
					  frame->field->json_name);
		if (frame->key.data)
			len += print_key(text + len, path_max - len, frame->key);
		if (frame->index >= 0 && (frame->field || len > 0))
			len += printed(snprintf(text + len, path_max - len, "[%lld]",
						(long long)frame->index),
				       path_max - len);
	}
	if (last)
		len += print_name(text + len, path_max - len, len == 0, *last);
	snprintf(text + len, sizeof(error->text) - len, "%s%s", len ? ": " : "", words);
	return code;
}

/* ---- wire ---- */

const uint8_t *pbjson_take_long_varint(const uint8_t *at, const uint8_t *end, uint64_t *value)
{
	uint64_t sum = 0;

	for (unsigned shift = 0; shift < 70 && at < end; shift += 7) {
		uint8_t byte = *at++;

		if (shift == 63 && byte > 1)
			return NULL;
		sum |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*value = sum;
			return at;
		}
	}
	return NULL;
}

const uint8_t *pbjson_skip(const uint8_t *at, const uint8_t *end, uint32_t tag)
{
	struct pb_reader reader = {.rest = span_make(at, (size_t)(end - at))};
	struct span bytes;
	uint64_t value;

	switch (tag & 7) {
	case PB_VARINT:
	case PB_FIXED64:
	case PB_FIXED32:
		return pbjson_take_number(at, end, tag & 7, &value);
	case PB_BYTES:
		return pbjson_take_bytes(at, end, &bytes);
	case PB_GROUP:
		return pb_skip_group(&reader, tag >> 3) ? NULL : reader.rest.data;
	}
	return NULL;
}

/* ---- strings ---- */

size_t pbjson_utf8_bytes(const uint8_t *at, const uint8_t *end)
{
	size_t len = *at < 0xc2 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : *at < 0xf5 ? 4 : 0;

	if (len == 0 || (size_t)(end - at) < len || (at[1] & 0xc0) != 0x80)
		return 0;
	if (len == 2)
		return 2;
	if ((at[2] & 0xc0) != 0x80)
		return 0;
	if (len == 3)
		return (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ? 0 : 3;
	if ((at[3] & 0xc0) != 0x80 || (at[0] == 0xf0 && at[1] < 0x90) ||
	    (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return 4;
}

size_t pbjson_plain_bytes(const uint8_t *at, const uint8_t *end)
{
	const uint8_t *start = at;

	while (end - at >= 8) {
		uint64_t word;

		memcpy(&word, at, 8);

		uint64_t special = pbjson_special_bytes(word);

		if (special)
			return (size_t)(at - start) + pbjson_first_byte(special);
		at += 8;
	}
	while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\')
		at++;
	return (size_t)(at - start);
}

/* ---- times ---- */

/* Days from 1970-01-01 of a date, counted in years that begin in March, so that a leap day is last.
 */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
	if (month <= 2)
		year--;

	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * (int64_t)((month + 9) % 12) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - 719468;
}

static void date_of(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
	days += 719468;

	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	int64_t day_of_era = days - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * day_of_year + 2) / 153;

	*day = (unsigned)(day_of_year - (153 * shifted + 2) / 5 + 1);
	*month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
	*year = (unsigned)(year_of_era + era * 400 + (*month <= 2));
}

static uint8_t *put_digits(uint8_t *at, unsigned value, unsigned count)
{
	for (unsigned i = count; i > 0; i--, value /= 10)
		at[i - 1] = (uint8_t)('0' + value % 10);
	return at + count;
}

/* Nothing, or a point and 3, 6 or 9 digits. */
static uint8_t *put_nanos(uint8_t *at, unsigned nanos)
{
	if (nanos == 0)
		return at;
	*at++ = '.';
	if (nanos % 1000000 == 0)
		return put_digits(at, nanos / 1000000, 3);
	if (nanos % 1000 == 0)
		return put_digits(at, nanos / 1000, 6);
	return put_digits(at, nanos, 9);
}

size_t pbjson_write_timestamp(uint8_t text[PBJSON_TIME_BYTES], int64_t seconds, int32_t nanos)
{
	unsigned year, month, day;
	uint8_t *at = text;

	if (seconds < SECONDS_MIN || seconds > SECONDS_MAX || nanos < 0 || nanos >= NANOS)
		return 0;

	int64_t days = (seconds - SECONDS_MIN) / DAY + SECONDS_MIN / DAY;
	unsigned second = (unsigned)(seconds - days * DAY);

	date_of(days, &year, &month, &day);
	at = put_digits(at, year, 4);
	*at++ = '-';
	at = put_digits(at, month, 2);
	*at++ = '-';
	at = put_digits(at, day, 2);
	*at++ = 'T';
	at = put_digits(at, second / 3600, 2);
	*at++ = ':';
	at = put_digits(at, second / 60 % 60, 2);
	*at++ = ':';
	at = put_digits(at, second % 60, 2);
	at = put_nanos(at, (unsigned)nanos);
	*at++ = 'Z';
	return (size_t)(at - text);
}

size_t pbjson_write_duration(uint8_t text[PBJSON_TIME_BYTES], int64_t seconds, int32_t nanos)
{
	uint8_t *at = text;

	if (seconds < -DURATION_MAX || seconds > DURATION_MAX || nanos <= -NANOS ||
	    nanos >= NANOS || (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0))
		return 0;
	if (seconds < 0 || nanos < 0)
		*at++ = '-';
	at = number_write_uint64(at, (uint64_t)(seconds < 0 ? -seconds : seconds));
	at = put_nanos(at, (unsigned)(nanos < 0 ? -nanos : nanos));
	*at++ = 's';
	return (size_t)(at - text);
}

/* Exactly `count` digits and, unless it is 0, the byte behind them. */
static bool take_digits(struct span *text, size_t count, char behind, unsigned *value)
{
	size_t all = count + (behind != 0);

	*value = 0;
	if (text->len < all || (behind && text->data[count] != (uint8_t)behind))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (text->data[i] < '0' || text->data[i] > '9')
			return false;
		*value = 10 * *value + (unsigned)(text->data[i] - '0');
	}
	*text = span_from(*text, all);
	return true;
}

/* Nothing, or a point and 1 to 9 digits. */
static bool take_nanos(struct span *text, unsigned *nanos)
{
	unsigned scale = NANOS;
	size_t at = 1;

	*nanos = 0;
	if (text->len == 0 || text->data[0] != '.')
		return true;
	for (; at < text->len && text->data[at] >= '0' && text->data[at] <= '9'; at++) {
		if (scale == 1)
			return false;
		scale /= 10;
		*nanos += scale * (unsigned)(text->data[at] - '0');
	}
	*text = span_from(*text, at);
	return at > 1;
}

/* "Z" or "+hh:mm". */
static bool take_zone(struct span text, int64_t *seconds)
{
	unsigned hours, minutes;

	*seconds = 0;
	if (text.len == 1 && text.data[0] == 'Z')
		return true;
	if (text.len != 6 || (text.data[0] != '+' && text.data[0] != '-'))
		return false;

	bool is_east = text.data[0] == '+';

	text = span_from(text, 1);
	if (!take_digits(&text, 2, ':', &hours) || !take_digits(&text, 2, 0, &minutes) ||
	    hours > 23 || minutes > 59)
		return false;
	*seconds = (int64_t)(hours * 3600 + minutes * 60) * (is_east ? 1 : -1);
	return true;
}

static bool is_date(unsigned year, unsigned month, unsigned day)
{
	static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return month >= 1 && month <= 12 && day >= 1 &&
	       day <= lengths[month - 1] + (month == 2 && is_leap ? 1u : 0u);
}

bool pbjson_read_timestamp(struct span text, int64_t *seconds, int32_t *nanos)
{
	unsigned year, month, day, hour, minute, second, fraction;
	int64_t east;

	if (!take_digits(&text, 4, '-', &year) || !take_digits(&text, 2, '-', &month) ||
	    !take_digits(&text, 2, 'T', &day) || !take_digits(&text, 2, ':', &hour) ||
	    !take_digits(&text, 2, ':', &minute) || !take_digits(&text, 2, 0, &second) ||
	    !take_nanos(&text, &fraction) || !take_zone(text, &east))
		return false;
	if (!is_date(year, month, day) || hour > 23 || minute > 59 || second > 59)
		return false;
	*seconds = days_of(year, month, day) * DAY + (int64_t)hour * 3600 + (int64_t)minute * 60 +
		   second - east;
	*nanos = (int32_t)fraction;
	return *seconds >= SECONDS_MIN && *seconds <= SECONDS_MAX;
}

bool pbjson_read_duration(struct span text, int64_t *seconds, int32_t *nanos)
{
	bool negative = text.len > 0 && text.data[0] == '-';
	size_t digits = 0;
	unsigned fraction;
	uint64_t whole;

	text = span_from(text, negative);
	while (digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9')
		digits++;
	if (!span_to_uint64(span_first(text, digits), &whole) || whole > (uint64_t)DURATION_MAX)
		return false;
	text = span_from(text, digits);
	if (!take_nanos(&text, &fraction) || text.len != 1 || text.data[0] != 's')
		return false;
	*seconds = negative ? -(int64_t)whole : (int64_t)whole;
	*nanos = negative ? -(int32_t)fraction : (int32_t)fraction;
	return true;
}
