#include "net/dial.h"

#include "base/check.h"
#include "base/fsm.h"
#include "net/socket.h"

#include <errno.h>
#include <unistd.h>

enum dial_state {
	DIAL_IDLE,
	DIAL_STARTED,
	DIAL_RESOLVING,
	DIAL_CONNECTING,
	DIAL_CLOSING,
	DIAL_STATES
};

static const char *const state_names[DIAL_STATES] = {
	[DIAL_IDLE] = "idle",		[DIAL_STARTED] = "started",
	[DIAL_RESOLVING] = "resolving", [DIAL_CONNECTING] = "connecting",
	[DIAL_CLOSING] = "closing",
};

static const uint32_t state_moves[DIAL_STATES] = {
	[DIAL_IDLE] = FSM_TO(DIAL_STARTED),
	[DIAL_STARTED] = FSM_TO(DIAL_RESOLVING) | FSM_TO(DIAL_CONNECTING) | FSM_TO(DIAL_IDLE),
	[DIAL_RESOLVING] = FSM_TO(DIAL_CONNECTING) | FSM_TO(DIAL_IDLE),
	[DIAL_CONNECTING] = FSM_TO(DIAL_CLOSING) | FSM_TO(DIAL_IDLE),
	[DIAL_CLOSING] = FSM_TO(DIAL_CONNECTING) | FSM_TO(DIAL_IDLE),
};

static const struct fsm dial_fsm = {
	.name = "dial",
	.state_count = DIAL_STATES,
	.state_names = state_names,
	.moves = state_moves,
};

/* A cancel that found no operation slot is tried again so soon. */
#define CANCEL_RETRY_MS 10

static void dial_move(struct dial *dial, enum dial_state next)
{
	fsm_move(&dial_fsm, &dial->state, (uint8_t)next);
}

/* The last touch of the dial: the owner may free it or dial again. */
static void dial_finish(struct dial *dial, int error)
{
	struct file_ref file = dial->file;
	const struct address *peer = error ? NULL : &dial->addresses[dial->address_next - 1];

	deadline_disarm(dial->worker, &dial->deadline);
	dial->file = FILE_NONE;
	dial_move(dial, DIAL_IDLE);
	if (!dial->cancelled)
		dial->done(dial, error, error ? FILE_NONE : file, peer);
	else if (dial->idle)
		dial->idle(dial);
}

/* Returns 0, or a negative errno with nothing left behind. */
static int dial_connect(struct dial *dial, const struct address *address)
{
	int family = address->storage.ss_family;
	/*
	 * Blocking: on a non-blocking socket the ring's operations give EAGAIN instead of waiting.
	 */
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	socket_set_tcp(fd, family);
	dial->file = ring_adopt(dial->worker->ring, fd);
	dial->target = (struct op_address){.storage = address->storage, .len = address->len};

	int code = op_connect(dial->worker, &dial->connect_op, dial->file, &dial->target);

	if (code) {
		socket_discard(dial->worker, dial->file);
		dial->file = FILE_NONE;
	}
	return code;
}

/* Tries addresses until one is under way, else ends the dial. */
static void dial_next(struct dial *dial)
{
	while (!dial->cancelled && dial->address_next < dial->address_count) {
		uint64_t now_ms = dial->worker->now_ms;
		size_t left = dial->address_count - dial->address_next;

		if (now_ms >= dial->due_ms) {
			dial->last_error = -ETIMEDOUT;
			break;
		}

		int code = dial_connect(dial, &dial->addresses[dial->address_next++]);

		if (code == 0) {
			uint64_t share_ms = (dial->due_ms - now_ms) / left;

			dial_move(dial, DIAL_CONNECTING);
			deadline_arm(dial->worker, &dial->deadline, share_ms > 0 ? share_ms : 1);
			return;
		}
		/* Where v6 is off its addresses say nothing about the peer; the one before did. */
		if (code != -EAFNOSUPPORT || dial->last_error == 0)
			dial->last_error = code;
	}
	dial_finish(dial, dial->cancelled ? -ECANCELED : dial->last_error);
}

/*
 * After a completion: goes on when none is missing, because a late one would find the next
 * address's state.
 */
static void dial_settle(struct dial *dial)
{
	if (dial->connect_op.armed || dial->cancel_op.armed || dial->close_op.armed)
		return;
	deadline_disarm(dial->worker, &dial->deadline);
	if (dial->state == DIAL_CLOSING) {
		dial->file = FILE_NONE;
		dial_next(dial);
	} else if (dial->last_error == 0 && !dial->cancelled) {
		dial_finish(dial, 0);
	} else {
		dial_move(dial, DIAL_CLOSING);
		/*
		 * Shut down first: before kernel 6.13 a direct file lives on until every operation
		 * begun before has ended, a connect that was given up might yet be made, and its
		 * peer would hold the connection as long.
		 */
		if (op_shutdown_close(dial->worker, &dial->close_op, dial->file) == 0)
			return;
		socket_discard(dial->worker, dial->file);
		dial->file = FILE_NONE;
		dial_next(dial);
	}
}

static void dial_connect_done(struct op *op, const struct completion *completion)
{
	struct dial *dial = CONTAINER_OF(op, struct dial, connect_op);

	/*
	 * Cancelled by the deadline, unless it was just in time. EINTR: a unix connect that waited
	 * for room in the backlog does so on a kernel thread, which the cancel interrupts.
	 */
	dial->last_error = completion->result;
	if (completion->result == -ECANCELED || completion->result == -EINTR)
		dial->last_error = -ETIMEDOUT;
	dial_settle(dial);
}

static void dial_cancel_done(struct op *op, const struct completion *completion)
{
	(void)completion;
	dial_settle(CONTAINER_OF(op, struct dial, cancel_op));
}

static void dial_close_done(struct op *op, const struct completion *completion)
{
	(void)completion;
	dial_settle(CONTAINER_OF(op, struct dial, close_op));
}

static void dial_cancel_connect(struct dial *dial)
{
	if (!dial->connect_op.armed || dial->cancel_op.armed)
		return;
	if (op_cancel(dial->worker, &dial->cancel_op, &dial->connect_op) != 0)
		deadline_arm(dial->worker, &dial->deadline, CANCEL_RETRY_MS);
}

static void dial_expired(struct deadline *deadline)
{
	struct dial *dial = CONTAINER_OF(deadline, struct dial, deadline);

	if (dial->state == DIAL_RESOLVING) {
		dns_query_cancel(&dial->query);
		dial_finish(dial, -ETIMEDOUT);
	} else {
		dial_cancel_connect(dial);
	}
}

static bool is_same_host(const struct address *a, const struct address *b)
{
	uint8_t left[ADDRESS_IP_MAX], right[ADDRESS_IP_MAX];
	size_t len = address_ip(a, left);

	return len > 0 && len == address_ip(b, right) && memcmp(left, right, len) == 0;
}

/* Begins behind the address that was blamed. */
static void dial_rotate(struct dial *dial, const struct address *addresses)
{
	size_t count = dial->address_count, first = 0;

	for (size_t i = 0; dial->is_blamed && i < count; i++)
		if (is_same_host(&addresses[i], &dial->blamed))
			first = i + 1;
	for (size_t i = 0; i < count; i++)
		dial->addresses[i] = addresses[(first + i) % count];
	dial->is_blamed = false;
}

static void dial_resolved(struct dns_query *query, int status, const struct address *addresses,
			  size_t count)
{
	struct dial *dial = CONTAINER_OF(query, struct dial, query);

	if (status) {
		dial_finish(dial, status);
		return;
	}
	dial->address_count = count;
	dial_rotate(dial, addresses);
	dial_next(dial);
}

static void dial_begin(struct task *task)
{
	struct dial *dial = CONTAINER_OF(task, struct dial, begin);
	const struct endpoint *endpoint = &dial->endpoint;

	if (endpoint->kind == ENDPOINT_UNIX) {
		dial->addresses[0] = address_from_path(endpoint->path);
		dial->address_count = 1;
		dial_next(dial);
	} else if (endpoint->kind == ENDPOINT_HOST &&
		   address_from_text(&dial->addresses[0], endpoint->host, endpoint->port)) {
		dial->address_count = 1;
		dial_next(dial);
	} else if (endpoint->kind == ENDPOINT_HOST && dial->dns) {
		dial_move(dial, DIAL_RESOLVING);
		deadline_arm(dial->worker, &dial->deadline,
			     dial->due_ms > dial->worker->now_ms
				     ? dial->due_ms - dial->worker->now_ms
				     : 0);
		dns_query_start(dial->dns, &dial->query, endpoint->host, endpoint->port);
	} else {
		dial_finish(dial, -EINVAL);
	}
}

void dial_start(struct dial *dial, struct worker *worker, struct dns *dns,
		const struct endpoint *endpoint, uint32_t timeout_ms, dial_done_fn *done)
{
	CHECK(dial->state == DIAL_IDLE);
	*dial = (struct dial){
		.worker = worker,
		.dns = dns,
		.done = done,
		.endpoint = *endpoint,
		.file = FILE_NONE,
		.due_ms = worker->now_ms + timeout_ms,
		.is_blamed = dial->is_blamed,
		.blamed = dial->blamed,
	};
	dial->query.done = dial_resolved;
	dial->connect_op.done = dial_connect_done;
	dial->cancel_op.done = dial_cancel_done;
	dial->close_op.done = dial_close_done;
	deadline_init(&dial->deadline, dial_expired);
	task_init(&dial->begin, dial_begin);
	dial_move(dial, DIAL_STARTED);
	/* Not at once: what fails at once must not call `done` inside. */
	worker_flush_later(worker, &dial->begin);
}

void dial_cancel(struct dial *dial, void (*idle)(struct dial *dial))
{
	dial->cancelled = true;
	dial->idle = idle;
	switch ((enum dial_state)dial->state) {
	case DIAL_IDLE:
		if (idle)
			idle(dial);
		break;
	case DIAL_STARTED:
		list_remove(&dial->begin.link);
		dial_finish(dial, -ECANCELED);
		break;
	case DIAL_RESOLVING:
		dns_query_cancel(&dial->query);
		dial_finish(dial, -ECANCELED);
		break;
	case DIAL_CONNECTING:
		dial_cancel_connect(dial);
		break;
	case DIAL_CLOSING:
		break; /* its completion comes soon */
	case DIAL_STATES:
		UNREACHABLE("not a state");
	}
}

void dial_blame(struct dial *dial)
{
	CHECK(dial->state == DIAL_IDLE);
	if (dial->last_error != 0 || dial->address_next == 0)
		return;
	dial->is_blamed = true;
	dial->blamed = dial->addresses[dial->address_next - 1];
}

bool dial_is_idle(const struct dial *dial)
{
	return dial->state == DIAL_IDLE;
}
