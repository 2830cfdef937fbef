#include "edge/face_h2.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>

/* gRPC channels put all calls on one connection; a browser or proxy has no use for more than 128.
 */
#define STREAMS_GRPC_MAX   1000
#define STREAMS_PUBLIC_MAX 128
/*
 * Consumed as soon as received: the windows bound what is on its way, not what is in memory. 256
 * KiB is 100 MB/s at 2.5 ms, and 16 such streams share a connection.
 */
#define STREAM_WINDOW_BYTES	(256u << 10)
#define CONNECTION_WINDOW_BYTES (4u << 20)
#define FRAME_BYTES_MAX		16384 /* RFC 9113 §6.5.2, the least that may be offered */

/* Between the two GOAWAYs, if the PING that marks a round trip is not answered sooner. */
#define DRAIN_NOTICE_MS 1000

static const uint8_t drain_mark[8] = {'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'};

static const struct h2_handler handler;

void http2_wake(struct http2 *http2)
{
	if (!http2->is_busy)
		conn_wants_flush(&http2->connection->conn);
}

/* ---- the end ---- */

/* Calls that are still open are cancelled. Not inside the session's callbacks. */
static void http2_finish(struct http2 *http2)
{
	struct h2_session *session = http2->session;

	http2->session = NULL;
	h2_session_destroy(session);
	conn_finish_sending(&http2->connection->conn);
}

/* Idle on a port for browsers and REST clients; a gRPC channel may rest as long as it likes. */
static void update_idle(struct http2 *http2)
{
	struct server *server = http2->connection->server;
	bool is_idle =
		list_is_empty(&http2->calls) && (server->options.protocols & SERVER_GRPC) == 0;

	if (http2->has_noticed || is_idle == http2->idle_armed)
		return;
	http2->idle_armed = is_idle;
	if (is_idle)
		deadline_arm(server->worker, &http2->connection->deadline,
			     server->options.config->http_idle_timeout_ms);
	else
		deadline_disarm(server->worker, &http2->connection->deadline);
}

/* After frames were taken or handed out. */
static void http2_settle(struct http2 *http2)
{
	if (!http2->session)
		return;
	if (h2_is_finished(http2->session) && !h2_wants_produce(http2->session))
		http2_finish(http2);
	else
		update_idle(http2);
}

/* ---- frames out ---- */

static int sink_bytes(void *context, struct span bytes)
{
	return conn_send(context, bytes);
}

static int sink_slice(void *context, struct payload_slice slice)
{
	return conn_send_slice(context, slice);
}

static bool sink_has_room(void *context)
{
	return conn_has_room(context);
}

/* Returns 0, or a negative errno: nothing more can be sent. */
static int hand_out(struct http2 *http2)
{
	struct h2_sink sink = {
		.bytes = sink_bytes,
		.slice = sink_slice,
		.has_room = sink_has_room,
		.context = &http2->connection->conn,
	};
	struct list now;
	struct list *link;

	/* A call that asks again meanwhile is for the next turn. */
	list_init(&now);
	list_splice_back(&now, &http2->attention);
	http2->is_busy = true;
	while ((link = list_pop_front(&now)) != NULL)
		call_attend(CONTAINER_OF(link, struct call, attention));

	int code = h2_produce(http2->session, &sink);

	http2->is_busy = false;
	if (!list_is_empty(&http2->attention))
		http2_wake(http2);
	return code;
}

static void http2_produce(struct connection *connection)
{
	struct http2 *http2 = connection->http2;

	if (!http2->session)
		return;
	if (hand_out(http2) != 0) {
		connection_set_outcome(connection, OUTCOME_RESOURCE);
		conn_close(&connection->conn);
		return;
	}
	http2_settle(http2);
}

/* ---- frames in ---- */

static void http2_received(struct connection *connection, struct span bytes)
{
	struct http2 *http2 = connection->http2;

	if (!http2->session)
		return;

	int code = h2_receive(http2->session, bytes);

	if (code == 0) {
		if (h2_wants_produce(http2->session))
			http2_wake(http2);
		http2_settle(http2);
		return;
	}
	if (code != -ENOMEM)
		account_glitch(connection->server->account, GLITCH_HTTP2);
	connection_set_outcome(connection, code == -ENOMEM ? OUTCOME_RESOURCE : OUTCOME_PROTOCOL);
	/* The GOAWAY that says why. */
	(void)hand_out(http2);
	http2_finish(http2);
}

static void http2_peer_finished(struct connection *connection)
{
	connection_set_outcome(connection, OUTCOME_PEER);
	conn_close(&connection->conn);
}

/* ---- draining ---- */

/* No stream is begun from now on. What lives until its service ends it is ended here. */
static void http2_goaway(struct http2 *http2)
{
	if (http2->has_goaway)
		return;
	http2->has_noticed = http2->has_goaway = true;
	deadline_disarm(http2->connection->server->worker, &http2->connection->deadline);
	h2_goaway(http2->session, H2_NO_ERROR, SPAN_EMPTY);
	LIST_FOR_EACH (&http2->calls, link)
		call_end_long_lived(CONTAINER_OF(link, struct call, link));
	http2_wake(http2);
}

/*
 * A client may have begun streams that have not arrived: the first GOAWAY refuses none, the second
 * comes a round trip later. Source: RFC 9113 §6.8.
 */
static void http2_drain(struct connection *connection)
{
	struct http2 *http2 = connection->http2;

	if (!http2->session || http2->has_noticed)
		return;
	http2->has_noticed = true;
	h2_shutdown_notice(http2->session);
	deadline_arm(connection->server->worker, &connection->deadline, DRAIN_NOTICE_MS);
	if (h2_ping(http2->session, drain_mark) != 0)
		http2_goaway(http2);
	http2_wake(http2);
}

static void http2_ping_acked(struct h2_session *session, const uint8_t opaque[8])
{
	struct connection *connection = h2_session_owner(session);

	if (connection->http2->has_noticed && memcmp(opaque, drain_mark, sizeof(drain_mark)) == 0)
		http2_goaway(connection->http2);
}

/* Idle too long, or the round trip of draining took too long. */
static void http2_expired(struct connection *connection)
{
	struct http2 *http2 = connection->http2;

	if (!http2->session)
		return;
	http2->idle_armed = false;
	http2_goaway(http2);
}

/* ---- life ---- */

static void http2_release(struct connection *connection)
{
	struct http2 *http2 = connection->http2;

	if (http2->session)
		h2_session_destroy(http2->session);
	CHECK(list_is_empty(&http2->calls) && http2->body_bytes == 0);
	free(http2);
}

static const struct h2_handler handler = {
	.opened = call_open,
	.header = call_take_header,
	.headers_done = call_take_headers,
	.data = call_take_data,
	.ended = call_take_end,
	.pull = call_pull,
	.closed = call_closed,
	.ping_acked = http2_ping_acked,
};

const struct face face_h2 = {
	.received = http2_received,
	.peer_finished = http2_peer_finished,
	.produce = http2_produce,
	.expired = http2_expired,
	.drain = http2_drain,
	.release = http2_release,
};

int http2_open(struct connection *connection)
{
	struct server *server = connection->server;
	bool is_grpc = (server->options.protocols & SERVER_GRPC) != 0;
	struct h2_options options = {
		.role = H2_SERVER,
		.max_concurrent_streams = is_grpc ? STREAMS_GRPC_MAX : STREAMS_PUBLIC_MAX,
		.stream_window_bytes = STREAM_WINDOW_BYTES,
		.connection_window_bytes = CONNECTION_WINDOW_BYTES,
		.max_header_list_bytes = (uint32_t)server->options.config->http_max_header_bytes,
		.max_frame_bytes = FRAME_BYTES_MAX,
		.copied_bytes = server->options.copied_bytes,
	};
	struct http2 *http2 = calloc(1, sizeof(*http2));

	if (!http2)
		return -ENOMEM;
	http2->connection = connection;
	list_init(&http2->calls);
	list_init(&http2->attention);
	if (h2_session_create(&http2->session, &options, &handler, connection) != 0) {
		free(http2);
		return -ENOMEM;
	}
	connection->http2 = http2;
	deadline_disarm(server->worker, &connection->deadline);
	http2_wake(http2);
	return 0;
}
