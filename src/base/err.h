/* err: every refusal and failure that a peer can see, one row each (err.def). Any thread. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* gRPC status codes (grpc/doc/statuscodes.md). */
enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
	GRPC_STATUS_COUNT = 17
};

enum err {
#define ERR(name, text, http_status, http_code, grpc, step) ERR_##name,
#include "base/err.def"
#undef ERR
	ERR_COUNT
};

struct err_row {
	const char *name;      /* "UNKNOWN_SESSION" */
	const char *text;      /* what the peer reads */
	int http_status;       /* 404 */
	const char *http_code; /* "not_found" */
	enum grpc_status grpc;
	const char *step;      /* label of gateway_pipeline_refusals_total, or NULL */
};

const struct err_row *err_row(enum err err);

/* "UNAVAILABLE"; "UNKNOWN" for a number that is no status. */
const char *grpc_status_name(int status);

#endif
