#include "base/check.h"
#include "upstream/grpc_internal.h"

#include <errno.h>

#define STATUS_DETAILS_BYTES_MAX 16384 /* in base64; longer ones are left out */
/* A stream's window bounds what a paused call holds; this is only above it. */
#define HELD_BYTES_MAX		 (16u << 20)
#define STATUS_MESSAGE_BYTES_MAX 4096 /* decoded grpc-message; a longer one is left out */
/* A service that ran out of the time we gave it may say so just before our own clock does. */
#define DEADLINE_SLACK_MS 20

#define USER_AGENT "ringway/" RINGWAY_VERSION

/* ---- life ---- */

static struct upstream_link *link_of(struct h2_stream *h2)
{
	return h2_session_owner(h2->session);
}

static struct upstream_stream *stream_of(struct h2_stream *h2)
{
	return CONTAINER_OF(h2, struct upstream_stream, h2);
}

static void answer_init(struct answer *answer, uint32_t message_bytes_max)
{
	*answer = (struct answer){.encoding = GRPC_IDENTITY};
	buf_init(&answer->status_message, STATUS_MESSAGE_BYTES_MAX);
	buf_init(&answer->details, STATUS_DETAILS_BYTES_MAX);
	buf_init(&answer->copy, message_bytes_max);
	grpc_deframer_init(&answer->deframer, GRPC_IDENTITY, message_bytes_max);
}

static void answer_finish(struct answer *answer)
{
	buf_finish(&answer->status_message);
	buf_finish(&answer->details);
	buf_finish(&answer->copy);
	grpc_deframer_finish(&answer->deframer);
}

static void expired(struct deadline *deadline)
{
	struct upstream_stream *stream = CONTAINER_OF(deadline, struct upstream_stream, deadline);
	struct upstream_link *link = stream->on;

	/* one that never had a connection to go out on was not late: nobody is there */
	if (!link && !stream->has_ended && !stream->is_shortened &&
	    !upstream_is_connected(stream->upstream)) {
		stream_fail(stream, UPSTREAM_UNAVAILABLE, GRPC_UNAVAILABLE);
		return;
	}
	stream_fail(stream, UPSTREAM_TIMEOUT, GRPC_DEADLINE_EXCEEDED);
	if (link)
		link_suspect(link);
}

/* What may stand in a header: else the peer would refuse the whole call. */
static bool is_header_text(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] <= 0x20 || text.data[i] >= 0x7f)
			return false;
	return text.len <= REQUEST_ID_BYTES_MAX;
}

struct upstream_stream *stream_create(struct upstream *upstream,
				      const struct upstream_request *request)
{
	struct upstream_stream *stream = slab_alloc(&upstream->streams);
	uint64_t timeout_ms = upstream->config->deadline_ms;

	if (!stream)
		return NULL;
	if (request->deadline_ms > 0 && request->deadline_ms < timeout_ms) {
		timeout_ms = request->deadline_ms;
		stream->is_shortened = true;
	}
	list_init(&stream->link);
	stream->upstream = upstream;
	stream->rpc = upstream_metrics_rpc(upstream, request->path);
	stream->path = request->path;
	stream->headers = request->headers;
	stream->header_count = request->header_count;
	stream->message = request->message;
	payload_get(stream->message, 1);
	stream->started_us = upstream->worker->now_us;
	stream->due_ms = upstream->worker->now_ms + timeout_ms;
	if (is_header_text(request->request_id) && request->request_id.len > 0) {
		stream->request_id_len = (uint8_t)request->request_id.len;
		memcpy(stream->request_id, request->request_id.data, request->request_id.len);
	}
	answer_init(&stream->answer, upstream->options.message_bytes_max);
	buf_init(&stream->held, HELD_BYTES_MAX);
	deadline_init(&stream->deadline, expired);
	deadline_arm(upstream->worker, &stream->deadline, timeout_ms);
	return stream;
}

void stream_free(struct upstream_stream *stream)
{
	struct upstream *upstream = stream->upstream;

	CHECK(!stream->h2.session);
	deadline_disarm(upstream->worker, &stream->deadline);
	list_remove(&stream->link);
	answer_finish(&stream->answer);
	buf_finish(&stream->held);
	payload_put(stream->message);
	slab_free(&upstream->streams, stream);
}

/* ---- sending ---- */

static bool has_user_agent(const struct upstream_stream *stream)
{
	for (size_t i = 0; i < stream->header_count; i++) {
		if (span_equal(stream->headers[i].name, SPAN("user-agent")))
			return true;
	}
	return false;
}

static int stream_request(struct upstream_stream *stream, struct upstream_link *link)
{
	uint64_t now_ms = stream->upstream->worker->now_ms;
	uint64_t left_ms = stream->due_ms > now_ms ? stream->due_ms - now_ms : 1;
	char timeout[16];
	struct h2_header headers[10 + UPSTREAM_HEADERS_MAX];
	size_t count = 0;

	headers[count++] = (struct h2_header){SPAN(":method"), SPAN("POST")};
	headers[count++] = (struct h2_header){SPAN(":scheme"), SPAN("http")};
	headers[count++] = (struct h2_header){SPAN(":path"), stream->path};
	headers[count++] =
		(struct h2_header){SPAN(":authority"), span_from_cstr(link->backend->authority)};
	headers[count++] = (struct h2_header){SPAN("te"), SPAN("trailers")};
	headers[count++] = (struct h2_header){
		SPAN("grpc-timeout"),
		span_make(timeout, grpc_format_timeout(left_ms * 1000, timeout))};
	headers[count++] = (struct h2_header){SPAN("content-type"), SPAN("application/grpc")};
	for (size_t i = 0; i < stream->header_count; i++)
		headers[count++] =
			(struct h2_header){stream->headers[i].name, stream->headers[i].value};
	if (!has_user_agent(stream))
		headers[count++] = (struct h2_header){SPAN("user-agent"), SPAN(USER_AGENT)};
	if (stream->request_id_len > 0)
		headers[count++] =
			(struct h2_header){SPAN("x-request-id"),
					   span_make(stream->request_id, stream->request_id_len)};
	return h2_request(link->session, &stream->h2, headers, count, false);
}

int stream_send(struct upstream_stream *stream, struct upstream_link *link)
{
	const struct payload_slice slice = {.payload = stream->message,
					    .len = stream->message->len};

	if (stream_request(stream, link) != 0) {
		link_flush(link); /* without memory that is the session's end */
		return -ENOMEM;
	}
	stream->on = link;
	list_push_back(&link->streams, &stream->link);
	/* the first slice finds room in the stream itself, so neither can fail; a stream that is
	 * broken is closed with its session */
	if (h2_stream_push(&stream->h2, slice) != 0 || h2_stream_finish(&stream->h2, NULL, 0) != 0)
		h2_stream_reset(&stream->h2, H2_INTERNAL_ERROR);
	link_watch(link);
	link_flush(link);
	return 0;
}

/* ---- the end ---- */

static void count_latency(struct upstream_stream *stream)
{
	if (stream->rpc && !stream->is_timed)
		metric_observe_us(&stream->rpc->latency,
				  stream->upstream->worker->now_us - stream->started_us);
	stream->is_timed = true;
}

static void count_end(struct upstream_stream *stream, enum grpc_status status)
{
	struct upstream *upstream = stream->upstream;

	if (!stream->pinned) {
		metric_add(&upstream->metrics.calls[status], 1);
		upstream->in_flight_count--;
		if (upstream->in_flight_count == 0)
			upstream_settle_later(upstream);
		metric_gauge_set(&upstream->metrics.in_flight, upstream->in_flight_count);
	}
	count_latency(stream);
	if (!stream->rpc)
		return;
	/* a service without health checks is no fault */
	if (status != GRPC_OK && !(stream->pinned && status == GRPC_UNIMPLEMENTED))
		metric_add(&stream->rpc->errors[status], 1);
}

/* Call and stream know each other no more. */
static struct upstream_call *detach(struct upstream_stream *stream, enum grpc_status status)
{
	struct upstream_call *call = stream->call;

	CHECK(call && call->stream == stream);
	deadline_disarm(stream->upstream->worker, &stream->deadline);
	list_remove(&stream->link);
	stream->call = NULL;
	call->stream = NULL;
	count_end(stream, status);
	return call;
}

/* What is left of it: nothing if it waited, else until h2 says closed. */
static void leave(struct upstream_stream *stream)
{
	if (!stream->on) {
		if (!stream->is_telling)
			stream_free(stream);
		return;
	}
	buf_finish(&stream->held);
	answer_finish(&stream->answer);
	if (!stream->h2.session)
		return;
	if (!stream->h2.remote_ended || !stream->h2.local_ended)
		h2_stream_reset(&stream->h2, H2_CANCEL);
	link_flush(stream->on);
}

/* An answer of several messages, however far it has come and whoever reads it. */
static bool is_stream_begun(const struct upstream_stream *stream)
{
	return stream->call->message && stream->answer.http_status == 200;
}

static enum breaker_verdict judge(const struct upstream_stream *stream,
				  const struct upstream_result *result)
{
	switch (result->outcome) {
	case UPSTREAM_OK:
	case UPSTREAM_MALFORMED:
		return BREAKER_ANSWERED;
	case UPSTREAM_STATUS:
		return stream->was_reset || result->status == GRPC_UNAVAILABLE ? BREAKER_FAILED
									       : BREAKER_ANSWERED;
	case UPSTREAM_UNAVAILABLE:
		return BREAKER_FAILED;
	case UPSTREAM_TIMEOUT:
		if (is_stream_begun(stream))
			return BREAKER_ANSWERED;
		return stream->is_shortened ? BREAKER_UNTOLD : BREAKER_FAILED;
	case UPSTREAM_BUSY:
	case UPSTREAM_OUTCOME_COUNT:
		break;
	}
	return BREAKER_UNTOLD;
}

void stream_end(struct upstream_stream *stream, const struct upstream_result *result)
{
	guard_report(&stream->upstream->guard, stream->pass, judge(stream, result));

	struct upstream_call *call = detach(stream, result->status);

	call->done(call, result);
	leave(stream);
}

void stream_fail(struct upstream_stream *stream, enum upstream_outcome outcome,
		 enum grpc_status status)
{
	stream_end(stream, &(struct upstream_result){.outcome = outcome, .status = status});
}

void stream_abandon(struct upstream_stream *stream)
{
	guard_report(&stream->upstream->guard, stream->pass, BREAKER_UNTOLD);
	detach(stream, GRPC_CANCELLED);
	leave(stream);
}

/* The service's own status, but for one that only says that our time is over. */
static void end_with_status(struct upstream_stream *stream, enum grpc_status status,
			    struct span message)
{
	bool is_over = stream->upstream->worker->now_ms + DEADLINE_SLACK_MS >= stream->due_ms;

	if (is_over && (status == GRPC_DEADLINE_EXCEEDED || status == GRPC_CANCELLED)) {
		stream_fail(stream, UPSTREAM_TIMEOUT, GRPC_DEADLINE_EXCEEDED);
		return;
	}
	const struct upstream_result result = {
		.outcome = UPSTREAM_STATUS,
		.status = status,
		.message = message,
		.details = buf_span(&stream->answer.details),
	};

	stream_end(stream, &result);
}

static void malformed(struct upstream_stream *stream, enum grpc_status status)
{
	metric_add(&stream->upstream->metrics.protocol_errors, 1);
	stream_fail(stream, UPSTREAM_MALFORMED, status);
}

/* ---- the answer ---- */

/* "application/grpc", "application/grpc+proto", "application/grpc;…" */
static bool is_grpc_type(struct span value)
{
	struct span type = SPAN("application/grpc");

	if (value.len < type.len || !span_equal_nocase(span_first(value, type.len), type))
		return false;
	return value.len == type.len || value.data[type.len] == '+' || value.data[type.len] == ';';
}

static void take_encoding(struct answer *answer, struct span value)
{
	if (span_equal(value, SPAN("gzip")))
		answer->encoding = GRPC_GZIP;
	else
		answer->encoding_unknown = !span_equal(value, SPAN("identity"));
}

static int on_header(struct h2_stream *h2, struct span name, struct span value)
{
	struct upstream_stream *stream = stream_of(h2);
	struct answer *answer = &stream->answer;

	if (!stream->call)
		return 0;
	if (span_equal(name, SPAN("content-type"))) {
		answer->is_grpc = is_grpc_type(value);
	} else if (span_equal(name, SPAN("grpc-encoding"))) {
		take_encoding(answer, value);
	} else if (span_equal(name, SPAN("grpc-status"))) {
		answer->has_status = true;
		answer->status = grpc_parse_status(value);
	} else if (span_equal(name, SPAN("grpc-message"))) {
		buf_clear(&answer->status_message, 0);
		/* without memory, or too long: the code alone says enough */
		if (grpc_decode_message(&answer->status_message, value) != 0)
			buf_clear(&answer->status_message, 0);
	} else if (span_equal(name, SPAN("grpc-status-details-bin"))) {
		buf_clear(&answer->details, 0);
		if (buf_append(&answer->details, value) != 0)
			buf_clear(&answer->details, 0);
	}
	return 0;
}

static void take_head(struct upstream_stream *stream, bool end_stream)
{
	stream->answer.deframer.encoding = stream->answer.encoding;
	if (is_stream_begun(stream) && !end_stream)
		guard_hear(&stream->upstream->guard, stream->pass);
}

static void on_headers_done(struct h2_stream *h2, enum h2_headers_kind kind, bool end_stream)
{
	struct upstream_stream *stream = stream_of(h2);
	struct answer *answer = &stream->answer;

	link_heard(link_of(h2));
	if (!stream->call)
		return;
	if (kind == H2_HEADERS_INFORMATIONAL) {
		answer->has_status = answer->is_grpc = false;
		return;
	}
	if (kind != H2_HEADERS_RESPONSE)
		return;
	answer->http_status = h2->status;
	if (answer->http_status != 200 && !answer->has_status)
		end_with_status(stream, grpc_status_from_http(answer->http_status), SPAN_EMPTY);
	else if (!answer->is_grpc || (answer->encoding_unknown && !end_stream))
		malformed(stream, GRPC_INTERNAL);
	else
		take_head(stream, end_stream);
}

static bool lies_in(struct span part, struct span whole)
{
	return (uintptr_t)part.data >= (uintptr_t)whole.data &&
	       (uintptr_t)part.data < (uintptr_t)whole.data + whole.len;
}

/* Returns 0 or a negative code. */
static int take_message(struct answer *answer, struct span message, struct span received)
{
	if (answer->has_message)
		return -EPROTO;
	answer->has_message = true;
	answer->message = message;
	/* the trailers that make it an answer come later; what the deframer has put together stays
	 * there until then */
	if (!lies_in(message, received))
		return 0;

	int code = buf_append(&answer->copy, message);

	answer->message = buf_span(&answer->copy);
	return code;
}

/*
 * Up to the end of the bytes, or until the call is paused or over. Returns the bytes taken; `*code`
 * is negative when they are no gRPC.
 */
static size_t take_data(struct upstream_stream *stream, struct span bytes, int *code)
{
	struct answer *answer = &stream->answer;
	size_t taken = 0;

	*code = 0;
	while (taken < bytes.len && stream->call && !stream->is_paused && *code == 0) {
		struct span rest = span_from(bytes, taken), message = SPAN_EMPTY;
		ptrdiff_t step = grpc_deframer_take(&answer->deframer, rest, &message);

		if (step < 0) {
			*code = (int)step;
			break;
		}
		taken += (size_t)step;
		if (!message.data)
			continue;
		if (!stream->call->message) {
			*code = take_message(answer, message, rest);
			continue;
		}
		answer->has_message = true;
		count_latency(stream);
		stream->call->message(stream->call, message);
	}
	return taken;
}

/* What is not asked for yet; its window stays shut, so that there is never more than one. */
static int hold(struct upstream_stream *stream, struct span bytes)
{
	return bytes.len > 0 ? buf_append(&stream->held, bytes) : 0;
}

static void on_data(struct h2_stream *h2, struct span bytes)
{
	struct upstream_stream *stream = stream_of(h2);
	int code;

	link_heard(link_of(h2));

	size_t taken = stream->call ? take_data(stream, bytes, &code) : bytes.len;

	if (stream->call && code == 0)
		code = hold(stream, span_from(bytes, taken));
	if (stream->call && code)
		malformed(stream, code == -EPROTO ? GRPC_INTERNAL : GRPC_RESOURCE_EXHAUSTED);
	h2_consume(h2, stream->call ? taken : bytes.len);
}

static void tell_end(struct upstream_stream *stream);

/* What is held, and then the end, as far as the call goes along. */
static void tell_held(struct upstream_stream *stream)
{
	int code = 0;
	size_t taken = take_data(stream, buf_span(&stream->held), &code);

	/* a call that was cancelled by one of them gave back what is held */
	if (stream->call)
		buf_consume(&stream->held, taken);
	if (stream->h2.session)
		h2_consume(&stream->h2, taken);
	if (stream->call && code)
		malformed(stream, code == -EPROTO ? GRPC_INTERNAL : GRPC_RESOURCE_EXHAUSTED);
	else if (stream->call && stream->has_ended && !stream->is_paused && stream->held.len == 0)
		tell_end(stream);
}

void stream_resume(struct upstream_stream *stream)
{
	/* a call that resumes from inside goes on where it is */
	stream->is_paused = false;
	if (stream->is_telling || (stream->held.len == 0 && !stream->has_ended))
		return;
	stream->is_telling = true;
	tell_held(stream);
	stream->is_telling = false;
	if (!stream->on && !stream->call)
		stream_free(stream); /* parked, and over now */
	else if (stream->on)
		link_flush(stream->on);
}

/* Whether an answer that ended with OK is whole. */
static bool is_whole(const struct upstream_stream *stream)
{
	const struct answer *answer = &stream->answer;

	return answer->http_status == 200 && grpc_deframer_is_idle(&answer->deframer) &&
	       (answer->has_message || stream->call->message);
}

static void tell_end(struct upstream_stream *stream)
{
	struct answer *answer = &stream->answer;

	if (!answer->has_status) {
		malformed(stream, GRPC_UNKNOWN);
	} else if (answer->status != GRPC_OK) {
		end_with_status(stream, answer->status, buf_span(&answer->status_message));
	} else if (!is_whole(stream)) {
		malformed(stream, GRPC_INTERNAL);
	} else {
		const struct upstream_result result = {
			.outcome = UPSTREAM_OK,
			.status = GRPC_OK,
			.message = answer->message,
		};

		stream_end(stream, &result);
	}
}

static void on_ended(struct h2_stream *h2)
{
	struct upstream_stream *stream = stream_of(h2);

	if (!stream->call)
		return;
	if (stream->is_paused)
		stream->has_ended = true;
	else
		tell_end(stream);
}

/* ---- the last word of h2 ---- */

/* Whether the service certainly never saw the call, or never whole: then it cannot have acted on
 * it. */
static bool is_unseen(const struct upstream_stream *stream, uint32_t code)
{
	if (stream->answer.http_status != 0)
		return false;
	/* nghttp2 gives up by INTERNAL_ERROR what it could not send any more behind a GOAWAY */
	return code == H2_REFUSED_STREAM || stream->is_unseen ||
	       (stream->on->state == LINK_LEAVING && !stream->h2.local_ended &&
		code == H2_INTERNAL_ERROR);
}

/* Back to those that wait, in front. */
static void send_again(struct upstream_stream *stream)
{
	struct upstream *upstream = stream->upstream;
	uint32_t message_bytes_max = upstream->options.message_bytes_max;

	list_remove(&stream->link);
	stream->avoided_link = stream->on->serial;
	stream->on = NULL;
	stream->is_unseen = false;
	stream->h2 = (struct h2_stream){0};
	answer_finish(&stream->answer);
	answer_init(&stream->answer, message_bytes_max);
	list_push_front(&upstream->waiting, &stream->link);
	metric_add(&upstream->metrics.retries, 1);
	upstream_pump_later(upstream);
}

/* grpc/doc/PROTOCOL-HTTP2.md, Errors */
static enum grpc_status status_from_reset(uint32_t code)
{
	switch (code) {
	case H2_CANCEL:
		return GRPC_CANCELLED;
	case H2_ENHANCE_YOUR_CALM:
		return GRPC_RESOURCE_EXHAUSTED;
	case 12: /* INADEQUATE_SECURITY */
		return GRPC_PERMISSION_DENIED;
	default:
		return GRPC_INTERNAL;
	}
}

/* The stream is gone, and so is the call unless it is sent again. */
static void end_closed(struct upstream_stream *stream, uint32_t code)
{
	if (stream->on->state == LINK_CLOSING || is_unseen(stream, code)) {
		stream_fail(stream, UPSTREAM_UNAVAILABLE, GRPC_UNAVAILABLE);
		return;
	}
	stream->was_reset = true;
	end_with_status(stream, status_from_reset(code), SPAN_EMPTY);
}

/* Its answer is whole here, but its call does not take it yet: it needs its connection no more. */
static void park(struct upstream_stream *stream)
{
	list_remove(&stream->link);
	stream->on = NULL;
	list_push_back(&stream->upstream->parked, &stream->link);
}

static void on_closed(struct h2_stream *h2, uint32_t code)
{
	struct upstream_stream *stream = stream_of(h2);
	struct upstream_link *link = stream->on;

	if (stream->call && is_unseen(stream, code) && !stream->pinned &&
	    stream->avoided_link == 0 && !stream->upstream->is_stopping) {
		send_again(stream);
	} else if (stream->call && stream->has_ended && code == H2_NO_ERROR) {
		park(stream);
	} else {
		if (stream->call)
			end_closed(stream, code);
		stream_free(stream);
	}
	link_settle(link);
}

/* ---- the connection's own events ---- */

static void on_goaway(struct h2_session *session, int32_t last_stream_id, uint32_t code)
{
	link_goaway(h2_session_owner(session), last_stream_id, code);
}

static void on_settings(struct h2_session *session)
{
	link_settings(h2_session_owner(session));
}

const struct h2_handler upstream_h2_handler = {
	.header = on_header,
	.headers_done = on_headers_done,
	.data = on_data,
	.ended = on_ended,
	.closed = on_closed,
	.goaway = on_goaway,
	.settings = on_settings,
};
