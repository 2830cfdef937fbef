/*
 * envelope: the signed request of a client, its checks in the contract's order, and the three
 * signing inputs. Pure. Source: edge.md §2.1, §2.2, vectors.json.
 */
#ifndef AUTH_ENVELOPE_H
#define AUTH_ENVELOPE_H

#include "base/buf.h"
#include "base/err.h"

#define ENVELOPE_ID_BYTES_MAX 128
#define ENVELOPE_SIGNATURE_BYTES 64
#define ENVELOPE_KEY_BYTES 32
/* Longest request input: domain, version and three ids with their lengths, time, hash. */
#define ENVELOPE_INPUT_MAX 1024

/* ExecuteCommandRequest and SubscribeEventsRequest have the same fields. Spans lent by the message. */
struct envelope {
	struct span protocol_version, device_session_id, message_type, request_id, trace_id;
	struct span payload_bytes, payload_hash, signature;
	int64_t timestamp_ms;
};

/*
 * Step "envelope complete". Fields are judged in the message's order: the first fault answers.
 * Returns ERR_NONE, ERR_ENVELOPE_EMPTY_FIELD or ERR_ENVELOPE_INVALID_FIELD, then `*field` names it
 * (static text). timestamp_ms 0 is empty, below 0 invalid.
 */
enum err envelope_check_complete(const struct envelope *envelope, const char **field);

/* Steps "protocol_version", "payload_hash length", "freshness": one question each. */
bool envelope_version_is_supported(const struct envelope *envelope);
bool envelope_hash_is_sized(const struct envelope *envelope);
bool envelope_is_fresh(const struct envelope *envelope, int64_t now_ms, uint64_t window_ms);

/* An id or message_type: 1 to ENVELOPE_ID_BYTES_MAX bytes of printable ASCII (0x20 to 0x7e). */
bool envelope_id_is_valid(struct span id);

/* UTF-8 without NUL; empty is valid. */
bool envelope_text_is_valid(struct span text);

/*
 * Strict Ed25519 of the request's signing input: 64-byte signature, reduced scalar, no small-order
 * point. False also for an input over ENVELOPE_INPUT_MAX, which no complete envelope of v1 has.
 */
bool envelope_signature_is_valid(const struct envelope *envelope,
				 const uint8_t public_key[ENVELOPE_KEY_BYTES]);

/* Signing inputs, appended whole or not at all. Return buf's code. */
int envelope_request_input(struct buf *out, const struct envelope *envelope);

struct response_fields {
	struct span protocol_version, request_id, result_code, payload_hash;
	int64_t timestamp_ms;
};
int envelope_response_input(struct buf *out, const struct response_fields *response);

struct event_fields {
	struct span event_type, event_id, request_id, trace_id, payload_hash;
	int64_t timestamp_ms;
};
int envelope_event_input(struct buf *out, const struct event_fields *event);

/* Strict Ed25519 of any input: for clients that check responses and events. */
bool envelope_verify(struct span input, struct span signature,
		     const uint8_t public_key[ENVELOPE_KEY_BYTES]);

#endif
