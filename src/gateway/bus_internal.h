/* bus_internal: the bus's state, shared by bus.c, bus_events.c, bus_sessions.c, bus_reread.c.
 * Thread: the bus. */
#ifndef GATEWAY_BUS_INTERNAL_H
#define GATEWAY_BUS_INTERNAL_H

#include "gateway/bus.h"
#include "gateway/wire.h"
#include "redis/tail.h"

#define BUS_UPDATES_MAX                                                                            \
	1024 /* session updates not yet taken in by all workers; at the bound reading stops */
/* Of events that share a payload: two frames, half of what a stream takes at once. */
#define BUS_BATCH_BYTES (32u << 10)
/* Between two readings of fast client events: they share wake-ups, fences and the like. */
#define BUS_GATHER_US	     1000
#define BUS_FENCE_MS	     100 /* longest wait for workers' drain passes (DESIGN §2) */
#define BUS_REREADS_PER_TICK 10	 /* with the tick: 1,000 records a second (edge.md §3) */
#define BUS_REREAD_TICK_MS   10
#define BUS_REREAD_AGAIN_MS  1000 /* a missing record, or no answer */

/*
 * Client events for the same streams that are signed and wait for their turn: one, or a batch of
 * those that came one after another (as far as these streams can tell) in one payload.
 */
struct bus_event {
	struct list link;
	struct payload *payload;
	uint64_t user_hash; /* the index's */
	uint32_t capacity; /* of a batch's payload; 0: one event */
	uint16_t user_len, session_len;
	char text[]; /* user, then session */
};

struct bus_reread {
	struct list link; /* in bus->rereads: the next one to be asked first */
	struct hash_node node;
	struct bus *bus;
	struct redis_call call;
	uint64_t not_before_ms;
	uint16_t id_len;
	char id[];
};

struct bus_stream_metrics {
	struct metric_counter handled, malformed, recreated, trimmed;
	struct metric_gauge lag_ms;
};

struct bus {
	struct worker *worker;
	const struct config *config;
	const struct tls_context *redis_tls;
	struct bus_port *ports;
	uint32_t port_count;
	struct index index;
	struct recent *recent;
	struct feed_budget *budget;
	struct wire_signing signing;
	struct dns *dns;
	struct redis_tail *session_tail, *client_tail;
	struct redis_client *redis; /* re-reads after a loss */
	/* client events on their way into feeds */
	struct list pending;
	uint32_t pending_count; /* events, not payloads */
	uint32_t events_since_fence, events_per_fence;
	uint64_t shed_bytes; /* held by streams that overflowed since the last fence */
	bool *port_woken;
	uint32_t fences_out;
	struct deadline fence_deadline;
	/* session updates on their way to workers */
	uint32_t updates_out;
	struct session_update *spare; /* "forget all sessions", for when there is no memory */
	bool spare_is_out, spare_is_owed; /* owed: again, when it is back */
	/* sessions to be read again */
	struct list rereads;
	struct hash_table reread_of; /* by session */
	struct deadline reread_tick;
	/* life */
	uint8_t tails_started, parts_running;
	bool reading, closing;
	void (*started)(void *context);
	void *started_context;
	void (*stopped_reading)(void *context);
	void *stopped_reading_context;
	void (*finished)(void *context);
	void *finished_context;
	struct task finish_task;
	struct {
		struct bus_stream_metrics session, client;
		struct metric_counter events, fence_timeouts, undelivered, wrong_user, over_budget;
		struct metric_counter session_out_of_memory, client_out_of_memory;
		struct metric_counter verdicts[BUS_VERDICT_COUNT];
		struct metric_counter reread_ended, reread_kept, reread_unanswered;
		struct metric_gauge members;
	} metrics;
};

/* bus.c: shows how old an entry of this id is, now that it has been read. */
void bus_note_lag(const struct bus *bus, struct bus_stream_metrics *metrics, uint64_t id_ms);
/* bus.c: pause or resume both tails by what is waiting. */
void bus_balance_reading(struct bus *bus);
/* bus.c: the feed was queued: its worker is woken with the next fence, or by bus_wake_ports. */
void bus_note_wake(struct bus *bus, struct bus_member *member);
/* bus.c: wakes what was noted, without a fence. */
void bus_wake_ports(struct bus *bus);

/* bus_events.c */
extern const struct tail_handler bus_client_handler;
void bus_pump(struct bus *bus);
void bus_events_drop(struct bus *bus);
void bus_fence_expired(struct deadline *deadline);

/* bus_sessions.c */
extern const struct tail_handler bus_session_handler;
int bus_spare_create(struct bus *bus);
void bus_spare_destroy(struct bus *bus);

/* bus_reread.c */
void bus_reread_all(struct bus *bus);
/* One session, if it has open streams. */
void bus_reread_one(struct bus *bus, struct span session);
/* What an event has told need not be read. */
void bus_reread_forget(struct bus *bus, struct span session);
void bus_reread_stop(struct bus *bus);
void bus_reread_expired(struct deadline *deadline);
bool bus_reread_matches(const struct hash_node *node, struct span session);

/* bus_sessions.c: ends streams of a session whose record says revoked, or another user than theirs.
 * Returns how many. */
uint32_t bus_end_streams(struct bus *bus, struct span session, bool revoked, struct span user);
/* bus_sessions.c: ends a session's streams with FEED_FAILED: what is due to them is out of memory's
 * reach. */
void bus_fail_streams(struct bus *bus, struct span session);

static inline struct bus_member *bus_member_of(struct subscription *subscription)
{
	return CONTAINER_OF(subscription, struct bus_member, subscription);
}

#endif
