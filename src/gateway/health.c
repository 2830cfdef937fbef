#include "gateway/health.h"

#include "codec/grpc.h"
#include "codec/pb.h"
#include "gateway/node.h"

#include <stdlib.h>

enum serving { HEALTH_SERVING = 1, HEALTH_NOT_SERVING = 2, HEALTH_SERVICE_UNKNOWN = 3 };

/* "" is the whole process. Its services come and go with it. */
static const char *const services[] = {"", "galaxy.gateway.v1.EdgeGateway",
				       "grpc.health.v1.Health"};

#define HEALTH_NAME_MAX	   64 /* of the services above */
#define HEALTH_MESSAGE_MAX (ARRAY_LEN(services) * (HEALTH_NAME_MAX + 16) + GRPC_PREFIX_BYTES)

struct watch {
	struct list link; /* in node->watches */
	struct request *request;
	bool known;
};

static enum serving serving(const struct node *node)
{
	return atomic_load_explicit(&node->shared->draining, memory_order_relaxed)
		       ? HEALTH_NOT_SERVING
		       : HEALTH_SERVING;
}

/* Reads HealthCheckRequest. Returns 0 or -EPROTO. */
static int read_service(struct span message, struct span *service)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;
	int more;

	*service = SPAN_EMPTY;
	while ((more = pb_next(&reader, &field)) > 0)
		if (field.number == 1 && field.wire == PB_BYTES)
			*service = field.bytes;
	return more;
}

static bool is_known(struct span service)
{
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		if (span_equal(service, span_from_cstr(services[i])))
			return true;
	return false;
}

/* Returns what rpc_send returns. Without memory the call is ended. */
static bool send_message(struct request *request, const uint8_t *bytes, size_t len)
{
	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + len);

	if (!payload) {
		rpc_fail(request, ERR_OUT_OF_MEMORY, NULL, 0);
		return false;
	}
	grpc_write_prefix(payload->data, (uint32_t)len);
	memcpy(payload->data + GRPC_PREFIX_BYTES, bytes, len);
	bool more =
		rpc_send(request, (struct payload_slice){.payload = payload, .len = payload->len});

	payload_put(payload);
	return more;
}

static void send_status(struct request *request, enum serving status)
{
	uint8_t bytes[8];

	send_message(request, bytes, (size_t)(pb_write_varint(bytes, 1, status) - bytes));
}

void health_check(struct request *request)
{
	struct span service;

	if (read_service(request->body, &service)) {
		rpc_fail(request, ERR_ENVELOPE_MALFORMED, NULL, 0);
	} else if (!is_known(service)) {
		rpc_finish(request, GRPC_NOT_FOUND, SPAN("unknown service"));
	} else {
		send_status(request, serving(request->service));
		if (!request->ended)
			rpc_finish(request, GRPC_OK, SPAN_EMPTY);
	}
}

/* HealthListResponse: map<string, HealthCheckResponse> statuses = 1 */
void health_list(struct request *request)
{
	uint8_t message[HEALTH_MESSAGE_MAX], entry[HEALTH_NAME_MAX + 16], status[8];
	uint8_t *at = message;

	size_t status_len =
		(size_t)(pb_write_varint(status, 1, serving(request->service)) - status);

	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		uint8_t *end = pb_write_bytes(entry, 1, span_from_cstr(services[i]));

		end = pb_write_bytes(end, 2, span_make(status, status_len));
		at = pb_write_bytes(at, 1, span_make(entry, (size_t)(end - entry)));
	}
	send_message(request, message, (size_t)(at - message));
	if (!request->ended)
		rpc_finish(request, GRPC_OK, SPAN_EMPTY);
}

void health_watch(struct request *request)
{
	struct node *node = request->service;
	struct span service;

	if (read_service(request->body, &service)) {
		rpc_fail(request, ERR_ENVELOPE_MALFORMED, NULL, 0);
		return;
	}
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch) {
		rpc_fail(request, ERR_OUT_OF_MEMORY, NULL, 0);
		return;
	}
	watch->request = request;
	watch->known = is_known(service);
	list_push_back(&node->watches, &watch->link);
	request->context = watch;
	send_status(request, watch->known ? serving(node) : HEALTH_SERVICE_UNKNOWN);
	if (request->ended)
		health_watch_cancelled(request);
	else
		request_settle(request);
}

void health_watch_cancelled(struct request *request)
{
	struct watch *watch = request->context;

	list_remove(&watch->link);
	free(watch);
}

void health_announce(struct node *node)
{
	LIST_FOR_EACH (&node->watches, link) {
		struct watch *watch = CONTAINER_OF(link, struct watch, link);
		struct request *request = watch->request;

		if (!watch->known)
			continue;
		send_status(request, HEALTH_NOT_SERVING);
		if (request->ended)
			health_watch_cancelled(request);
	}
}
