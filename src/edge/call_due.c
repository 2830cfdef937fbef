/*
 * call_due: what a call of HTTP/2 waits for, by the clock: its caller's own time, its body.
 *
 * A body is watched window by window, as one of HTTP/1.1: who is given more time than one window
 * takes must send GATEWAY_HTTP_MIN_BODY_RATE on. Streams share their connection, and a client may
 * send one body after the other: what all of them bring counts for each.
 */
#include "edge/face_h2.h"

void call_arm(struct call *call, uint64_t body_ms)
{
	struct worker *worker = server_of(call)->worker;
	uint64_t due_us = call->request.deadline_us, wait_ms = body_ms;

	if (due_us > 0) {
		uint64_t left_us = due_us > worker->now_us ? due_us - worker->now_us : 0;
		uint64_t left_ms = left_us / 1000 + (left_us % 1000 != 0);

		if (body_ms == 0 || left_ms < body_ms)
			wait_ms = left_ms;
	}
	if (due_us > 0 || body_ms > 0)
		deadline_arm(worker, &call->deadline, wait_ms);
	else
		deadline_disarm(worker, &call->deadline);
}

/* It is an hour at most. */
static int32_t body_left_ms(const struct call *call)
{
	return (int32_t)(call->body_due_ms - (uint32_t)server_of(call)->worker->now_ms);
}

/* The next look at the body: after a window, or at its end. */
static void begin_window(struct call *call)
{
	int32_t left_ms = body_left_ms(call);

	call->window_bytes = 0;
	call->window_taken = call->http2->taken_bytes;
	if (left_ms > BODY_WINDOW_MS && server_of(call)->options.config->http_min_body_rate > 0)
		left_ms = BODY_WINDOW_MS;
	call_arm(call, (uint64_t)left_ms);
}

void call_await_body(struct call *call)
{
	const struct server *server = server_of(call);

	call->awaits_body = true;
	call->http2->awaited_bodies++;
	call->body_due_ms = (uint32_t)(server->worker->now_ms +
				       server->options.config->http_body_timeout_ms);
	begin_window(call);
}

void call_end_body(struct call *call)
{
	if (call->awaits_body)
		call->http2->awaited_bodies--;
	call->awaits_body = false;
}

void call_take_body(struct call *call, size_t bytes)
{
	call->window_bytes += (uint32_t)bytes;
	call->http2->taken_bytes += (uint32_t)bytes;
}

bool call_body_is_due(const struct call *call)
{
	return !call->awaits_body || body_left_ms(call) <= 0;
}

bool call_watch_body(struct call *call)
{
	const struct http2 *http2 = call->http2;
	uint64_t least =
		server_of(call)->options.config->http_min_body_rate * (BODY_WINDOW_MS / 1000);
	uint32_t taken = http2->taken_bytes - call->window_taken;

	if (call_body_is_due(call) ||
	    (call->window_bytes < least && taken < least * http2->awaited_bodies))
		return false;
	begin_window(call);
	return true;
}
