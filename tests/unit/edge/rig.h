/*
 * rig: a worker with one server on a loopback port, a small service behind it, and clients that are
 * driven from the same thread, turn by turn. Time stands still but for rig_advance.
 */
#ifndef UNIT_EDGE_RIG_H
#define UNIT_EDGE_RIG_H

#include "codec/grpc.h"
#include "edge/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define RIG_TURNS_MAX 4000 /* of 1 ms: a test that waits for what never comes */
#define RIG_BIG_BYTES (1u << 20)

struct rig {
	struct worker worker;
	uint64_t now_us;
	struct metric_registry *registry;
	struct router *router;
	struct config config;
	struct connection_limit limit;
	struct peers *peers;
	struct config_cidrs trusted; /* proxies */
	struct server_gate gate;     /* what the service says to every request */
	unsigned asked;
	struct server *server;
	int listen_fd;
	struct sockaddr_in address;
	bool stopped;
	void (*around)(bool begins); /* called before and after each turn */
	/* the service */
	struct request *held[8]; /* of /later, Hold and Watch */
	size_t held_count;
	unsigned started, cancelled, pulls;
	uint64_t stream_left; /* messages that Stream still sends */
	size_t stream_bytes;  /* of each, prefix included */
	struct request *stream;
	bool stream_ends;
	unsigned chats; /* messages that Chat has answered, RIG_BIG_BYTES each */
	char seen[256]; /* what the last request was: "method path query id trace body-length" */
};

static inline uint64_t rig_monotonic_us(void *context)
{
	return ((struct rig *)context)->now_us;
}

static inline int64_t rig_wall_ms(void *context)
{
	return 784111777000 + (int64_t)(((struct rig *)context)->now_us / 1000);
}

static inline struct rig *rig_of(struct request *request)
{
	return request->service;
}

static inline void rig_turn(struct rig *rig)
{
	if (rig->around)
		rig->around(true);
	assert_int_equal(worker_turn(&rig->worker, 1000), 0);
	if (rig->around)
		rig->around(false);
}

/* Turns until it is so; a test waits for events, never for a number of turns. */
#define RIG_UNTIL(rig, condition)                                                                  \
	do {                                                                                       \
		for (unsigned n_ = 0; n_ < RIG_TURNS_MAX && !(condition); n_++)                    \
			rig_turn(rig);                                                             \
		assert_true(condition);                                                            \
	} while (0)

static inline void rig_turns(struct rig *rig, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		rig_turn(rig);
}

/* Time moves on, and what is due runs. */
static inline void rig_advance(struct rig *rig, uint64_t ms)
{
	rig->now_us += ms * 1000;
	rig_turns(rig, 3);
}

/* ---- the service ---- */

static inline void note_request(struct request *request)
{
	struct rig *rig = rig_of(request);

	rig->started++;
	snprintf(rig->seen, sizeof(rig->seen), "%.*s %.*s %.*s %.*s %.*s %zu",
		 SPAN_ARGS(request->method), SPAN_ARGS(request->path), SPAN_ARGS(request->query),
		 SPAN_ARGS(request->request_id), SPAN_ARGS(request->trace_id), request->body.len);
}

static inline void answer_ok(struct request *request)
{
	note_request(request);
	request_reply(request, &(struct reply){.status = 200,
					       .content_type = "application/json",
					       .body = SPAN("{\"status\":\"ok\"}")});
}

static inline void answer_echo(struct request *request)
{
	note_request(request);
	request_reply(request, &(struct reply){.status = 200,
					       .content_type = "text/plain",
					       .body = request->body});
}

static inline void answer_nothing(struct request *request)
{
	note_request(request);
	request_reply(request, &(struct reply){.status = 204});
}

static inline void answer_big(struct request *request)
{
	uint8_t *body = malloc(RIG_BIG_BYTES);

	note_request(request);
	assert_non_null(body);
	for (size_t i = 0; i < RIG_BIG_BYTES; i++)
		body[i] = (uint8_t)(i * 7 + i / 256);
	request_reply(request, &(struct reply){.status = 200,
					       .content_type = "application/octet-stream",
					       .body = span_make(body, RIG_BIG_BYTES)});
	free(body);
}

static inline void hold(struct request *request)
{
	struct rig *rig = rig_of(request);

	note_request(request);
	assert_true(rig->held_count < 8);
	rig->held[rig->held_count++] = request;
}

static inline void count_cancelled(struct request *request)
{
	struct rig *rig = rig_of(request);

	rig->cancelled++;
	assert_true(request->ended);
	for (size_t i = 0; i < rig->held_count; i++)
		if (rig->held[i] == request)
			rig->held[i] = rig->held[--rig->held_count];
	if (rig->stream == request)
		rig->stream = NULL;
}

/* Its head leaves; the test gives the parts. */
static inline void begin_and_hold(struct request *request)
{
	http_begin(request, &(struct reply){.status = 200, .content_type = "text/plain"});
	hold(request);
}

static inline void count_pull(struct request *request)
{
	rig_of(request)->pulls++;
}

/* A message of a gRPC answer; NULL without memory. */
static inline struct payload *message_make(struct span body)
{
	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + body.len);

	if (!payload)
		return NULL;
	grpc_write_prefix(payload->data, (uint32_t)body.len);
	if (body.len > 0)
		memcpy(payload->data + GRPC_PREFIX_BYTES, body.data, body.len);
	return payload;
}

static inline bool message_send(struct request *request, struct span body)
{
	struct payload *payload = message_make(body);

	if (!payload) {
		rpc_fail(request, ERR_OUT_OF_MEMORY, NULL, 0);
		return false;
	}

	bool more =
		rpc_send(request, (struct payload_slice){.payload = payload, .len = payload->len});

	payload_put(payload);
	return more;
}

static inline void rpc_echo(struct request *request)
{
	note_request(request);
	(void)message_send(request, request->body);
	rpc_finish(request, GRPC_OK, SPAN_EMPTY);
}

static inline void rpc_refuse(struct request *request)
{
	note_request(request);
	rpc_fail(request, ERR_RATE_LIMITED, NULL, 250);
}

static inline void rpc_refuse_text(struct request *request)
{
	note_request(request);
	rpc_finish(request, GRPC_NOT_FOUND, SPAN("100% \xc3\xa9\n"));
}

static inline void rpc_refuse_field(struct request *request)
{
	note_request(request);
	rpc_fail(request, ERR_ENVELOPE_EMPTY_FIELD, "request_id", 0);
}

static inline void stream_start(struct request *request)
{
	note_request(request);
	rig_of(request)->stream = request;
	rpc_resume(request);
}

static inline void stream_pull(struct request *request)
{
	struct rig *rig = rig_of(request);
	uint8_t body[16384];

	rig->pulls++;
	memset(body, 'x', sizeof(body));
	while (rig->stream_left > 0) {
		rig->stream_left--;
		if (!message_send(request, span_make(body, rig->stream_bytes - GRPC_PREFIX_BYTES)))
			return;
	}
	if (rig->stream_ends) {
		rig->stream = NULL;
		rpc_finish(request, GRPC_OK, SPAN_EMPTY);
	}
}

static inline void chat_start(struct request *request)
{
	note_request(request);
}

static inline void chat_message(struct request *request, struct span message)
{
	static const uint8_t body[RIG_BIG_BYTES];

	(void)message;
	rig_of(request)->chats++;
	(void)message_send(request, span_make(body, sizeof(body)));
}

static inline void chat_half_closed(struct request *request)
{
	rpc_finish(request, GRPC_OK, SPAN_EMPTY);
}

static const struct route rig_routes[] = {
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/healthz", .start = answer_ok},
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/none", .start = answer_nothing},
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/big", .start = answer_big},
	{.kind = ROUTE_HTTP,
	 .method = "GET",
	 .path = "/later",
	 .start = hold,
	 .cancelled = count_cancelled},
	{.kind = ROUTE_HTTP,
	 .method = "GET",
	 .path = "/parts",
	 .start = begin_and_hold,
	 .cancelled = count_cancelled,
	 .pull = count_pull},
	{.kind = ROUTE_HTTP,
	 .method = "POST",
	 .path = "/echo",
	 .body_bytes_max = 1024,
	 .start = answer_echo},
	{.kind = ROUTE_HTTP,
	 .method = "PUT",
	 .path = "/echo",
	 .body_bytes_max = 1024,
	 .start = answer_echo},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/Echo",
	 .body_bytes_max = 65536,
	 .start = rpc_echo},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/Large",
	 .body_bytes_max = 32u << 20,
	 .start = rpc_echo},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/Hold",
	 .body_bytes_max = 65536,
	 .start = hold,
	 .cancelled = count_cancelled},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/HoldLarge",
	 .body_bytes_max = 16u << 20,
	 .start = hold,
	 .cancelled = count_cancelled},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/Refuse",
	 .body_bytes_max = 65536,
	 .start = rpc_refuse},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/RefuseText",
	 .body_bytes_max = 65536,
	 .start = rpc_refuse_text},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/RefuseField",
	 .body_bytes_max = 65536,
	 .start = rpc_refuse_field},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/Stream",
	 .body_bytes_max = 65536,
	 .start = stream_start,
	 .cancelled = count_cancelled,
	 .pull = stream_pull},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/Chat",
	 .body_bytes_max = 65536,
	 .start = chat_start,
	 .cancelled = count_cancelled,
	 .message = chat_message,
	 .half_closed = chat_half_closed},
	{.kind = ROUTE_GRPC,
	 .method = "POST",
	 .path = "/t.S/Watch",
	 .body_bytes_max = 65536,
	 .start = hold,
	 .cancelled = count_cancelled,
	 .long_lived = true},
};

/* ---- life ---- */

static inline void rig_listen(struct rig *rig)
{
	socklen_t len = sizeof(rig->address);
	int small = 65536, on = 1;

	rig->address = (struct sockaddr_in){.sin_family = AF_INET,
					    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	rig->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(rig->listen_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
			 0);
	/* as a real listener: small frames must not wait for the peer's delayed ACK */
	assert_int_equal(setsockopt(rig->listen_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
	assert_int_equal(bind(rig->listen_fd, (struct sockaddr *)&rig->address, len), 0);
	assert_int_equal(listen(rig->listen_fd, 64), 0);
	assert_int_equal(getsockname(rig->listen_fd, (struct sockaddr *)&rig->address, &len), 0);
}

static inline struct server_gate rig_admit(const struct request *request)
{
	struct rig *rig = request->service;

	assert_true(request->method.len > 0 && request->path.len > 0);
	rig->asked++;
	return rig->gate;
}

/* `peers_max`: connections of one peer; 0: as many as it likes. */
static inline void rig_open_limited(struct rig *rig, unsigned protocols, uint64_t peers_max)
{
	struct worker_options options = {
		.name = "rig",
		.ring = {.sq_entries = 256,
			 .cq_entries = 16384,
			 .file_slots = 256,
			 .buffer_count = 64,
			 .buffer_bytes = 4096},
		.clock = {rig_monotonic_us, rig_wall_ms, rig},
	};
	char why[256] = "";

	*rig = (struct rig){
		.now_us = 1000000, .stream_bytes = 1024, .gate.body_bytes_max = SIZE_MAX};
	if (peers_max > 0)
		rig->peers = peers_create((struct hash_secret){{2}}, peers_max);
	rig->config.http_header_timeout_ms = 5000;
	rig->config.http_body_timeout_ms = 10000;
	rig->config.http_idle_timeout_ms = 75000;
	rig->config.http_max_header_bytes = 16384;
	rig->registry = metric_registry_create();
	assert_int_equal(worker_init(&rig->worker, &options, why, sizeof(why)), 0);
	rig->router = router_create((struct hash_secret){{1}});
	for (size_t i = 0; i < ARRAY_LEN(rig_routes); i++)
		assert_int_equal(router_add(rig->router, &rig_routes[i]), 0);

	struct server_options server_options = {
		.name = (protocols & SERVER_GRPC) ? "grpc" : "public",
		.protocols = protocols,
		.router = rig->router,
		.config = &rig->config,
		.service = rig,
		.limit = &rig->limit,
		.peers = rig->peers,
		.trusted_proxies = &rig->trusted,
		.admit = rig_admit,
		.metrics = rig->registry,
	};

	assert_int_equal(server_create(&rig->server, &rig->worker, &server_options), 0);
	rig_listen(rig);
	/* the ring may only be used by the thread that turns it, which is this one from here on */
	rig_turn(rig);
	assert_int_equal(server_start(rig->server, rig->listen_fd, false), 0);
	rig_turn(rig);
}

static inline void rig_open(struct rig *rig, unsigned protocols)
{
	rig_open_limited(rig, protocols, 0);
}

static inline void rig_note_stopped(void *context)
{
	((struct rig *)context)->stopped = true;
}

static inline void rig_wait_stopped(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_TURNS_MAX && !rig->stopped; i++)
		rig_turn(rig);
	assert_true(rig->stopped);
}

/* Whatever is still open is cut. */
static inline void rig_close(struct rig *rig)
{
	if (!rig->stopped) {
		server_drain(rig->server, rig_note_stopped, rig);
		(void)server_cut(rig->server);
		rig_wait_stopped(rig);
	}
	assert_int_equal(server_connection_count(rig->server), 0);
	assert_int_equal(rig->limit.open_count, 0);
	server_destroy(rig->server);
	for (unsigned i = 0; i < RIG_TURNS_MAX && worker_ops_in_flight(&rig->worker) > 0; i++)
		rig_turn(rig);
	worker_finish(&rig->worker);
	router_destroy(rig->router);
	peers_destroy(rig->peers);
	metric_registry_destroy(rig->registry);
	close(rig->listen_fd);
}

/* Whether the metrics have this line. */
static inline bool rig_has_metric(struct rig *rig, const char *line)
{
	struct buf out;
	char wanted[256];
	bool found;

	snprintf(wanted, sizeof(wanted), "\n%s\n", line);
	buf_init(&out, 1u << 20);
	metric_render(rig->registry, &out);
	found = memmem(out.data, out.len, wanted, strlen(wanted)) != NULL;
	if (!found)
		print_error("no line \"%s\" in\n%.*s\n", line, SPAN_ARGS(buf_span(&out)));
	buf_finish(&out);
	return found;
}

/* Connections that were ever accepted: open ones, and those that have ended. */
static inline uint64_t metric_of_accepted(struct rig *rig)
{
	struct buf out;
	uint64_t sum = 0;

	buf_init(&out, 1u << 20);
	metric_render(rig->registry, &out);
	buf_append_byte(&out, 0);
	for (const char *at = (const char *)out.data;
	     (at = strstr(at, "\ngateway_connections_")) != NULL;) {
		at = strstr(at, "} ") + 2;
		sum += strtoull(at, NULL, 10);
	}
	buf_finish(&out);
	return sum;
}

/* ---- a client that speaks bytes ---- */

struct client {
	struct rig *rig;
	int fd;
	struct buf in;
	bool ended; /* end of file or reset */
};

/* The server has accepted it when this returns. */
static inline void client_open(struct client *client, struct rig *rig)
{
	uint64_t before = metric_of_accepted(rig);
	int on = 1;

	*client = (struct client){.rig = rig};
	buf_init(&client->in, 64u << 20);
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		connect(client->fd, (struct sockaddr *)&rig->address, sizeof(rig->address)), 0);
	assert_int_equal(fcntl(client->fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
	RIG_UNTIL(rig, metric_of_accepted(rig) > before);
}

static inline void client_close(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	buf_finish(&client->in);
}

/* Sends a RST instead of a FIN. */
static inline void client_abort(struct client *client)
{
	struct linger linger = {.l_onoff = 1};

	assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	client_close(client);
}

/* What is there now. Returns bytes. */
static inline size_t client_receive(struct client *client)
{
	size_t before = client->in.len;

	for (;;) {
		uint8_t *at = buf_reserve(&client->in, 65536);
		ssize_t got;

		assert_non_null(at);
		got = recv(client->fd, at, 65536, 0);
		if (got > 0) {
			buf_claim(&client->in, (size_t)got);
			continue;
		}
		client->ended = got == 0 || (errno != EAGAIN && errno != EINTR);
		return client->in.len - before;
	}
}

static inline void client_send(struct client *client, struct span bytes)
{
	for (unsigned i = 0; bytes.len > 0 && i < RIG_TURNS_MAX; i++) {
		ssize_t sent = send(client->fd, bytes.data, bytes.len, MSG_NOSIGNAL);

		if (sent > 0)
			bytes = span_from(bytes, (size_t)sent);
		else if (errno != EAGAIN)
			return;
		rig_turn(client->rig);
	}
	assert_int_equal(bytes.len, 0);
}

static inline void client_say(struct client *client, const char *text)
{
	client_send(client, span_from_cstr(text));
}

/* Turns until the text has come. */
static inline void client_expect(struct client *client, const char *text)
{
	size_t len = strlen(text);

	for (unsigned i = 0; i < RIG_TURNS_MAX; i++) {
		if (client->in.len >= len && memmem(client->in.data, client->in.len, text, len))
			return;
		if (client->ended)
			break;
		rig_turn(client->rig);
		client_receive(client);
	}
	fail_msg("wanted \"%s\", got \"%.*s\"%s", text, SPAN_ARGS(buf_span(&client->in)),
		 client->ended ? " and the end" : "");
}

static inline void client_expect_not(struct client *client, const char *text)
{
	rig_turns(client->rig, 10);
	client_receive(client);
	assert_null(client->in.len ? memmem(client->in.data, client->in.len, text, strlen(text))
				   : NULL);
}

/* Turns until the server has closed. */
static inline void client_expect_end(struct client *client)
{
	for (unsigned i = 0; i < RIG_TURNS_MAX && !client->ended; i++) {
		rig_turn(client->rig);
		client_receive(client);
	}
	assert_true(client->ended);
}

static inline void client_forget(struct client *client)
{
	buf_clear(&client->in, SIZE_MAX);
}

#endif
