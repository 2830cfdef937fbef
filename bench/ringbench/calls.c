#include "calls.h"

#include "base/check.h"
#include "base/err.h"

#include <errno.h>
#include <stdlib.h>

#define BODY_BYTES_MAX (8u << 20)
#define BODY_KEEP      65536

struct calls_lane {
	struct wire *wires;
	struct call *calls; /* wire after wire */
	uint32_t wire_count, ready_count;
};

static struct call *call_of(struct wire_stream *stream)
{
	return CONTAINER_OF(stream, struct call, stream);
}

/* ---- requests ---- */

/* Sends what call->asked says. */
static void call_ask(struct call *call)
{
	struct lane *lane = wire_lane(call->wire);
	int code = wire_ask(call->wire, &call->stream, &calls_of(lane)->request, call->asked);

	call->is_held = code == -EAGAIN;
	if (code == 0) {
		call->is_waiting = true;
		lane->waiting++;
	} else if (code != -EAGAIN && !call->wire->is_broken) {
		lane->stats.failed++;
		lane_fail(lane, "a request cannot be sent: %s", strerrordesc_np(-code));
	}
}

static void call_begin(struct call *call, uint64_t since_us)
{
	struct lane *lane = wire_lane(call->wire);
	struct calls *calls = calls_of(lane);

	if (call->is_waiting || call->is_held || !lane_may_send(lane))
		return;
	if (!calls->kind->next(lane, call, &call->asked)) {
		calls->has_run_out = true;
		measure_cut_short(&lane->run->measure);
		return;
	}
	call->sent_us = since_us;
	call->sent_count++;
	call->head = (struct wire_head){.grpc_status = -1};
	buf_clear(&call->body, BODY_KEEP);
	call_ask(call);
}

static void call_begin_due(struct call *call)
{
	struct lane *lane = wire_lane(call->wire);
	const struct calls_lane *mine = lane->work;

	if (call->sent_count < call->due_count)
		call_begin(call,
			   lane_due_us(lane, (uint32_t)(call - mine->calls), call->sent_count));
}

static void calls_begin(struct lane *lane)
{
	const struct calls_lane *mine = lane->work;

	for (uint32_t i = 0; i < lane->slot_count; i++)
		call_begin(&mine->calls[i], lane->worker->now_us);
}

static void calls_due(struct lane *lane, uint32_t slot)
{
	struct call *call = &((struct calls_lane *)lane->work)->calls[slot];

	call->due_count++;
	call_begin_due(call);
}

static uint64_t calls_sent(const struct lane *lane, uint32_t slot)
{
	return ((const struct calls_lane *)lane->work)->calls[slot].sent_count;
}

/* ---- answers ---- */

static void call_head(struct wire *wire, struct wire_stream *stream, const struct wire_head *head)
{
	struct call *call = call_of(stream);

	(void)wire;
	if (head->status > 0)
		call->head = *head;
	else
		call->head.grpc_status = head->grpc_status;
}

static void call_data(struct wire *wire, struct wire_stream *stream, struct span bytes)
{
	(void)wire;
	buf_append(&call_of(stream)->body, bytes);
}

static enum calls_verdict call_judge(struct lane *lane, struct call *call, bool reset)
{
	const struct calls_kind *kind = calls_of(lane)->kind;

	if (reset) {
		lane_complain(lane, "a stream was reset");
		return CALLS_FAILED;
	}
	if (call->head.status != 200) {
		lane_complain(lane, "an answer with status %d", call->head.status);
		return CALLS_FAILED;
	}
	if (kind->is_grpc && (!call->head.is_grpc || call->head.grpc_status != GRPC_OK)) {
		lane_complain(lane, "an answer with grpc-status %s",
			      call->head.grpc_status < 0
				      ? "missing"
				      : grpc_status_name(call->head.grpc_status));
		return CALLS_FAILED;
	}
	return call->body.failed ? CALLS_WRONG : kind->judge(lane, call);
}

static void call_ended(struct wire *wire, struct wire_stream *stream, bool reset)
{
	struct lane *lane = wire_lane(wire);
	struct call *call = call_of(stream);

	call->is_waiting = false;
	lane->waiting--;
	switch (call_judge(lane, call, reset)) {
	case CALLS_RIGHT:
		lane_count_unit(lane, call->sent_us);
		break;
	case CALLS_WRONG:
		lane->stats.wrong++;
		lane_complain(lane, "a wrong answer");
		break;
	case CALLS_FAILED:
		lane->stats.failed++;
		break;
	}
	if (lane->due_step_us > 0)
		call_begin_due(call);
	else
		call_begin(call, lane->worker->now_us);
}

/* ---- life ---- */

static struct call *calls_of_wire(struct wire *wire)
{
	const struct lane *lane = wire_lane(wire);
	const struct calls_lane *mine = lane->work;

	return &mine->calls[(size_t)(wire - mine->wires) * lane->options->streams];
}

static void wire_resumed(struct wire *wire)
{
	struct call *calls = calls_of_wire(wire);

	for (uint32_t i = 0; i < wire_lane(wire)->options->streams && !wire->is_blocked; i++)
		if (calls[i].is_held)
			call_ask(&calls[i]);
}

static void wire_ready(struct wire *wire)
{
	struct lane *lane = wire_lane(wire);
	struct calls_lane *mine = lane->work;

	if (wire->max_streams < lane->options->streams)
		lane_fail(lane, "the server allows %u streams on a connection", wire->max_streams);
	else if (++mine->ready_count == mine->wire_count)
		lane_is_ready(lane);
}

static void wire_closed(struct wire *wire)
{
	struct lane *lane = wire_lane(wire);
	struct call *calls = calls_of_wire(wire);

	for (uint32_t i = 0; i < lane->options->streams; i++) {
		if (!calls[i].is_waiting || lane->waiting == 0)
			continue;
		calls[i].is_waiting = false;
		lane->waiting--;
		lane->stats.lost++;
	}
	if (lane->is_stopping)
		return;
	lane->stats.ended++;
	lane_fail(lane, "a connection ended");
}

static const struct wire_handler wire_handler = {
	.ready = wire_ready,
	.head = call_head,
	.data = call_data,
	.ended = call_ended,
	.resumed = wire_resumed,
	.closed = wire_closed,
};

static int calls_open(struct lane *lane)
{
	const struct options *options = lane->options;
	struct calls_lane *mine = calloc(1, sizeof(*mine));
	uint32_t first;
	int code = 0;

	lane->work = mine;
	if (!mine)
		return -ENOMEM;
	mine->wire_count = lane_share(lane, options->connections, &first);
	lane->slot_count = mine->wire_count * options->streams;
	mine->wires = calloc(mine->wire_count + 1, sizeof(*mine->wires));
	mine->calls = calloc(lane->slot_count + 1, sizeof(*mine->calls));
	if (!mine->wires || !mine->calls)
		return -ENOMEM;
	for (uint32_t i = 0; i < lane->slot_count; i++) {
		mine->calls[i].wire = &mine->wires[i / options->streams];
		buf_init(&mine->calls[i].body, BODY_BYTES_MAX);
	}
	for (uint32_t i = 0; code == 0 && i < mine->wire_count; i++)
		code = wire_open(&mine->wires[i], lane, first + i, options->streams, &wire_handler);
	if (mine->wire_count == 0)
		lane_is_ready(lane);
	return code;
}

static void calls_close(struct lane *lane)
{
	const struct calls_lane *mine = lane->work;

	for (uint32_t i = 0; mine && mine->wires && i < mine->wire_count; i++)
		wire_close(&mine->wires[i]);
}

static void calls_free(struct lane *lane)
{
	struct calls_lane *mine = lane->work;

	if (!mine)
		return;
	for (uint32_t i = 0; mine->wires && i < mine->wire_count; i++)
		wire_free(&mine->wires[i]);
	for (uint32_t i = 0; mine->calls && i < lane->slot_count; i++)
		buf_finish(&mine->calls[i].body);
	free(mine->wires);
	free(mine->calls);
	free(mine);
}

static const struct lane_ops calls_ops = {
	.open = calls_open,
	.begin = calls_begin,
	.due = calls_due,
	.sent = calls_sent,
	.close = calls_close,
	.free = calls_free,
};

/* ---- main thread ---- */

int calls_init(struct calls *calls, const struct options *options, const struct calls_kind *kind,
	       const char *path)
{
	char authority[ENDPOINT_TEXT_MAX] = "localhost";

	if (options->target_endpoint.kind != ENDPOINT_UNIX)
		endpoint_format(&options->target_endpoint, authority);
	const struct wire_header headers[] = {
		{":method", kind->is_grpc ? "POST" : "GET"},
		{":scheme", "http"},
		{":path", path},
		{":authority", authority},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	};
	int code;

	*calls = (struct calls){.kind = kind};
	code = wire_request_make(&calls->request, headers, kind->is_grpc ? 6 : 4);
	if (code)
		tell("the path is too long");
	return code;
}

int calls_run(struct calls *calls, const struct options *options)
{
	struct run run;
	int code = run_start(&run, options, &calls_ops, calls);

	if (calls->has_run_out)
		tell("the requests made before the run were used up: the window ended early");
	code = run_report(&run, code, calls->has_run_out ? SPAN("\"ran_out\":true") : SPAN_EMPTY);
	run_finish(&run);
	return code;
}
