/*
 * push_team: the crews of a run, one thread each; the first one's is the caller's. Orders go to all
 * of them by one atomic; what they report back are their counters.
 */
#ifndef RINGBENCH_PUSH_TEAM_H
#define RINGBENCH_PUSH_TEAM_H

#include "push_crew.h"

#include <pthread.h>

#define PUSH_THREADS_MAX 16

enum push_order {
	PUSH_ORDER_WAIT,
	PUSH_ORDER_OPEN,    /* connect and subscribe, then only receive */
	PUSH_ORDER_STALL,   /* the connections chosen stop reading */
	PUSH_ORDER_UNSTALL, /* and read again */
	PUSH_ORDER_CLOSE,   /* close all; a second OPEN may follow */
	PUSH_ORDER_LEAVE,   /* close all and end */
};

struct push_team_options {
	uint32_t threads, streams, streams_per_connection;
	uint32_t active_streams;   /* the first so many of the streams get events */
	uint32_t at_once;	   /* connections that may be opening at the same time; 0: all */
	uint32_t stalled;	   /* connections that stop reading when told */
	uint32_t source_addresses; /* 127.0.0.2 …; 0: the kernel chooses */
	bool times_openings;	   /* latency is that of each connection's opening */
	struct op_address target;
	uint32_t rounds; /* openings made ahead for so many */
};

struct push_team;

struct push_member {
	struct push_crew crew;
	struct push_team *team;
	pthread_t thread;
	struct histogram *latency; /* the crew's */
	uint32_t first_conn;	   /* its place among the team's */
	uint32_t next_conn, opening_count, open_conns;
	uint32_t order_seen; /* number of the last order carried out */
	bool is_running;
	int error;
	struct metric_counter settled; /* connections of this OPEN with nothing pending */
	struct metric_counter closed;  /* connections closed since this OPEN */
	struct metric_counter last_settled_us;
	struct metric_counter obeyed; /* number of the last order carried out */
};

struct push_team {
	struct push_team_options options;
	struct push_member *members;
	uint32_t conn_count, active_conns;
	struct push_out **openings; /* [round][connection]; NULL once sent */
	uint32_t round;
	uint64_t latency_from_us, latency_to_us; /* the crews' from the next order on */
	_Atomic uint64_t order; /* number of the order << 8 | enum push_order */
};

/* Returns 0 or a negative errno, with a sentence on standard error. */
int push_team_create(struct push_team *team, const struct push_team_options *options);
void push_team_destroy(struct push_team *team);

/* The crew and stream of the team's n-th stream; streams of one connection are neighbours. */
struct push_stream *push_team_stream(struct push_team *team, uint32_t index);

/* Starts the other threads. */
int push_team_start(struct push_team *team);

void push_team_tell(struct push_team *team, enum push_order order);

/* Tells, and turns until all have heard. Returns 0 or a negative errno. */
int push_team_command(struct push_team *team, enum push_order order);

/* One turn of the caller's own crew. Returns 0 or a negative errno. */
int push_team_turn(struct push_team *team, uint64_t wait_us);

/* Sums over the crews of a counter at this place within struct push_member. */
uint64_t push_team_sum(const struct push_team *team, size_t offset);

#define PUSH_SUM(team, field) push_team_sum(team, offsetof(struct push_member, field))

/* Turns until so many connections are settled, or closed; false: not in time. */
bool push_team_await_settled(struct push_team *team, uint64_t timeout_ms);
bool push_team_await_closed(struct push_team *team, uint64_t timeout_ms);

/* Tells all to leave and waits for their threads. */
void push_team_leave(struct push_team *team);

#endif
