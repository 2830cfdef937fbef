/*
 * transcode: an HTTP request as the protobuf message of its route, and answers as JSON. Pure.
 * Source: api.md §3; google/api/http.proto.
 */
#ifndef REST_TRANSCODE_H
#define REST_TRANSCODE_H

#include "base/err.h"
#include "base/payload.h"
#include "rest/plan.h"

#include <stdint.h>

#define TRANSCODE_TEXT_MAX   400
#define TRANSCODE_KEEP_BYTES (64u << 10) /* of room, from one message to the next */

/* What a request says, and what its route made of the path. */
struct transcode_request {
	const struct plan_route *route;
	const struct span *values; /* of the path's variables, still encoded */
	struct span query, body;
	struct buf *room; /* where the message is made; empty again at the end, its memory kept */
};

struct transcode_error {
	char text[TRANSCODE_TEXT_MAX];
};

/*
 * The gRPC message, behind its 5-byte prefix; at most `bytes_max`.
 * Returns 0, -EINVAL (400: the error names the field), -EMSGSIZE (413), -ENOMEM.
 * Owns: the caller's reference in `*message`.
 */
int transcode_read(const struct plan *plan, const struct transcode_request *request,
		   size_t bytes_max, struct payload **message, struct transcode_error *error);

/*
 * Appends an answer as JSON text. Returns 0 or a negative code: the service sent what is no such
 * message, or has no JSON form; the error says what, for the log.
 */
int transcode_write(const struct plan *plan, const struct plan_route *route, struct span message,
		    struct buf *out, struct transcode_error *error);

/* google.rpc.Code as HTTP status: api.md §3. */
int transcode_http_status(enum grpc_status status);

/*
 * Appends {"error":{"code":404,"message":"…"}}, and `details` of a grpc-status-details-bin (base64)
 * where there is one. `plan` may be NULL without details. Returns buf's code.
 */
int transcode_write_error(const struct plan *plan, int http_status, struct span message,
			  struct span details, struct buf *out);

#endif
