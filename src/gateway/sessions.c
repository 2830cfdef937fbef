#include "gateway/sessions.h"

#include "config/config.h"
#include "gateway/record.h"

#include <errno.h>
#include <stdlib.h>

struct session_lookup {
	struct hash_node node;
	struct sessions *sessions;
	struct redis_call call;
	struct list waiters;
	uint32_t waiter_count, asks;
	bool stale; /* a session event for this id came after the GET was asked */
	uint16_t id_len;
	char id[SESSION_ID_MAX];
};

static const struct metric_family lookups_family = {
	.name = "gateway_session_cache_lookups_total",
	.help = "Session look-ups by what answered them.",
	.type = METRIC_COUNTER,
};
static const struct metric_family entries_family = {
	.name = "gateway_session_cache_entries",
	.help = "Session snapshots kept, over all workers.",
	.type = METRIC_GAUGE,
};

static struct span lookup_id(const struct session_lookup *lookup)
{
	return span_make(lookup->id, lookup->id_len);
}

static bool lookup_matches(const struct hash_node *node, struct span key)
{
	return span_equal(lookup_id(CONTAINER_OF(node, struct session_lookup, node)), key);
}

static void register_metrics(struct sessions *sessions, struct metric_registry *registry)
{
	const struct {
		const char *labels;
		struct metric_counter *counter;
	} cells[] = {
		{"result=\"hit\"", &sessions->metrics.hit},
		{"result=\"negative_hit\"", &sessions->metrics.absent},
		{"result=\"redis_found\"", &sessions->metrics.found},
		{"result=\"redis_unknown\"", &sessions->metrics.unknown},
		{"result=\"unavailable\"", &sessions->metrics.failed},
		{"result=\"asked_again\"", &sessions->metrics.asked_again},
	};

	if (!registry)
		return;
	for (size_t i = 0; i < ARRAY_LEN(cells); i++)
		metric_register(registry, &lookups_family, cells[i].labels, cells[i].counter);
	metric_register(registry, &entries_family, "", &sessions->metrics.entries);
}

void sessions_init(struct sessions *sessions, const struct sessions_options *options)
{
	const struct config *config = options->config;

	*sessions = (struct sessions){
		.worker = options->worker,
		.redis = options->redis,
		.key_prefix = span_from_cstr(config->redis_key_prefix),
		.timeout_ms = (uint32_t)config->redis_lookup_timeout_ms,
	};
	session_cache_init(&sessions->cache, (uint32_t)config->session_cache_max_entries,
			   config->session_cache_ttl_ms, config->session_cache_negative_ttl_ms,
			   options->secret);
	hash_init(&sessions->lookups, lookup_matches, options->secret);
	register_metrics(sessions, options->metrics);
}

/* Ends a lookup: out of the table first, so that a waiter may ask again inside its callback. */
static void lookup_end(struct session_lookup *lookup, enum sessions_answer answer,
		       struct session *session)
{
	struct sessions *sessions = lookup->sessions;
	struct list waiters;
	struct list *link;

	hash_remove(&sessions->lookups, &lookup->node);
	sessions->lookup_count--;
	list_init(&waiters);
	list_splice_back(&waiters, &lookup->waiters);
	if (session)
		session_get(session);
	while ((link = list_pop_front(&waiters))) {
		struct session_waiter *waiter = CONTAINER_OF(link, struct session_waiter, link);

		waiter->lookup = NULL;
		waiter->told(waiter, answer, session);
	}
	if (session)
		session_put(session);
	free(lookup);
}

static bool lookup_destroy(struct hash_node *node, void *context)
{
	struct sessions *sessions = context;
	struct session_lookup *lookup = CONTAINER_OF(node, struct session_lookup, node);

	CHECK(list_is_empty(&lookup->waiters));
	redis_call_cancel(&lookup->call);
	hash_remove(&sessions->lookups, node);
	free(lookup);
	return true;
}

void sessions_finish(struct sessions *sessions)
{
	hash_each(&sessions->lookups, lookup_destroy, sessions);
	hash_finish(&sessions->lookups);
	session_cache_finish(&sessions->cache);
}

static void count_entries(struct sessions *sessions)
{
	metric_gauge_set(&sessions->metrics.entries, sessions->cache.count);
}

static int lookup_ask(struct session_lookup *lookup);

/* Reads a record that Redis has given. */
static void lookup_decode(struct session_lookup *lookup, struct span text)
{
	struct sessions *sessions = lookup->sessions;
	struct session *session;
	const char *field;

	if (record_read_session(&session, text, lookup_id(lookup), &field)) {
		LOG(LOG_WARN, "sessions", "session record is malformed",
		    LOG_SESSION(lookup_id(lookup)), LOG_TEXT("field", field));
		metric_add(&sessions->metrics.failed, 1);
		lookup_end(lookup, SESSIONS_UNAVAILABLE, NULL);
		return;
	}
	metric_add(&sessions->metrics.found, 1);
	session_cache_store(&sessions->cache, session, sessions->worker->now_ms);
	count_entries(sessions);
	lookup_end(lookup, SESSIONS_FOUND, session);
	session_put(session);
}

static void lookup_answered(struct redis_call *call, enum redis_outcome outcome,
			    const struct resp_value *value)
{
	struct session_lookup *lookup = CONTAINER_OF(call, struct session_lookup, call);
	struct sessions *sessions = lookup->sessions;

	if (outcome == REDIS_REPLY && lookup->stale && lookup->asks < LOOKUP_ASKS_MAX) {
		metric_add(&sessions->metrics.asked_again, 1);
		if (lookup_ask(lookup) == 0)
			return;
	} else if (outcome == REDIS_REPLY && !lookup->stale && value->type == RESP_STRING) {
		lookup_decode(lookup, value->text);
		return;
	} else if (outcome == REDIS_REPLY && !lookup->stale && value->type == RESP_NIL) {
		metric_add(&sessions->metrics.unknown, 1);
		session_cache_store_absent(&sessions->cache, lookup_id(lookup),
					   sessions->worker->now_ms);
		count_entries(sessions);
		lookup_end(lookup, SESSIONS_UNKNOWN, NULL);
		return;
	}
	metric_add(&sessions->metrics.failed, 1);
	lookup_end(lookup, SESSIONS_UNAVAILABLE, NULL);
}

static int lookup_ask(struct session_lookup *lookup)
{
	struct sessions *sessions = lookup->sessions;
	uint8_t key[1024];
	struct span prefix = sessions->key_prefix;

	CHECK(prefix.len + lookup->id_len <= sizeof(key));
	memcpy(key, prefix.data, prefix.len);
	memcpy(key + prefix.len, lookup->id, lookup->id_len);
	const struct span args[] = {SPAN("GET"), span_make(key, prefix.len + lookup->id_len)};
	const struct redis_command command = {
		.args = args,
		.count = ARRAY_LEN(args),
		.role = REDIS_SESSION,
		.timeout_ms = sessions->timeout_ms,
	};

	lookup->stale = false;
	lookup->asks++;
	return redis_call_start(sessions->redis, &lookup->call, lookup_answered, &command);
}

static struct session_lookup *lookup_start(struct sessions *sessions, struct span id)
{
	if (sessions->lookup_count >= LOOKUPS_MAX || id.len > SESSION_ID_MAX)
		return NULL;
	struct session_lookup *lookup = calloc(1, sizeof(*lookup));

	if (!lookup)
		return NULL;
	lookup->sessions = sessions;
	list_init(&lookup->waiters);
	lookup->id_len = (uint16_t)id.len;
	memcpy(lookup->id, id.data, id.len);
	if (hash_insert(&sessions->lookups, &lookup->node, id))
		goto free_lookup;
	if (lookup_ask(lookup))
		goto remove_lookup;
	sessions->lookup_count++;
	return lookup;
remove_lookup:
	hash_remove(&sessions->lookups, &lookup->node);
free_lookup:
	free(lookup);
	return NULL;
}

enum sessions_answer sessions_find(struct sessions *sessions, struct span id,
				   struct session_waiter *waiter, struct session **session)
{
	switch (session_cache_find(&sessions->cache, id, sessions->worker->now_ms, session)) {
	case SESSION_HIT:
		metric_add(&sessions->metrics.hit, 1);
		return SESSIONS_FOUND;
	case SESSION_ABSENT:
		metric_add(&sessions->metrics.absent, 1);
		return SESSIONS_UNKNOWN;
	case SESSION_MISS:
		break;
	}
	struct hash_node *node = hash_find(&sessions->lookups, id);
	struct session_lookup *lookup =
		node ? CONTAINER_OF(node, struct session_lookup, node) : lookup_start(sessions, id);

	if (!lookup || lookup->waiter_count >= LOOKUP_WAITERS_MAX) {
		metric_add(&sessions->metrics.failed, 1);
		return SESSIONS_UNAVAILABLE;
	}
	waiter->lookup = lookup;
	list_push_back(&lookup->waiters, &waiter->link);
	lookup->waiter_count++;
	return SESSIONS_PENDING;
}

void sessions_cancel(struct session_waiter *waiter)
{
	if (!waiter->lookup)
		return;
	waiter->lookup->waiter_count--; /* the lookup goes on: its answer is worth caching */
	waiter->lookup = NULL;
	list_remove(&waiter->link);
}

void sessions_recheck(struct sessions *sessions, struct span id)
{
	session_cache_forget(&sessions->cache, id);
	count_entries(sessions);
}

/* A GET that is on its way may carry what the event has replaced. */
static void mark_stale(struct sessions *sessions, struct span id)
{
	struct hash_node *node = hash_find(&sessions->lookups, id);

	if (node)
		CONTAINER_OF(node, struct session_lookup, node)->stale = true;
}

static bool mark_one_stale(struct hash_node *node, void *context)
{
	(void)context;
	CONTAINER_OF(node, struct session_lookup, node)->stale = true;
	return true;
}

void sessions_replace(struct sessions *sessions, struct session *session, uint64_t sequence)
{
	sessions->sequence = sequence;
	mark_stale(sessions, session_id(session));
	if (session_cache_store(&sessions->cache, session, sessions->worker->now_ms))
		session_cache_forget(&sessions->cache, session_id(session));
	count_entries(sessions);
}

void sessions_forget(struct sessions *sessions, struct span id, uint64_t sequence)
{
	sessions->sequence = sequence;
	mark_stale(sessions, id);
	session_cache_forget(&sessions->cache, id);
	count_entries(sessions);
}

void sessions_forget_all(struct sessions *sessions, uint64_t sequence)
{
	sessions->sequence = sequence;
	hash_each(&sessions->lookups, mark_one_stale, NULL);
	session_cache_forget_all(&sessions->cache);
	count_entries(sessions);
}
