/*
 * tail: reads one Redis Stream from where it ended at start-up, for ever, on a connection of its
 * own. Thread: the worker's (the bus). Source: edge.md §3.
 *
 * After each reconnect it reads on from the last id handled, and XINFO STREAM tells whether that id
 * can be trusted: stream gone or its last id below ours → recreated, read from 0-0; entries trimmed
 * past us → a gap. It is asked every ten seconds, too: entries may be trimmed past a reader that is
 * connected, and behind; that is seen once it has read to the end.
 */
#ifndef REDIS_TAIL_H
#define REDIS_TAIL_H

#include "redis/client.h"
#include "redis/entry.h"

#define TAIL_BATCH 128 /* COUNT of XREAD */

struct redis_tail;

enum tail_loss { TAIL_RECREATED, TAIL_TRIMMED };

struct tail_handler {
	/* The start position is known: whatever is written from now on will be read. Once. */
	void (*started)(struct redis_tail *tail);
	/* Each entry in order, once; then `batch_end`. Lent. */
	void (*entry)(struct redis_tail *tail, const struct tail_entry *entry);
	/* All entries of one answer were given. The next XREAD leaves after this returns, unless
	 * paused. */
	void (*batch_end)(struct redis_tail *tail);
	/* Entries may have been lost between the last id handled and now. Before the entries that
	 * follow. */
	void (*lost)(struct redis_tail *tail, enum tail_loss loss);
};

struct tail_options {
	struct redis_options redis;
	struct span stream; /* key. Lifetime: the tail's */
	uint32_t block_ms;  /* XREAD BLOCK */
	/*
	 * When entries come so fast that several come in this time: at the least between two XREADs,
	 * so that they share what an answer costs. Entries that come more seldom do not wait, nor
	 * does what follows a large answer. 0: never.
	 */
	uint32_t gather_us;
	const struct tail_handler *handler;
	void *context;
};

int redis_tail_create(struct redis_tail **tail, struct worker *worker,
		      const struct tail_options *options);
void redis_tail_start(struct redis_tail *tail);
void *redis_tail_context(const struct redis_tail *tail);
bool redis_tail_is_ready(const struct redis_tail *tail);
const char *redis_tail_last_error(const struct redis_tail *tail);

/* Backpressure: the next XREAD waits for redis_tail_resume. */
void redis_tail_pause(struct redis_tail *tail);
void redis_tail_resume(struct redis_tail *tail);

void redis_tail_stop(struct redis_tail *tail, void (*stopped)(void *context), void *context);
void redis_tail_destroy(struct redis_tail *tail);

#endif
