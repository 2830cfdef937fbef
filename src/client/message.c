#include "client/message.h"

#include "codec/grpc.h"
#include "codec/pb.h"

#include <stdio.h>
#include <sys/random.h>

#define VERSION "v1"

/* ExecuteCommandRequest and SubscribeEventsRequest, ExecuteCommandResponse, GatewayEvent: fields in
 * this order */
enum {
	REQUEST_VERSION = 1,
	REQUEST_SESSION,
	REQUEST_TYPE,
	REQUEST_TIME,
	REQUEST_ID,
	REQUEST_PAYLOAD,
	REQUEST_HASH,
	REQUEST_SIGNATURE,
	REQUEST_TRACE
};
enum {
	RESPONSE_VERSION = 1,
	RESPONSE_ID,
	RESPONSE_TIME,
	RESPONSE_CODE,
	RESPONSE_PAYLOAD,
	RESPONSE_HASH,
	RESPONSE_SIGNATURE
};
enum {
	EVENT_TYPE = 1,
	EVENT_ID,
	EVENT_TIME,
	EVENT_PAYLOAD,
	EVENT_HASH,
	EVENT_SIGNATURE,
	EVENT_REQUEST_ID,
	EVENT_TRACE
};

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[] = {"ok", "BAD", "unsigned", "unchecked"};

	return names[verdict];
}

void request_id_make(char text[33])
{
	uint8_t bytes[16];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		memset(bytes, 0, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static int hash_of(struct span bytes, uint8_t hash[SHA256_BYTES])
{
	struct digest *digest = digest_create();
	int code = digest ? digest_sha256(digest, bytes, hash) : -1;

	digest_destroy(digest);
	return code;
}

/* ---- writing ---- */

static struct payload *write_fields(const struct envelope *envelope)
{
	struct payload *payload = NULL;
	struct buf out;
	uint8_t prefix[GRPC_PREFIX_BYTES] = {0};

	buf_init(&out, PAYLOAD_BYTES_MAX);
	buf_append(&out, span_make(prefix, sizeof(prefix)));
	pb_put_bytes(&out, REQUEST_VERSION, envelope->protocol_version);
	pb_put_bytes(&out, REQUEST_SESSION, envelope->device_session_id);
	pb_put_bytes(&out, REQUEST_TYPE, envelope->message_type);
	pb_put_varint(&out, REQUEST_TIME, (uint64_t)envelope->timestamp_ms);
	pb_put_bytes(&out, REQUEST_ID, envelope->request_id);
	pb_put_bytes(&out, REQUEST_PAYLOAD, envelope->payload_bytes);
	pb_put_bytes(&out, REQUEST_HASH, envelope->payload_hash);
	pb_put_bytes(&out, REQUEST_SIGNATURE, envelope->signature);
	pb_put_bytes(&out, REQUEST_TRACE, envelope->trace_id);
	if (!out.failed) {
		grpc_write_prefix(out.data, (uint32_t)(out.len - sizeof(prefix)));
		payload = payload_copy(buf_span(&out));
	}
	buf_finish(&out);
	return payload;
}

struct payload *request_write(const struct request *request, const struct signer *signer)
{
	uint8_t hash[SHA256_BYTES] = {0}, signature[ENVELOPE_SIGNATURE_BYTES] = {0};
	struct envelope envelope = {
		.protocol_version = SPAN(VERSION),
		.device_session_id = request->session,
		.message_type = request->message_type,
		.timestamp_ms = request->timestamp_ms,
		.request_id = request->request_id,
		.trace_id = request->trace_id,
		.payload_bytes = request->payload,
		.payload_hash = span_make(hash, sizeof(hash)),
		.signature = span_make(signature, sizeof(signature)),
	};
	struct payload *payload = NULL;
	struct buf input;

	if (hash_of(request->payload, hash) != 0)
		return NULL;
	/* ids are as long as the user likes: the gateway is to judge them */
	buf_init(&input, PAYLOAD_BYTES_MAX);
	if (envelope_request_input(&input, &envelope) == 0) {
		signer_sign(signer, buf_span(&input), signature);
		payload = write_fields(&envelope);
	}
	buf_finish(&input);
	return payload;
}

/* ---- reading ---- */

static enum verdict judge_hash(struct span payload, struct span payload_hash)
{
	uint8_t hash[SHA256_BYTES];

	if (hash_of(payload, hash) != 0 || !span_equal(payload_hash, span_make(hash, sizeof(hash))))
		return VERDICT_BAD;
	return VERDICT_OK;
}

/* `code` is that of making `input`. */
static enum verdict judge_signature(const struct buf *input, int code, struct span signature,
				    const uint8_t *key)
{
	if (signature.len == 0)
		return VERDICT_UNSIGNED;
	if (!key)
		return VERDICT_UNCHECKED;
	return code == 0 && envelope_verify(buf_span(input), signature, key) ? VERDICT_OK
									     : VERDICT_BAD;
}

static void take_response_field(struct response *response, const struct pb_field *field)
{
	switch (field->number) {
	case RESPONSE_VERSION:
		response->protocol_version = field->bytes;
		break;
	case RESPONSE_ID:
		response->request_id = field->bytes;
		break;
	case RESPONSE_TIME:
		response->timestamp_ms = (int64_t)field->value;
		break;
	case RESPONSE_CODE:
		response->result_code = field->bytes;
		break;
	case RESPONSE_PAYLOAD:
		response->payload = field->bytes;
		break;
	case RESPONSE_HASH:
		response->payload_hash = field->bytes;
		break;
	case RESPONSE_SIGNATURE:
		response->signature = field->bytes;
		break;
	}
}

int response_read(struct response *response, struct span message, const uint8_t *key)
{
	struct pb_reader reader = {message};
	struct pb_field field;
	struct buf input;
	int code;

	*response = (struct response){0};
	while ((code = pb_next(&reader, &field)) == 1)
		take_response_field(response, &field);
	if (code)
		return code;

	const struct response_fields fields = {
		.protocol_version = response->protocol_version,
		.request_id = response->request_id,
		.result_code = response->result_code,
		.payload_hash = response->payload_hash,
		.timestamp_ms = response->timestamp_ms,
	};

	buf_init(&input, PAYLOAD_BYTES_MAX);
	code = envelope_response_input(&input, &fields);
	response->hash = judge_hash(response->payload, response->payload_hash);
	response->signed_by = judge_signature(&input, code, response->signature, key);
	buf_finish(&input);
	return 0;
}

static void take_event_field(struct event *event, const struct pb_field *field)
{
	switch (field->number) {
	case EVENT_TYPE:
		event->type = field->bytes;
		break;
	case EVENT_ID:
		event->id = field->bytes;
		break;
	case EVENT_TIME:
		event->timestamp_ms = (int64_t)field->value;
		break;
	case EVENT_PAYLOAD:
		event->payload = field->bytes;
		break;
	case EVENT_HASH:
		event->payload_hash = field->bytes;
		break;
	case EVENT_SIGNATURE:
		event->signature = field->bytes;
		break;
	case EVENT_REQUEST_ID:
		event->request_id = field->bytes;
		break;
	case EVENT_TRACE:
		event->trace_id = field->bytes;
		break;
	}
}

int event_read(struct event *event, struct span message, const uint8_t *key)
{
	struct pb_reader reader = {message};
	struct pb_field field;
	struct buf input;
	int code;

	*event = (struct event){0};
	while ((code = pb_next(&reader, &field)) == 1)
		take_event_field(event, &field);
	if (code)
		return code;

	const struct event_fields fields = {
		.event_type = event->type,
		.event_id = event->id,
		.request_id = event->request_id,
		.trace_id = event->trace_id,
		.payload_hash = event->payload_hash,
		.timestamp_ms = event->timestamp_ms,
	};

	buf_init(&input, PAYLOAD_BYTES_MAX);
	code = envelope_event_input(&input, &fields);
	event->verdict = judge_signature(&input, code, event->signature, key);
	if (event->verdict != VERDICT_UNSIGNED &&
	    judge_hash(event->payload, event->payload_hash) != VERDICT_OK)
		event->verdict = VERDICT_BAD;
	buf_finish(&input);
	return 0;
}

bool event_is_heartbeat(const struct event *event)
{
	return span_equal(event->type, SPAN("gateway.heartbeat")) && event->id.len == 0 &&
	       event->timestamp_ms == 0 && event->payload.len == 0 &&
	       event->request_id.len == 0 && event->trace_id.len == 0;
}

bool server_time_read(struct span payload, int64_t *ms)
{
	struct pb_reader reader = {payload};
	struct pb_field field;

	if (pb_next(&reader, &field) != 1 || field.number != 1 || field.wire != PB_VARINT)
		return false;
	*ms = (int64_t)field.value;
	return reader.rest.len == 0;
}
