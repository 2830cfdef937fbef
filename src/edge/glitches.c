#include "edge/glitches.h"

#include "base/check.h"

/*
 * A weight is what the glitch costs us beside a PING (10, a fraction of a microsecond and an
 * answer) and how sure it is that no good client does it. A header block is decoded whoever it is
 * for, up to 200 µs of 16 KiB. A new kind has its line in the README.
 */
static const struct glitch_row rows[GLITCH_COUNT] = {
	[GLITCH_PREFACE] = {"preface", 0, false},
	[GLITCH_HTTP1] = {"http1_malformed", 0, false},
	[GLITCH_HTTP2] = {"http2_connection_error", 0, false},
	[GLITCH_CALLS] = {"too_many_calls", 0, false},
	[GLITCH_PIPELINE] = {"pipeline_overrun", 0, false},
	[GLITCH_AHEAD] = {"pipeline_paused", 0, false},
	[GLITCH_PINGS] = {"too_many_pings", 0, false},
	[GLITCH_KEEPALIVE] = {"keepalive_timeout", 0, false},
	[GLITCH_PROXY] = {"proxy_header", 0, false},
	[GLITCH_SCORE] = {"too_many_glitches", 0, false},
	[GLITCH_TIMEOUT] = {"request_timeout", 500, false},
	[GLITCH_SLOW] = {"body_too_slow", 500, false},
	[GLITCH_STALL] = {"stream_stalled", 500, false},
	[GLITCH_BODY_MEMORY] = {"request_body_memory", 500, false},
	[GLITCH_HEADER_LIST] = {"header_list", 200, false},
	[GLITCH_STREAM_ERROR] = {"stream_error", 100, false},
	[GLITCH_RESET] = {"rapid_reset", 10, true},
	[GLITCH_LATE_HEADERS] = {"late_headers", 200, true},
	[GLITCH_REFUSED] = {"refused_stream", 50, true},
	[GLITCH_PING] = {"ping", 10, true},
	[GLITCH_SETTINGS] = {"settings", 100, true},
	[GLITCH_PRIORITY] = {"priority", 10, true},
	[GLITCH_UNKNOWN_FRAME] = {"unknown_frame", 10, true},
	[GLITCH_CONTINUATION] = {"continuation", 20, true},
	[GLITCH_EMPTY_DATA] = {"empty_data", 10, true},
	[GLITCH_SMALL_WINDOW] = {"small_window", 10, true},
	[GLITCH_SMALL_FRAME] = {"small_frame", 1, true},
};

const struct glitch_row *glitch_row(enum glitch glitch)
{
	CHECK(glitch < GLITCH_COUNT);
	return &rows[glitch];
}

void glitches_init(struct glitches *glitches, uint64_t now_ms)
{
	*glitches = (struct glitches){
		.score = -GLITCHES_CREDIT_MAX,
		.drained_ms = (uint32_t)now_ms,
	};
}

/* Takes up to `points` off, as far as `floor`. */
static void forgive(struct glitches *glitches, uint64_t points, int32_t floor)
{
	if (glitches->score > floor) {
		uint64_t above = (uint64_t)(glitches->score - floor);

		glitches->score -= (int32_t)(points < above ? points : above);
	}
}

static void drain(struct glitches *glitches, uint32_t now_ms)
{
	uint32_t passed_ms = now_ms - glitches->drained_ms;
	uint64_t points = (uint64_t)passed_ms * GLITCHES_DRAIN_PER_S / 1000;

	/* less than a point is kept for the next time */
	if (points == 0)
		return;
	glitches->drained_ms = now_ms;
	forgive(glitches, points, 0);
}

enum glitches_verdict glitches_take(struct glitches *glitches, enum glitch glitch,
				    uint64_t answer_count, uint64_t now_ms)
{
	const struct glitch_row *row = glitch_row(glitch);
	uint32_t answers = (uint32_t)answer_count - glitches->answer_count;

	glitches->answer_count = (uint32_t)answer_count;
	forgive(glitches, (uint64_t)answers * GLITCHES_PER_ANSWER, -GLITCHES_CREDIT_MAX);
	drain(glitches, (uint32_t)now_ms);
	if (glitches->score < GLITCHES_THRESHOLD)
		glitches->score += row->weight;
	if (row->is_tolerated && glitches->score <= 0)
		return GLITCHES_PAID;
	return row->weight > 0 && glitches->score >= GLITCHES_THRESHOLD ? GLITCHES_TOO_MANY
									: GLITCHES_COUNTED;
}
