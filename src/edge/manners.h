/*
 * manners: what an HTTP/2 connection is held to besides its calls: the client's pings, our
 * keepalive, its age, idleness. Private to edge. Pure: the caller brings the time (ms, monotonic)
 * and does what is due.
 * Source: edge.md §2, §7; gRPC proposals A8 and A9.
 */
#ifndef EDGE_MANNERS_H
#define EDGE_MANNERS_H

#include "config/config.h"

#define MANNERS_NEVER UINT64_MAX
/* Bad pings that are let pass; the next one ends the connection. */
#define MANNERS_STRIKES_MAX 2

enum manners_due {
	MANNERS_NOTHING,
	MANNERS_PING, /* send one: nothing was heard for the keepalive interval */
	MANNERS_DEAD, /* it was not answered */
	MANNERS_AGED, /* told once */
	MANNERS_IDLE, /* told once */
};

struct manners {
	/* 0: off */
	uint64_t ping_interval_ms, keepalive_ms, keepalive_timeout_ms, idle_ms;
	uint64_t heard_ms;     /* the client's last bytes; while a ping waits: when that was sent */
	uint64_t aged_ms;      /* when it will be; MANNERS_NEVER */
	uint64_t idling_ms;    /* since when it has no call; MANNERS_NEVER: it has one */
	uint64_t pinged_ms;    /* the client's last ping, with has_pinged */
	uint32_t answer_count; /* as manners_take_ping was told last, its low bits */
	bool has_pinged, ping_waits;
	uint8_t strikes;
};

/*
 * A connection without a call yet. gRPC: by the GATEWAY_GRPC_ options; else idleness alone, by
 * GATEWAY_HTTP_IDLE_TIMEOUT. `random` spreads the age over ±10 %.
 */
void manners_init(struct manners *manners, const struct config *config, bool is_grpc,
		  uint64_t now_ms, uint32_t random);

/* Any bytes of the client. */
void manners_note_bytes(struct manners *manners, uint64_t now_ms);

/* Whether it has calls. */
void manners_note_calls(struct manners *manners, bool has_calls, uint64_t now_ms);

/* It is on its way out: neither age nor idleness are of interest any more. */
void manners_note_leaving(struct manners *manners);

/*
 * A ping of the client. `answer_count`: HEADERS and DATA frames sent to it so far; one of them
 * forgives all earlier pings.
 * Returns whether it was one bad ping too many.
 */
bool manners_take_ping(struct manners *manners, uint64_t answer_count, uint64_t now_ms);

/* When manners_due must be asked next; MANNERS_NEVER. */
uint64_t manners_next_ms(const struct manners *manners);

/* What must be done now. Ask again until it is MANNERS_NOTHING. */
enum manners_due manners_due(struct manners *manners, uint64_t now_ms);

#endif
