/*
 * wire: the gateway's messages between wire bytes and fields. Pure; any thread.
 * Source: edge.md §2, §2.3; proto/galaxy/gateway/v1.
 */
#ifndef GATEWAY_WIRE_H
#define GATEWAY_WIRE_H

#include "auth/envelope.h"
#include "auth/digest.h"
#include "auth/signer.h"
#include "base/payload.h"

/*
 * Reads ExecuteCommandRequest or SubscribeEventsRequest. Spans are lent by `message`; of a repeated
 * field the last one counts, unknown fields are skipped. Returns 0 or -EPROTO.
 */
int wire_read_request(struct span message, struct envelope *envelope);

/* Reads CommandResult. Returns 0 or -EPROTO (malformed, or result_code is no UTF-8). */
int wire_read_result(struct span message, struct span *result_code, struct span *payload_bytes);

struct wire_command {
	const struct envelope *envelope;
	struct span user_id;
};

/* AuthenticatedCommand with its gRPC prefix, count 1; NULL without memory. */
struct payload *wire_write_command(const struct wire_command *command);

/* What signing needs; one set per thread. */
struct wire_signing {
	const struct signer *signer;
	struct digest *digest;
	struct buf input; /* scratch for the signing input */
};

int wire_signing_init(struct wire_signing *signing, const struct signer *signer);
void wire_signing_finish(struct wire_signing *signing);

struct wire_response {
	struct span request_id, result_code, payload_bytes;
	int64_t timestamp_ms;
};

/* ExecuteCommandResponse, hashed and signed, with its gRPC prefix, count 1; NULL without memory. */
struct payload *wire_write_response(struct wire_signing *signing,
				    const struct wire_response *response);

struct wire_event {
	struct span event_type, event_id, payload_bytes, request_id, trace_id;
	int64_t timestamp_ms;
};

/* GatewayEvent, hashed and signed, with its gRPC prefix, count 1; NULL without memory. */
struct payload *wire_write_event(struct wire_signing *signing, const struct wire_event *event);

/*
 * A payload of such events, one behind the other: `len` grows as they are added, so its bytes are
 * never moved. NULL without memory.
 */
struct payload *wire_batch_create(uint32_t capacity);

/*
 * Adds one behind the others. `capacity` as given to wire_batch_create.
 * Returns 0, -ENOBUFS (no place for it) or -ENOMEM; on failure nothing was added.
 */
int wire_batch_add(struct wire_signing *signing, struct payload *batch, uint32_t capacity,
		   const struct wire_event *event);

/* The bootstrap event gateway.server_time (edge.md §4). */
struct payload *wire_write_server_time(struct wire_signing *signing, struct span request_id,
				       struct span trace_id, int64_t now_ms);

/* The unsigned event gateway.heartbeat: only its event_type. */
struct payload *wire_write_heartbeat(void);

#endif
