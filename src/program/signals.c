#include "program/signals.h"

#include "base/check.h"
#include "base/explain.h"
#include "log/log.h"
#include "uring/worker.h"

#define RETRY_MS 10

static void cancel_read(struct signals *signals)
{
	if (signals->read.armed &&
	    op_cancel(signals->control, &signals->cancel, &signals->read) != 0)
		deadline_arm(signals->control, &signals->retry, RETRY_MS);
}

static void read_next(struct signals *signals)
{
	const struct iovec into = {&signals->next, sizeof(signals->next)};

	if (op_read(signals->control, &signals->read, signals->file, into) != 0)
		deadline_arm(signals->control, &signals->retry, RETRY_MS);
}

static void retry(struct deadline *deadline)
{
	struct signals *signals = CONTAINER_OF(deadline, struct signals, retry);

	if (signals->is_stopped)
		cancel_read(signals);
	else
		read_next(signals);
}

/* Whatever it was: nobody else would hear of the next one. Told once, until one is read again. */
static void read_failed(struct signals *signals, int32_t result)
{
	if (!signals->is_failing)
		LOG(LOG_WARN, "main", "signals cannot be read, tried again",
		    LOG_TEXT("error", errno_text(-result)));
	signals->is_failing = true;
	deadline_arm(signals->control, &signals->retry, RETRY_MS);
}

static void read_done(struct op *op, const struct completion *completion)
{
	struct signals *signals = CONTAINER_OF(op, struct signals, read);

	if (signals->is_stopped) {
		deadline_disarm(signals->control, &signals->retry);
		return;
	}
	if (completion->result != (int32_t)sizeof(signals->next)) {
		read_failed(signals, completion->result);
		return;
	}
	signals->is_failing = false;
	signals->received(signals, (int)signals->next.ssi_signo);
	if (!signals->is_stopped)
		read_next(signals);
}

static void cancel_done(struct op *op, const struct completion *completion)
{
	(void)op;
	(void)completion;
}

void signals_start(struct signals *signals, struct worker *control, struct file_ref file,
		   signals_fn *received)
{
	*signals = (struct signals){
		.control = control,
		.file = file,
		.received = received,
		.read.done = read_done,
		.cancel.done = cancel_done,
	};
	deadline_init(&signals->retry, retry);
	read_next(signals);
}

void signals_stop(struct signals *signals)
{
	signals->is_stopped = true;
	deadline_disarm(signals->control, &signals->retry);
	cancel_read(signals);
}
