/* message: the gateway's protobuf messages as a client writes, signs, reads and checks them.
 * Source: edge.md §2. */
#ifndef CLIENT_MESSAGE_H
#define CLIENT_MESSAGE_H

#include "auth/digest.h"
#include "auth/signer.h"
#include "base/payload.h"

struct request {
	struct span session, message_type, request_id, trace_id, payload;
	int64_t timestamp_ms;
};

/* ExecuteCommandRequest or SubscribeEventsRequest, signed, with its gRPC prefix. Returns NULL
 * without memory. */
struct payload *request_write(const struct request *request, const struct signer *signer);

enum verdict { VERDICT_OK, VERDICT_BAD, VERDICT_UNSIGNED, VERDICT_UNCHECKED };

/* "ok", "BAD", "unsigned", "unchecked". */
const char *verdict_name(enum verdict verdict);

struct response {
	struct span protocol_version, request_id, result_code, payload, payload_hash, signature;
	int64_t timestamp_ms;
	enum verdict hash, signed_by;
};

/* Spans lent by the message. `key` NULL: the signature stays unchecked. Returns 0 or a negative
 * code. */
int response_read(struct response *response, struct span message, const uint8_t *key);

struct event {
	struct span type, id, payload, payload_hash, signature, request_id, trace_id;
	int64_t timestamp_ms;
	enum verdict verdict; /* BAD also when the hash is not the payload's */
};

int event_read(struct event *event, struct span message, const uint8_t *key);

/* The one kind of event that has no signature, and nothing that one would be for: edge.md §4. */
bool event_is_heartbeat(const struct event *event);

/* server_time_ms of a ServerTime. Returns false if it is none. */
bool server_time_read(struct span payload, int64_t *ms);

/* 32 hexadecimal digits and a NUL. */
void request_id_make(char text[33]);

#endif
