#include "config/value.h"

#include "base/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

struct unit {
	struct span name;
	uint64_t factor;
};

/* Large before small. */
static const struct unit duration_units[] = {
	{ SPAN("h"), 3600000 },
	{ SPAN("m"), 60000 },
	{ SPAN("s"), 1000 },
	{ SPAN("ms"), 1 },
};

static const struct unit size_units[] = {
	{ SPAN("GiB"), UINT64_C(1) << 30 },
	{ SPAN("MiB"), UINT64_C(1) << 20 },
	{ SPAN("KiB"), UINT64_C(1) << 10 },
	{ SPAN(""), 1 },
};

static size_t digits_in(struct span text)
{
	size_t len = 0;

	while (len < text.len && text.data[len] >= '0' && text.data[len] <= '9')
		len++;
	return len;
}

/* The unit's index at or after `first`, `count` if there is none of this name. */
static size_t unit_find(const struct unit *units, size_t count, struct span name)
{
	size_t i = 0;

	while (i < count && !span_equal(units[i].name, name))
		i++;
	return i;
}

int value_parse_duration(struct span text, uint64_t *ms)
{
	size_t next = 0; /* units from here on may still come */
	uint64_t sum = 0;

	if (span_equal(text, SPAN("0"))) {
		*ms = 0;
		return 0;
	}
	if (text.len == 0)
		return -EINVAL;
	while (text.len > 0) {
		size_t digits = digits_in(text);
		size_t name_len = 0;
		uint64_t number;

		while (digits + name_len < text.len && text.data[digits + name_len] >= 'a' &&
		       text.data[digits + name_len] <= 'z')
			name_len++;

		size_t unit = unit_find(duration_units, ARRAY_LEN(duration_units),
					span_make(text.data + digits, name_len));

		if (digits == 0 || unit < next || unit == ARRAY_LEN(duration_units))
			return -EINVAL;
		if (!span_to_uint64(span_first(text, digits), &number) ||
		    __builtin_mul_overflow(number, duration_units[unit].factor, &number) ||
		    __builtin_add_overflow(sum, number, &sum))
			return -ERANGE;
		next = unit + 1;
		text = span_from(text, digits + name_len);
	}
	*ms = sum;
	return 0;
}

int value_parse_size(struct span text, uint64_t *bytes)
{
	size_t digits = digits_in(text);
	size_t unit = unit_find(size_units, ARRAY_LEN(size_units), span_from(text, digits));
	uint64_t number;

	if (digits == 0 || unit == ARRAY_LEN(size_units))
		return -EINVAL;
	if (!span_to_uint64(span_first(text, digits), &number) ||
	    __builtin_mul_overflow(number, size_units[unit].factor, &number))
		return -ERANGE;
	*bytes = number;
	return 0;
}

int value_parse_bool(struct span text, bool *flag)
{
	if (span_equal(text, SPAN("true")) || span_equal(text, SPAN("1")))
		*flag = true;
	else if (span_equal(text, SPAN("false")) || span_equal(text, SPAN("0")))
		*flag = false;
	else
		return -EINVAL;
	return 0;
}

struct value_text value_format_duration(uint64_t ms)
{
	struct value_text out = { "0" };
	size_t at = 0;

	for (size_t i = 0; i < ARRAY_LEN(duration_units) && ms > 0; i++) {
		uint64_t number = ms / duration_units[i].factor;

		if (number == 0)
			continue;
		ms %= duration_units[i].factor;

		int len = snprintf(out.text + at, sizeof(out.text) - at, "%" PRIu64 "%.*s", number,
				   SPAN_ARGS(duration_units[i].name));

		CHECK(len > 0 && (size_t)len < sizeof(out.text) - at);
		at += (size_t)len;
	}
	return out;
}

struct value_text value_format_size(uint64_t bytes)
{
	struct value_text out = { "0" };
	size_t i = 0;

	if (bytes == 0)
		return out;
	while (bytes % size_units[i].factor != 0)
		i++;
	snprintf(out.text, sizeof(out.text), "%" PRIu64 "%.*s", bytes / size_units[i].factor,
		 SPAN_ARGS(size_units[i].name));
	return out;
}
