/*
 * reflect: what gRPC server reflection answers, from a FileDescriptorSet in wire form. Pure; any
 * thread. Messages are the same in v1 and v1alpha. Source:
 * grpc/src/proto/grpc/reflection/v1/reflection.proto.
 */
#ifndef CODEC_REFLECT_H
#define CODEC_REFLECT_H

#include "base/buf.h"

struct reflect_source {
	struct span descriptor_set;  /* what is known */
	const char *const *services; /* what is served: the answer to list_services */
	size_t service_count;
};

/*
 * Appends the ServerReflectionResponse to one ServerReflectionRequest. What is not found is an
 * error_response inside it. Returns 0, -EPROTO (the request is malformed) or buf's code.
 */
int reflect_answer(const struct reflect_source *source, struct span request, struct buf *out);

/* The FileDescriptorSet of everything under proto/, built in. */
struct span reflect_descriptors(void);

#endif
