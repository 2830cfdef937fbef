#include "unit/base/base_test.h"

#include "base/fsm.h"

enum door { DOOR_OPEN, DOOR_SHUT, DOOR_LOCKED, DOOR_COUNT };

static const char *const door_names[DOOR_COUNT] = { "open", "shut", "locked" };
static const uint32_t door_moves[DOOR_COUNT] = {
	[DOOR_OPEN] = FSM_TO(DOOR_SHUT),
	[DOOR_SHUT] = FSM_TO(DOOR_OPEN) | FSM_TO(DOOR_LOCKED),
	[DOOR_LOCKED] = FSM_TO(DOOR_SHUT),
};
static const struct fsm door = {
	.name = "door",
	.state_count = DOOR_COUNT,
	.state_names = door_names,
	.moves = door_moves,
};

static uint8_t from, to;

static void move(void)
{
	uint8_t state = from;

	fsm_move(&door, &state, to);
	if (state != to)
		_exit(1);
}

static void fsm_moves_along_the_table_and_nowhere_else(void **state)
{
	(void)state;
	for (from = 0; from < DOOR_COUNT; from++) {
		for (to = 0; to < DOOR_COUNT; to++) {
			if (door_moves[from] & FSM_TO(to)) {
				uint8_t at = from;

				fsm_move(&door, &at, to);
				assert_int_equal(at, to);
				continue;
			}

			char wanted[100];

			snprintf(wanted, sizeof(wanted), "door may not move from %s to %s",
				 door_names[from], door_names[to]);
			assert_aborts(move, wanted);
		}
	}
}

static void fsm_aborts_on_numbers_that_are_no_state(void **state)
{
	(void)state;
	from = DOOR_OPEN;
	to = DOOR_COUNT;
	assert_aborts(move, "door may not move from open to (no such state)");
	to = 255;
	assert_aborts(move, "door may not move from open to (no such state)");
	from = 40;
	to = DOOR_SHUT;
	assert_aborts(move, "door may not move from (no such state) to shut");
}

static void move_past_the_last_state(void)
{
	static const uint32_t anywhere[DOOR_COUNT] = { UINT32_MAX, UINT32_MAX, UINT32_MAX };
	const struct fsm loose = {
		.name = "loose",
		.state_count = DOOR_COUNT,
		.state_names = door_names,
		.moves = anywhere,
	};
	uint8_t state = DOOR_OPEN;

	fsm_move(&loose, &state, DOOR_COUNT);
}

static void fsm_aborts_on_a_table_that_names_more_than_its_states(void **state)
{
	(void)state;
	assert_aborts(move_past_the_last_state, "loose may not move from open to (no such state)");
}

static void fsm_holds_thirty_two_states(void **state)
{
	const char *names[FSM_STATES_MAX];
	uint32_t moves[FSM_STATES_MAX];
	const struct fsm ring = {
		.name = "ring",
		.state_count = FSM_STATES_MAX,
		.state_names = names,
		.moves = moves,
	};
	uint8_t at = 0;

	(void)state;
	for (unsigned i = 0; i < FSM_STATES_MAX; i++) {
		names[i] = "s";
		moves[i] = FSM_TO((i + 1) % FSM_STATES_MAX);
	}
	for (unsigned i = 1; i <= FSM_STATES_MAX; i++) {
		fsm_move(&ring, &at, (uint8_t)(i % FSM_STATES_MAX));
		assert_int_equal(at, i % FSM_STATES_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fsm_moves_along_the_table_and_nowhere_else),
		cmocka_unit_test(fsm_aborts_on_numbers_that_are_no_state),
		cmocka_unit_test(fsm_aborts_on_a_table_that_names_more_than_its_states),
		cmocka_unit_test(fsm_holds_thirty_two_states),
	};

	return cmocka_run_group_tests_name("fsm", tests, NULL, NULL);
}
