/* position: where a tail is in its stream, and whether that can still be trusted. Pure; one thread
 * at a time. */
#ifndef REDIS_POSITION_H
#define REDIS_POSITION_H

#include "codec/resp.h"

/* Source: Redis, "Entry IDs" of streams: milliseconds-sequence, both 64 bits. */
struct stream_id {
	uint64_t ms, sequence;
};

#define STREAM_ID_TEXT_MAX 42 /* twice 20 digits, the dash, NUL */

/* "ms-sequence". */
bool stream_id_parse(struct span text, struct stream_id *id);

/* Writes the text, NUL-terminated; returns it as a span. */
struct span stream_id_format(struct stream_id id, char text[STREAM_ID_TEXT_MAX]);

/* Below 0, 0 or above 0, as a is before, at or after b. */
int stream_id_compare(struct stream_id a, struct stream_id b);

/* What XINFO STREAM tells. A key that does not exist is a stream of which nothing was ever added.
 */
struct stream_info {
	bool has_counter; /* entries-added is there: Redis ≥ 7.0 */
	uint64_t entries_added;
	uint64_t length;
	struct stream_id last;	/* last-generated-id */
	struct stream_id first; /* of the oldest entry, when length is not 0 */
};

/* Returns false when the answer is not XINFO STREAM's. Unknown members are ignored. */
bool stream_info_parse(const struct resp_value *value, struct stream_info *info);

struct position {
	struct stream_id last; /* id of the last entry handled */
	bool has_counter;      /* seen_count is known */
	uint64_t seen_count;   /* entries ever added up to `last`: at start, and read since */
	struct stream_id replayed; /* after RECREATED: up to here was written before it was told */
};

/* At the stream's end. */
void position_start(struct position *position, const struct stream_info *info);

/* One more entry was read. Returns false, changing nothing, when its id is not after ours. */
bool position_advance(struct position *position, struct stream_id id);

enum position_verdict {
	POSITION_FINE,
	POSITION_RECREATED, /* position is at 0-0 now */
	/* entries after ours are gone, or some before it were before we read them; position counts
	 * them as seen */
	POSITION_TRIMMED
};

/*
 * After a reconnect, and from time to time. Recreated: the last id is below ours, or fewer entries
 * were ever added than we have seen, or fewer are gone though ours is (a new stream whose ids are
 * younger). Trimmed: ours is not in the stream any more, and more entries are gone than we have
 * seen; or ours is its last, and more were added than we have seen. Without the counter (Redis
 * before 7.0): ours is gone and younger ones were added; some of those may be gone too.
 * Source: edge.md §3.
 */
enum position_verdict position_judge(struct position *position, const struct stream_info *info);

#endif
