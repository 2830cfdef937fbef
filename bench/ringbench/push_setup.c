#include "push_setup.h"

#include "base/base64.h"
#include "client/message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define STREAMS_PER_SESSION 8 /* GATEWAY_PUSH_MAX_STREAMS_PER_SESSION */
#define RECORD_SECONDS	    SPAN("3600")
#define RECORD_MAX	    512

struct span push_user_name(const struct push_setup *setup, char text[PUSH_NAME_MAX], uint32_t user)
{
	int len = snprintf(text, PUSH_NAME_MAX, "bench-%016llx-u%u", (unsigned long long)setup->run,
			   user);

	return span_make(text, (size_t)len);
}

static struct span session_name(const struct push_setup *setup, char text[PUSH_NAME_MAX],
				uint32_t user, uint32_t session)
{
	int len = snprintf(text, PUSH_NAME_MAX, "bench-%016llx-u%u-s%u",
			   (unsigned long long)setup->run, user, session);

	return span_make(text, (size_t)len);
}

/* ---- who is who ---- */

static uint32_t user_of(const struct push_setup *setup, uint32_t stream)
{
	if (stream < setup->active)
		return stream % setup->users;
	return setup->users + (stream - setup->active) / STREAMS_PER_SESSION;
}

static uint32_t session_of(const struct push_setup *setup, uint32_t stream)
{
	return stream < setup->active ? stream / setup->users / STREAMS_PER_SESSION : 0;
}

static uint32_t sessions_of(const struct push_setup *setup, uint32_t user)
{
	uint32_t streams;

	if (user >= setup->users)
		return 1;
	streams = (setup->active + setup->users - 1 - user) / setup->users;
	return (streams + STREAMS_PER_SESSION - 1) / STREAMS_PER_SESSION;
}

/* ---- records ---- */

static int write_record(struct push_setup *setup, struct span key_text, uint32_t user,
			uint32_t session)
{
	char user_text[PUSH_NAME_MAX], session_text[PUSH_NAME_MAX], key[256], record[RECORD_MAX];
	struct span user_id = push_user_name(setup, user_text, user);
	struct span id = session_name(setup, session_text, user, session);
	int key_len = snprintf(key, sizeof(key), "%s%.*s", setup->options->key_prefix,
			       SPAN_ARGS(id));
	int len = snprintf(record, sizeof(record),
			   "{\"device_session_id\":\"%.*s\",\"user_id\":\"%.*s\","
			   "\"client_public_key\":\"%.*s\",\"status\":\"active\"}",
			   SPAN_ARGS(id), SPAN_ARGS(user_id), SPAN_ARGS(key_text));

	if (key_len >= (int)sizeof(key))
		return -EINVAL;
	const struct span args[] = {SPAN("SET"), span_make(key, (size_t)key_len),
				    span_make(record, (size_t)len), SPAN("EX"), RECORD_SECONDS};

	return push_store_send_all(&setup->store, args, 5);
}

static int write_records(struct push_setup *setup)
{
	struct buf key;
	int code;

	buf_init(&key, RECORD_MAX);
	code = base64_append(&key, span_make(signer_public_key(setup->signer), ENVELOPE_KEY_BYTES));
	for (uint32_t user = 0; code == 0 && user < setup->users + setup->idle_users; user++)
		for (uint32_t i = 0; code == 0 && i < sessions_of(setup, user); i++)
			code = write_record(setup, buf_span(&key), user, i);
	if (code == 0)
		code = push_store_settle(&setup->store);
	buf_finish(&key);
	if (code)
		tell("session records cannot be written: %s",
		     setup->store.why[0] ? setup->store.why : strerrordesc_np(-code));
	return code;
}

/* ---- requests ---- */

static struct payload *sign_request(const struct push_setup *setup, uint32_t stream)
{
	char session[PUSH_NAME_MAX], id[33];

	request_id_make(id);

	const struct request request = {
		.session = session_name(setup, session, user_of(setup, stream),
					session_of(setup, stream)),
		.message_type = SPAN("gateway.subscribe"),
		.request_id = span_from_cstr(id),
		.trace_id = SPAN_EMPTY,
		.payload = SPAN_EMPTY,
		.timestamp_ms = worker_clock_system.wall_ms(NULL),
	};

	return request_write(&request, setup->signer);
}

static struct push_out *make_opening(const struct push_setup *setup, uint32_t conn,
				     struct span authority)
{
	uint32_t per = setup->options->streams_per_connection;
	uint32_t first = conn * per;
	uint32_t count = setup->streams - first < per ? setup->streams - first : per;
	struct push_out *opening =
		push_opening_make(PUSH_OPENING_BYTES + count * (PUSH_SUBSCRIBE_BYTES + RECORD_MAX));

	for (uint32_t i = 0; opening && i < count; i++) {
		struct payload *message = sign_request(setup, first + i);

		if (!message) {
			free(opening);
			return NULL;
		}
		push_opening_subscribe(opening, i, authority, payload_span(message));
		payload_put(message);
	}
	return opening;
}

static int make_openings(struct push_setup *setup)
{
	struct push_team *team = &setup->team;
	size_t count = (size_t)team->conn_count * team->options.rounds;
	char text[ENDPOINT_TEXT_MAX];
	struct span authority = SPAN("localhost");

	if (setup->options->target_endpoint.kind == ENDPOINT_HOST) {
		size_t len = endpoint_format(&setup->options->target_endpoint, text);

		authority = span_make(text, len < 64 ? len : 0);
	}
	for (size_t i = 0; i < count; i++) {
		team->openings[i] =
			make_opening(setup, (uint32_t)(i % team->conn_count), authority);
		if (!team->openings[i]) {
			tell("out of memory");
			return -ENOMEM;
		}
	}
	return 0;
}

int push_setup_prepare(struct push_setup *setup)
{
	int code = write_records(setup);

	for (uint32_t i = 0; i < setup->streams; i++)
		push_team_stream(&setup->team, i)->user = user_of(setup, i);
	return code ? code : make_openings(setup);
}

/* ---- life ---- */

static int load_keys(struct push_setup *setup)
{
	const char *path = setup->options->gateway_key;
	char why[256];

	if (signer_generate(&setup->signer) != 0) {
		tell("out of memory");
		return -ENOMEM;
	}
	if (!path)
		return 0;

	int code = public_key_load(setup->gateway_key, path, why, sizeof(why));

	setup->has_gateway_key = code == 0;
	if (code)
		tell("%s", why);
	return code;
}

static int make_team(struct push_setup *setup)
{
	const struct options *options = setup->options;
	struct push_team_options team = {
		.threads = options->threads,
		.streams = setup->streams,
		.active_streams = setup->active,
		.streams_per_connection = options->streams_per_connection,
		.at_once = setup->at_once,
		.source_addresses = options->source_addresses,
		.rounds = setup->rounds,
		.times_openings = setup->times_openings,
		.target = {.storage = options->target.storage, .len = options->target.len},
	};
	uint32_t conns = (setup->active + team.streams_per_connection - 1) /
			 team.streams_per_connection;

	team.stalled = (uint32_t)(options->stall * conns + 0.5);

	int code = push_team_create(&setup->team, &team);

	for (uint32_t i = 0; code == 0 && i < team.threads; i++) {
		struct push_check *check = &setup->team.members[i].crew.check;

		check->run = setup->run;
		check->key = setup->has_gateway_key ? setup->gateway_key : NULL;
	}
	return code;
}

int push_setup_init(struct push_setup *setup)
{
	const struct options *options = setup->options;

	setup->streams = setup->active + options->idle;
	setup->idle_users = (options->idle + STREAMS_PER_SESSION - 1) / STREAMS_PER_SESSION;
	if (options->streams_per_connection > PUSH_CONN_STREAMS_MAX) {
		tell("--streams-per-connection: at most %d", PUSH_CONN_STREAMS_MAX);
		return -EINVAL;
	}
	if (getrandom(&setup->run, sizeof(setup->run), 0) != (ssize_t)sizeof(setup->run))
		return -EIO;

	int code = load_keys(setup);

	if (code == 0)
		code = make_team(setup);
	if (code)
		return code;
	code = push_store_open(&setup->store, setup->team.members[0].crew.worker, &options->redis);
	if (code)
		tell("Redis: %s", setup->store.why);
	return code;
}

void push_setup_leave(struct push_setup *setup)
{
	setup->redis_failed = setup->store.failed;
	push_store_close(&setup->store);
	if (setup->team.members && setup->team.members[0].crew.worker)
		push_team_leave(&setup->team);
}

void push_setup_finish(struct push_setup *setup)
{
	push_team_destroy(&setup->team);
	signer_destroy(setup->signer);
}
