#include "edge/server.h"

#include "base/cidr.h"
#include "codec/h2.h"
#include "codec/h2_memory.h"
#include "edge/connection.h"
#include "net/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/*
 * Room: what producers fill in one go; 64 messages of 1 KiB leave in one send, and a slow reader
 * costs no more. Max: control frames and one frame of 16 KiB may still come behind it.
 */
#define QUEUE_BYTES_ROOM (128u << 10)
#define QUEUE_BYTES_MAX	 (1u << 20)

/* For the peer's FIN of an idle connection that is drained: a client that is not polled sends none.
 */
#define HURRIED_LINGER_MS 100

/*
 * Clients that reconnect at once find the memory of their last sessions warm; what nobody has used
 * for this time goes back to the system, a quarter of a millisecond's worth at a time.
 */
#define TRIM_AFTER_MS 2000
#define TRIM_AGAIN_MS 10
#define TRIM_BLOCKS   64

_Static_assert(sizeof(H2_PREFACE) - 1 == PREFACE_BYTES, "RFC 9113 §3.4");

static struct connection *connection_of(struct conn *conn)
{
	return CONTAINER_OF(conn, struct connection, conn);
}

/* ---- what the faces share ---- */

void connection_begin_request(struct connection *connection, struct request *request,
			      const struct face_operations *operations)
{
	struct server *server = connection->server;

	request->face = operations;
	request->worker = server->worker;
	request->peer = &connection->conn.peer;
	request->service = server->options.service;
	request->started_us = server->worker->now_us;
	arena_init(&request->arena,
		   REQUEST_ARENA_BYTES_MAX + (size_t)server->options.config->http_max_header_bytes);
}

const struct route *connection_find_route(const struct connection *connection,
					  struct request *request, enum err *err,
					  char allow[ROUTER_ALLOW_MAX])
{
	const struct server_options *options = &connection->server->options;
	const struct route *route;

	*err = ERR_NONE;
	route = router_find(options->router, request->method, request->path, err, allow);
	if (route || *err != ERR_NOT_FOUND || !options->find)
		return route;
	route = options->find(request);
	if (route)
		*err = ERR_NONE;
	return route;
}

struct server_gate connection_ask_gate(const struct connection *connection,
				       const struct request *request)
{
	const struct server_options *options = &connection->server->options;

	return options->admit ? options->admit(request)
			      : (struct server_gate){.body_bytes_max = SIZE_MAX};
}

struct span retry_after_write(char text[RETRY_AFTER_BYTES_MAX], uint64_t wait_ms)
{
	return span_write_uint64(text, wait_ms / 1000 + (wait_ms % 1000 != 0));
}

struct span server_date(struct server *server)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t now = (time_t)(server->worker->wall_ms / 1000);
	struct tm utc;

	if ((server->date_s != now || server->date[0] == '\0') && gmtime_r(&now, &utc)) {
		char text[64];

		/* not strftime: the names must not follow the locale */
		snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT",
			 days[utc.tm_wday], utc.tm_mday, months[utc.tm_mon], utc.tm_year + 1900,
			 utc.tm_hour, utc.tm_min, utc.tm_sec);
		memcpy(server->date, text, DATE_BYTES);
		server->date_s = now;
	}
	return span_make(server->date, DATE_BYTES);
}

void connection_set_outcome(struct connection *connection, enum connection_outcome outcome)
{
	if (!connection->has_outcome)
		connection->outcome = outcome;
	connection->has_outcome = true;
}

void connection_hurry(struct connection *connection)
{
	connection->conn.options.linger_read_ms = HURRIED_LINGER_MS;
}

uint32_t server_random(struct server *server)
{
	const struct {
		uint64_t now_us, count;
		uintptr_t server;
	} seed = {server->worker->now_us, ++server->random_count, (uintptr_t)server};

	return (uint32_t)hash_bytes((struct hash_secret){{0}}, span_make(&seed, sizeof(seed)));
}

/* ---- sniffing: which protocol ---- */

/* The bytes seen so far, then `rest`, go to the face. */
static void sniff_hand_over(struct connection *connection, const struct face *face,
			    struct span rest)
{
	uint8_t first[PREFACE_BYTES];
	size_t len = connection->sniffed.len;
	bool is_http2 = face == &face_h2;

	memcpy(first, connection->sniffed.bytes, len);
	if ((is_http2 ? http2_open(connection) : http1_open(connection)) != 0) {
		connection_set_outcome(connection, OUTCOME_RESOURCE);
		conn_close(&connection->conn);
		return;
	}
	connection->face = face;
	if (len > 0)
		face->received(connection, span_make(first, len));
	if (rest.len > 0 && conn_is_open(&connection->conn))
		face->received(connection, rest);
	if (connection->server->draining && conn_is_open(&connection->conn)) {
		connection->draining = true;
		face->drain(connection);
	}
}

static void sniff_refuse(struct connection *connection)
{
	account_glitch(connection->server->account, GLITCH_PREFACE);
	connection_set_outcome(connection, OUTCOME_PROTOCOL);
	conn_close(&connection->conn);
}

static void sniff_received(struct connection *connection, struct span bytes)
{
	unsigned protocols = connection->server->options.protocols;
	size_t len = connection->sniffed.len;
	size_t take = bytes.len < PREFACE_BYTES - len ? bytes.len : PREFACE_BYTES - len;
	bool is_preface =
		(protocols & SERVER_HTTP2) != 0 && memcmp(&H2_PREFACE[len], bytes.data, take) == 0;

	if (!is_preface && (protocols & SERVER_HTTP1) != 0) {
		sniff_hand_over(connection, &face_http1, bytes);
		return;
	}
	if (!is_preface) {
		sniff_refuse(connection);
		return;
	}
	memcpy(connection->sniffed.bytes + len, bytes.data, take);
	connection->sniffed.len = (uint8_t)(len + take);
	if (connection->sniffed.len == PREFACE_BYTES)
		sniff_hand_over(connection, &face_h2, span_from(bytes, take));
}

static void sniff_peer_finished(struct connection *connection)
{
	connection_set_outcome(connection, OUTCOME_PEER);
	conn_close(&connection->conn);
}

static void sniff_produce(struct connection *connection)
{
	(void)connection;
}

static void sniff_expired(struct connection *connection)
{
	account_glitch(connection->server->account, GLITCH_TIMEOUT);
	connection_set_outcome(connection, OUTCOME_TIMEOUT);
	conn_close(&connection->conn);
}

/* With a part of the preface there, its request is on the way: the header timeout bounds that. */
static void sniff_drain(struct connection *connection)
{
	if (connection->sniffed.len == 0) {
		connection_hurry(connection);
		conn_finish_sending(&connection->conn);
	} else {
		connection->draining = false;
	}
}

static void sniff_release(struct connection *connection)
{
	(void)connection;
}

const struct face face_sniff = {
	.received = sniff_received,
	.peer_finished = sniff_peer_finished,
	.produce = sniff_produce,
	.expired = sniff_expired,
	.drain = sniff_drain,
	.release = sniff_release,
};

/* ---- connections ---- */

static void connection_received(struct conn *conn, struct span bytes)
{
	struct connection *connection = connection_of(conn);

	connection->face->received(connection, bytes);
}

static void connection_peer_finished(struct conn *conn)
{
	struct connection *connection = connection_of(conn);

	connection->face->peer_finished(connection);
}

static void connection_produce(struct conn *conn)
{
	struct connection *connection = connection_of(conn);

	connection->face->produce(connection);
}

static void connection_expired(struct deadline *deadline)
{
	struct connection *connection = CONTAINER_OF(deadline, struct connection, deadline);

	if (conn_is_open(&connection->conn))
		connection->face->expired(connection);
}

static enum connection_outcome outcome_of(const struct connection *connection, enum conn_end end)
{
	static const enum connection_outcome outcomes[] = {
		[CONN_END_LOCAL] = OUTCOME_CLOSED,	[CONN_END_PEER] = OUTCOME_PEER,
		[CONN_END_RESET] = OUTCOME_RESET,	[CONN_END_TIMEOUT] = OUTCOME_TIMEOUT,
		[CONN_END_RESOURCE] = OUTCOME_RESOURCE, [CONN_END_SECURITY] = OUTCOME_RESET,
	};

	return connection->has_outcome ? connection->outcome : outcomes[end];
}

static void server_settle(struct server *server)
{
	if (server->draining && !server->listening && server->connection_count == 0)
		worker_sweep_later(server->worker, &server->settle);
}

static void limit_release(struct server *server)
{
	if (server->options.limit)
		atomic_fetch_sub_explicit(&server->options.limit->open_count, 1,
					  memory_order_relaxed);
}

/* ---- memory of sessions that have ended ---- */

static void server_trim(struct deadline *deadline)
{
	struct server *server = CONTAINER_OF(deadline, struct server, trim);

	if (h2_memory_trim(server->h2_memory, TRIM_BLOCKS))
		deadline_arm(server->worker, deadline, TRIM_AGAIN_MS);
	else if (h2_memory_watch(server->h2_memory))
		deadline_arm(server->worker, deadline, TRIM_AFTER_MS);
}

static void server_trim_later(struct server *server)
{
	if (server->h2_memory && !server->draining && !deadline_is_armed(&server->trim) &&
	    h2_memory_watch(server->h2_memory))
		deadline_arm(server->worker, &server->trim, TRIM_AFTER_MS);
}

static void connection_closed(struct conn *conn, enum conn_end end, int error)
{
	struct connection *connection = connection_of(conn);
	struct server *server = connection->server;

	(void)error;
	deadline_disarm(server->worker, &connection->deadline);
	connection->face->release(connection);
	list_remove(&connection->link);
	server->connection_count--;
	limit_release(server);
	if (connection->is_counted)
		peers_release(server->options.peers, &conn->peer);
	/* Only now: whoever reads that it is gone finds its place free. */
	account_closed(server->account, outcome_of(connection, end));
	free(connection);
	if (server->listening)
		listener_room(&server->listener);
	server_trim_later(server);
	server_settle(server);
}

static const struct conn_handler connection_handler = {
	.received = connection_received,
	.peer_finished = connection_peer_finished,
	.produce = connection_produce,
	.closed = connection_closed,
};

/* Counts the connection in. Returns whether it is within the bound; it is counted either way. */
static bool limit_admit(struct server *server)
{
	struct connection_limit *limit = server->options.limit;

	if (!limit)
		return true;
	/* a count, not a lock: nothing is read by its order */
	return atomic_fetch_add_explicit(&limit->open_count, 1, memory_order_relaxed) <
		       limit->max_count ||
	       limit->max_count == 0;
}

/* Whether the peer may have one more connection. */
static bool peer_admit(struct connection *connection)
{
	struct peers *peers = connection->server->options.peers;

	if (!peers)
		return true;

	enum peers_answer answer = peers_admit(peers, &connection->conn.peer);

	connection->is_counted = answer == PEERS_ADMITTED;
	return answer != PEERS_REFUSED;
}

static void connection_refuse(struct connection *connection, enum connection_outcome outcome)
{
	connection_set_outcome(connection, outcome);
	conn_close(&connection->conn);
}

static void connection_arm_header(struct connection *connection)
{
	struct server *server = connection->server;

	deadline_arm(server->worker, &connection->deadline,
		     server->options.config->http_header_timeout_ms);
}

bool connection_is_proxied(const struct connection *connection)
{
	const struct config_cidrs *trusted = connection->server->options.trusted_proxies;
	uint8_t bytes[ADDRESS_IP_MAX];
	struct span ip = span_make(bytes, address_ip(&connection->conn.peer, bytes));

	for (size_t i = 0; trusted && i < trusted->count; i++)
		if (cidr_contains(&trusted->items[i], ip))
			return true;
	return false;
}

bool connection_begin_sniffing(struct connection *connection)
{
	connection->face = &face_sniff;
	connection->sniffed.len = 0;
	if (!peer_admit(connection)) {
		connection_refuse(connection, OUTCOME_PEER_LIMIT);
		return false;
	}
	connection_arm_header(connection);
	return true;
}

static void server_accepted(struct listener *listener, struct file_ref file,
			    const struct address *peer)
{
	struct server *server = listener->context;
	struct conn_options options = {
		.queue_bytes_max = QUEUE_BYTES_MAX,
		.queue_bytes_room = QUEUE_BYTES_ROOM,
	};
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection) {
		socket_discard(server->worker, file);
		account_opened(server->account);
		account_closed(server->account, OUTCOME_RESOURCE);
		return;
	}
	account_opened(server->account);
	if (conn_open(&connection->conn, server->worker, file, &connection_handler, &options) !=
	    0) {
		account_closed(server->account, OUTCOME_RESOURCE);
		free(connection);
		return;
	}
	connection->conn.peer = *peer;
	connection->conn.counters = account_conn_counters(server->account);
	conn_allow_zerocopy(&connection->conn);
	connection->server = server;
	connection->face = &face_sniff;
	deadline_init(&connection->deadline, connection_expired);
	list_push_back(&server->connections, &connection->link);
	server->connection_count++;
	if (!limit_admit(server)) {
		connection_refuse(connection, OUTCOME_REFUSED);
		return;
	}
	if (!connection_is_proxied(connection)) {
		(void)connection_begin_sniffing(connection);
		return;
	}
	proxy_open(connection);
	connection_arm_header(connection);
}

/* ---- life ---- */

static void server_run_settle(struct task *task)
{
	struct server *server = CONTAINER_OF(task, struct server, settle);

	if (server->told_stopped)
		return;
	server->told_stopped = true;
	if (server->stopped)
		server->stopped(server->stopped_context);
}

static void server_listener_stopped(struct listener *listener)
{
	struct server *server = listener->context;

	server->listening = false;
	server_settle(server);
}

static int create_h2_memory(struct server *server)
{
	if (h2_memory_create(&server->h2_memory) != 0)
		return -ENOMEM;
	return account_watch_h2_memory(server->account, h2_memory_used_bytes(server->h2_memory));
}

int server_create(struct server **server, struct worker *worker,
		  const struct server_options *options)
{
	struct server *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->options = *options;
	made->worker = worker;
	list_init(&made->connections);
	task_init(&made->settle, server_run_settle);
	deadline_init(&made->trim, server_trim);
	slab_init(&made->calls, http2_call_bytes(), SERVER_CALLS_MAX);
	buf_init(&made->answer, ANSWER_BYTES_MAX);
	if (account_create(&made->account, worker, options) != 0)
		goto no_account;
	if (account_watch_accepts(made->account, &made->listener.failed_count) != 0)
		goto no_metrics;
	if ((options->protocols & SERVER_HTTP2) != 0 && create_h2_memory(made) != 0)
		goto no_metrics;
	*server = made;
	return 0;

no_metrics:
	account_destroy(made->account);
	h2_memory_destroy(made->h2_memory);
no_account:
	free(made);
	return -ENOMEM;
}

int server_start(struct server *server, int fd, bool shared)
{
	server->listener.name = server->options.name;
	server->listener.accepted = server_accepted;
	server->listener.stopped = server_listener_stopped;
	server->listener.context = server;

	int code = listener_start(&server->listener, server->worker, fd, shared);

	server->listening = code == 0;
	return code;
}

void server_stop_accepting(struct server *server)
{
	account_note_ending(server->account);
	if (server->listening && !server->listener.stopping)
		listener_stop(&server->listener);
}

void server_drain(struct server *server, void (*stopped)(void *context), void *context)
{
	server->draining = true;
	server->stopped = stopped;
	server->stopped_context = context;
	deadline_disarm(server->worker, &server->trim);
	server_stop_accepting(server);
	LIST_FOR_EACH (&server->connections, link) {
		struct connection *connection = CONTAINER_OF(link, struct connection, link);

		if (!conn_is_open(&connection->conn) || connection->draining)
			continue;
		connection->draining = true;
		connection->face->drain(connection);
	}
	server_settle(server);
}

uint32_t server_owing_count(const struct server *server)
{
	uint32_t count = 0;

	LIST_FOR_EACH (&server->connections, link) {
		const struct connection *connection = CONTAINER_OF(link, struct connection, link);

		/* what is not read has filled the queue: an answer would wait behind it */
		if (conn_has_room(&connection->conn) && connection->face->owes &&
		    connection->face->owes(connection))
			count++;
	}
	return count;
}

uint32_t server_cut(struct server *server)
{
	uint32_t count = 0;

	LIST_FOR_EACH (&server->connections, link) {
		struct connection *connection = CONTAINER_OF(link, struct connection, link);

		/* The others have sent everything and only wait for the peer's end. */
		if (conn_is_open(&connection->conn) || connection->conn.queue.bytes > 0) {
			connection_set_outcome(connection, OUTCOME_CUT);
			count++;
		}
		conn_close(&connection->conn);
	}
	return count;
}

uint32_t server_connection_count(const struct server *server)
{
	return server->connection_count;
}

void server_destroy(struct server *server)
{
	if (!server)
		return;
	CHECK(server->connection_count == 0 && !server->listening);
	list_remove(&server->settle.link);
	slab_finish(&server->calls);
	buf_finish(&server->answer);
	account_destroy(server->account);
	h2_memory_destroy(server->h2_memory);
	free(server);
}
