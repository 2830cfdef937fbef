/*
 * sizes: what one open, idle SubscribeEvents stream takes of this program's memory, by owner. Each
 * row's objects are made as many times as asked, as the gateway makes them, and malloc is asked
 * what they took; so tables and malloc's own bytes are in it.
 *
 *   sizes [STREAMS]        one JSON object: {"streams":…,"bytes":{"connection":…,…},"sum":…}
 */
#include "auth/session.h"
#include "base/check.h"
#include "base/slab.h"
#include "codec/h2_memory.h"
#include "edge/face_h2.h"
#include "gateway/subscribe.h"
#include "hub/index.h"
#include "uring/slots.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define STREAMS_DEFAULT 18000

/* As ringbench names them; ids in the field are UUIDs with a word before them, as long. */
#define SESSION_FORMAT "bench-session-%08zu"
#define USER_FORMAT    "bench-user-%08zu"
#define REQUEST_ID     "00000000-0000-4000-8000-000000000000"

static const struct hash_secret secret = {{1}};

struct row {
	const char *name;
	void (*make)(size_t count); /* this many, and never gives them back */
};

static struct span text_of(char text[64], const char *format, size_t number)
{
	int len = snprintf(text, 64, format, number);

	return span_make(text, (size_t)len);
}

static void make_plain(size_t count, size_t bytes)
{
	while (count-- > 0)
		CHECK(calloc(1, bytes));
}

static void make_slab(size_t count, size_t bytes)
{
	struct slab *slab = malloc(sizeof(*slab));

	CHECK(slab);
	slab_init(slab, bytes, count);
	while (count-- > 0)
		CHECK(slab_alloc(slab));
}

/* Transport, sniffing, outcome. */
static void make_connections(size_t count)
{
	make_plain(count, sizeof(struct connection));
}

static void make_http2(size_t count)
{
	make_plain(count, sizeof(struct http2));
}

static void make_calls(size_t count)
{
	make_slab(count, http2_call_bytes());
}

/* What request_settle keeps. */
static void make_arenas(size_t count)
{
	while (count-- > 0) {
		struct arena arena;
		struct span id, trace = SPAN_EMPTY;

		arena_init(&arena, REQUEST_ARENA_BYTES_MAX);
		id = arena_copy(&arena, SPAN(REQUEST_ID));
		arena_keep(&arena, (struct span *const[]){&id, &trace}, 2);
	}
}

static void make_streams(size_t count)
{
	make_slab(count, SUBSCRIBE_STREAM_BYTES);
}

static void make_sessions(size_t count)
{
	struct session_cache *cache = malloc(sizeof(*cache));
	char id[64], user[64];

	CHECK(cache);
	session_cache_init(cache, (uint32_t)count, 1, 1, secret);
	for (size_t i = 0; i < count; i++) {
		struct session_fields fields = {
			.device_session_id = text_of(id, SESSION_FORMAT, i),
			.user_id = text_of(user, USER_FORMAT, i),
			.client_public_key = SPAN("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="),
			.status = SPAN("active"),
		};
		struct session *session;
		const char *field;

		CHECK(session_create(&session, &fields, &field) == 0);
		CHECK(session_cache_store(cache, session, 0) == 0);
		session_put(session);
	}
}

/* Only what the index allocates: the stream itself is another row. */
static void make_index(size_t count)
{
	struct index *index = malloc(sizeof(*index));
	struct slab slab;
	char session[64], user[64];

	CHECK(index);
	slab_init(&slab, sizeof(struct subscription), count);
	index_init(index, secret);
	for (size_t i = 0; i < count; i++) {
		struct subscription *subscription = slab_alloc(&slab);

		CHECK(subscription && index_add(index, subscription, text_of(user, USER_FORMAT, i),
						text_of(session, SESSION_FORMAT, i)) == 0);
	}
}

/* One receive is armed for each connection. */
static void make_slots(size_t count)
{
	struct slots *slots = malloc(sizeof(*slots));
	static struct op op;

	CHECK(slots);
	slots_init(slots);
	while (count-- > 0)
		CHECK(slots_take(slots, &op) != USER_DATA_NO_SLOT);
}

static const struct row rows[] = {
	{"connection", make_connections},
	{"http2", make_http2},
	{"call", make_calls},
	{"request ids", make_arenas},
	{"stream with feed", make_streams},
	{"session snapshot", make_sessions},
	{"index", make_index},
	{"operation slot", make_slots},
};

static size_t heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

int main(int argc, char **argv)
{
	size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : STREAMS_DEFAULT, sum;
	struct h2_memory *memory;

	if (count == 0 || h2_memory_create(&memory) != 0)
		return 2;
	sum = h2_memory_block_bytes(memory);
	printf("{\"streams\":%zu,\"bytes\":{\"nghttp2 session's block\":%zu", count, sum);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t before = heap_bytes();

		rows[i].make(count);

		size_t each = (heap_bytes() - before) / count;

		/* its streams are a row of their own */
		if (rows[i].make == make_index)
			each -= sizeof(struct subscription);
		sum += each;
		printf(",\"%s\":%zu", rows[i].name, each);
	}
	printf("},\"sum\":%zu}\n", sum);
	return 0;
}
