#include "edge/manners.h"

/* age × 0.9 … 1.1 */
static uint64_t spread(uint64_t age_ms, uint32_t random)
{
	return age_ms - age_ms / 10 + (uint64_t)(((unsigned __int128)(age_ms / 5) * random) >> 32);
}

void manners_init(struct manners *manners, const struct config *config, bool is_grpc,
		  uint64_t now_ms, uint32_t random)
{
	*manners = (struct manners){
		.idle_ms = config->http_idle_timeout_ms,
		.heard_ms = now_ms,
		.aged_ms = MANNERS_NEVER,
		.idling_ms = now_ms,
	};
	if (!is_grpc)
		return;
	manners->ping_interval_ms = config->grpc_min_ping_interval_ms;
	manners->keepalive_ms = config->grpc_keepalive_interval_ms;
	manners->keepalive_timeout_ms = config->grpc_keepalive_timeout_ms;
	manners->idle_ms = config->grpc_max_connection_idle_ms;
	if (config->grpc_max_connection_age_ms > 0)
		manners->aged_ms = now_ms + spread(config->grpc_max_connection_age_ms, random);
}

void manners_note_bytes(struct manners *manners, uint64_t now_ms)
{
	manners->heard_ms = now_ms;
	manners->ping_waits = false;
}

void manners_note_calls(struct manners *manners, bool has_calls, uint64_t now_ms)
{
	if (has_calls)
		manners->idling_ms = MANNERS_NEVER;
	else if (manners->idling_ms == MANNERS_NEVER)
		manners->idling_ms = now_ms;
}

void manners_note_leaving(struct manners *manners)
{
	manners->idle_ms = 0;
	manners->aged_ms = MANNERS_NEVER;
}

bool manners_take_ping(struct manners *manners, uint64_t answer_count, uint64_t now_ms)
{
	if (manners->ping_interval_ms == 0)
		return false;
	if ((uint32_t)answer_count != manners->answer_count) {
		manners->answer_count = (uint32_t)answer_count;
		manners->has_pinged = false;
		manners->strikes = 0;
	}

	bool is_bad =
		manners->has_pinged && now_ms - manners->pinged_ms < manners->ping_interval_ms;

	manners->has_pinged = true;
	manners->pinged_ms = now_ms;
	if (is_bad && manners->strikes <= MANNERS_STRIKES_MAX)
		manners->strikes++;
	return manners->strikes > MANNERS_STRIKES_MAX;
}

static uint64_t keepalive_due_ms(const struct manners *manners)
{
	if (manners->keepalive_ms == 0)
		return MANNERS_NEVER;
	return manners->heard_ms +
	       (manners->ping_waits ? manners->keepalive_timeout_ms : manners->keepalive_ms);
}

static uint64_t idle_due_ms(const struct manners *manners)
{
	if (manners->idle_ms == 0 || manners->idling_ms == MANNERS_NEVER)
		return MANNERS_NEVER;
	return manners->idling_ms + manners->idle_ms;
}

uint64_t manners_next_ms(const struct manners *manners)
{
	uint64_t next_ms = manners->aged_ms;
	uint64_t keepalive_ms = keepalive_due_ms(manners), idle_ms = idle_due_ms(manners);

	if (keepalive_ms < next_ms)
		next_ms = keepalive_ms;
	return idle_ms < next_ms ? idle_ms : next_ms;
}

enum manners_due manners_due(struct manners *manners, uint64_t now_ms)
{
	if (now_ms >= keepalive_due_ms(manners)) {
		if (manners->ping_waits)
			return MANNERS_DEAD;
		manners->ping_waits = true;
		manners->heard_ms = now_ms;
		return MANNERS_PING;
	}
	if (now_ms >= manners->aged_ms) {
		manners->aged_ms = MANNERS_NEVER;
		return MANNERS_AGED;
	}
	if (now_ms >= idle_due_ms(manners)) {
		manners->idle_ms = 0;
		return MANNERS_IDLE;
	}
	return MANNERS_NOTHING;
}
