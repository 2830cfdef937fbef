#include "base/check.h"
#include "base/explain.h"
#include "base/fsm.h"
#include "base/vault.h"
#include "log/log.h"
#include "redis/client_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_TRY_MS                                                                               \
	90 /* the first try is due within 100 ms; the rest is for the wheel's rounding and a busy  \
	      turn */

/* Handed to the connection at once; more waits in `out`. A full turn of a busy worker is a fraction
 * of it. */
#define SEND_ROOM_BYTES	 (256u << 10)
#define SEND_CHUNK_BYTES (64u << 10)
#define SEND_TLS_BYTES	 (4u << 10) /* what TLS may add to the four records of a chunk */

/* Of handing out answers in one go: a receive may bring hundreds, and a signature may be behind
 * each. What is left has as much again in the next turn. */
#define ANSWERS_US 300

static const struct resp_limits limits_default = {
	.value_bytes_max =
		16u << 20, /* a session record is under 1 KiB; a value that large is a mistake */
	.items_max = 65536,
	.depth_max = 7,
};

static const char *const state_names[CLIENT_STATE_COUNT] = {
	[CLIENT_OFF] = "OFF",		[CLIENT_DIALING] = "DIALING",
	[CLIENT_GREETING] = "GREETING", [CLIENT_READY] = "READY",
	[CLIENT_DROPPING] = "DROPPING", [CLIENT_WAITING] = "WAITING",
	[CLIENT_STOPPING] = "STOPPING",
};
static const uint32_t state_moves[CLIENT_STATE_COUNT] = {
	[CLIENT_OFF] = FSM_TO(CLIENT_DIALING) | FSM_TO(CLIENT_STOPPING),
	[CLIENT_DIALING] =
		FSM_TO(CLIENT_GREETING) | FSM_TO(CLIENT_WAITING) | FSM_TO(CLIENT_STOPPING),
	[CLIENT_GREETING] =
		FSM_TO(CLIENT_READY) | FSM_TO(CLIENT_DROPPING) | FSM_TO(CLIENT_STOPPING),
	[CLIENT_READY] = FSM_TO(CLIENT_DROPPING) | FSM_TO(CLIENT_STOPPING),
	[CLIENT_DROPPING] = FSM_TO(CLIENT_WAITING) | FSM_TO(CLIENT_STOPPING),
	[CLIENT_WAITING] = FSM_TO(CLIENT_DIALING) | FSM_TO(CLIENT_STOPPING),
	[CLIENT_STOPPING] = FSM_TO(CLIENT_OFF),
};
static const struct fsm client_fsm = {
	.name = "redis client",
	.state_count = CLIENT_STATE_COUNT,
	.state_names = state_names,
	.moves = state_moves,
};

static void move(struct redis_client *client, enum redis_state state)
{
	fsm_move(&client_fsm, &client->state, (uint8_t)state);
}

/* A connection on which answers are expected. */
static bool is_alive(const struct redis_client *client)
{
	return client->state == CLIENT_GREETING || client->state == CLIENT_READY;
}

__attribute__((format(printf, 2, 3))) static void set_error(struct redis_client *client,
							    const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(client->last_error, sizeof(client->last_error), format, args);
	va_end(args);
}

static void log_trouble(const struct redis_client *client, const char *message)
{
	char address[ENDPOINT_TEXT_MAX];

	endpoint_format(&client->options.endpoint, address);
	LOG(LOG_WARN, "redis", message, LOG_TEXT("role", redis_role_name(client->options.role)),
	    LOG_TEXT("address", address), LOG_TEXT("reason", client->last_error));
}

/* The greeting's bytes hold the password. */
static void forget_unsent(struct redis_client *client)
{
	if (client->out.data)
		explicit_bzero(client->out.data, client->out.cap);
	buf_clear(&client->out, CLIENT_OUT_BYTES_KEPT);
	vault_clear_registers();
}

/* ── dialing ── */

static void retry_expired(struct deadline *deadline);

static void wait_for_next_try(struct redis_client *client)
{
	uint64_t after_ms = client->failed_tries == 0
				    ? jitter_below(&client->random, FIRST_TRY_MS + 1)
				    : jitter_backoff_ms(&client->random, client->failed_tries - 1);

	move(client, CLIENT_WAITING);
	deadline_arm(client->worker, &client->retry, after_ms);
}

static void finish_stopping(struct redis_client *client)
{
	move(client, CLIENT_OFF);
	list_remove(&client->rest.link);
	/* Later, so that `stopped` may destroy what the callback that we may be in still uses. */
	worker_sweep_later(client->worker, &client->stopped_task);
}

static void run_stopped(struct task *task)
{
	struct redis_client *client = CONTAINER_OF(task, struct redis_client, stopped_task);

	if (client->stopped)
		client->stopped(client->stopped_context);
}

static void give_up_try(struct redis_client *client, int error)
{
	set_error(client, "cannot reach Redis: %s",
		  endpoint_error_text(&client->options.endpoint, error));
	log_trouble(client, "cannot connect to Redis");
	client->failed_tries++;
	wait_for_next_try(client);
}

/*
 * Sets alive off: the state is DROPPING afterwards, or whatever the callbacks made of it. The
 * connection is asked to close first, so that none of the callbacks finds it half alive.
 */
static void lose(struct redis_client *client, const char *message)
{
	bool was_ready = client->state == CLIENT_READY;

	if (!was_ready)
		dial_blame(&client->dial);
	log_trouble(client, message);
	move(client, CLIENT_DROPPING);
	deadline_disarm(client->worker, &client->greeting_deadline);
	deadline_disarm(client->worker, &client->stall);
	forget_unsent(client);
	client->failed_tries = was_ready ? 0 : client->failed_tries + 1;
	metric_gauge_set(&client->metrics.connected, 0);
	if (client->conn_is_live)
		conn_close(&client->conn);
	call_fail_all(client);
	if (was_ready && client->changed && client->state != CLIENT_STOPPING &&
	    client->state != CLIENT_OFF)
		client->changed(client, false, client->changed_context);
}

void client_drop(struct redis_client *client, const char *why)
{
	if (!is_alive(client))
		return;
	set_error(client, "%s", why);
	dial_blame(&client->dial); /* another address of the name may do better */
	lose(client, client->state == CLIENT_READY ? "connection to Redis dropped"
						   : "cannot connect to Redis");
}

void redis_client_reconnect(struct redis_client *client, const char *why)
{
	client_drop(client, why);
}

void client_become_ready(struct redis_client *client)
{
	move(client, CLIENT_READY);
	deadline_disarm(client->worker, &client->greeting_deadline);
	client->failed_tries = 0;
	client->last_error[0] = '\0';
	metric_gauge_set(&client->metrics.connected, 1);
	LOG(LOG_INFO, "redis", "connected to Redis",
	    LOG_TEXT("role", redis_role_name(client->options.role)));
	if (client->changed)
		client->changed(client, true, client->changed_context);
}

/* ── the connection ── */

/* Hands out what has come whole: `all` of it, before the connection is lost, or as much as there is
 * time for. */
static void hand_out(struct redis_client *client, bool all)
{
	struct resp_value *value = NULL;
	uint64_t until_us = worker_clock_us(client->worker) + ANSWERS_US;
	int got = 1;

	while (is_alive(client) && (got = resp_reader_next(client->reader, &value)) == 1) {
		if (client->state == CLIENT_GREETING)
			greeting_answer(client, value);
		else
			call_answer(client, value);
		resp_value_free(value);
		if (!all && is_alive(client) && worker_clock_us(client->worker) >= until_us) {
			worker_flush_later(client->worker, &client->rest);
			return;
		}
	}
	/* The reader tells a fault behind what came whole before it. */
	if (got < 0 && is_alive(client)) {
		metric_add(&client->metrics.protocol_errors, 1);
		client_drop(client,
			    got == -ENOMEM ? "out of memory for an answer of Redis"
					   : "Redis sent what is no answer, or one over the limit");
	}
}

static void hand_out_rest(struct task *task)
{
	hand_out(CONTAINER_OF(task, struct redis_client, rest), false);
}

static void client_received(struct conn *conn, struct span bytes)
{
	struct redis_client *client = CONTAINER_OF(conn, struct redis_client, conn);

	if (!is_alive(client))
		return;
	client->last_received_ms = client->worker->now_ms;
	(void)resp_reader_feed(client->reader, bytes); /* its error sticks: hand_out is told */
	hand_out(client, false);
}

static void client_produce(struct conn *conn)
{
	struct redis_client *client = CONTAINER_OF(conn, struct redis_client, conn);
	bool secret = client->state == CLIENT_GREETING;
	size_t chunk_max = secret ? SENDQ_SECRET_MAX : SEND_CHUNK_BYTES;
	size_t taken = 0;
	int error = 0;

	while (taken < client->out.len && conn_has_room(conn)) {
		struct span rest = span_from(buf_span(&client->out), taken);
		struct span chunk = span_first(rest, rest.len < chunk_max ? rest.len : chunk_max);

		error = secret ? conn_send_secret(conn, chunk) : conn_send(conn, chunk);
		if (error)
			break;
		taken += chunk.len;
	}
	if (client->state == CLIENT_GREETING && taken == client->out.len)
		forget_unsent(client);
	else if (taken == client->out.len)
		buf_clear(&client->out, CLIENT_OUT_BYTES_KEPT);
	else
		buf_consume(&client->out, taken);
	/* -ENOBUFS waits for room, -EPIPE for `closed`. */
	if (error == -ENOMEM)
		client_drop(client, "out of memory for the commands to Redis");
}

static void describe_end(struct redis_client *client, enum conn_end end, int error)
{
	static const char *const texts[] = {
		[CONN_END_LOCAL] = "closed by us",
		[CONN_END_PEER] = "closed by Redis",
		[CONN_END_RESET] = "connection broken",
		[CONN_END_TIMEOUT] = "the transport gave up",
		[CONN_END_RESOURCE] = "out of memory or operations",
		[CONN_END_SECURITY] = "refused by TLS",
	};

	if (end == CONN_END_SECURITY)
		set_error(client, "%s", tls_error(&client->tls));
	else if (error)
		set_error(client, "%s: %s", texts[end], errno_text(-error));
	else
		set_error(client, "%s", texts[end]);
}

/* Nothing that is still to be sent is of use: without waiting for the drain. */
static void client_peer_finished(struct conn *conn)
{
	struct redis_client *client = CONTAINER_OF(conn, struct redis_client, conn);

	hand_out(client, true);
	if (!is_alive(client))
		return;
	set_error(client, "closed by Redis");
	lose(client, "connection to Redis lost");
}

static void client_closed(struct conn *conn, enum conn_end end, int error)
{
	struct redis_client *client = CONTAINER_OF(conn, struct redis_client, conn);

	client->conn_is_live = false;
	hand_out(client, true);
	tls_finish(&client->tls);
	if (is_alive(client)) {
		describe_end(client, end, error);
		lose(client, client->state == CLIENT_READY ? "connection to Redis lost"
							   : "cannot connect to Redis");
	}
	if (client->state == CLIENT_DROPPING)
		wait_for_next_try(client);
	else if (client->state == CLIENT_STOPPING)
		finish_stopping(client);
}

static const struct conn_handler client_handler = {
	.received = client_received,
	.peer_finished = client_peer_finished,
	.produce = client_produce,
	.closed = client_closed,
};

static const struct conn_options client_conn_options = {
	.queue_bytes_max = SEND_ROOM_BYTES + SEND_CHUNK_BYTES + SEND_TLS_BYTES,
	.queue_bytes_room = SEND_ROOM_BYTES,
};

static void greeting_expired(struct deadline *deadline)
{
	struct redis_client *client = CONTAINER_OF(deadline, struct redis_client, greeting_deadline);

	if (client->options.tls && !tls_is_open(&client->tls))
		client_drop(client,
			    "the connection was accepted but its TLS handshake not finished in "
			    "time");
	else
		client_drop(client, "Redis accepted the connection but did not answer in time");
}

/* AUTH, SELECT and PING are put down before the handshake; they leave behind it. */
static int begin_talk(struct redis_client *client)
{
	const struct redis_options *options = &client->options;
	const char *name = options->tls_name ? options->tls_name : options->endpoint.host;

	/* Of the latest connection until here: the loop in hand_out may have been using it at the
	 * loss. */
	resp_reader_destroy(client->reader);
	client->reader = resp_reader_create(&options->limits);

	int error = client->reader ? greeting_begin(client) : -ENOMEM;

	if (!error && options->tls)
		error = tls_open(&client->tls, &client->conn, options->tls, name);
	return error;
}

/* Owns: the file. */
static int open_connection(struct redis_client *client, struct file_ref file)
{
	int error = conn_open(&client->conn, client->worker, file, &client_handler,
			      &client_conn_options);

	if (error)
		return error;
	client->conn_is_live = true;
	client->last_received_ms = client->worker->now_ms;
	client->silence_suspected = false;
	move(client, CLIENT_GREETING);

	uint64_t due_ms = client->dial_started_ms + client->options.connect_timeout_ms;
	uint64_t now_ms = client->worker->now_ms;

	deadline_arm(client->worker, &client->greeting_deadline,
		     due_ms > now_ms ? due_ms - now_ms : 1);

	error = begin_talk(client);
	if (error == -EINVAL)
		client_drop(client, "no certificate can be for the name configured");
	else if (error)
		client_drop(client, "out of memory for the connection to Redis");
	else
		conn_wants_flush(&client->conn);
	return 0;
}

static void dial_finished(struct dial *dial, int error, struct file_ref file,
			  const struct address *peer)
{
	struct redis_client *client = CONTAINER_OF(dial, struct redis_client, dial);

	(void)peer;
	CHECK(client->state == CLIENT_DIALING);
	if (!error)
		error = open_connection(client, file);
	if (error)
		give_up_try(client, error);
}

static void dial_anew(struct redis_client *client)
{
	CHECK(pipeline_is_empty(&client->pipeline) && client->out.len == 0);
	move(client, CLIENT_DIALING);
	if (client->dialed_before)
		metric_add(&client->metrics.reconnects, 1);
	client->dialed_before = true;
	client->dial_started_ms = client->worker->now_ms;
	dial_start(&client->dial, client->worker, client->options.dns, &client->options.endpoint,
		   client->options.connect_timeout_ms, dial_finished);
}

static void retry_expired(struct deadline *deadline)
{
	dial_anew(CONTAINER_OF(deadline, struct redis_client, retry));
}

/* ── life ── */

int redis_client_create(struct redis_client **client, struct worker *worker,
			const struct redis_options *options)
{
	struct redis_client *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->worker = worker;
	made->options = *options;
	if (options->limits.value_bytes_max == 0)
		made->options.limits = limits_default;
	made->random = jitter_seed();
	pipeline_init(&made->pipeline);
	buf_init(&made->out, CLIENT_OUT_BYTES_MAX);
	deadline_init(&made->greeting_deadline, greeting_expired);
	deadline_init(&made->retry, retry_expired);
	deadline_init(&made->stall, call_judge_silence);
	task_init(&made->rest, hand_out_rest);
	task_init(&made->stopped_task, run_stopped);
	if (options->metrics &&
	    redis_metrics_register(&made->metrics, options->metrics, options->role) != 0) {
		redis_client_destroy(made);
		return -ENOMEM;
	}
	*client = made;
	return 0;
}

void redis_client_destroy(struct redis_client *client)
{
	if (!client)
		return;
	CHECK(client->state == CLIENT_OFF && list_is_empty(&client->stopped_task.link));
	if (client->options.metrics)
		metric_unregister(client->options.metrics, &client->metrics,
				  sizeof(client->metrics));
	resp_reader_destroy(client->reader);
	pipeline_finish(&client->pipeline);
	buf_finish(&client->out);
	free(client);
}

void redis_client_start(struct redis_client *client,
			void (*changed)(struct redis_client *client, bool ready, void *context),
			void *context)
{
	client->changed = changed;
	client->changed_context = context;
	dial_anew(client);
}

bool redis_client_is_ready(const struct redis_client *client)
{
	return client->state == CLIENT_READY;
}

const char *redis_client_last_error(const struct redis_client *client)
{
	return client->last_error;
}

static void dial_is_gone(struct dial *dial)
{
	finish_stopping(CONTAINER_OF(dial, struct redis_client, dial));
}

void redis_client_stop(struct redis_client *client, void (*stopped)(void *context), void *context)
{
	bool dialing = client->state == CLIENT_DIALING;

	client->stopped = stopped;
	client->stopped_context = context;
	move(client, CLIENT_STOPPING);
	deadline_disarm(client->worker, &client->greeting_deadline);
	deadline_disarm(client->worker, &client->stall);
	deadline_disarm(client->worker, &client->retry);
	forget_unsent(client);
	metric_gauge_set(&client->metrics.connected, 0);
	call_fail_all(client);
	if (dialing)
		dial_cancel(&client->dial, dial_is_gone);
	else if (client->conn_is_live)
		conn_close(&client->conn);
	else
		finish_stopping(client);
}
