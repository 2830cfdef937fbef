/* HTTP/1.1 answers in parts: those that wait for room, and those that wait for their service. */
#include "codec/http1.h"
#include "unit/edge/rig.h"

#define PART_BYTES ((4u << 20) + 5)

static struct payload *part_of(size_t bytes)
{
	struct payload *part = payload_create(bytes);

	assert_non_null(part);
	for (size_t i = 0; i < bytes; i++)
		part->data[i] = (uint8_t)(i * 7 + i / 256);
	return part;
}

/* What is behind the head, without its chunks' frames. */
static struct span take_content(struct client *client, bool is_chunked)
{
	const uint8_t *end = memmem(client->in.data, client->in.len, "\r\n\r\n", 4);
	struct http1_body_reader reader;
	uint8_t *to = client->in.data;
	struct http1_head head = {.body = is_chunked ? HTTP1_BODY_CHUNKED : HTTP1_BODY_UNTIL_CLOSE};
	struct span left = span_from(buf_span(&client->in), (size_t)(end + 4 - client->in.data));

	http1_body_init(&reader, &head);
	while (left.len > 0 && !reader.finished) {
		struct span content;
		ptrdiff_t taken = http1_body_take(&reader, left, &content);

		assert_true(taken > 0);
		if (content.len > 0)
			memmove(to, content.data, content.len);
		to += content.len;
		left = span_from(left, (size_t)taken);
	}
	assert_true(!is_chunked || reader.finished);
	assert_int_equal(left.len, 0);
	return span_make(client->in.data, (size_t)(to - client->in.data));
}

/* A message of a service may be larger than the send queue; what follows it waits its turn. */
static void http1_streams_a_part_that_is_larger_than_the_queue(void **state)
{
	static const struct {
		const char *request;
		bool is_chunked;
	} rows[] = {
		{"GET /parts HTTP/1.1\r\nhost: x\r\n\r\n", true},
		{"GET /parts HTTP/1.0\r\n\r\n", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rig rig;
		struct client client;
		struct payload *part = part_of(PART_BYTES);

		rig_open(&rig, SERVER_HTTP1);
		client_open(&client, &rig);
		client_say(&client, rows[i].request);
		RIG_UNTIL(&rig, rig.held_count == 1);
		payload_get(part, 1);
		assert_false(http_give(rig.held[0], part));
		rig.pulls = 0;
		for (unsigned n = 0; n < RIG_TURNS_MAX && rig.pulls == 0; n++) {
			rig_turn(&rig);
			client_receive(&client);
		}
		assert_int_equal(rig.pulls, 1);
		payload_get(part, 1);
		assert_false(http_give(rig.held[0], part));
		assert_false(http_give(rig.held[0], part_of(3)));
		assert_int_equal(rig.held[0]->sent_bytes, 2 * PART_BYTES + 3);
		http_end(rig.held[0], true);
		if (rows[i].is_chunked) {
			client_expect(&client, "\r\n0\r\n\r\n");
			/* and the next request has its turn */
			assert_false(client.ended);
		} else {
			client_expect_end(&client);
		}

		struct span content = take_content(&client, rows[i].is_chunked);

		assert_int_equal(content.len, 2 * PART_BYTES + 3);
		assert_memory_equal(content.data, part->data, PART_BYTES);
		assert_memory_equal(content.data + PART_BYTES, part->data, PART_BYTES);
		assert_memory_equal(content.data + 2 * PART_BYTES, part->data, 3);
		if (rows[i].is_chunked) {
			client_forget(&client);
			client_say(&client, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
			client_expect(&client, "{\"status\":\"ok\"}");
		}
		payload_put(part);
		client_close(&client);
		rig_close(&rig);
	}
}

/* What was taken is no stall, however long the service takes for more. */
static void http1_stream_waits_for_its_service(void **state)
{
	struct rig rig;
	struct client client;

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open(&client, &rig);
	client_say(&client, "GET /parts HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.held_count == 1);
	assert_true(http_give(rig.held[0], part_of((64u << 10) + 1)));
	for (unsigned n = 0; n < RIG_TURNS_MAX && client.in.len < 65u << 10; n++) {
		rig_turn(&rig);
		client_receive(&client);
	}
	rig_advance(&rig, 3600000);
	assert_int_equal(rig.cancelled, 0);
	http_end(rig.held[0], true);
	client_expect(&client, "\r\n0\r\n\r\n");
	assert_int_equal(take_content(&client, true).len, (64u << 10) + 1);
	client_close(&client);
	rig_close(&rig);
}

static void http1_gives_back_parts_that_were_not_read(void **state)
{
	struct rig rig;
	struct client client;
	struct payload *part = part_of(PART_BYTES);

	(void)state;
	rig_open(&rig, SERVER_HTTP1);
	client_open(&client, &rig);
	client_say(&client, "GET /parts HTTP/1.1\r\nhost: x\r\n\r\n");
	RIG_UNTIL(&rig, rig.held_count == 1);
	payload_get(part, 2);
	assert_false(http_give(rig.held[0], part));
	assert_false(http_give(rig.held[0], part));
	rig_turns(&rig, 20);
	/* not read at all: as an answer that is whole */
	rig_advance(&rig, 75100);
	RIG_UNTIL(&rig, server_connection_count(rig.server) == 0);
	assert_int_equal(rig.cancelled, 1);
	assert_int_equal(atomic_load(&part->count), 1);
	payload_put(part);
	client_close(&client);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http1_streams_a_part_that_is_larger_than_the_queue),
		cmocka_unit_test(http1_stream_waits_for_its_service),
		cmocka_unit_test(http1_gives_back_parts_that_were_not_read),
	};

	return cmocka_run_group_tests_name("http1_parts", tests, NULL, NULL);
}
