/*
 * command: signed ExecuteCommand calls. Every answer's status, request id, payload and hash are
 * checked, and the gateway's signature of the first and then of one in 256.
 */
#include "calls.h"
#include "command_store.h"
#include "works.h"

#include "client/message.h"
#include "codec/grpc.h"

#define SAMPLE 256

struct command_work {
	struct command_store store;
	_Atomic uint64_t next; /* envelope */
	uint8_t gateway_key[ENVELOPE_KEY_BYTES];
	bool has_gateway_key;
};

static struct command_work *work_of(const struct lane *lane)
{
	return calls_of(lane)->work;
}

static bool command_next(struct lane *lane, struct call *call, struct span *body)
{
	struct command_work *work = work_of(lane);

	call->tag = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
	if (call->tag >= work->store.envelope_count)
		return false;
	*body = payload_span(work->store.envelopes[call->tag]);
	return true;
}

/* The one message of an answer, without its prefix. Returns false if it is not just one. */
static bool take_message(struct span body, struct span *message)
{
	uint8_t prefix[GRPC_PREFIX_BYTES];

	if (body.len < sizeof(prefix))
		return false;
	*message = span_from(body, sizeof(prefix));
	grpc_write_prefix(prefix, (uint32_t)message->len);
	return memcmp(prefix, body.data, sizeof(prefix)) == 0;
}

static enum calls_verdict command_judge(struct lane *lane, struct call *call)
{
	const struct command_work *work = work_of(lane);
	const struct command_store *store = &work->store;
	bool is_sample = work->has_gateway_key && call->tag % SAMPLE == 0;
	char text[COMMAND_ID_MAX];
	struct span id = span_make(text, command_request_id(store, call->tag, text));
	struct response response;
	struct span message;

	if (!take_message(buf_span(&call->body), &message) ||
	    response_read(&response, message, is_sample ? work->gateway_key : NULL) != 0 ||
	    !span_equal(response.protocol_version, SPAN("v1"))) {
		lane_complain(lane, "an answer that is no ExecuteCommandResponse");
		return CALLS_WRONG;
	}
	if (!span_equal(response.request_id, id)) {
		lane_complain(lane, "an answer to another request");
		return CALLS_WRONG;
	}
	if (!span_equal(response.payload,
			span_make(store->payload, store->options->payload_bytes)) ||
	    response.hash != VERDICT_OK || !span_equal(response.result_code, SPAN("ok"))) {
		lane_complain(lane, "an answer with another payload, hash or result");
		return CALLS_WRONG;
	}
	if (response.signed_by != (is_sample ? VERDICT_OK : VERDICT_UNCHECKED)) {
		lane_complain(lane, "an answer whose signature is %s",
			      verdict_name(response.signed_by));
		return CALLS_WRONG;
	}
	return CALLS_RIGHT;
}

static const struct calls_kind command_kind = {
	.name = "command",
	.is_grpc = true,
	.next = command_next,
	.judge = command_judge,
};

int command_run(const struct options *options)
{
	struct command_work work = {0};
	struct calls calls;
	char why[256] = "";
	int code = 2;

	if (options->gateway_key &&
	    public_key_load(work.gateway_key, options->gateway_key, why, sizeof(why)) != 0) {
		tell("--gateway-key: %s", why);
		return code;
	}
	work.has_gateway_key = options->gateway_key;
	if (calls_init(&calls, options, &command_kind,
		       "/galaxy.gateway.v1.EdgeGateway/ExecuteCommand") != 0)
		return code;
	calls.work = &work;
	code = command_store_init(&work.store, options) == 0 ? calls_run(&calls, options) : 1;
	command_store_finish(&work.store);
	return code;
}
