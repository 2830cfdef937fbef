#include "base/check.h"
#include "redis/client_internal.h"

#include <errno.h>

/*
 * A connection on which the oldest command has waited for four times its deadline, and a second at
 * least, without a single byte coming is dead: a frozen Redis, a lost peer. Only the oldest is
 * asked, as the others wait for it.
 */
#define PATIENCE_MIN_MS	  1000
#define PATIENCE_TIMEOUTS 4
/* A second look after a judgement of silence: if it was our own thread that stood still, bytes are
 * waiting to be read. */
#define SILENCE_GRACE_MS 50

/*
 * After a failover the node that we speak to may be the wrong one, and only a new look-up of its
 * name finds the right one. But the name may still lead to the same node: so not more often than
 * this, and the answers pass as REFUSED.
 */
#define FAILOVER_PAUSE_MS 2000

struct span redis_error_code(const struct resp_value *value)
{
	size_t len = 0;

	while (len < value->text.len && value->text.data[len] >= 'A' &&
	       value->text.data[len] <= 'Z')
		len++;
	if (len == 0 || len > 24 || (len < value->text.len && value->text.data[len] != ' '))
		return SPAN("ERR");
	return span_first(value->text, len);
}

static bool is_failover(const struct resp_value *value)
{
	if (value->type != RESP_ERROR)
		return false;

	struct span code = redis_error_code(value);

	return span_equal(code, SPAN("READONLY")) || span_equal(code, SPAN("LOADING")) ||
	       span_equal(code, SPAN("MASTERDOWN")) || span_equal(code, SPAN("UNBLOCKED"));
}

/* The call's place in the pipeline is gone or a tombstone already. */
static void finish(struct redis_client *client, struct redis_call *call, enum redis_outcome outcome,
		   const struct resp_value *value)
{
	struct redis_metrics *metrics = &client->metrics;

	call->client = NULL;
	deadline_disarm(client->worker, &call->deadline);
	metric_add(&metrics->commands[call->role][outcome], 1);
	if (value)
		metric_observe_us(&metrics->latency[call->role],
				  client->worker->now_us - call->started_us);
	call->done(call, outcome, value);
}

static void call_expired(struct deadline *deadline)
{
	struct redis_call *call = CONTAINER_OF(deadline, struct redis_call, deadline);
	struct redis_client *client = call->client;

	pipeline_bury(&client->pipeline, call->sequence);
	finish(client, call, REDIS_TIMEOUT, NULL);
}

static void watch_silence(struct redis_client *client, uint64_t patience_ms)
{
	uint64_t due_ms = client->worker->now_ms + patience_ms;

	if (patience_ms == 0 ||
	    (deadline_is_armed(&client->stall) && client->stall_due_ms <= due_ms))
		return;
	client->stall_due_ms = due_ms;
	deadline_arm(client->worker, &client->stall, patience_ms);
}

void call_judge_silence(struct deadline *deadline)
{
	struct redis_client *client = CONTAINER_OF(deadline, struct redis_client, stall);
	const struct pipeline_entry *oldest = pipeline_oldest(&client->pipeline);
	uint64_t now_ms = client->worker->now_ms;

	if (!oldest) {
		client->silence_suspected = false;
		return;
	}

	uint64_t since_ms = oldest->sent_ms > client->last_received_ms ? oldest->sent_ms
								       : client->last_received_ms;

	/* One without a deadline may wait for ever; look again when its turn may have passed. */
	if (oldest->patience_ms == 0 || now_ms - since_ms < oldest->patience_ms) {
		client->silence_suspected = false;
		watch_silence(client, oldest->patience_ms ? since_ms + oldest->patience_ms - now_ms
							  : PATIENCE_MIN_MS);
		return;
	}
	if (!client->silence_suspected) {
		client->silence_suspected = true;
		watch_silence(client, SILENCE_GRACE_MS);
		return;
	}
	client->silence_suspected = false;
	metric_add(&client->metrics.stalls, 1);
	client_drop(client, "Redis has stopped answering");
}

static int append_command(struct buf *out, const struct redis_command *command)
{
	size_t before = out->len;
	int error = resp_format(out, command->args, command->count);

	if (error) {
		/* Nothing half written may follow what other calls have written. */
		out->len = before;
		out->failed = false;
	}
	return error == -EMSGSIZE ? -ENOBUFS : error;
}

int redis_call_start(struct redis_client *client, struct redis_call *call, redis_done_fn *done,
		     const struct redis_command *command)
{
	CHECK(!call->client && command->count > 0);
	if (client->state != CLIENT_READY)
		return -ENOTCONN;

	int error = pipeline_reserve(&client->pipeline);

	if (!error)
		error = append_command(&client->out, command);
	if (error)
		return error;

	uint64_t patience_ms = (uint64_t)command->timeout_ms * PATIENCE_TIMEOUTS;

	if (command->timeout_ms && patience_ms < PATIENCE_MIN_MS)
		patience_ms = PATIENCE_MIN_MS;
	call->done = done;
	call->client = client;
	call->role = command->role;
	call->started_us = client->worker->now_us;
	call->sequence = pipeline_push(&client->pipeline, (struct pipeline_entry){
								  .call = call,
								  .sent_ms = client->worker->now_ms,
								  .patience_ms = patience_ms,
							  });
	deadline_init(&call->deadline, call_expired);
	if (command->timeout_ms)
		deadline_arm(client->worker, &call->deadline, command->timeout_ms);
	watch_silence(client, patience_ms);
	conn_wants_flush(&client->conn);
	return 0;
}

void redis_call_cancel(struct redis_call *call)
{
	struct redis_client *client = call->client;

	if (!client)
		return;
	pipeline_bury(&client->pipeline, call->sequence);
	call->client = NULL;
	deadline_disarm(client->worker, &call->deadline);
}

void call_answer(struct redis_client *client, const struct resp_value *value)
{
	if (COUNT_IF(pipeline_is_empty(&client->pipeline), &client->metrics.protocol_errors)) {
		client_drop(client, "Redis sent an answer that nobody asked for");
		return;
	}

	struct redis_call *call = pipeline_pop(&client->pipeline).call;

	if (call)
		finish(client, call, value->type == RESP_ERROR ? REDIS_REFUSED : REDIS_REPLY,
		       value);
	if (client->state != CLIENT_READY || !is_failover(value))
		return;

	uint64_t now_ms = client->worker->now_ms;

	if (client->failover_ms && now_ms - client->failover_ms < FAILOVER_PAUSE_MS)
		return;
	client->failover_ms = now_ms;
	client_drop(client, "Redis has changed its role or is loading");
}

void call_fail_all(struct redis_client *client)
{
	while (!pipeline_is_empty(&client->pipeline)) {
		struct redis_call *call = pipeline_pop(&client->pipeline).call;

		if (call)
			finish(client, call, REDIS_LOST, NULL);
	}
}
