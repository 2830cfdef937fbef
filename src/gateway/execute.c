#include "gateway/execute.h"

#include "gateway/admission.h"

#include <stdlib.h>

struct execute_call {
	struct admission admission;
	struct upstream_call upstream;
};

static void execute_free(struct execute_call *call)
{
	upstream_call_cancel(&call->upstream);
	admission_finish(&call->admission);
	free(call);
}

static void execute_fail(struct execute_call *call, enum err err)
{
	admission_refuse(call->admission.node, call->admission.request, err);
	execute_free(call);
}

/* Codes whose message a client may read (edge.md §2.2). */
static bool message_is_client_safe(enum grpc_status status)
{
	switch (status) {
	case GRPC_INVALID_ARGUMENT:
	case GRPC_NOT_FOUND:
	case GRPC_ALREADY_EXISTS:
	case GRPC_PERMISSION_DENIED:
	case GRPC_FAILED_PRECONDITION:
	case GRPC_OUT_OF_RANGE:
	case GRPC_RESOURCE_EXHAUSTED:
		return true;
	default:
		return false;
	}
}

static void answer(struct execute_call *call, struct span message)
{
	struct admission *admission = &call->admission;
	struct span result_code, payload_bytes;

	if (wire_read_result(message, &result_code, &payload_bytes)) {
		execute_fail(call, ERR_DOWNSTREAM_FAILED);
		return;
	}
	const struct wire_response response = {
		.request_id = admission->envelope.request_id,
		.result_code = result_code,
		.payload_bytes = payload_bytes,
		.timestamp_ms = admission->node->worker->wall_ms,
	};
	struct payload *payload = wire_write_response(&admission->node->signing, &response);

	if (!payload) {
		execute_fail(call, ERR_OUT_OF_MEMORY);
		return;
	}
	rpc_send(admission->request,
		 (struct payload_slice){.payload = payload, .len = payload->len});
	payload_put(payload);
	rpc_finish(admission->request, GRPC_OK, SPAN_EMPTY);
	execute_free(call);
}

static void pass_status_on(struct execute_call *call, const struct upstream_result *result)
{
	struct admission *admission = &call->admission;
	struct span message = result->message;

	metric_add(&admission->node->metrics.refusals[ERR_DOWNSTREAM_FAILED], 1);
	if (!message_is_client_safe(result->status))
		message = span_from_cstr(err_row(ERR_DOWNSTREAM_FAILED)->text);
	rpc_finish(admission->request, (int)result->status, message);
	execute_free(call);
}

static void downstream_done(struct upstream_call *upstream, const struct upstream_result *result)
{
	struct execute_call *call = CONTAINER_OF(upstream, struct execute_call, upstream);

	switch (result->outcome) {
	case UPSTREAM_OK:
		answer(call, result->message);
		return;
	case UPSTREAM_STATUS:
		pass_status_on(call, result);
		return;
	case UPSTREAM_UNAVAILABLE:
		execute_fail(call, ERR_DOWNSTREAM_UNAVAILABLE);
		return;
	case UPSTREAM_TIMEOUT:
		execute_fail(call, ERR_DOWNSTREAM_TIMEOUT);
		return;
	case UPSTREAM_BUSY:
		execute_fail(call, ERR_DOWNSTREAM_BUSY);
		return;
	case UPSTREAM_MALFORMED:
		execute_fail(call, ERR_DOWNSTREAM_FAILED);
		return;
	case UPSTREAM_OUTCOME_COUNT:
		break;
	}
	UNREACHABLE("every outcome has its case");
}

static void execute_admitted(struct admission *admission)
{
	struct execute_call *call = CONTAINER_OF(admission, struct execute_call, admission);
	struct upstream *upstream =
		upstreams_route(&admission->node->upstreams, admission->envelope.message_type);

	if (!upstream) {
		execute_fail(call, ERR_NOT_ROUTED);
		return;
	}
	const struct wire_command command = {
		.envelope = &admission->envelope,
		.user_id = session_user(admission->session),
	};
	struct payload *message = wire_write_command(&command);

	if (!message) {
		execute_fail(call, ERR_OUT_OF_MEMORY);
		return;
	}
	const struct upstream_request upstream_request = {
		.path = UPSTREAM_HANDLE_PATH,
		.message = message,
		.deadline_ms = request_time_left_ms(admission->request),
		.request_id = admission->request->request_id,
	};
	int refused =
		upstream_call_start(upstream, &call->upstream, downstream_done, &upstream_request);

	payload_put(message);
	if (refused)
		execute_fail(call, refused == -UPSTREAM_BUSY ? ERR_DOWNSTREAM_BUSY
							     : ERR_DOWNSTREAM_UNAVAILABLE);
}

static void execute_refused(struct admission *admission)
{
	execute_free(CONTAINER_OF(admission, struct execute_call, admission));
}

static const struct admission_handler execute_handler = {
	.admitted = execute_admitted,
	.refused = execute_refused,
};

void execute_start(struct request *request)
{
	struct execute_call *call = calloc(1, sizeof(*call));

	if (!call) {
		admission_refuse(request->service, request, ERR_OUT_OF_MEMORY);
		return;
	}
	request->context = call;
	admission_start(&call->admission, request, &execute_handler);
}

void execute_cancelled(struct request *request)
{
	execute_free(request->context);
}
