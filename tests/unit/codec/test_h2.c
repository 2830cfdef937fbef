/* Two h2 sessions in memory: random calls, splits, rooms and windows; all bytes must arrive and all
 * payloads return. */
#include "base/buf.h"
#include "base/check.h"
#include "codec/h2.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CALLS_MAX 6
#define PARTS_MAX 12
#define STEPS_MAX 200000

/* What one side of a call sends. */
struct script {
	struct payload_slice parts[PARTS_MAX];
	size_t part_count, next;
	size_t bytes;
	bool with_trailers, finished;
	bool pulled; /* parts are pushed by `pull`, else all at once */
};

struct side {
	struct h2_stream stream;
	struct end *end;
	size_t index;
	bool is_open;
	struct script out;
	size_t received, unconsumed;
	uint32_t received_hash;
	int headers_count, trailers_count, ended_count, closed_count;
	uint32_t closed_code;
};

struct end {
	struct h2_session *session;
	enum h2_role role;
	struct side sides[CALLS_MAX];
	size_t opened_count;
	struct buf wire;
	size_t room; /* bytes that the sink takes before it says that it is full */
	struct pair *pair;
};

struct pair {
	unsigned seed;
	struct end client, server;
	struct payload *payloads[8];
	size_t call_count;
	int resets; /* one call in so many is reset by somebody; 0: none */
};

static unsigned roll(struct pair *pair, unsigned below)
{
	return (unsigned)rand_r(&pair->seed) % below;
}

/* Order-dependent, so that swapped bytes are seen. */
static uint32_t hash_more(uint32_t hash, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		hash = (hash ^ bytes.data[i]) * 16777619u;
	return hash;
}

static uint32_t script_hash(const struct script *script)
{
	uint32_t hash = 0;

	for (size_t i = 0; i < script->part_count; i++) {
		const struct payload_slice *part = &script->parts[i];

		hash = hash_more(hash, span_make(part->payload->data + part->offset, part->len));
	}
	return hash;
}

static void script_make(struct pair *pair, struct script *script)
{
	script->part_count = roll(pair, PARTS_MAX + 1);
	script->with_trailers = roll(pair, 2);
	script->pulled = roll(pair, 2);
	for (size_t i = 0; i < script->part_count; i++) {
		struct payload *payload = pair->payloads[roll(pair, 8)];
		uint32_t offset = roll(pair, payload->len + 1);

		script->parts[i] = (struct payload_slice){payload, offset,
							  roll(pair, payload->len - offset + 1)};
		script->bytes += script->parts[i].len;
	}
}

static void side_finish(struct side *side)
{
	static const struct h2_header trailers[] = {{SPAN("grpc-status"), SPAN("0")},
						    {SPAN("x-end"), SPAN_EMPTY}};

	side->out.finished = true;
	assert_int_equal(h2_stream_finish(&side->stream, trailers, side->out.with_trailers ? 2 : 0),
			 0);
}

/* Pushes up to `count` parts, and the end behind the last one. */
static void side_push(struct side *side, size_t count)
{
	struct script *out = &side->out;

	while (count-- > 0 && out->next < out->part_count)
		assert_int_equal(h2_stream_push(&side->stream, out->parts[out->next++]), 0);
	if (out->next == out->part_count && !out->finished)
		side_finish(side);
}

static struct side *side_of(struct h2_stream *stream)
{
	return CONTAINER_OF(stream, struct side, stream);
}

static struct h2_stream *on_opened(struct h2_session *session, int32_t id)
{
	struct end *end = h2_session_owner(session);
	struct side *side = &end->sides[(id - 1) / 2];

	assert_false(side->is_open);
	*side = (struct side){.is_open = true, .end = end, .index = (size_t)(id - 1) / 2};
	end->opened_count++;
	script_make(end->pair, &side->out);
	return &side->stream;
}

static int on_header(struct h2_stream *stream, struct span name, struct span value)
{
	(void)stream, (void)value;
	assert_true(name.len > 0);
	return 0;
}

static void respond(struct side *side)
{
	static const struct h2_header headers[] = {
		{SPAN(":status"), SPAN("200")}, {SPAN("content-type"), SPAN("application/grpc")}};

	assert_int_equal(h2_respond(&side->stream, headers, 2, false), 0);
	if (!side->out.pulled)
		side_push(side, PARTS_MAX);
}

static void maybe_reset(struct side *side)
{
	struct pair *pair = side->end->pair;

	if (pair->resets > 0 && roll(pair, (unsigned)pair->resets) == 0)
		h2_stream_reset(&side->stream, H2_CANCEL);
}

static void on_headers_done(struct h2_stream *stream, enum h2_headers_kind kind, bool end_stream)
{
	struct side *side = side_of(stream);

	(void)end_stream;
	if (kind == H2_HEADERS_TRAILERS)
		side->trailers_count++;
	else
		side->headers_count++;
	/* half of the servers answer before the request is whole */
	if (kind == H2_HEADERS_REQUEST && side->index % 2 == 0)
		respond(side);
	maybe_reset(side);
}

static void on_data(struct h2_stream *stream, struct span bytes)
{
	struct side *side = side_of(stream);

	assert_int_equal(side->ended_count, 0);
	side->received += bytes.len;
	side->unconsumed += bytes.len;
	side->received_hash = hash_more(side->received_hash, bytes);
	maybe_reset(side);
}

static void on_ended(struct h2_stream *stream)
{
	struct side *side = side_of(stream);

	side->ended_count++;
	if (side->end->role == H2_SERVER && side->index % 2 == 1)
		respond(side);
}

static bool on_pull(struct h2_stream *stream)
{
	struct side *side = side_of(stream);

	assert_int_equal(stream->queue_count, 0);
	/* sometimes nothing: the driver resumes later */
	side_push(side, roll(side->end->pair, 4));
	return roll(side->end->pair, 2);
}

static void on_closed(struct h2_stream *stream, uint32_t code)
{
	struct side *side = side_of(stream);

	assert_int_equal(stream->queue_count, 0);
	side->closed_count++;
	side->closed_code = code;
	side->unconsumed = 0;
}

static const struct h2_handler handler = {
	.opened = on_opened,
	.header = on_header,
	.headers_done = on_headers_done,
	.data = on_data,
	.ended = on_ended,
	.pull = on_pull,
	.closed = on_closed,
};

/* ---- the driver ---- */

static int wire_bytes(void *context, struct span bytes)
{
	struct end *end = context;

	end->room -= bytes.len < end->room ? bytes.len : end->room;
	return buf_append(&end->wire, bytes);
}

static int wire_slice(void *context, struct payload_slice slice)
{
	assert_true(slice.len > 0 && slice.offset + slice.len <= slice.payload->len);
	return wire_bytes(context, span_make(slice.payload->data + slice.offset, slice.len));
}

static bool wire_has_room(void *context)
{
	struct end *end = context;

	return end->room > 0;
}

static void end_init(struct pair *pair, struct end *end, enum h2_role role, uint32_t window)
{
	struct h2_options options = {
		.role = role,
		.max_concurrent_streams = 100,
		.stream_window_bytes = window,
		.connection_window_bytes = roll(pair, 2) ? 65535 : 200000,
		.max_header_list_bytes = 16384,
		.max_frame_bytes = 16384,
	};

	end->pair = pair;
	end->role = role;
	buf_init(&end->wire, 64 << 20);
	assert_int_equal(h2_session_create(&end->session, &options, &handler, end), 0);
}

static void start_call(struct pair *pair, size_t index)
{
	static const struct h2_header headers[] = {
		{SPAN(":method"), SPAN("POST")}, {SPAN(":scheme"), SPAN("http")},
		{SPAN(":path"), SPAN("/a/b")},	 {SPAN(":authority"), SPAN("h")},
		{SPAN("te"), SPAN("trailers")},
	};
	struct side *side = &pair->client.sides[index];

	*side = (struct side){.is_open = true, .end = &pair->client, .index = index};
	script_make(pair, &side->out);
	assert_int_equal(
		h2_request(pair->client.session, &side->stream, headers, ARRAY_LEN(headers), false),
		0);
	if (!side->out.pulled)
		side_push(side, PARTS_MAX);
}

/* Consumes, resumes, resets: what an owner does between frames. */
static void tend(struct pair *pair, struct end *end)
{
	struct side *side = &end->sides[roll(pair, CALLS_MAX)];

	if (!side->stream.session)
		return;
	if (side->unconsumed > 0) {
		size_t bytes = 1 + roll(pair, (unsigned)side->unconsumed);

		side->unconsumed -= bytes;
		h2_consume(&side->stream, bytes);
	}
	if (side->out.pulled && roll(pair, 2))
		h2_stream_resume(&side->stream);
	if (roll(pair, 50) == 0)
		maybe_reset(side);
}

static void move_bytes(struct pair *pair, struct end *from, struct end *to)
{
	struct sink sink = {.context = from,
			    .bytes = wire_bytes,
			    .slice = wire_slice,
			    .has_room = wire_has_room};

	from->room = roll(pair, 3) ? roll(pair, 40000) : 1;
	assert_int_equal(h2_produce(from->session, &sink), 0);
	if (from->wire.len == 0)
		return;

	size_t len = 1 + roll(pair, roll(pair, 4) ? (unsigned)from->wire.len : 12);

	if (len > from->wire.len)
		len = from->wire.len;

	/* a copy of just these bytes, so that reading on is seen */
	uint8_t *bytes = malloc(len);

	memcpy(bytes, from->wire.data, len);
	buf_consume(&from->wire, len);
	assert_int_equal(h2_receive(to->session, span_make(bytes, len)), 0);
	free(bytes);
}

static bool all_closed(const struct pair *pair, size_t started)
{
	if (started < pair->call_count || pair->client.wire.len > 0)
		return false;
	return h2_open_stream_count(pair->client.session) == 0 &&
	       h2_open_stream_count(pair->server.session) == 0;
}

static void drive(struct pair *pair)
{
	size_t started = 0;
	int step = 0;

	for (; step < STEPS_MAX && !all_closed(pair, started); step++) {
		if (started < pair->call_count && roll(pair, 4) == 0)
			start_call(pair, started++);
		tend(pair, &pair->client);
		tend(pair, &pair->server);
		move_bytes(pair, &pair->client, &pair->server);
		move_bytes(pair, &pair->server, &pair->client);
	}
	assert_true(step < STEPS_MAX);
}

static void check_arrived(const struct side *from, const struct side *to)
{
	assert_int_equal(to->received, from->out.bytes);
	assert_int_equal(to->received_hash, script_hash(&from->out));
	assert_int_equal(to->trailers_count, from->out.with_trailers);
	assert_int_equal(to->headers_count, 1);
	assert_int_equal(to->ended_count, 1);
	assert_int_equal(to->closed_code, 0);
}

static void check_pair(struct pair *pair)
{
	for (size_t i = 0; i < pair->call_count; i++) {
		struct side *client = &pair->client.sides[i], *server = &pair->server.sides[i];

		assert_int_equal(client->closed_count, 1);
		assert_int_equal(server->closed_count, server->is_open);
		if (client->closed_code == 0 && server->is_open && server->closed_code == 0) {
			check_arrived(client, server);
			check_arrived(server, client);
		} else {
			assert_true(pair->resets > 0);
		}
	}
}

static void pair_run(unsigned seed, int resets, bool drive_to_end)
{
	static const uint32_t windows[] = {1, 7, 100, 5000, 65535, 1 << 20};
	struct pair *pair = calloc(1, sizeof(*pair));

	assert_non_null(pair);
	pair->seed = seed;
	pair->resets = resets;

	uint32_t window = windows[roll(pair, ARRAY_LEN(windows))];
	/* a window of 1 is a frame for each byte: small payloads there */
	uint32_t size_max = window < 100 ? 40 : 20000;

	for (size_t i = 0; i < ARRAY_LEN(pair->payloads); i++) {
		struct payload *payload = payload_create(roll(pair, size_max));

		for (uint32_t at = 0; at < payload->len; at++)
			payload->data[at] = (uint8_t)roll(pair, 256);
		pair->payloads[i] = payload;
	}
	end_init(pair, &pair->client, H2_CLIENT, window);
	end_init(pair, &pair->server, H2_SERVER, window);
	pair->call_count = 1 + roll(pair, CALLS_MAX);
	if (drive_to_end) {
		drive(pair);
		check_pair(pair);
	} else {
		size_t started = 0;

		for (unsigned step = roll(pair, 60); step > 0; step--) {
			if (started < pair->call_count)
				start_call(pair, started++);
			tend(pair, &pair->server);
			move_bytes(pair, &pair->client, &pair->server);
			move_bytes(pair, &pair->server, &pair->client);
		}
	}
	h2_session_destroy(pair->client.session);
	h2_session_destroy(pair->server.session);
	for (size_t i = 0; i < CALLS_MAX; i++) {
		assert_int_equal(pair->client.sides[i].closed_count, pair->client.sides[i].is_open);
		assert_int_equal(pair->server.sides[i].closed_count, pair->server.sides[i].is_open);
	}
	for (size_t i = 0; i < ARRAY_LEN(pair->payloads); i++) {
		assert_int_equal(atomic_load(&pair->payloads[i]->count), 1);
		payload_put(pair->payloads[i]);
	}
	buf_finish(&pair->client.wire);
	buf_finish(&pair->server.wire);
	free(pair);
}

static void calls_arrive_whole_whatever_the_splits_and_windows(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 400; seed++)
		pair_run(seed, 0, true);
}

static void resets_disturb_nobody_else(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 400; seed++)
		pair_run(seed, 10, true);
}

static void sessions_may_be_destroyed_at_any_time(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 400; seed++)
		pair_run(seed, 30, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_arrive_whole_whatever_the_splits_and_windows),
		cmocka_unit_test(resets_disturb_nobody_else),
		cmocka_unit_test(sessions_may_be_destroyed_at_any_time),
	};

	return cmocka_run_group_tests_name("h2", tests, NULL, NULL);
}
