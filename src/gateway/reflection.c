#include "gateway/reflection.h"

#include "codec/grpc.h"
#include "codec/reflect.h"

#include <errno.h>

#define ANSWER_BYTES_MAX (256u << 10) /* all our descriptors are a few KiB */

static const char *const services[] = {
	"galaxy.gateway.v1.EdgeGateway",
	"grpc.health.v1.Health",
	"grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection",
};

void reflection_start(struct request *request)
{
	(void)request; /* nothing is kept: an answer depends on its question alone */
}

void reflection_message(struct request *request, struct span message)
{
	const struct reflect_source source = {reflect_descriptors(), services, ARRAY_LEN(services)};
	struct buf out;

	buf_init(&out, ANSWER_BYTES_MAX);
	int error = reflect_answer(&source, message, &out);
	struct payload *payload = error ? NULL : payload_create(GRPC_PREFIX_BYTES + out.len);
	bool more = false;

	if (payload) {
		grpc_write_prefix(payload->data, (uint32_t)out.len);
		memcpy(payload->data + GRPC_PREFIX_BYTES, out.data, out.len);
		more = rpc_give(request, payload);
	}
	/* A client that asks without reading holds no more than one stream's room. */
	if (!more)
		rpc_fail(request, error == -EPROTO ? ERR_ENVELOPE_MALFORMED : ERR_OUT_OF_MEMORY,
			 NULL, 0);
	buf_finish(&out);
}

void reflection_half_closed(struct request *request)
{
	rpc_finish(request, GRPC_OK, SPAN_EMPTY);
}
