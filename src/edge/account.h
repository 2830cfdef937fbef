/*
 * account: what is counted and logged of the connections and calls of one listener on one worker.
 * Private to edge; thread: the worker's.
 *
 * Each route's success has its series from the start; the others get theirs when their first call
 * ends, never while one is handled before. How many there can be is bounded: routes ×
 * ACCOUNT_SERIES_MAX. Paths that a service names itself (request_set_label) come and go with its
 * configuration: as many as ACCOUNT_LABELS_MAX are known at once. Source: edge.md §8.
 */
#ifndef EDGE_ACCOUNT_H
#define EDGE_ACCOUNT_H

#include "codec/http1.h"
#include "edge/glitches.h"
#include "edge/server.h"

/* Method and status, or code, of one route. A service may pass on any status: further ones count as
 * "other". */
#define ACCOUNT_SERIES_MAX 64

/*
 * Labels of one listener and worker, each with its series: at most so many that a registry's
 * METRIC_SERIES_MAX holds them with a handful of statuses each. One that no call had for as long as
 * this makes room for another; if there is none, calls count as path "other".
 */
#define ACCOUNT_LABELS_MAX    1024
#define ACCOUNT_LABEL_IDLE_MS 3600000

/* Status of a request whose client was gone before its answer; never sent. */
#define HTTP_CLIENT_GONE 499

enum connection_outcome {
	OUTCOME_CLOSED,	    /* by us, in order: idle, drained, answered with close */
	OUTCOME_PEER,	    /* by the peer, in order */
	OUTCOME_RESET,	    /* the peer or the network broke it */
	OUTCOME_TIMEOUT,    /* a header, body or transport timeout */
	OUTCOME_PROTOCOL,   /* the peer did not keep to the protocol */
	OUTCOME_RESOURCE,   /* no memory, no operation slot */
	OUTCOME_REFUSED,    /* over GATEWAY_MAX_CONNECTIONS */
	OUTCOME_PEER_LIMIT, /* over GATEWAY_MAX_CONNECTIONS_PER_IP */
	OUTCOME_CUT,	    /* at the end of the shutdown timeout */
	OUTCOME_COUNT
};

/*
 * The access log has a line for each call, streams included, when it ends. Lines of streams are
 * bounded, as many streams may end at once (a revoked session, a lost network, the end): each
 * listener and worker writes this many in a second, and its next line tells how many were held
 * back. Those of other calls, which somebody asked for one by one, are not bounded.
 */
#define ACCOUNT_STREAM_LINES_PER_S 200

struct account;

/* Returns 0 or -ENOMEM. The router's routes are known to it from now on. */
int account_create(struct account **account, struct worker *worker,
		   const struct server_options *options);
void account_destroy(struct account *account);

/* Shows the gauge as the listener's. Lifetime: until account_destroy. Returns 0 or -ENOMEM. */
int account_watch_h2_memory(struct account *account, const struct metric_gauge *used_bytes);

/* As account_watch_h2_memory, of the listener's accepts. */
int account_watch_accepts(struct account *account, const struct metric_counter *failed_count);

void account_opened(struct account *account);
void account_closed(struct account *account, enum connection_outcome outcome);
void account_glitch(struct account *account, enum glitch glitch);

/* A glitch HTTP1, and why. */
void account_http1_fault(struct account *account, enum http1_fault fault);

/* The head of a streamed answer leaves: that is its latency. Before account_call. */
void account_begun(struct account *account, const struct request *request);

/* The call is over: request->status and sent_bytes are final. `kind`: how it was answered, whatever
 * its route. */
void account_call(struct account *account, const struct request *request, enum route_kind kind);

/* Streams that the end of the process ends from now on are no errors. */
void account_note_ending(struct account *account);

struct conn_counters *account_conn_counters(struct account *account);

#endif
