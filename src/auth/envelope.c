#include "auth/envelope.h"

#include "base/check.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <sodium.h>

#define SHA256_LENGTH 32
#define FIELDS_MAX 6 /* strings and bytes of the longest input, its domain included */

static_assert(ENVELOPE_SIGNATURE_BYTES == crypto_sign_BYTES, "signature");
static_assert(ENVELOPE_KEY_BYTES == crypto_sign_PUBLICKEYBYTES, "public key");

/* The fields of one signing input in order; the time stands before field `time_before`. */
struct input {
	struct span fields[FIELDS_MAX];
	size_t count, time_before;
	int64_t timestamp_ms;
};

static size_t uvarint_size(uint64_t value)
{
	size_t size = 1;

	for (; value >= 0x80; value >>= 7)
		size++;
	return size;
}

static uint8_t *write_field(uint8_t *to, struct span field)
{
	uint64_t value = field.len;

	for (; value >= 0x80; value >>= 7)
		*to++ = (uint8_t)(value | 0x80);
	*to++ = (uint8_t)value;
	if (field.len)
		memcpy(to, field.data, field.len);
	return to + field.len;
}

static size_t input_size(const struct input *input)
{
	size_t size = sizeof(uint64_t);

	for (size_t i = 0; i < input->count; i++)
		size += uvarint_size(input->fields[i].len) + input->fields[i].len;
	return size;
}

static void input_write(const struct input *input, uint8_t *to)
{
	for (size_t i = 0; i < input->count; i++) {
		if (i == input->time_before) {
			uint64_t time = htobe64((uint64_t)input->timestamp_ms);

			memcpy(to, &time, sizeof(time));
			to += sizeof(time);
		}
		to = write_field(to, input->fields[i]);
	}
}

static int input_append(struct buf *out, const struct input *input)
{
	size_t size = input_size(input);
	uint8_t *to = buf_reserve(out, size);

	if (!to)
		return size > out->max - out->len ? -EMSGSIZE : -ENOMEM;
	input_write(input, to);
	buf_claim(out, size);
	return 0;
}

static struct input request_input(const struct envelope *envelope)
{
	return (struct input){
		.fields = { SPAN("galaxy-request-v1"), envelope->protocol_version,
			    envelope->device_session_id, envelope->message_type,
			    envelope->request_id, envelope->payload_hash },
		.count = 6,
		.time_before = 4,
		.timestamp_ms = envelope->timestamp_ms,
	};
}

int envelope_request_input(struct buf *out, const struct envelope *envelope)
{
	struct input input = request_input(envelope);

	return input_append(out, &input);
}

int envelope_response_input(struct buf *out, const struct response_fields *response)
{
	struct input input = {
		.fields = { SPAN("galaxy-response-v1"), response->protocol_version,
			    response->request_id, response->result_code, response->payload_hash },
		.count = 5,
		.time_before = 3,
		.timestamp_ms = response->timestamp_ms,
	};

	return input_append(out, &input);
}

int envelope_event_input(struct buf *out, const struct event_fields *event)
{
	struct input input = {
		.fields = { SPAN("galaxy-event-v1"), event->event_type, event->event_id,
			    event->request_id, event->trace_id, event->payload_hash },
		.count = 6,
		.time_before = 3,
		.timestamp_ms = event->timestamp_ms,
	};

	return input_append(out, &input);
}

bool envelope_id_is_valid(struct span id)
{
	if (id.len == 0 || id.len > ENVELOPE_ID_BYTES_MAX)
		return false;
	for (size_t i = 0; i < id.len; i++) {
		if (id.data[i] < 0x20 || id.data[i] > 0x7e)
			return false;
	}
	return true;
}

bool envelope_text_is_valid(struct span text)
{
	return span_find_byte(text, 0) < 0 && span_is_utf8(text);
}

static enum err check_id(struct span id)
{
	if (id.len == 0)
		return ERR_ENVELOPE_EMPTY_FIELD;
	return envelope_id_is_valid(id) ? ERR_NONE : ERR_ENVELOPE_INVALID_FIELD;
}

static enum err check_version(struct span version)
{
	if (version.len == 0)
		return ERR_ENVELOPE_EMPTY_FIELD;
	return envelope_text_is_valid(version) ? ERR_NONE : ERR_ENVELOPE_INVALID_FIELD;
}

static enum err check_time(int64_t timestamp_ms)
{
	/* proto3 cannot tell 0 from a field that was not sent. */
	if (timestamp_ms == 0)
		return ERR_ENVELOPE_EMPTY_FIELD;
	return timestamp_ms > 0 ? ERR_NONE : ERR_ENVELOPE_INVALID_FIELD;
}

static enum err check_bytes(struct span bytes)
{
	return bytes.len ? ERR_NONE : ERR_ENVELOPE_EMPTY_FIELD;
}

static enum err check_trace(struct span trace)
{
	bool valid = trace.len <= ENVELOPE_ID_BYTES_MAX && envelope_text_is_valid(trace);

	return valid ? ERR_NONE : ERR_ENVELOPE_INVALID_FIELD;
}

enum err envelope_check_complete(const struct envelope *envelope, const char **field)
{
	const struct {
		const char *name;
		enum err verdict;
	} rows[] = {
		{ "protocol_version", check_version(envelope->protocol_version) },
		{ "device_session_id", check_id(envelope->device_session_id) },
		{ "message_type", check_id(envelope->message_type) },
		{ "timestamp_ms", check_time(envelope->timestamp_ms) },
		{ "request_id", check_id(envelope->request_id) },
		{ "payload_hash", check_bytes(envelope->payload_hash) },
		{ "signature", check_bytes(envelope->signature) },
		{ "trace_id", check_trace(envelope->trace_id) },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].verdict != ERR_NONE) {
			*field = rows[i].name;
			return rows[i].verdict;
		}
	}
	return ERR_NONE;
}

bool envelope_version_is_supported(const struct envelope *envelope)
{
	return span_equal(envelope->protocol_version, SPAN("v1"));
}

bool envelope_hash_is_sized(const struct envelope *envelope)
{
	return envelope->payload_hash.len == SHA256_LENGTH;
}

bool envelope_is_fresh(const struct envelope *envelope, int64_t now_ms, uint64_t window_ms)
{
	/* Unsigned: the distance of any two times fits, their signed difference may not. */
	uint64_t now = (uint64_t)now_ms, then = (uint64_t)envelope->timestamp_ms;
	uint64_t distance = now_ms >= envelope->timestamp_ms ? now - then : then - now;

	return distance <= window_ms;
}

bool envelope_verify(struct span input, struct span signature,
		     const uint8_t public_key[ENVELOPE_KEY_BYTES])
{
	if (signature.len != ENVELOPE_SIGNATURE_BYTES)
		return false;
	return crypto_sign_verify_detached(signature.data, input.data, input.len, public_key) == 0;
}

bool envelope_signature_is_valid(const struct envelope *envelope,
				 const uint8_t public_key[ENVELOPE_KEY_BYTES])
{
	struct input input = request_input(envelope);
	size_t size = input_size(&input);
	uint8_t bytes[ENVELOPE_INPUT_MAX];

	if (size > sizeof(bytes))
		return false;
	input_write(&input, bytes);
	return envelope_verify(span_make(bytes, size), envelope->signature, public_key);
}
