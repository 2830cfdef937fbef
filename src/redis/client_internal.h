/* client_internal: what client.c, call.c, greeting.c and redis_metrics.c share. Thread: the
 * worker's. */
#ifndef REDIS_CLIENT_INTERNAL_H
#define REDIS_CLIENT_INTERNAL_H

#include "redis/client.h"
#include "redis/pipeline.h"

enum redis_state {
	CLIENT_OFF, /* not started, or stopped */
	CLIENT_DIALING,
	CLIENT_GREETING,
	CLIENT_READY,
	CLIENT_DROPPING, /* the connection is closing */
	CLIENT_WAITING,	 /* for the next try */
	CLIENT_STOPPING, /* dial or connection is closing, for good */
	CLIENT_STATE_COUNT
};

/*
 * Commands not yet handed to the connection. At 64 bytes each REDIS_IN_FLIGHT_MAX of them are 4
 * MiB; four times that, so that the count is what is met first.
 */
#define CLIENT_OUT_BYTES_MAX  (16u << 20)
#define CLIENT_OUT_BYTES_KEPT (64u << 10) /* memory kept between bursts */

#define GREETING_STEPS_MAX 3   /* AUTH, SELECT, PING */
#define LAST_ERROR_MAX	   192 /* a sentence with a host's name in it is cut, never spilt */

enum greeting_step { GREETING_AUTH, GREETING_SELECT, GREETING_PING };

struct greeting {
	enum greeting_step steps[GREETING_STEPS_MAX];
	size_t count, answered;
};

struct redis_metrics {
	struct metric_counter commands[REDIS_ROLE_COUNT][REDIS_OUTCOME_COUNT];
	struct metric_histogram latency[REDIS_ROLE_COUNT];
	struct metric_gauge connected;
	struct metric_counter reconnects;
	struct metric_counter protocol_errors, stalls; /* gateway_glitches_total */
};

struct redis_client {
	struct worker *worker;
	struct redis_options options;
	struct redis_metrics metrics;
	uint8_t state; /* enum redis_state */
	struct dial dial;
	struct conn conn;
	struct tls tls; /* of the latest connection, if options.tls */
	bool conn_is_live;	    /* opened, and `closed` is still to come */
	struct resp_reader *reader; /* of the latest connection; NULL before the first */
	struct task rest;	    /* of the answers that it has whole */
	struct greeting greeting;
	struct pipeline pipeline;
	struct buf out;
	struct deadline greeting_deadline, retry, stall;
	uint64_t stall_due_ms; /* while `stall` is armed */
	uint64_t dial_started_ms;
	uint64_t last_received_ms; /* bytes of any kind */
	uint64_t failover_ms;	   /* when a reply last made us drop a connection; 0: never */
	uint32_t failed_tries;	   /* since the last READY */
	bool dialed_before;
	bool silence_suspected; /* one judgement found the connection silent too long */
	uint64_t random;
	struct task stopped_task;
	void (*changed)(struct redis_client *client, bool ready, void *context);
	void *changed_context;
	void (*stopped)(void *context);
	void *stopped_context;
	char last_error[LAST_ERROR_MAX];
};

/* client.c: drops the connection and dials anew; everything that waits hears REDIS_LOST. DIALING
 * has none to drop. */
void client_drop(struct redis_client *client, const char *why);

/* client.c: the greeting was answered well. */
void client_become_ready(struct redis_client *client);

/* A pseudo-random number below `bound`, for jitter. `state` is not 0. */
uint64_t jitter_below(uint64_t *state, uint64_t bound);

/* Returns a seed from the kernel, never 0. */
uint64_t jitter_seed(void);

/* The n-th wait after a failure (n from 0): 100 ms doubled up to 2 s, of it a random part from half
 * on. Source: edge.md §3. */
uint32_t jitter_backoff_ms(uint64_t *state, uint32_t failed_tries);

/* greeting.c: puts AUTH, SELECT and PING, as far as configured, into client->out. Returns 0 or a
 * buf's code. */
int greeting_begin(struct redis_client *client);

/* greeting.c: one answer. May drop the connection or make the client ready. */
void greeting_answer(struct redis_client *client, const struct resp_value *value);

/* The first word of an error reply if it is one of upper-case letters ("WRONGPASS"), else "ERR". */
struct span redis_error_code(const struct resp_value *value);

/* call.c: one answer, in order. */
void call_answer(struct redis_client *client, const struct resp_value *value);

/* call.c: everything that waits hears REDIS_LOST; tombstones go. */
void call_fail_all(struct redis_client *client);

/* call.c: client->stall expired. */
void call_judge_silence(struct deadline *deadline);

/* redis_metrics.c. Returns 0 or -ENOMEM. */
int redis_metrics_register(struct redis_metrics *metrics, struct metric_registry *registry,
			   enum redis_role role);

#endif
