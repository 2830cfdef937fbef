#include "wire.h"

#include "codec/h2.h"
#include "codec/hpack.h"

#include <errno.h>
#include <stdlib.h>

enum frame {
	FRAME_DATA = 0,
	FRAME_HEADERS = 1,
	FRAME_RST_STREAM = 3,
	FRAME_SETTINGS = 4,
	FRAME_PUSH_PROMISE = 5,
	FRAME_PING = 6,
	FRAME_GOAWAY = 7,
	FRAME_WINDOW_UPDATE = 8,
	FRAME_CONTINUATION = 9,
};

enum setting {
	SETTING_TABLE_BYTES = 1,
	SETTING_PUSH = 2,
	SETTING_STREAMS = 3,
	SETTING_WINDOW = 4,
	SETTING_FRAME_BYTES = 5
};

#define FLAG_END_STREAM	 0x01
#define FLAG_ACK	 0x01
#define FLAG_END_HEADERS 0x04
#define FLAG_PADDED	 0x08
#define FLAG_PRIORITY	 0x20

#define HEAD_BYTES	9
#define FRAME_BYTES_MAX 16384u /* ours: the default */
#define WINDOW_DEFAULT	65535
#define WINDOW_MAX	INT32_MAX
#define GIVE_BACK_BYTES (1u << 30)
#define TABLE_BYTES	4096 /* both sides' default */
#define FRAGMENTS_MAX	65536

/* ---- header blocks of requests ---- */

static bool put_text(uint8_t *block, uint16_t *len, const char *text)
{
	size_t bytes = strlen(text), rest = bytes;

	if (*len + bytes + 4 > WIRE_BLOCK_MAX)
		return false;
	/* RFC 7541 §5.1 with a prefix of 7 bits, and no Huffman code */
	if (rest < 127) {
		block[(*len)++] = (uint8_t)rest;
	} else {
		block[(*len)++] = 127;
		for (rest -= 127; rest >= 128; rest >>= 7)
			block[(*len)++] = (uint8_t)(rest | 128);
		block[(*len)++] = (uint8_t)rest;
	}
	memcpy(block + *len, text, bytes);
	*len = (uint16_t)(*len + bytes);
	return true;
}

int wire_request_make(struct wire_request *request, const struct wire_header *headers, size_t count)
{
	*request = (struct wire_request){0};
	if (count > sizeof(request->next))
		return -EMSGSIZE;
	for (size_t i = 0; i < count; i++) {
		if (request->first_len + 1 >= WIRE_BLOCK_MAX)
			return -EMSGSIZE;
		request->first[request->first_len++] = 0x40; /* literal, into the table */
		request->plain[request->plain_len++] = 0x00; /* literal, not into it */
		if (!put_text(request->first, &request->first_len, headers[i].name) ||
		    !put_text(request->first, &request->first_len, headers[i].value) ||
		    !put_text(request->plain, &request->plain_len, headers[i].name) ||
		    !put_text(request->plain, &request->plain_len, headers[i].value))
			return -EMSGSIZE;
		/* the table begins behind 61 fixed entries, the newest first */
		request->next[request->next_len++] = (uint8_t)(0x80 | (61 + count - i));
	}
	return 0;
}

/* ---- frames out ---- */

static void put_head(uint8_t head[HEAD_BYTES], size_t len, uint8_t type, uint8_t flags, int32_t id)
{
	const uint8_t bytes[HEAD_BYTES] = {
		(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,       type,	    flags,
		(uint8_t)(id >> 24),  (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id,
	};

	memcpy(head, bytes, sizeof(bytes));
}

static void put_uint32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get_uint32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int send_frame(struct wire *wire, uint8_t type, uint8_t flags, struct span content)
{
	uint8_t head[HEAD_BYTES];

	put_head(head, content.len, type, flags, 0);
	int code = conn_send(&wire->link.conn, span_make(head, sizeof(head)));

	return code ? code : conn_send(&wire->link.conn, content);
}

static void send_window(struct wire *wire, uint32_t bytes)
{
	uint8_t content[4];

	put_uint32(content, bytes);
	(void)send_frame(wire, FRAME_WINDOW_UPDATE, 0, span_make(content, sizeof(content)));
}

static void send_beginning(struct wire *wire)
{
	static const uint8_t settings[] = {
		0, SETTING_PUSH,   0,	 0,    0,    0,	   /* none */
		0, SETTING_WINDOW, 0x7f, 0xff, 0xff, 0xff, /* WINDOW_MAX */
	};

	(void)conn_send(&wire->link.conn, SPAN(H2_PREFACE));
	(void)send_frame(wire, FRAME_SETTINGS, 0, span_make(settings, sizeof(settings)));
	send_window(wire, WINDOW_MAX - WINDOW_DEFAULT);
}

static struct span choose_block(struct wire *wire, const struct wire_request *request)
{
	if (!wire->has_table)
		return span_make(request->plain, request->plain_len);
	if (wire->next_id == 1)
		return span_make(request->first, request->first_len);
	return span_make(request->next, request->next_len);
}

/* Head and block of at most WIRE_BLOCK_MAX bytes, then the body: one append when it is small. */
static int send_request(struct wire *wire, int32_t id, struct span block, struct span body)
{
	uint8_t bytes[2 * HEAD_BYTES + WIRE_BLOCK_MAX];
	bool has_body = body.len > 0;
	size_t at = HEAD_BYTES + block.len;
	int code;

	put_head(bytes, block.len, FRAME_HEADERS,
		 (uint8_t)(FLAG_END_HEADERS | (has_body ? 0 : FLAG_END_STREAM)), id);
	memcpy(bytes + HEAD_BYTES, block.data, block.len);
	for (;;) {
		size_t part = body.len < wire->frame_max ? body.len : wire->frame_max;

		if (has_body) {
			put_head(bytes + at, part, FRAME_DATA,
				 part == body.len ? FLAG_END_STREAM : 0, id);
			at += HEAD_BYTES;
		}
		code = conn_send(&wire->link.conn, span_make(bytes, at));
		if (code == 0 && part > 0)
			code = conn_send(&wire->link.conn, span_first(body, part));
		if (code || part == body.len)
			return code;
		body = span_from(body, part);
		at = 0;
	}
}

int wire_ask(struct wire *wire, struct wire_stream *stream, const struct wire_request *request,
	     struct span body)
{
	/* a place may still be held by an old, slow stream: ids may be left out */
	while (wire->streams[((uint32_t)wire->next_id >> 1) & wire->stream_mask] &&
	       wire->next_id < INT32_MAX - 2)
		wire->next_id += 2;
	if (wire->is_broken || wire->next_id >= INT32_MAX - 2 || body.len > wire->stream_window)
		return -EPIPE;
	if ((int64_t)body.len > wire->window) {
		wire->is_blocked = true;
		return -EAGAIN;
	}
	int code = send_request(wire, wire->next_id, choose_block(wire, request), body);

	if (code)
		return code;
	stream->id = wire->next_id;
	wire->streams[((uint32_t)stream->id >> 1) & wire->stream_mask] = stream;
	wire->window -= (int64_t)body.len;
	wire->next_id += 2;
	return 0;
}

/* ---- frames in ---- */

static void wire_fail(struct wire *wire, const char *why)
{
	if (wire->is_broken)
		return;
	wire->is_broken = true;
	lane_fail(wire_lane(wire), "HTTP/2: %s", why);
	conn_close(&wire->link.conn);
}

static struct wire_stream *find_stream(const struct wire *wire, int32_t id)
{
	struct wire_stream *stream =
		id > 0 ? wire->streams[((uint32_t)id >> 1) & wire->stream_mask] : NULL;

	return stream && stream->id == id ? stream : NULL;
}

static void end_stream(struct wire *wire, struct wire_stream *stream, bool reset)
{
	wire->streams[((uint32_t)stream->id >> 1) & wire->stream_mask] = NULL;
	stream->id = 0;
	wire->handler->ended(wire, stream, reset);
}

/* Takes padding and priority off. */
static bool strip(struct span *content, uint8_t flags)
{
	size_t front = flags & FLAG_PADDED ? 1 : 0;
	size_t padding = front && content->len > 0 ? content->data[0] : 0;

	if (flags & FLAG_PRIORITY)
		front += 5;
	if (front + padding > content->len)
		return false;
	*content = span_make(content->data + front, content->len - front - padding);
	return true;
}

static void take_data(struct wire *wire, int32_t id, uint8_t flags, struct span content)
{
	struct wire_stream *stream = find_stream(wire, id);

	wire->taken_bytes += content.len;
	if (wire->taken_bytes >= GIVE_BACK_BYTES) {
		send_window(wire, (uint32_t)wire->taken_bytes);
		wire->taken_bytes = 0;
	}
	if (!stream || !strip(&content, flags & FLAG_PADDED)) {
		wire_fail(wire, "DATA of no open stream, or malformed");
		return;
	}
	if (content.len > 0)
		wire->handler->data(wire, stream, content);
	if (flags & FLAG_END_STREAM && !wire->is_broken)
		end_stream(wire, stream, false);
}

static void take_field(void *context, struct span name, struct span value)
{
	struct wire_head *head = context;
	uint64_t number;

	if (span_equal(name, SPAN(":status")) && span_to_uint64(value, &number) && number < 1000)
		head->status = (int16_t)number;
	else if (span_equal(name, SPAN("grpc-status")))
		head->grpc_status =
			span_to_uint64(value, &number) && number < 17 ? (int16_t)number : 2;
	else if (span_equal(name, SPAN("content-type")))
		head->is_grpc = span_starts_with(value, SPAN("application/grpc"));
}

/* Returns NULL when it cannot be decoded. */
static const struct wire_head *decode(struct wire *wire, struct span bytes)
{
	for (size_t i = 0; i < WIRE_BLOCKS; i++) {
		const struct wire_block *block = &wire->blocks[i];

		if (block->len == bytes.len && block->version == wire->table_version &&
		    memcmp(block->bytes, bytes.data, bytes.len) == 0)
			return &block->head;
	}
	struct wire_block *block = &wire->blocks[wire->block_next++ % WIRE_BLOCKS];

	*block = (struct wire_block){.head = {.grpc_status = -1}};
	if (hpack_decode(wire->hpack, bytes, take_field, &block->head) != 0)
		return NULL;
	if (!hpack_is_neutral(bytes)) {
		wire->table_version++;
	} else if (bytes.len <= sizeof(block->bytes)) {
		block->version = wire->table_version;
		block->len = (uint16_t)bytes.len;
		memcpy(block->bytes, bytes.data, bytes.len);
	}
	return &block->head;
}

static void take_block(struct wire *wire, int32_t id, bool is_end, struct span bytes)
{
	struct wire_stream *stream = find_stream(wire, id);
	const struct wire_head *head = bytes.len > 0 ? decode(wire, bytes) : NULL;

	if (!head || !stream) {
		wire_fail(wire, "a header block of no open stream, or one that cannot be decoded");
		return;
	}
	wire->handler->head(wire, stream, head);
	if (is_end && !wire->is_broken)
		end_stream(wire, stream, false);
}

static void take_headers(struct wire *wire, int32_t id, uint8_t flags, struct span content)
{
	if (wire->fragments_id || !strip(&content, flags)) {
		wire_fail(wire, "malformed HEADERS");
		return;
	}
	if (flags & FLAG_END_HEADERS) {
		take_block(wire, id, flags & FLAG_END_STREAM, content);
		return;
	}
	wire->fragments_id = id;
	wire->fragments_end = flags & FLAG_END_STREAM;
	buf_clear(&wire->fragments, FRAGMENTS_MAX);
	buf_append(&wire->fragments, content);
}

static void take_continuation(struct wire *wire, int32_t id, uint8_t flags, struct span content)
{
	buf_append(&wire->fragments, content);
	if (id != wire->fragments_id || id == 0 || wire->fragments.failed) {
		wire_fail(wire, "CONTINUATION out of place, or too much of it");
		return;
	}
	if (!(flags & FLAG_END_HEADERS))
		return;
	wire->fragments_id = 0;
	take_block(wire, id, wire->fragments_end, buf_span(&wire->fragments));
}

static void take_settings(struct wire *wire, uint8_t flags, struct span content)
{
	if (flags & FLAG_ACK)
		return;
	if (content.len % 6 != 0) {
		wire_fail(wire, "malformed SETTINGS");
		return;
	}
	for (size_t at = 0; at < content.len; at += 6) {
		uint32_t value = get_uint32(content.data + at + 2);

		switch (content.data[at] << 8 | content.data[at + 1]) {
		case SETTING_TABLE_BYTES:
			wire->has_table = value >= TABLE_BYTES;
			break;
		case SETTING_STREAMS:
			wire->max_streams = value;
			break;
		case SETTING_WINDOW:
			wire->stream_window = value;
			break;
		case SETTING_FRAME_BYTES:
			wire->frame_max = value;
			break;
		}
	}
	(void)send_frame(wire, FRAME_SETTINGS, FLAG_ACK, SPAN_EMPTY);
	if (wire->has_settings)
		return;
	wire->has_settings = true;
	wire->handler->ready(wire);
}

static void take_window(struct wire *wire, int32_t id, struct span content)
{
	/* a request's own window is never used up: wire_ask refuses larger ones */
	if (id != 0 || content.len != 4)
		return;
	wire->window += get_uint32(content.data) & INT32_MAX;
	if (!wire->is_blocked)
		return;
	wire->is_blocked = false;
	wire->handler->resumed(wire);
}

static void take_frame(struct wire *wire, const uint8_t *head, struct span content)
{
	int32_t id = (int32_t)(get_uint32(head + 5) & INT32_MAX);
	uint8_t type = head[3], flags = head[4];
	struct wire_stream *stream;

	switch (type) {
	case FRAME_DATA:
		take_data(wire, id, flags, content);
		break;
	case FRAME_HEADERS:
		take_headers(wire, id, flags, content);
		break;
	case FRAME_CONTINUATION:
		take_continuation(wire, id, flags, content);
		break;
	case FRAME_RST_STREAM:
		stream = find_stream(wire, id);
		if (stream)
			end_stream(wire, stream, true);
		break;
	case FRAME_SETTINGS:
		take_settings(wire, flags, content);
		break;
	case FRAME_PING:
		if (!(flags & FLAG_ACK))
			(void)send_frame(wire, FRAME_PING, FLAG_ACK, content);
		break;
	case FRAME_GOAWAY:
		if (!wire_lane(wire)->is_stopping)
			wire_fail(wire, "the server said GOAWAY");
		break;
	case FRAME_WINDOW_UPDATE:
		take_window(wire, id, content);
		break;
	case FRAME_PUSH_PROMISE:
		wire_fail(wire, "PUSH_PROMISE was not allowed");
		break;
	}
}

static size_t frame_bytes(const uint8_t *head)
{
	return HEAD_BYTES + ((size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2]);
}

/* Completes the frame that the transport cut. Returns the bytes taken for it. */
static size_t take_rest(struct wire *wire, struct span bytes)
{
	struct buf *partial = &wire->partial;
	size_t taken = 0;

	while (taken < bytes.len) {
		size_t wanted = partial->len < HEAD_BYTES ? HEAD_BYTES : frame_bytes(partial->data);
		size_t part = wanted - partial->len;

		if (part > bytes.len - taken)
			part = bytes.len - taken;
		buf_append(partial, span_make(bytes.data + taken, part));
		taken += part;
		if (partial->failed) {
			wire_fail(wire, "a frame larger than allowed");
			return taken;
		}
		if (partial->len < HEAD_BYTES || partial->len < frame_bytes(partial->data))
			continue;
		take_frame(wire, partial->data, span_from(buf_span(partial), HEAD_BYTES));
		buf_clear(partial, HEAD_BYTES + FRAME_BYTES_MAX);
		return taken;
	}
	return taken;
}

static void wire_received(struct conn *conn, struct span bytes)
{
	struct wire *wire = CONTAINER_OF(link_of(conn), struct wire, link);

	if (wire->partial.len > 0)
		bytes = span_from(bytes, take_rest(wire, bytes));
	while (!wire->is_broken && bytes.len >= HEAD_BYTES &&
	       frame_bytes(bytes.data) <= bytes.len) {
		size_t frame = frame_bytes(bytes.data);

		take_frame(wire, bytes.data,
			   span_make(bytes.data + HEAD_BYTES, frame - HEAD_BYTES));
		bytes = span_from(bytes, frame);
	}
	if (!wire->is_broken && bytes.len > 0)
		(void)take_rest(wire, bytes);
}

/* ---- life ---- */

static void wire_connected(struct link *link)
{
	send_beginning(CONTAINER_OF(link, struct wire, link));
}

static void wire_closed(struct conn *conn, enum conn_end end, int error)
{
	struct wire *wire = CONTAINER_OF(link_of(conn), struct wire, link);

	(void)end;
	(void)error;
	wire->is_broken = true;
	wire->handler->closed(wire);
}

static const struct link_handler wire_link_handler = {
	.conn = {.received = wire_received, .closed = wire_closed},
	.connected = wire_connected,
};

int wire_open(struct wire *wire, struct lane *lane, uint32_t number, uint32_t streams_max,
	      const struct wire_handler *handler)
{
	uint32_t places = 2;

	while (places < 2 * streams_max)
		places *= 2;
	*wire = (struct wire){
		.handler = handler,
		.streams = calloc(places, sizeof(struct wire_stream *)),
		.stream_mask = places - 1,
		.next_id = 1,
		.has_table = true,
		.max_streams = UINT32_MAX,
		.frame_max = FRAME_BYTES_MAX,
		.stream_window = WINDOW_DEFAULT,
		.window = WINDOW_DEFAULT,
	};
	buf_init(&wire->partial, HEAD_BYTES + FRAME_BYTES_MAX);
	buf_init(&wire->fragments, FRAGMENTS_MAX);
	if (!wire->streams || hpack_create(&wire->hpack) != 0)
		return -ENOMEM;
	link_open(&wire->link, lane, number, &wire_link_handler);
	return 0;
}

void wire_close(struct wire *wire)
{
	wire->is_broken = true;
	link_close(&wire->link);
}

void wire_free(struct wire *wire)
{
	hpack_destroy(wire->hpack);
	buf_finish(&wire->partial);
	buf_finish(&wire->fragments);
	free(wire->streams);
}
