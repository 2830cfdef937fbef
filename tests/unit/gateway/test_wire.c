#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/check.h"
#include "codec/grpc.h"
#include "galaxy/gateway/v1/command_handler.pb-c.h"
#include "galaxy/gateway/v1/edge_gateway.pb-c.h"
#include "gateway/wire.h"
#include "unit/auth/hex.h"
#include "unit/auth/vectors.h"

#include <errno.h>
#include <stdlib.h>

/* protobuf-c is the other reading of every message: nobody here wrote it. */

static struct span body_of(const struct payload *payload)
{
	struct grpc_deframer deframer;
	struct span message = SPAN_EMPTY;

	assert_true(payload->len >= GRPC_PREFIX_BYTES);
	grpc_deframer_init(&deframer, GRPC_IDENTITY, PAYLOAD_BYTES_MAX);
	assert_int_equal(grpc_deframer_take(&deframer, payload_span(payload), &message),
			 payload->len);
	grpc_deframer_finish(&deframer);
	return message;
}

static void assert_span(struct span got, const void *wanted, size_t len)
{
	assert_int_equal(got.len, len);
	if (len)
		assert_memory_equal(got.data, wanted, len);
}

static void assert_bytes(ProtobufCBinaryData got, struct span wanted)
{
	assert_span(span_make(got.data, got.len), wanted.data, wanted.len);
}

static Galaxy__Gateway__V1__ExecuteCommandRequest sample_request(void)
{
	Galaxy__Gateway__V1__ExecuteCommandRequest request =
		GALAXY__GATEWAY__V1__EXECUTE_COMMAND_REQUEST__INIT;

	request.protocol_version = (char *)"v1";
	request.device_session_id = (char *)"s-1";
	request.message_type = (char *)"fleet.move";
	request.timestamp_ms = INT64_C(1700000000000);
	request.request_id = (char *)"r-1";
	request.payload_bytes = (ProtobufCBinaryData){3, (uint8_t *)"a\0b"};
	request.payload_hash = (ProtobufCBinaryData){4, (uint8_t *)"hash"};
	request.signature = (ProtobufCBinaryData){9, (uint8_t *)"signature"};
	request.trace_id = (char *)"t-1";
	return request;
}

static void request_is_read_as_protobuf_c_wrote_it(void **state)
{
	(void)state;
	Galaxy__Gateway__V1__ExecuteCommandRequest request = sample_request();
	uint8_t bytes[256];
	size_t len = galaxy__gateway__v1__execute_command_request__pack(&request, bytes);
	struct envelope envelope;

	assert_int_equal(wire_read_request(span_make(bytes, len), &envelope), 0);
	assert_span(envelope.protocol_version, "v1", 2);
	assert_span(envelope.device_session_id, "s-1", 3);
	assert_span(envelope.message_type, "fleet.move", 10);
	assert_true(envelope.timestamp_ms == INT64_C(1700000000000));
	assert_span(envelope.request_id, "r-1", 3);
	assert_span(envelope.payload_bytes, "a\0b", 3);
	assert_span(envelope.payload_hash, "hash", 4);
	assert_span(envelope.signature, "signature", 9);
	assert_span(envelope.trace_id, "t-1", 3);
}

static void request_cut_anywhere_is_refused_or_lacks_what_was_cut(void **state)
{
	(void)state;
	Galaxy__Gateway__V1__ExecuteCommandRequest request = sample_request();
	uint8_t bytes[256];
	size_t len = galaxy__gateway__v1__execute_command_request__pack(&request, bytes);
	size_t refused = 0;

	for (size_t cut = 0; cut < len; cut++) {
		/* an own copy, so that a read beyond the end is a fault */
		uint8_t *copy = malloc(cut + 1);
		struct envelope envelope;

		memcpy(copy, bytes, cut);
		if (wire_read_request(span_make(copy, cut), &envelope)) {
			refused++;
		} else {
			assert_int_equal(envelope.trace_id.len, 0);
		}
		free(copy);
	}
	assert_true(refused > len / 2);
}

static void request_with_wrong_wire_types_is_refused(void **state)
{
	(void)state;
	static const struct {
		uint8_t bytes[12];
		size_t len;
	} rows[] = {
		{{1 << 3 | 0, 1}, 2},			   /* a string as a varint */
		{{4 << 3 | 2, 1, 'x'}, 3},		   /* the time as bytes */
		{{4 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8}, 9}, /* the time as fixed64 */
		{{6 << 3 | 5, 1, 2, 3, 4}, 5},		   /* bytes as fixed32 */
		{{0 << 3 | 2, 0}, 2},			   /* field 0 */
		{{1 << 3 | 7, 0}, 2},			   /* wire type 7 */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct envelope envelope;

		assert_int_equal(
			wire_read_request(span_make(rows[i].bytes, rows[i].len), &envelope),
			-EPROTO);
	}
}

static void last_of_a_repeated_field_counts_and_unknown_ones_are_skipped(void **state)
{
	(void)state;
	static const uint8_t bytes[] = {1 << 3 | 2, 1, 'a', 99 % 16 << 3 | 2, 2, 'x', 'y',
					1 << 3 | 2, 1, 'b', 12 << 3 | 0,      7};
	struct envelope envelope;

	assert_int_equal(wire_read_request(span_make(bytes, sizeof(bytes)), &envelope), 0);
	assert_span(envelope.protocol_version, "b", 1);
}

static void command_is_what_protobuf_c_reads(void **state)
{
	(void)state;
	const struct envelope envelope = {
		.device_session_id = SPAN("s"),
		.message_type = SPAN("m"),
		.request_id = SPAN("r"),
		.trace_id = SPAN("t"),
		.timestamp_ms = 17,
		.payload_bytes = SPAN("payload"),
	};
	const struct wire_command command = {.envelope = &envelope, .user_id = SPAN("u")};
	struct payload *payload = wire_write_command(&command);
	struct span body = body_of(payload);
	Galaxy__Gateway__V1__AuthenticatedCommand *read =
		galaxy__gateway__v1__authenticated_command__unpack(NULL, body.len, body.data);

	assert_non_null(read);
	assert_string_equal(read->user_id, "u");
	assert_string_equal(read->device_session_id, "s");
	assert_string_equal(read->message_type, "m");
	assert_string_equal(read->request_id, "r");
	assert_string_equal(read->trace_id, "t");
	assert_int_equal(read->timestamp_ms, 17);
	assert_bytes(read->payload_bytes, SPAN("payload"));
	galaxy__gateway__v1__authenticated_command__free_unpacked(read, NULL);
	payload_put(payload);
}

static void result_is_read_and_a_malformed_one_refused(void **state)
{
	(void)state;
	static const uint8_t good[] = {1 << 3 | 2, 2, 'o', 'k', 2 << 3 | 2, 1, 0};
	static const uint8_t bad_text[] = {1 << 3 | 2, 2, 0xc3, 0x28};
	static const uint8_t bad_wire[] = {1 << 3 | 0, 2};
	struct span code, bytes;

	assert_int_equal(wire_read_result(span_make(good, sizeof(good)), &code, &bytes), 0);
	assert_span(code, "ok", 2);
	assert_span(bytes, "\0", 1);
	assert_int_equal(wire_read_result(SPAN_EMPTY, &code, &bytes), 0);
	assert_int_equal(code.len + bytes.len, 0);
	assert_int_equal(wire_read_result(span_make(bad_text, sizeof(bad_text)), &code, &bytes),
			 -EPROTO);
	assert_int_equal(wire_read_result(span_make(bad_wire, sizeof(bad_wire)), &code, &bytes),
			 -EPROTO);
}

/* A batch is its events one behind the other, and takes none that does not fit. */
static void expect_batch_of_two(struct wire_signing *signing, const struct wire_event *event,
				const struct payload *alone)
{
	uint32_t capacity = 3 * alone->len - 1;
	struct payload *batch = wire_batch_create(capacity);

	assert_non_null(batch);
	assert_int_equal(batch->messages, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(wire_batch_add(signing, batch, capacity, event), 0);
	assert_int_equal(wire_batch_add(signing, batch, capacity, event), -ENOBUFS);
	assert_int_equal(batch->messages, 2);
	assert_int_equal(batch->len, 2 * alone->len);
	batch = payload_trim(batch);
	for (size_t i = 0; i < 2; i++)
		assert_memory_equal(batch->data + i * alone->len, alone->data, alone->len);
	payload_put(batch);
}

static void response_and_event_carry_the_signatures_of_the_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good_vectors); i++) {
		const struct good_vector *vector = &good_vectors[i];
		struct bytes seed = bytes_from_hex(vector->seed),
			     payload_bytes = bytes_from_hex(vector->payload);
		struct bytes wanted_hash = bytes_from_hex(vector->payload_hash);
		struct bytes wanted_response = bytes_from_hex(vector->response_signature);
		struct bytes wanted_event = bytes_from_hex(vector->event_signature);
		struct signer *signer;
		struct wire_signing signing;

		assert_int_equal(signer_from_seed(&signer, seed.data), 0);
		assert_int_equal(wire_signing_init(&signing, signer), 0);
		const struct wire_response response = {
			.request_id = span_from_cstr(vector->request_id),
			.result_code = span_from_cstr(vector->result_code),
			.payload_bytes = bytes_span(&payload_bytes),
			.timestamp_ms = vector->timestamp_ms,
		};
		struct payload *payload = wire_write_response(&signing, &response);
		struct span body = body_of(payload);
		Galaxy__Gateway__V1__ExecuteCommandResponse *answer =
			galaxy__gateway__v1__execute_command_response__unpack(NULL, body.len,
									      body.data);

		assert_string_equal(answer->protocol_version, "v1");
		assert_string_equal(answer->request_id, vector->request_id);
		assert_bytes(answer->payload_bytes, response.payload_bytes);
		assert_bytes(answer->signature, bytes_span(&wanted_response));
		assert_bytes(answer->payload_hash, bytes_span(&wanted_hash));
		galaxy__gateway__v1__execute_command_response__free_unpacked(answer, NULL);
		payload_put(payload);

		const struct wire_event event = {
			.event_type = span_from_cstr(vector->event_type),
			.event_id = span_from_cstr(vector->event_id),
			.request_id = span_from_cstr(vector->request_id),
			.trace_id = span_from_cstr(vector->trace_id),
			.payload_bytes = bytes_span(&payload_bytes),
			.timestamp_ms = vector->timestamp_ms,
		};

		payload = wire_write_event(&signing, &event);
		expect_batch_of_two(&signing, &event, payload);
		body = body_of(payload);
		Galaxy__Gateway__V1__GatewayEvent *pushed =
			galaxy__gateway__v1__gateway_event__unpack(NULL, body.len, body.data);

		assert_string_equal(pushed->event_type, vector->event_type);
		assert_string_equal(pushed->event_id, vector->event_id);
		assert_string_equal(pushed->request_id, vector->request_id);
		assert_bytes(pushed->signature, bytes_span(&wanted_event));
		galaxy__gateway__v1__gateway_event__free_unpacked(pushed, NULL);
		payload_put(payload);
		wire_signing_finish(&signing);
		signer_destroy(signer);
	}
}

static void heartbeat_has_its_type_and_nothing_else(void **state)
{
	(void)state;
	struct payload *payload = wire_write_heartbeat();
	struct span body = body_of(payload);

	assert_span(body, "\x0a\x11gateway.heartbeat", 19);
	payload_put(payload);
}

static void message_over_the_payload_maximum_is_refused(void **state)
{
	(void)state;
	struct envelope envelope = {.payload_bytes = {(const uint8_t *)"", PAYLOAD_BYTES_MAX}};
	const struct wire_command command = {.envelope = &envelope};

	assert_null(wire_write_command(&command)); /* judged by its length: nothing is read */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_is_read_as_protobuf_c_wrote_it),
		cmocka_unit_test(request_cut_anywhere_is_refused_or_lacks_what_was_cut),
		cmocka_unit_test(request_with_wrong_wire_types_is_refused),
		cmocka_unit_test(last_of_a_repeated_field_counts_and_unknown_ones_are_skipped),
		cmocka_unit_test(command_is_what_protobuf_c_reads),
		cmocka_unit_test(result_is_read_and_a_malformed_one_refused),
		cmocka_unit_test(response_and_event_carry_the_signatures_of_the_vectors),
		cmocka_unit_test(heartbeat_has_its_type_and_nothing_else),
		cmocka_unit_test(message_over_the_payload_maximum_is_refused),
	};

	if (auth_init())
		return 1;
	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
