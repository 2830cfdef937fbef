#include "codec/pb.h"

#include <errno.h>

#define VARINT_BYTES_MAX 10	     /* 64 bits in groups of 7 */
#define NUMBER_MAX	 0x1fffffffu /* 29 bits: the tag fits in 32 */
#define GROUP_DEPTH_MAX                                                                            \
	100 /* as protobuf's own parsers: deeper is an attack on the stack, and ours is an array   \
	     */

/* Returns false when the varint is cut, longer than 10 bytes or more than 64 bits. */
static bool take_varint(struct span *rest, uint64_t *value)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < rest->len && i < VARINT_BYTES_MAX; i++) {
		uint8_t byte = rest->data[i];

		if (i == VARINT_BYTES_MAX - 1 && byte > 1)
			return false;
		sum |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte < 0x80) {
			*rest = span_from(*rest, i + 1);
			*value = sum;
			return true;
		}
	}
	return false;
}

static bool take_fixed(struct span *rest, size_t bytes, uint64_t *value)
{
	if (rest->len < bytes)
		return false;
	*value = 0;
	for (size_t i = 0; i < bytes; i++)
		*value |= (uint64_t)rest->data[i] << (8 * i);
	*rest = span_from(*rest, bytes);
	return true;
}

static bool take_bytes(struct span *rest, struct span *bytes)
{
	uint64_t len;

	if (!take_varint(rest, &len) || len > rest->len)
		return false;
	*bytes = span_first(*rest, (size_t)len);
	*rest = span_from(*rest, (size_t)len);
	return true;
}

/* One tag and, unless it is a group's, its value. */
static bool take_field(struct span *rest, struct pb_field *field)
{
	uint64_t tag;

	if (!take_varint(rest, &tag) || tag >> 3 == 0 || tag >> 3 > NUMBER_MAX)
		return false;
	*field = (struct pb_field){.number = (uint32_t)(tag >> 3), .wire = (enum pb_wire)(tag & 7)};
	switch (field->wire) {
	case PB_VARINT:
		return take_varint(rest, &field->value);
	case PB_FIXED64:
		return take_fixed(rest, 8, &field->value);
	case PB_BYTES:
		return take_bytes(rest, &field->bytes);
	case PB_GROUP:
	case PB_END_GROUP:
		return true;
	case PB_FIXED32:
		return take_fixed(rest, 4, &field->value);
	}
	return false;
}

/* `rest` begins behind the group's first tag. */
static bool skip_group(struct span *rest, uint32_t number)
{
	uint32_t open[GROUP_DEPTH_MAX];
	size_t depth = 0;
	struct pb_field field;

	open[depth++] = number;
	while (depth > 0) {
		if (!take_field(rest, &field))
			return false;
		if (field.wire == PB_END_GROUP) {
			if (field.number != open[--depth])
				return false;
		} else if (field.wire == PB_GROUP) {
			if (depth == GROUP_DEPTH_MAX)
				return false;
			open[depth++] = field.number;
		}
	}
	return true;
}

int pb_skip_group(struct pb_reader *reader, uint32_t number)
{
	return skip_group(&reader->rest, number) ? 0 : -EPROTO;
}

int pb_next(struct pb_reader *reader, struct pb_field *field)
{
	while (reader->rest.len > 0) {
		if (!take_field(&reader->rest, field) || field->wire == PB_END_GROUP)
			return -EPROTO;
		if (field->wire != PB_GROUP)
			return 1;
		if (!skip_group(&reader->rest, field->number))
			return -EPROTO;
	}
	return 0;
}

size_t pb_varint_bytes(uint64_t value)
{
	unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);

	return (bits + 6) / 7;
}

static uint8_t *write_varint(uint8_t *at, uint64_t value)
{
	while (value >= 0x80) {
		*at++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*at++ = (uint8_t)value;
	return at;
}

static uint64_t tag_of(uint32_t number, enum pb_wire wire)
{
	return (uint64_t)number << 3 | wire;
}

size_t pb_size_bytes(uint32_t number, struct span bytes)
{
	if (bytes.len == 0)
		return 0;
	return pb_varint_bytes(tag_of(number, PB_BYTES)) + pb_varint_bytes(bytes.len) + bytes.len;
}

size_t pb_size_varint(uint32_t number, uint64_t value)
{
	if (value == 0)
		return 0;
	return pb_varint_bytes(tag_of(number, PB_VARINT)) + pb_varint_bytes(value);
}

uint8_t *pb_write_bytes(uint8_t *at, uint32_t number, struct span bytes)
{
	if (bytes.len == 0)
		return at;
	at = write_varint(at, tag_of(number, PB_BYTES));
	at = write_varint(at, bytes.len);
	memcpy(at, bytes.data, bytes.len);
	return at + bytes.len;
}

uint8_t *pb_write_varint(uint8_t *at, uint32_t number, uint64_t value)
{
	if (value == 0)
		return at;
	at = write_varint(at, tag_of(number, PB_VARINT));
	return write_varint(at, value);
}

/* Claims what was written from where buf_reserve pointed to up to `end`. */
static int claim(struct buf *out, const uint8_t *end)
{
	buf_claim(out, (size_t)(end - (out->data + out->len)));
	return 0;
}

/* buf's code when it refused to reserve `size`. */
static int refusal(const struct buf *out, size_t size)
{
	return size > out->max - out->len ? -EMSGSIZE : -ENOMEM;
}

int pb_put_bytes(struct buf *out, uint32_t number, struct span bytes)
{
	size_t size = pb_size_bytes(number, bytes);

	if (size == 0)
		return 0;

	uint8_t *at = buf_reserve(out, size);

	return at ? claim(out, pb_write_bytes(at, number, bytes)) : refusal(out, size);
}

int pb_put_varint(struct buf *out, uint32_t number, uint64_t value)
{
	size_t size = pb_size_varint(number, value);

	if (size == 0)
		return 0;

	uint8_t *at = buf_reserve(out, size);

	return at ? claim(out, pb_write_varint(at, number, value)) : refusal(out, size);
}
