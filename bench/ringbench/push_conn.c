#include "push_conn.h"

#include "base/check.h"
#include "codec/h2.h"
#include "net/socket.h"
#include "push_crew.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

/* RFC 9113 §4.1, §6 */
#define HEAD_BYTES 9
#define FRAME_MAX  16384

enum { TYPE_DATA, TYPE_HEADERS, TYPE_PRIORITY, TYPE_RST_STREAM, TYPE_SETTINGS, TYPE_PUSH,
       TYPE_PING, TYPE_GOAWAY, TYPE_WINDOW_UPDATE, TYPE_CONTINUATION };

#define FLAG_ACK	 0x1
#define FLAG_END_STREAM  0x1
#define FLAG_END_HEADERS 0x4
#define FLAG_PADDED	 0x8
#define FLAG_PRIORITY	 0x20

#define SETTING_TABLE_SIZE 1
#define SETTING_ENABLE_PUSH 2
#define SETTING_WINDOW	   4

#define WINDOW_MAX     0x7fffffffu
#define WINDOW_DEFAULT 65535u
#define WINDOW_RENEW   (1u << 30) /* half of it is used up */

#define STALLED_RECEIVE_BYTES 8192 /* the kernel doubles it */

#define PATH "/galaxy.gateway.v1.EdgeGateway/SubscribeEvents"

/* ---- frames out ---- */

static uint8_t *put_uint32(uint8_t *at, uint32_t value)
{
	*at++ = (uint8_t)(value >> 24);
	*at++ = (uint8_t)(value >> 16);
	*at++ = (uint8_t)(value >> 8);
	*at++ = (uint8_t)value;
	return at;
}

static uint8_t *put_head(uint8_t *at, uint32_t len, const uint8_t type_flags[2], uint32_t stream)
{
	*at++ = (uint8_t)(len >> 16);
	*at++ = (uint8_t)(len >> 8);
	*at++ = (uint8_t)len;
	*at++ = type_flags[0];
	*at++ = type_flags[1];
	return put_uint32(at, stream);
}

static uint8_t *put_setting(uint8_t *at, uint8_t id, uint32_t value)
{
	*at++ = 0;
	*at++ = id;
	return put_uint32(at, value);
}

static uint8_t *put_span(uint8_t *at, struct span bytes)
{
	memcpy(at, bytes.data, bytes.len);
	return at + bytes.len;
}

/* A string literal as HPACK has it, not Huffman coded; below 127 bytes. */
static uint8_t *put_text(uint8_t *at, struct span text)
{
	*at++ = (uint8_t)text.len;
	return put_span(at, text);
}

struct push_out *push_opening_make(size_t cap)
{
	struct push_out *out = calloc(1, sizeof(*out) + cap);

	if (!out)
		return NULL;
	out->cap = cap;

	uint8_t *at = put_span(out->data, SPAN(H2_PREFACE));

	at = put_head(at, 18, (const uint8_t[]){TYPE_SETTINGS, 0}, 0);
	at = put_setting(at, SETTING_TABLE_SIZE, 0);
	at = put_setting(at, SETTING_ENABLE_PUSH, 0);
	at = put_setting(at, SETTING_WINDOW, WINDOW_MAX);
	at = put_head(at, 4, (const uint8_t[]){TYPE_WINDOW_UPDATE, 0}, 0);
	at = put_uint32(at, WINDOW_MAX - WINDOW_DEFAULT);
	out->len = (size_t)(at - out->data);
	return out;
}

/* RFC 7541 §6.2.2 and appendix A: names from the static table, nothing indexed anew. */
static uint8_t *put_request_block(uint8_t *at, struct span authority)
{
	*at++ = 0x83; /* :method POST */
	*at++ = 0x86; /* :scheme http */
	*at++ = 0x04; /* :path */
	at = put_text(at, SPAN(PATH));
	*at++ = 0x01; /* :authority */
	at = put_text(at, authority);
	*at++ = 0x0f; /* content-type: 31 in a prefix of 4 bits */
	*at++ = 0x10;
	at = put_text(at, SPAN("application/grpc"));
	*at++ = 0x00;
	at = put_text(at, SPAN("te"));
	return put_text(at, SPAN("trailers"));
}

void push_opening_subscribe(struct push_out *opening, uint32_t index, struct span authority,
			    struct span message)
{
	uint8_t *start = opening->data + opening->len;
	uint8_t *block = start + HEAD_BYTES;
	uint8_t *at = put_request_block(block, authority);
	uint32_t stream = 2 * index + 1;

	CHECK(authority.len < 64);
	put_head(start, (uint32_t)(at - block), (const uint8_t[]){TYPE_HEADERS, FLAG_END_HEADERS},
		 stream);
	at = put_head(at, (uint32_t)message.len, (const uint8_t[]){TYPE_DATA, FLAG_END_STREAM},
		      stream);
	at = put_span(at, message);
	opening->len = (size_t)(at - opening->data);
	CHECK(opening->len <= opening->cap);
}

/* ---- sending ---- */

static void conn_fail(struct push_conn *conn, int error);

static void conn_send_next(struct push_conn *conn)
{
	struct push_out *out = conn->out;

	out->part = (struct iovec){out->data + out->sent, out->len - out->sent};
	out->message = (struct msghdr){.msg_iov = &out->part, .msg_iovlen = 1};

	int code = op_send(conn->crew->worker, &conn->send_op, conn->file, &out->message);

	if (code)
		conn_fail(conn, code);
}

/* A control frame. Without memory the connection is given up. */
static void conn_say(struct push_conn *conn, const uint8_t *bytes, size_t len)
{
	struct push_out *out = conn->queued;

	if (conn->state != PUSH_CONN_OPEN)
		return;
	if (!out || out->cap - out->len < len) {
		size_t cap = (out ? out->len : 0) + len;
		struct push_out *larger = realloc(out, sizeof(*out) + cap);

		if (!larger) {
			conn_fail(conn, -ENOMEM);
			return;
		}
		if (!out)
			memset(larger, 0, sizeof(*larger));
		larger->cap = cap;
		conn->queued = out = larger;
	}
	memcpy(out->data + out->len, bytes, len);
	out->len += len;
	if (conn->out)
		return;
	conn->out = out;
	conn->queued = NULL;
	conn_send_next(conn);
}

static void conn_settle(struct push_conn *conn);

static void send_done(struct op *op, const struct completion *completion)
{
	struct push_conn *conn = CONTAINER_OF(op, struct push_conn, send_op);

	if (conn->state == PUSH_CONN_CLOSING) {
		conn_settle(conn);
		return;
	}
	if (completion->result < 0) {
		conn_fail(conn, completion->result);
		return;
	}
	conn->out->sent += (size_t)completion->result;
	if (conn->out->sent == conn->out->len) {
		free(conn->out);
		conn->out = conn->queued;
		conn->queued = NULL;
	}
	if (conn->out)
		conn_send_next(conn);
}

/* ---- windows ---- */

static void conn_give_back(struct push_conn *conn, uint32_t stream, uint32_t bytes)
{
	uint8_t frame[HEAD_BYTES + 4];
	uint8_t *at = put_head(frame, 4, (const uint8_t[]){TYPE_WINDOW_UPDATE, 0}, stream);

	put_uint32(at, bytes);
	conn_say(conn, frame, sizeof(frame));
}

static inline void conn_use_window(struct push_conn *conn, struct push_stream *stream,
				   uint32_t bytes)
{
	conn->window_used += bytes;
	stream->window_used += bytes;
	if (conn->window_used >= WINDOW_RENEW) {
		conn_give_back(conn, 0, conn->window_used);
		conn->window_used = 0;
	}
	if (stream->window_used >= WINDOW_RENEW) {
		conn_give_back(conn, conn->frame_stream, stream->window_used);
		stream->window_used = 0;
	}
}

/* ---- frames in ---- */

static void conn_lose(struct push_conn *conn, const char *why)
{
	metric_add(&conn->crew->check.wrong, 1);
	push_crew_blame(conn->crew, "%s", why);
	push_conn_close(conn);
}

/* NULL: not one of ours. */
static inline struct push_stream *conn_stream(struct push_conn *conn)
{
	uint32_t id = conn->frame_stream;

	if ((id & 1) == 0 || id / 2 >= conn->stream_count)
		return NULL;
	return &conn->crew->streams[conn->first_stream + id / 2];
}

static void headers_came(struct push_conn *conn, struct span block)
{
	struct push_stream *stream = conn_stream(conn);
	bool is_last = conn->frame_flags & FLAG_END_STREAM;

	if (!stream || !(conn->frame_flags & FLAG_END_HEADERS) ||
	    conn->frame_flags & (FLAG_PADDED | FLAG_PRIORITY))
		conn_lose(conn, "a HEADERS frame as the gateway sends none");
	else
		push_stream_headers(conn->crew, conn, stream, block, is_last);
}

/* Every frame but DATA, whole. */
static void frame_came(struct push_conn *conn, struct span payload)
{
	struct push_stream *stream = conn_stream(conn);
	uint8_t reply[HEAD_BYTES + 8];

	switch (conn->frame_type) {
	case TYPE_HEADERS:
		headers_came(conn, payload);
		break;
	case TYPE_RST_STREAM:
		if (stream)
			push_stream_end(conn->crew, conn, stream, PUSH_STATUS_NONE);
		break;
	case TYPE_SETTINGS:
		if (conn->frame_flags & FLAG_ACK)
			break;
		put_head(reply, 0, (const uint8_t[]){TYPE_SETTINGS, FLAG_ACK}, 0);
		conn_say(conn, reply, HEAD_BYTES);
		break;
	case TYPE_PING:
		if (conn->frame_flags & FLAG_ACK || payload.len != 8)
			break;
		put_span(put_head(reply, 8, (const uint8_t[]){TYPE_PING, FLAG_ACK}, 0), payload);
		conn_say(conn, reply, sizeof(reply));
		break;
	case TYPE_GOAWAY: /* what follows says what becomes of the streams */
	case TYPE_WINDOW_UPDATE:
		break;
	default:
		conn_lose(conn, "a frame of a type that the gateway sends none of");
	}
}

/* Returns false when the connection is given up. */
static bool frame_begin(struct push_conn *conn, const uint8_t *head)
{
	conn->frame_len = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
	conn->frame_left = conn->frame_len;
	conn->frame_type = head[3];
	conn->frame_flags = head[4];
	conn->frame_stream = (uint32_t)(head[5] & 0x7f) << 24 | (uint32_t)head[6] << 16 |
			     (uint32_t)head[7] << 8 | head[8];
	conn->carry_len = 0;
	if (conn->frame_len > FRAME_MAX) {
		conn_lose(conn, "a frame over the limit");
		return false;
	}
	return true;
}

/* Gathers what came in pieces. Returns the whole payload once it is there. */
static bool frame_gather(struct push_conn *conn, struct span part, struct span *payload)
{
	if (conn->carry_len == 0 && conn->frame_left == 0) {
		*payload = part;
		return true;
	}
	if (!conn->carry)
		conn->carry = malloc(FRAME_MAX);
	if (!conn->carry) {
		conn_fail(conn, -ENOMEM);
		return false;
	}
	memcpy(conn->carry + conn->carry_len, part.data, part.len);
	conn->carry_len += (uint32_t)part.len;
	*payload = span_make(conn->carry, conn->carry_len);
	return conn->frame_left == 0;
}

static void data_came(struct push_conn *conn, struct span part)
{
	struct push_stream *stream = conn_stream(conn);

	if (!stream || conn->frame_flags & FLAG_PADDED) {
		conn_lose(conn, "a DATA frame as the gateway sends none");
		return;
	}
	conn_use_window(conn, stream, (uint32_t)part.len);
	push_stream_take(conn->crew, conn, stream, part);
	if (conn->frame_left == 0 && conn->frame_flags & FLAG_END_STREAM)
		push_stream_end(conn->crew, conn, stream, PUSH_STATUS_NONE);
}

/* The frame's payload, as far as it is here. */
static struct span frame_take(struct push_conn *conn, struct span bytes)
{
	size_t take = bytes.len < conn->frame_left ? bytes.len : conn->frame_left;
	struct span part = span_first(bytes, take), payload;

	conn->frame_left -= (uint32_t)take;
	if (conn->frame_type == TYPE_DATA)
		data_came(conn, part);
	else if (frame_gather(conn, part, &payload))
		frame_came(conn, payload);
	return span_from(bytes, take);
}

/* Returns what is left behind the head; nothing when it is not whole yet. */
static struct span head_take(struct push_conn *conn, struct span bytes)
{
	size_t take = HEAD_BYTES - (size_t)conn->head_len;

	if (conn->head_len == 0 && bytes.len >= HEAD_BYTES) {
		frame_begin(conn, bytes.data);
		return span_from(bytes, HEAD_BYTES);
	}
	if (take > bytes.len)
		take = bytes.len;
	memcpy(conn->head + conn->head_len, bytes.data, take);
	conn->head_len = (uint8_t)(conn->head_len + take);
	if (conn->head_len == HEAD_BYTES) {
		conn->head_len = 0;
		frame_begin(conn, conn->head);
	}
	return span_from(bytes, take);
}

static void conn_received(struct push_conn *conn, struct span bytes)
{
	while (bytes.len > 0 && conn->state == PUSH_CONN_OPEN) {
		if (conn->frame_left > 0) {
			bytes = frame_take(conn, bytes);
			continue;
		}
		bytes = head_take(conn, bytes);
		/* a frame without a payload is here already */
		if (conn->head_len == 0 && conn->frame_left == 0 && conn->state == PUSH_CONN_OPEN)
			frame_take(conn, SPAN_EMPTY);
	}
	if (conn->frame_left == 0 && conn->carry) {
		free(conn->carry);
		conn->carry = NULL;
	}
}

/* ---- receiving ---- */

static void conn_listen(struct push_conn *conn)
{
	int code = op_receive(conn->crew->worker, &conn->receive_op, conn->file);

	if (code)
		conn_fail(conn, code);
}

static void receive_starved(struct worker_starved *starved)
{
	struct push_conn *conn = CONTAINER_OF(starved, struct push_conn, starved);

	if (conn->state == PUSH_CONN_OPEN && !conn->receive_op.armed && !conn->stalled)
		conn_listen(conn);
}

static void receive_done(struct op *op, const struct completion *completion)
{
	struct push_conn *conn = CONTAINER_OF(op, struct push_conn, receive_op);
	struct push_crew *crew = conn->crew;

	if (completion->result > 0 && conn->state == PUSH_CONN_OPEN) {
		metric_add(&crew->receives, 1);
		metric_add(&crew->received_bytes, (uint64_t)completion->result);
		crew->check.now_us = crew->worker->clock.monotonic_us(NULL);
		conn_received(conn, completion->bytes);
	}
	if (completion->more)
		return;
	if (conn->state != PUSH_CONN_OPEN)
		conn_settle(conn);
	else if (completion->result == -ENOBUFS)
		worker_starve(crew->worker, &conn->starved);
	else if (completion->result <= 0 && completion->result != -ECANCELED)
		conn_fail(conn, completion->result);
	else if (!conn->stalled)
		conn_listen(conn);
}

/* ---- life ---- */

void push_conn_init(struct push_conn *conn, struct push_crew *crew)
{
	conn->crew = crew;
	conn->file = FILE_NONE;
	conn->receive_op.done = receive_done;
	worker_starved_init(&conn->starved, receive_starved);
}

static void conn_settle(struct push_conn *conn)
{
	if (conn->receive_op.armed || conn->send_op.armed || conn->close_op.armed)
		return;
	free(conn->out);
	free(conn->queued);
	free(conn->carry);
	conn->out = conn->queued = NULL;
	conn->carry = NULL;
	conn->file = FILE_NONE;
	conn->state = PUSH_CONN_CLOSED;
	conn->crew->handler->closed(conn->crew, conn);
}

static void close_done(struct op *op, const struct completion *completion)
{
	struct push_conn *conn = CONTAINER_OF(op, struct push_conn, close_op);

	(void)completion;
	if (!conn->close_wanted) {
		conn_settle(conn);
		return;
	}
	conn->close_wanted = false;
	CHECK(op_shutdown_close(conn->crew->worker, &conn->close_op, conn->file) == 0);
}

static void cancel_done(struct op *op, const struct completion *completion)
{
	struct push_conn *conn = CONTAINER_OF(op, struct push_conn, close_op);

	if (conn->close_wanted) {
		op->done = close_done;
		close_done(op, completion);
	}
}

void push_conn_close(struct push_conn *conn)
{
	struct push_crew *crew = conn->crew;

	if (conn->state != PUSH_CONN_CONNECTING && conn->state != PUSH_CONN_OPEN)
		return;
	conn->state = PUSH_CONN_CLOSING;
	list_remove(&conn->starved.link);
	for (uint32_t i = 0; i < conn->stream_count; i++)
		push_stream_end(crew, conn, &crew->streams[conn->first_stream + i],
				PUSH_STATUS_LOST);
	if (conn->close_op.armed) {
		conn->close_wanted = true;
		return;
	}
	conn->close_op.done = close_done;
	CHECK(op_shutdown_close(crew->worker, &conn->close_op, conn->file) == 0);
}

static void conn_fail(struct push_conn *conn, int error)
{
	push_crew_blame(conn->crew, "a connection ended: %s",
			error ? strerrordesc_np(-error) : "closed by the gateway");
	push_conn_close(conn);
}

static void connect_done(struct op *op, const struct completion *completion)
{
	struct push_conn *conn = CONTAINER_OF(op, struct push_conn, send_op);

	op->done = send_done;
	if (conn->state == PUSH_CONN_CLOSING) {
		conn_settle(conn);
		return;
	}
	if (completion->result < 0) {
		conn_fail(conn, completion->result);
		return;
	}
	conn->state = PUSH_CONN_OPEN;
	conn_listen(conn);
	if (conn->state == PUSH_CONN_OPEN)
		conn_send_next(conn);
}

/* Returns a descriptor or a negative errno. */
static int make_socket(const struct op_address *target, const struct op_address *source,
		       bool is_to_stall)
{
	static const int receive_bytes = STALLED_RECEIVE_BYTES;

	int fd = socket(target->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (target->storage.ss_family == AF_UNIX)
		return fd;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (is_to_stall)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
	if (source->len == 0)
		return fd;
	/* the port is chosen by connect, so that one may serve several targets */
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&source->storage, source->len) == 0)
		return fd;

	int error = errno;

	close(fd);
	return -error;
}

int push_conn_open(struct push_conn *conn, const struct op_address *target,
		   const struct op_address *source, struct push_out *opening)
{
	struct worker *worker = conn->crew->worker;
	int fd = make_socket(target, source, conn->is_to_stall);

	CHECK(conn->state == PUSH_CONN_CLOSED);
	if (fd < 0) {
		free(opening);
		return fd;
	}
	conn->file = ring_adopt(worker->ring, fd);
	conn->send_op.done = connect_done;

	int code = op_connect(worker, &conn->send_op, conn->file, target);

	if (code) {
		socket_discard(worker, conn->file);
		conn->file = FILE_NONE;
		free(opening);
		return code;
	}
	conn->state = PUSH_CONN_CONNECTING;
	conn->out = opening;
	conn->opened_us = worker->clock.monotonic_us(NULL);
	conn->window_used = conn->frame_left = conn->carry_len = 0;
	conn->head_len = 0;
	conn->pending = conn->stream_count;
	conn->stalled = conn->close_wanted = false;
	for (uint32_t i = 0; i < conn->stream_count; i++)
		push_stream_open(&conn->crew->streams[conn->first_stream + i]);
	return 0;
}

void push_conn_stall(struct push_conn *conn)
{
	if (conn->state != PUSH_CONN_OPEN || conn->stalled)
		return;
	conn->stalled = true;
	conn->close_op.done = cancel_done;
	(void)op_cancel(conn->crew->worker, &conn->close_op, &conn->receive_op);
}

void push_conn_unstall(struct push_conn *conn)
{
	if (conn->state != PUSH_CONN_OPEN || !conn->stalled)
		return;
	conn->stalled = false;
	if (!conn->receive_op.armed)
		conn_listen(conn);
}
