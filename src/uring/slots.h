/*
 * slots: the table behind user_data. Thread: the worker's.
 *
 *   user_data: kind 8 bits | generation 24 bits | slot 32 bits
 */
#ifndef URING_SLOTS_H
#define URING_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct op;

#define WORKER_OPS_MAX (1u << 20) /* 5 operations for each of 200,000 connections of one worker */

struct slot {
	struct op *op;	     /* NULL: free */
	uint32_t generation; /* 24 bits, moves at every release */
	union {
		uint32_t next_free;    /* while free */
		int32_t closing_index; /* while taken: direct file that a close gives back, or -1 */
	};
};

struct slots {
	struct slot *table;		       /* grows by doubling */
	uint32_t count, free_head, used_count; /* free_head: USER_DATA_NO_SLOT when none is free */
};

#define USER_DATA_GENERATION_BITS 24
#define USER_DATA_NO_SLOT	  UINT32_MAX /* for completions that belong to no op */

static inline uint64_t user_data_make(uint8_t kind, uint32_t generation, uint32_t slot)
{
	return (uint64_t)kind << 56 |
	       (uint64_t)(generation & ((1u << USER_DATA_GENERATION_BITS) - 1)) << 32 | slot;
}

static inline uint8_t user_data_kind(uint64_t user_data)
{
	return (uint8_t)(user_data >> 56);
}

static inline uint32_t user_data_generation(uint64_t user_data)
{
	return (uint32_t)(user_data >> 32) & ((1u << USER_DATA_GENERATION_BITS) - 1);
}

static inline uint32_t user_data_slot(uint64_t user_data)
{
	return (uint32_t)user_data;
}

void slots_init(struct slots *slots);
void slots_finish(struct slots *slots);

/* Returns the slot's index, or UINT32_MAX at WORKER_OPS_MAX or without memory. */
uint32_t slots_take(struct slots *slots, struct op *op);
void slots_release(struct slots *slots, uint32_t index);

uint64_t slots_user_data(const struct slots *slots, uint32_t index, uint8_t kind);

/* Returns the op that this user_data was made for, or NULL if its slot has moved on. */
struct op *slots_find(const struct slots *slots, uint64_t user_data);

#endif
