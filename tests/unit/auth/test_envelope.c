#include "auth/envelope.h"
#include "auth/signer.h"
#include "base/check.h"
#include "vectors.h"

#include "hex.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define LONGEST                                                              \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const uint8_t some_hash[32] = { 1 }, some_signature[64] = { 2 };

static struct envelope complete_envelope(void)
{
	return (struct envelope){
		.protocol_version = SPAN("v1"),
		.device_session_id = SPAN("s-1"),
		.message_type = SPAN("fleet.move"),
		.request_id = SPAN("r-1"),
		.payload_hash = span_make(some_hash, sizeof(some_hash)),
		.signature = span_make(some_signature, sizeof(some_signature)),
		.timestamp_ms = 1,
	};
}

/* The envelope of a vector; the bytes are the caller's. */
static struct envelope vector_envelope(const struct good_vector *row, const struct bytes *hash,
				       const struct bytes *signature)
{
	return (struct envelope){
		.protocol_version = span_from_cstr(row->protocol_version),
		.device_session_id = span_from_cstr(row->device_session_id),
		.message_type = span_from_cstr(row->message_type),
		.request_id = span_from_cstr(row->request_id),
		.payload_hash = bytes_span(hash),
		.signature = bytes_span(signature),
		.timestamp_ms = row->timestamp_ms,
	};
}

static void assert_bytes(const struct buf *got, const char *hex)
{
	struct bytes want = bytes_from_hex(hex);

	assert_int_equal(got->len, want.len);
	assert_memory_equal(got->data, want.data, want.len);
}

/* Signing the input gives the vector's signature, and that verifies. */
static void assert_signature(const struct good_vector *row, const struct buf *input,
			     const char *hex)
{
	struct bytes seed = bytes_from_hex(row->seed), key = bytes_from_hex(row->public_key);
	struct bytes want = bytes_from_hex(hex);
	struct signer *signer;
	uint8_t signature[64];

	assert_int_equal(signer_from_seed(&signer, seed.data), 0);
	assert_memory_equal(signer_public_key(signer), key.data, 32);
	signer_sign(signer, buf_span(input), signature);
	assert_memory_equal(signature, want.data, 64);
	assert_true(envelope_verify(buf_span(input), span_make(signature, 64), key.data));
	signer_destroy(signer);
}

static void envelope_reproduces_the_good_vectors(void **state)
{
	struct buf input;

	(void)state;
	buf_init(&input, ENVELOPE_INPUT_MAX);
	for (size_t i = 0; i < ARRAY_LEN(good_vectors); i++) {
		const struct good_vector *row = &good_vectors[i];
		struct bytes hash = bytes_from_hex(row->payload_hash);
		struct bytes signature = bytes_from_hex(row->request_signature);
		struct bytes key = bytes_from_hex(row->public_key);
		struct envelope envelope = vector_envelope(row, &hash, &signature);
		struct response_fields response = {
			.protocol_version = span_from_cstr(row->protocol_version),
			.request_id = span_from_cstr(row->request_id),
			.result_code = span_from_cstr(row->result_code),
			.payload_hash = bytes_span(&hash),
			.timestamp_ms = row->timestamp_ms,
		};
		struct event_fields event = {
			.event_type = span_from_cstr(row->event_type),
			.event_id = span_from_cstr(row->event_id),
			.request_id = span_from_cstr(row->request_id),
			.trace_id = span_from_cstr(row->trace_id),
			.payload_hash = bytes_span(&hash),
			.timestamp_ms = row->timestamp_ms,
		};

		assert_int_equal(envelope_request_input(&input, &envelope), 0);
		assert_bytes(&input, row->request_input);
		assert_signature(row, &input, row->request_signature);
		assert_true(envelope_signature_is_valid(&envelope, key.data));
		buf_clear(&input, ENVELOPE_INPUT_MAX);
		assert_int_equal(envelope_response_input(&input, &response), 0);
		assert_bytes(&input, row->response_input);
		assert_signature(row, &input, row->response_signature);
		buf_clear(&input, ENVELOPE_INPUT_MAX);
		assert_int_equal(envelope_event_input(&input, &event), 0);
		assert_bytes(&input, row->event_input);
		assert_signature(row, &input, row->event_signature);
		buf_clear(&input, ENVELOPE_INPUT_MAX);
	}
	buf_finish(&input);
}

static void envelope_refuses_the_bad_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad_vectors); i++) {
		struct bytes key = bytes_from_hex(bad_vectors[i].public_key);
		struct bytes input = bytes_from_hex(bad_vectors[i].input);
		struct bytes signature = bytes_from_hex(bad_vectors[i].signature);

		assert_int_equal(signature.len, 64);
		assert_false(envelope_verify(bytes_span(&input), bytes_span(&signature), key.data));
	}
}

static void envelope_refuses_every_flipped_bit_of_a_signature(void **state)
{
	const struct good_vector *row = &good_vectors[0];
	struct bytes hash = bytes_from_hex(row->payload_hash);
	struct bytes signature = bytes_from_hex(row->request_signature);
	struct bytes key = bytes_from_hex(row->public_key);
	struct envelope envelope = vector_envelope(row, &hash, &signature);

	(void)state;
	for (size_t bit = 0; bit < 64 * 8; bit++) {
		signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(envelope_signature_is_valid(&envelope, key.data));
		signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(envelope_signature_is_valid(&envelope, key.data));
}

static void envelope_refuses_signatures_of_other_lengths(void **state)
{
	const struct good_vector *row = &good_vectors[0];
	struct bytes hash = bytes_from_hex(row->payload_hash);
	struct bytes signature = bytes_from_hex(row->request_signature);
	struct bytes key = bytes_from_hex(row->public_key);
	struct envelope envelope = vector_envelope(row, &hash, &signature);

	(void)state;
	for (size_t len = 0; len <= 128; len++) {
		envelope.signature = span_make(signature.data, len);
		assert_int_equal(envelope_signature_is_valid(&envelope, key.data), len == 64);
	}
}

/* Each signed field changes the input; trace_id and the payload's bytes do not. */
static void envelope_signature_covers_the_signed_fields(void **state)
{
	const struct good_vector *row = &good_vectors[0];
	struct bytes hash = bytes_from_hex(row->payload_hash), other = hash;
	struct bytes signature = bytes_from_hex(row->request_signature);
	struct bytes key = bytes_from_hex(row->public_key);
	struct envelope envelope = vector_envelope(row, &hash, &signature), e;

	(void)state;
	other.data[31] ^= 1;
	e = envelope, e.protocol_version = SPAN("v2");
	assert_false(envelope_signature_is_valid(&e, key.data));
	e = envelope, e.device_session_id = SPAN("s-2");
	assert_false(envelope_signature_is_valid(&e, key.data));
	e = envelope, e.message_type = SPAN("fleet.stop");
	assert_false(envelope_signature_is_valid(&e, key.data));
	e = envelope, e.request_id = SPAN("r-2");
	assert_false(envelope_signature_is_valid(&e, key.data));
	e = envelope, e.timestamp_ms++;
	assert_false(envelope_signature_is_valid(&e, key.data));
	e = envelope, e.payload_hash = bytes_span(&other);
	assert_false(envelope_signature_is_valid(&e, key.data));
	e = envelope, e.trace_id = SPAN("t"), e.payload_bytes = SPAN("else");
	assert_true(envelope_signature_is_valid(&e, key.data));
}

static void envelope_refuses_an_input_that_is_too_long(void **state)
{
	static uint8_t version[ENVELOPE_INPUT_MAX];
	uint8_t key[32] = { 3 };
	struct envelope envelope = complete_envelope();

	(void)state;
	memset(version, 'v', sizeof(version));
	envelope.protocol_version = span_make(version, sizeof(version));
	assert_false(envelope_signature_is_valid(&envelope, key));
}

/* At every limit below its length the input leaves what was there before, whole. */
static void envelope_input_is_appended_whole_or_not_at_all(void **state)
{
	struct envelope envelope = complete_envelope();
	struct buf whole;

	(void)state;
	buf_init(&whole, ENVELOPE_INPUT_MAX);
	assert_int_equal(envelope_request_input(&whole, &envelope), 0);
	for (size_t max = 3; max <= whole.len + 3; max++) {
		struct buf out;

		buf_init(&out, max);
		assert_int_equal(buf_append(&out, SPAN("abc")), 0);
		assert_int_equal(envelope_request_input(&out, &envelope),
				 max < whole.len + 3 ? -EMSGSIZE : 0);
		assert_int_equal(out.len, max < whole.len + 3 ? 3 : whole.len + 3);
		assert_int_equal(out.failed, max < whole.len + 3);
		buf_finish(&out);
	}
	buf_finish(&whole);
}

/* 127 and 128 take one and two length bytes, 16,383 and 16,384 two and three. */
static void envelope_lengths_are_uvarints(void **state)
{
	static const struct {
		size_t len;
		const char *prefix;
	} rows[] = { { 0, "00" },      { 1, "01" },	{ 127, "7f" },
		     { 128, "8001" },  { 300, "ac02" }, { 16383, "ff7f" },
		     { 16384, "808001" } };
	static uint8_t text[16384];
	struct buf out;

	(void)state;
	memset(text, 'x', sizeof(text));
	buf_init(&out, 32768);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct event_fields event = { .event_type = span_make(text, rows[i].len) };
		struct bytes prefix = bytes_from_hex(rows[i].prefix);

		assert_int_equal(envelope_event_input(&out, &event), 0);
		/* the domain, the type, id and time, request_id, trace_id, hash */
		assert_int_equal(out.len, 16 + prefix.len + rows[i].len + 1 + 8 + 3);
		assert_memory_equal(out.data + 16, prefix.data, prefix.len);
		buf_clear(&out, 32768);
	}
	buf_finish(&out);
}

static void envelope_time_is_eight_bytes_big_endian(void **state)
{
	static const struct {
		int64_t time;
		const char *hex;
	} rows[] = { { 0, "0000000000000000" },
		     { 1, "0000000000000001" },
		     { -1, "ffffffffffffffff" },
		     { INT64_MAX, "7fffffffffffffff" },
		     { INT64_MIN, "8000000000000000" },
		     { INT64_C(0x0102030405060708), "0102030405060708" } };
	struct buf out;

	(void)state;
	buf_init(&out, 100);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct event_fields event = { .timestamp_ms = rows[i].time };
		struct bytes want = bytes_from_hex(rows[i].hex);

		assert_int_equal(envelope_event_input(&out, &event), 0);
		assert_memory_equal(out.data + 16 + 2, want.data, 8);
		buf_clear(&out, 100);
	}
	buf_finish(&out);
}

/* ---- completeness ---- */

static void assert_verdict(const struct envelope *envelope, enum err want, const char *name)
{
	const char *field = NULL;

	assert_int_equal(envelope_check_complete(envelope, &field), want);
	if (name)
		assert_string_equal(field, name);
	else
		assert_null(field);
}

static void envelope_that_is_complete_passes(void **state)
{
	struct envelope envelope = complete_envelope();

	(void)state;
	assert_verdict(&envelope, ERR_NONE, NULL);
	envelope.trace_id = SPAN("trace ü");
	envelope.payload_bytes = SPAN("\0\xff");
	envelope.timestamp_ms = INT64_MAX;
	assert_verdict(&envelope, ERR_NONE, NULL);
}

static void envelope_names_each_empty_field(void **state)
{
	struct envelope e;

	(void)state;
	e = complete_envelope(), e.protocol_version.len = 0;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "protocol_version");
	e = complete_envelope(), e.device_session_id = SPAN_EMPTY;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "device_session_id");
	e = complete_envelope(), e.message_type = SPAN_EMPTY;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "message_type");
	e = complete_envelope(), e.timestamp_ms = 0;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "timestamp_ms");
	e = complete_envelope(), e.request_id = SPAN_EMPTY;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "request_id");
	e = complete_envelope(), e.payload_hash = SPAN_EMPTY;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "payload_hash");
	e = complete_envelope(), e.signature = SPAN_EMPTY;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "signature");
}

/* From all wrong on, each field that is put right uncovers the next one of the message. */
static void envelope_fields_are_judged_in_the_messages_order(void **state)
{
	struct envelope good = complete_envelope();
	struct envelope e = { .trace_id = SPAN("\xff") };

	(void)state;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "protocol_version");
	e.protocol_version = good.protocol_version;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "device_session_id");
	e.device_session_id = good.device_session_id;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "message_type");
	e.message_type = good.message_type;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "timestamp_ms");
	e.timestamp_ms = INT64_MIN;
	assert_verdict(&e, ERR_ENVELOPE_INVALID_FIELD, "timestamp_ms");
	e.timestamp_ms = good.timestamp_ms;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "request_id");
	e.request_id = good.request_id;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "payload_hash");
	e.payload_hash = good.payload_hash;
	assert_verdict(&e, ERR_ENVELOPE_EMPTY_FIELD, "signature");
	e.signature = good.signature;
	assert_verdict(&e, ERR_ENVELOPE_INVALID_FIELD, "trace_id");
	e.trace_id = SPAN_EMPTY;
	assert_verdict(&e, ERR_NONE, NULL);
}

static void envelope_ids_are_printable_ascii(void **state)
{
	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		uint8_t text[3] = { 'a', (uint8_t)byte, 'z' };
		struct span id = span_make(text, 3);
		bool printable = byte >= 0x20 && byte <= 0x7e;
		enum err want = printable ? ERR_NONE : ERR_ENVELOPE_INVALID_FIELD;
		struct envelope e;

		e = complete_envelope(), e.device_session_id = id;
		assert_verdict(&e, want, printable ? NULL : "device_session_id");
		e = complete_envelope(), e.message_type = id;
		assert_verdict(&e, want, printable ? NULL : "message_type");
		e = complete_envelope(), e.request_id = id;
		assert_verdict(&e, want, printable ? NULL : "request_id");
	}
}

static void envelope_texts_are_utf8_without_nul(void **state)
{
	static const struct {
		struct span text;
		bool valid;
	} rows[] = {
		{ SPAN("v1"), true },	     { SPAN("\x7f"), true },
		{ SPAN("\n"), true },	     { SPAN("ü€😀"), true },
		{ SPAN("a\0b"), false },     { SPAN("\0"), false },
		{ SPAN("\x80"), false },     { SPAN("\xc3"), false },
		{ SPAN("\xc0\xaf"), false }, { SPAN("\xed\xa0\x80"), false },
		{ SPAN("\xff"), false },     { SPAN("\xf4\x90\x80\x80"), false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum err want = rows[i].valid ? ERR_NONE : ERR_ENVELOPE_INVALID_FIELD;
		struct envelope e;

		e = complete_envelope(), e.protocol_version = rows[i].text;
		assert_verdict(&e, want, rows[i].valid ? NULL : "protocol_version");
		e = complete_envelope(), e.trace_id = rows[i].text;
		assert_verdict(&e, want, rows[i].valid ? NULL : "trace_id");
	}
}

static void envelope_texts_have_128_bytes_at_most(void **state)
{
	struct span fits = SPAN(LONGEST), over = SPAN(LONGEST "x");
	struct envelope e = complete_envelope();

	(void)state;
	assert_int_equal(fits.len, ENVELOPE_ID_BYTES_MAX);
	e.device_session_id = e.message_type = e.request_id = e.trace_id = fits;
	assert_verdict(&e, ERR_NONE, NULL);
	e = complete_envelope(), e.device_session_id = over;
	assert_verdict(&e, ERR_ENVELOPE_INVALID_FIELD, "device_session_id");
	e = complete_envelope(), e.message_type = over;
	assert_verdict(&e, ERR_ENVELOPE_INVALID_FIELD, "message_type");
	e = complete_envelope(), e.request_id = over;
	assert_verdict(&e, ERR_ENVELOPE_INVALID_FIELD, "request_id");
	e = complete_envelope(), e.trace_id = over;
	assert_verdict(&e, ERR_ENVELOPE_INVALID_FIELD, "trace_id");
}

static void envelope_longest_request_fits_the_input_bound(void **state)
{
	struct envelope e = complete_envelope();
	struct buf out;

	(void)state;
	e.device_session_id = e.message_type = e.request_id = SPAN(LONGEST);
	buf_init(&out, ENVELOPE_INPUT_MAX);
	assert_int_equal(envelope_request_input(&out, &e), 0);
	buf_finish(&out);
}

/* ---- one question each ---- */

static void envelope_supports_v1_only(void **state)
{
	static const struct {
		struct span version;
		bool supported;
	} rows[] = { { SPAN("v1"), true },   { SPAN("V1"), false }, { SPAN("v1 "), false },
		     { SPAN("v2"), false },  { SPAN("v"), false },  { SPAN("v10"), false },
		     { SPAN("v1\0"), false } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct envelope e = { .protocol_version = rows[i].version };

		assert_int_equal(envelope_version_is_supported(&e), rows[i].supported);
	}
}

static void envelope_hash_has_32_bytes(void **state)
{
	static const uint8_t bytes[64];

	(void)state;
	for (size_t len = 0; len <= 64; len++) {
		struct envelope e = { .payload_hash = span_make(bytes, len) };

		assert_int_equal(envelope_hash_is_sized(&e), len == 32);
	}
}

static void envelope_freshness_is_a_closed_window_on_both_sides(void **state)
{
	static const struct {
		int64_t now_ms, timestamp_ms;
		uint64_t window_ms;
		bool fresh;
	} rows[] = {
		{ 1000, 1000, 0, true },
		{ 1000, 999, 0, false },
		{ 1000, 1001, 0, false },
		{ 1000000, 700000, 300000, true },
		{ 1000000, 699999, 300000, false },
		{ 1000000, 1300000, 300000, true },
		{ 1000000, 1300001, 300000, false },
		{ INT64_MAX, 1, INT64_MAX, true },
		{ INT64_MAX, INT64_MIN, UINT64_MAX, true },
		{ INT64_MAX, INT64_MIN, UINT64_MAX - 1, false },
		{ INT64_MIN, INT64_MAX, UINT64_MAX - 1, false },
		{ 0, INT64_MAX, 300000, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct envelope e = { .timestamp_ms = rows[i].timestamp_ms };

		assert_int_equal(envelope_is_fresh(&e, rows[i].now_ms, rows[i].window_ms),
				 rows[i].fresh);
	}
}

static int set_up(void **state)
{
	(void)state;
	return auth_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(envelope_reproduces_the_good_vectors),
		cmocka_unit_test(envelope_refuses_the_bad_vectors),
		cmocka_unit_test(envelope_refuses_every_flipped_bit_of_a_signature),
		cmocka_unit_test(envelope_refuses_signatures_of_other_lengths),
		cmocka_unit_test(envelope_signature_covers_the_signed_fields),
		cmocka_unit_test(envelope_refuses_an_input_that_is_too_long),
		cmocka_unit_test(envelope_input_is_appended_whole_or_not_at_all),
		cmocka_unit_test(envelope_lengths_are_uvarints),
		cmocka_unit_test(envelope_time_is_eight_bytes_big_endian),
		cmocka_unit_test(envelope_that_is_complete_passes),
		cmocka_unit_test(envelope_names_each_empty_field),
		cmocka_unit_test(envelope_fields_are_judged_in_the_messages_order),
		cmocka_unit_test(envelope_ids_are_printable_ascii),
		cmocka_unit_test(envelope_texts_are_utf8_without_nul),
		cmocka_unit_test(envelope_texts_have_128_bytes_at_most),
		cmocka_unit_test(envelope_longest_request_fits_the_input_bound),
		cmocka_unit_test(envelope_supports_v1_only),
		cmocka_unit_test(envelope_hash_has_32_bytes),
		cmocka_unit_test(envelope_freshness_is_a_closed_window_on_both_sides),
	};

	return cmocka_run_group_tests_name("envelope", tests, set_up, NULL);
}
