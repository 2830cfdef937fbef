/*
 * Source: api.md §3; WHATWG HTML §9.2 (Server-Sent Events).
 */
#include "rest/rest_internal.h"

#include "codec/accept.h"

#include <errno.h>

/* Every answer has a head; the first message or the end brings it. Returns whether parts may
 * follow: HEAD is answered by it, and then the call is over. */
static bool begin(struct rest_call *call)
{
	struct reply_header headers[REPLY_HEADERS_MAX];
	const struct answer_head head = {.status = 200};
	const struct reply reply = {
		.status = 200,
		.content_type = call->is_events ? "text/event-stream" : "application/x-ndjson",
		.headers = headers,
		.header_count = answer_headers(call->request, call->plan, &head, headers),
	};

	struct config_file *file = call->file;

	call->has_begun = true;
	http_begin(call->request, &reply);
	if (!call->request->ended)
		return true;
	rest_call_finish(call);
	config_file_put(file);
	return false;
}

/* `line` without its frame, which it gets here. Returns 1: the client takes more at once, 0: later,
 * or -ENOMEM. */
static int give(struct rest_call *call, struct span line, bool is_error)
{
	struct span before = SPAN_EMPTY, behind = SPAN("\n");
	struct payload *part;

	if (call->is_events) {
		before = is_error ? SPAN("event: error\ndata: ") : SPAN("data: ");
		behind = SPAN("\n\n");
	}
	part = payload_create(before.len + line.len + behind.len);
	if (!part)
		return -ENOMEM;
	if (before.len > 0)
		memcpy(part->data, before.data, before.len);
	memcpy(part->data + before.len, line.data, line.len);
	memcpy(part->data + before.len + line.len, behind.data, behind.len);
	return http_give(call->request, part);
}

/* After the first message the status is out: the error is the last line. */
static void end(struct rest_call *call, int status, struct span text, struct span details)
{
	struct config_file *file = call->file;
	struct request *request = call->request;
	struct buf line;
	bool whole = true;

	rest_call_finish(call);
	if (status != 200) {
		buf_init(&line, REST_ANSWER_BYTES_MAX);
		whole = transcode_write_error(call->plan, status, text, details, &line) == 0;
		if (whole)
			whole = give(call, buf_span(&line), true) >= 0;
		buf_finish(&line);
	}
	http_end(request, whole);
	config_file_put(file);
}

/* By a status, if the head is not out yet. */
static void fail(struct rest_call *call, int status, struct span text, struct span details)
{
	if (call->has_begun)
		end(call, status, text, details);
	else
		rest_call_answer_error(call, status, text, details);
}

static void revoked(struct identity_follower *follower)
{
	fail(CONTAINER_OF(follower, struct rest_call, follower), 401, SPAN("session is not valid"),
	     SPAN_EMPTY);
}

void rest_stream_shut_down(struct rest_call *call)
{
	fail(call, 503, SPAN("gateway is shutting down"), SPAN_EMPTY);
}

void rest_stream_prepare(struct rest_call *call)
{
	call->is_events = accept_prefers(request_find_header(call->request, SPAN("accept")),
					 SPAN("text/event-stream"), SPAN("application/x-ndjson"));
	call->follower.revoked = revoked;
	if (call->identity)
		identity_follow(call->identity, &call->follower);
}

static void take(struct rest_call *call, struct span line)
{
	struct config_file *file = call->file;
	struct request *request = call->request;

	if (!call->has_begun && !begin(call))
		return;

	int more = give(call, line, false);

	if (more == 0)
		upstream_call_pause(&call->upstream);
	if (more >= 0)
		return;
	/* A message is missing: the client must see that. */
	rest_call_finish(call);
	http_end(request, false);
	config_file_put(file);
}

void rest_stream_message(struct upstream_call *upstream, struct span message)
{
	struct rest_call *call = CONTAINER_OF(upstream, struct rest_call, upstream);
	struct buf line;

	buf_init(&line, REST_ANSWER_BYTES_MAX);

	int status = rest_call_write(call, message, &line);

	if (status == 200)
		take(call, buf_span(&line));
	else
		fail(call, status, SPAN(REST_UNUSABLE), SPAN_EMPTY);
	buf_finish(&line);
}

void rest_stream_done(struct upstream_call *upstream, const struct upstream_result *result)
{
	struct rest_call *call = CONTAINER_OF(upstream, struct rest_call, upstream);
	struct span text = SPAN_EMPTY;
	int status = 200;

	if (result->outcome != UPSTREAM_OK)
		status = rest_call_status(result, &text);
	if (status != 200)
		fail(call, status, text, result->details);
	else if (call->has_begun || begin(call))
		end(call, status, SPAN_EMPTY, SPAN_EMPTY);
}

void rest_stream_pull(struct rest_call *call)
{
	upstream_call_resume(&call->upstream);
}
