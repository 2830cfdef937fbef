/* deadline: call me at a time, unless disarmed. On the worker's wheel; thread: the worker's. */
#ifndef URING_DEADLINE_H
#define URING_DEADLINE_H

#include "base/wheel.h"

struct worker;
struct deadline;

typedef void deadline_fn(struct deadline *deadline);

struct deadline {
	struct wheel_timer timer;
	deadline_fn *expired;
};

void deadline_init(struct deadline *deadline, deadline_fn *expired);

/* From now (the turn's time), never early. An armed deadline is moved. */
void deadline_arm(struct worker *worker, struct deadline *deadline, uint64_t after_ms);

/* Safe when not armed, and in any `expired` of the same turn: it will not be called. */
void deadline_disarm(struct worker *worker, struct deadline *deadline);

static inline bool deadline_is_armed(const struct deadline *deadline)
{
	return wheel_is_armed(&deadline->timer);
}

#endif
