/*
 * call_memory: what the calls of a connection hold in memory for their client: bodies that come in,
 * and answers that have not been taken. Thread: the worker's.
 */
#include "edge/face_h2.h"

void call_charge(struct call *call, size_t bytes)
{
	call->http2->body_bytes += (uint32_t)bytes - call->charged_bytes;
	call->charged_bytes = (uint32_t)bytes;
}

void call_charge_streamed(struct call *call)
{
	call_charge(call, call->deframer.message.len + call->stream.queue_bytes);
}

enum err call_judge_memory(struct call *call)
{
	if (call->http2->body_bytes <= HTTP2_BODY_BYTES_MAX)
		return ERR_NONE;
	http2_take_glitch(call->http2, GLITCH_BODY_MEMORY);
	return ERR_OUT_OF_MEMORY;
}

bool call_keep_answer(struct call *call)
{
	struct http2 *http2 = call->http2;

	if (call->is_started && call->request.route->message)
		call_charge(call, call->deframer.message.len);
	call->answer_bytes = (uint32_t)call->stream.queue_bytes;
	http2->answer_bytes += call->answer_bytes;
	if (http2->answer_bytes <= HTTP2_ANSWER_BYTES_MAX)
		return true;
	http2_take_glitch(http2, GLITCH_BODY_MEMORY);
	return false;
}

void call_forget_answer(struct call *call)
{
	call->http2->answer_bytes -= call->answer_bytes;
}
