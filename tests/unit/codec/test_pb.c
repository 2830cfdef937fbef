#include "base/check.h"
#include "codec/pb.h"
#include "galaxy/gateway/v1/edge_gateway.pb-c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Reads all fields of a copy with nothing behind it. Returns pb_next's last word and the number of
 * fields. */
static int read_all(struct span bytes, size_t *count)
{
	uint8_t *copy = malloc(bytes.len ? bytes.len : 1);
	struct pb_field field;
	int result;

	assert_non_null(copy);
	if (bytes.len > 0)
		memcpy(copy, bytes.data, bytes.len);

	struct pb_reader reader = {.rest = span_make(copy, bytes.len)};

	*count = 0;
	while ((result = pb_next(&reader, &field)) > 0) {
		assert_int_not_equal(field.number, 0);
		assert_true(field.wire == PB_VARINT || field.wire == PB_FIXED64 ||
			    field.wire == PB_BYTES || field.wire == PB_FIXED32);
		if (field.wire == PB_BYTES && field.bytes.len > 0)
			assert_true(field.bytes.data >= copy &&
				    field.bytes.data + field.bytes.len <= copy + bytes.len);
		(*count)++;
	}
	free(copy);
	return result;
}

static const struct {
	struct span bytes;
	uint32_t number;
	enum pb_wire wire;
	uint64_t value;
	struct span text;
} fields[] = {
	{SPAN("\x08\x00"), 1, PB_VARINT, 0, SPAN_EMPTY},
	{SPAN("\x08\x96\x01"), 1, PB_VARINT, 150, SPAN_EMPTY},
	{SPAN("\x08\x80\x00"), 1, PB_VARINT, 0, SPAN_EMPTY},
	{SPAN("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 1, PB_VARINT, UINT64_MAX,
	 SPAN_EMPTY},
	{SPAN("\x11\x01\x02\x03\x04\x05\x06\x07\x88"), 2, PB_FIXED64, 0x8807060504030201,
	 SPAN_EMPTY},
	{SPAN("\x1d\x01\x02\x03\xf4"), 3, PB_FIXED32, 0xf4030201, SPAN_EMPTY},
	{SPAN("\x22\x00"), 4, PB_BYTES, 0, SPAN_EMPTY},
	{SPAN("\x22\x03"
	      "a\0b"),
	 4, PB_BYTES, 0, SPAN("a\0b")},
	{SPAN("\xf8\xff\xff\xff\x0f\x01"), 0x1fffffff, PB_VARINT, 1, SPAN_EMPTY},
};

static void field_is_read_and_waits_for_nothing(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(fields); row++) {
		struct pb_reader reader = {.rest = fields[row].bytes};
		struct pb_field field;
		size_t count;

		assert_int_equal(pb_next(&reader, &field), 1);
		assert_int_equal(field.number, fields[row].number);
		assert_int_equal(field.wire, fields[row].wire);
		assert_int_equal(field.value, fields[row].value);
		assert_true(span_equal(field.bytes, fields[row].text));
		assert_int_equal(pb_next(&reader, &field), 0);
		assert_int_equal(pb_next(&reader, &field), 0);
		/* cut anywhere it is malformed: there is no more to come */
		for (size_t len = 1; len < fields[row].bytes.len; len++)
			assert_int_equal(read_all(span_first(fields[row].bytes, len), &count),
					 -EPROTO);
	}
}

static const struct span malformed[] = {
	SPAN("\x00\x00"), /* number 0 */
	SPAN("\x02\x00"),
	SPAN("\x03\x04"),
	SPAN("\x80\x80\x80\x80\x10\x00"), /* number over 29 bits */
	SPAN("\x0e"),			  /* wire types 6 and 7 */
	SPAN("\x0f"),
	SPAN("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),	  /* over 64 bits */
	SPAN("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), /* over 10 bytes */
	SPAN("\x0a\x02x"),					  /* length past the end */
	SPAN("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"),
	SPAN("\x0c"), /* end of a group that is not open */
	SPAN("\x0b"), /* groups without, or with the wrong, end */
	SPAN("\x0b\x14"),
	SPAN("\x0b\x13\x0c\x14"),
	SPAN("\x0b\x0a\x05x\x0c"),
	SPAN("\x0b\x00\x0c"),
};

static void malformed_message_is_refused(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(malformed); row++) {
		size_t count;

		if (read_all(malformed[row], &count) != -EPROTO)
			fail_msg("row %zu", row);
		assert_int_equal(count, 0);
	}
}

static void groups_are_skipped_whole(void **state)
{
	/* 1 {}, 2 { 3 { 1: 5 } 4: "x" fixed64 fixed32 }, then 5: 6 */
	struct span bytes = SPAN("\x0b\x0c\x13\x1b\x08\x05\x1c\x22\x01x\x09"
				 "12345678\x0d"
				 "1234\x14\x28\x06\x0b\x0c");
	struct pb_reader reader = {.rest = bytes};
	struct pb_field field;
	size_t count;

	(void)state;
	assert_int_equal(pb_next(&reader, &field), 1);
	assert_int_equal(field.number, 5);
	assert_int_equal(field.value, 6);
	assert_int_equal(pb_next(&reader, &field), 0);
	/* cut inside a group it is malformed */
	for (size_t len = 3; len < 25; len++)
		assert_int_equal(read_all(span_first(bytes, len), &count), -EPROTO);
}

static void group_depth_is_bounded(void **state)
{
	(void)state;
	for (size_t depth = 99; depth <= 102; depth++) {
		uint8_t bytes[300];
		size_t count;

		for (size_t i = 0; i < depth; i++) {
			bytes[i] = 0x0b;
			bytes[depth + i] = 0x0c;
		}
		assert_int_equal(read_all(span_make(bytes, 2 * depth), &count),
				 depth <= 100 ? 0 : -EPROTO);
	}
}

static void varint_sizes_are_right(void **state)
{
	(void)state;
	assert_int_equal(pb_varint_bytes(0), 1);
	for (unsigned bits = 1; bits <= 64; bits++) {
		uint64_t most = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;

		assert_int_equal(pb_varint_bytes(most), (bits + 6) / 7);
		assert_int_equal(pb_varint_bytes(UINT64_C(1) << (bits - 1)), (bits + 6) / 7);
	}
}

static void default_values_are_left_out(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 100);
	assert_int_equal(pb_put_bytes(&out, 1, SPAN_EMPTY), 0);
	assert_int_equal(pb_put_varint(&out, 1, 0), 0);
	assert_int_equal(out.len, 0);
	assert_int_equal(pb_size_bytes(1, SPAN_EMPTY) + pb_size_varint(1, 0), 0);
	buf_finish(&out);
}

static void sizes_are_what_is_written(void **state)
{
	static const uint32_t numbers[] = {1, 15, 16, 2047, 2048, 0x1fffffff};
	static uint8_t bytes[20000], memory[20020];
	static const size_t lens[] = {1, 127, 128, 16383, 16384, 20000};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(numbers); n++) {
		for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
			struct span text = span_make(bytes, lens[i]);
			struct pb_reader reader;
			struct pb_field field;

			assert_ptr_equal(pb_write_bytes(memory, numbers[n], text),
					 memory + pb_size_bytes(numbers[n], text));
			reader.rest = span_make(memory, pb_size_bytes(numbers[n], text));
			assert_int_equal(pb_next(&reader, &field), 1);
			assert_int_equal(field.number, numbers[n]);
			assert_int_equal(field.bytes.len, lens[i]);
			assert_ptr_equal(pb_write_varint(memory, numbers[n], lens[i]),
					 memory + pb_size_varint(numbers[n], lens[i]));
		}
	}
}

static void full_buffer_is_refused_whole(void **state)
{
	(void)state;
	for (size_t max = 0; max < 6; max++) {
		struct buf out;

		buf_init(&out, max);
		assert_int_equal(pb_put_bytes(&out, 1, SPAN("abc")), max < 5 ? -EMSGSIZE : 0);
		assert_int_equal(out.len, max < 5 ? 0 : 5);
		assert_int_equal(out.failed, max < 5);
		buf_finish(&out);
		buf_init(&out, max);
		assert_int_equal(pb_put_varint(&out, 1, 300), max < 3 ? -EMSGSIZE : 0);
		buf_finish(&out);
	}
}

/* ---- against protobuf-c ---- */

static unsigned seed = 7;

static size_t random_len(void)
{
	return (unsigned)rand_r(&seed) % 4 == 0 ? 0 : (unsigned)rand_r(&seed) % 200;
}

static void random_text(char text[201])
{
	size_t len = random_len();

	for (size_t i = 0; i < len; i++)
		text[i] = (char)(32 + rand_r(&seed) % 95);
	text[len] = 0;
}

static void random_bytes(uint8_t bytes[200], ProtobufCBinaryData *data)
{
	data->len = random_len();
	data->data = bytes;
	for (size_t i = 0; i < data->len; i++)
		bytes[i] = (uint8_t)rand_r(&seed);
}

static int64_t random_time(void)
{
	int64_t value = (int64_t)((uint64_t)rand_r(&seed) << 40 ^ (uint64_t)rand_r(&seed) << 13);

	return rand_r(&seed) % 4 == 0 ? 0 : rand_r(&seed) % 2 ? value : -value;
}

struct event_texts {
	char type[201], id[201], request[201], trace[201];
	uint8_t payload[200], hash[200], signature[200];
};

static void random_event(Galaxy__Gateway__V1__GatewayEvent *event, struct event_texts *texts)
{
	galaxy__gateway__v1__gateway_event__init(event);
	random_text(texts->type);
	random_text(texts->id);
	random_text(texts->request);
	random_text(texts->trace);
	event->event_type = texts->type;
	event->event_id = texts->id;
	event->request_id = texts->request;
	event->trace_id = texts->trace;
	event->timestamp_ms = random_time();
	random_bytes(texts->payload, &event->payload_bytes);
	random_bytes(texts->hash, &event->payload_hash);
	random_bytes(texts->signature, &event->signature);
}

static struct span data_span(ProtobufCBinaryData data)
{
	return span_make(data.data, data.len);
}

static void what_we_write_is_what_protobuf_c_writes(void **state)
{
	(void)state;
	for (int round = 0; round < 2000; round++) {
		Galaxy__Gateway__V1__GatewayEvent event;
		struct event_texts texts;
		struct buf ours, theirs;

		random_event(&event, &texts);
		buf_init(&ours, 4096);
		buf_init(&theirs, 4096);
		pb_put_bytes(&ours, 1, span_from_cstr(event.event_type));
		pb_put_bytes(&ours, 2, span_from_cstr(event.event_id));
		pb_put_varint(&ours, 3, (uint64_t)event.timestamp_ms);
		pb_put_bytes(&ours, 4, data_span(event.payload_bytes));
		pb_put_bytes(&ours, 5, data_span(event.payload_hash));
		pb_put_bytes(&ours, 6, data_span(event.signature));
		pb_put_bytes(&ours, 7, span_from_cstr(event.request_id));
		pb_put_bytes(&ours, 8, span_from_cstr(event.trace_id));
		assert_false(ours.failed);

		size_t size = galaxy__gateway__v1__gateway_event__get_packed_size(&event);

		if (size > 0)
			galaxy__gateway__v1__gateway_event__pack(&event,
								 buf_reserve(&theirs, size));
		buf_claim(&theirs, size);
		assert_true(span_equal(buf_span(&ours), buf_span(&theirs)));
		buf_finish(&ours);
		buf_finish(&theirs);
	}
}

static struct span field_of(struct span message, uint32_t number, uint64_t *value)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;
	struct span found = SPAN_EMPTY;

	*value = 0;
	while (pb_next(&reader, &field) > 0) {
		if (field.number == number) {
			found = field.bytes;
			*value = field.value;
		}
	}
	return found;
}

static void what_protobuf_c_writes_is_what_we_read(void **state)
{
	(void)state;
	for (int round = 0; round < 2000; round++) {
		Galaxy__Gateway__V1__GatewayEvent event;
		struct event_texts texts;
		uint8_t packed[2048];
		uint64_t value;

		random_event(&event, &texts);

		struct span message =
			span_make(packed, galaxy__gateway__v1__gateway_event__pack(&event, packed));

		assert_true(
			span_equal(field_of(message, 1, &value), span_from_cstr(event.event_type)));
		assert_true(
			span_equal(field_of(message, 2, &value), span_from_cstr(event.event_id)));
		field_of(message, 3, &value);
		assert_true((int64_t)value == event.timestamp_ms);
		assert_true(
			span_equal(field_of(message, 4, &value), data_span(event.payload_bytes)));
		assert_true(
			span_equal(field_of(message, 5, &value), data_span(event.payload_hash)));
		assert_true(span_equal(field_of(message, 6, &value), data_span(event.signature)));
		assert_true(
			span_equal(field_of(message, 7, &value), span_from_cstr(event.request_id)));
		assert_true(
			span_equal(field_of(message, 8, &value), span_from_cstr(event.trace_id)));
	}
}

static void random_bytes_do_no_harm(void **state)
{
	(void)state;
	for (int round = 0; round < 50000; round++) {
		uint8_t bytes[40];
		size_t len = (unsigned)rand_r(&seed) % sizeof(bytes), count;

		/* small bytes: tags with groups and short lengths come often */
		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)(rand_r(&seed) % (round % 2 ? 32 : 256));

		int result = read_all(span_make(bytes, len), &count);

		assert_true(result == 0 || result == -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(field_is_read_and_waits_for_nothing),
		cmocka_unit_test(malformed_message_is_refused),
		cmocka_unit_test(groups_are_skipped_whole),
		cmocka_unit_test(group_depth_is_bounded),
		cmocka_unit_test(varint_sizes_are_right),
		cmocka_unit_test(default_values_are_left_out),
		cmocka_unit_test(sizes_are_what_is_written),
		cmocka_unit_test(full_buffer_is_refused_whole),
		cmocka_unit_test(what_we_write_is_what_protobuf_c_writes),
		cmocka_unit_test(what_protobuf_c_writes_is_what_we_read),
		cmocka_unit_test(random_bytes_do_no_harm),
	};

	return cmocka_run_group_tests_name("pb", tests, NULL, NULL);
}
