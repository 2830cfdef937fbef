/* fuzz_envelope: a signed request from wire bytes to its checks and its signing input;
 * CommandResult. */
#include "auth/envelope.h"
#include "codec/pb.h"
#include "fuzz/fuzz.h"
#include "gateway/wire.h"

static void check_lent(struct span part, struct span bytes)
{
	CHECK(part.len == 0 ||
	      (part.data >= bytes.data && part.data + part.len <= bytes.data + bytes.len));
}

static void check_complete(const struct envelope *envelope)
{
	static const uint8_t key[ENVELOPE_KEY_BYTES] = {1};
	struct buf input;

	CHECK(envelope_id_is_valid(envelope->device_session_id));
	CHECK(envelope_id_is_valid(envelope->request_id));
	CHECK(envelope_id_is_valid(envelope->message_type));
	CHECK(envelope_text_is_valid(envelope->trace_id));
	CHECK(envelope->timestamp_ms > 0);
	(void)envelope_is_fresh(envelope, INT64_MAX, UINT64_MAX);
	(void)envelope_is_fresh(envelope, INT64_MIN, 0);
	if (!envelope_version_is_supported(envelope) || !envelope_hash_is_sized(envelope))
		return;
	buf_init(&input, ENVELOPE_INPUT_MAX);
	CHECK(envelope_request_input(&input, envelope) == 0);
	/* a small-order key: nothing verifies under it */
	CHECK(!envelope_signature_is_valid(envelope, key));
	buf_finish(&input);
}

/* Every field as the reader says it must come out again when written. */
static void check_fields(struct span message)
{
	struct pb_reader reader = {message};
	struct pb_field field;
	int result;

	while ((result = pb_next(&reader, &field)) > 0) {
		CHECK(field.number > 0);
		if (field.wire == PB_BYTES)
			check_lent(field.bytes, message);
	}
	CHECK(result == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(span_make(data, size));
	struct span message = span_make(copy, size), code, payload;
	struct envelope envelope;
	const char *field = NULL;

	if (wire_read_request(message, &envelope) == 0) {
		check_fields(message);
		check_lent(envelope.payload_bytes, message);
		check_lent(envelope.signature, message);

		enum err err = envelope_check_complete(&envelope, &field);

		if (err == ERR_NONE)
			check_complete(&envelope);
		else
			CHECK(field);
	}
	if (wire_read_result(message, &code, &payload) == 0) {
		check_lent(payload, message);
		CHECK(span_is_utf8(code));
	}
	free(copy);
	return 0;
}
