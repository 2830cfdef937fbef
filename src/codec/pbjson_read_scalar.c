#include "base/base64.h"
#include "codec/number.h"
#include "codec/pbjson_read.h"

#include <endian.h>
#include <errno.h>
#include <math.h>

static int put_varint(struct reader *reader, uint64_t value)
{
	int error = pbjson_target_room(reader, &reader->out, 10);

	if (!error)
		reader->out.at = pbjson_put_varint(reader->out.at, value);
	return error;
}

static int put_fixed(struct reader *reader, uint64_t value, unsigned bytes)
{
	int error = pbjson_target_room(reader, &reader->out, 8);

	if (error)
		return error;
	value = htole64(value);
	memcpy(reader->out.at, &value, sizeof(value));
	reader->out.at += bytes;
	return 0;
}

int pbjson_put_bool(struct reader *reader, bool value)
{
	return put_varint(reader, value);
}

static uint64_t zigzag(int64_t value)
{
	return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static bool is_signed_type(enum schema_type type)
{
	return type != SCHEMA_UINT32 && type != SCHEMA_FIXED32 && type != SCHEMA_UINT64 &&
	       type != SCHEMA_FIXED64;
}

static bool is_64_bits(enum schema_type type)
{
	return type == SCHEMA_INT64 || type == SCHEMA_UINT64 || type == SCHEMA_SINT64 ||
	       type == SCHEMA_FIXED64 || type == SCHEMA_SFIXED64;
}

/* Whether the type has a number of this sign and magnitude; then its two's complement. */
static bool fits(enum schema_type type, bool negative, uint64_t magnitude, uint64_t *value)
{
	uint64_t most = is_64_bits(type) ? UINT64_MAX : UINT32_MAX;

	if (is_signed_type(type))
		most = (most >> 1) + negative;
	else if (negative)
		most = 0;
	*value = negative ? 0 - magnitude : magnitude;
	return magnitude <= most;
}

static int put_integer(struct reader *reader, enum schema_type type, uint64_t value)
{
	switch (type) {
	case SCHEMA_SINT32:
	case SCHEMA_SINT64:
		return put_varint(reader, zigzag((int64_t)value));
	case SCHEMA_FIXED32:
	case SCHEMA_SFIXED32:
		return put_fixed(reader, value, 4);
	case SCHEMA_FIXED64:
	case SCHEMA_SFIXED64:
		return put_fixed(reader, value, 8);
	default:
		return put_varint(reader, value);
	}
}

static int put_real(struct reader *reader, enum schema_type type, double real, float single)
{
	uint64_t bits;
	uint32_t low;

	if (type == SCHEMA_DOUBLE) {
		memcpy(&bits, &real, sizeof(bits));
		return put_fixed(reader, bits, 8);
	}
	memcpy(&low, &single, sizeof(low));
	return put_fixed(reader, low, 4);
}

static int put_number(struct reader *reader, const struct schema_field *field, const uint8_t *at,
		      const struct number *number)
{
	enum schema_type type = (enum schema_type)field->type;
	uint64_t magnitude, value;

	if (type == SCHEMA_DOUBLE || type == SCHEMA_FLOAT) {
		double real = type == SCHEMA_DOUBLE ? number_to_double(number) : 0;
		float single = type == SCHEMA_FLOAT ? number_to_float(number) : 0;

		if (isinf(real) || isinf(single))
			return pbjson_read_fail(reader, at, "number out of range");
		return put_real(reader, type, real, single);
	}
	magnitude = number->mantissa;
	if ((!number->exact || number->exponent != 0) && !number_to_uint64(number, &magnitude)) {
		/* whole but too large, or with a fraction */
		bool is_huge = !number->exact || number->exponent > 0;

		return pbjson_read_fail(reader, at,
					is_huge && number->exponent >= 0 ? "number out of range"
									 : "not a whole number");
	}
	if (!fits(type, number->negative, magnitude, &value))
		return pbjson_read_fail(reader, at, "number out of range");
	return put_integer(reader, type, value);
}

int pbjson_put_number_text(struct reader *reader, const struct schema_field *field,
			   const uint8_t *at, struct span text)
{
	bool is_real = field->type == SCHEMA_DOUBLE || field->type == SCHEMA_FLOAT;
	enum schema_type type = (enum schema_type)field->type;
	struct number number;

	if (is_real && span_equal(text, SPAN("NaN")))
		return put_real(reader, type, NAN, NAN);
	if (is_real && span_equal(text, SPAN("Infinity")))
		return put_real(reader, type, INFINITY, INFINITY);
	if (is_real && span_equal(text, SPAN("-Infinity")))
		return put_real(reader, type, -INFINITY, -INFINITY);
	if (text.len == 0 || number_scan(text, &number) != text.len)
		return pbjson_read_fail(reader, at, "expected a number");
	return put_number(reader, field, at, &number);
}

int pbjson_read_number(struct reader *reader, const struct schema_field *field)
{
	struct number number;
	struct span text;
	uint8_t byte = pbjson_peek(reader);
	const uint8_t *at = reader->at;

	if (byte == '"') {
		int error = pbjson_take_text(reader, &text);

		return error ? error : pbjson_put_number_text(reader, field, at, text);
	}

	size_t len = number_scan(span_make(at, (size_t)(reader->end - at)), &number);

	if (len == 0)
		return pbjson_read_fail(reader, at, "expected a number");
	reader->at += len;
	return put_number(reader, field, at, &number);
}

int pbjson_put_enum_text(struct reader *reader, const struct schema_field *field, const uint8_t *at,
			 struct span text)
{
	const struct schema_enum_value *value = schema_value_of_name(field->enumeration, text);

	if (value)
		return put_varint(reader, (uint64_t)value->number);
	if (reader->options->ignore_unknown)
		return PBJSON_LEFT_OUT;
	return pbjson_read_fail(reader, at, "no value of this enum has this name");
}

int pbjson_read_enum(struct reader *reader, const struct schema_field *field)
{
	struct number number;
	struct span text;
	uint64_t magnitude, value;
	uint8_t byte = pbjson_peek(reader);
	const uint8_t *at = reader->at;

	if (byte == '"') {
		int error = pbjson_take_text(reader, &text);

		return error ? error : pbjson_put_enum_text(reader, field, at, text);
	}
	if (byte == 'n' && field->enumeration->is_null_value &&
	    pbjson_take_word(reader, SPAN("null")))
		return put_varint(reader, 0);

	size_t len = number_scan(span_make(at, (size_t)(reader->end - at)), &number);

	if (len == 0)
		return pbjson_read_fail(reader, at, "expected a name or a number");
	reader->at += len;
	if (!number_to_uint64(&number, &magnitude) ||
	    !fits(SCHEMA_INT32, number.negative, magnitude, &value))
		return pbjson_read_fail(reader, at, "no number of an enum");
	return put_varint(reader, value);
}

int pbjson_put_base64(struct reader *reader, const uint8_t *at, struct span text)
{
	struct span digits = text;

	while (digits.len > 0 && digits.data[digits.len - 1] == '=' && text.len - digits.len < 2)
		digits.len--;

	size_t len = digits.len / 4 * 3 + (digits.len % 4 ? digits.len % 4 - 1 : 0);
	int error = pbjson_target_room(reader, &reader->out, len + 10);

	if (error)
		return error;
	reader->out.at = pbjson_put_varint(reader->out.at, len);

	uint8_t *end = base64_read(reader->out.at, text);

	if (!end)
		return pbjson_read_fail(reader, at, "malformed base64");
	reader->out.at = end;
	return 0;
}
