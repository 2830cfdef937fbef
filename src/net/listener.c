#include "net/listener.h"

#include "base/check.h"
#include "base/explain.h"
#include "log/log.h"
#include "net/socket.h"

#include <errno.h>

/*
 * Descriptors come back when connections close; listener_room says so, this is for those of others.
 */
#define RETRY_MS 100

static uint32_t accept_count(const struct listener *listener)
{
	return listener->shared ? 1 : LISTENER_ACCEPTS;
}

static void listener_pause(struct listener *listener, int error)
{
	if (listener->stopping)
		return;
	if (!listener->paused)
		LOG(LOG_WARN, "listener", "accepting pauses", LOG_TEXT("listener", listener->name),
		    LOG_TEXT("error", errno_text(-error)));
	listener->paused = true;
	deadline_arm(listener->worker, &listener->retry, RETRY_MS);
}

static int listener_arm(struct listener *listener, struct listener_accept *accept)
{
	int code = op_accept(listener->worker, &accept->op, listener->file, &accept->address);

	if (code) {
		metric_add(&listener->failed_count, 1);
		listener_pause(listener, code);
	}
	return code;
}

static void listener_arm_all(struct listener *listener)
{
	for (uint32_t i = 0; i < accept_count(listener); i++)
		if (!listener->accepts[i].op.armed && listener_arm(listener, &listener->accepts[i]))
			return;
}

static void listener_cancel_all(struct listener *listener)
{
	for (uint32_t i = 0; i < accept_count(listener); i++) {
		struct listener_accept *accept = &listener->accepts[i];

		if (!accept->op.armed || accept->cancel_op.armed)
			continue;
		if (op_cancel(listener->worker, &accept->cancel_op, &accept->op) != 0)
			deadline_arm(listener->worker, &listener->retry, RETRY_MS);
	}
}

static void listener_settle(struct listener *listener)
{
	if (!listener->stopping)
		return;
	for (uint32_t i = 0; i < accept_count(listener); i++)
		if (listener->accepts[i].op.armed || listener->accepts[i].cancel_op.armed)
			return;
	worker_sweep_later(listener->worker, &listener->sweep);
}

static void listener_run_sweep(struct task *task)
{
	struct listener *listener = CONTAINER_OF(task, struct listener, sweep);

	deadline_disarm(listener->worker, &listener->retry);
	if (listener->stopped)
		listener->stopped(listener);
}

static void listener_take(struct listener *listener, struct listener_accept *accept, int32_t index)
{
	bool direct = ring_get_features(listener->worker->ring)->direct_files;
	struct file_ref file = {.index = index, .direct = direct};

	if (listener->stopping) {
		socket_discard(listener->worker, file);
		return;
	}

	struct address peer = address_make(&accept->address.storage, accept->address.len);

	metric_add(&listener->accepted_count, 1);
	listener->accepted(listener, file, &peer);
}

static void listener_accept_done(struct op *op, const struct completion *completion)
{
	struct listener_accept *accept = CONTAINER_OF(op, struct listener_accept, op);
	struct listener *listener = accept->listener;

	if (completion->result >= 0) {
		listener_take(listener, accept, completion->result);
	} else if (!listener->stopping) {
		metric_add(&listener->failed_count, 1);
		/*
		 * Not only for want of descriptors: an error that stays must not turn into a busy
		 * loop.
		 */
		if (op_classify(RING_ACCEPT, completion->result) != OP_RETRY)
			listener_pause(listener, completion->result);
	}
	if (!listener->stopping && !listener->paused)
		listener_arm_all(listener);
	listener_settle(listener);
}

static void listener_cancel_done(struct op *op, const struct completion *completion)
{
	(void)completion;
	listener_settle(CONTAINER_OF(op, struct listener_accept, cancel_op)->listener);
}

static void listener_resume(struct listener *listener)
{
	deadline_disarm(listener->worker, &listener->retry);
	listener->paused = false;
	/*
	 * One to try: where the ring's table is still full, the kernel drops a connection for every
	 * accept.
	 */
	for (uint32_t i = 0; i < accept_count(listener); i++) {
		if (!listener->accepts[i].op.armed) {
			(void)listener_arm(listener, &listener->accepts[i]);
			return;
		}
	}
}

static void listener_retry(struct deadline *deadline)
{
	struct listener *listener = CONTAINER_OF(deadline, struct listener, retry);

	if (listener->stopping)
		listener_cancel_all(listener);
	else
		listener_resume(listener);
}

int listener_start(struct listener *listener, struct worker *worker, int fd, bool shared)
{
	listener->worker = worker;
	listener->file = file_from_fd(fd);
	listener->shared = shared;
	listener->paused = false;
	listener->stopping = false;
	task_init(&listener->sweep, listener_run_sweep);
	deadline_init(&listener->retry, listener_retry);
	for (uint32_t i = 0; i < LISTENER_ACCEPTS; i++) {
		struct listener_accept *accept = &listener->accepts[i];

		op_init(&accept->op);
		op_init(&accept->cancel_op);
		accept->op.done = listener_accept_done;
		accept->cancel_op.done = listener_cancel_done;
		accept->listener = listener;
	}

	int code = listener_arm(listener, &listener->accepts[0]);

	if (code) {
		deadline_disarm(worker, &listener->retry);
		return code;
	}
	listener_arm_all(listener);
	return 0;
}

void listener_room(struct listener *listener)
{
	if (listener->paused && !listener->stopping)
		listener_resume(listener);
}

void listener_stop(struct listener *listener)
{
	if (listener->stopping)
		return;
	listener->stopping = true;
	deadline_disarm(listener->worker, &listener->retry);
	listener_cancel_all(listener);
	listener_settle(listener);
}
