#include "push_crew.h"

#include "base/check.h"
#include "codec/grpc.h"
#include "codec/hpack.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_MAX (16u << 20) /* the gateway's own limit is 4 MiB */

struct push_rest {
	uint32_t len, want; /* bytes here; of the whole message with its prefix */
	uint8_t bytes[];
};

int push_crew_init(struct push_crew *crew, struct worker *worker, uint32_t conn_count,
		   uint32_t stream_count)
{
	*crew = (struct push_crew){
		.worker = worker,
		.conn_count = conn_count,
		.stream_count = stream_count,
		.conns = calloc(conn_count + 1, sizeof(struct push_conn)),
		.streams = calloc(stream_count + 1, sizeof(struct push_stream)),
	};
	if (!crew->conns || !crew->streams) {
		push_crew_finish(crew);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < conn_count; i++)
		push_conn_init(&crew->conns[i], crew);
	return 0;
}

void push_crew_finish(struct push_crew *crew)
{
	for (uint32_t i = 0; crew->streams && i < crew->stream_count; i++)
		free(crew->streams[i].rest);
	push_check_finish(&crew->check);
	free(crew->conns);
	free(crew->streams);
	crew->conns = NULL;
	crew->streams = NULL;
}

void push_crew_blame(struct push_crew *crew, const char *format, ...)
{
	va_list arguments;

	if (crew->fault[0])
		return;
	va_start(arguments, format);
	vsnprintf(crew->fault, sizeof(crew->fault), format, arguments);
	va_end(arguments);
}

/* ---- streams ---- */

void push_stream_open(struct push_stream *stream)
{
	free(stream->rest);
	*stream = (struct push_stream){
		.user = stream->user, .next = stream->next, .state = PUSH_STREAM_OPENING};
}

static void settle_one(struct push_crew *crew, struct push_conn *conn)
{
	if (--conn->pending == 0)
		crew->handler->settled(crew, conn);
}

void push_stream_end(struct push_crew *crew, struct push_conn *conn, struct push_stream *stream,
		     uint8_t status)
{
	if (stream->state != PUSH_STREAM_OPENING && stream->state != PUSH_STREAM_OPEN)
		return;

	bool was_open = stream->state == PUSH_STREAM_OPEN;

	free(stream->rest);
	stream->rest = NULL;
	if (crew->leaving) {
		stream->state = PUSH_STREAM_CLOSED;
		return;
	}
	stream->state = PUSH_STREAM_ENDED;
	stream->status = status;
	metric_add(&crew->ended, 1);
	metric_add(&crew->ended_by[status], 1);
	if (was_open)
		return;
	metric_add(&crew->refused, 1);
	push_crew_blame(crew, "a stream ended before its first event: %s",
			status < GRPC_STATUS_COUNT ? grpc_status_name(status) : "no status");
	settle_one(crew, conn);
}

static void take_message(struct push_crew *crew, struct push_conn *conn,
			 struct push_stream *stream, struct span message, uint32_t *ours)
{
	switch (push_check_message(&crew->check, stream, message)) {
	case PUSH_EVENT_OURS:
		*ours += 1;
		break;
	case PUSH_EVENT_BOOTSTRAP:
		if (stream->state != PUSH_STREAM_OPENING)
			break;
		stream->state = PUSH_STREAM_OPEN;
		metric_add(&crew->ready, 1);
		settle_one(crew, conn);
		break;
	case PUSH_EVENT_OTHER:
		break;
	}
}

static inline uint32_t message_bytes(const uint8_t prefix[GRPC_PREFIX_BYTES])
{
	return (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 | (uint32_t)prefix[3] << 8 |
	       prefix[4];
}

/* Makes room for what is known to come. Returns false: the stream is lost. */
static bool rest_grow(struct push_stream *stream, uint32_t want)
{
	struct push_rest *rest = realloc(stream->rest, sizeof(*rest) + want);

	if (!rest)
		return false;
	if (!stream->rest)
		rest->len = 0;
	rest->want = want;
	stream->rest = rest;
	return true;
}

/* Adds to the message that came in pieces. Returns bytes taken, or -EPROTO, -ENOMEM. */
static ptrdiff_t rest_take(struct push_stream *stream, struct span bytes)
{
	if (!stream->rest && !rest_grow(stream, GRPC_PREFIX_BYTES))
		return -ENOMEM;

	struct push_rest *rest = stream->rest;
	size_t take = rest->want - rest->len;

	if (take > bytes.len)
		take = bytes.len;
	memcpy(rest->bytes + rest->len, bytes.data, take);
	rest->len += (uint32_t)take;
	if (rest->len == GRPC_PREFIX_BYTES && rest->want == GRPC_PREFIX_BYTES) {
		uint32_t len = message_bytes(rest->bytes);

		if (rest->bytes[0] != 0 || len > MESSAGE_MAX)
			return -EPROTO;
		if (!rest_grow(stream, GRPC_PREFIX_BYTES + len))
			return -ENOMEM;
	}
	return (ptrdiff_t)take;
}

static bool rest_is_whole(const struct push_stream *stream)
{
	const struct push_rest *rest = stream->rest;

	return rest->len == rest->want &&
	       rest->want == GRPC_PREFIX_BYTES + message_bytes(rest->bytes);
}

static void lose(struct push_crew *crew, struct push_conn *conn, const char *why)
{
	metric_add(&crew->check.wrong, 1);
	push_crew_blame(crew, "%s", why);
	push_conn_close(conn);
}

void push_stream_take(struct push_crew *crew, struct push_conn *conn, struct push_stream *stream,
		      struct span bytes)
{
	uint32_t ours = 0;

	if (stream->state != PUSH_STREAM_OPENING && stream->state != PUSH_STREAM_OPEN)
		return;
	while (bytes.len > 0 && conn->state == PUSH_CONN_OPEN) {
		if (!stream->rest && bytes.len >= GRPC_PREFIX_BYTES && bytes.data[0] == 0 &&
		    bytes.len - GRPC_PREFIX_BYTES >= message_bytes(bytes.data)) {
			uint32_t len = message_bytes(bytes.data);

			take_message(crew, conn, stream,
				     span_make(bytes.data + GRPC_PREFIX_BYTES, len), &ours);
			bytes = span_from(bytes, GRPC_PREFIX_BYTES + len);
			continue;
		}

		ptrdiff_t taken = rest_take(stream, bytes);

		if (taken < 0) {
			lose(crew, conn, taken == -ENOMEM ? "out of memory" : "bad gRPC framing");
			break;
		}
		bytes = span_from(bytes, (size_t)taken);
		if (!rest_is_whole(stream))
			continue;

		struct push_rest *rest = stream->rest;

		stream->rest = NULL;
		take_message(crew, conn, stream,
			     span_make(rest->bytes + GRPC_PREFIX_BYTES,
				       rest->len - GRPC_PREFIX_BYTES),
			     &ours);
		free(rest);
	}
	if (ours > 0)
		metric_add(stream->stalled ? &crew->delivered_stalled : &crew->delivered, ours);
}

/* ---- header blocks ---- */

struct reply {
	bool is_200;
	uint8_t grpc_status;
};

static void take_field(void *context, struct span name, struct span value)
{
	struct reply *reply = context;

	if (span_equal(name, SPAN(":status")))
		reply->is_200 = span_equal(value, SPAN("200"));
	else if (span_equal(name, SPAN("grpc-status")))
		reply->grpc_status = (uint8_t)grpc_parse_status(value);
}

void push_stream_headers(struct push_crew *crew, struct push_conn *conn,
			 struct push_stream *stream, struct span block, bool is_last)
{
	struct reply reply = {.grpc_status = PUSH_STATUS_NONE};

	/* all replies are alike */
	if (!is_last && crew->known_reply.len > 0 && span_equal(block, crew->known_reply))
		return;
	if (hpack_read(block, take_field, &reply) != 0) {
		lose(crew, conn, "a header block cannot be read");
		return;
	}
	if (is_last) {
		push_stream_end(crew, conn, stream, reply.grpc_status);
		return;
	}
	if (!reply.is_200) {
		lose(crew, conn, "an answer that is not 200");
		return;
	}
	if (block.len > sizeof(crew->reply_bytes))
		return;
	memcpy(crew->reply_bytes, block.data, block.len);
	crew->known_reply = span_make(crew->reply_bytes, block.len);
}
