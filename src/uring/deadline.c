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

void fine_deadline_init(struct fine_deadline *deadline,
			void (*expired)(struct fine_deadline *deadline))
{
	*deadline = (struct fine_deadline){.expired = expired};
	list_init(&deadline->link);
}

void fine_deadline_arm(struct worker *worker, struct fine_deadline *deadline, uint64_t after_us)
{
	deadline->at_us = worker->now_us + after_us;
	if (list_is_empty(&deadline->link))
		list_push_back(&worker->fine_deadlines, &deadline->link);
}

void fine_deadline_disarm(struct fine_deadline *deadline)
{
	list_remove(&deadline->link);
}

uint64_t fine_deadlines_next_us(const struct worker *worker)
{
	uint64_t next_us = UINT64_MAX;

	LIST_FOR_EACH (&worker->fine_deadlines, link) {
		const struct fine_deadline *deadline =
			CONTAINER_OF(link, struct fine_deadline, link);

		if (deadline->at_us < next_us)
			next_us = deadline->at_us;
	}
	return next_us;
}

/* A call may arm it again, or disarm any other: what is not due goes round. */
static void fine_deadlines_run(struct worker *worker)
{
	struct list now, *link;

	list_init(&now);
	list_splice_back(&now, &worker->fine_deadlines);
	while ((link = list_pop_front(&now)) != NULL) {
		struct fine_deadline *deadline = CONTAINER_OF(link, struct fine_deadline, link);

		if (deadline->at_us > worker->now_us)
			list_push_back(&worker->fine_deadlines, link);
		else
			deadline->expired(deadline);
	}
}

void deadlines_run(struct worker *worker)
{
	if (!list_is_empty(&worker->fine_deadlines))
		fine_deadlines_run(worker);

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
