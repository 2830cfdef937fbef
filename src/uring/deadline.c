#include "uring/deadline.h"

#include "uring/worker_internal.h"

void deadline_init(struct deadline *deadline, deadline_fn *expired)
{
	wheel_timer_init(&deadline->timer);
	deadline->expired = expired;
}

void deadline_arm(struct worker *worker, struct deadline *deadline, uint64_t after_ms)
{
	/* Rounded up: half a millisecond into a tick must not shorten the wait. */
	uint64_t from_ms = (worker->now_us + 999) / 1000;

	wheel_arm(&worker->wheel, &deadline->timer,
		  after_ms < WHEEL_NEVER - from_ms ? from_ms + after_ms : WHEEL_NEVER - 1);
}

void deadline_disarm(struct worker *worker, struct deadline *deadline)
{
	/* Also takes it out of the turn's list of due ones, where it is linked but no longer armed.
	 */
	wheel_cancel(&worker->wheel, &deadline->timer);
}

void deadlines_run(struct worker *worker)
{
	struct list due;

	list_init(&due);
	wheel_advance(&worker->wheel, worker->now_ms, &due);
	/* One by one: a call may disarm, or free, any of the others. */
	for (struct list *link; (link = list_pop_front(&due)) != NULL;) {
		struct wheel_timer *timer = CONTAINER_OF(link, struct wheel_timer, link);
		struct deadline *deadline = CONTAINER_OF(timer, struct deadline, timer);

		deadline->expired(deadline);
	}
}
