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

/*
 * The same to the microsecond, for the few things that cannot wait for the next millisecond: every
 * turn looks at each that is armed.
 */
struct fine_deadline {
	struct list link; /* unlinked = not armed */
	uint64_t at_us;
	void (*expired)(struct fine_deadline *deadline);
};

void fine_deadline_init(struct fine_deadline *deadline,
			void (*expired)(struct fine_deadline *deadline));
void fine_deadline_arm(struct worker *worker, struct fine_deadline *deadline, uint64_t after_us);
void fine_deadline_disarm(struct fine_deadline *deadline);

static inline bool fine_deadline_is_armed(const struct fine_deadline *deadline)
{
	return !list_is_empty(&deadline->link);
}

static inline bool deadline_is_armed(const struct deadline *deadline)
{
	return wheel_is_armed(&deadline->timer);
}

#endif
