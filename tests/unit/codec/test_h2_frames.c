/* What an h2 session says to frames written by hand: requests, faults, windows. */
#include "unit/codec/h2_harness.h"

static struct call *first_call(struct end *end)
{
	return &end->calls[0];
}

/* ---- greeting ---- */

static void server_greets_with_settings_and_window(void **state)
{
	struct h2_options options = end_options(H2_SERVER);

	(void)state;
	options.connection_window_bytes = 1 << 20;

	struct end *end = end_create_with(options);

	assert_true(h2_wants_produce(end->session));
	expect_frames(end, "SETTINGS 0\nWINDOW_UPDATE 0 983041\n");
	assert_false(h2_wants_produce(end->session));
	assert_false(h2_is_finished(end->session));
	end_destroy(end);
}

static void client_greets_with_preface(void **state)
{
	struct end *end = end_create(H2_CLIENT);

	(void)state;
	expect_frames(end, "preface\nSETTINGS 0\n");
	end_destroy(end);
}

static void wrong_preface_breaks_with_goaway(void **state)
{
	struct end *end = end_create(H2_SERVER);

	(void)state;
	assert_int_equal(h2_receive(end->session, SPAN("GET / HTTP/1.1\r\n\r\n")), -EPROTO);
	expect_frames(end, "SETTINGS 0\nGOAWAY 0 1 \n");
	assert_true(h2_is_finished(end->session));
	assert_int_equal(h2_receive(end->session, SPAN("x")), -EPIPE);
	end_destroy(end);
}

/* ---- requests ---- */

static void request_tells_pseudo_headers_too(void **state)
{
	struct end *end = server_create();

	(void)state;
	assert_int_equal(feed_request(end, 1, FRAME_END_STREAM), 0);
	expect_events(end,
		      "opened 1\nheader 1 :method=POST\nheader 1 :scheme=http\nheader 1 :path=/\n"
		      "header 1 :authority=a\nrequest 1 end\nended 1\n");
	assert_int_equal(h2_open_stream_count(end->session), 1);
	assert_int_equal(h2_respond(&first_call(end)->stream, ok_headers, 1, true), 0);
	expect_frames(end, "HEADERS 1 end\n");
	expect_events(end, "closed 1 0\n");
	assert_int_equal(h2_open_stream_count(end->session), 0);
	assert_int_equal(h2_respond(&first_call(end)->stream, ok_headers, 1, true), -EPIPE);
	end_destroy(end);
}

static void request_trailers_have_their_kind(void **state)
{
	struct end *end = server_create();
	static struct frame block;

	(void)state;
	end->quiet = true;
	assert_int_equal(feed_request(end, 1, 0), 0);
	assert_int_equal(feed_frame(end, 0, 0, 1, SPAN("abc")), 0);
	field_put(&block, SPAN("x"), SPAN("y"), false);
	assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, 1,
				    span_make(block.bytes, block.len)),
			 0);
	expect_events(end, "opened 1\nrequest 1\ndata 1 3\ntrailers 1 end\nended 1\n");
	end_destroy(end);
	(void)state;
}

/* The next block uses an entry that the block of the first request put into the table. */
static void compression_state_is_kept(struct end *end, struct span indexed_name)
{
	static struct frame block;

	block.len = 0;
	request_put(&block);
	frame_put(&block, SPAN("\xbe")); /* dynamic table, newest */
	buf_clear(&end->events, 0);
	end->refuse = false;
	assert_int_equal(
		feed_frame(end, 1, FRAME_END_HEADERS, 3, span_make(block.bytes, block.len)), 0);

	char text[200];

	snprintf(text, sizeof(text),
		 "opened 3\nheader 3 :method=POST\nheader 3 :scheme=http\nheader 3 :path=/\n"
		 "header 3 :authority=a\nheader 3 %.*s=v\nrequest 3\n",
		 SPAN_ARGS(indexed_name));
	expect_events(end, text);
}

static void refused_stream_is_reset_once(void **state)
{
	struct end *end = server_create();
	static struct frame block;

	(void)state;
	end->refuse = true;
	block.len = 0;
	request_put(&block);
	field_put(&block, SPAN("bad"), SPAN("v"), true);
	assert_int_equal(
		feed_frame(end, 1, FRAME_END_HEADERS, 1, span_make(block.bytes, block.len)), 0);
	assert_int_equal(feed_frame(end, 0, 0, 1, SPAN("abc")), 0);
	expect_events(end, "opened 1\n");
	assert_int_equal(end->odd[H2_ODD_REFUSED], 1);
	expect_frames(end, "RST 1 7\n");
	/* what was on its way when the reset went out */
	assert_int_equal(feed_frame(end, 0, FRAME_END_STREAM, 1, SPAN("abc")), 0);
	expect_frames(end, "");
	end->header_code = 0;
	compression_state_is_kept(end, SPAN("bad"));
	end_destroy(end);
}

static void header_list_over_limit_resets_only_the_stream(void **state)
{
	struct end *end = server_create();
	static struct frame block;
	char filler[100];

	(void)state;
	memset(filler, 'f', sizeof(filler));
	end->quiet = true;
	block.len = 0;
	request_put(&block);
	for (int i = 0; i < 8; i++)
		field_put(&block, SPAN("filler"), span_make(filler, sizeof(filler)), false);
	field_put(&block, SPAN("late"), SPAN("v"), true);
	assert_int_equal(
		feed_frame(end, 1, FRAME_END_HEADERS, 1, span_make(block.bytes, block.len)), 0);
	expect_events(end, "opened 1\n");
	expect_frames(end, "RST 1 11\n");
	expect_events(end, "closed 1 11\n");
	assert_int_equal(end->odd[H2_ODD_HEADER_LIST], 1);
	assert_int_equal(end->odd[H2_ODD_STREAM_ERROR], 0);
	end->quiet = false;
	compression_state_is_kept(end, SPAN("late"));
	end_destroy(end);
}

/* :method 7+4, :scheme 7+4, :path 5+1, :authority 10+1, 4 × 32 = 167; then one field that just
 * fits. */
static void header_list_of_just_the_limit_passes(void **state)
{
	for (size_t over = 0; over < 2; over++) {
		struct h2_options options = end_options(H2_SERVER);
		static struct frame block;
		char value[100];

		(void)state;
		memset(value, 'v', sizeof(value));
		options.max_header_list_bytes = 167 + 32 + 4 + 60;

		struct end *end = server_create_with(options);

		end->quiet = true;
		block.len = 0;
		request_put(&block);
		field_put(&block, SPAN("name"), span_make(value, 60 + over), false);
		assert_int_equal(
			feed_frame(end, 1, FRAME_END_HEADERS, 1, span_make(block.bytes, block.len)),
			0);
		expect_events(end, over ? "opened 1\n" : "opened 1\nrequest 1\n");
		expect_frames(end, over ? "RST 1 11\n" : "");
		end_destroy(end);
	}
}

static void owner_refuses_a_header_with_its_code(void **state)
{
	struct end *end = server_create();
	static struct frame block;

	(void)state;
	end->quiet = true;
	block.len = 0;
	request_put(&block);
	field_put(&block, SPAN("bad"), SPAN("v"), false);
	field_put(&block, SPAN("bad"), SPAN("v"), false);
	assert_int_equal(
		feed_frame(end, 1, FRAME_END_HEADERS, 1, span_make(block.bytes, block.len)), 0);
	expect_frames(end, "RST 1 8\n");
	expect_events(end, "opened 1\nclosed 1 8\n");
	end_destroy(end);
}

static const struct span malformed_blocks[] = {
	SPAN("\x83\x86"), /* no :path */
	SPAN("\x83\x86\x84\x01\x01"
	     "a"
	     "\x00\x01X\x01y"), /* upper case */
	SPAN("\x83\x86\x84\x01\x01"
	     "a"
	     "\x00\x01x\x01\n"), /* a control byte in a value */
	SPAN("\x83\x86\x84\x01\x01"
	     "a"
	     "\x00\x02( \x01y"), /* no token */
	SPAN("\x83\x86\x84\x01\x01"
	     "a"
	     "\x00\x01x\x02 y"), /* a leading blank */
	SPAN("\x83\x86\x84\x01\x01"
	     "a"
	     "\x00\x0a"
	     "connection\x01x"),
	SPAN("\x83\x86\x84\x01\x01"
	     "a"
	     "\x00\x01x\x01y\x83"), /* a pseudo-header behind a header */
};

static void malformed_request_resets_its_stream(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(malformed_blocks); row++) {
		struct end *end = server_create();

		end->quiet = true;
		assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, 1,
					    malformed_blocks[row]),
				 0);
		expect_frames(end, "RST 1 1\n");
		expect_events(end, "opened 1\nclosed 1 1\n");
		end->quiet = true;
		assert_int_equal(feed_request(end, 3, FRAME_END_STREAM), 0);
		expect_events(end, "opened 3\nrequest 3 end\nended 3\n");
		end_destroy(end);
	}
}

static void more_streams_than_offered_are_refused(void **state)
{
	struct end *end = server_create();

	(void)state;
	end->quiet = true;
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(feed_request(end, 2 * i + 1, 0), 0);
	assert_int_equal(h2_open_stream_count(end->session), 10);
	/* it has acknowledged the limit, so it knows better */
	assert_int_equal(feed_request(end, 21, 0), -EPROTO);
	end_destroy(end);

	end = end_create(H2_SERVER);
	end->quiet = true;
	assert_int_equal(h2_receive(end->session, SPAN(H2_PREFACE)), 0);
	assert_int_equal(feed_frame(end, 4, 0, 0, SPAN_EMPTY), 0);
	for (uint32_t i = 0; i < 11; i++)
		assert_int_equal(feed_request(end, 2 * i + 1, 0), 0);
	assert_int_equal(h2_open_stream_count(end->session), 10);
	assert_int_equal(end->odd[H2_ODD_REFUSED], 1); /* though nothing has left yet */
	expect_frames(end, "SETTINGS 0\nSETTINGS 0 ack\nRST 21 7\n");
	end_destroy(end);
}

static void trailers_have_a_header_limit_of_their_own(void **state)
{
	struct h2_options options = end_options(H2_SERVER);
	static struct frame block;

	(void)state;
	options.max_header_list_bytes = 300;

	struct end *end = server_create_with(options);
	char value[200];

	memset(value, 'v', sizeof(value));
	end->quiet = true;
	assert_int_equal(feed_request(end, 1, 0), 0);
	block.len = 0;
	field_put(&block, SPAN("x"), span_make(value, sizeof(value)), false);
	assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, 1,
				    span_make(block.bytes, block.len)),
			 0);
	expect_events(end, "opened 1\nrequest 1\ntrailers 1 end\nended 1\n");
	end_destroy(end);
}

/* ---- connection errors ---- */

static const struct {
	uint8_t type, flags;
	uint32_t id;
	struct span payload;
	const char *frames;
} broken_frames[] = {
	{0, 0, 0, SPAN("x"), "GOAWAY 0 1 DATA: stream_id == 0\n"},
	{4, 0, 0, SPAN("x"), NULL},
	{4, 0, 0, SPAN("\x00\x02\x00\x00\x00\x07"), NULL},
	{6, 0, 0, SPAN("short"), NULL},
	{8, 0, 0, SPAN("\x00\x00\x00\x00"), NULL},
	{8, 0, 0, SPAN("\x7f\xff\xff\xff"), NULL},
	{9, 0, 1, SPAN("x"), NULL},
	{3, 0, 1, SPAN("\x00\x00\x00\x00"), NULL}, /* idle stream */
	{1, 4, 2, SPAN("\x83"), NULL},		   /* even id */
	{1, 4, 1, SPAN("\xff\xff\xff\xff\xff\xff"), NULL},
	{5, 4, 1, SPAN("\x00\x00\x00\x02"), NULL}, /* PUSH_PROMISE from a client */
};

static void broken_frame_ends_the_connection_at_once(void **state)
{
	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(broken_frames); row++) {
		struct end *end = server_create();
		int code = feed_frame(end, broken_frames[row].type, broken_frames[row].flags,
				      broken_frames[row].id, broken_frames[row].payload);

		if (code != -EPROTO)
			fail_msg("row %zu: %d", row, code);
		assert_int_equal(end_produce(end), 0);
		/* a RST_STREAM may come first, the last frame says goodbye */
		assert_true(end->wire.len >= 17);
		assert_non_null(
			memmem(end->wire.data, end->wire.len, "\x07\x00\x00\x00\x00\x00", 6));
		assert_true(h2_is_finished(end->session));
		assert_false(h2_wants_produce(end->session));
		assert_int_equal(h2_receive(end->session, SPAN("x")), -EPIPE);
		end_destroy(end);
	}
}

static void frame_over_the_size_ends_the_connection(void **state)
{
	struct end *end = server_create();

	(void)state;
	assert_int_equal(h2_receive(end->session, SPAN("\x00\x40\x01\x00\x00\x00\x00\x00\x01")),
			 -EPROTO);
	assert_int_equal(end_produce(end), 0);
	assert_true(h2_is_finished(end->session));
	end_destroy(end);
}

static void ping_flood_ends_the_connection(void **state)
{
	struct end *end = server_create();
	int code = 0, count = 0;

	(void)state;
	while (code == 0 && count < 2000) {
		code = feed_frame(end, 6, 0, 0, SPAN("12345678"));
		count++;
	}
	assert_int_equal(code, -EPROTO);
	assert_true(count > 100 && count < 1000);
	assert_int_equal(end_produce(end), 0);
	assert_non_null(memmem(end->wire.data, end->wire.len, "\x00\x00\x00\x0b", 4));
	assert_true(h2_is_finished(end->session));
	end_destroy(end);
}

static void continuation_flood_ends_the_connection(void **state)
{
	struct end *end = server_create();
	int code = feed_frame(end, 1, 0, 1, SPAN("\x83"));
	int count = 0;

	(void)state;
	while (code == 0 && count < 100) {
		code = feed_frame(end, 9, 0, 1, SPAN("\x00\x01x\x01y"));
		count++;
	}
	assert_int_equal(code, -EPROTO);
	assert_true(count < 20);
	assert_int_equal(end_produce(end), 0);
	assert_non_null(memmem(end->wire.data, end->wire.len, "\x00\x00\x00\x0b", 4));
	end_destroy(end);
}

/* GATEWAY_HTTP_MAX_HEADER_BYTES goes up to 1 MiB. */
static void header_list_within_a_large_limit_comes_in_as_many_frames_as_it_takes(void **state)
{
	struct h2_options options = end_options(H2_SERVER);
	static struct frame block;
	char value[253];
	size_t list_bytes = 0, frames = 0;

	(void)state;
	options.max_header_list_bytes = 1u << 20;
	memset(value, 'y', sizeof(value));

	struct end *end = server_create_with(options);

	end->quiet = true;
	request_put(&block);
	assert_int_equal(feed_frame(end, 1, FRAME_END_STREAM, 1, span_make(block.bytes, block.len)),
			 0);
	while (list_bytes < options.max_header_list_bytes - 20000) {
		for (block.len = 0; block.len < 16000; list_bytes += 1 + sizeof(value) + 32)
			field_put(&block, SPAN("x"), span_make(value, sizeof(value)), false);
		assert_int_equal(feed_frame(end, 9, 0, 1, span_make(block.bytes, block.len)), 0);
		frames++;
	}
	assert_true(frames > 50);
	assert_int_equal(feed_frame(end, 9, FRAME_END_HEADERS, 1, SPAN_EMPTY), 0);
	expect_events(end, "opened 1\nrequest 1 end\nended 1\n");
	end_destroy(end);
}

static void ping_is_answered_and_told(void **state)
{
	struct end *end = server_create();

	(void)state;
	assert_int_equal(feed_frame(end, 6, 0, 0, SPAN("12345678")), 0);
	expect_frames(end, "PING 0 ack\n");
	assert_int_equal(h2_ping(end->session, (const uint8_t *)"abcdefgh"), 0);
	expect_frames(end, "PING 0\n");
	assert_int_equal(feed_frame(end, 6, 1, 0, SPAN("abcdefgh")), 0);
	expect_events(end, "pinged\nacked abcdefgh\n");
	end_destroy(end);
}

static void settings_are_told(struct h2_session *session)
{
	buf_printf(&end_of(session)->events, "settings\n");
}

static void owner_hears_of_settings_but_not_of_their_acknowledgement(void **state)
{
	struct h2_handler with_settings = end_handler;
	struct h2_options options = end_options(H2_CLIENT);
	struct end *end = end_create(H2_CLIENT);

	(void)state;
	with_settings.settings = settings_are_told;
	h2_session_destroy(end->session);
	assert_int_equal(h2_session_create(&end->session, &options, &with_settings, end), 0);
	assert_int_equal(feed_frame(end, 4, 0, 0, SPAN_EMPTY), 0);
	assert_int_equal(feed_frame(end, 4, 1, 0, SPAN_EMPTY), 0);
	expect_events(end, "settings\n");
	end_destroy(end);
}

/* ---- flow control in ---- */

static void windows_open_only_when_consumed(void **state)
{
	struct end *end = server_create();
	static uint8_t bytes[16000];

	(void)state;
	end->quiet = true;
	assert_int_equal(feed_request(end, 1, 0), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(feed_frame(end, 0, 0, 1, span_make(bytes, sizeof(bytes))), 0);
	expect_frames(end, "");
	h2_consume(&first_call(end)->stream, 10);
	expect_frames(end, "");
	h2_consume(&first_call(end)->stream, 63990);
	expect_frames(end, "WINDOW_UPDATE 0 64000\nWINDOW_UPDATE 1 64000\n");
	h2_consume(&first_call(end)->stream, 0);
	end_destroy(end);
}

static void unconsumed_bytes_return_to_the_connection_when_a_stream_ends(void **state)
{
	struct end *end = server_create();
	static uint8_t bytes[16000];

	(void)state;
	end->quiet = true;
	assert_int_equal(feed_request(end, 1, 0), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(feed_frame(end, 0, 0, 1, span_make(bytes, sizeof(bytes))), 0);
	h2_consume(&first_call(end)->stream, 100);
	assert_int_equal(feed_frame(end, 3, 0, 1, SPAN("\x00\x00\x00\x08")), 0);
	expect_frames(end, "WINDOW_UPDATE 0 48000\n");
	h2_consume(&first_call(end)->stream, 5); /* late: nothing to do */
	end_destroy(end);
}

static void consumed_bytes_are_not_returned_again_when_a_stream_ends(void **state)
{
	struct end *end = server_create();
	static uint8_t bytes[15000];

	(void)state;
	end->quiet = true;
	for (uint32_t id = 1; id <= 3; id += 2) {
		assert_int_equal(feed_request(end, id, 0), 0);
		for (int i = 0; i < 2; i++)
			assert_int_equal(feed_frame(end, 0, 0, id, span_make(bytes, sizeof(bytes))),
					 0);
	}
	h2_consume(&first_call(end)->stream, 30000);
	assert_int_equal(feed_frame(end, 3, 0, 1, SPAN("\x00\x00\x00\x08")), 0);
	/* 30,000 of 65,535 are free again: too few to tell */
	expect_frames(end, "");
	end_destroy(end);
}

static void data_of_a_refused_stream_is_consumed(void **state)
{
	struct end *end = server_create();
	static uint8_t bytes[16000];

	(void)state;
	end->refuse = true;
	assert_int_equal(feed_request(end, 1, 0), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(feed_frame(end, 0, 0, 1, span_make(bytes, sizeof(bytes))), 0);
	assert_int_equal(end_produce(end), 0);
	assert_non_null(
		memmem(end->wire.data, end->wire.len, "\x00\x00\x04\x08\x00\x00\x00\x00\x00", 9));
	end_destroy(end);
}

static void data_over_the_window_ends_the_connection_or_stream(void **state)
{
	struct end *end = server_create();
	static uint8_t bytes[16000];
	int code = 0;

	(void)state;
	assert_int_equal(feed_request(end, 1, 0), 0);
	for (int i = 0; i < 5 && code == 0; i++)
		code = feed_frame(end, 0, 0, 1, span_make(bytes, sizeof(bytes)));
	assert_int_equal(code, -EPROTO);
	end_destroy(end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_greets_with_settings_and_window),
		cmocka_unit_test(client_greets_with_preface),
		cmocka_unit_test(wrong_preface_breaks_with_goaway),
		cmocka_unit_test(request_tells_pseudo_headers_too),
		cmocka_unit_test(request_trailers_have_their_kind),
		cmocka_unit_test(refused_stream_is_reset_once),
		cmocka_unit_test(header_list_over_limit_resets_only_the_stream),
		cmocka_unit_test(header_list_of_just_the_limit_passes),
		cmocka_unit_test(owner_refuses_a_header_with_its_code),
		cmocka_unit_test(malformed_request_resets_its_stream),
		cmocka_unit_test(more_streams_than_offered_are_refused),
		cmocka_unit_test(trailers_have_a_header_limit_of_their_own),
		cmocka_unit_test(broken_frame_ends_the_connection_at_once),
		cmocka_unit_test(frame_over_the_size_ends_the_connection),
		cmocka_unit_test(ping_flood_ends_the_connection),
		cmocka_unit_test(continuation_flood_ends_the_connection),
		cmocka_unit_test(
			header_list_within_a_large_limit_comes_in_as_many_frames_as_it_takes),
		cmocka_unit_test(ping_is_answered_and_told),
		cmocka_unit_test(owner_hears_of_settings_but_not_of_their_acknowledgement),
		cmocka_unit_test(windows_open_only_when_consumed),
		cmocka_unit_test(unconsumed_bytes_return_to_the_connection_when_a_stream_ends),
		cmocka_unit_test(consumed_bytes_are_not_returned_again_when_a_stream_ends),
		cmocka_unit_test(data_of_a_refused_stream_is_consumed),
		cmocka_unit_test(data_over_the_window_ends_the_connection_or_stream),
	};

	return cmocka_run_group_tests_name("h2 frames", tests, NULL, NULL);
}
