#include "gateway/admission.h"

#include "auth/replay.h"
#include "base/fsm.h"

enum admission_state {
	ADMISSION_NEW,
	ADMISSION_SESSION,
	ADMISSION_REPLAY,
	ADMISSION_ADMITTED,
	ADMISSION_OVER
};

static const char *const state_names[] = {"new", "session", "replay", "admitted", "over"};
static const uint32_t state_moves[] = {
	[ADMISSION_NEW] = FSM_TO(ADMISSION_SESSION) | FSM_TO(ADMISSION_OVER),
	[ADMISSION_SESSION] = FSM_TO(ADMISSION_REPLAY) | FSM_TO(ADMISSION_OVER),
	[ADMISSION_REPLAY] = FSM_TO(ADMISSION_ADMITTED) | FSM_TO(ADMISSION_OVER),
	[ADMISSION_ADMITTED] = FSM_TO(ADMISSION_OVER),
	[ADMISSION_OVER] = FSM_TO(ADMISSION_OVER),
};
static const struct fsm admission_fsm = {
	.name = "admission",
	.state_count = ARRAY_LEN(state_names),
	.state_names = state_names,
	.moves = state_moves,
};

static void move(struct admission *admission, enum admission_state next)
{
	fsm_move(&admission_fsm, &admission->state, (uint8_t)next);
}

static void refuse_with(struct admission *admission, enum err err, const char *field,
			uint64_t retry_after_ms)
{
	metric_add(&admission->node->metrics.refusals[err], 1);
	rpc_fail(admission->request, err, field, retry_after_ms);
	admission_finish(admission);
	admission->handler->refused(admission);
}

static void refuse(struct admission *admission, enum err err)
{
	refuse_with(admission, err, NULL, 0);
}

void admission_refuse(struct node *node, struct request *request, enum err err)
{
	metric_add(&node->metrics.refusals[err], 1);
	rpc_fail(request, err, NULL, 0);
}

/* Returns 0 when granted, else the milliseconds to wait. */
static uint64_t charge(const struct admission *admission, enum budget budget, struct span key)
{
	struct node_shared *shared = admission->node->shared;

	return bucket_charge(shared->buckets, &shared->budget_rules[budget], key,
			     admission->node->worker->now_ms);
}

static void admit(struct admission *admission)
{
	const struct {
		enum budget budget;
		struct span key;
	} charges[] = {
		{BUDGET_SESSION, admission->envelope.device_session_id},
		{BUDGET_USER, session_user(admission->session)},
		{BUDGET_MESSAGE_TYPE, admission->envelope.message_type},
	};

	for (size_t i = 0; i < ARRAY_LEN(charges); i++) {
		uint64_t wait_ms = charge(admission, charges[i].budget, charges[i].key);

		if (wait_ms) {
			refuse_with(admission, ERR_RATE_LIMITED, NULL, wait_ms);
			return;
		}
	}
	move(admission, ADMISSION_ADMITTED);
	admission->handler->admitted(admission);
}

static void reserved(struct redis_call *call, enum redis_outcome outcome,
		     const struct resp_value *value)
{
	struct admission *admission = CONTAINER_OF(call, struct admission, reserve);

	if (outcome == REDIS_REPLY && resp_is_status(value, "OK"))
		admit(admission);
	else if (outcome == REDIS_REPLY && value->type == RESP_NIL)
		refuse(admission, ERR_REPLAY);
	else
		refuse(admission, ERR_REPLAY_UNAVAILABLE);
}

/* SET <prefix><len>:<session>:<request> 1 NX PX <ttl> */
static void reserve(struct admission *admission)
{
	const struct config *config = admission->node->shared->config;
	const struct envelope *envelope = &admission->envelope;
	struct buf key, ttl;

	buf_init(&key, 2048);
	buf_init(&ttl, 32);
	replay_key(&key, span_from_cstr(config->replay_key_prefix), envelope->device_session_id,
		   envelope->request_id);
	buf_append_uint(&ttl, replay_ttl_ms(admission->node->worker->wall_ms,
					    envelope->timestamp_ms, config->freshness_window_ms));
	const struct span args[] = {SPAN("SET"), buf_span(&key), SPAN("1"),
				    SPAN("NX"),	 SPAN("PX"),	 buf_span(&ttl)};
	const struct redis_command command = {
		.args = args,
		.count = ARRAY_LEN(args),
		.role = REDIS_REPLAY,
		.timeout_ms = (uint32_t)config->replay_reserve_timeout_ms,
	};

	move(admission, ADMISSION_REPLAY);
	int error =
		key.failed || ttl.failed ||
		redis_call_start(admission->node->redis, &admission->reserve, reserved, &command);

	buf_finish(&key);
	buf_finish(&ttl);
	if (error)
		refuse(admission, ERR_REPLAY_UNAVAILABLE);
}

/* The steps between the session look-up and the replay reservation: none of them waits. */
static enum err check_signed(const struct admission *admission)
{
	const struct envelope *envelope = &admission->envelope;
	struct node *node = admission->node;
	uint8_t hash[SHA256_BYTES];

	if (admission->session->status == SESSION_REVOKED)
		return ERR_SESSION_REVOKED;
	if (!envelope_hash_is_sized(envelope))
		return ERR_PAYLOAD_HASH_LENGTH;
	if (digest_sha256(node->signing.digest, envelope->payload_bytes, hash))
		return ERR_INTERNAL;
	if (!span_equal(span_make(hash, sizeof(hash)), envelope->payload_hash))
		return ERR_PAYLOAD_HASH_MISMATCH;
	if (!envelope_signature_is_valid(envelope, admission->session->public_key))
		return ERR_SIGNATURE;
	if (!envelope_is_fresh(envelope, node->worker->wall_ms,
			       node->shared->config->freshness_window_ms))
		return ERR_FRESHNESS;
	return ERR_NONE;
}

static void session_answered(struct admission *admission, enum sessions_answer answer,
			     struct session *session)
{
	if (answer == SESSIONS_UNKNOWN) {
		refuse(admission, ERR_SESSION_UNKNOWN);
		return;
	}
	if (answer == SESSIONS_UNAVAILABLE) {
		refuse(admission, ERR_SESSION_UNAVAILABLE);
		return;
	}
	session_get(session);
	admission->session = session;
	admission->checked_sequence = admission->node->sessions.sequence;
	enum err err = check_signed(admission);

	if (err != ERR_NONE)
		refuse(admission, err);
	else
		reserve(admission);
}

static void session_told(struct session_waiter *waiter, enum sessions_answer answer,
			 struct session *session)
{
	session_answered(CONTAINER_OF(waiter, struct admission, waiter), answer, session);
}

/* The steps before the session look-up. Returns the refusal or ERR_NONE. */
static enum err check_envelope(struct admission *admission, const char **field)
{
	if (wire_read_request(admission->request->body, &admission->envelope))
		return ERR_ENVELOPE_MALFORMED;
	enum err err = envelope_check_complete(&admission->envelope, field);

	if (err != ERR_NONE)
		return err;
	admission->request->request_id =
		arena_copy(&admission->request->arena, admission->envelope.request_id);
	admission->request->trace_id =
		arena_copy(&admission->request->arena, admission->envelope.trace_id);
	return envelope_version_is_supported(&admission->envelope) ? ERR_NONE
								   : ERR_PROTOCOL_VERSION;
}

void admission_start(struct admission *admission, struct request *request,
		     const struct admission_handler *handler)
{
	struct node *node = request->service;
	const char *field = NULL;
	uint8_t key[ADDRESS_KEY_MAX];

	*admission = (struct admission){.handler = handler, .node = node, .request = request};
	list_init(&admission->waiter.link);
	admission->waiter.told = session_told;
	enum err err = check_envelope(admission, &field);

	if (err != ERR_NONE) {
		refuse_with(admission, err, field, 0);
		return;
	}
	size_t key_len = address_budget_key(request->peer, key);
	uint64_t wait_ms = key_len ? charge(admission, BUDGET_IP, span_make(key, key_len)) : 0;

	if (wait_ms) {
		refuse_with(admission, ERR_RATE_LIMITED, NULL, wait_ms);
		return;
	}
	struct session *session = NULL;

	move(admission, ADMISSION_SESSION);
	enum sessions_answer answer =
		sessions_find(&node->sessions, admission->envelope.device_session_id,
			      &admission->waiter, &session);

	if (answer != SESSIONS_PENDING)
		session_answered(admission, answer, session);
}

void admission_finish(struct admission *admission)
{
	sessions_cancel(&admission->waiter);
	redis_call_cancel(&admission->reserve);
	if (admission->session)
		session_put(admission->session);
	admission->session = NULL;
	move(admission, ADMISSION_OVER);
}
