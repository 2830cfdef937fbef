#include "gateway/wire.h"

#include "base/check.h"
#include "codec/grpc.h"
#include "codec/pb.h"

#include <errno.h>

#define PROTOCOL_VERSION SPAN("v1")
/* Domain, version, ids, times and a hash with their lengths; event fields are bounded by the
 * message limit, so it may grow. */
#define SIGNING_INPUT_MAX (PAYLOAD_BYTES_MAX)

enum request_field {
	REQUEST_PROTOCOL_VERSION = 1,
	REQUEST_DEVICE_SESSION_ID,
	REQUEST_MESSAGE_TYPE,
	REQUEST_TIMESTAMP_MS,
	REQUEST_REQUEST_ID,
	REQUEST_PAYLOAD_BYTES,
	REQUEST_PAYLOAD_HASH,
	REQUEST_SIGNATURE,
	REQUEST_TRACE_ID,
};

static struct span *request_span(struct envelope *envelope, uint32_t number)
{
	switch (number) {
	case REQUEST_PROTOCOL_VERSION:
		return &envelope->protocol_version;
	case REQUEST_DEVICE_SESSION_ID:
		return &envelope->device_session_id;
	case REQUEST_MESSAGE_TYPE:
		return &envelope->message_type;
	case REQUEST_REQUEST_ID:
		return &envelope->request_id;
	case REQUEST_PAYLOAD_BYTES:
		return &envelope->payload_bytes;
	case REQUEST_PAYLOAD_HASH:
		return &envelope->payload_hash;
	case REQUEST_SIGNATURE:
		return &envelope->signature;
	case REQUEST_TRACE_ID:
		return &envelope->trace_id;
	default:
		return NULL;
	}
}

int wire_read_request(struct span message, struct envelope *envelope)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;
	int more;

	*envelope = (struct envelope){0};
	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number == REQUEST_TIMESTAMP_MS) {
			if (field.wire != PB_VARINT)
				return -EPROTO;
			envelope->timestamp_ms = (int64_t)field.value;
			continue;
		}
		struct span *target = request_span(envelope, field.number);

		if (!target)
			continue;
		if (field.wire != PB_BYTES)
			return -EPROTO;
		*target = field.bytes;
	}
	return more;
}

int wire_read_result(struct span message, struct span *result_code, struct span *payload_bytes)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;
	int more;

	*result_code = SPAN_EMPTY;
	*payload_bytes = SPAN_EMPTY;
	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number != 1 && field.number != 2)
			continue;
		if (field.wire != PB_BYTES)
			return -EPROTO;
		if (field.number == 1)
			*result_code = field.bytes;
		else
			*payload_bytes = field.bytes;
	}
	if (more < 0 || !span_is_utf8(*result_code))
		return -EPROTO;
	return 0;
}

/* One field to write: bytes, or a varint where bytes.data is NULL and len 0. */
struct out_field {
	uint32_t number;
	bool is_varint;
	uint64_t value;
	struct span bytes;
};

#define OUT_BYTES(n, span)                                                                         \
	{                                                                                          \
		.number = (n), .bytes = (span)                                                     \
	}
#define OUT_VARINT(n, v)                                                                           \
	{                                                                                          \
		.number = (n), .is_varint = true, .value = (uint64_t)(v)                           \
	}

/* With its prefix; over PAYLOAD_BYTES_MAX if it is too long. */
static size_t size_message(const struct out_field *fields, size_t count)
{
	size_t len = GRPC_PREFIX_BYTES;

	for (size_t i = 0; i < count; i++)
		len += fields[i].is_varint ? pb_size_varint(fields[i].number, fields[i].value)
					   : pb_size_bytes(fields[i].number, fields[i].bytes);
	return len;
}

/* `len`: its size_message. */
static void put_message(uint8_t *at, size_t len, const struct out_field *fields, size_t count)
{
	const uint8_t *end = at + len;

	grpc_write_prefix(at, (uint32_t)(len - GRPC_PREFIX_BYTES));
	at += GRPC_PREFIX_BYTES;
	for (size_t i = 0; i < count; i++)
		at = fields[i].is_varint ? pb_write_varint(at, fields[i].number, fields[i].value)
					 : pb_write_bytes(at, fields[i].number, fields[i].bytes);
	CHECK(at == end);
}

/* One exact allocation: prefix, then the fields. */
static struct payload *write_message(const struct out_field *fields, size_t count)
{
	size_t len = size_message(fields, count);
	struct payload *payload = payload_create(len);

	if (payload)
		put_message(payload->data, len, fields, count);
	return payload;
}

struct payload *wire_write_command(const struct wire_command *command)
{
	const struct envelope *envelope = command->envelope;
	const struct out_field fields[] = {
		OUT_BYTES(1, command->user_id),	       OUT_BYTES(2, envelope->device_session_id),
		OUT_BYTES(3, envelope->message_type),  OUT_BYTES(4, envelope->request_id),
		OUT_BYTES(5, envelope->trace_id),      OUT_VARINT(6, envelope->timestamp_ms),
		OUT_BYTES(7, envelope->payload_bytes),
	};

	return write_message(fields, ARRAY_LEN(fields));
}

int wire_signing_init(struct wire_signing *signing, const struct signer *signer)
{
	*signing = (struct wire_signing){.signer = signer, .digest = digest_create()};
	buf_init(&signing->input, SIGNING_INPUT_MAX);
	return signing->digest ? 0 : -ENOMEM;
}

void wire_signing_finish(struct wire_signing *signing)
{
	digest_destroy(signing->digest);
	buf_finish(&signing->input);
}

struct payload *wire_write_response(struct wire_signing *signing,
				    const struct wire_response *response)
{
	uint8_t hash[SHA256_BYTES] = {0}, signature[ENVELOPE_SIGNATURE_BYTES];
	const struct response_fields signed_fields = {
		.protocol_version = PROTOCOL_VERSION,
		.request_id = response->request_id,
		.timestamp_ms = response->timestamp_ms,
		.result_code = response->result_code,
		.payload_hash = span_make(hash, sizeof(hash)),
	};

	buf_clear(&signing->input, ENVELOPE_INPUT_MAX);
	if (digest_sha256(signing->digest, response->payload_bytes, hash) ||
	    envelope_response_input(&signing->input, &signed_fields))
		return NULL;
	signer_sign(signing->signer, buf_span(&signing->input), signature);
	const struct out_field fields[] = {
		OUT_BYTES(1, PROTOCOL_VERSION),
		OUT_BYTES(2, response->request_id),
		OUT_VARINT(3, response->timestamp_ms),
		OUT_BYTES(4, response->result_code),
		OUT_BYTES(5, response->payload_bytes),
		OUT_BYTES(6, span_make(hash, sizeof(hash))),
		OUT_BYTES(7, span_make(signature, sizeof(signature))),
	};

	return write_message(fields, ARRAY_LEN(fields));
}

/* What is signed, and the fields as they are written. */
struct signed_event {
	uint8_t hash[SHA256_BYTES], signature[ENVELOPE_SIGNATURE_BYTES];
	struct out_field fields[8];
};

/* All but the hash and the signature, which are of a known length. */
static void event_lay_out(struct signed_event *made, const struct wire_event *event)
{
	const struct out_field fields[] = {
		OUT_BYTES(1, event->event_type),
		OUT_BYTES(2, event->event_id),
		OUT_VARINT(3, event->timestamp_ms),
		OUT_BYTES(4, event->payload_bytes),
		OUT_BYTES(5, span_make(made->hash, sizeof(made->hash))),
		OUT_BYTES(6, span_make(made->signature, sizeof(made->signature))),
		OUT_BYTES(7, event->request_id),
		OUT_BYTES(8, event->trace_id),
	};

	memcpy(made->fields, fields, sizeof(fields));
}

static int event_sign(struct wire_signing *signing, struct signed_event *made,
		      const struct wire_event *event)
{
	const struct event_fields signed_fields = {
		.event_type = event->event_type,
		.event_id = event->event_id,
		.timestamp_ms = event->timestamp_ms,
		.request_id = event->request_id,
		.trace_id = event->trace_id,
		.payload_hash = span_make(made->hash, sizeof(made->hash)),
	};

	buf_clear(&signing->input, ENVELOPE_INPUT_MAX);
	if (digest_sha256(signing->digest, event->payload_bytes, made->hash) ||
	    envelope_event_input(&signing->input, &signed_fields))
		return -ENOMEM;
	signer_sign(signing->signer, buf_span(&signing->input), made->signature);
	return 0;
}

struct payload *wire_write_event(struct wire_signing *signing, const struct wire_event *event)
{
	struct signed_event made = {0};

	event_lay_out(&made, event);
	if (event_sign(signing, &made, event))
		return NULL;
	return write_message(made.fields, ARRAY_LEN(made.fields));
}

struct payload *wire_batch_create(uint32_t capacity)
{
	struct payload *batch = payload_create(capacity);

	if (batch) {
		batch->len = 0;
		batch->messages = 0;
	}
	return batch;
}

int wire_batch_add(struct wire_signing *signing, struct payload *batch, uint32_t capacity,
		   const struct wire_event *event)
{
	struct signed_event made = {0};

	event_lay_out(&made, event);

	size_t len = size_message(made.fields, ARRAY_LEN(made.fields));

	if (len > capacity - batch->len)
		return -ENOBUFS;
	if (event_sign(signing, &made, event))
		return -ENOMEM;
	put_message(batch->data + batch->len, len, made.fields, ARRAY_LEN(made.fields));
	batch->len += (uint32_t)len;
	batch->messages++;
	return 0;
}

struct payload *wire_write_server_time(struct wire_signing *signing, struct span request_id,
				       struct span trace_id, int64_t now_ms)
{
	uint8_t server_time[16]; /* one varint field */
	const uint8_t *end = pb_write_varint(server_time, 1, (uint64_t)now_ms);
	const struct wire_event event = {
		.event_type = SPAN("gateway.server_time"),
		.event_id = request_id,
		.request_id = request_id,
		.trace_id = trace_id,
		.timestamp_ms = now_ms,
		.payload_bytes = span_make(server_time, (size_t)(end - server_time)),
	};

	return wire_write_event(signing, &event);
}

struct payload *wire_write_heartbeat(void)
{
	const struct out_field fields[] = {OUT_BYTES(1, SPAN("gateway.heartbeat"))};

	return write_message(fields, ARRAY_LEN(fields));
}
