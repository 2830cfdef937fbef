#include "auth/session.h"

#include "auth/signer.h"
#include "base/check.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define EXPIRED_PER_STORE 2

static_assert(SESSION_ID_MAX == ENVELOPE_ID_BYTES_MAX, "an id of a request fits");
static_assert(SESSION_ID_MAX <= UINT16_MAX && SESSION_USER_MAX <= UINT16_MAX, "id_len, user_len");

/* ---- records ---- */

static bool status_parse(struct span text, enum session_status *status)
{
	if (span_equal(text, SPAN("active")))
		*status = SESSION_ACTIVE;
	else if (span_equal(text, SPAN("revoked")))
		*status = SESSION_REVOKED;
	else
		return false;
	return true;
}

static bool revoked_at_parse(struct span text, int64_t *revoked_at_ms)
{
	uint64_t value = 0;

	if (text.data && (!span_to_uint64(text, &value) || value > INT64_MAX))
		return false;
	*revoked_at_ms = (int64_t)value;
	return true;
}

static bool user_is_valid(struct span user)
{
	return user.len > 0 && user.len <= SESSION_USER_MAX && envelope_text_is_valid(user);
}

/* Fills all but the texts. Returns the name of the malformed field, or NULL. */
static const char *fields_parse(const struct session_fields *fields, struct session *session)
{
	if (!envelope_id_is_valid(fields->device_session_id))
		return "device_session_id";
	if (!user_is_valid(fields->user_id))
		return "user_id";
	if (!key_from_base64(fields->client_public_key, session->public_key))
		return "client_public_key";
	if (!status_parse(fields->status, &session->status))
		return "status";
	if (!revoked_at_parse(fields->revoked_at_ms, &session->revoked_at_ms))
		return "revoked_at_ms";
	return NULL;
}

int session_create(struct session **session, const struct session_fields *fields,
		   const char **field)
{
	struct session parsed = { .count = 1 };
	struct span id = fields->device_session_id, user = fields->user_id;

	*field = fields_parse(fields, &parsed);
	if (*field)
		return -EINVAL;

	struct session *made = malloc(sizeof(*made) + id.len + user.len);

	if (!made)
		return -ENOMEM;
	*made = parsed;
	made->id_len = (uint16_t)id.len;
	made->user_len = (uint16_t)user.len;
	memcpy(made->text, id.data, id.len);
	memcpy(made->text + id.len, user.data, user.len);
	*session = made;
	return 0;
}

void session_get(struct session *session)
{
	CHECK(session->count > 0 && session->count < UINT32_MAX);
	session->count++;
}

void session_put(struct session *session)
{
	if (!session)
		return;
	CHECK(session->count > 0);
	if (--session->count == 0)
		free(session);
}

/* ---- cache ---- */

struct entry {
	struct hash_node node;
	struct list in_use; /* place in oldest_first */
	struct session *session; /* NULL: known to be absent */
	uint64_t expires_ms;
	struct span id; /* in `session` or in `absent_id` */
	char absent_id[];
};

static bool entry_match(const struct hash_node *node, struct span key)
{
	return span_equal(CONTAINER_OF(node, struct entry, node)->id, key);
}

void session_cache_init(struct session_cache *cache, uint32_t max_count, uint64_t ttl_ms,
			uint64_t negative_ttl_ms, struct hash_secret secret)
{
	*cache = (struct session_cache){
		.max_count = max_count,
		.ttl_ms = ttl_ms,
		.negative_ttl_ms = negative_ttl_ms,
	};
	hash_init(&cache->table, entry_match, secret);
	list_init(&cache->oldest_first);
}

void session_cache_finish(struct session_cache *cache)
{
	session_cache_forget_all(cache);
	hash_finish(&cache->table);
}

static struct entry *entry_find(const struct session_cache *cache, struct span id)
{
	struct hash_node *node = hash_find(&cache->table, id);

	return node ? CONTAINER_OF(node, struct entry, node) : NULL;
}

static void entry_free(struct entry *entry)
{
	session_put(entry->session);
	free(entry);
}

static void entry_remove(struct session_cache *cache, struct entry *entry)
{
	hash_remove(&cache->table, &entry->node);
	list_remove(&entry->in_use);
	cache->count--;
	entry_free(entry);
}

enum session_found session_cache_find(struct session_cache *cache, struct span id, uint64_t now_ms,
				      struct session **session)
{
	struct entry *entry = entry_find(cache, id);

	if (!entry)
		return SESSION_MISS;
	if (now_ms >= entry->expires_ms) {
		entry_remove(cache, entry);
		return SESSION_MISS;
	}
	list_remove(&entry->in_use);
	list_push_back(&cache->oldest_first, &entry->in_use);
	if (!entry->session)
		return SESSION_ABSENT;
	*session = entry->session;
	return SESSION_HIT;
}

/* More leave than come, so what is never asked for again does not stay until there is no room. */
static void leave_expired(struct session_cache *cache, uint64_t now_ms)
{
	for (int i = 0; i < EXPIRED_PER_STORE && cache->count > 0; i++) {
		struct entry *oldest = CONTAINER_OF(cache->oldest_first.next, struct entry, in_use);

		if (now_ms < oldest->expires_ms)
			return;
		entry_remove(cache, oldest);
	}
}

/* Consumes the entry, also when it fails. */
static int entry_insert(struct session_cache *cache, struct entry *entry)
{
	while (cache->count >= cache->max_count && cache->count > 0) {
		struct list *oldest = cache->oldest_first.next;

		entry_remove(cache, CONTAINER_OF(oldest, struct entry, in_use));
	}

	int error = cache->max_count ? hash_insert(&cache->table, &entry->node, entry->id) : 0;

	if (error || cache->max_count == 0) {
		entry_free(entry);
		return error;
	}
	list_push_back(&cache->oldest_first, &entry->in_use);
	cache->count++;
	return 0;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

int session_cache_store(struct session_cache *cache, struct session *session, uint64_t now_ms)
{
	struct entry *entry = malloc(sizeof(*entry));

	/* First of all: what is there is no longer true. */
	session_cache_forget(cache, session_id(session));
	leave_expired(cache, now_ms);
	if (!entry)
		return -ENOMEM;
	session_get(session);
	*entry = (struct entry){
		.session = session,
		.expires_ms = add_saturated(now_ms, cache->ttl_ms),
		.id = session_id(session),
	};
	return entry_insert(cache, entry);
}

int session_cache_store_absent(struct session_cache *cache, struct span id, uint64_t now_ms)
{
	struct entry *entry = malloc(sizeof(*entry) + id.len);

	if (entry) {
		*entry = (struct entry){
			.expires_ms = add_saturated(now_ms, cache->negative_ttl_ms),
			.id = span_make(entry->absent_id, id.len),
		};
		if (id.len)
			memcpy(entry->absent_id, id.data, id.len);
	}
	session_cache_forget(cache, id);
	leave_expired(cache, now_ms);
	return entry ? entry_insert(cache, entry) : -ENOMEM;
}

void session_cache_forget(struct session_cache *cache, struct span id)
{
	struct entry *entry = entry_find(cache, id);

	if (entry)
		entry_remove(cache, entry);
}

void session_cache_forget_all(struct session_cache *cache)
{
	while (!list_is_empty(&cache->oldest_first)) {
		struct list *oldest = cache->oldest_first.next;

		entry_remove(cache, CONTAINER_OF(oldest, struct entry, in_use));
	}
}
