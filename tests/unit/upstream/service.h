/* service: a scripted gRPC service on the worker that the test turns, made of h2 server sessions
 * over conn. */
#ifndef UNIT_UPSTREAM_SERVICE_H
#define UNIT_UPSTREAM_SERVICE_H

#include "unit/net/harness.h"

#include "codec/grpc.h"
#include "codec/h2.h"
#include "net/conn.h"
#include "net/listener.h"

#include <netinet/tcp.h>

enum script {
	SCRIPT_ECHO,
	SCRIPT_HANG,
	SCRIPT_STATUS,	      /* trailers only, service.status and service.status_message */
	SCRIPT_LATE_STATUS,   /* headers and a message, then the status in trailers */
	SCRIPT_REFUSE,	      /* RST_STREAM REFUSED_STREAM */
	SCRIPT_REFUSE_ONCE,   /* only the first call */
	SCRIPT_RESET,	      /* RST_STREAM service.reset_code */
	SCRIPT_GOAWAY_UNSEEN, /* the first call: GOAWAY with a last id below it */
	SCRIPT_GOAWAY_SEEN,   /* GOAWAY with its id, then the echo */
	SCRIPT_CLOSE,	      /* closes the connection */
	SCRIPT_WRONG_TYPE,    /* text/html */
	SCRIPT_HTTP_ERROR,    /* :status 503 */
	SCRIPT_NO_STATUS,     /* a message, END_STREAM, no trailers */
	SCRIPT_NO_MESSAGE,    /* OK without a message */
	SCRIPT_TWO_MESSAGES,
	SCRIPT_LARGE,	     /* service.large_bytes */
	SCRIPT_STREAM,	     /* stream_messages of large_bytes, then service.status */
	SCRIPT_HALF_MESSAGE, /* a prefix that promises more than comes */
	SCRIPT_BAD_ENCODING,
};

enum health_script { HEALTH_SERVING, HEALTH_NOT_SERVING, HEALTH_UNIMPLEMENTED, HEALTH_HANGS };

struct service {
	struct worker *worker;
	struct listener listener;
	int fd;
	uint16_t port;
	struct list peers;
	bool listening;

	enum script script;
	enum health_script health;
	enum grpc_status status;
	const char *status_message;
	uint32_t reset_code;
	size_t large_bytes, stream_messages;
	uint32_t max_concurrent_streams;
	bool is_mute; /* accepts and reads, never says a word */
	bool is_deaf; /* of peers that are there: bytes are dropped unread, PINGs too */

	unsigned connections, calls, checks, pings, cancelled, open_calls, open_calls_max;
	char last_timeout[32], last_request_id[64], last_authority[64], last_type[64],
		last_user_agent[64], last_extra[64];
	bool scripted_once;
};

struct peer {
	struct conn conn;
	struct list link;
	struct service *service;
	struct h2_session *session;
	unsigned calls;
};

struct served {
	struct h2_stream h2;
	struct peer *peer;
	bool is_check, is_answered;
	struct buf body;
};

/* ---- answers ---- */

static struct payload *service_message(struct span bytes)
{
	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + bytes.len);

	assert_non_null(payload);
	grpc_write_prefix(payload->data, (uint32_t)bytes.len);
	if (bytes.len > 0)
		memcpy(payload->data + GRPC_PREFIX_BYTES, bytes.data, bytes.len);
	return payload;
}

static void service_push(struct served *served, struct span message)
{
	struct payload *payload = service_message(message);

	assert_int_equal(h2_stream_push(&served->h2, (struct payload_slice){.payload = payload,
									    .len = payload->len}),
			 0);
	payload_put(payload);
}

static void service_headers(struct served *served, const char *status, const char *type,
			    const char *encoding)
{
	struct h2_header headers[3] = {
		{SPAN(":status"), span_from_cstr(status)},
		{SPAN("content-type"), span_from_cstr(type)},
		{SPAN("grpc-encoding"), span_from_cstr(encoding)},
	};

	assert_int_equal(h2_respond(&served->h2, headers, encoding ? 3 : 2, false), 0);
}

static void service_trailers(struct served *served, enum grpc_status status, const char *text)
{
	char number[8];
	struct h2_header trailers[2] = {
		{SPAN("grpc-status"),
		 span_make(number, (size_t)snprintf(number, sizeof(number), "%d", (int)status))},
		{SPAN("grpc-message"), span_from_cstr(text)},
	};

	assert_int_equal(h2_stream_finish(&served->h2, trailers, text ? 2 : 1), 0);
}

static void service_trailers_only(struct served *served, enum grpc_status status, const char *text)
{
	char number[8];
	struct h2_header headers[4] = {
		{SPAN(":status"), SPAN("200")},
		{SPAN("content-type"), SPAN("application/grpc")},
		{SPAN("grpc-status"),
		 span_make(number, (size_t)snprintf(number, sizeof(number), "%d", (int)status))},
		{SPAN("grpc-message"), span_from_cstr(text)},
	};

	assert_int_equal(h2_respond(&served->h2, headers, text ? 4 : 3, true), 0);
}

static void service_echo(struct served *served)
{
	service_headers(served, "200", "application/grpc", NULL);
	service_push(served, span_from(buf_span(&served->body), GRPC_PREFIX_BYTES));
	service_trailers(served, GRPC_OK, NULL);
}

static void service_large(struct served *served, size_t bytes)
{
	uint8_t *message = calloc(1, bytes);

	assert_non_null(message);
	service_headers(served, "200", "application/grpc", NULL);
	service_push(served, span_make(message, bytes));
	service_trailers(served, GRPC_OK, NULL);
	free(message);
}

static void service_stream(struct served *served)
{
	const struct service *service = served->peer->service;
	uint8_t *message = calloc(1, service->large_bytes);

	assert_non_null(message);
	service_headers(served, "200", "application/grpc", NULL);
	for (size_t i = 0; i < service->stream_messages; i++) {
		memset(message, (int)('a' + i % 26), service->large_bytes);
		service_push(served, span_make(message, service->large_bytes));
	}
	service_trailers(served, service->status, service->status_message);
	free(message);
}

static void service_half_message(struct served *served)
{
	struct payload *payload = payload_copy(SPAN("\0\0\0\0\x09half"));

	service_headers(served, "200", "application/grpc", NULL);
	h2_stream_push(&served->h2,
		       (struct payload_slice){.payload = payload, .len = payload->len});
	payload_put(payload);
	service_trailers(served, GRPC_OK, NULL);
}

/* ---- the script ---- */

static void service_answer_check(struct served *served)
{
	struct service *service = served->peer->service;

	service->checks++;
	switch (service->health) {
	case HEALTH_SERVING:
	case HEALTH_NOT_SERVING:
		service_headers(served, "200", "application/grpc+proto", NULL);
		service_push(served, service->health == HEALTH_SERVING ? SPAN("\x08\x01")
								       : SPAN("\x08\x02"));
		service_trailers(served, GRPC_OK, NULL);
		break;
	case HEALTH_UNIMPLEMENTED:
		service_trailers_only(served, GRPC_UNIMPLEMENTED, "no such service");
		break;
	case HEALTH_HANGS:
		break;
	}
}

static void service_answer_wrongly(struct served *served)
{
	switch (served->peer->service->script) {
	case SCRIPT_WRONG_TYPE:
		service_headers(served, "200", "text/html", NULL);
		service_push(served, SPAN("x"));
		service_trailers(served, GRPC_OK, NULL);
		break;
	case SCRIPT_HTTP_ERROR:
		service_headers(served, "503", "text/html", NULL);
		h2_stream_finish(&served->h2, NULL, 0);
		break;
	case SCRIPT_NO_STATUS:
		service_headers(served, "200", "application/grpc", NULL);
		service_push(served, SPAN("x"));
		h2_stream_finish(&served->h2, NULL, 0);
		break;
	case SCRIPT_NO_MESSAGE:
		service_headers(served, "200", "application/grpc", NULL);
		service_trailers(served, GRPC_OK, NULL);
		break;
	case SCRIPT_TWO_MESSAGES:
		service_headers(served, "200", "application/grpc", NULL);
		service_push(served, SPAN("one"));
		service_push(served, SPAN("two"));
		service_trailers(served, GRPC_OK, NULL);
		break;
	case SCRIPT_BAD_ENCODING:
		service_headers(served, "200", "application/grpc", "zstd");
		service_push(served, SPAN("x"));
		service_trailers(served, GRPC_OK, NULL);
		break;
	default:
		fail_msg("a script that nobody plays");
	}
}

static void service_answer(struct served *served)
{
	struct peer *peer = served->peer;
	struct service *service = peer->service;
	bool is_first = !service->scripted_once;

	service->scripted_once = true;
	switch (service->script) {
	case SCRIPT_ECHO:
		service_echo(served);
		break;
	case SCRIPT_HANG:
		break;
	case SCRIPT_STATUS:
		service_trailers_only(served, service->status, service->status_message);
		break;
	case SCRIPT_LATE_STATUS:
		service_headers(served, "200", "application/grpc", NULL);
		service_push(served, SPAN("dropped"));
		service_trailers(served, service->status, service->status_message);
		break;
	case SCRIPT_REFUSE:
	case SCRIPT_REFUSE_ONCE:
		if (is_first || service->script == SCRIPT_REFUSE)
			h2_stream_reset(&served->h2, H2_REFUSED_STREAM);
		else
			service_echo(served);
		break;
	case SCRIPT_RESET:
		h2_stream_reset(&served->h2, service->reset_code);
		break;
	case SCRIPT_GOAWAY_UNSEEN:
		if (!is_first) {
			service_echo(served);
			break;
		}
		/* GOAWAY, no error, last id 0: by hand, for a session would name the id that it has
		 * seen */
		conn_send(&peer->conn, SPAN("\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0"));
		break;
	case SCRIPT_GOAWAY_SEEN:
		h2_goaway(peer->session, H2_NO_ERROR, SPAN_EMPTY);
		service_echo(served);
		break;
	case SCRIPT_CLOSE:
		conn_close(&peer->conn);
		break;
	case SCRIPT_LARGE:
		service_large(served, service->large_bytes);
		break;
	case SCRIPT_STREAM:
		service_stream(served);
		break;
	case SCRIPT_HALF_MESSAGE:
		service_half_message(served);
		break;
	default:
		service_answer_wrongly(served);
	}
}

/* ---- h2 ---- */

static struct h2_stream *service_opened(struct h2_session *session, int32_t stream_id)
{
	struct served *served = calloc(1, sizeof(*served));

	(void)stream_id;
	assert_non_null(served);
	served->peer = h2_session_owner(session);
	buf_init(&served->body, 8u << 20);
	return &served->h2;
}

static void service_keep(char *to, size_t size, struct span value)
{
	snprintf(to, size, "%.*s", SPAN_ARGS(value));
}

static int service_header(struct h2_stream *stream, struct span name, struct span value)
{
	struct served *served = CONTAINER_OF(stream, struct served, h2);
	struct service *service = served->peer->service;

	if (span_equal(name, SPAN(":path")))
		served->is_check = span_equal(value, SPAN("/grpc.health.v1.Health/Check"));
	if (span_equal(name, SPAN("grpc-timeout")))
		service_keep(service->last_timeout, sizeof(service->last_timeout), value);
	if (span_equal(name, SPAN("x-request-id")))
		service_keep(service->last_request_id, sizeof(service->last_request_id), value);
	if (span_equal(name, SPAN(":authority")))
		service_keep(service->last_authority, sizeof(service->last_authority), value);
	if (span_equal(name, SPAN("user-agent")))
		service_keep(service->last_user_agent, sizeof(service->last_user_agent), value);
	if (span_equal(name, SPAN("x-extra")))
		service_keep(service->last_extra, sizeof(service->last_extra), value);
	if (span_equal(name, SPAN("content-type")))
		service_keep(service->last_type, sizeof(service->last_type), value);
	return 0;
}

static void service_headers_done(struct h2_stream *stream, enum h2_headers_kind kind,
				 bool end_stream)
{
	(void)stream, (void)kind, (void)end_stream;
}

static void service_data(struct h2_stream *stream, struct span bytes)
{
	struct served *served = CONTAINER_OF(stream, struct served, h2);

	assert_int_equal(buf_append(&served->body, bytes), 0);
	h2_consume(stream, bytes.len);
}

static void service_ended(struct h2_stream *stream)
{
	struct served *served = CONTAINER_OF(stream, struct served, h2);
	struct service *service = served->peer->service;

	if (served->is_check) {
		service_answer_check(served);
		return;
	}
	service->calls++;
	served->peer->calls++;
	if (++service->open_calls > service->open_calls_max)
		service->open_calls_max = service->open_calls;
	served->is_answered = true;
	service_answer(served);
}

static void service_stream_closed(struct h2_stream *stream, uint32_t code)
{
	struct served *served = CONTAINER_OF(stream, struct served, h2);

	if (served->is_answered)
		served->peer->service->open_calls--;
	if (code == H2_CANCEL && !served->is_check)
		served->peer->service->cancelled++;
	buf_finish(&served->body);
	free(served);
}

static void service_pinged(struct h2_session *session)
{
	struct peer *peer = h2_session_owner(session);

	peer->service->pings++;
}

static const struct h2_handler service_h2 = {
	.opened = service_opened,
	.header = service_header,
	.headers_done = service_headers_done,
	.data = service_data,
	.ended = service_ended,
	.closed = service_stream_closed,
	.pinged = service_pinged,
};

/* ---- conn ---- */

static void peer_received(struct conn *conn, struct span bytes)
{
	struct peer *peer = CONTAINER_OF(conn, struct peer, conn);

	if (peer->service->is_mute || peer->service->is_deaf)
		return;
	if (h2_receive(peer->session, bytes) != 0)
		conn_close(conn);
	conn_wants_flush(conn);
}

static void peer_produce(struct conn *conn)
{
	struct peer *peer = CONTAINER_OF(conn, struct peer, conn);
	const struct sink sink = conn_sink(conn);

	if (peer->service->is_mute)
		return;
	if (h2_produce(peer->session, &sink) != 0)
		conn_close(conn);
	else if (h2_is_finished(peer->session))
		conn_finish_sending(conn);
}

static void peer_closed(struct conn *conn, enum conn_end end, int error)
{
	struct peer *peer = CONTAINER_OF(conn, struct peer, conn);

	(void)end, (void)error;
	h2_session_destroy(peer->session);
	list_remove(&peer->link);
	free(peer);
}

static const struct conn_handler peer_handler = {
	.received = peer_received,
	.produce = peer_produce,
	.closed = peer_closed,
};

static void service_accepted(struct listener *listener, struct file_ref file,
			     const struct address *from)
{
	struct service *service = listener->context;
	struct peer *peer = calloc(1, sizeof(*peer));
	const struct conn_options conn_options = {
		.queue_bytes_max = 16u << 20,
		.queue_bytes_room = 8u << 20,
		.linger_ms = 100,
	};
	const struct h2_options h2_options = {
		.role = H2_SERVER,
		.max_concurrent_streams = service->max_concurrent_streams,
		.stream_window_bytes = 1u << 20,
		.connection_window_bytes = 4u << 20,
		.max_header_list_bytes = 16384,
		.max_frame_bytes = 16384,
	};

	(void)from;
	assert_non_null(peer);
	service->connections++;
	peer->service = service;
	list_push_back(&service->peers, &peer->link);
	assert_int_equal(h2_session_create(&peer->session, &h2_options, &service_h2, peer), 0);
	assert_int_equal(
		conn_open(&peer->conn, service->worker, file, &peer_handler, &conn_options), 0);
	conn_wants_flush(&peer->conn);
}

static void service_listener_stopped(struct listener *listener)
{
	struct service *service = listener->context;

	service->listening = false;
	close(service->fd);
}

/* ---- life ---- */

/* On this port, or on a free one (0). */
__attribute__((unused)) static void service_listen(struct service *service, uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(port),
	};
	socklen_t len = sizeof(address);

	service->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(service->fd >= 0);
	harness_set_int(service->fd, SOL_SOCKET, SO_REUSEADDR, 1);
	harness_set_int(service->fd, IPPROTO_TCP, TCP_NODELAY, 1); /* no frame waits for an ACK */
	assert_int_equal(bind(service->fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(service->fd, 64), 0);
	assert_int_equal(getsockname(service->fd, (struct sockaddr *)&address, &len), 0);
	service->port = ntohs(address.sin_port);
	service->listener = (struct listener){
		.name = "service",
		.accepted = service_accepted,
		.stopped = service_listener_stopped,
		.context = service,
	};
	assert_int_equal(listener_start(&service->listener, service->worker, service->fd, false),
			 0);
	service->listening = true;
}

__attribute__((unused)) static void service_start(struct service *service, struct worker *worker)
{
	*service = (struct service){.worker = worker, .max_concurrent_streams = 100};
	list_init(&service->peers);
	service_listen(service, 0);
}

__attribute__((unused)) static void service_close_peers(struct service *service)
{
	LIST_FOR_EACH (&service->peers, node)
		conn_close(&CONTAINER_OF(node, struct peer, link)->conn);
	TURN_UNTIL(service->worker, list_is_empty(&service->peers));
}

__attribute__((unused)) static void service_unlisten(struct service *service)
{
	listener_stop(&service->listener);
	TURN_UNTIL(service->worker, !service->listening);
}

__attribute__((unused)) static void service_stop(struct service *service)
{
	if (service->listening)
		service_unlisten(service);
	service_close_peers(service);
}

#endif
