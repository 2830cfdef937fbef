#include "base/check.h"
#include "base/fsm.h"
#include "log/log.h"
#include "upstream/grpc_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUE_ROOM_BYTES (256u << 10) /* a full turn of a busy worker is a fraction of it */
#define QUEUE_BYTES_MAX                                                                            \
	(QUEUE_ROOM_BYTES + (64u << 10)) /* and one frame, and what the last produce left */

/* An answer is consumed as it comes; the windows only cover the way to a far service. */
#define STREAM_WINDOW_BYTES	(1u << 20)
#define CONNECTION_WINDOW_BYTES (4u << 20)
#define HEADER_LIST_BYTES_MAX	16384

#define LEAVE_MS  1000 /* for our GOAWAY to leave, and the peer's FIN */
#define USEFUL_MS 2000 /* ready for so long counts as use even if nothing was called */

/*
 * Silence: a peer that is gone without a word (a pulled cable, a frozen host) does not answer a
 * PING. Servers end connections that ping too much; those with gRPC's own defaults forgive two
 * PINGs between any of their HEADERS or DATA, and more only after five minutes.
 */
#define SILENCE_MS	     10000
#define SUSPECT_MS	     500 /* silent for so long when a call runs out of time */
#define PING_TIMEOUT_MS	     2000
#define UNREWARDED_PINGS_MAX 2
#define PING_PAUSE_MS	     300000

static const char *const state_names[LINK_STATES] = {
	[LINK_NEW] = "new",	    [LINK_GREETING] = "greeting", [LINK_READY] = "ready",
	[LINK_LEAVING] = "leaving", [LINK_CLOSING] = "closing",
};

static const uint32_t state_moves[LINK_STATES] = {
	[LINK_NEW] = FSM_TO(LINK_GREETING),
	[LINK_GREETING] = FSM_TO(LINK_READY) | FSM_TO(LINK_CLOSING),
	[LINK_READY] = FSM_TO(LINK_LEAVING) | FSM_TO(LINK_CLOSING),
	[LINK_LEAVING] = FSM_TO(LINK_CLOSING),
};

static const struct fsm link_fsm = {
	.name = "upstream link",
	.state_count = LINK_STATES,
	.state_names = state_names,
	.moves = state_moves,
};

static void link_move(struct upstream_link *link, enum link_state next)
{
	fsm_move(&link_fsm, &link->state, (uint8_t)next);
}

static struct worker *worker_of(const struct upstream_link *link)
{
	return link->backend->upstream->worker;
}

bool link_has_room(const struct upstream_link *link)
{
	return link->state == LINK_READY && h2_request_room(link->session) > 0;
}

void link_flush(struct upstream_link *link)
{
	conn_wants_flush(&link->conn);
}

/* ---- the end ---- */

static void leave_dialer(struct upstream_link *link, enum dialer_loss loss)
{
	struct dialer *dialer = link->dialer;

	link->dialer = NULL;
	if (dialer)
		dialer_lost(dialer, loss);
}

static enum dialer_loss judge_loss(const struct upstream_link *link, bool was_ready)
{
	if (was_ready &&
	    (link->has_answered || worker_of(link)->now_ms - link->ready_ms >= USEFUL_MS))
		return LOSS_BROKEN;
	return LOSS_FAILED;
}

static void fail_streams(struct upstream_link *link)
{
	/* `done` may start and cancel calls, but none is started here any more */
	while (!list_is_empty(&link->streams))
		stream_fail(CONTAINER_OF(link->streams.next, struct upstream_stream, link),
			    UPSTREAM_UNAVAILABLE, GRPC_UNAVAILABLE);
}

static void drop(struct upstream_link *link, enum dialer_loss loss, bool politely)
{
	bool was_ready = link->state == LINK_READY;

	link_move(link, LINK_CLOSING);
	deadline_disarm(worker_of(link), &link->deadline);
	if (was_ready)
		backend_lose(link->backend);
	leave_dialer(link, loss);
	fail_streams(link);
	if (!politely || !conn_is_open(&link->conn)) {
		conn_close(&link->conn);
		return;
	}
	h2_goaway(link->session, H2_NO_ERROR, SPAN_EMPTY);
	deadline_arm(worker_of(link), &link->deadline, LEAVE_MS);
	link_flush(link);
}

void link_drop(struct upstream_link *link, const char *why, bool politely)
{
	if (link->state == LINK_CLOSING)
		return;

	bool was_ready = link->state == LINK_READY;

	if (link->dialer && !link->backend->upstream->is_stopping)
		backend_log(link->backend, LOG_WARN,
			    was_ready ? "connection lost" : "cannot connect", why);
	drop(link, judge_loss(link, was_ready), politely);
}

void link_settle(struct upstream_link *link)
{
	if (link->state == LINK_LEAVING && h2_open_stream_count(link->session) == 0)
		drop(link, LOSS_GRACEFUL, true);
	upstream_pump_later(link->backend->upstream);
}

/* ---- what h2 hears ---- */

void link_settings(struct upstream_link *link)
{
	if (link->state == LINK_GREETING) {
		link_move(link, LINK_READY);
		deadline_disarm(worker_of(link), &link->deadline);
		link->ready_ms = worker_of(link)->now_ms;
		link->dialer->was_silent = false;
		backend_log(link->backend, LOG_INFO, "connected", "");
		backend_gain(link->backend);
	}
	upstream_pump_later(link->backend->upstream);
}

static void log_goaway(const struct upstream_link *link, uint32_t code)
{
	char why[64];

	snprintf(why, sizeof(why), "GOAWAY with error %u", code);
	backend_log(link->backend, LOG_WARN, "the service ends the connection", why);
}

void link_goaway(struct upstream_link *link, int32_t last_stream_id, uint32_t code)
{
	bool is_useful =
		link->has_answered || worker_of(link)->now_ms - link->ready_ms >= USEFUL_MS;

	LIST_FOR_EACH (&link->streams, node) {
		struct upstream_stream *stream = CONTAINER_OF(node, struct upstream_stream, link);

		stream->is_unseen |= stream->h2.id > last_stream_id;
	}
	if (link->state != LINK_READY)
		return;
	if (code != H2_NO_ERROR)
		log_goaway(link, code);
	link_move(link, LINK_LEAVING);
	backend_lose(link->backend);
	if (code == H2_NO_ERROR)
		leave_dialer(link, is_useful ? LOSS_GRACEFUL : LOSS_EARLY);
	else
		leave_dialer(link, is_useful ? LOSS_BROKEN : LOSS_FAILED);
	link_settle(link);
}

void link_heard(struct upstream_link *link)
{
	link->has_answered = true;
	link->unrewarded_pings = 0;
}

/* ---- silence ---- */

static void ping(struct upstream_link *link)
{
	static const uint8_t opaque[8] = "ringway";
	uint64_t now_ms = worker_of(link)->now_ms;
	bool may_ping = link->unrewarded_pings < UNREWARDED_PINGS_MAX ||
			now_ms - link->pinged_ms >= PING_PAUSE_MS;

	if (link->ping_is_out)
		return;
	if (!may_ping || h2_ping(link->session, opaque) != 0) {
		deadline_arm(worker_of(link), &link->deadline, SILENCE_MS);
		link_flush(link); /* without memory that is the session's end */
		return;
	}
	link->ping_is_out = true;
	link->pinged_ms = now_ms;
	link->unrewarded_pings++;
	deadline_arm(worker_of(link), &link->deadline, PING_TIMEOUT_MS);
	link_flush(link);
}

static bool is_in_use(const struct upstream_link *link)
{
	return link->state == LINK_READY || link->state == LINK_LEAVING;
}

void link_watch(struct upstream_link *link)
{
	if (!deadline_is_armed(&link->deadline))
		deadline_arm(worker_of(link), &link->deadline, SILENCE_MS);
}

void link_suspect(struct upstream_link *link)
{
	if (is_in_use(link) && worker_of(link)->now_ms - link->received_ms >= SUSPECT_MS)
		ping(link);
}

/* Calls are in flight, or were when the deadline was armed. */
static void judge_silence(struct upstream_link *link)
{
	uint64_t silent_ms = worker_of(link)->now_ms - link->received_ms;

	if (COUNT_IF(link->ping_is_out, &link->backend->upstream->metrics.silent)) {
		backend_log(link->backend, LOG_WARN, "connection lost",
			    "no answer, not even to a PING");
		drop(link, LOSS_SILENT, false);
	} else if (h2_open_stream_count(link->session) == 0) {
		return;
	} else if (silent_ms >= SILENCE_MS) {
		ping(link);
	} else {
		deadline_arm(worker_of(link), &link->deadline, SILENCE_MS - silent_ms);
	}
}

static void expired(struct deadline *deadline)
{
	struct upstream_link *link = CONTAINER_OF(deadline, struct upstream_link, deadline);

	switch ((enum link_state)link->state) {
	case LINK_GREETING:
		backend_log(link->backend, LOG_WARN, "cannot connect",
			    "the connection was accepted, but no HTTP/2 SETTINGS came in time");
		drop(link, LOSS_SILENT, false);
		break;
	case LINK_READY:
	case LINK_LEAVING:
		judge_silence(link);
		break;
	case LINK_CLOSING:
		conn_close(&link->conn);
		break;
	case LINK_NEW:
	case LINK_STATES:
		UNREACHABLE("the deadline is armed by link_open");
	}
}

/* ---- the bytes ---- */

static struct upstream_link *link_of(struct conn *conn)
{
	return CONTAINER_OF(conn, struct upstream_link, conn);
}

static void on_received(struct conn *conn, struct span bytes)
{
	struct upstream_link *link = link_of(conn);

	if (link->state == LINK_CLOSING)
		return;
	link->received_ms = worker_of(link)->now_ms;
	link->ping_is_out = false;

	int code = h2_receive(link->session, bytes);

	if (COUNT_IF(code == -EPROTO, &link->backend->upstream->metrics.protocol_errors))
		link_drop(link, "what came is no HTTP/2, or against its rules", true);
	else if (code)
		link_drop(link, "out of memory for what came", false);
	link_flush(link);
}

static void on_peer_finished(struct conn *conn)
{
	link_drop(link_of(conn), "closed by the service", false);
}

static void on_produce(struct conn *conn)
{
	struct upstream_link *link = link_of(conn);
	const struct sink sink = conn_sink(conn);
	int code = h2_produce(link->session, &sink);

	if (code && link->state == LINK_CLOSING)
		conn_close(conn);
	else if (code)
		link_drop(link, "out of memory for what is to be sent", false);
	else if (link->state == LINK_CLOSING && !h2_wants_produce(link->session))
		conn_finish_sending(conn);
	else if (h2_is_finished(link->session))
		link_drop(link, "the HTTP/2 session is over", false);
}

static const char *end_text(enum conn_end end)
{
	switch (end) {
	case CONN_END_LOCAL:
		return "closed by us";
	case CONN_END_PEER:
		return "closed by the service";
	case CONN_END_RESET:
		return "connection broken";
	case CONN_END_TIMEOUT:
		return "the transport gave up";
	case CONN_END_RESOURCE:
		return "out of memory or operations";
	case CONN_END_SECURITY:
		return "refused by TLS";
	}
	UNREACHABLE("every end has its text");
}

static void on_closed(struct conn *conn, enum conn_end end, int error)
{
	struct upstream_link *link = link_of(conn);
	struct upstream *upstream = link->backend->upstream;

	(void)error;
	link_drop(link, end_text(end), false);
	deadline_disarm(upstream->worker, &link->deadline);
	list_remove(&link->link);
	link_destroy(link);
	upstream_settle_later(upstream);
}

static const struct conn_handler conn_handler = {
	.received = on_received,
	.peer_finished = on_peer_finished,
	.produce = on_produce,
	.closed = on_closed,
};

/* ---- the beginning ---- */

struct upstream_link *link_create(struct dialer *dialer)
{
	const struct h2_options options = {
		.role = H2_CLIENT,
		.stream_window_bytes = STREAM_WINDOW_BYTES,
		.connection_window_bytes = CONNECTION_WINDOW_BYTES,
		.max_header_list_bytes = HEADER_LIST_BYTES_MAX,
		.max_frame_bytes = 16384,
		.memory = dialer->backend->upstream->h2_memory,
	};
	struct upstream_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	if (h2_session_create(&link->session, &options, &upstream_h2_handler, link) != 0) {
		free(link);
		return NULL;
	}
	link->dialer = dialer;
	link->backend = dialer->backend;
	list_init(&link->link);
	list_init(&link->streams);
	deadline_init(&link->deadline, expired);
	return link;
}

void link_destroy(struct upstream_link *link)
{
	h2_session_destroy(link->session);
	free(link);
}

int link_open(struct upstream_link *link, struct file_ref file, uint32_t greeting_ms)
{
	static const struct conn_options options = {
		.queue_bytes_max = QUEUE_BYTES_MAX,
		.queue_bytes_room = QUEUE_ROOM_BYTES,
		.linger_ms = LEAVE_MS,
	};
	struct upstream *upstream = link->backend->upstream;
	int code = conn_open(&link->conn, upstream->worker, file, &conn_handler, &options);

	if (code)
		return code;
	link_move(link, LINK_GREETING);
	link->serial = ++upstream->link_serial;
	link->received_ms = upstream->worker->now_ms;
	list_push_back(&link->backend->links, &link->link);
	deadline_arm(upstream->worker, &link->deadline, greeting_ms);
	link_flush(link);
	return 0;
}
