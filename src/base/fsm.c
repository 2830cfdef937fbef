#include "base/fsm.h"

#include "base/check.h"

#include <stdio.h>

static const char *state_name(const struct fsm *fsm, uint8_t state)
{
	return state < fsm->state_count ? fsm->state_names[state] : "(no such state)";
}

void fsm_move(const struct fsm *fsm, uint8_t *state, uint8_t next)
{
	if (__builtin_expect(*state < fsm->state_count && next < fsm->state_count &&
			     (fsm->moves[*state] & FSM_TO(next)) != 0, 1)) {
		*state = next;
		return;
	}

	char text[256];

	snprintf(text, sizeof(text), "%s may not move from %s to %s", fsm->name,
		 state_name(fsm, *state), state_name(fsm, next));
	check_failed(__FILE__, __LINE__, text);
}
