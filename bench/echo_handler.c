/*
 * echo_handler: a command handler behind the gateway, for tests and benchmarks. It answers
 * galaxy.gateway.v1.CommandHandler/Handle with the payload that came, ringway.test.Mirror/Echo with the
 * message that came, and grpc.health.v1.Health/Check. A command's message_type may ask for something
 * else:
 *
 *   echo.status.N   ends with gRPC status N and the message "chosen by the caller"
 *   echo.delay.N    answers after N ms
 *   echo.large.N    answers with N bytes
 *   echo.command    answers with the AuthenticatedCommand as it came
 *   echo.hang       never answers
 *
 * SIGUSR1: health says NOT_SERVING from now on; SIGUSR2: SERVING again. SIGTERM, SIGINT: the end.
 */
#include "base/check.h"
#include "codec/grpc.h"
#include "codec/pb.h"
#include "edge/server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define MESSAGE_BYTES_MAX (16u << 20)
#define DRAIN_MS	  1000 /* a call that hangs must not hold up the end of a test */
#define FILE_SLOTS	  4096

/* AuthenticatedCommand, CommandResult, HealthCheckResponse */
#define FIELD_MESSAGE_TYPE    3
#define FIELD_COMMAND_PAYLOAD 7
#define FIELD_RESULT_CODE     1
#define FIELD_RESULT_PAYLOAD  2
#define FIELD_HEALTH_STATUS   1
#define HEALTH_SERVING	      1
#define HEALTH_NOT_SERVING    2

struct handler {
	struct worker *worker;
	struct server *server;
	struct op signal_op;
	struct signalfd_siginfo signal_info;
	int signal_fd;
	struct deadline drain;
	uint64_t delay_ms;
	bool is_serving, is_ending;
};

struct pending { /* an answer that waits */
	struct deadline deadline;
	struct request *request;
	struct span payload;
};

/* ---- answers ---- */

static void send_message(struct request *request, struct payload *payload)
{
	if (!payload) {
		rpc_fail(request, ERR_OUT_OF_MEMORY, NULL, 0);
		return;
	}
	grpc_write_prefix(payload->data, payload->len - GRPC_PREFIX_BYTES);
	rpc_send(request, (struct payload_slice){.payload = payload, .len = payload->len});
	payload_put(payload);
	rpc_finish(request, GRPC_OK, SPAN_EMPTY);
}

static void answer(struct request *request, struct span bytes)
{
	struct span code = SPAN("ok");
	size_t len =
		pb_size_bytes(FIELD_RESULT_CODE, code) + pb_size_bytes(FIELD_RESULT_PAYLOAD, bytes);
	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + len);

	if (payload) {
		uint8_t *at =
			pb_write_bytes(payload->data + GRPC_PREFIX_BYTES, FIELD_RESULT_CODE, code);

		pb_write_bytes(at, FIELD_RESULT_PAYLOAD, bytes);
	}
	send_message(request, payload);
}

static void answer_large(struct request *request, uint64_t bytes)
{
	uint8_t *memory = bytes <= MESSAGE_BYTES_MAX ? malloc(bytes + 1) : NULL;

	if (!memory) {
		rpc_fail(request, ERR_MESSAGE_TOO_LARGE, NULL, 0);
		return;
	}
	memset(memory, 'x', bytes);
	answer(request, span_make(memory, bytes));
	free(memory);
}

static void pending_expired(struct deadline *deadline)
{
	struct pending *pending = CONTAINER_OF(deadline, struct pending, deadline);

	answer(pending->request, pending->payload);
	free(pending);
}

/* UINT64_MAX: never. */
static void answer_later(struct request *request, struct span payload, uint64_t after_ms)
{
	struct pending *pending = calloc(1, sizeof(*pending));

	if (!pending) {
		rpc_fail(request, ERR_OUT_OF_MEMORY, NULL, 0);
		return;
	}
	pending->request = request;
	pending->payload = payload;
	deadline_init(&pending->deadline, pending_expired);
	request->context = pending;
	if (after_ms != UINT64_MAX)
		deadline_arm(request->worker, &pending->deadline, after_ms);
}

/* ---- routes ---- */

/* Returns whether `type` is `prefix` and a decimal number. */
static bool has_number(struct span type, struct span prefix, uint64_t *number)
{
	return span_starts_with(type, prefix) &&
	       span_to_uint64(span_from(type, prefix.len), number);
}

static int read_command(struct span body, struct span *type, struct span *payload)
{
	struct pb_reader reader = {body};
	struct pb_field field;
	int code;

	*type = *payload = SPAN_EMPTY;
	while ((code = pb_next(&reader, &field)) == 1) {
		if (field.wire != PB_BYTES)
			continue;
		if (field.number == FIELD_MESSAGE_TYPE)
			*type = field.bytes;
		else if (field.number == FIELD_COMMAND_PAYLOAD)
			*payload = field.bytes;
	}
	return code;
}

static void handle(struct request *request)
{
	const struct handler *handler = request->service;
	struct span type, payload;
	uint64_t number;

	if (read_command(request->body, &type, &payload) != 0)
		rpc_fail(request, ERR_BAD_REQUEST, NULL, 0);
	else if (has_number(type, SPAN("echo.status."), &number) && number > 0)
		rpc_finish(request, (int)(number < GRPC_STATUS_COUNT ? number : GRPC_UNKNOWN),
			   SPAN("chosen by the caller"));
	else if (has_number(type, SPAN("echo.large."), &number))
		answer_large(request, number);
	else if (has_number(type, SPAN("echo.delay."), &number))
		answer_later(request, payload, number);
	else if (span_equal(type, SPAN("echo.hang")))
		answer_later(request, payload, UINT64_MAX);
	else if (span_equal(type, SPAN("echo.command")))
		answer(request, request->body);
	else if (handler->delay_ms > 0)
		answer_later(request, payload, handler->delay_ms);
	else
		answer(request, payload);
}

static void handle_cancelled(struct request *request)
{
	struct pending *pending = request->context;

	deadline_disarm(request->worker, &pending->deadline);
	free(pending);
}

static void mirror(struct request *request)
{
	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + request->body.len);

	if (payload && request->body.len > 0)
		memcpy(payload->data + GRPC_PREFIX_BYTES, request->body.data, request->body.len);
	send_message(request, payload);
}

static void check_health(struct request *request)
{
	const struct handler *handler = request->service;
	uint64_t status = handler->is_serving ? HEALTH_SERVING : HEALTH_NOT_SERVING;
	struct payload *payload =
		payload_create(GRPC_PREFIX_BYTES + pb_size_varint(FIELD_HEALTH_STATUS, status));

	if (payload)
		pb_write_varint(payload->data + GRPC_PREFIX_BYTES, FIELD_HEALTH_STATUS, status);
	send_message(request, payload);
}

static const struct route handle_route = {
	.kind = ROUTE_GRPC,
	.method = "POST",
	.path = "/galaxy.gateway.v1.CommandHandler/Handle",
	.body_bytes_max = MESSAGE_BYTES_MAX,
	.start = handle,
	.cancelled = handle_cancelled,
};

static const struct route mirror_route = {
	.kind = ROUTE_GRPC,
	.method = "POST",
	.path = "/ringway.test.Mirror/Echo",
	.body_bytes_max = MESSAGE_BYTES_MAX,
	.start = mirror,
};

static const struct route health_route = {
	.kind = ROUTE_GRPC,
	.method = "POST",
	.path = "/grpc.health.v1.Health/Check",
	.body_bytes_max = 4096,
	.start = check_health,
};

/* ---- signals and the end ---- */

static void stopped(void *context)
{
	struct handler *handler = context;

	deadline_disarm(handler->worker, &handler->drain);
	worker_stop(handler->worker);
}

static void drain_expired(struct deadline *deadline)
{
	server_cut(CONTAINER_OF(deadline, struct handler, drain)->server);
}

static void await_signal(struct handler *handler)
{
	struct iovec into = {&handler->signal_info, sizeof(handler->signal_info)};

	CHECK(op_read(handler->worker, &handler->signal_op, file_from_fd(handler->signal_fd),
		      into) == 0);
}

static void signal_came(struct op *op, const struct completion *completion)
{
	struct handler *handler = CONTAINER_OF(op, struct handler, signal_op);

	CHECK(completion->result == (int32_t)sizeof(handler->signal_info) ||
	      completion->result == -EINTR);
	if (completion->result > 0 && handler->signal_info.ssi_signo == SIGUSR1) {
		handler->is_serving = false;
	} else if (completion->result > 0 && handler->signal_info.ssi_signo == SIGUSR2) {
		handler->is_serving = true;
	} else if (completion->result > 0) {
		deadline_arm(handler->worker, &handler->drain, DRAIN_MS);
		server_stop_accepting(handler->server);
		server_drain(handler->server, stopped, handler);
		return;
	}
	await_signal(handler);
}

static int open_signals(void)
{
	sigset_t signals;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGUSR2);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

/* ---- the parts ---- */

static struct router *make_router(bool has_health)
{
	struct hash_secret secret = {0};
	struct router *router;

	if (getrandom(&secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
		return NULL;
	router = router_create(secret);
	if (router && (router_add(router, &handle_route) != 0 ||
		       router_add(router, &mirror_route) != 0 ||
		       (has_health && router_add(router, &health_route) != 0))) {
		router_destroy(router);
		return NULL;
	}
	return router;
}

static struct worker *make_worker(void)
{
	struct worker *worker = aligned_alloc(64, (sizeof(*worker) + 63) / 64 * 64);
	const struct worker_options options = {
		.name = "echo",
		.ring = {.sq_entries = 1024,
			 .cq_entries = 32768,
			 .file_slots = FILE_SLOTS,
			 .buffer_count = 1024,
			 .buffer_bytes = 16384},
		.clock = worker_clock_system,
	};
	char why[256] = "";

	if (!worker)
		return NULL;
	memset(worker, 0, sizeof(*worker));
	if (worker_init(worker, &options, why, sizeof(why)) != 0) {
		fprintf(stderr, "echo_handler: %s\n", why);
		free(worker);
		return NULL;
	}
	return worker;
}

static int serve(struct handler *handler, struct listen_socket *sockets,
		 const struct router *router)
{
	static const struct config config = {
		.grpc_max_message_bytes = MESSAGE_BYTES_MAX,
		.http_header_timeout_ms = 5000,
		.http_body_timeout_ms = 10000,
		.http_idle_timeout_ms = 75000,
		.http_max_header_bytes = 16384,
		.access_log = ACCESS_LOG_OFF,
	};
	const struct server_options options = {
		.name = "echo",
		.protocols = SERVER_HTTP2 | SERVER_GRPC,
		.router = router,
		.config = &config,
		.service = handler,
		.metrics = metric_registry_create(),
	};
	int code = server_create(&handler->server, handler->worker, &options);

	if (code == 0)
		code = server_start(handler->server, listen_socket_fd(sockets, 0), sockets->shared);
	if (code == 0) {
		printf("listening %s\n", sockets->text);
		fflush(stdout);
		await_signal(handler);
		code = worker_run(handler->worker);
	}
	server_destroy(handler->server);
	metric_registry_destroy(options.metrics);
	return code;
}

static int run(struct handler *handler, const struct endpoint *endpoint, bool has_health)
{
	struct listen_socket sockets = {0};
	char why[256] = "";

	if (listen_socket_open(&sockets, endpoint, 1, why, sizeof(why)) != 0) {
		fprintf(stderr, "echo_handler: %s\n", why);
		return 1;
	}
	struct router *router = make_router(has_health);

	handler->worker = make_worker();
	handler->signal_fd = open_signals();
	handler->signal_op.done = signal_came;
	handler->is_serving = true;
	deadline_init(&handler->drain, drain_expired);

	int code = router && handler->worker && handler->signal_fd >= 0
			   ? serve(handler, &sockets, router)
			   : -ENOMEM;

	if (code)
		fprintf(stderr, "echo_handler: %s\n", strerrordesc_np(-code));
	if (handler->worker)
		worker_finish(handler->worker);
	free(handler->worker);
	router_destroy(router);
	listen_socket_close(&sockets);
	return code ? 1 : 0;
}

static int usage(FILE *out)
{
	fputs("usage: echo_handler [--listen ADDRESS] [--delay-ms N] [--no-health]\n", out);
	return out == stderr ? 2 : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"listen", required_argument, NULL, 'l'},
		{"delay-ms", required_argument, NULL, 'd'},
		{"no-health", no_argument, NULL, 'n'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct handler handler = {0};
	struct span address = SPAN("127.0.0.1:0");
	struct endpoint endpoint;
	bool has_health = true;

	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == 'l')
			address = span_from_cstr(optarg);
		else if (option == 'n')
			has_health = false;
		else if (option == 'h')
			return usage(stdout);
		else if (option != 'd' ||
			 !span_to_uint64(span_from_cstr(optarg), &handler.delay_ms))
			return usage(stderr);
	}
	if (optind != argc || endpoint_parse(address, &endpoint) != 0)
		return usage(stderr);
	return run(&handler, &endpoint, has_health);
}
