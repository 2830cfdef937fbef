/*
 * survey: what /streams of the admin listener tells of event streams: each worker fills its own,
 * control writes them as one. Source: edge.md §8.
 */
#ifndef GATEWAY_SURVEY_H
#define GATEWAY_SURVEY_H

#include "base/buf.h"

#define SURVEY_ROWS	     20 /* the slowest told */
#define SURVEY_SESSION_CHARS 8	/* of a session id; no more of it leaves the process */

struct survey_row {
	char session[SURVEY_SESSION_CHARS + 1];
	uint32_t depth; /* events queued */
	uint64_t queued_bytes;
	uint64_t age_ms;    /* since it opened */
	uint64_t silent_ms; /* since an event last left */
	const char *worker; /* by survey_write */
};

/* One worker's streams. */
struct survey {
	const char *worker; /* outlives the survey */
	uint64_t open_count;
	uint32_t row_count;
	struct survey_row
		rows[SURVEY_ROWS]; /* deepest first; of equal depth the one with more bytes */
};

/* Forgets the streams, keeps the worker's name. */
void survey_clear(struct survey *survey);

/* Whether a stream of this depth would be among the rows. */
bool survey_wants(const struct survey *survey, uint32_t depth, uint64_t queued_bytes);

void survey_add(struct survey *survey, const struct survey_row *row);

/*
 * {"open_streams":n,"workers":[{"worker":"…","open_streams":n}…],"slowest":[{"worker","session",
 * "depth","queued_bytes","age_ms","silent_ms"}…]}. Returns buf's code.
 */
int survey_write(const struct survey *surveys, size_t count, struct buf *out);

#endif
