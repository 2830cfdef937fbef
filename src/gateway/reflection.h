/*
 * reflection: grpc.reflection.v1 and v1alpha, when GATEWAY_GRPC_REFLECTION_ENABLED. Thread: the
 * worker's. Source: edge.md §2.
 */
#ifndef GATEWAY_REFLECTION_H
#define GATEWAY_REFLECTION_H

#include "edge/request.h"

#define REFLECTION_V1_PATH	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define REFLECTION_V1ALPHA_PATH "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
#define REFLECTION_REQUEST_MAX	4096 /* a name */

/* Handlers of the routes: one answer to each message. */
void reflection_start(struct request *request);
void reflection_message(struct request *request, struct span message);
void reflection_half_closed(struct request *request);

#endif
