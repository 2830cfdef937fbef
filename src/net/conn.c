#include "net/conn.h"

#include "base/check.h"
#include "base/fsm.h"
#include "net/filter.h"
#include "net/pool.h"
#include "net/socket.h"
#include "net/zerocopy.h"

#include <errno.h>

enum conn_state {
	CONN_CLOSED,
	CONN_OPEN,
	CONN_DRAINING,
	CONN_LINGERING,
	CONN_CLOSING,
	CONN_STATES
};

static const char *const state_names[CONN_STATES] = {
	[CONN_CLOSED] = "closed",	[CONN_OPEN] = "open",	    [CONN_DRAINING] = "draining",
	[CONN_LINGERING] = "lingering", [CONN_CLOSING] = "closing",
};

static const uint32_t state_moves[CONN_STATES] = {
	[CONN_CLOSED] = FSM_TO(CONN_OPEN),
	[CONN_OPEN] = FSM_TO(CONN_DRAINING) | FSM_TO(CONN_CLOSING),
	[CONN_DRAINING] = FSM_TO(CONN_LINGERING) | FSM_TO(CONN_CLOSING),
	[CONN_LINGERING] = FSM_TO(CONN_CLOSING),
	[CONN_CLOSING] = FSM_TO(CONN_CLOSED),
};

static const struct fsm conn_fsm = {
	.name = "conn",
	.state_count = CONN_STATES,
	.state_names = state_names,
	.moves = state_moves,
};

/* Only when the operation table is full: room comes with the next completions. */
#define CLOSE_RETRY_MS 10

/* Most sends are a reply or a few; a stalled one should not hold 4 KiB for its iovecs. */
#define SEND_IOV_SMALL 16

struct conn_send {
	/* Only of a zero-copy send, which outlives its place in conn->send. */
	struct op op;
	struct conn *conn;
	struct sendq_pin pin;
	bool has_sent; /* something: its notification tells of copies */

	struct msghdr message;
	enum pool_kind kind;
	struct iovec iov[];
};

_Static_assert(sizeof(struct conn_send) + SEND_IOV_SMALL * sizeof(struct iovec) <=
		       POOL_SEND_SMALL_BYTES,
	       "a small send is one block of the pool");
_Static_assert(sizeof(struct conn_send) + SENDQ_IOV_MAX * sizeof(struct iovec) <=
		       POOL_SEND_LARGE_BYTES,
	       "a large send is one block of the pool");

static void conn_move(struct conn *conn, enum conn_state next)
{
	fsm_move(&conn_fsm, &conn->state, (uint8_t)next);
}

static uint32_t linger_ms(const struct conn *conn)
{
	return conn->options.linger_ms ? conn->options.linger_ms : CONN_LINGER_MS;
}

/* ---- the end ---- */

/*
 * The kernel holds a closed connection's unacknowledged bytes as long as the peer likes, and with
 * them our memory. Returns whether there is one more step to wait for.
 */
static bool conn_reclaim_memory(struct conn *conn)
{
	/* tcp(7): connecting to nothing drops the connection at once, and what it still holds. */
	static const struct op_address nothing = {.storage.ss_family = AF_UNSPEC,
						  .len = sizeof(struct sockaddr)};

	if (conn->zerocopy_pending == 0 || conn->zerocopy_reset)
		return false;
	if (!conn->zerocopy_waited) {
		conn->zerocopy_waited = true;
		deadline_arm(conn->worker, &conn->linger, CONN_ZC_CLOSE_MS);
		return true;
	}
	conn->zerocopy_reset = true;
	return op_connect(conn->worker, &conn->close_op, conn->file, &nothing) == 0;
}

/*
 * A shutdown ends the operations that would keep the socket alive; and before 6.13 a closed direct
 * file lives on until every operation begun before has ended, whose ever it is. It is done by one
 * of the kernel's threads, a few us, so a socket that has no operations goes without where that is
 * enough.
 */
static bool conn_close_is_enough(const struct conn *conn)
{
	return !conn->receive_op.armed && !conn->cancel_op.armed && !conn->send &&
	       conn->zerocopy_pending == 0 &&
	       (!conn->file.direct || ring_get_features(conn->worker->ring)->prompt_close);
}

static void conn_start_close(struct conn *conn)
{
	/* A SHUT_WR may be in flight on the same op: its completion comes back here. */
	if (conn->close_started || conn->close_op.armed)
		return;
	if (conn_reclaim_memory(conn))
		return;

	int code = conn_close_is_enough(conn)
			   ? op_close(conn->worker, &conn->close_op, conn->file)
			   : op_shutdown_close(conn->worker, &conn->close_op, conn->file);

	if (code == 0)
		conn->close_started = true;
	else
		deadline_arm(conn->worker, &conn->linger, CLOSE_RETRY_MS);
}

static void conn_begin_close(struct conn *conn)
{
	conn_move(conn, CONN_CLOSING);
	list_remove(&conn->starved.link);
	list_remove(&conn->flush.link);
	deadline_disarm(conn->worker, &conn->linger);
	if (!conn->send)
		sendq_finish(&conn->queue);
	conn_start_close(conn);
}

static void conn_fail(struct conn *conn, enum conn_end end, int error)
{
	if (conn->state == CONN_CLOSING)
		return;
	/*
	 * Once all is sent and SHUT_WR done, how the peer takes its leave changes nothing; nor what
	 * becomes of the alert after a refusal.
	 */
	if (conn->state != CONN_LINGERING && conn->end != CONN_END_SECURITY) {
		conn->end = (uint8_t)end;
		conn->error = error;
	}
	conn_begin_close(conn);
}

/* An operation of this kind completed with what its table calls fatal. */
static void conn_fail_op(struct conn *conn, uint8_t kind, int error)
{
	if (error == -ETIMEDOUT)
		conn_fail(conn, CONN_END_TIMEOUT, error);
	else if (op_classify(kind, error) == OP_LOCAL_LIMIT)
		conn_fail(conn, CONN_END_RESOURCE, error);
	else
		conn_fail(conn, CONN_END_RESET, error);
}

/* After every last completion: the sweep step says goodbye when nothing is in flight any more. */
static void conn_settle(struct conn *conn)
{
	if (conn->state == CONN_CLOSING && conn->close_done && !conn->receive_op.armed &&
	    !conn->send && conn->zerocopy_pending == 0 && !conn->cancel_op.armed &&
	    !conn->close_op.armed)
		worker_sweep_later(conn->worker, &conn->sweep);
}

static void conn_run_sweep(struct task *task)
{
	struct conn *conn = CONTAINER_OF(task, struct conn, sweep);

	deadline_disarm(conn->worker, &conn->linger);
	conn_move(conn, CONN_CLOSED);
	conn->handler->closed(conn, conn->end, conn->error);
}

static void conn_close_done(struct op *op, const struct completion *completion)
{
	struct conn *conn = CONTAINER_OF(op, struct conn, close_op);

	if (conn->close_started) {
		conn->close_done = true;
		conn_settle(conn);
	} else if (conn->state == CONN_CLOSING) {
		conn_start_close(conn);
	} else if (completion->result < 0) {
		/* The peer was faster: there is no FIN of its to wait for. */
		conn_begin_close(conn);
	}
}

/* ---- receiving ---- */

static void conn_arm_receive(struct conn *conn)
{
	if (conn->state == CONN_CLOSED || conn->state == CONN_CLOSING || conn->receive_paused ||
	    conn->peer_finished || conn->receive_op.armed || conn->cancel_op.armed ||
	    !list_is_empty(&conn->starved.link))
		return;

	int code = op_receive(conn->worker, &conn->receive_op, conn->file);

	if (code)
		conn_fail(conn, CONN_END_RESOURCE, code);
}

static void conn_receive_retry(struct worker_starved *starved)
{
	conn_arm_receive(CONTAINER_OF(starved, struct conn, starved));
}

static void conn_cancel_receive(struct conn *conn)
{
	/* Without a slot for the cancel the receive goes on; its next completion tries again. */
	if (conn->receive_op.armed && !conn->cancel_op.armed)
		(void)op_cancel(conn->worker, &conn->cancel_op, &conn->receive_op);
}

static void conn_cancel_done(struct op *op, const struct completion *completion)
{
	struct conn *conn = CONTAINER_OF(op, struct conn, cancel_op);

	/*
	 * Whether it was found or had completed: the receive's own last completion tells what
	 * happened.
	 */
	(void)completion;
	conn_arm_receive(conn);
	conn_settle(conn);
}

static void conn_start_draining(struct conn *conn, enum conn_end end)
{
	conn_move(conn, CONN_DRAINING);
	conn->end = (uint8_t)end;
	conn->receive_paused = false;
	conn_arm_receive(conn);
	if (conn->state != CONN_DRAINING)
		return;
	deadline_arm(conn->worker, &conn->linger, linger_ms(conn));
	worker_flush_later(conn->worker, &conn->flush);
}

/* Ours to say goodbye, in the filter's words too. */
static void conn_take_leave(struct conn *conn, enum conn_end end)
{
	if (conn->filter)
		conn->filter->ops->finish(conn->filter);
	/* Unless the goodbye failed. */
	if (conn->state == CONN_OPEN)
		conn_start_draining(conn, end);
}

static void conn_take_peer_end(struct conn *conn)
{
	conn->peer_finished = true;
	if (conn->state == CONN_LINGERING)
		conn_begin_close(conn);
	else if (conn->state == CONN_OPEN && conn->handler->peer_finished)
		conn->handler->peer_finished(conn);
	else if (conn->state == CONN_OPEN)
		conn_take_leave(conn, CONN_END_PEER);
}

static void conn_take_fin(struct conn *conn)
{
	bool was_told = conn->peer_finished;

	if (!conn->filter || conn->state != CONN_OPEN) {
		conn_take_peer_end(conn);
		return;
	}
	conn->peer_finished = true;
	if (!was_told)
		conn->filter->ops->cut_off(conn->filter);
}

static void conn_take_bytes(struct conn *conn, struct span bytes)
{
	if (conn->counters)
		metric_add(&conn->counters->received_bytes, bytes.len);
	if (conn->state != CONN_OPEN)
		return;
	if (conn->filter)
		conn->filter->ops->received(conn->filter, bytes);
	else
		conn->handler->received(conn, bytes);
}

static void conn_take_receive_error(struct conn *conn, int error)
{
	switch (op_classify(RING_RECEIVE, error)) {
	case OP_STARVED:
		if (!conn->receive_paused)
			worker_starve(conn->worker, &conn->starved);
		break;
	case OP_CANCELLED:
	case OP_RETRY:
		break;
	default:
		conn_fail_op(conn, RING_RECEIVE, error);
	}
}

static void conn_receive_done(struct op *op, const struct completion *completion)
{
	struct conn *conn = CONTAINER_OF(op, struct conn, receive_op);
	bool more = completion->more;

	if (completion->result > 0)
		conn_take_bytes(conn, completion->bytes);
	else if (completion->result == 0)
		conn_take_fin(conn);
	else if (conn->state != CONN_CLOSING)
		conn_take_receive_error(conn, completion->result);

	if (more && conn->receive_paused && conn->state == CONN_OPEN)
		conn_cancel_receive(conn);
	else if (!more)
		conn_arm_receive(conn);
	conn_settle(conn);
}

void conn_pause_receive(struct conn *conn)
{
	if (conn->state != CONN_OPEN || conn->receive_paused)
		return;
	conn->receive_paused = true;
	list_remove(&conn->starved.link);
	conn_cancel_receive(conn);
}

void conn_resume_receive(struct conn *conn)
{
	if (conn->state != CONN_OPEN || !conn->receive_paused)
		return;
	conn->receive_paused = false;
	conn_arm_receive(conn);
}

/* ---- sending ---- */

/* Everything is sent. The peer must read it before the kernel may forget the connection. */
static void conn_drained(struct conn *conn)
{
	uint32_t wait_ms =
		conn->options.linger_read_ms ? conn->options.linger_read_ms : CONN_LINGER_READ_MS;

	if (wait_ms > linger_ms(conn))
		wait_ms = linger_ms(conn);

	if (conn->peer_finished || conn->end == CONN_END_SECURITY ||
	    op_shutdown_send(conn->worker, &conn->close_op, conn->file) != 0) {
		conn_begin_close(conn);
		return;
	}
	conn_move(conn, CONN_LINGERING);
	deadline_arm(conn->worker, &conn->linger, wait_ms);
}

static struct conn_send *send_make(const struct iovec *iov, size_t count)
{
	enum pool_kind kind = count <= SEND_IOV_SMALL ? POOL_SEND_SMALL : POOL_SEND_LARGE;
	struct conn_send *send = pool_take(kind);

	if (!send)
		return NULL;
	send->kind = kind;
	memcpy(send->iov, iov, count * sizeof(*iov));
	send->message = (struct msghdr){.msg_iov = send->iov, .msg_iovlen = count};
	return send;
}

static void send_free(struct conn_send *send)
{
	pool_give(send->kind, send);
}

/* Whether the first `count` pieces of the queue are worth the pins and the notification. */
static bool conn_wants_zerocopy(const struct conn *conn, size_t count, size_t bytes)
{
	if (bytes < CONN_ZC_BYTES_MIN || !conn->may_zerocopy || conn->zerocopy_refused ||
	    conn->filter || conn->zerocopy_pending == CONN_ZC_PENDING_MAX ||
	    !zerocopy_is_enabled(conn->counters->zerocopy))
		return false;

	size_t slice_bytes = sendq_slice_bytes(&conn->queue, count);

	return slice_bytes >= CONN_ZC_BYTES_MIN && slice_bytes / count >= CONN_ZC_IOV_BYTES_MIN;
}

static void conn_zerocopy_done(struct op *op, const struct completion *completion);

static int conn_send_zerocopy(struct conn *conn, size_t count)
{
	struct conn_send *send = conn->send;

	op_init(&send->op);
	send->op.done = conn_zerocopy_done;
	send->conn = conn;

	int code = op_send_zc(conn->worker, &send->op, conn->file, &send->message);

	if (code)
		return code;
	send->pin = sendq_pin(&conn->queue, count);
	conn->zerocopy_pending++;
	return 0;
}

static void conn_send_next(struct conn *conn)
{
	struct iovec iov[SENDQ_IOV_MAX];
	size_t bytes;

	if (conn->send)
		return;
	if (conn->queue.bytes == 0) {
		if (conn->state == CONN_DRAINING)
			conn_drained(conn);
		return;
	}

	size_t count = sendq_gather(&conn->queue, iov, SENDQ_IOV_MAX, &bytes);

	conn->send = send_make(iov, count);
	if (!conn->send) {
		conn_fail(conn, CONN_END_RESOURCE, -ENOMEM);
		return;
	}
	if (conn_wants_zerocopy(conn, count, bytes) && conn_send_zerocopy(conn, count) == 0)
		return;
	conn->zerocopy_refused = false;

	int code = op_send(conn->worker, &conn->send_op, conn->file, &conn->send->message);

	if (code) {
		send_free(conn->send);
		conn->send = NULL;
		conn_fail(conn, CONN_END_RESOURCE, code);
	}
}

static void conn_run_flush(struct task *task)
{
	struct conn *conn = CONTAINER_OF(task, struct conn, flush);

	if (conn->filter)
		conn->filter->ops->flush(conn->filter);
	if (conn->handler->produce && conn_has_room(conn)) {
		conn->producing = true;
		conn->handler->produce(conn);
		conn->producing = false;
	}
	if (conn->state == CONN_OPEN || conn->state == CONN_DRAINING)
		conn_send_next(conn);
}

/* The send in flight has its result; the next one may start. */
static void conn_take_sent(struct conn *conn, uint8_t kind, int result)
{
	/* Between two advances the queue only grows: room now means that nobody missed any. */
	bool room_was_missed = !conn_has_room(conn) || conn->send_refused || conn->filter;

	conn->send = NULL;
	if (result > 0) {
		conn->send_refused = false;
		sendq_advance(&conn->queue, (size_t)result);
		if (conn->counters)
			metric_add(&conn->counters->sent_bytes, (uint64_t)result);
	}
	if (conn->state == CONN_CLOSING)
		sendq_finish(&conn->queue);
	else if (result <= 0 && op_classify(kind, result) != OP_RETRY && !conn->zerocopy_refused)
		conn_fail_op(conn, kind, result < 0 ? result : -EPIPE);
	else if (conn->queue.bytes > 0 || room_was_missed)
		worker_flush_later(conn->worker, &conn->flush);
}

static void conn_send_done(struct op *op, const struct completion *completion)
{
	struct conn *conn = CONTAINER_OF(op, struct conn, send_op);

	send_free(conn->send);
	conn_take_sent(conn, RING_SEND, completion->result);
	conn_settle(conn);
}

static bool is_zerocopy_refusal(int result)
{
	if (result >= 0)
		return false;

	enum op_outcome outcome = op_classify(RING_SEND_ZC, result);

	return outcome == OP_LOCAL_LIMIT || outcome == OP_UNSUPPORTED;
}

/*
 * The result, with a notification to follow or (a failure) without; or that notification. A send
 * that the kernel refused has one too, which says nothing about copies.
 */
static void conn_zerocopy_done(struct op *op, const struct completion *completion)
{
	struct conn_send *send = CONTAINER_OF(op, struct conn_send, op);
	struct conn *conn = send->conn;
	struct zerocopy *zerocopy = conn->counters->zerocopy;

	if (completion->notification) {
		CHECK(send != conn->send);
		if (send->has_sent)
			zerocopy_notified(zerocopy, completion->zc_copied);
	} else {
		send->has_sent = completion->result > 0;
		conn->zerocopy_refused = is_zerocopy_refusal(completion->result);
		if (conn->zerocopy_refused)
			zerocopy_refused(zerocopy, completion->result);
		conn_take_sent(conn, RING_SEND_ZC, completion->result);
	}
	if (completion->more)
		return;
	sendq_unpin(send->pin);
	send_free(send);
	conn->zerocopy_pending--;
	if (conn->state == CONN_CLOSING && conn->zerocopy_pending == 0)
		conn_start_close(conn);
	conn_settle(conn);
}

/*
 * What produce appends leaves when it returns, and what is appended during a send with its
 * completion.
 */
static int conn_appended(struct conn *conn, int code)
{
	conn->send_refused |= code == -ENOBUFS;
	if (code == 0 && !conn->producing && !conn->send)
		worker_flush_later(conn->worker, &conn->flush);
	return code;
}

int conn_send(struct conn *conn, struct span bytes)
{
	if (conn->state != CONN_OPEN)
		return -EPIPE;
	if (conn->filter)
		return conn_appended(conn, conn->filter->ops->send(conn->filter, bytes));
	return conn_appended(conn, sendq_append(&conn->queue, bytes));
}

int conn_send_secret(struct conn *conn, struct span bytes)
{
	if (conn->state != CONN_OPEN)
		return -EPIPE;
	/* What a filter makes of them is for everybody's eyes. */
	if (conn->filter)
		return conn_appended(conn, conn->filter->ops->send(conn->filter, bytes));
	return conn_appended(conn, sendq_append_secret(&conn->queue, bytes));
}

static struct span slice_bytes(struct payload_slice slice)
{
	CHECK(slice.offset <= slice.payload->len && slice.len <= slice.payload->len - slice.offset);
	return span_make(slice.payload->data + slice.offset, slice.len);
}

/* A filter takes bytes and makes others of them. */
static int conn_copy_slice(struct conn *conn, struct payload_slice slice)
{
	int code = conn_send(conn, slice_bytes(slice));

	if (code == 0 && conn->counters && conn->counters->copied_bytes)
		metric_add(conn->counters->copied_bytes, slice.len);
	return code;
}

int conn_send_slice(struct conn *conn, struct payload_slice slice)
{
	if (conn->state != CONN_OPEN)
		return -EPIPE;
	if (conn->filter)
		return conn_copy_slice(conn, slice);
	return conn_appended(conn, sendq_append_slice(&conn->queue, slice));
}

int conn_give_slice(struct conn *conn, struct payload_slice slice)
{
	if (conn->state != CONN_OPEN)
		return -EPIPE;
	if (conn->filter) {
		int code = conn_copy_slice(conn, slice);

		if (code == 0)
			payload_put(slice.payload);
		return code;
	}
	return conn_appended(conn, sendq_give_slice(&conn->queue, slice));
}

void conn_allow_zerocopy(struct conn *conn)
{
	struct zerocopy *zerocopy = conn->counters ? conn->counters->zerocopy : NULL;

	conn->may_zerocopy = zerocopy && zerocopy_is_enabled(zerocopy) &&
			     !zerocopy_is_local(zerocopy, &conn->peer);
}

bool conn_is_sending(const struct conn *conn)
{
	return conn->send != NULL;
}

void conn_wants_flush(struct conn *conn)
{
	if (conn->state == CONN_OPEN)
		worker_flush_later(conn->worker, &conn->flush);
}

bool conn_has_room(const struct conn *conn)
{
	return conn->state == CONN_OPEN && conn->queue.bytes < conn->options.queue_bytes_room;
}

static int sink_bytes(void *context, struct span bytes)
{
	return conn_send(context, bytes);
}

static int sink_slice(void *context, struct payload_slice slice)
{
	return conn_send_slice(context, slice);
}

static int sink_give(void *context, struct payload_slice slice)
{
	return conn_give_slice(context, slice);
}

static bool sink_has_room(void *context)
{
	return conn_has_room(context);
}

struct sink conn_sink(struct conn *conn)
{
	return (struct sink){.context = conn,
			     .bytes = sink_bytes,
			     .slice = sink_slice,
			     .give = sink_give,
			     .has_room = sink_has_room};
}

/* ---- life ---- */

static void conn_linger_expired(struct deadline *deadline)
{
	struct conn *conn = CONTAINER_OF(deadline, struct conn, linger);

	switch ((enum conn_state)conn->state) {
	case CONN_DRAINING:
		conn_fail(conn, CONN_END_TIMEOUT, -ETIMEDOUT);
		break;
	case CONN_LINGERING:
		conn_begin_close(conn);
		break;
	case CONN_CLOSING:
		conn_start_close(conn);
		break;
	case CONN_CLOSED:
	case CONN_OPEN:
	case CONN_STATES:
		UNREACHABLE("the deadline is armed by what leaves OPEN and disarmed before CLOSED");
	}
}

int conn_open(struct conn *conn, struct worker *worker, struct file_ref file,
	      const struct conn_handler *handler, const struct conn_options *options)
{
	*conn = (struct conn){
		.handler = handler,
		.worker = worker,
		.file = file,
		.options = *options,
	};
	sendq_init(&conn->queue, options->queue_bytes_max);
	task_init(&conn->flush, conn_run_flush);
	task_init(&conn->sweep, conn_run_sweep);
	list_init(&conn->starved.link);
	conn->starved.retry = conn_receive_retry;
	deadline_init(&conn->linger, conn_linger_expired);
	conn->receive_op.done = conn_receive_done;
	conn->send_op.done = conn_send_done;
	conn->close_op.done = conn_close_done;
	conn->cancel_op.done = conn_cancel_done;

	int code = op_receive(worker, &conn->receive_op, file);

	if (code) {
		socket_discard(worker, file);
		return code;
	}
	conn_move(conn, CONN_OPEN);
	return 0;
}

void conn_finish_sending(struct conn *conn)
{
	if (conn->state == CONN_OPEN)
		conn_take_leave(conn, CONN_END_LOCAL);
}

void conn_close(struct conn *conn)
{
	if (conn->state == CONN_OPEN)
		conn->end = CONN_END_LOCAL;
	if (conn->state != CONN_CLOSING && conn->state != CONN_CLOSED)
		conn_begin_close(conn);
}

bool conn_is_open(const struct conn *conn)
{
	return conn->state == CONN_OPEN;
}

/* ---- for the filter ---- */

void conn_set_filter(struct conn *conn, struct conn_filter *filter)
{
	CHECK(conn->state == CONN_OPEN && !conn->filter);
	conn->filter = filter;
	filter->conn = conn;
	filter->room_bytes = conn->options.queue_bytes_room;
	conn->options.queue_bytes_room = 0;
	worker_flush_later(conn->worker, &conn->flush);
}

void conn_filter_open(struct conn *conn)
{
	conn->options.queue_bytes_room = conn->filter->room_bytes;
	conn_wants_flush(conn);
}

void conn_filter_deliver(struct conn *conn, struct span bytes)
{
	CHECK(conn->state == CONN_OPEN);
	conn->handler->received(conn, bytes);
}

int conn_filter_queue(struct conn *conn, struct span bytes)
{
	return conn_appended(conn, sendq_append(&conn->queue, bytes));
}

size_t conn_filter_queue_room(const struct conn *conn)
{
	return conn->queue.bytes_max - conn->queue.bytes;
}

void conn_filter_peer_finished(struct conn *conn)
{
	if (conn->state == CONN_OPEN && !conn->peer_finished)
		conn_take_peer_end(conn);
}

void conn_filter_fail(struct conn *conn, int error)
{
	if (conn->state != CONN_OPEN)
		return;
	conn->error = error;
	conn_start_draining(conn, CONN_END_SECURITY);
}
