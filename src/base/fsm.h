/* fsm: states as a table, moved in one place. */
#ifndef BASE_FSM_H
#define BASE_FSM_H

#include <stdint.h>

#define FSM_STATES_MAX 32
#define FSM_TO(state) (UINT32_C(1) << (state))

struct fsm {
	const char *name;               /* "conn" */
	uint8_t state_count;            /* ≤ FSM_STATES_MAX */
	const char *const *state_names; /* state_count entries */
	const uint32_t *moves;          /* by state: FSM_TO(next) | … that are allowed */
};

/*
 * Moves `*state` to `next`; a move that the table does not have is our bug: prints the machine's
 * and both states' names and aborts.
 */
void fsm_move(const struct fsm *fsm, uint8_t *state, uint8_t next);

#endif
