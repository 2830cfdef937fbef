#include "upstream/breaker.h"

#include "base/check.h"
#include "base/fsm.h"

static const char *const state_names[BREAKER_STATES] = {
	[BREAKER_CLOSED] = "closed",
	[BREAKER_OPEN] = "open",
	[BREAKER_HALF_OPEN] = "half_open",
};

static const uint32_t state_moves[BREAKER_STATES] = {
	[BREAKER_CLOSED] = FSM_TO(BREAKER_OPEN),
	[BREAKER_OPEN] = FSM_TO(BREAKER_HALF_OPEN),
	[BREAKER_HALF_OPEN] = FSM_TO(BREAKER_CLOSED) | FSM_TO(BREAKER_OPEN),
};

static const struct fsm breaker_fsm = {
	.name = "upstream breaker",
	.state_count = BREAKER_STATES,
	.state_names = state_names,
	.moves = state_moves,
};

const char *breaker_state_name(enum breaker_state state)
{
	return state_names[state];
}

static void forget(struct breaker *breaker)
{
	breaker->failed_in_a_row = 0;
	for (size_t i = 0; i < BREAKER_SLOTS; i++)
		breaker->slots[i] = (struct breaker_slot){0};
}

static void breaker_move(struct breaker *breaker, enum breaker_state next)
{
	fsm_move(&breaker_fsm, &breaker->state, (uint8_t)next);
	breaker->probe_is_out = false;
	if (++breaker->epoch == 0)
		breaker->epoch = 1;
}

static void trip(struct breaker *breaker, uint64_t now_ms)
{
	breaker_move(breaker, BREAKER_OPEN);
	breaker->due_ms = now_ms + breaker->config->open_ms;
}

/* ---- the window ---- */

static struct breaker_slot *slot_of(struct breaker *breaker, uint64_t now_ms)
{
	uint64_t slot_ms = breaker->config->window_ms / BREAKER_SLOTS;
	uint64_t at = now_ms / (slot_ms > 0 ? slot_ms : 1);
	uint64_t passed = at - breaker->slot_at;

	for (uint64_t i = 1; i <= passed && i <= BREAKER_SLOTS; i++)
		breaker->slots[(breaker->slot_at + i) % BREAKER_SLOTS] = (struct breaker_slot){0};
	breaker->slot_at = at;
	return &breaker->slots[at % BREAKER_SLOTS];
}

static bool is_too_many(const struct breaker *breaker)
{
	const struct config_breaker *config = breaker->config;
	uint64_t ended = 0, failed = 0;

	if (breaker->failed_in_a_row >= config->failures)
		return true;
	for (size_t i = 0; i < BREAKER_SLOTS; i++) {
		ended += breaker->slots[i].ended;
		failed += breaker->slots[i].failed;
	}
	return ended >= config->calls && failed * 100 >= ended * config->ratio;
}

/* Returns whether it opened. */
static bool count(struct breaker *breaker, bool failed, uint64_t now_ms)
{
	struct breaker_slot *slot = slot_of(breaker, now_ms);

	slot->ended++;
	if (!failed) {
		breaker->failed_in_a_row = 0;
		return false;
	}
	slot->failed++;
	breaker->failed_in_a_row++;
	if (!is_too_many(breaker))
		return false;
	trip(breaker, now_ms);
	return true;
}

/* ---- what its owner asks and tells ---- */

void breaker_init(struct breaker *breaker, const struct config_breaker *config)
{
	*breaker = (struct breaker){.config = config, .epoch = 1};
}

uint32_t breaker_admit(struct breaker *breaker, uint64_t now_ms)
{
	if (breaker->state == BREAKER_OPEN && now_ms >= breaker->due_ms)
		breaker_move(breaker, BREAKER_HALF_OPEN);
	if (breaker->state == BREAKER_CLOSED || !breaker->config->enabled)
		return breaker->epoch;
	if (breaker->state == BREAKER_OPEN || breaker->probe_is_out)
		return 0;
	breaker->probe_is_out = true;
	return breaker->epoch;
}

bool breaker_report(struct breaker *breaker, uint32_t pass, enum breaker_verdict verdict,
		    uint64_t now_ms)
{
	if (pass != breaker->epoch || !breaker->config->enabled)
		return false;
	if (breaker->state == BREAKER_CLOSED)
		return verdict != BREAKER_UNTOLD &&
		       count(breaker, verdict == BREAKER_FAILED, now_ms);
	CHECK(breaker->state == BREAKER_HALF_OPEN && breaker->probe_is_out);
	breaker->probe_is_out = false;
	if (verdict == BREAKER_UNTOLD)
		return false;
	if (verdict == BREAKER_FAILED) {
		trip(breaker, now_ms);
	} else {
		forget(breaker);
		breaker_move(breaker, BREAKER_CLOSED);
	}
	return true;
}

bool breaker_hear(struct breaker *breaker, uint32_t pass, uint64_t now_ms)
{
	return breaker->state == BREAKER_HALF_OPEN &&
	       breaker_report(breaker, pass, BREAKER_ANSWERED, now_ms);
}

void breaker_hope(struct breaker *breaker)
{
	if (breaker->state == BREAKER_OPEN)
		breaker->due_ms = 0;
}
