/* execute: one signed command, one checked answer. */
#include "client/caller.h"
#include "client/print.h"

#include "base/check.h"

struct execute {
	struct caller caller;
	bool has_answer, is_good;
};

static struct execute *execute_of(struct stream *stream)
{
	return CONTAINER_OF(stream, struct execute, caller.stream);
}

/* Returns what is wrong with the answer as a whole, or NULL. */
static const char *find_fault(const struct execute *execute, const struct response *response)
{
	if (!span_equal(response->protocol_version, SPAN("v1")))
		return "the answer has an unknown protocol_version";
	if (!span_equal(response->request_id, execute->caller.request_id))
		return "the answer belongs to another request";
	if (response->hash != VERDICT_OK)
		return "the answer's payload_hash does not match its payload";
	if (response->signed_by == VERDICT_UNSIGNED)
		return "the answer is not signed";
	return response->signed_by == VERDICT_BAD ? "the answer's signature is BAD" : NULL;
}

static void print_response(const struct execute *execute, const struct response *response)
{
	struct print print;

	print_init(&print, execute->caller.is_json);
	print_text(&print, "result_code", response->result_code);
	print_bytes(&print, "payload", response->payload);
	print_text(&print, "request_id", response->request_id);
	print_number(&print, "timestamp_ms", response->timestamp_ms);
	print_text(&print, "payload_hash", span_from_cstr(verdict_name(response->hash)));
	print_text(&print, "signature", span_from_cstr(verdict_name(response->signed_by)));
	print_finish(&print);
}

static void execute_message(struct stream *stream, struct span message)
{
	struct execute *execute = execute_of(stream);
	struct response response;
	const char *fault = "the answer is malformed";

	execute->is_good = false;
	if (execute->has_answer) {
		fault = "there was more than one answer";
	} else if (response_read(&response, message, caller_gateway_key(&execute->caller)) == 0) {
		fault = find_fault(execute, &response);
		print_response(execute, &response);
	}
	execute->has_answer = true;
	execute->is_good = fault == NULL;
	if (fault)
		complain("%s", fault);
}

static void execute_ended(struct stream *stream, const struct stream_end *end)
{
	struct execute *execute = execute_of(stream);

	if (end->status != GRPC_OK)
		caller_print_failure(&execute->caller, end);
	else if (!execute->has_answer)
		complain("the call ended without an answer");
	loop_end(&execute->caller.loop,
		 end->status == GRPC_OK && execute->is_good ? EXIT_OKAY : EXIT_FAILED);
}

static const struct stream_handler execute_handler = {
	.message = execute_message,
	.ended = execute_ended,
};

static int send_command(struct execute *execute)
{
	const struct arguments *arguments = execute->caller.arguments;
	struct request request = {
		.session = argument_span(arguments, "--session"),
		.message_type = argument_span(arguments, "--type"),
		.request_id = execute->caller.request_id,
		.trace_id = argument_span(arguments, "--trace-id"),
		.timestamp_ms = execute->caller.loop.worker->wall_ms,
	};
	struct buf payload;
	int code = EXIT_USAGE;

	buf_init(&payload, PAYLOAD_MAX);
	if (argument_payload(arguments, "--payload", &payload)) {
		request.payload = buf_span(&payload);
		code = caller_send(&execute->caller,
				   "/galaxy.gateway.v1.EdgeGateway/ExecuteCommand", &request,
				   execute->caller.timeout_ms, &execute_handler);
	}
	buf_finish(&payload);
	return code;
}

int execute_run(const struct arguments *arguments)
{
	static struct execute execute;
	int code = caller_init(&execute.caller, arguments);

	if (code == 0)
		code = send_command(&execute);
	if (code == 0)
		code = loop_run(&execute.caller.loop);
	caller_finish(&execute.caller);
	return code;
}
