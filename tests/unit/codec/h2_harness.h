/* h2_harness: one end of an HTTP/2 connection whose events and frames become lines of text to
 * compare. */
#ifndef TESTS_UNIT_CODEC_H2_HARNESS_H
#define TESTS_UNIT_CODEC_H2_HARNESS_H

#include "base/buf.h"
#include "base/check.h"
#include "codec/h2.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define END_CALLS 64

struct call {
	struct h2_stream stream;
	bool is_used;
	int closed_count;
	uint32_t closed_code;
};

struct end {
	struct h2_session *session;
	struct call calls[END_CALLS];
	struct buf events; /* text */
	struct buf wire;   /* what h2_produce handed out */
	struct buf pieces; /* text: b9 s100 … as the sink got them */
	bool refuse;	   /* the next stream */
	bool quiet;	   /* no header lines */
	int header_code;   /* what header() returns for the name "bad" */
	int room;	   /* sink calls until has_room says no; -1: always room */
	int sink_code;	   /* what the sink answers */
	unsigned odd[H2_ODD_COUNT];
	unsigned odd_max; /* of all; the next one is answered with GOAWAY. 0: any number */
	void (*on_ended)(struct call *call);
	void (*on_pull)(struct call *call);
	bool pulls_all; /* a pull leaves nothing behind */
};

static inline struct end *end_of(struct h2_session *session)
{
	return h2_session_owner(session);
}

static inline struct call *call_of(struct h2_stream *stream)
{
	return CONTAINER_OF(stream, struct call, stream);
}

static inline struct call *call_new(struct end *end)
{
	for (size_t i = 0; i < END_CALLS; i++) {
		if (!end->calls[i].is_used) {
			end->calls[i] = (struct call){.is_used = true};
			return &end->calls[i];
		}
	}
	return NULL;
}

static inline struct h2_stream *end_opened(struct h2_session *session, int32_t id)
{
	struct end *end = end_of(session);

	buf_printf(&end->events, "opened %d\n", id);
	if (end->refuse)
		return NULL;
	return &call_new(end)->stream;
}

static inline int end_header(struct h2_stream *stream, struct span name, struct span value)
{
	struct end *end = end_of(stream->session);

	if (!end->quiet)
		buf_printf(&end->events, "header %d %.*s=%.*s\n", stream->id, SPAN_ARGS(name),
			   SPAN_ARGS(value));
	return span_equal(name, SPAN("bad")) ? end->header_code : 0;
}

static inline void end_headers_done(struct h2_stream *stream, enum h2_headers_kind kind,
				    bool end_stream)
{
	static const char *const names[] = {"request", "informational", "response", "trailers"};

	buf_printf(&end_of(stream->session)->events, "%s %d%s\n", names[kind], stream->id,
		   end_stream ? " end" : "");
}

static inline void end_data(struct h2_stream *stream, struct span bytes)
{
	buf_printf(&end_of(stream->session)->events, "data %d %zu\n", stream->id, bytes.len);
}

static inline void end_ended(struct h2_stream *stream)
{
	struct end *end = end_of(stream->session);

	buf_printf(&end->events, "ended %d\n", stream->id);
	if (end->on_ended)
		end->on_ended(call_of(stream));
}

static inline bool end_pull(struct h2_stream *stream)
{
	struct end *end = end_of(stream->session);

	if (end->on_pull)
		end->on_pull(call_of(stream));
	return !end->pulls_all;
}

/* The stream has left its session, so the end is found by where the call lies. */
static inline struct end *end_by_call(struct call *call);

static inline void end_closed(struct h2_stream *stream, uint32_t code)
{
	struct call *call = call_of(stream);

	assert_null(stream->session);
	assert_int_equal(stream->queue_count, 0);
	assert_int_equal(stream->queue_bytes, 0);
	assert_int_equal(call->closed_count, 0);
	call->closed_count++;
	call->closed_code = code;
	buf_printf(&end_by_call(call)->events, "closed %d %u\n", stream->id, code);
}

static inline void end_goaway(struct h2_session *session, int32_t last_id, uint32_t code)
{
	buf_printf(&end_of(session)->events, "goaway %d %u\n", last_id, code);
}

static inline void end_ping_acked(struct h2_session *session, const uint8_t opaque[8])
{
	buf_printf(&end_of(session)->events, "acked %.8s\n", (const char *)opaque);
}

static inline void end_pinged(struct h2_session *session)
{
	buf_printf(&end_of(session)->events, "pinged\n");
}

static inline void end_odd(struct h2_session *session, enum h2_oddity oddity)
{
	struct end *end = end_of(session);
	unsigned sum = 0;

	end->odd[oddity]++;
	for (size_t i = 0; i < H2_ODD_COUNT; i++)
		sum += end->odd[i];
	if (end->odd_max > 0 && sum == end->odd_max + 1)
		h2_goaway(session, H2_ENHANCE_YOUR_CALM, SPAN("odd"));
}

static const struct h2_handler end_handler = {
	.opened = end_opened,
	.header = end_header,
	.headers_done = end_headers_done,
	.data = end_data,
	.ended = end_ended,
	.pull = end_pull,
	.closed = end_closed,
	.goaway = end_goaway,
	.ping_acked = end_ping_acked,
	.pinged = end_pinged,
	.odd = end_odd,
};

static inline int sink_bytes(void *context, struct span bytes)
{
	struct end *end = context;

	if (end->sink_code)
		return end->sink_code;
	if (end->room > 0)
		end->room--;
	buf_printf(&end->pieces, "b%zu ", bytes.len);
	return buf_append(&end->wire, bytes);
}

static inline int sink_slice(void *context, struct payload_slice slice)
{
	struct end *end = context;

	buf_printf(&end->pieces, "s%u ", slice.len);
	return buf_append(&end->wire, span_make(slice.payload->data + slice.offset, slice.len));
}

static inline bool sink_has_room(void *context)
{
	struct end *end = context;

	return end->room != 0;
}

static struct end *living_ends[4]; /* for end_by_call */

static inline struct end *end_by_call(struct call *call)
{
	for (size_t i = 0; i < 4; i++) {
		struct end *end = living_ends[i];

		if (end && call >= end->calls && call < end->calls + END_CALLS)
			return end;
	}
	fail_msg("no such end");
	return NULL;
}

static inline struct h2_options end_options(enum h2_role role)
{
	return (struct h2_options){
		.role = role,
		.max_concurrent_streams = 10,
		.stream_window_bytes = 65535,
		.connection_window_bytes = 65535,
		.max_header_list_bytes = 1000,
		.max_frame_bytes = 16384,
	};
}

static inline struct end *end_create_with(struct h2_options options)
{
	struct end *end = calloc(1, sizeof(*end));

	assert_non_null(end);
	end->room = -1;
	end->header_code = H2_CANCEL;
	buf_init(&end->events, 1 << 22);
	buf_init(&end->wire, 1 << 24);
	buf_init(&end->pieces, 1 << 22);
	for (size_t i = 0;; i++) {
		assert_true(i < 4);
		if (!living_ends[i]) {
			living_ends[i] = end;
			break;
		}
	}
	assert_int_equal(h2_session_create(&end->session, &options, &end_handler, end), 0);
	return end;
}

static inline struct end *end_create(enum h2_role role)
{
	return end_create_with(end_options(role));
}

static inline void end_destroy(struct end *end)
{
	if (end->session)
		h2_session_destroy(end->session);
	buf_finish(&end->events);
	buf_finish(&end->wire);
	buf_finish(&end->pieces);
	for (size_t i = 0; i < 4; i++)
		if (living_ends[i] == end)
			living_ends[i] = NULL;
	free(end);
}

static inline int end_produce(struct end *end)
{
	struct sink sink = {.context = end,
			    .bytes = sink_bytes,
			    .slice = sink_slice,
			    .has_room = sink_has_room};

	return h2_produce(end->session, &sink);
}

/* Text of one frame. */
static inline void frame_describe(struct buf *out, const uint8_t head[9], struct span payload)
{
	/* clang-format off */
	static const char *const names[] = {
		"DATA", "HEADERS", "PRIORITY", "RST", "SETTINGS",
		"PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION",
	};
	/* clang-format on */
	const uint8_t *p = payload.data;
	uint32_t id = (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 |
		      head[8];
	uint32_t first = payload.len < 4 ? 0
					 : (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
						   (uint32_t)p[2] << 8 | p[3];

	assert_true(head[3] <= 9);
	buf_printf(out, head[3] == 7 ? "%s" : "%s %u", names[head[3]], id);
	switch (head[3]) {
	case 0:
		assert_int_equal(head[4] & ~1, 0); /* never padded */
		buf_printf(out, " %zu%s\n", payload.len, head[4] & 1 ? " end" : "");
		break;
	case 1:
		buf_printf(out, "%s\n", head[4] & 1 ? " end" : "");
		break;
	case 3:
	case 8:
		buf_printf(out, " %u\n", first);
		break;
	case 7:
		buf_printf(out, " %u %u %.*s\n", first, (unsigned)p[7], (int)payload.len - 8,
			   (const char *)p + 8);
		break;
	default:
		buf_printf(out, "%s\n", head[4] & 1 ? " ack" : "");
	}
}

/* Produces all there is and compares the frames with `text`. */
static inline void expect_frames(struct end *end, const char *text)
{
	struct buf out;
	size_t at = 0;

	assert_int_equal(end_produce(end), 0);
	buf_init(&out, 1 << 20);
	while (at < end->wire.len) {
		const uint8_t *head = end->wire.data + at;
		size_t len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];

		if (memcmp(head, "PRI * HT", 8) == 0) {
			buf_printf(&out, "preface\n");
			at += sizeof(H2_PREFACE) - 1;
			continue;
		}
		assert_true(at + 9 + len <= end->wire.len);
		frame_describe(&out, head, span_make(head + 9, len));
		at += 9 + len;
	}
	buf_append_byte(&out, 0);
	assert_string_equal((char *)out.data, text);
	buf_finish(&out);
	buf_clear(&end->wire, 0);
}

static inline void expect_events(struct end *end, const char *text)
{
	buf_append_byte(&end->events, 0);
	assert_string_equal((char *)end->events.data, text);
	buf_clear(&end->events, 0);
}

static inline void expect_pieces(struct end *end, const char *text)
{
	buf_append_byte(&end->pieces, 0);
	assert_string_equal((char *)end->pieces.data, text);
	buf_clear(&end->pieces, 0);
}

/* ---- frames by hand ---- */

struct frame {
	uint8_t bytes[20000];
	size_t len;
};

static inline void frame_put(struct frame *frame, struct span bytes)
{
	assert_true(frame->len + bytes.len <= sizeof(frame->bytes));
	if (bytes.len > 0)
		memcpy(frame->bytes + frame->len, bytes.data, bytes.len);
	frame->len += bytes.len;
}

/* Feeds one frame; returns h2_receive's code. */
static inline int feed_frame(struct end *end, uint8_t type, uint8_t flags, uint32_t id,
			     struct span payload)
{
	static struct frame frame;
	uint8_t head[9] = {(uint8_t)(payload.len >> 16),
			   (uint8_t)(payload.len >> 8),
			   (uint8_t)payload.len,
			   type,
			   flags,
			   (uint8_t)(id >> 24),
			   (uint8_t)(id >> 16),
			   (uint8_t)(id >> 8),
			   (uint8_t)id};

	frame.len = 0;
	frame_put(&frame, span_make(head, 9));
	frame_put(&frame, payload);
	return h2_receive(end->session, span_make(frame.bytes, frame.len));
}

/* HPACK: literal, new name; indexed from then on or not. RFC 7541 §6.2 */
static inline void field_put(struct frame *block, struct span name, struct span value, bool indexed)
{
	uint8_t byte = indexed ? 0x40 : 0x00;

	assert_true(name.len < 127 && value.len < 254);
	frame_put(block, span_make(&byte, 1));
	byte = (uint8_t)name.len;
	frame_put(block, span_make(&byte, 1));
	frame_put(block, name);
	if (value.len < 127) {
		byte = (uint8_t)value.len;
		frame_put(block, span_make(&byte, 1));
	} else {
		uint8_t len[2] = {127, (uint8_t)(value.len - 127)};

		frame_put(block, span_make(len, 2));
	}
	frame_put(block, value);
}

/* ":method" POST, ":scheme" http, ":path" /, ":authority" a */
static inline void request_put(struct frame *block)
{
	frame_put(block, SPAN("\x83\x86\x84\x01\x01"
			      "a"));
}

#define FRAME_END_STREAM  1
#define FRAME_END_HEADERS 4

static inline int feed_request(struct end *end, uint32_t id, uint8_t flags)
{
	static struct frame block;

	block.len = 0;
	request_put(&block);
	return feed_frame(end, 1, flags | FRAME_END_HEADERS, id, span_make(block.bytes, block.len));
}

/* A server that has had preface and SETTINGS, and whose own first frames are out. */
static inline struct end *server_create_with(struct h2_options options)
{
	struct end *end = end_create_with(options);

	assert_int_equal(h2_receive(end->session, SPAN(H2_PREFACE)), 0);
	assert_int_equal(feed_frame(end, 4, 0, 0, SPAN_EMPTY), 0);
	assert_int_equal(feed_frame(end, 4, 1, 0, SPAN_EMPTY), 0);
	assert_int_equal(end_produce(end), 0);
	buf_clear(&end->wire, 0);
	buf_clear(&end->pieces, 0);
	return end;
}

static inline struct end *server_create(void)
{
	return server_create_with(end_options(H2_SERVER));
}

static inline struct end *client_create(void)
{
	struct end *end = end_create(H2_CLIENT);

	assert_int_equal(feed_frame(end, 4, 0, 0, SPAN_EMPTY), 0);
	assert_int_equal(feed_frame(end, 4, 1, 0, SPAN_EMPTY), 0);
	assert_int_equal(end_produce(end), 0);
	buf_clear(&end->wire, 0);
	buf_clear(&end->pieces, 0);
	return end;
}

/* ---- payloads ---- */

static inline struct payload *payload_of(size_t len)
{
	struct payload *payload = payload_create(len);

	assert_non_null(payload);
	for (size_t i = 0; i < len; i++)
		payload->data[i] = (uint8_t)(i * 31 + len);
	return payload;
}

static inline struct payload_slice slice_of(struct payload *payload)
{
	return (struct payload_slice){payload, 0, payload->len};
}

/* Gives up the test's reference: it must be the last. */
static inline void payload_expect_last(struct payload *payload)
{
	assert_int_equal(atomic_load(&payload->count), 1);
	payload_put(payload);
}

static const struct h2_header ok_headers[] = {{SPAN(":status"), SPAN("200")}};
static const struct h2_header status_trailers[] = {{SPAN("grpc-status"), SPAN("0")}};
static const struct h2_header request_headers[] = {
	{SPAN(":method"), SPAN("POST")},
	{SPAN(":scheme"), SPAN("http")},
	{SPAN(":authority"), SPAN("a")},
	{SPAN(":path"), SPAN("/")},
};

#endif
