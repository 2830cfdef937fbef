/*
 * fuzz_h2: a server's HTTP/2 connection over the real session code. The first byte says how the
 * rest is cut, how much the sink takes, whether the client's preface is put ahead, and whether the
 * server drains meanwhile; each stream answers as its id says: at once, at the end, with trailers,
 * with data in parts, with more than its queue's first places hold, with a reset, or never.
 */
#include "codec/h2.h"
#include "codec/h2_memory.h"
#include "fuzz/fuzz.h"

#define CALLS_MAX   32
#define DATA_PARTS  3
#define DATA_BYTES  300
#define OUT_MAX	    (1u << 20) /* of one input: a session must not answer without end */
#define INPUT_MAX   16384
#define HEADER_LIST 4096
#define ODD_MAX	    1000 /* of one input: then the owner has had enough */

/* The first byte; its lowest two bits say how the rest is cut. */
enum { CUT = 3, PREFACED = 4, NEVER_READS = 8, NO_MEMORY = 16, DRAINS = 32, LEAVES = 64 };

struct call {
	struct h2_stream stream;
	struct connection *connection;
	uint32_t parts_sent;
	bool is_used, is_done;
};

struct connection {
	struct call calls[CALLS_MAX];
	struct payload *payload;
	size_t out_bytes, room_bytes;
	uint32_t opened_count, closed_count, odd_count;
};

static struct call *call_of(struct h2_stream *stream)
{
	return CONTAINER_OF(stream, struct call, stream);
}

static struct h2_stream *opened(struct h2_session *session, int32_t id)
{
	struct connection *connection = h2_session_owner(session);

	CHECK(id > 0 && id % 2 == 1);
	for (size_t i = 0; i < CALLS_MAX; i++) {
		struct call *call = &connection->calls[i];

		if (call->is_used)
			continue;
		*call = (struct call){.connection = connection, .is_used = true};
		connection->opened_count++;
		return &call->stream;
	}
	return NULL;
}

static int header(struct h2_stream *stream, struct span name, struct span value)
{
	CHECK(call_of(stream)->is_used && name.len > 0);
	return value.len > 1000 ? H2_PROTOCOL_ERROR : 0;
}

static void answer(struct call *call)
{
	static const struct h2_header headers[] = {{SPAN(":status"), SPAN("200")},
						   {SPAN("x"), SPAN("y")}};
	static const struct h2_header trailers[] = {{SPAN("grpc-status"), SPAN("0")}};

	if (call->is_done || !call->stream.session)
		return;
	call->is_done = true;
	switch (call->stream.id / 2 % 8) {
	case 0:
		(void)h2_respond(&call->stream, headers, 2, true);
		break;
	case 1:
		(void)h2_respond(&call->stream, headers, 2, false);
		(void)h2_stream_finish(&call->stream, trailers, 1);
		break;
	case 2:
		(void)h2_respond(&call->stream, headers, 2, false);
		break; /* data by pull */
	case 3:
		h2_stream_reset(&call->stream, H2_CANCEL);
		break;
	case 4:
		(void)h2_respond(&call->stream, headers, 2, false);
		(void)h2_stream_push(
			&call->stream,
			(struct payload_slice){call->connection->payload, 0, DATA_BYTES});
		(void)h2_stream_finish(&call->stream, NULL, 0);
		h2_stream_reset(&call->stream, H2_NO_ERROR);
		break;
	case 5:
		(void)h2_respond_continue(&call->stream);
		(void)h2_respond_fixed(&call->stream, headers, 2);
		(void)h2_stream_finish_fixed(&call->stream, trailers, 1);
		break;
	case 6:
		(void)h2_respond_fixed(&call->stream, headers, 2);
		for (int i = 0; i < 2 * H2_QUEUE_SLICES; i++)
			(void)h2_stream_push(&call->stream,
					     (struct payload_slice){call->connection->payload, 0,
								    DATA_BYTES});
		(void)h2_stream_drop_queue(&call->stream, 3 * DATA_BYTES / 2);
		break; /* the rest by pull */
	default:
		call->is_done = false;
	}
}

static void headers_done(struct h2_stream *stream, enum h2_headers_kind kind, bool end_stream)
{
	(void)end_stream;
	if (kind == H2_HEADERS_REQUEST && stream->id % 4 == 1)
		answer(call_of(stream));
}

static void data(struct h2_stream *stream, struct span bytes)
{
	h2_consume(stream, bytes.len);
}

static void ended(struct h2_stream *stream)
{
	answer(call_of(stream));
}

static bool pull(struct h2_stream *stream)
{
	struct call *call = call_of(stream);

	if (call->parts_sent++ < DATA_PARTS)
		(void)h2_stream_push(
			stream, (struct payload_slice){call->connection->payload, 0, DATA_BYTES});
	else
		(void)h2_stream_finish(stream, NULL, 0);
	return false;
}

static void closed(struct h2_stream *stream, uint32_t code)
{
	struct call *call = call_of(stream);

	(void)code;
	CHECK(call->is_used && !stream->session && stream->queue_count == 0);
	call->is_used = false;
	call->connection->closed_count++;
}

static void odd(struct h2_session *session, enum h2_oddity oddity)
{
	struct connection *connection = h2_session_owner(session);

	CHECK(oddity > H2_ODD_NOTHING && oddity < H2_ODD_COUNT);
	if (++connection->odd_count == ODD_MAX)
		h2_goaway(session, H2_ENHANCE_YOUR_CALM, SPAN("odd"));
}

static const struct h2_handler handler = {
	.opened = opened,
	.header = header,
	.headers_done = headers_done,
	.data = data,
	.ended = ended,
	.pull = pull,
	.closed = closed,
	.odd = odd,
};

static int sink_take(struct connection *connection, size_t bytes)
{
	connection->out_bytes += bytes;
	connection->room_bytes =
		connection->room_bytes > bytes ? connection->room_bytes - bytes : 0;
	CHECK(connection->out_bytes <= OUT_MAX);
	return 0;
}

static int sink_bytes(void *context, struct span bytes)
{
	return sink_take(context, bytes.len);
}

static int sink_slice(void *context, struct payload_slice slice)
{
	CHECK(slice.offset + slice.len <= slice.payload->len);
	return sink_take(context, slice.len);
}

static bool sink_has_room(void *context)
{
	return ((struct connection *)context)->room_bytes > 0;
}

static void run(struct connection *connection, struct h2_session *session, struct span bytes,
		uint8_t how)
{
	const struct sink sink = {.context = connection,
				  .bytes = sink_bytes,
				  .slice = sink_slice,
				  .has_room = sink_has_room};
	static const uint8_t opaque[8] = {1};
	size_t step = how & CUT ? (size_t)1 << ((how & CUT) * 3) : SIZE_MAX;
	bool is_reading = !(how & NEVER_READS);
	int result = 0;

	if (how & PREFACED)
		result = h2_receive(session, SPAN(H2_PREFACE));
	while (result == 0 && bytes.len > 0) {
		size_t len = bytes.len < step ? bytes.len : step;
		uint8_t *part = fuzz_copy(span_first(bytes, len));

		result = h2_receive(session, span_make(part, len));
		free(part);
		bytes = span_from(bytes, len);
		(void)h2_header_progress(session);
		if (how & DRAINS) {
			h2_shutdown_notice(session);
			(void)h2_ping(session, opaque);
			how &= (uint8_t)~DRAINS;
		}
		connection->room_bytes = is_reading ? 65536 : 0;
		if (h2_produce(session, &sink) < 0)
			break;
	}
	if (how & LEAVES)
		h2_goaway(session, H2_NO_ERROR, SPAN_EMPTY);
	connection->room_bytes = 65536;
	(void)h2_produce(session, &sink);
	(void)h2_is_finished(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data_in, size_t size)
{
	struct span input = span_make(data_in, size < INPUT_MAX ? size : INPUT_MAX);
	struct connection *connection = calloc(1, sizeof(*connection));
	static struct h2_memory *memory;

	CHECK(memory || h2_memory_create(&memory) == 0);

	const struct h2_options options = {
		.role = H2_SERVER,
		.memory = memory,
		.max_concurrent_streams = CALLS_MAX,
		.stream_window_bytes = 65536,
		.connection_window_bytes = 1u << 20,
		.max_header_list_bytes = HEADER_LIST,
		.max_frame_bytes = 16384,
	};
	struct h2_session *session;
	uint8_t how = fuzz_byte(&input);

	CHECK(connection);
	connection->payload = payload_create(DATA_BYTES);
	CHECK(connection->payload);
	if (how & NO_MEMORY)
		h2_memory_fail_after(memory, fuzz_byte(&input));
	if (h2_session_create(&session, &options, &handler, connection) == 0) {
		run(connection, session, input, how);
		h2_session_destroy(session);
	} else {
		CHECK(how & NO_MEMORY);
	}
	h2_memory_fail_after(memory, UINT64_MAX);
	CHECK(metric_gauge_value(h2_memory_used_bytes(memory)) == 0);
	CHECK(connection->opened_count == connection->closed_count);
	CHECK(connection->payload->count == 1);
	payload_put(connection->payload);
	free(connection);
	return 0;
}
