/*
 * wheel: hierarchical timing wheel, 1 ms ticks, O(1) arm and cancel. Pure: the caller brings the
 * time. One thread at a time.
 */
#ifndef BASE_WHEEL_H
#define BASE_WHEEL_H

#include "base/list.h"

#include <stdint.h>

#define WHEEL_LEVELS 5 /* 64^5 ms = 12.4 days; a later time waits at the last, then moves down */
#define WHEEL_SLOTS 64

struct wheel_timer {
	struct list link; /* in a slot (armed), in the `due` list of wheel_advance, or unlinked */
	uint64_t due_ms;  /* not before the wheel's time when it was armed */
	bool is_armed;
};

struct wheel {
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
	uint64_t occupied[WHEEL_LEVELS]; /* a bit per slot that may hold timers */
	uint64_t now_ms;
	uint64_t armed_count;
};

#define WHEEL_NEVER UINT64_MAX

void wheel_init(struct wheel *wheel, uint64_t now_ms);
void wheel_timer_init(struct wheel_timer *timer);

/* A time in the past is due at the next wheel_advance. An armed timer is moved. */
void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t due_ms);

/* Safe when not armed. A timer that waits in a `due` list is taken out of it: it will not fire. */
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);
bool wheel_is_armed(const struct wheel_timer *timer);

/*
 * Moves time on (never back); appends every timer that is due to `due` (unarmed then, in order of
 * due_ms). Never early. A timer that is armed while `due` is worked through is for the next call.
 */
void wheel_advance(struct wheel *wheel, uint64_t now_ms, struct list *due);

/* When wheel_advance must be called next: never later than the first timer. WHEEL_NEVER if none. */
uint64_t wheel_next_ms(const struct wheel *wheel);

#endif
