#include "uring/slots.h"

#include "base/check.h"

#include <stdlib.h>

#define SLOTS_FIRST 256

void slots_init(struct slots *slots)
{
	*slots = (struct slots){.free_head = USER_DATA_NO_SLOT};
}

void slots_finish(struct slots *slots)
{
	free(slots->table);
	slots_init(slots);
}

static bool slots_grow(struct slots *slots)
{
	uint32_t count = slots->count ? slots->count * 2 : SLOTS_FIRST;

	if (count > WORKER_OPS_MAX)
		return false;
	struct slot *table = realloc(slots->table, count * sizeof(*table));

	if (!table)
		return false;
	/* Low indexes first. */
	for (uint32_t i = count; i-- > slots->count;) {
		table[i] = (struct slot){.next_free = slots->free_head};
		slots->free_head = i;
	}
	slots->table = table;
	slots->count = count;
	return true;
}

uint32_t slots_take(struct slots *slots, struct op *op)
{
	CHECK(op != NULL);
	if (slots->free_head == USER_DATA_NO_SLOT && !slots_grow(slots))
		return USER_DATA_NO_SLOT;
	uint32_t index = slots->free_head;
	struct slot *slot = &slots->table[index];

	slots->free_head = slot->next_free;
	slot->op = op;
	slot->closing_index = -1;
	slots->used_count++;
	return index;
}

void slots_release(struct slots *slots, uint32_t index)
{
	CHECK(index < slots->count && slots->table[index].op != NULL);
	struct slot *slot = &slots->table[index];

	slot->op = NULL;
	slot->generation = (slot->generation + 1) & ((1u << USER_DATA_GENERATION_BITS) - 1);
	slot->next_free = slots->free_head;
	slots->free_head = index;
	slots->used_count--;
}

uint64_t slots_user_data(const struct slots *slots, uint32_t index, uint8_t kind)
{
	CHECK(index < slots->count);
	return user_data_make(kind, slots->table[index].generation, index);
}

struct op *slots_find(const struct slots *slots, uint64_t user_data)
{
	uint32_t index = user_data_slot(user_data);

	if (index >= slots->count)
		return NULL;
	const struct slot *slot = &slots->table[index];

	return slot->generation == user_data_generation(user_data) ? slot->op : NULL;
}
