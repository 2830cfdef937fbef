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
#define LEAVE_NOTICE_MS 1000

static const uint8_t leave_mark[8] = {'l', 'e', 'a', 'v', 'i', 'n', 'g', 0};
static const uint8_t alive_mark[8] = {'a', 'l', 'i', 'v', 'e', '?', 0, 0};

static const struct h2_handler handler;
static void http2_goaway(struct http2 *http2);

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
	deadline_disarm(http2->connection->server->worker, &http2->connection->deadline);
	h2_session_destroy(session);
	conn_finish_sending(&http2->connection->conn);
}

/* When what is awaited must be there. It is an hour away at most. */
static uint64_t awaited_ms(const struct http2 *http2, uint64_t now_ms)
{
	return now_ms + (uint64_t)(int64_t)(int32_t)(http2->awaited_ms - (uint32_t)now_ms);
}

/*
 * What keeps a connection from being idle, and from being served, must come in the time that a
 * request's header has: the client's SETTINGS, and the end of a header block.
 */
static void http2_await(struct http2 *http2)
{
	const struct server *server = http2->connection->server;
	enum h2_header_progress header = h2_header_progress(http2->session);
	bool is_new = header == H2_HEADER_BEGUN || !http2->is_awaiting;

	http2->is_awaiting = !http2->has_settings || header != H2_HEADER_WHOLE;
	if (http2->is_awaiting && is_new)
		http2->awaited_ms = (uint32_t)(server->worker->now_ms +
					       server->options.config->http_header_timeout_ms);
}

/* The next thing that is due by the clock. A deadline that is too early is left: it costs one look,
 * and nothing is moved with every frame. */
static void http2_arm(struct http2 *http2)
{
	struct connection *connection = http2->connection;
	uint64_t now_ms = connection->server->worker->now_ms;
	uint64_t next_ms = manners_next_ms(&http2->manners);

	if (http2->has_noticed && !http2->has_goaway && http2->notice_ms < next_ms)
		next_ms = http2->notice_ms;
	if (http2->is_awaiting && awaited_ms(http2, now_ms) < next_ms)
		next_ms = awaited_ms(http2, now_ms);
	if (next_ms >= http2->armed_ms)
		return;
	http2->armed_ms = next_ms;
	deadline_arm(connection->server->worker, &connection->deadline,
		     next_ms > now_ms ? next_ms - now_ms : 0);
}

/* After frames were taken or handed out. */
static void http2_settle(struct http2 *http2)
{
	if (!http2->session)
		return;

	/* To nghttp2 it is over with the notice, if there is no stream; the second step is to come.
	 */
	bool is_between = http2->has_noticed && !http2->has_goaway;

	if (!is_between && h2_is_finished(http2->session) && !h2_wants_produce(http2->session)) {
		http2_finish(http2);
		return;
	}
	manners_note_calls(&http2->manners, !list_is_empty(&http2->calls),
			   http2->connection->server->worker->now_ms);
	/* what the notice was for is over: nobody is waited for */
	if (http2->connection->draining && list_is_empty(&http2->calls))
		http2_goaway(http2);
	http2_arm(http2);
}

/* ---- frames out ---- */

/* Returns 0, or a negative errno: nothing more can be sent. */
static int hand_out(struct http2 *http2)
{
	const struct sink sink = conn_sink(&http2->connection->conn);
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

/* With the GOAWAY that says why, if there is room for it. */
static void http2_end(struct http2 *http2)
{
	(void)hand_out(http2);
	http2_finish(http2);
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
	if (http2->is_punished)
		http2_finish(http2);
	else
		http2_settle(http2);
}

/* ---- frames in ---- */

static void http2_received(struct connection *connection, struct span bytes)
{
	struct http2 *http2 = connection->http2;

	if (!http2->session)
		return;

	manners_note_bytes(&http2->manners, connection->server->worker->now_ms);

	int code = h2_receive(http2->session, bytes);

	if (code == 0) {
		http2_await(http2);
		if (h2_wants_produce(http2->session))
			http2_wake(http2);
		http2_settle(http2);
		return;
	}
	if (code != -ENOMEM && !http2->is_punished)
		account_glitch(connection->server->account, GLITCH_HTTP2);
	connection_set_outcome(connection, code == -ENOMEM ? OUTCOME_RESOURCE : OUTCOME_PROTOCOL);
	http2_end(http2);
}

static void http2_peer_finished(struct connection *connection)
{
	connection_set_outcome(connection, OUTCOME_PEER);
	conn_close(&connection->conn);
}

/* ---- leaving ---- */

static void end_long_lived(struct http2 *http2)
{
	LIST_FOR_EACH (&http2->calls, link)
		call_end_long_lived(CONTAINER_OF(link, struct call, link));
}

/*
 * The second step: no stream is begun from now on. Calls go on to their end; at shutdown, what
 * lives until its service ends it is ended here.
 */
static void http2_goaway(struct http2 *http2)
{
	if (http2->has_goaway)
		return;
	http2->has_noticed = http2->has_goaway = true;
	manners_note_leaving(&http2->manners);
	h2_goaway(http2->session, H2_NO_ERROR, SPAN_EMPTY);
	if (http2->connection->draining)
		end_long_lived(http2);
	http2_wake(http2);
}

/*
 * A client may have begun streams that have not arrived: the first GOAWAY refuses none, the second
 * comes a round trip later. Source: RFC 9113 §6.8.
 */
static void http2_notice(struct http2 *http2)
{
	if (http2->has_noticed)
		return;
	http2->has_noticed = true;
	http2->notice_ms = http2->connection->server->worker->now_ms + LEAVE_NOTICE_MS;
	manners_note_leaving(&http2->manners);
	h2_shutdown_notice(http2->session);
	if (h2_ping(http2->session, leave_mark) != 0)
		http2_goaway(http2);
	http2_wake(http2);
}

/* Whether an answer is owed: to a call that ends by itself. */
static bool is_asked(const struct http2 *http2)
{
	LIST_FOR_EACH (&http2->calls, link) {
		const struct route *route = CONTAINER_OF(link, struct call, link)->request.route;

		if (!route || !route->long_lived)
			return true;
	}
	return false;
}

/* Else there is nothing to wait for: of a stream begun meanwhile the client knows that it was not
 * served. */
static void http2_drain(struct connection *connection)
{
	struct http2 *http2 = connection->http2;

	if (!http2->session)
		return;
	http2_notice(http2);
	if (!is_asked(http2)) {
		connection_hurry(connection);
		http2_goaway(http2);
	}
	if (http2->has_goaway)
		end_long_lived(http2);
	http2_arm(http2);
}

static bool http2_owes(const struct connection *connection)
{
	LIST_FOR_EACH (&connection->http2->calls, link)
		if (call_is_owed(CONTAINER_OF(link, struct call, link)))
			return true;
	return false;
}

static void http2_ping_acked(struct h2_session *session, const uint8_t opaque[8])
{
	struct connection *connection = h2_session_owner(session);

	if (connection->http2->has_noticed && memcmp(opaque, leave_mark, sizeof(leave_mark)) == 0)
		http2_goaway(connection->http2);
}

/* ---- manners ---- */

/*
 * The connection ends, its calls with it: once the callbacks of its session are left, and though
 * its client reads nothing.
 */
static void http2_punish(struct http2 *http2, enum glitch glitch, struct span reason)
{
	http2->is_punished = true;
	account_glitch(http2->connection->server->account, glitch);
	connection_set_outcome(http2->connection, OUTCOME_PROTOCOL);
	h2_goaway(http2->session, H2_ENHANCE_YOUR_CALM, reason);
	http2_wake(http2);
	deadline_arm(http2->connection->server->worker, &http2->connection->deadline, 0);
}

static void http2_pinged(struct h2_session *session)
{
	struct connection *connection = h2_session_owner(session);
	struct http2 *http2 = connection->http2;

	if (http2->is_punished || !manners_take_ping(&http2->manners, h2_answer_count(session),
						     connection->server->worker->now_ms))
		return;
	http2_punish(http2, GLITCH_PINGS, SPAN("too_many_pings"));
}

void http2_take_glitch(struct http2 *http2, enum glitch glitch)
{
	struct account *account = http2->connection->server->account;
	uint64_t now_ms = http2->connection->server->worker->now_ms;

	/* what its end brings about is not the client's doing */
	if (!http2->session || http2->is_punished)
		return;

	enum glitches_verdict verdict =
		glitches_take(&http2->glitches, glitch, h2_answer_count(http2->session), now_ms);

	if (verdict != GLITCHES_PAID)
		account_glitch(account, glitch);
	if (verdict == GLITCHES_TOO_MANY)
		http2_punish(http2, GLITCH_SCORE, SPAN("too_many_glitches"));
}

static void http2_odd(struct h2_session *session, enum h2_oddity oddity)
{
	static const enum glitch glitches[H2_ODD_COUNT] = {
		[H2_ODD_PING] = GLITCH_PING,
		[H2_ODD_SETTINGS] = GLITCH_SETTINGS,
		[H2_ODD_PRIORITY] = GLITCH_PRIORITY,
		[H2_ODD_UNKNOWN_FRAME] = GLITCH_UNKNOWN_FRAME,
		[H2_ODD_CONTINUATION] = GLITCH_CONTINUATION,
		[H2_ODD_EMPTY_DATA] = GLITCH_EMPTY_DATA,
		[H2_ODD_SMALL_FRAME] = GLITCH_SMALL_FRAME,
		[H2_ODD_SMALL_WINDOW] = GLITCH_SMALL_WINDOW,
		[H2_ODD_HEADER_LIST] = GLITCH_HEADER_LIST,
		[H2_ODD_LATE_HEADERS] = GLITCH_LATE_HEADERS,
		[H2_ODD_REFUSED] = GLITCH_REFUSED,
		[H2_ODD_STREAM_ERROR] = GLITCH_STREAM_ERROR,
	};
	struct connection *connection = h2_session_owner(session);

	CHECK(oddity != H2_ODD_NOTHING);
	http2_take_glitch(connection->http2, glitches[oddity]);
}

/* A client that gives up what it has just begun, before the whole answer was on its way. */
void http2_note_closed(struct http2 *http2, const struct call *call, uint32_t code)
{
	const struct h2_stream *stream = &call->stream;
	uint64_t age_us = call->request.worker->now_us - call->request.started_us;

	if (code == H2_NO_ERROR || stream->is_reset || stream->is_faulted || stream->local_ended)
		return;
	if (age_us < (uint64_t)GLITCHES_YOUNG_MS * 1000)
		http2_take_glitch(http2, GLITCH_RESET);
}

static void http2_settings(struct h2_session *session)
{
	struct connection *connection = h2_session_owner(session);

	connection->http2->has_settings = true;
}

/* Returns whether the connection is still there. */
static bool http2_do_due(struct http2 *http2, enum manners_due due)
{
	struct connection *connection = http2->connection;

	switch (due) {
	case MANNERS_NOTHING:
		break;
	case MANNERS_PING:
		/* Without memory for it the client is asked nothing, and found dead. */
		(void)h2_ping(http2->session, alive_mark);
		http2_wake(http2);
		break;
	case MANNERS_DEAD:
		account_glitch(connection->server->account, GLITCH_KEEPALIVE);
		connection_set_outcome(connection, OUTCOME_TIMEOUT);
		conn_close(&connection->conn);
		return false;
	case MANNERS_AGED:
	case MANNERS_IDLE:
		http2_notice(http2);
		break;
	}
	return true;
}

static void http2_expired(struct connection *connection)
{
	struct http2 *http2 = connection->http2;
	uint64_t now_ms = connection->server->worker->now_ms;
	enum manners_due due;

	if (!http2->session)
		return;
	http2->armed_ms = MANNERS_NEVER;
	if (http2->is_awaiting && now_ms >= awaited_ms(http2, now_ms)) {
		connection_set_outcome(connection, OUTCOME_TIMEOUT);
		http2_punish(http2, GLITCH_TIMEOUT, SPAN("header_timeout"));
	}
	if (http2->is_punished) {
		http2_end(http2);
		return;
	}
	if (http2->has_noticed && !http2->has_goaway && now_ms >= http2->notice_ms)
		http2_goaway(http2);
	do {
		due = manners_due(&http2->manners, now_ms);
		if (!http2_do_due(http2, due))
			return;
	} while (due != MANNERS_NOTHING);
	http2_arm(http2);
}

/* ---- life ---- */

static void http2_release(struct connection *connection)
{
	struct http2 *http2 = connection->http2;
	struct h2_session *session = http2->session;

	http2->session = NULL;
	if (session)
		h2_session_destroy(session);
	CHECK(list_is_empty(&http2->calls) && http2->body_bytes + http2->answer_bytes == 0);
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
	.pinged = http2_pinged,
	.settings = http2_settings,
	.odd = http2_odd,
};

const struct face face_h2 = {
	.received = http2_received,
	.peer_finished = http2_peer_finished,
	.produce = http2_produce,
	.expired = http2_expired,
	.drain = http2_drain,
	.owes = http2_owes,
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
		.memory = server->h2_memory,
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
	http2->armed_ms = MANNERS_NEVER;
	manners_init(&http2->manners, server->options.config, is_grpc, server->worker->now_ms,
		     server_random(server));
	glitches_init(&http2->glitches, server->worker->now_ms);
	http2_await(http2);
	http2_arm(http2);
	http2_wake(http2);
	return 0;
}
