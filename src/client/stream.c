#include "client/stream.h"

#include "base/check.h"
#include "base/explain.h"
#include "base/fsm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define ANSWER_BYTES_MAX	 PAYLOAD_BYTES_MAX
#define STATUS_MESSAGE_BYTES_MAX 8192
#define WINDOW_BYTES		 (4u << 20)
#define HEADER_LIST_BYTES_MAX	 65536
#define QUEUE_ROOM_BYTES	 (256u << 10)
#define LINGER_MS		 500 /* for our last frames; a command should end at once */
#define TEXT_MAX		 512

enum stream_state { STREAM_OFF, STREAM_DIALING, STREAM_OPEN, STREAM_ENDED, STREAM_STATES };

static const char *const state_names[STREAM_STATES] = {
	[STREAM_OFF] = "off",
	[STREAM_DIALING] = "dialing",
	[STREAM_OPEN] = "open",
	[STREAM_ENDED] = "ended",
};

static const uint32_t state_moves[STREAM_STATES] = {
	[STREAM_OFF] = FSM_TO(STREAM_DIALING),
	[STREAM_DIALING] = FSM_TO(STREAM_OPEN) | FSM_TO(STREAM_ENDED),
	[STREAM_OPEN] = FSM_TO(STREAM_ENDED),
};

static const struct fsm stream_fsm = {
	.name = "client stream",
	.state_count = STREAM_STATES,
	.state_names = state_names,
	.moves = state_moves,
};

/* ---- the end ---- */

static void close_connection(struct stream *stream)
{
	if (!stream->session)
		return;
	h2_stream_reset(&stream->h2, H2_CANCEL);
	h2_goaway(stream->session, H2_NO_ERROR, SPAN_EMPTY);
	conn_wants_flush(&stream->conn);
}

void stream_close(struct stream *stream)
{
	bool was_dialing = stream->state == STREAM_DIALING;

	if (stream->state == STREAM_ENDED || stream->state == STREAM_OFF)
		return;
	fsm_move(&stream_fsm, &stream->state, STREAM_ENDED);
	deadline_disarm(stream->loop->worker, &stream->deadline);
	if (was_dialing)
		dial_cancel(&stream->dial, NULL);
	else
		close_connection(stream);
	grpc_deframer_finish(&stream->deframer);
	payload_put(stream->target.message);
	stream->target.message = NULL;
}

static void end(struct stream *stream, enum grpc_status status, struct span message)
{
	const struct stream_end how = {
		.status = status,
		.message = message,
		.retry_after_ms = stream->retry_after_ms,
	};

	if (stream->state == STREAM_ENDED)
		return;
	stream_close(stream);
	stream->handler->ended(stream, &how);
	buf_finish(&stream->status_message);
}

__attribute__((format(printf, 3, 4))) static void fail(struct stream *stream,
						       enum grpc_status status, const char *format,
						       ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, format);
	int len = vsnprintf(text, sizeof(text), format, args);

	va_end(args);
	end(stream, status, span_make(text, len < TEXT_MAX ? (size_t)len : TEXT_MAX - 1));
}

static void expired(struct deadline *deadline)
{
	fail(CONTAINER_OF(deadline, struct stream, deadline), GRPC_DEADLINE_EXCEEDED,
	     "no answer in time");
}

/* ---- the answer ---- */

static struct stream *stream_of(struct h2_stream *h2)
{
	return h2_session_owner(h2->session);
}

static bool is_grpc_type(struct span value)
{
	return span_starts_with(value, SPAN("application/grpc"));
}

static int on_header(struct h2_stream *h2, struct span name, struct span value)
{
	struct stream *stream = stream_of(h2);

	if (span_equal(name, SPAN("content-type"))) {
		stream->is_grpc = is_grpc_type(value);
	} else if (span_equal(name, SPAN("grpc-encoding"))) {
		stream->deframer.encoding =
			span_equal(value, SPAN("gzip")) ? GRPC_GZIP : GRPC_IDENTITY;
	} else if (span_equal(name, SPAN("grpc-status"))) {
		stream->has_status = true;
		stream->status = grpc_parse_status(value);
	} else if (span_equal(name, SPAN("grpc-message"))) {
		buf_clear(&stream->status_message, 0);
		(void)grpc_decode_message(&stream->status_message, value);
	} else if (span_equal(name, SPAN("retry-after-ms"))) {
		(void)span_to_uint64(value, &stream->retry_after_ms);
	}
	return 0;
}

static void on_headers_done(struct h2_stream *h2, enum h2_headers_kind kind, bool end_stream)
{
	struct stream *stream = stream_of(h2);

	(void)end_stream;
	if (kind != H2_HEADERS_RESPONSE)
		return;
	if (stream->target.timeout_ms == 0)
		deadline_disarm(stream->loop->worker, &stream->deadline);
	if (h2->status != 200 && !stream->has_status)
		fail(stream, grpc_status_from_http(h2->status), "HTTP status %u", h2->status);
	else if (!stream->is_grpc)
		fail(stream, GRPC_UNKNOWN, "what answers there is no gRPC");
}

static void on_data(struct h2_stream *h2, struct span bytes)
{
	struct stream *stream = stream_of(h2);

	h2_consume(h2, bytes.len);
	while (bytes.len > 0 && stream->state == STREAM_OPEN) {
		struct span message = SPAN_EMPTY;
		ptrdiff_t taken = grpc_deframer_take(&stream->deframer, bytes, &message);

		if (taken < 0) {
			fail(stream, GRPC_INTERNAL, "malformed or oversized message");
			return;
		}
		bytes = span_from(bytes, (size_t)taken);
		if (message.data)
			stream->handler->message(stream, message);
	}
}

static void on_ended(struct h2_stream *h2)
{
	struct stream *stream = stream_of(h2);

	if (stream->state != STREAM_OPEN)
		return;
	if (!stream->has_status)
		fail(stream, GRPC_UNKNOWN, "the answer has no grpc-status");
	else if (stream->status == GRPC_OK && !grpc_deframer_is_idle(&stream->deframer))
		fail(stream, GRPC_INTERNAL, "the last message was cut off");
	else
		end(stream, stream->status, buf_span(&stream->status_message));
}

static void on_stream_closed(struct h2_stream *h2, uint32_t code)
{
	struct stream *stream = CONTAINER_OF(h2, struct stream, h2);

	fail(stream, GRPC_UNAVAILABLE, "the call was reset (HTTP/2 error %u)", code);
}

static const struct h2_handler h2_handler = {
	.header = on_header,
	.headers_done = on_headers_done,
	.data = on_data,
	.ended = on_ended,
	.closed = on_stream_closed,
};

/* ---- the connection ---- */

static void on_received(struct conn *conn, struct span bytes)
{
	struct stream *stream = CONTAINER_OF(conn, struct stream, conn);

	if (h2_receive(stream->session, bytes) != 0) {
		fail(stream, GRPC_UNAVAILABLE, "what answers there is no gRPC server");
		conn_close(conn);
	}
	conn_wants_flush(conn);
}

static void on_peer_finished(struct conn *conn)
{
	fail(CONTAINER_OF(conn, struct stream, conn), GRPC_UNAVAILABLE,
	     "the gateway closed the connection");
	conn_close(conn);
}

static void on_produce(struct conn *conn)
{
	struct stream *stream = CONTAINER_OF(conn, struct stream, conn);
	const struct sink sink = conn_sink(conn);

	if (h2_produce(stream->session, &sink) != 0)
		conn_close(conn);
	else if (stream->state == STREAM_ENDED && !h2_wants_produce(stream->session))
		conn_finish_sending(conn);
}

static void on_closed(struct conn *conn, enum conn_end how, int error)
{
	struct stream *stream = CONTAINER_OF(conn, struct stream, conn);

	(void)how;
	fail(stream, GRPC_UNAVAILABLE, "connection lost%s%s", error ? ": " : "",
	     error ? errno_text(-error) : "");
	h2_session_destroy(stream->session);
	stream->session = NULL;
}

static const struct conn_handler conn_handler = {
	.received = on_received,
	.peer_finished = on_peer_finished,
	.produce = on_produce,
	.closed = on_closed,
};

/* ---- the beginning ---- */

static int send_request(struct stream *stream)
{
	const struct payload_slice slice = {
		.payload = stream->target.message,
		.len = stream->target.message->len,
	};
	uint64_t now_ms = stream->loop->worker->now_ms;
	uint64_t left_ms = stream->due_ms > now_ms ? stream->due_ms - now_ms : 1;
	char timeout[16];
	const struct h2_header headers[] = {
		{SPAN(":method"), SPAN("POST")},
		{SPAN(":scheme"), SPAN("http")},
		{SPAN(":path"), span_from_cstr(stream->target.path)},
		{SPAN(":authority"), span_from_cstr(stream->authority)},
		{SPAN("te"), SPAN("trailers")},
		{SPAN("content-type"), SPAN("application/grpc")},
		{SPAN("user-agent"), SPAN("ringway-client/" RINGWAY_VERSION)},
		{SPAN("grpc-timeout"),
		 span_make(timeout, grpc_format_timeout(left_ms * 1000, timeout))},
	};
	size_t count = ARRAY_LEN(headers) - (stream->target.timeout_ms == 0);
	int code = h2_request(stream->session, &stream->h2, headers, count, false);

	if (code == 0)
		code = h2_stream_push(&stream->h2, slice);
	return code ? code : h2_stream_finish(&stream->h2, NULL, 0);
}

static int open_session(struct stream *stream, struct file_ref file)
{
	const struct h2_options h2_options = {
		.role = H2_CLIENT,
		.stream_window_bytes = WINDOW_BYTES,
		.connection_window_bytes = WINDOW_BYTES,
		.max_header_list_bytes = HEADER_LIST_BYTES_MAX,
		.max_frame_bytes = 16384,
	};
	const struct conn_options conn_options = {
		.queue_bytes_max = (size_t)2 * QUEUE_ROOM_BYTES,
		.queue_bytes_room = QUEUE_ROOM_BYTES,
		.linger_ms = LINGER_MS,
	};
	int code = h2_session_create(&stream->session, &h2_options, &h2_handler, stream);

	if (code)
		return code;
	code = conn_open(&stream->conn, stream->loop->worker, file, &conn_handler, &conn_options);
	if (code) {
		h2_session_destroy(stream->session);
		stream->session = NULL;
	}
	return code;
}

static void dialed(struct dial *dial, int error, struct file_ref file, const struct address *peer)
{
	struct stream *stream = CONTAINER_OF(dial, struct stream, dial);

	(void)peer;
	if (!error)
		error = open_session(stream, file);
	if (error) {
		fail(stream, GRPC_UNAVAILABLE, "cannot connect to %s: %s", stream->authority,
		     endpoint_error_text(&stream->target.endpoint, error));
		return;
	}
	fsm_move(&stream_fsm, &stream->state, STREAM_OPEN);
	if (send_request(stream) != 0)
		fail(stream, GRPC_UNAVAILABLE, "out of memory");
	conn_wants_flush(&stream->conn);
}

void stream_open(struct stream *stream, struct loop *loop, const struct stream_target *target,
		 const struct stream_handler *handler)
{
	*stream = (struct stream){.loop = loop, .handler = handler, .target = *target};
	payload_get(target->message, 1);
	endpoint_format(&target->endpoint, stream->authority);
	if (target->endpoint.kind == ENDPOINT_UNIX)
		snprintf(stream->authority, sizeof(stream->authority), "localhost");
	grpc_deframer_init(&stream->deframer, GRPC_IDENTITY, ANSWER_BYTES_MAX);
	buf_init(&stream->status_message, STATUS_MESSAGE_BYTES_MAX);
	deadline_init(&stream->deadline, expired);
	stream->due_ms = loop->worker->now_ms + target->timeout_ms;
	deadline_arm(loop->worker, &stream->deadline,
		     target->timeout_ms > 0 ? target->timeout_ms : target->begin_ms);
	fsm_move(&stream_fsm, &stream->state, STREAM_DIALING);
	dial_start(&stream->dial, loop->worker, loop->dns, &target->endpoint,
		   (uint32_t)target->begin_ms, dialed);
}
