/*
 * connection: one accepted connection, and the face that speaks on it once the first bytes have
 * told which. Private to edge; thread: the worker's.
 *
 *   accepted ─► (face_proxy ─►) sniffing ─► face_http1 | face_h2 ─► conn closed ─► face->release ─►
 * freed
 */
#ifndef EDGE_CONNECTION_H
#define EDGE_CONNECTION_H

#include "base/slab.h"
#include "edge/account.h"
#include "net/conn.h"

struct connection;
struct http1;
struct http2;

/* What a protocol does with a connection. `connection->state` is the face's. */
struct face {
	void (*received)(struct connection *connection, struct span bytes);
	void (*peer_finished)(struct connection *connection);
	void (*produce)(struct connection *connection);
	void (*expired)(struct connection *connection); /* connection->deadline */
	/* No new requests; idle: close. Called once; may be before the first byte. */
	void (*drain)(struct connection *connection);
	/* Whether a service is still at work on an answer, which the peer would get if there were
	 * one. NULL: there are no services yet. */
	bool (*owes)(const struct connection *connection);
	/* The transport is gone: calls in progress are cancelled, memory is given back. */
	void (*release)(struct connection *connection);
};

extern const struct face face_proxy, face_sniff, face_http1, face_h2;

#define PREFACE_BYTES 24 /* H2_PREFACE */

/*
 * One for each open connection, so its bytes count (bench/README.md, "Bytes per idle stream").
 * A conn's 432: peer's address 136, four operations 64, linger timer 40, flush and sweep 48,
 * starved 24, send queue 32, options 24, the rest pointers and states. Beside it here 120.
 */
struct connection {
	struct conn conn;
	struct server *server;
	struct list link;
	const struct face *face;
	struct deadline deadline; /* of the face: header, idle, manners */
	bool draining;
	bool is_counted; /* in the listener's peers */
	bool has_outcome;
	enum connection_outcome outcome; /* if has_outcome, whatever the transport says */
	union {
		struct {
			uint8_t bytes[PREFACE_BYTES];
			uint8_t len;
		} sniffed;
		struct buf proxy; /* of the header, what is there */
		struct http1 *http1;
		struct http2 *http2;
	};
};
_Static_assert(sizeof(struct connection) <= 552, "560 bytes of malloc's for each connection");

/*
 * How long a body is watched before its rate (GATEWAY_HTTP_MIN_BODY_RATE) is judged: no shorter
 * than its whole time by default, so that the rate bounds only those who are given more.
 */
#define BODY_WINDOW_MS 10000

/*
 * Calls of one worker's listener at once: 5 for each of 200,000 connections, as the operation
 * table. Each has 704 bytes and an arena of 1 KiB besides its body; the arena of an open stream is
 * given back (request_settle).
 */
#define SERVER_CALLS_MAX (1u << 20)

/* The head of an HTTP/1.1 answer, and a small body behind it. */
#define ANSWER_BYTES_MAX (20u << 10)

/* An HTTP answer that has no content, nor a length of it: RFC 9110 §6.4.1. */
static inline bool status_has_no_body(int status)
{
	return status == 204 || status == 304;
}

#define DATE_BYTES 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */

struct server {
	struct server_options options;
	struct worker *worker;
	struct listener listener;
	bool listening, draining, told_stopped;
	struct list connections;
	uint32_t connection_count;
	struct slab calls;	     /* of face_h2 */
	struct h2_memory *h2_memory; /* of its sessions; NULL: HTTP/1.1 only */
	struct account *account;
	struct task settle;
	struct deadline trim; /* of h2_memory: after connections have closed */
	void (*stopped)(void *context);
	void *stopped_context;
	uint64_t random_count; /* numbers drawn */
	struct buf answer;     /* of face_http1, while it is being written */
	int64_t date_s;
	char date[DATE_BYTES + 1];
};

/* Small memory of a request: its header fields, and what a service keeps besides. */
#define REQUEST_ARENA_BYTES_MAX (256u << 10)

/* A request on this connection, begun now; zeroed before. */
void connection_begin_request(struct connection *connection, struct request *request,
			      const struct face_operations *operations);

/* What the listener's service says to the request; everything, if it has no say. */
struct server_gate connection_ask_gate(const struct connection *connection,
				       const struct request *request);

/* "3": seconds, rounded up. */
#define RETRY_AFTER_BYTES_MAX SPAN_DECIMAL_BYTES
struct span retry_after_write(char text[RETRY_AFTER_BYTES_MAX], uint64_t wait_ms);

/* The value of the Date header; lent until the next call. RFC 9110 §6.6.1. */
struct span server_date(struct server *server);

/* x-request-id and traceparent are kept for the access log if they are what they should be. */
void request_note_header(struct request *request, struct span name, struct span value);

/* As request_note_header, for request_find_header. */
void request_keep_header(struct request *request, struct span name, struct span value);

/* Before `start`: by the route's `refuse`, or request_reply_error. */
void request_refuse(struct request *request, enum err err, const struct reply_header *headers,
		    size_t header_count);

/*
 * The request's route: the router's, else server_options.find's; its method and target are there.
 * NULL with `*err` and, for ERR_METHOD_NOT_ALLOWED, `allow`.
 */
const struct route *connection_find_route(const struct connection *connection,
					  struct request *request, enum err *err,
					  char allow[ROUTER_ALLOW_MAX]);

/* Splits ":path" or a request target's path from its query. */
void request_set_target(struct request *request, struct span target);

/* Closes for a reason that the transport does not know. First one counts. */
void connection_set_outcome(struct connection *connection, enum connection_outcome outcome);

/*
 * Nothing is asked or owed on it, and the process wants to end: once all is sent, the peer's end is
 * waited for as long as a round trip takes, not as long as an answer might.
 */
void connection_hurry(struct connection *connection);

/* For spreading things in time, not for secrets. */
uint32_t server_random(struct server *server);

/* Whether the peer's address is one of a trusted proxy. */
bool connection_is_proxied(const struct connection *connection);

/*
 * Whose connection it is is known: conn.peer is set. The first byte of a protocol may come now, in
 * GATEWAY_HTTP_HEADER_TIMEOUT. Returns false if that peer has as many connections as it may:
 * closed.
 */
bool connection_begin_sniffing(struct connection *connection);

/* The faces' beginnings. Return 0 or -ENOMEM. */
void proxy_open(struct connection *connection);
int http1_open(struct connection *connection);
int http2_open(struct connection *connection);

/* Bytes of one object of server.calls. */
size_t http2_call_bytes(void);

#endif
