#include "base/wheel.h"

/*
 * A timer is on the level of the highest group of six bits in which its time differs from now, in
 * the slot that this group of its time names. So a level holds only slots after the one that now is
 * in, and every slot of a lower level comes before all of a higher one. What differs above the last
 * level waits in that level's slot 0, which is reached when those higher bits change.
 */
#define SLOT_BITS 6
#define TOP_LEVEL (WHEEL_LEVELS - 1)

_Static_assert(WHEEL_SLOTS == 1 << SLOT_BITS, "a slot number is a group of bits of the time");

struct place {
	unsigned level, slot;
};

static unsigned slot_of(uint64_t ms, unsigned level)
{
	return (unsigned)(ms >> (level * SLOT_BITS)) & (WHEEL_SLOTS - 1);
}

void wheel_init(struct wheel *wheel, uint64_t now_ms)
{
	*wheel = (struct wheel){ .now_ms = now_ms };
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
			list_init(&wheel->slots[level][slot]);
	}
}

void wheel_timer_init(struct wheel_timer *timer)
{
	*timer = (struct wheel_timer){ .due_ms = 0 };
	list_init(&timer->link);
}

static void put_in_slot(struct wheel *wheel, struct wheel_timer *timer)
{
	uint64_t differs = (timer->due_ms ^ wheel->now_ms) | 1;
	unsigned level = (unsigned)(63 - __builtin_clzll(differs)) / SLOT_BITS;
	unsigned slot = 0;

	if (level > TOP_LEVEL)
		level = TOP_LEVEL;
	else
		slot = slot_of(timer->due_ms, level);
	list_push_back(&wheel->slots[level][slot], &timer->link);
	wheel->occupied[level] |= UINT64_C(1) << slot;
}

void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t due_ms)
{
	wheel_cancel(wheel, timer);
	timer->due_ms = due_ms < wheel->now_ms ? wheel->now_ms : due_ms;
	timer->is_armed = true;
	wheel->armed_count++;
	put_in_slot(wheel, timer);
}

void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer)
{
	if (timer->is_armed) {
		timer->is_armed = false;
		wheel->armed_count--;
		/* Alone in its slot: its neighbour is the slot's head, whose place tells. */
		if (timer->link.next == timer->link.prev) {
			size_t at = (size_t)(timer->link.next - &wheel->slots[0][0]);

			wheel->occupied[at / WHEEL_SLOTS] &= ~(UINT64_C(1) << at % WHEEL_SLOTS);
		}
	}
	list_remove(&timer->link);
}

bool wheel_is_armed(const struct wheel_timer *timer)
{
	return timer->is_armed;
}

/* Finds the first slot that holds timers. Returns when it begins, WHEEL_NEVER if there is none. */
static uint64_t first_slot(const struct wheel *wheel, struct place *place)
{
	*place = (struct place){ 0, 0 };
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		unsigned here = slot_of(wheel->now_ms, level);
		uint64_t slots = wheel->occupied[level];
		unsigned bits = level * SLOT_BITS;

		if (level == TOP_LEVEL)
			slots &= ~UINT64_C(1);
		if (slots == 0)
			continue;
		*place = (struct place){ level, (unsigned)__builtin_ctzll(slots) };
		CHECK(place->slot >= here);
		return ((wheel->now_ms >> bits) + (place->slot - here)) << bits;
	}
	if (wheel->occupied[TOP_LEVEL] & 1) {
		unsigned bits = WHEEL_LEVELS * SLOT_BITS;

		*place = (struct place){ TOP_LEVEL, 0 };
		return ((wheel->now_ms >> bits) + 1) << bits;
	}
	return WHEEL_NEVER;
}

/* The slot begins now: its timers are due or belong to lower levels. */
static void empty_slot(struct wheel *wheel, struct place place, struct list *due)
{
	struct list timers;

	list_init(&timers);
	list_splice_back(&timers, &wheel->slots[place.level][place.slot]);
	wheel->occupied[place.level] &= ~(UINT64_C(1) << place.slot);
	for (struct list *link; (link = list_pop_front(&timers)) != NULL;) {
		struct wheel_timer *timer = CONTAINER_OF(link, struct wheel_timer, link);

		if (timer->due_ms > wheel->now_ms) {
			put_in_slot(wheel, timer);
			continue;
		}
		timer->is_armed = false;
		wheel->armed_count--;
		list_push_back(due, link);
	}
}

void wheel_advance(struct wheel *wheel, uint64_t now_ms, struct list *due)
{
	struct place place;
	uint64_t begins;

	while (wheel->armed_count > 0 && (begins = first_slot(wheel, &place)) <= now_ms) {
		if (begins > wheel->now_ms)
			wheel->now_ms = begins;
		empty_slot(wheel, place, due);
	}
	/* A clock that goes back must not take the wheel along. */
	if (now_ms > wheel->now_ms)
		wheel->now_ms = now_ms;
}

uint64_t wheel_next_ms(const struct wheel *wheel)
{
	struct place place;

	return first_slot(wheel, &place);
}
