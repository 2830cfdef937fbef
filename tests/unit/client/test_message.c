#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/message.h"

#include "codec/grpc.h"
#include "codec/pb.h"

static struct signer *gateway, *other;
static struct digest *digest;

static int setup(void **state)
{
	static const uint8_t seed[32] = {1}, other_seed[32] = {2};

	(void)state;
	if (auth_init())
		return -1;
	digest = digest_create();
	return digest && signer_from_seed(&gateway, seed) == 0 &&
			       signer_from_seed(&other, other_seed) == 0
		       ? 0
		       : -1;
}

static int teardown(void **state)
{
	(void)state;
	signer_destroy(gateway);
	signer_destroy(other);
	digest_destroy(digest);
	return 0;
}

/* A whole GatewayEvent with one byte of one field turned, if `broken` names one. */
static void write_event(struct buf *out, uint32_t broken)
{
	uint8_t hash[SHA256_BYTES], signature[ENVELOPE_SIGNATURE_BYTES];
	struct buf input;
	struct event_fields fields = {
		.event_type = SPAN("fleet.moved"),
		.event_id = SPAN("e-1"),
		.request_id = SPAN("r-1"),
		.trace_id = SPAN("t-1"),
		.timestamp_ms = 1234,
	};

	assert_int_equal(digest_sha256(digest, SPAN("payload"), hash), 0);
	fields.payload_hash = span_make(hash, sizeof(hash));
	buf_init(&input, 4096);
	assert_int_equal(envelope_event_input(&input, &fields), 0);
	signer_sign(gateway, buf_span(&input), signature);
	buf_finish(&input);
	if (broken == 5)
		hash[0] ^= 1;
	if (broken == 6)
		signature[0] ^= 1;
	pb_put_bytes(out, 1, broken == 1 ? SPAN("fleet.movee") : fields.event_type);
	pb_put_bytes(out, 2, broken == 2 ? SPAN("e-2") : fields.event_id);
	pb_put_varint(out, 3, broken == 3 ? 1235 : 1234);
	pb_put_bytes(out, 4, broken == 4 ? SPAN("Payload") : SPAN("payload"));
	pb_put_bytes(out, 5, fields.payload_hash);
	if (broken != 99)
		pb_put_bytes(out, 6, span_make(signature, sizeof(signature)));
	pb_put_bytes(out, 7, broken == 7 ? SPAN("r-2") : fields.request_id);
	pb_put_bytes(out, 8, broken == 8 ? SPAN("t-2") : fields.trace_id);
}

static void event_is_ok_only_as_it_was_signed(void **state)
{
	(void)state;
	for (uint32_t broken = 0; broken <= 8; broken++) {
		struct event event;
		struct buf message;

		buf_init(&message, 4096);
		write_event(&message, broken);
		assert_int_equal(event_read(&event, buf_span(&message), signer_public_key(gateway)),
				 0);
		if (event.verdict != (broken == 0 ? VERDICT_OK : VERDICT_BAD))
			fail_msg("field %u: %s", broken, verdict_name(event.verdict));
		assert_int_equal(event_read(&event, buf_span(&message), signer_public_key(other)),
				 0);
		assert_int_equal(event.verdict, VERDICT_BAD);
		assert_int_equal(event_read(&event, buf_span(&message), NULL), 0);
		assert_int_equal(event.verdict,
				 broken == 4 || broken == 5 ? VERDICT_BAD : VERDICT_UNCHECKED);
		buf_finish(&message);
	}
}

static void event_without_a_signature_is_unsigned(void **state)
{
	struct event event;
	struct buf message;

	(void)state;
	buf_init(&message, 4096);
	write_event(&message, 99);
	assert_int_equal(event_read(&event, buf_span(&message), signer_public_key(gateway)), 0);
	assert_int_equal(event.verdict, VERDICT_UNSIGNED);
	/* every cut is malformed, or an event that is not OK; never a crash */
	for (size_t len = 0; len < message.len; len++)
		if (event_read(&event, span_first(buf_span(&message), len),
			       signer_public_key(gateway)) == 0)
			assert_true(event.verdict != VERDICT_OK);
	buf_finish(&message);
}

static void request_is_one_that_the_gateway_takes(void **state)
{
	const struct request request = {
		.session = SPAN("s-1"),
		.message_type = SPAN("fleet.move"),
		.request_id = SPAN("r-1"),
		.trace_id = SPAN("t-1"),
		.payload = SPAN("payload"),
		.timestamp_ms = 99,
	};
	struct payload *payload = request_write(&request, gateway);
	struct envelope envelope = {0};
	struct pb_field field;
	const char *fault;

	(void)state;
	assert_non_null(payload);

	struct pb_reader reader = {span_from(payload_span(payload), GRPC_PREFIX_BYTES)};
	struct span *const strings[] = {NULL,
					&envelope.protocol_version,
					&envelope.device_session_id,
					&envelope.message_type,
					NULL,
					&envelope.request_id,
					&envelope.payload_bytes,
					&envelope.payload_hash,
					&envelope.signature,
					&envelope.trace_id};

	while (pb_next(&reader, &field) == 1) {
		assert_true(field.number <= 9);
		if (field.number == 4)
			envelope.timestamp_ms = (int64_t)field.value;
		else
			*strings[field.number] = field.bytes;
	}
	assert_int_equal(envelope_check_complete(&envelope, &fault), ERR_NONE);
	assert_true(envelope_version_is_supported(&envelope));
	assert_true(envelope_signature_is_valid(&envelope, signer_public_key(gateway)));
	assert_true(span_equal(envelope.payload_bytes, SPAN("payload")));
	payload_put(payload);
}

static void request_ids_differ(void **state)
{
	char first[33], second[33];

	(void)state;
	request_id_make(first);
	request_id_make(second);
	assert_int_equal(strlen(first), 32);
	assert_string_not_equal(first, second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(event_is_ok_only_as_it_was_signed),
		cmocka_unit_test(event_without_a_signature_is_unsigned),
		cmocka_unit_test(request_is_one_that_the_gateway_takes),
		cmocka_unit_test(request_ids_differ),
	};

	return cmocka_run_group_tests_name("client/message", tests, setup, teardown);
}
