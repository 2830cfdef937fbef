/*
 * sessions_rig: the sessions of one worker, against a Redis or a scripted peer, on a clock that the
 * test moves ahead; and askers that remember what they were told.
 */
#ifndef TESTS_UNIT_GATEWAY_SESSIONS_RIG_H
#define TESTS_UNIT_GATEWAY_SESSIONS_RIG_H

#include "unit/redis/redis_rig.h"

#include "config/config.h"
#include "gateway/sessions.h"
#include "redis/client_internal.h"

#define KEY "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=" /* base64 of 32 bytes */

static struct redis_server server;
static struct fake fake = {.listener = -1, .peer = -1};
static struct worker worker;
static struct redis_client *client;
static struct config *config;
static struct sessions sessions;
static bool has_sessions;
static int fds_before;

/* Also reads the new time. */
static inline void pass_ms(uint64_t ms)
{
	ahead_us += ms * 1000;
	assert_int_equal(worker_turn(&worker, 0), 0);
}

/* ---- the sessions under test ---- */

static inline void load_config(void)
{
	static char *const environment[] = {
		(char *)"GATEWAY_SESSION_CACHE_REDIS_ADDR=unix:/nowhere",
		(char *)"GATEWAY_SESSION_EVENTS_REDIS_STREAM=session_events",
		(char *)"GATEWAY_CLIENT_EVENTS_REDIS_STREAM=client_events",
		(char *)"GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH=/nowhere",
		NULL,
	};
	struct buf report;

	buf_init(&report, 1u << 16);
	config = config_load(environment, NULL, &report);
	if (!config)
		fail_msg("%.*s", SPAN_ARGS(buf_span(&report)));
	buf_finish(&report);
	config->redis_key_prefix = "p:";
}

static inline void begin(struct endpoint endpoint)
{
	const struct redis_options redis = {
		.endpoint = endpoint,
		.connect_timeout_ms = 1000,
		.role = REDIS_SESSION,
	};

	assert_int_equal(redis_client_create(&client, &worker, &redis), 0);
	redis_client_start(client, NULL, NULL);

	const struct sessions_options options = {
		.worker = &worker,
		.redis = client,
		.config = config,
	};

	sessions_init(&sessions, &options);
	has_sessions = true;
}

static inline void begin_with_redis(void)
{
	redis_server_start(&server);
	begin(redis_server_endpoint(&server));
	TURN_UNTIL(&worker, redis_client_is_ready(client));
}

static inline void begin_with_fake(void)
{
	fake_open(&fake, &worker);
	begin(fake_endpoint(&fake));
	fake_greet(&fake);
	TURN_UNTIL(&worker, redis_client_is_ready(client));
}

static inline int set_up(void **state)
{
	(void)state;
	fds_before = descriptor_count();
	ahead_us = 0;
	log_setup(&(struct log_options){.level = LOG_ERROR, .format = LOG_TEXT, .fd = 2});
	load_config();
	rig_worker_init(&worker, (struct worker_clock){
					 .monotonic_us = ahead_monotonic_us,
					 .wall_ms = worker_clock_system.wall_ms,
				 });
	return 0;
}

static inline int tear_down(void **state)
{
	bool stopped = false;

	(void)state;
	if (has_sessions) {
		/* First: calls of lookups that nobody waits for are cancelled. */
		sessions_finish(&sessions);
		has_sessions = false;
		redis_client_stop(client, rig_set_true, &stopped);
		TURN_UNTIL(&worker, stopped);
		redis_client_destroy(client);
	}
	fake_close(&fake);
	redis_server_finish(&server);
	rig_worker_finish(&worker);
	config_destroy(config);
	assert_int_equal(descriptor_count(), fds_before);
	return 0;
}

static inline uint64_t asked_count(void)
{
	uint64_t count = 0;

	for (int outcome = 0; outcome < REDIS_OUTCOME_COUNT; outcome++)
		count += metric_value(&client->metrics.commands[REDIS_SESSION][outcome]);
	return count;
}

/* ---- those who wait ---- */

struct asker {
	struct session_waiter waiter;
	int told_count;
	enum sessions_answer answer;
	bool is_revoked;
	char user[32];
	void (*then)(struct asker *asker);
};

static struct asker askers[LOOKUPS_MAX];
static bool is_inside_find;

static inline void told(struct session_waiter *waiter, enum sessions_answer answer,
			struct session *session)
{
	struct asker *asker = CONTAINER_OF(waiter, struct asker, waiter);

	assert_false(is_inside_find);
	assert_null(waiter->lookup);
	assert_int_equal(session != NULL, answer == SESSIONS_FOUND);
	asker->told_count++;
	asker->answer = answer;
	if (session) {
		asker->is_revoked = session->status == SESSION_REVOKED;
		snprintf(asker->user, sizeof(asker->user), "%.*s",
			 SPAN_ARGS(session_user(session)));
	}
	if (asker->then)
		asker->then(asker);
}

static inline struct asker *asker_init(struct asker *asker)
{
	memset(asker, 0, sizeof(*asker));
	list_init(&asker->waiter.link);
	asker->waiter.told = told;
	return asker;
}

static inline enum sessions_answer find(struct asker *asker, const char *id)
{
	struct session *session = NULL;

	asker_init(asker);
	is_inside_find = true;
	asker->answer = sessions_find(&sessions, span_from_cstr(id), &asker->waiter, &session);
	is_inside_find = false;
	if (asker->answer == SESSIONS_FOUND) {
		asker->is_revoked = session->status == SESSION_REVOKED;
		snprintf(asker->user, sizeof(asker->user), "%.*s",
			 SPAN_ARGS(session_user(session)));
	}
	return asker->answer;
}

/* Asks and waits. */
static inline enum sessions_answer find_out(struct asker *asker, const char *id)
{
	if (find(asker, id) == SESSIONS_PENDING)
		TURN_UNTIL(&worker, asker->told_count == 1);
	return asker->answer;
}

static inline struct session *session_make(const char *id, const char *user, const char *status)
{
	const struct session_fields fields = {
		.device_session_id = span_from_cstr(id),
		.user_id = span_from_cstr(user),
		.client_public_key = SPAN(KEY),
		.status = span_from_cstr(status),
	};
	struct session *session;
	const char *field;

	assert_int_equal(session_create(&session, &fields, &field), 0);
	return session;
}

/* A letter from the bus. */
static inline void replace(const char *id, const char *user, const char *status)
{
	struct session *session = session_make(id, user, status);

	sessions_replace(&sessions, session, sessions.sequence + 1);
	session_put(session);
}

static inline const char *record_of(const char *id, const char *user, const char *status)
{
	static char text[512];

	snprintf(text, sizeof(text),
		 "{\"device_session_id\":\"%s\",\"user_id\":\"%s\",\"client_public_key\":\"" KEY
		 "\",\"status\":\"%s\"}",
		 id, user, status);
	return text;
}

static inline void write_record(const char *id, const char *user, const char *status)
{
	char key[200];

	snprintf(key, sizeof(key), "p:%s", id);
	assert_string_equal(ASK(&server, "SET", key, record_of(id, user, status)), "OK");
}

/* The scripted peer answers one GET. */
static inline void say_record(const char *id, const char *user, const char *status)
{
	const char *text = record_of(id, user, status);
	char answer[600];

	snprintf(answer, sizeof(answer), "$%zu\r\n%s\r\n", strlen(text), text);
	fake_say(&fake, answer);
}

static inline void turns(int count)
{
	while (count-- > 0)
		assert_int_equal(worker_turn(&worker, 0), 0);
}

#define SESSIONS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
