/*
 * client: one pipelined connection to Redis on the worker's ring: commands in, answers in order,
 * each with a deadline. Dials by itself, AUTH and SELECT first, dials again when the connection is
 * lost. Thread: the worker's.
 *
 *   OFF -start-> DIALING -> GREETING (TLS, AUTH, SELECT, PING) -> READY -lost-> DROPPING -closed->
 * WAITING
 *                  ^---------------------- after <= 100 ms, then by backoff to 2 s
 * ----------------'
 *
 * Lost is: the peer closed; bytes that are no answer, or an answer that nobody asked for; the
 * oldest command (whether still waited for or not) four times its timeout old, and 1 s, without a
 * byte received meanwhile; an error reply READONLY, LOADING, MASTERDOWN or UNBLOCKED (a failover:
 * the name may lead elsewhere now), at most every 2 s. Of a name with several addresses another
 * is tried after a connection that we gave up. Commands without a timeout are waited for
 * until the transport gives up.
 */
#ifndef REDIS_CLIENT_H
#define REDIS_CLIENT_H

#include "codec/resp.h"
#include "net/conn.h"
#include "net/dial.h"
#include "net/tls.h"

/* Labels of gateway_redis_*. */
enum redis_role {
	REDIS_SESSION,
	REDIS_REPLAY,
	REDIS_SESSION_EVENTS,
	REDIS_CLIENT_EVENTS,
	REDIS_ROLE_COUNT
};

/* "session", "replay", "session_events", "client_events". */
const char *redis_role_name(enum redis_role role);

enum redis_outcome {
	REDIS_REPLY,   /* value is the answer, of any type but error */
	REDIS_REFUSED, /* value is Redis's error */
	REDIS_TIMEOUT, /* not answered in time; a later answer is dropped */
	REDIS_LOST,    /* the connection was lost: whether Redis did it is not known */
	REDIS_OUTCOME_COUNT
};

#define REDIS_IN_FLIGHT_MAX 65536 /* commands waiting on one connection; a storm asks for 18,000 */

struct redis_options {
	struct endpoint endpoint;
	struct span username, password; /* empty: no AUTH. Lifetime: the client's */
	uint32_t db;
	const struct tls_context *tls;	 /* NULL: plain. Lifetime: the client's */
	const char *tls_name;		 /* of the certificate; NULL: the endpoint's host */
	uint32_t connect_timeout_ms;	 /* dial, TLS handshake and greeting together */
	enum redis_role role;		 /* of the connection itself: connected, reconnects */
	struct dns *dns;		 /* may be NULL when the endpoint is numeric or unix */
	struct resp_limits limits;	 /* value_bytes_max 0: 16 MiB, 65,536 items, depth 7 */
	struct metric_registry *metrics; /* may be NULL */
};

struct redis_client;
struct redis_call;

/* `value` is lent and NULL unless REDIS_REPLY or REDIS_REFUSED. Never called inside
 * redis_call_start. The call may be started again inside. */
typedef void redis_done_fn(struct redis_call *call, enum redis_outcome outcome,
			   const struct resp_value *value);

/* Embedded in who waits. */
struct redis_call {
	redis_done_fn *done;
	struct redis_client *client; /* NULL: idle */
	struct deadline deadline;
	uint64_t started_us;
	uint64_t sequence; /* place in the pipeline */
	enum redis_role role;
};

int redis_client_create(struct redis_client **client, struct worker *worker,
			const struct redis_options *options);

/* Begins to dial. `changed` (may be NULL) hears of READY and of its loss. */
void redis_client_start(struct redis_client *client,
			void (*changed)(struct redis_client *client, bool ready, void *context),
			void *context);

bool redis_client_is_ready(const struct redis_client *client);

/* Why the last attempt failed, a short sentence, or "". For start-up errors and logs. */
const char *redis_client_last_error(const struct redis_client *client);

/* The owner knows better that this connection is dead: it is lost now, as if Redis had closed it.
 */
void redis_client_reconnect(struct redis_client *client, const char *why);

/* Fails what waits (REDIS_LOST), closes, and later calls `stopped`, when nothing is in flight;
 * redis_client_destroy may follow from there on. Any time between start and stop, callbacks
 * included. `changed` is not called any more. */
void redis_client_stop(struct redis_client *client, void (*stopped)(void *context), void *context);
void redis_client_destroy(struct redis_client *client);

struct redis_command {
	const struct span *args;
	size_t count;
	enum redis_role role; /* for metrics */
	uint32_t timeout_ms;  /* 0: none */
};

/*
 * Sends a command; many in one turn leave in one send. Args are copied.
 * Returns 0, -ENOTCONN (not ready), -ENOBUFS (REDIS_IN_FLIGHT_MAX, or the send queue is full),
 * -ENOMEM.
 */
int redis_call_start(struct redis_client *client, struct redis_call *call, redis_done_fn *done,
		     const struct redis_command *command);

/* `done` will not be called. Safe on an idle call. */
void redis_call_cancel(struct redis_call *call);

#endif
