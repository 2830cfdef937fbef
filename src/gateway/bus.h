/*
 * bus: one thread with a ring of its own. Reads both Redis Streams, keeps the index of who listens
 * (single writer), signs each event once and pushes it into the feeds it concerns. Source: DESIGN
 * §2, §4; edge.md §3, §4.
 *
 *   worker: register ─► bus: admit (index, bootstrap) or refuse ─► worker
 *   worker: unregister ─► bus: remove ─► worker: released
 *   bus: session event ─► ends feeds, tells every worker
 *   bus: client event ─► feeds ─ wake ─► worker drains ─ fence ─► bus
 *
 * A member's two letters are each on one way at a time: to_bus (register, unregister), to_worker
 * (replied, released).
 */
#ifndef GATEWAY_BUS_H
#define GATEWAY_BUS_H

#include "auth/session.h"
#include "auth/signer.h"
#include "config/config.h"
#include "hub/index.h"
#include "hub/recent.h"
#include "uring/worker.h"

struct bus;
struct tls_context;

enum bus_verdict {
	BUS_ADMITTED,
	BUS_REVOKED,
	BUS_RECHECK,  /* read the session again, then register again */
	BUS_TOO_MANY, /* streams of this session */
	BUS_CLOSING,
	BUS_NO_MEMORY,
	BUS_VERDICT_COUNT
};

/*
 * A stream as worker and bus share it; embedded in the worker's stream. While it is registered the
 * worker must not change `session`, nor free anything here before `released`.
 */
struct bus_member {
	struct subscription subscription; /* feed_init'ed by the worker */
	struct letter to_bus, to_worker;
	struct bus *bus;
	struct worker *worker;
	struct session *session;   /* the worker's reference; the bus reads id and user only */
	uint64_t checked_sequence; /* session events that the session check was based on */
	struct payload *bootstrap; /* given to the feed on admission; else stays the worker's */
	enum bus_verdict verdict;
	/* thread: worker. verdict is set */
	void (*replied)(struct bus_member *member);
	/* thread: worker. The bus has forgotten the member */
	void (*released)(struct bus_member *member);
};

/* Thread: the member's worker. `replied` follows. */
void bus_register(struct bus_member *member);
/* Thread: the member's worker; only after it was admitted. `released` follows. */
void bus_unregister(struct bus_member *member);

enum bus_update_kind { BUS_SESSION_REPLACED, BUS_SESSION_FORGOTTEN, BUS_ALL_FORGOTTEN };

struct bus_update {
	enum bus_update_kind kind;
	uint64_t sequence;
	/* REPLACED: all of them; FORGOTTEN: device_session_id, and a status that is known */
	struct session_fields fields;
};

/* A worker as the bus sees it. Lifetime: the bus's. */
struct bus_port {
	struct worker *worker;
	struct bus *bus;
	/* thread: worker */
	void (*updated)(struct bus_port *port, const struct bus_update *update);
	/* thread: worker. Drain the ready feeds: part of a fence */
	void (*drain)(struct bus_port *port);
	/* the bus's own */
	struct letter fence_out, fence_back;
	struct task fence_done;
	bool fence_is_out;  /* a letter is under way */
	bool fence_awaited; /* and the bus waits for it */
	bool fence_again; /* … but it left before the fence that waits: a second one follows it */
};

struct bus_options {
	const struct config *config;
	const struct tls_context *redis_tls; /* NULL: plain */
	const struct signer *signer;
	struct worker *worker; /* the bus's own; not yet running */
	struct bus_port *ports;
	uint32_t port_count;
	struct feed_budget *budget;
	struct hash_secret secret;
	struct metric_registry *metrics;
	void (*started)(void *context); /* thread: bus. Both start positions are known */
	void *context;
};

int bus_create(struct bus **bus, const struct bus_options *options);

/* Thread: bus (first thing in its thread, before worker_run). No-op after bus_stop_reading. */
void bus_start(struct bus *bus);

/* ---- the end, in this order; thread: bus; `done` is called on it ---- */

/* Reads no more. */
void bus_stop_reading(struct bus *bus, void (*done)(void *context), void *context);
/* Ends every stream with FEED_SHUTDOWN and refuses new ones (BUS_CLOSING). */
void bus_close_hub(struct bus *bus);
/* `done` when the last member is released. */
void bus_finish(struct bus *bus, void (*done)(void *context), void *context);

/* After the thread has ended. */
void bus_destroy(struct bus *bus);

#endif
