#include "redis/tail.h"

#include "base/check.h"
#include "base/explain.h"
#include "base/fsm.h"
#include "log/log.h"
#include "redis/client_internal.h"
#include "redis/position.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_MARGIN_MS                                                                           \
	2000 /* beyond BLOCK, and for XINFO: a local Redis answers in 1; later means dead */
#define DOUBT_MS                                                                                   \
	10000 /* the stream is asked about again: that its key was deleted and made anew, or that  \
		 entries were trimmed before they were read, is told to no reader */

/* COUNT is cut by this after a loss in XREAD (128, 16, 2, 1): the batch may have been over the
 * limits. */
#define BATCH_CUT 8

/* Entries that must be expected for waiting to be worth it; with so many there is no need to. */
#define GATHER_ENTRIES_MIN 4
#define GATHER_ENTRIES_MAX (TAIL_BATCH / 4)

static const struct resp_limits limits_default = {
	.value_bytes_max =
		64u
		<< 20, /* a batch of 128 events of 512 KiB; larger ones come with a smaller COUNT */
	.items_max = 1u << 20, /* a malformed entry should be seen as one, not end the connection */
	.depth_max = 7,
};

enum tail_state {
	TAIL_OFF,
	TAIL_CONNECTING,
	TAIL_ASKING,
	TAIL_READING,
	TAIL_HOLDING,
	TAIL_RETRYING,
	TAIL_STOPPED,
	TAIL_STATE_COUNT
};

static const char *const state_names[TAIL_STATE_COUNT] = {
	[TAIL_OFF] = "OFF",		  /* before the start */
	[TAIL_CONNECTING] = "CONNECTING", /* the client dials */
	[TAIL_ASKING] = "ASKING",	  /* XINFO is out */
	[TAIL_READING] = "READING",	  /* XREAD is out, or its entries are being handed over */
	[TAIL_HOLDING] = "HOLDING",	  /* paused, or entries are gathering */
	[TAIL_RETRYING] = "RETRYING",	  /* an error was answered */
	[TAIL_STOPPED] = "STOPPED",	  /* for good */
};
static const uint32_t state_moves[TAIL_STATE_COUNT] = {
	[TAIL_OFF] = FSM_TO(TAIL_CONNECTING) | FSM_TO(TAIL_STOPPED),
	[TAIL_CONNECTING] = FSM_TO(TAIL_CONNECTING) | FSM_TO(TAIL_ASKING) | FSM_TO(TAIL_RETRYING) |
			    FSM_TO(TAIL_STOPPED),
	[TAIL_ASKING] = FSM_TO(TAIL_READING) | FSM_TO(TAIL_HOLDING) | FSM_TO(TAIL_RETRYING) |
			FSM_TO(TAIL_CONNECTING) | FSM_TO(TAIL_STOPPED),
	[TAIL_READING] = FSM_TO(TAIL_READING) | FSM_TO(TAIL_ASKING) | FSM_TO(TAIL_HOLDING) |
			 FSM_TO(TAIL_RETRYING) | FSM_TO(TAIL_CONNECTING) | FSM_TO(TAIL_STOPPED),
	[TAIL_HOLDING] = FSM_TO(TAIL_READING) | FSM_TO(TAIL_RETRYING) | FSM_TO(TAIL_CONNECTING) |
			 FSM_TO(TAIL_STOPPED),
	[TAIL_RETRYING] = FSM_TO(TAIL_ASKING) | FSM_TO(TAIL_RETRYING) | FSM_TO(TAIL_CONNECTING) |
			  FSM_TO(TAIL_STOPPED),
};
static const struct fsm tail_fsm = {
	.name = "redis tail",
	.state_count = TAIL_STATE_COUNT,
	.state_names = state_names,
	.moves = state_moves,
};

struct redis_tail {
	struct worker *worker;
	struct tail_options options;
	struct redis_client *client;
	struct redis_call call;
	struct deadline retry;
	struct fine_deadline gathered; /* armed: the next XREAD waits for it */
	uint64_t asked_us;	       /* when the last XREAD left */
	uint8_t state; /* enum tail_state */
	bool has_started, is_paused;
	bool is_trusted; /* the position was found, or found good, on this connection */
	struct position position;
	uint64_t judged_ms;
	uint32_t read_count; /* COUNT of the next XREAD */
	uint32_t failed_tries;
	uint64_t random;
	char last_error[LAST_ERROR_MAX];
};

static void move(struct redis_tail *tail, enum tail_state state)
{
	fsm_move(&tail_fsm, &tail->state, (uint8_t)state);
}

/* ── trouble ── */

static void retry_later(struct redis_tail *tail, const char *what, struct span code)
{
	snprintf(tail->last_error, sizeof(tail->last_error), "%s (%.*s)", what, SPAN_ARGS(code));
	LOG(LOG_WARN, "redis", "cannot read the stream", LOG_BYTES("stream", tail->options.stream),
	    LOG_TEXT("reason", tail->last_error));
	tail->is_trusted = false;
	move(tail, TAIL_RETRYING);
	deadline_arm(tail->worker, &tail->retry,
		     jitter_backoff_ms(&tail->random, tail->failed_tries++));
}

/* No answer. That the connection is lost is heard as `changed`. */
static void lost_or_late(struct redis_tail *tail, enum redis_outcome outcome)
{
	if (outcome == REDIS_TIMEOUT)
		redis_client_reconnect(tail->client,
				       "Redis did not answer the reader of a stream in time");
}

static int start_call(struct redis_tail *tail, redis_done_fn *done, const struct span *args,
		      size_t count, uint64_t timeout_ms)
{
	const struct redis_command command = {
		.args = args,
		.count = count,
		.role = tail->options.redis.role,
		.timeout_ms = timeout_ms < UINT32_MAX ? (uint32_t)timeout_ms : UINT32_MAX,
	};

	return redis_call_start(tail->client, &tail->call, done, &command);
}

/* ── XREAD ── */

static void ask(struct redis_tail *tail);
static void read_on(struct redis_tail *tail);

/* Returns false when this is no entry that may follow. */
static bool hand_entry(struct redis_tail *tail, const struct resp_value *value)
{
	struct tail_field fields[TAIL_FIELDS_MAX];
	struct tail_entry entry;
	int result = tail_entry_read(value, &tail->position, fields, &entry);

	if (result > 0)
		tail->options.handler->entry(tail, &entry);
	return result >= 0;
}

/* Returns false when the answer is malformed from some entry on; those before it were handed over.
 */
static bool hand_batch(struct redis_tail *tail, const struct resp_value *value)
{
	const struct resp_value *entries = tail_entries_of(value);

	if (!entries)
		return false;

	bool good = true;

	for (size_t i = 0; i < entries->count && good && tail->state == TAIL_READING; i++)
		good = hand_entry(tail, entries->items[i]);
	if (tail->state == TAIL_READING && tail->options.handler->batch_end)
		tail->options.handler->batch_end(tail);
	return good;
}

static void cut_batch(struct redis_tail *tail)
{
	tail->read_count = tail->read_count > BATCH_CUT ? tail->read_count / BATCH_CUT : 1;
}

/* What came since the last XREAD tells how many come in the time. */
static void gather(struct redis_tail *tail, uint64_t entries)
{
	uint64_t gather_us = tail->options.gather_us;
	uint64_t since_us = tail->worker->now_us - tail->asked_us;

	if (since_us < gather_us && entries < GATHER_ENTRIES_MAX &&
	    entries * gather_us >= GATHER_ENTRIES_MIN * since_us)
		fine_deadline_arm(tail->worker, &tail->gathered, gather_us - since_us);
}

static bool is_held(const struct redis_tail *tail)
{
	return tail->is_paused || fine_deadline_is_armed(&tail->gathered);
}

static void gather_expired(struct fine_deadline *deadline)
{
	struct redis_tail *tail = CONTAINER_OF(deadline, struct redis_tail, gathered);

	if (tail->state == TAIL_HOLDING && !is_held(tail))
		read_on(tail);
}

static void ask_or_read_on(struct redis_tail *tail)
{
	if (tail->worker->now_ms - tail->judged_ms >= DOUBT_MS)
		ask(tail);
	else
		read_on(tail);
}

static void read_done(struct redis_call *call, enum redis_outcome outcome,
		      const struct resp_value *value)
{
	struct redis_tail *tail = CONTAINER_OF(call, struct redis_tail, call);

	if (!value) {
		cut_batch(tail);
		lost_or_late(tail, outcome);
		return;
	}
	if (outcome == REDIS_REFUSED) {
		retry_later(tail, "XREAD was refused", redis_error_code(value));
		return;
	}
	if (value->type == RESP_NIL) {
		tail->failed_tries = 0;
		ask_or_read_on(tail);
		return;
	}

	bool good = hand_batch(tail, value);

	if (tail->state != TAIL_READING)
		return;
	if (!good) {
		metric_add(&tail->client->metrics.protocol_errors, 1);
		retry_later(tail, "XREAD gave what is no stream", SPAN("malformed"));
		return;
	}
	tail->failed_tries = 0;
	tail->read_count = tail->read_count * 2 < TAIL_BATCH ? tail->read_count * 2 : TAIL_BATCH;
	gather(tail, tail_entries_of(value)->count);
	ask_or_read_on(tail);
}

static void read_on(struct redis_tail *tail)
{
	if (is_held(tail)) {
		move(tail, TAIL_HOLDING);
		return;
	}

	char id[STREAM_ID_TEXT_MAX], block[16], count[16];

	snprintf(block, sizeof(block), "%u", tail->options.block_ms);
	snprintf(count, sizeof(count), "%u", tail->read_count);

	const struct span args[] = {
		SPAN("XREAD"),	       SPAN("BLOCK"),
		span_from_cstr(block), SPAN("COUNT"),
		span_from_cstr(count), SPAN("STREAMS"),
		tail->options.stream,  stream_id_format(tail->position.last, id),
	};

	move(tail, TAIL_READING);
	tail->asked_us = tail->worker->now_us;

	int error = start_call(tail, read_done, args, ARRAY_LEN(args),
			       (uint64_t)tail->options.block_ms + ANSWER_MARGIN_MS);

	if (error)
		retry_later(tail, "XREAD could not be sent",
			    span_from_cstr(errno_text(-error)));
}

/* ── XINFO ── */

static bool take_info(const struct resp_value *value, struct stream_info *info)
{
	if (value->type != RESP_ERROR)
		return stream_info_parse(value, info);
	/* A stream that does not exist yet has ended at 0-0, and everything that will be added is
	 * to be read. */
	*info = (struct stream_info){.has_counter = true};
	return true;
}

static bool is_absent(const struct resp_value *value)
{
	return span_equal(value->text, SPAN("ERR no such key"));
}

static void begin_here(struct redis_tail *tail, const struct stream_info *info)
{
	char id[STREAM_ID_TEXT_MAX];

	position_start(&tail->position, info);
	LOG(LOG_INFO, "redis", "reading the stream", LOG_BYTES("stream", tail->options.stream),
	    LOG_BYTES("after", stream_id_format(tail->position.last, id)));
	tail->has_started = true;
	if (tail->options.handler->started)
		tail->options.handler->started(tail);
}

static void judge(struct redis_tail *tail, const struct stream_info *info)
{
	enum position_verdict verdict = position_judge(&tail->position, info);

	if (verdict == POSITION_FINE)
		return;

	bool recreated = verdict == POSITION_RECREATED;

	LOG(LOG_WARN, "redis",
	    recreated ? "the stream was made anew" : "the stream was trimmed past us",
	    LOG_BYTES("stream", tail->options.stream));
	if (tail->options.handler->lost)
		tail->options.handler->lost(tail, recreated ? TAIL_RECREATED : TAIL_TRIMMED);
}

static void info_done(struct redis_call *call, enum redis_outcome outcome,
		      const struct resp_value *value)
{
	struct redis_tail *tail = CONTAINER_OF(call, struct redis_tail, call);
	struct stream_info info;

	if (!value) {
		lost_or_late(tail, outcome);
		return;
	}
	if (outcome == REDIS_REFUSED && !is_absent(value)) {
		retry_later(tail, "XINFO was refused", redis_error_code(value));
		return;
	}
	if (!take_info(value, &info)) {
		metric_add(&tail->client->metrics.protocol_errors, 1);
		retry_later(tail, "XINFO gave what is no stream", SPAN("malformed"));
		return;
	}
	tail->last_error[0] = '\0';
	tail->is_trusted = true;
	tail->judged_ms = tail->worker->now_ms;
	if (tail->has_started)
		judge(tail, &info);
	else
		begin_here(tail, &info);
	if (tail->state == TAIL_ASKING)
		read_on(tail);
}

static void ask(struct redis_tail *tail)
{
	const struct span args[] = {SPAN("XINFO"), SPAN("STREAM"), tail->options.stream};

	move(tail, TAIL_ASKING);

	int error = start_call(tail, info_done, args, ARRAY_LEN(args), ANSWER_MARGIN_MS);

	if (error)
		retry_later(tail, "XINFO could not be sent",
			    span_from_cstr(errno_text(-error)));
}

static void retry_expired(struct deadline *deadline)
{
	ask(CONTAINER_OF(deadline, struct redis_tail, retry));
}

/* ── life ── */

static void client_changed(struct redis_client *client, bool ready, void *context)
{
	struct redis_tail *tail = context;

	(void)client;
	if (ready) {
		ask(tail);
		return;
	}
	tail->is_trusted = false;
	deadline_disarm(tail->worker, &tail->retry);
	fine_deadline_disarm(&tail->gathered);
	move(tail, TAIL_CONNECTING);
}

int redis_tail_create(struct redis_tail **tail, struct worker *worker,
		      const struct tail_options *options)
{
	struct redis_tail *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->worker = worker;
	made->options = *options;
	if (options->redis.limits.value_bytes_max == 0)
		made->options.redis.limits = limits_default;
	/* BLOCK 0 would be for ever. */
	if (options->block_ms == 0)
		made->options.block_ms = 1;
	made->read_count = TAIL_BATCH;
	made->random = jitter_seed();
	deadline_init(&made->retry, retry_expired);
	fine_deadline_init(&made->gathered, gather_expired);

	int error = redis_client_create(&made->client, worker, &made->options.redis);

	if (error) {
		free(made);
		return error;
	}
	*tail = made;
	return 0;
}

void redis_tail_start(struct redis_tail *tail)
{
	move(tail, TAIL_CONNECTING);
	redis_client_start(tail->client, client_changed, tail);
}

void *redis_tail_context(const struct redis_tail *tail)
{
	return tail->options.context;
}

bool redis_tail_is_ready(const struct redis_tail *tail)
{
	return tail->is_trusted && redis_client_is_ready(tail->client);
}

const char *redis_tail_last_error(const struct redis_tail *tail)
{
	return tail->last_error[0] ? tail->last_error : redis_client_last_error(tail->client);
}

void redis_tail_pause(struct redis_tail *tail)
{
	tail->is_paused = true;
}

void redis_tail_resume(struct redis_tail *tail)
{
	tail->is_paused = false;
	if (tail->state == TAIL_HOLDING && !is_held(tail))
		read_on(tail);
}

void redis_tail_stop(struct redis_tail *tail, void (*stopped)(void *context), void *context)
{
	move(tail, TAIL_STOPPED);
	tail->is_trusted = false;
	deadline_disarm(tail->worker, &tail->retry);
	fine_deadline_disarm(&tail->gathered);
	redis_call_cancel(&tail->call);
	redis_client_stop(tail->client, stopped, context);
}

void redis_tail_destroy(struct redis_tail *tail)
{
	if (!tail)
		return;
	CHECK(tail->state == TAIL_OFF || tail->state == TAIL_STOPPED);
	redis_client_destroy(tail->client);
	free(tail);
}
