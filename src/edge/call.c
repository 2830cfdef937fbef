/*
 * call: one HTTP/2 stream as a request: gRPC call or HTTP request.
 *
 *   headers ─► routed ─► body ─► its end ─► start ─► answered (request.ended) ─► closed ─► freed
 *                 └─ refused by ourselves ───────────────┘          └─ closed first: cancelled
 *
 * The stream's end frees the call: the service has ended it, or lets go of it inside `cancelled`.
 * Source: grpc/doc/PROTOCOL-HTTP2.md, grpc/doc/statuscodes.md.
 */
#include "base/check.h"
#include "base/fetch.h"
#include "edge/face_h2.h"

#include <errno.h>

/* A stream takes this much from its service before it has to be asked again. */
#define QUEUE_BYTES_ROOM  (64u << 10)
#define QUEUE_SLICES_ROOM 64
/* An answered stream whose bytes do not move for this long is reset: edge.md §4. */
#define STALL_MS 30000
#define STALL_NOT_WATCHED UINT32_MAX /* call.stall_bytes: some of the body is read first */
/* Of a body that is not wanted: what a client is likely to have sent before it hears so. */
#define DISCARD_BYTES_MAX (256u << 10)
#define DISCARD_MS	  1000
/* Of grpc-message before it is encoded, which may make it three times as long. */
#define GRPC_MESSAGE_BYTES_MAX 2048

static const struct face_operations call_operations;

static struct call *call_of_stream(struct h2_stream *stream)
{
	return CONTAINER_OF(stream, struct call, stream);
}

/* ---- time ---- */

static void call_arm_stall(struct call *call)
{
	call->stall_bytes = (uint32_t)call->stream.queue_bytes; /* bounded: H2_QUEUE_SLICES_MAX */
	deadline_arm(server_of(call)->worker, &call->deadline, STALL_MS);
}

/* ---- answers ---- */

void call_reset(struct call *call, uint32_t code)
{
	h2_stream_reset(&call->stream, code);
	http2_wake(call->http2);
}

/*
 * Whether some of the rest of the body is read before the stream is reset: HTTP clients (curl 7.88)
 * lose an answer whose reset comes with it. gRPC's do not.
 */
static bool call_discards(const struct call *call)
{
	return !call->stream.remote_ended &&
	       (server_of(call)->options.protocols & SERVER_GRPC) == 0;
}

void call_answered(struct call *call, int status, int code)
{
	struct request *request = &call->request;

	request->ended = true;
	request->status = status;
	call_end_body(call);
	call->stall_bytes = STALL_NOT_WATCHED;
	call->discarded_bytes = 0;

	bool is_kept = call_keep_answer(call);

	if (!is_kept)
		request->status = call->is_grpc ? (int)GRPC_RESOURCE_EXHAUSTED : 503;
	account_call(server_of(call)->account, request, call->is_grpc ? ROUTE_GRPC : ROUTE_HTTP);
	if (code || !is_kept) {
		call_reset(call, code ? H2_INTERNAL_ERROR : H2_ENHANCE_YOUR_CALM);
		return;
	}
	/* What of the request is still on its way is of no use any more: RFC 9113 §8.1. */
	if (call_discards(call)) {
		deadline_arm(server_of(call)->worker, &call->deadline, DISCARD_MS);
	} else {
		h2_stream_reset(&call->stream, H2_NO_ERROR);
		call_arm_stall(call);
	}
	http2_wake(call->http2);
}

static const struct h2_header grpc_headers[] = {
	{{(const uint8_t *)":status", 7}, {(const uint8_t *)"200", 3}},
	{{(const uint8_t *)"content-type", 12}, {(const uint8_t *)"application/grpc", 16}},
	{{(const uint8_t *)"grpc-accept-encoding", 20}, {(const uint8_t *)"identity,gzip", 13}},
};

static const struct h2_header trailer_of_success = {{(const uint8_t *)"grpc-status", 11},
						    {(const uint8_t *)"0", 1}};

void call_ask_attention(struct call *call)
{
	if (list_is_empty(&call->attention))
		list_push_back(&call->http2->attention, &call->attention);
	http2_wake(call->http2);
}

static bool call_has_room(const struct call *call)
{
	return call->stream.queue_bytes < QUEUE_BYTES_ROOM &&
	       call->stream.queue_count < QUEUE_SLICES_ROOM;
}

static bool call_give(struct request *request, struct payload_slice slice)
{
	struct call *call = call_of(request);
	int code = 0;

	if (call->is_broken || !call->stream.session) {
		payload_put(slice.payload);
		return false;
	}
	if (!call->is_responded) {
		call->is_responded = true;
		code = h2_respond_fixed(&call->stream, grpc_headers, ARRAY_LEN(grpc_headers));
	}
	if (code == 0)
		code = h2_stream_give(&call->stream, slice);
	if (code) {
		payload_put(slice.payload);
		/* The service is busy with its call: it is told, and the call ended, from the flush
		 * step. */
		call->is_broken = true;
		call_ask_attention(call);
		return false;
	}
	request->sent_bytes += slice.len;
	http2_wake(call->http2);
	return call_has_room(call);
}

/* Headers of a trailers-only answer, or trailers. */
static int finish_with(struct call *call, const struct h2_header *trailers, size_t count)
{
	struct h2_header headers[ARRAY_LEN(grpc_headers) + 3];

	if (call->is_responded)
		return h2_stream_finish(&call->stream, trailers, count);
	call->is_responded = true;
	memcpy(headers, grpc_headers, sizeof(grpc_headers));
	memcpy(headers + ARRAY_LEN(grpc_headers), trailers, count * sizeof(*trailers));
	return h2_respond(&call->stream, headers, ARRAY_LEN(grpc_headers) + count, true);
}

static void call_finish(struct request *request, int grpc_status, struct span message,
			uint64_t retry_after_ms)
{
	struct call *call = call_of(request);
	struct h2_header trailers[3];
	char status[SPAN_DECIMAL_BYTES], retry[SPAN_DECIMAL_BYTES];
	struct buf encoded;
	size_t count = 0;

	/* A message is missing: whatever its service says, this is no good end. */
	if (grpc_status == GRPC_OK && call->is_broken) {
		grpc_status = GRPC_RESOURCE_EXHAUSTED;
		message = span_from_cstr(err_row(ERR_OUT_OF_MEMORY)->text);
	}
	if (grpc_status == GRPC_OK && message.len == 0 && call->is_responded) {
		call_answered(call, GRPC_OK,
			      h2_stream_finish_fixed(&call->stream, &trailer_of_success, 1));
		return;
	}
	buf_init(&encoded, (size_t)GRPC_MESSAGE_BYTES_MAX * 3);
	if (message.len > GRPC_MESSAGE_BYTES_MAX)
		message = span_first(message, GRPC_MESSAGE_BYTES_MAX);
	trailers[count++] = (struct h2_header){SPAN("grpc-status"),
					       span_write_uint64(status, (uint64_t)grpc_status)};
	/* Without memory for it the status still goes out. */
	if (message.len > 0 && grpc_encode_message(&encoded, message) == 0)
		trailers[count++] = (struct h2_header){SPAN("grpc-message"), buf_span(&encoded)};
	if (retry_after_ms > 0)
		trailers[count++] = (struct h2_header){SPAN("retry-after-ms"),
						       span_write_uint64(retry, retry_after_ms)};

	int code = finish_with(call, trailers, count);

	buf_finish(&encoded);
	call_answered(call, grpc_status, code);
}

static void call_drop_queue(struct request *request)
{
	struct h2_stream *stream = &call_of(request)->stream;
	size_t begun_bytes = 0;

	if (h2_stream_partial_bytes(stream) > 0) {
		struct payload_slice front = h2_stream_front(stream);

		begun_bytes = grpc_rest_of_message(
			span_make(front.payload->data, front.offset + front.len), front.offset);
	}
	(void)h2_stream_drop_queue(stream, begun_bytes);
}

static void call_resume(struct request *request)
{
	struct call *call = call_of(request);

	/* Before the response headers nghttp2 asks for nothing. */
	if (!call->is_responded)
		call_ask_attention(call);
	else
		h2_stream_resume(&call->stream);
	http2_wake(call->http2);
}

/* The whole request is there: nothing more is taken into what is given back. */
static void call_settle(struct request *request)
{
	struct call *call = call_of(request);

	grpc_deframer_finish(&call->deframer);
	buf_finish(&call->body);
	call->message = SPAN_EMPTY;
	call_charge(call, 0);
}

static void call_fetch(struct request *request, unsigned step)
{
	struct call *call = call_of(request);

	switch (step) {
	case 1:
		memory_fetch(&call->stream, sizeof(call->stream));
		__builtin_prefetch(&call->http2);
		__builtin_prefetch(&call->is_responded);
		break;
	case 2:
		memory_fetch(call->http2, sizeof(*call->http2));
		if (call->stream.session)
			h2_session_fetch(call->stream.session, 0);
		break;
	case 3:
		memory_fetch(call->http2->connection, sizeof(struct connection));
		if (call->stream.session)
			h2_session_fetch(call->stream.session, 1);
		break;
	}
}

static const struct face_operations call_operations = {
	.settle = call_settle,
	.reply = call_reply,
	.begin = call_begin,
	.end = call_end,
	.give = call_give,
	.finish = call_finish,
	.drop_queue = call_drop_queue,
	.resume = call_resume,
	.fetch = call_fetch,
};

/* Answers an error row by ourselves. */
static void call_refuse(struct call *call, enum err err)
{
	struct reply_header headers[2] = {{"cache-control", SPAN("no-store")}};
	char retry_after[RETRY_AFTER_BYTES_MAX];
	size_t count = 1;

	if (call->is_grpc) {
		rpc_fail(&call->request, err, NULL, call->gate.wait_ms);
		return;
	}
	/* Its status is out: the client sees it broken off. */
	if (call->is_responded) {
		call_answered(call, call->request.status, -EPIPE);
		return;
	}
	if (err == ERR_METHOD_NOT_ALLOWED)
		headers[count++] = (struct reply_header){"allow", call->allow};
	else if (err == ERR_TOO_MANY_REQUESTS)
		headers[count++] = (struct reply_header){
			"retry-after", retry_after_write(retry_after, call->gate.wait_ms)};
	request_refuse(&call->request, err, headers, count);
}

/* The service lets go; whatever it does inside is no answer. */
static void call_let_go(struct call *call)
{
	struct request *request = &call->request;

	if (!call->is_started || request->ended)
		return;
	request->ended = true;
	if (request->route->cancelled)
		request->route->cancelled(request);
	request->ended = false;
}

/* Ends the call over its service's head; messages not begun are dropped. */
static void call_end_by_edge(struct call *call, enum err err)
{
	call_let_go(call);
	if (call->is_grpc)
		rpc_cut(&call->request, err);
	else
		call_refuse(call, err);
}

/* Of what it waits for: the caller's own time, the body's, its window. */
static void call_overdue(struct call *call)
{
	const struct request *request = &call->request;

	if (request->deadline_us > 0 && request->worker->now_us >= request->deadline_us) {
		call_end_by_edge(call, ERR_DEADLINE);
		return;
	}
	if (call_watch_body(call))
		return;
	http2_take_glitch(call->http2, call_body_is_due(call) ? GLITCH_TIMEOUT : GLITCH_SLOW);
	call_end_by_edge(call, ERR_REQUEST_TIMEOUT);
}

static void call_expired(struct deadline *deadline)
{
	struct call *call = CONTAINER_OF(deadline, struct call, deadline);
	struct request *request = &call->request;

	if (!request->ended) {
		call_overdue(call);
	} else if (call->stall_bytes == STALL_NOT_WATCHED) {
		/* The answer goes out before the reset. */
		if (call_discards(call))
			call_reset(call, H2_NO_ERROR);
		call_arm_stall(call);
	} else if (call->stream.queue_bytes < call->stall_bytes) {
		call_arm_stall(call);
	} else {
		http2_take_glitch(call->http2, GLITCH_STALL);
		call_reset(call, H2_CANCEL);
	}
}

bool call_is_owed(const struct call *call)
{
	const struct request *request = &call->request;

	/* what is queued goes on to the connection as soon as there is window */
	return call->is_started && !request->ended && !request->route->long_lived &&
	       call->stream.queue_bytes == 0;
}

void call_end_long_lived(struct call *call)
{
	/* One over gRPC-Web is ended by its service: only that can say so behind a message. */
	if (!call->is_started || call->request.ended || !call->request.route->long_lived ||
	    !call->is_grpc)
		return;
	call_let_go(call);
	call_refuse(call, ERR_SHUTTING_DOWN);
}

/* ---- headers ---- */

struct h2_stream *call_open(struct h2_session *session, int32_t stream_id)
{
	struct connection *connection = h2_session_owner(session);
	struct server *server = connection->server;
	struct call *call = slab_alloc(&server->calls);

	(void)stream_id;
	if (!call) {
		account_glitch(server->account, GLITCH_CALLS);
		return NULL;
	}
	call->http2 = connection->http2;
	connection_begin_request(connection, &call->request, &call_operations);
	deadline_init(&call->deadline, call_expired);
	list_init(&call->attention);
	list_push_back(&call->http2->calls, &call->link);
	manners_note_calls(&call->http2->manners, true, server->worker->now_ms);
	return &call->stream;
}

static bool is_grpc_content(struct span value)
{
	struct span name = SPAN("application/grpc");

	if (value.len < name.len || !span_equal_nocase(span_first(value, name.len), name))
		return false;
	return value.len == name.len || value.data[name.len] == '+' || value.data[name.len] == ';';
}

static void take_timeout(struct call *call, struct span value)
{
	int64_t us = grpc_parse_timeout(value);

	call->has_timeout = us >= 0;
	call->timeout_us = us >= 0 ? (uint64_t)us : 0;
	if (us < 0)
		call->header_error = ERR_BAD_REQUEST;
}

static void take_encoding(struct call *call, struct span value)
{
	if (span_equal(value, SPAN("gzip")))
		call->encoding = GRPC_GZIP;
	else if (!span_equal(value, SPAN("identity")))
		call->header_error = ERR_ENCODING_UNKNOWN;
}

static void take_expectation(struct call *call, struct span value)
{
	if (span_equal_nocase(value, SPAN("100-continue")))
		call->expects_continue = true;
	else
		call->expects_more = true;
}

/* Returns 0, or the code to reset the stream with: no memory for it. */
static int take_copy(struct call *call, struct span *field, struct span value)
{
	*field = arena_copy(&call->request.arena, value);
	return field->data ? 0 : H2_INTERNAL_ERROR;
}

static int take_target(struct call *call, struct span value)
{
	struct span target;

	if (take_copy(call, &target, value) != 0)
		return H2_INTERNAL_ERROR;
	request_set_target(&call->request, target);
	return 0;
}

/* Method and target come before all other fields: RFC 9113 §8.3. */
static void call_find_route(struct call *call)
{
	struct request *request = &call->request;
	char allow[ROUTER_ALLOW_MAX];
	enum err err;

	if (call->is_routed)
		return;
	call->is_routed = true;
	request->route = connection_find_route(call->http2->connection, request, &err, allow);
	call->route_error = (uint8_t)err;
	/* without memory for it the answer is sent without */
	if (call->route_error == ERR_METHOD_NOT_ALLOWED)
		call->allow = arena_copy(&request->arena, span_from_cstr(allow));
}

int call_take_header(struct h2_stream *stream, struct span name, struct span value)
{
	struct call *call = call_of_stream(stream);

	/* trailers of the request: nothing in them concerns us */
	if (call->headers_done)
		return 0;
	if (span_equal(name, SPAN(":method")))
		return take_copy(call, &call->request.method, value);
	if (span_equal(name, SPAN(":path")))
		return take_target(call, value);
	if (name.data[0] != ':') {
		call_find_route(call);
		if (call->request.route && call->request.route->keeps_headers)
			request_keep_header(&call->request, name, value);
	}
	if (span_equal(name, SPAN("content-type")))
		call->content_is_grpc = is_grpc_content(value);
	else if (span_equal(name, SPAN("grpc-timeout")))
		take_timeout(call, value);
	else if (span_equal(name, SPAN("grpc-encoding")))
		take_encoding(call, value);
	else if (span_equal(name, SPAN("expect")))
		take_expectation(call, value);
	else if (span_equal(name, SPAN("content-length")))
		call->has_content_length = span_to_uint64(value, &call->content_length);
	else
		request_note_header(&call->request, name, value);
	return 0;
}

/* Which route, and in which manner it is answered. Returns ERR_NONE, or what to refuse with. */
static enum err call_route(struct call *call)
{
	struct request *request = &call->request;
	const struct server_options *options = &server_of(call)->options;
	bool must_be_grpc = (options->protocols & SERVER_GRPC) != 0;
	enum err err;

	call_find_route(call);
	err = call->route_error;
	if (request->route && request->route->kind == ROUTE_GRPC)
		must_be_grpc = true;
	if (must_be_grpc && !call->content_is_grpc)
		return ERR_MEDIA_TYPE;
	/* A gRPC client understands only this; to any other a path unknown here is just not found.
	 */
	call->is_grpc = call->content_is_grpc && err != ERR_METHOD_NOT_ALLOWED &&
			(!request->route || request->route->kind == ROUTE_GRPC);
	if (call->expects_more && !call->is_grpc)
		return ERR_EXPECTATION;
	call->gate = connection_ask_gate(call->http2->connection, request);
	if (call->gate.wait_ms > 0)
		return ERR_TOO_MANY_REQUESTS;
	if (!call->is_grpc && call->has_content_length &&
	    call->content_length > call->gate.body_bytes_max)
		return ERR_BODY_TOO_LARGE;
	if (err == ERR_METHOD_NOT_ALLOWED)
		return err;
	if (!request->route)
		return call->is_grpc ? ERR_METHOD_UNKNOWN : ERR_NOT_FOUND;
	if (call->is_grpc && call->header_error != ERR_NONE)
		return call->header_error;
	if (!call->is_grpc && call->has_content_length &&
	    call->content_length > request->route->body_bytes_max)
		return ERR_BODY_TOO_LARGE;
	return ERR_NONE;
}

static void call_set_deadline(struct call *call)
{
	uint64_t now_us = call->request.worker->now_us;

	if (call->is_grpc && call->has_timeout)
		call->request.deadline_us = call->timeout_us < UINT64_MAX - now_us
						    ? now_us + call->timeout_us
						    : UINT64_MAX;
}

/* The client streams: its service starts at once and is given each message. */
static void call_start_streaming(struct call *call)
{
	call_arm(call, 0);
	call->is_started = true;
	call->request.route->start(&call->request);
}

void call_take_headers(struct h2_stream *stream, enum h2_headers_kind kind, bool end_stream)
{
	struct call *call = call_of_stream(stream);

	if (kind != H2_HEADERS_REQUEST)
		return;
	call->headers_done = true;

	enum err err = call_route(call);

	if (err != ERR_NONE) {
		call_refuse(call, err);
		return;
	}
	call_set_deadline(call);
	if (call->is_grpc && call->has_timeout && call->timeout_us == 0) {
		call_refuse(call, ERR_DEADLINE);
		return;
	}

	size_t body_max = call->request.route->body_bytes_max;

	if (body_max > call->gate.body_bytes_max)
		body_max = call->gate.body_bytes_max;
	buf_init(&call->body, body_max);
	grpc_deframer_init(&call->deframer, call->encoding,
			   body_max < UINT32_MAX ? (uint32_t)body_max : UINT32_MAX);
	/* A client that hears nothing sends its body all the same, sooner or later. */
	if (call->expects_continue && !end_stream && h2_respond_continue(stream) == 0)
		http2_wake(call->http2);
	if (call->request.route->message)
		call_start_streaming(call);
	else
		call_await_body(call);
}

/* ---- body ---- */

static enum err err_of_framing(ptrdiff_t code)
{
	if (code == -EMSGSIZE)
		return ERR_MESSAGE_TOO_LARGE;
	return code == -ENOMEM ? ERR_OUT_OF_MEMORY : ERR_MESSAGE_MALFORMED;
}

/* The message is lent by the deframer until it takes more, which it will not; one in the frame
 * itself is copied. */
static enum err keep_message(struct call *call, struct span message)
{
	call->has_message = true;
	if (message.len > 0 && message.data != call->deframer.message.data) {
		if (buf_append(&call->body, message) != 0)
			return ERR_OUT_OF_MEMORY;
		message = buf_span(&call->body);
	}
	call->message = message;
	return ERR_NONE;
}

static enum err take_grpc_data(struct call *call, struct span bytes)
{
	struct span message = SPAN_EMPTY;

	if (bytes.len == 0)
		return ERR_NONE;
	if (call->has_message)
		return ERR_CARDINALITY;

	ptrdiff_t taken = grpc_deframer_take(&call->deframer, bytes, &message);

	if (taken < 0)
		return err_of_framing(taken);

	enum err err = message.data ? keep_message(call, message) : ERR_NONE;

	call_charge(call, call->deframer.message.len + call->body.len);
	if (err == ERR_NONE && (size_t)taken < bytes.len)
		err = ERR_CARDINALITY;
	return err;
}

static enum err take_http_data(struct call *call, struct span bytes)
{
	int code = buf_append(&call->body, bytes);

	call_charge(call, call->body.len);
	if (code)
		return code == -EMSGSIZE ? ERR_BODY_TOO_LARGE : ERR_OUT_OF_MEMORY;
	return ERR_NONE;
}

/* Messages of a client that streams, each given to the service as soon as it is whole. */
static enum err take_streamed_data(struct call *call, struct span bytes)
{
	struct request *request = &call->request;

	while (bytes.len > 0 && !request->ended && !call->is_broken) {
		struct span message = SPAN_EMPTY;
		ptrdiff_t taken = grpc_deframer_take(&call->deframer, bytes, &message);

		if (taken < 0)
			return err_of_framing(taken);
		if (message.data)
			request->route->message(request, message);
		bytes = span_from(bytes, (size_t)taken);
	}
	if (request->ended)
		return ERR_NONE;
	call_charge_streamed(call);
	return call_judge_memory(call);
}

static void call_take_streamed(struct call *call, struct span bytes)
{
	enum err err = take_streamed_data(call, bytes);

	h2_consume(&call->stream, bytes.len);
	if (err != ERR_NONE)
		call_end_by_edge(call, err);
}

/* The body of a request that was answered early. What is not wanted at all opens no window. */
static void call_discard(struct call *call, struct span bytes)
{
	call->discarded_bytes += (uint32_t)bytes.len;
	if (call->discarded_bytes <= DISCARD_BYTES_MAX)
		h2_consume(&call->stream, bytes.len);
	else
		h2_stream_reset(&call->stream, H2_NO_ERROR);
}

void call_take_data(struct h2_stream *stream, struct span bytes)
{
	struct call *call = call_of_stream(stream);
	enum err err = ERR_NONE;

	if (call->request.ended) {
		call_discard(call, bytes);
		return;
	}
	if (call->is_started && call->request.route->message) {
		call_take_streamed(call, bytes);
		return;
	}
	if (!call->is_started) {
		call_take_body(call, bytes.len);
		err = call->is_grpc ? take_grpc_data(call, bytes) : take_http_data(call, bytes);
	}
	if (err == ERR_NONE)
		err = call_judge_memory(call);
	h2_consume(stream, bytes.len);
	if (err != ERR_NONE)
		call_refuse(call, err);
}

void call_take_end(struct h2_stream *stream)
{
	struct call *call = call_of_stream(stream);
	struct request *request = &call->request;

	if (request->ended)
		return;
	if (call->is_grpc && !grpc_deframer_is_idle(&call->deframer)) {
		call_end_by_edge(call, ERR_MESSAGE_MALFORMED);
		return;
	}
	if (call->is_started) {
		request->route->half_closed(request);
		return;
	}
	if (call->is_grpc && !call->has_message) {
		call_refuse(call, ERR_CARDINALITY);
		return;
	}
	call_end_body(call);
	call_arm(call, 0);
	call->is_started = true;
	request->body = call->is_grpc ? call->message : buf_span(&call->body);
	request->route->start(request);
}

/* ---- answers are asked for ---- */

bool call_pull(struct h2_stream *stream)
{
	struct call *call = call_of_stream(stream);
	struct request *request = &call->request;

	if (request->ended)
		return false;
	if (request->route->message)
		call_charge_streamed(call);
	if (!request->route->pull)
		return false;
	request->route->pull(request);
	/* A service stops for want of room, or when it has no more: then it resumes by itself. */
	return !call_has_room(call);
}

void call_attend(struct call *call)
{
	if (call->request.ended)
		return;
	if (call->is_broken)
		call_end_by_edge(call, ERR_OUT_OF_MEMORY);
	else if (!call->is_responded)
		(void)call_pull(&call->stream);
}

/* ---- the end ---- */

void call_closed(struct h2_stream *stream, uint32_t code)
{
	struct call *call = call_of_stream(stream);
	struct request *request = &call->request;
	struct server *server = server_of(call);

	http2_note_closed(call->http2, call, code);
	call_let_go(call);
	if (request->ended) {
		call_forget_answer(call);
	} else if (call->headers_done) {
		request->ended = true;
		request->status = call->is_grpc ? (int)GRPC_CANCELLED : HTTP_CLIENT_GONE;
		account_call(server->account, request, call->is_grpc ? ROUTE_GRPC : ROUTE_HTTP);
	}
	deadline_disarm(server->worker, &call->deadline);
	call_end_body(call);
	call_charge(call, 0);
	list_remove(&call->link);
	list_remove(&call->attention);
	grpc_deframer_finish(&call->deframer);
	buf_finish(&call->body);
	arena_finish(&request->arena);
	slab_free(&server->calls, call);
}

size_t http2_call_bytes(void)
{
	return sizeof(struct call);
}
