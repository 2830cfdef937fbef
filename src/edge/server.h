/*
 * server: one listener of one worker and all its connections. The face is chosen by the first
 * bytes: the HTTP/2 preface, else HTTP/1.1 where the listener allows it. Thread: the worker's.
 *
 *   start ─► accepting ─ stop_accepting ─► drain (GOAWAY; idle ones closed) ─► calls end ─► stopped
 *                                           └─ cut: whatever is left is closed now
 */
#ifndef EDGE_SERVER_H
#define EDGE_SERVER_H

#include "config/config.h"
#include "edge/peers.h"
#include "edge/router.h"
#include "net/listener.h"

enum server_protocols {
	SERVER_HTTP1 = 1,
	SERVER_HTTP2 = 2,
	SERVER_GRPC = 4, /* HTTP/2 requests must be gRPC: 415 otherwise */
};

/* What a listener's service says to a request whose head is there, before its body is taken. */
struct server_gate {
	uint64_t wait_ms;      /* > 0: it is answered 429, with Retry-After */
	size_t body_bytes_max; /* over it 413; its route's own bound stands besides */
};

struct server_options {
	const char *name;   /* "public", "grpc", "admin": label `listener` */
	unsigned protocols; /* of enum server_protocols */
	const struct router *router;
	const struct config *config;	/* limits, timeouts, access log */
	void *service;			/* given to every request */
	struct connection_limit *limit; /* shared by the process; may be NULL */
	struct peers *peers;		/* likewise: connections by peer */
	/* A connection from one of these begins with a PROXY protocol header. NULL: from none. */
	const struct config_cidrs *trusted_proxies;
	/* Asked once for each HTTP request, with a route or without. NULL: all may come in. */
	struct server_gate (*admit)(const struct request *request);
	/*
	 * Asked for paths that the router does not have, before the header fields are there; may set
	 * request->context. Returns NULL when it is no path of its either. May be NULL.
	 */
	const struct route *(*find)(struct request *request);
	struct metric_registry *metrics;
	struct metric_counter *copied_bytes; /* of payloads, as in conn_counters; may be NULL */
	struct zerocopy *zerocopy;	     /* the worker's; may be NULL */
};

/* Open connections of the whole process against GATEWAY_MAX_CONNECTIONS. At the bound a new one is
 * closed and counted. */
struct connection_limit {
	_Atomic uint64_t open_count;
	uint64_t max_count; /* 0: none */
};

struct server;

int server_create(struct server **server, struct worker *worker,
		  const struct server_options *options);

/* Accepts from `fd` (see listener_start). Returns 0 or a negative errno. */
int server_start(struct server *server, int fd, bool shared);

/* The listener's accepts end; connections go on. */
void server_stop_accepting(struct server *server);

/*
 * HTTP/2: GOAWAY; HTTP/1.1: the answer in progress is the last. Idle connections close. `stopped`
 * is called once when the last connection is closed.
 */
void server_drain(struct server *server, void (*stopped)(void *context), void *context);

/*
 * How many connections wait for a service of ours. The others that are left wait for their peers:
 * for the rest of a request, or for room to send an answer (a window that is not opened, bytes that
 * are not read).
 */
uint32_t server_owing_count(const struct server *server);

/* Closes what is left, answers or not. Returns how many connections were cut. */
uint32_t server_cut(struct server *server);

uint32_t server_connection_count(const struct server *server);

/* After `stopped`. */
void server_destroy(struct server *server);

#endif
