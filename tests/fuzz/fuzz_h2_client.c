/*
 * fuzz_h2_client: a client's HTTP/2 connection, as those to services, fed with any server's bytes.
 * The first byte says how they are cut, whether the server's SETTINGS are put ahead, and what the
 * client does meanwhile; its calls are as many as the server allows.
 */
#include "codec/h2.h"
#include "fuzz/fuzz.h"

#define CALLS_MAX   8
#define BODY_BYTES  300
#define OUT_MAX	    (1u << 20) /* of one input */
#define INPUT_MAX   16384
#define HEADER_LIST 4096

enum { CUT = 3, GREETED = 4, PINGS = 8, RESETS = 16, LEAVES = 32 };

struct connection;

struct call {
	struct h2_stream stream;
	struct connection *connection;
	bool is_open, has_response;
};

struct connection {
	struct call calls[CALLS_MAX];
	struct payload *body;
	size_t out_bytes;
	uint32_t opened_count, closed_count;
	uint8_t how;
};

static struct call *call_of(struct h2_stream *stream)
{
	return CONTAINER_OF(stream, struct call, stream);
}

static int header(struct h2_stream *stream, struct span name, struct span value)
{
	CHECK(call_of(stream)->is_open && name.len > 0);
	return value.len > 1000 ? H2_PROTOCOL_ERROR : 0;
}

static void headers_done(struct h2_stream *stream, enum h2_headers_kind kind, bool end_stream)
{
	struct call *call = call_of(stream);

	(void)end_stream;
	CHECK(call->is_open && kind != H2_HEADERS_REQUEST);
	CHECK(call->has_response == (kind == H2_HEADERS_TRAILERS));
	call->has_response |= kind == H2_HEADERS_RESPONSE;
	if (call->connection->how & RESETS)
		h2_stream_reset(stream, H2_CANCEL);
}

static void data(struct h2_stream *stream, struct span bytes)
{
	CHECK(call_of(stream)->has_response);
	h2_consume(stream, bytes.len);
}

static void ended(struct h2_stream *stream)
{
	CHECK(call_of(stream)->is_open);
}

static void closed(struct h2_stream *stream, uint32_t code)
{
	struct call *call = call_of(stream);

	(void)code;
	CHECK(call->is_open && !stream->session && stream->queue_count == 0);
	call->is_open = false;
	call->connection->closed_count++;
}

static void goaway(struct h2_session *session, int32_t last_stream_id, uint32_t code)
{
	(void)last_stream_id;
	(void)code;
	CHECK(h2_request_room(session) == 0);
}

static void ping_acked(struct h2_session *session, const uint8_t opaque[8])
{
	(void)session;
	(void)opaque;
}

static const struct h2_handler handler = {
	.header = header,
	.headers_done = headers_done,
	.data = data,
	.ended = ended,
	.closed = closed,
	.goaway = goaway,
	.ping_acked = ping_acked,
};

static int sink_bytes(void *context, struct span bytes)
{
	struct connection *connection = context;

	connection->out_bytes += bytes.len;
	CHECK(connection->out_bytes <= OUT_MAX);
	return 0;
}

static int sink_slice(void *context, struct payload_slice slice)
{
	CHECK(slice.offset + slice.len <= slice.payload->len);
	return sink_bytes(context, span_from(payload_span(slice.payload), slice.offset));
}

static bool sink_has_room(void *context)
{
	(void)context;
	return true;
}

/* One call, if the server lets us; every other one has a body. */
static void call(struct connection *connection, struct h2_session *session)
{
	static const struct h2_header headers[] = {{SPAN(":method"), SPAN("POST")},
						   {SPAN(":scheme"), SPAN("http")},
						   {SPAN(":path"), SPAN("/x")},
						   {SPAN(":authority"), SPAN("y")}};
	uint32_t number = connection->opened_count;

	if (number >= CALLS_MAX || h2_request_room(session) == 0)
		return;

	struct call *call = &connection->calls[number];

	call->connection = connection;
	if (h2_request(session, &call->stream, headers, ARRAY_LEN(headers), number % 2 == 0) != 0)
		return;
	call->is_open = true;
	connection->opened_count++;
	if (number % 2 == 0)
		return;
	(void)h2_stream_push(&call->stream,
			     (struct payload_slice){connection->body, 0, BODY_BYTES});
	(void)h2_stream_finish(&call->stream, NULL, 0);
}

static void run(struct connection *connection, struct h2_session *session, struct span bytes)
{
	static const uint8_t greeting[] = {0, 0, 0, 4, 0, 0, 0, 0, 0}, opaque[8] = {1};
	const struct sink sink = {.context = connection,
				  .bytes = sink_bytes,
				  .slice = sink_slice,
				  .has_room = sink_has_room};
	uint8_t how = connection->how;
	size_t step = how & CUT ? (size_t)1 << ((how & CUT) * 3) : SIZE_MAX;
	int result = how & GREETED ? h2_receive(session, span_make(greeting, sizeof(greeting))) : 0;

	for (int i = 0; i < CALLS_MAX / 2; i++)
		call(connection, session);
	if (how & PINGS)
		(void)h2_ping(session, opaque);
	while (result == 0 && h2_produce(session, &sink) == 0 && bytes.len > 0) {
		size_t len = bytes.len < step ? bytes.len : step;
		uint8_t *part = fuzz_copy(span_first(bytes, len));

		result = h2_receive(session, span_make(part, len));
		free(part);
		bytes = span_from(bytes, len);
		call(connection, session);
	}
	if (how & LEAVES)
		h2_goaway(session, H2_NO_ERROR, SPAN_EMPTY);
	(void)h2_produce(session, &sink);
	(void)h2_is_finished(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data_in, size_t size)
{
	struct span input = span_make(data_in, size < INPUT_MAX ? size : INPUT_MAX);
	struct connection *connection = calloc(1, sizeof(*connection));
	const struct h2_options options = {
		.role = H2_CLIENT,
		.stream_window_bytes = 65536,
		.connection_window_bytes = 1u << 20,
		.max_header_list_bytes = HEADER_LIST,
		.max_frame_bytes = 16384,
	};
	struct h2_session *session;

	CHECK(connection);
	connection->how = fuzz_byte(&input);
	connection->body = payload_create(BODY_BYTES);
	CHECK(connection->body && h2_session_create(&session, &options, &handler, connection) == 0);
	run(connection, session, input);
	h2_session_destroy(session);
	CHECK(connection->opened_count == connection->closed_count);
	CHECK(connection->body->count == 1);
	payload_put(connection->body);
	free(connection);
	return 0;
}
