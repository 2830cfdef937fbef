#include "auth/session.h"
#include "auth/signer.h"
#include "base/check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define KEY_TEXT "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
#define TTL 1000
#define NEGATIVE_TTL 10

static const struct hash_secret secret = { .bytes = { 1, 2, 3 } };

static struct session_fields good_fields(void)
{
	return (struct session_fields){
		.device_session_id = SPAN("s-1"),
		.user_id = SPAN("u-1"),
		.client_public_key = SPAN(KEY_TEXT),
		.status = SPAN("active"),
	};
}

static struct session *make(const char *id)
{
	struct session_fields fields = good_fields();
	struct session *session;
	const char *field;

	fields.device_session_id = span_from_cstr(id);
	assert_int_equal(session_create(&session, &fields, &field), 0);
	return session;
}

/* ---- records ---- */

static void session_says_what_the_record_says(void **state)
{
	struct session_fields fields = good_fields();
	struct session *session;
	const char *field;
	uint8_t key[32];

	(void)state;
	fields.status = SPAN("revoked");
	fields.revoked_at_ms = SPAN("1700000000000");
	assert_int_equal(session_create(&session, &fields, &field), 0);
	assert_true(span_equal(session_id(session), SPAN("s-1")));
	assert_true(span_equal(session_user(session), SPAN("u-1")));
	assert_int_equal(session->status, SESSION_REVOKED);
	assert_int_equal(session->revoked_at_ms, INT64_C(1700000000000));
	assert_int_equal(session->count, 1);
	assert_true(key_from_base64(SPAN(KEY_TEXT), key));
	assert_memory_equal(session->public_key, key, 32);
	session_put(session);
}

static void assert_malformed(const struct session_fields *fields, const char *name)
{
	struct session *session = NULL;
	const char *field = NULL;

	assert_int_equal(session_create(&session, fields, &field), -EINVAL);
	assert_string_equal(field, name);
	assert_null(session);
}

static void session_names_the_malformed_field(void **state)
{
	static const struct {
		size_t offset;
		const char *name;
		struct span value;
	} rows[] = {
#define ROW(member, text) { offsetof(struct session_fields, member), #member, SPAN(text) }
		ROW(device_session_id, ""),
		ROW(device_session_id, "s\n"),
		ROW(device_session_id, "s\0"),
		ROW(device_session_id, "\xc3\xbc"),
		ROW(user_id, ""),
		ROW(user_id, "u\0"),
		ROW(user_id, "\xff"),
		ROW(client_public_key, ""),
		ROW(client_public_key, "AAAA"),
		ROW(client_public_key, "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"),
		ROW(status, ""),
		ROW(status, "Active"),
		ROW(status, "active "),
		ROW(status, "revoked\0"),
		ROW(status, "activ"),
		ROW(revoked_at_ms, ""),
		ROW(revoked_at_ms, "-1"),
		ROW(revoked_at_ms, "+1"),
		ROW(revoked_at_ms, "1.0"),
		ROW(revoked_at_ms, "1e3"),
		ROW(revoked_at_ms, " 1"),
		ROW(revoked_at_ms, "9223372036854775808"),
#undef ROW
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct session_fields fields = good_fields();

		memcpy((char *)&fields + rows[i].offset, &rows[i].value, sizeof(struct span));
		assert_malformed(&fields, rows[i].name);
	}
}

static void session_missing_fields_are_malformed_but_one(void **state)
{
	struct session_fields none = { .status = SPAN_EMPTY }, fields = good_fields();

	(void)state;
	assert_malformed(&none, "device_session_id");
	fields.user_id = SPAN_EMPTY;
	assert_malformed(&fields, "user_id");
	fields = good_fields(), fields.client_public_key = SPAN_EMPTY;
	assert_malformed(&fields, "client_public_key");
	fields = good_fields(), fields.status = SPAN_EMPTY;
	assert_malformed(&fields, "status");
	session_put(make("without revoked_at_ms"));
}

static void session_takes_the_longest_texts_and_no_longer(void **state)
{
	static char text[SESSION_USER_MAX + 1];
	struct session_fields fields = good_fields();
	struct session *session;
	const char *field;

	(void)state;
	memset(text, 'x', sizeof(text));
	fields.device_session_id = span_make(text, SESSION_ID_MAX);
	fields.user_id = span_make(text, SESSION_USER_MAX);
	fields.revoked_at_ms = SPAN("9223372036854775807");
	assert_int_equal(session_create(&session, &fields, &field), 0);
	assert_int_equal(session_id(session).len, SESSION_ID_MAX);
	assert_int_equal(session_user(session).len, SESSION_USER_MAX);
	assert_int_equal(session->revoked_at_ms, INT64_MAX);
	session_put(session);
	fields.device_session_id.len++;
	assert_malformed(&fields, "device_session_id");
	fields.device_session_id.len--;
	fields.user_id.len++;
	assert_malformed(&fields, "user_id");
}

static void session_small_order_key_is_taken_and_verifies_nothing(void **state)
{
	struct session_fields fields = good_fields();
	uint8_t signature[64] = { 1 };
	struct session *session;
	const char *field;

	(void)state;
	fields.client_public_key = SPAN("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
	assert_int_equal(session_create(&session, &fields, &field), 0);
	assert_false(envelope_verify(SPAN("text"), span_make(signature, 64), session->public_key));
	session_put(session);
}

/* ---- cache ---- */

static void init(struct session_cache *cache, uint32_t max_count)
{
	session_cache_init(cache, max_count, TTL, NEGATIVE_TTL, secret);
}

static void store(struct session_cache *cache, const char *id, uint64_t now_ms)
{
	struct session *session = make(id);

	assert_int_equal(session_cache_store(cache, session, now_ms), 0);
	session_put(session);
}

static enum session_found find(struct session_cache *cache, const char *id, uint64_t now_ms)
{
	struct session *session = NULL;
	enum session_found found = session_cache_find(cache, span_from_cstr(id), now_ms, &session);

	if (found == SESSION_HIT)
		assert_true(span_equal(session_id(session), span_from_cstr(id)));
	else
		assert_null(session);
	return found;
}

static void cache_finds_what_was_stored(void **state)
{
	struct session_cache cache;

	(void)state;
	init(&cache, 10);
	assert_int_equal(find(&cache, "a", 0), SESSION_MISS);
	store(&cache, "a", 0);
	assert_int_equal(session_cache_store_absent(&cache, SPAN("b"), 0), 0);
	assert_int_equal(find(&cache, "a", 0), SESSION_HIT);
	assert_int_equal(find(&cache, "b", 0), SESSION_ABSENT);
	assert_int_equal(find(&cache, "c", 0), SESSION_MISS);
	assert_int_equal(cache.count, 2);
	session_cache_finish(&cache);
	assert_int_equal(cache.count, 0);
}

static void cache_entries_live_exactly_their_time(void **state)
{
	struct session_cache cache;

	(void)state;
	init(&cache, 10);
	store(&cache, "a", 5);
	session_cache_store_absent(&cache, SPAN("b"), 5);
	assert_int_equal(find(&cache, "b", 5 + NEGATIVE_TTL - 1), SESSION_ABSENT);
	assert_int_equal(find(&cache, "b", 5 + NEGATIVE_TTL), SESSION_MISS);
	assert_int_equal(cache.count, 1);
	/* Hits do not extend it. */
	for (uint64_t now_ms = 5; now_ms < 5 + TTL; now_ms += 7)
		assert_int_equal(find(&cache, "a", now_ms), SESSION_HIT);
	assert_int_equal(find(&cache, "a", 5 + TTL - 1), SESSION_HIT);
	assert_int_equal(find(&cache, "a", 5 + TTL), SESSION_MISS);
	assert_int_equal(cache.count, 0);
	session_cache_finish(&cache);
}

static void cache_store_replaces_and_starts_the_time_anew(void **state)
{
	struct session_cache cache;

	(void)state;
	init(&cache, 10);
	session_cache_store_absent(&cache, SPAN("a"), 0);
	store(&cache, "a", 0);
	assert_int_equal(find(&cache, "a", NEGATIVE_TTL), SESSION_HIT);
	store(&cache, "a", TTL - 1);
	assert_int_equal(find(&cache, "a", TTL), SESSION_HIT);
	session_cache_store_absent(&cache, SPAN("a"), TTL);
	assert_int_equal(find(&cache, "a", TTL), SESSION_ABSENT);
	assert_int_equal(cache.count, 1);
	session_cache_finish(&cache);
}

static void cache_gives_up_the_least_recently_used(void **state)
{
	struct session_cache cache;

	(void)state;
	init(&cache, 3);
	store(&cache, "a", 0);
	session_cache_store_absent(&cache, SPAN("b"), 0);
	store(&cache, "c", 0);
	assert_int_equal(find(&cache, "a", 1), SESSION_HIT); /* b is the oldest now */
	store(&cache, "d", 2);
	assert_int_equal(cache.count, 3);
	assert_int_equal(find(&cache, "b", 3), SESSION_MISS);
	assert_int_equal(find(&cache, "a", 3), SESSION_HIT);
	assert_int_equal(find(&cache, "c", 3), SESSION_HIT);
	assert_int_equal(find(&cache, "d", 3), SESSION_HIT);
	session_cache_finish(&cache);
}

static void cache_replacing_at_the_bound_evicts_no_other(void **state)
{
	struct session_cache cache;

	(void)state;
	init(&cache, 2);
	store(&cache, "a", 0);
	store(&cache, "b", 0);
	store(&cache, "b", 1);
	session_cache_store_absent(&cache, SPAN("b"), 1);
	assert_int_equal(find(&cache, "a", 2), SESSION_HIT);
	assert_int_equal(find(&cache, "b", 2), SESSION_ABSENT);
	session_cache_finish(&cache);
}

static void cache_of_negative_entries_is_bounded_too(void **state)
{
	struct session_cache cache;
	char id[16];

	(void)state;
	init(&cache, 100);
	for (int i = 0; i < 5000; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		session_cache_store_absent(&cache, span_from_cstr(id), 0);
		assert_true(cache.count <= 100);
	}
	for (int i = 0; i < 5000; i++) {
		snprintf(id, sizeof(id), "s-%d", i);
		assert_int_equal(find(&cache, id, 1), i < 4900 ? SESSION_MISS : SESSION_ABSENT);
	}
	session_cache_finish(&cache);
}

/* Of sessions that come once and are never asked for again. */
static void cache_is_as_large_as_what_came_within_its_time(void **state)
{
	const uint32_t every_ms = 5, within = TTL / every_ms + 1;
	struct session_cache cache;
	char id[16];

	(void)state;
	init(&cache, 100000);
	for (uint32_t i = 0; i < 20 * within; i++) {
		snprintf(id, sizeof(id), "s-%u", i);
		store(&cache, id, i * every_ms);
		assert_true(cache.count <= within);
	}
	/* A burst leaves while half as many come. */
	for (uint32_t i = 0; i < 1000; i++) {
		snprintf(id, sizeof(id), "b-%u", i);
		store(&cache, id, 10000000);
	}
	for (uint32_t i = 0; i < 1100; i++) {
		snprintf(id, sizeof(id), "c-%u", i);
		store(&cache, id, 20000000 + i * every_ms);
	}
	assert_true(cache.count <= within);
	session_cache_finish(&cache);
}

static void cache_keeps_nothing_at_bound_zero_or_time_zero(void **state)
{
	struct session_cache cache;

	(void)state;
	init(&cache, 0);
	store(&cache, "a", 0);
	assert_int_equal(session_cache_store_absent(&cache, SPAN("b"), 0), 0);
	assert_int_equal(find(&cache, "a", 0), SESSION_MISS);
	assert_int_equal(find(&cache, "b", 0), SESSION_MISS);
	session_cache_finish(&cache);
	session_cache_init(&cache, 10, 0, 0, secret);
	store(&cache, "a", 7);
	assert_int_equal(find(&cache, "a", 7), SESSION_MISS);
	session_cache_finish(&cache);
	session_cache_init(&cache, 10, UINT64_MAX, UINT64_MAX, secret);
	store(&cache, "a", 7);
	assert_int_equal(find(&cache, "a", UINT64_MAX - 1), SESSION_HIT);
	session_cache_finish(&cache);
}

static void cache_forgets_one_or_all(void **state)
{
	struct session_cache cache;

	(void)state;
	init(&cache, 10);
	store(&cache, "a", 0);
	store(&cache, "b", 0);
	session_cache_store_absent(&cache, SPAN("c"), 0);
	session_cache_forget(&cache, SPAN("a"));
	session_cache_forget(&cache, SPAN("nobody"));
	assert_int_equal(find(&cache, "a", 0), SESSION_MISS);
	assert_int_equal(find(&cache, "b", 0), SESSION_HIT);
	session_cache_forget_all(&cache);
	assert_int_equal(find(&cache, "b", 0), SESSION_MISS);
	assert_int_equal(find(&cache, "c", 0), SESSION_MISS);
	assert_int_equal(cache.count, 0);
	store(&cache, "a", 0);
	assert_int_equal(find(&cache, "a", 0), SESSION_HIT);
	session_cache_finish(&cache);
}

/* A call in progress keeps the snapshot that it was checked against. */
static void cache_session_outlives_its_entry_while_held(void **state)
{
	struct session_cache cache;
	struct session *held;

	(void)state;
	init(&cache, 10);
	store(&cache, "a", 0);
	assert_int_equal(session_cache_find(&cache, SPAN("a"), 0, &held), SESSION_HIT);
	assert_int_equal(held->count, 1);
	session_get(held);
	store(&cache, "a", 1);
	session_cache_finish(&cache);
	assert_int_equal(held->count, 1);
	assert_true(span_equal(session_id(held), SPAN("a")));
	session_put(held);
	session_put(NULL);
}

struct model_entry {
	bool known, absent;
	uint64_t expires_ms, used;
};

#define MODEL_IDS 24
#define MODEL_MAX 8

static void model_evict(struct model_entry *model)
{
	int count = 0, oldest = -1;

	for (int i = 0; i < MODEL_IDS; i++) {
		if (!model[i].known)
			continue;
		count++;
		if (oldest < 0 || model[i].used < model[oldest].used)
			oldest = i;
	}
	if (count >= MODEL_MAX)
		model[oldest].known = false;
}

static enum session_found model_find(struct model_entry *entry, uint64_t now_ms, uint64_t turn)
{
	if (entry->known && now_ms >= entry->expires_ms)
		entry->known = false;
	if (!entry->known)
		return SESSION_MISS;
	entry->used = turn;
	return entry->absent ? SESSION_ABSENT : SESSION_HIT;
}

/* Random use against the plainest model there is. */
static void cache_agrees_with_a_model(void **state)
{
	struct model_entry model[MODEL_IDS] = { { .known = false } };
	struct session_cache cache;
	uint64_t now_ms = 0;
	unsigned seed = 7;

	(void)state;
	init(&cache, MODEL_MAX);
	for (uint64_t turn = 0; turn < 50000; turn++) {
		int which = rand_r(&seed) % MODEL_IDS, what = rand_r(&seed) % 8;
		char id[8];

		now_ms += (uint64_t)(rand_r(&seed) % 5);
		snprintf(id, sizeof(id), "s%d", which);
		if (what < 4) {
			assert_int_equal(find(&cache, id, now_ms),
					 model_find(&model[which], now_ms, turn));
		} else if (what < 7) {
			bool absent = what == 6;

			model[which].known = false;
			model_evict(model);
			model[which] = (struct model_entry){
				.known = true,
				.absent = absent,
				.expires_ms = now_ms + (absent ? NEGATIVE_TTL : TTL),
				.used = turn,
			};
			if (absent)
				session_cache_store_absent(&cache, span_from_cstr(id), now_ms);
			else
				store(&cache, id, now_ms);
		} else {
			session_cache_forget(&cache, span_from_cstr(id));
			model[which].known = false;
		}
	}
	session_cache_finish(&cache);
}

static int set_up(void **state)
{
	(void)state;
	return auth_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(session_says_what_the_record_says),
		cmocka_unit_test(session_names_the_malformed_field),
		cmocka_unit_test(session_missing_fields_are_malformed_but_one),
		cmocka_unit_test(session_takes_the_longest_texts_and_no_longer),
		cmocka_unit_test(session_small_order_key_is_taken_and_verifies_nothing),
		cmocka_unit_test(cache_finds_what_was_stored),
		cmocka_unit_test(cache_entries_live_exactly_their_time),
		cmocka_unit_test(cache_store_replaces_and_starts_the_time_anew),
		cmocka_unit_test(cache_gives_up_the_least_recently_used),
		cmocka_unit_test(cache_replacing_at_the_bound_evicts_no_other),
		cmocka_unit_test(cache_of_negative_entries_is_bounded_too),
		cmocka_unit_test(cache_is_as_large_as_what_came_within_its_time),
		cmocka_unit_test(cache_keeps_nothing_at_bound_zero_or_time_zero),
		cmocka_unit_test(cache_forgets_one_or_all),
		cmocka_unit_test(cache_session_outlives_its_entry_while_held),
		cmocka_unit_test(cache_agrees_with_a_model),
	};

	return cmocka_run_group_tests_name("session", tests, set_up, NULL);
}
