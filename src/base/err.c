#include "base/err.h"

#include "base/check.h"

static const struct err_row err_rows[ERR_COUNT] = {
#define ERR(row_name, row_text, status, code, grpc_code, row_step) \
	[ERR_##row_name] = {                                       \
		.name = #row_name,                                 \
		.text = row_text,                                  \
		.http_status = status,                             \
		.http_code = code,                                 \
		.grpc = grpc_code,                                 \
		.step = row_step,                                  \
	},
#include "base/err.def"
#undef ERR
};

const struct err_row *err_row(enum err err)
{
	CHECK((unsigned)err < ERR_COUNT);
	return &err_rows[err];
}

static const char *const grpc_status_names[GRPC_STATUS_COUNT] = {
	[GRPC_OK] = "OK",
	[GRPC_CANCELLED] = "CANCELLED",
	[GRPC_UNKNOWN] = "UNKNOWN",
	[GRPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
	[GRPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
	[GRPC_NOT_FOUND] = "NOT_FOUND",
	[GRPC_ALREADY_EXISTS] = "ALREADY_EXISTS",
	[GRPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
	[GRPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
	[GRPC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
	[GRPC_ABORTED] = "ABORTED",
	[GRPC_OUT_OF_RANGE] = "OUT_OF_RANGE",
	[GRPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
	[GRPC_INTERNAL] = "INTERNAL",
	[GRPC_UNAVAILABLE] = "UNAVAILABLE",
	[GRPC_DATA_LOSS] = "DATA_LOSS",
	[GRPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *grpc_status_name(int status)
{
	if (status < 0 || status >= GRPC_STATUS_COUNT)
		return "UNKNOWN";
	return grpc_status_names[status];
}
