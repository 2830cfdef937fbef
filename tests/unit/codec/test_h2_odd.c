#include "unit/codec/h2_harness.h"

static void odd_frames_are_told_before_they_are_worked_on(void **state)
{
	struct end *end = server_create();

	(void)state;
	end->odd_max = end->odd[H2_ODD_SETTINGS] + 2;
	assert_int_equal(feed_frame(end, 6, 0, 0, SPAN("12345678")), 0);
	assert_int_equal(feed_frame(end, 0xee, 0xff, 7, SPAN("whatever")), 0);
	assert_int_equal(end->odd[H2_ODD_PING], 1);
	assert_int_equal(end->odd[H2_ODD_UNKNOWN_FRAME], 1);
	expect_frames(end, "PING 0 ack\n");
	expect_events(end, "pinged\n");
	/* one too many for its owner: it is neither told nor answered */
	assert_int_equal(feed_frame(end, 6, 0, 0, SPAN("12345678")), -EPROTO);
	expect_frames(end, "GOAWAY 0 11 odd\n");
	expect_events(end, "");
	assert_true(h2_is_finished(end->session));
	assert_int_equal(feed_frame(end, 6, 0, 0, SPAN("12345678")), -EPIPE);
	end_destroy(end);
}

/* CVE-2025-8671: told when it happens, not when the reset leaves, and once. */
static void odd_window_is_a_fault_of_its_stream(void **state)
{
	struct end *end = server_create();
	struct call *call = &end->calls[0];

	(void)state;
	end->quiet = true;
	assert_int_equal(feed_request(end, 1, FRAME_END_STREAM), 0);
	assert_int_equal(feed_frame(end, 8, 0, 1, SPAN("\x7f\xff\xff\xff")), 0);
	assert_int_equal(end->odd[H2_ODD_STREAM_ERROR], 1);
	assert_int_equal(feed_frame(end, 8, 0, 1, SPAN("\x7f\xff\xff\xff")), 0);
	/* the answer comes too late, and is no reason to reset it once more */
	assert_int_equal(h2_respond(&call->stream, ok_headers, 1, true), 0);
	assert_int_equal(h2_open_stream_count(end->session), 1);
	expect_frames(end, "RST 1 3\n");
	assert_int_equal(h2_open_stream_count(end->session), 0);
	assert_int_equal(end->odd[H2_ODD_STREAM_ERROR], 1);
	assert_true(call->stream.is_faulted);
	assert_int_equal(call->closed_code, 3);
	end_destroy(end);
}

/* Its window and a larger initial one: nghttp2 tells nobody but by the reset. */
static void odd_initial_window_is_a_fault_of_each_stream(void **state)
{
	struct end *end = server_create();

	(void)state;
	end->quiet = true;
	for (uint32_t id = 1; id < 6; id += 2) {
		assert_int_equal(feed_request(end, id, FRAME_END_STREAM), 0);
		assert_int_equal(feed_frame(end, 8, 0, id, SPAN("\x7f\xfe\xff\xff")), 0);
	}
	assert_int_equal(end->odd[H2_ODD_STREAM_ERROR], 0);
	assert_int_equal(feed_frame(end, 4, 0, 0, SPAN("\0\4\x7f\xff\xff\xff")), 0);
	assert_int_equal(end_produce(end), 0);
	assert_int_equal(end->odd[H2_ODD_STREAM_ERROR], 3);
	assert_int_equal(h2_open_stream_count(end->session), 0);
	end_destroy(end);
}

/* Of 1,000 bytes: 4,000 are survived, as a fault of the stream. */
static void odd_header_list_without_measure_ends_the_connection(void **state)
{
	(void)state;
	for (int is_more = 0; is_more < 2; is_more++) {
		struct end *end = server_create();
		static struct frame block;

		end->quiet = true;
		block.len = 0;
		request_put(&block);	     /* 167 */
		for (int i = 0; i < 86; i++) /* of 44 */
			field_put(&block, SPAN("filler"), SPAN("filled"), false);
		if (is_more)
			field_put(&block, SPAN("x"), SPAN("y"), false);
		field_put(&block, SPAN("z"), SPAN("z"), false);
		assert_int_equal(
			feed_frame(end, 1, FRAME_END_HEADERS, 1, span_make(block.bytes, block.len)),
			is_more ? -EPROTO : 0);
		assert_int_equal(end->odd[H2_ODD_HEADER_LIST], 1);
		assert_int_equal(end_produce(end), 0);
		assert_int_equal(h2_is_finished(end->session), is_more);
		if (is_more)
			assert_non_null(
				memmem(end->wire.data, end->wire.len, "\x00\x00\x00\x0b", 4));
		end_destroy(end);
	}
}

static void odd_headers_of_streams_that_are_over_are_told(void **state)
{
	struct end *end = server_create();

	(void)state;
	end->quiet = true;
	assert_int_equal(feed_request(end, 3, 0), 0);
	/* trailers */
	assert_int_equal(
		feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, 3, SPAN("\0\1x\1y")), 0);
	assert_int_equal(end->odd[H2_ODD_LATE_HEADERS], 0);
	assert_int_equal(feed_frame(end, 3, 0, 3, SPAN("\0\0\0\x8")), 0);
	assert_int_equal(end_produce(end), 0);
	assert_int_equal(feed_request(end, 3, 0), 0);
	assert_int_equal(end->odd[H2_ODD_LATE_HEADERS], 1);
	/* one that was never there, as a later one was */
	assert_int_equal(feed_request(end, 1, 0), 0);
	assert_int_equal(end->odd[H2_ODD_LATE_HEADERS], 2);
	assert_int_equal(h2_open_stream_count(end->session), 0);
	end_destroy(end);
}

static void odd_windows_are_those_that_cut_to_a_few_bytes(void **state)
{
	static const struct {
		struct span update;
		unsigned count;
	} rows[] = {
		{SPAN("\0\0\0\1"), 1},
		{SPAN("\0\0\0\x3f"), 1},
		{SPAN("\0\0\0\x40"), 0},
		{SPAN("\0\0\x10\0"), 0}, /* the rest goes, and the end */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct end *end = server_create();
		struct call *call = &end->calls[0];
		struct payload *payload = payload_of(1000);

		end->quiet = true;
		assert_int_equal(feed_frame(end, 4, 0, 0, SPAN("\0\4\0\0\0\0")), 0);
		assert_int_equal(feed_request(end, 1, FRAME_END_STREAM), 0);
		assert_int_equal(h2_respond(&call->stream, ok_headers, 1, false), 0);
		assert_int_equal(h2_stream_push(&call->stream, slice_of(payload)), 0);
		assert_int_equal(end_produce(end), 0);
		assert_int_equal(end->odd[H2_ODD_SMALL_WINDOW], 0);
		assert_int_equal(feed_frame(end, 8, 0, 1, rows[i].update), 0);
		assert_int_equal(end_produce(end), 0);
		assert_int_equal(end->odd[H2_ODD_SMALL_WINDOW], rows[i].count);
		end_destroy(end);
		payload_expect_last(payload);
	}
}

static void odd_header_blocks_are_known_to_be_unfinished(void **state)
{
	struct end *end = server_create();

	(void)state;
	assert_int_equal(h2_header_progress(end->session), H2_HEADER_WHOLE);
	assert_int_equal(feed_frame(end, 1, FRAME_END_STREAM, 1, SPAN("\x83\x86\x84")), 0);
	assert_int_equal(h2_header_progress(end->session), H2_HEADER_BEGUN);
	assert_int_equal(feed_frame(end, 9, 0, 1, SPAN("\x01\x01")), 0);
	assert_int_equal(h2_header_progress(end->session), H2_HEADER_GOES_ON);
	assert_int_equal(feed_frame(end, 9, FRAME_END_HEADERS, 1, SPAN("a")), 0);
	assert_int_equal(h2_header_progress(end->session), H2_HEADER_WHOLE);
	assert_int_equal(h2_open_stream_count(end->session), 1);
	end_destroy(end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(odd_frames_are_told_before_they_are_worked_on),
		cmocka_unit_test(odd_window_is_a_fault_of_its_stream),
		cmocka_unit_test(odd_initial_window_is_a_fault_of_each_stream),
		cmocka_unit_test(odd_header_list_without_measure_ends_the_connection),
		cmocka_unit_test(odd_headers_of_streams_that_are_over_are_told),
		cmocka_unit_test(odd_windows_are_those_that_cut_to_a_few_bytes),
		cmocka_unit_test(odd_header_blocks_are_known_to_be_unfinished),
	};

	return cmocka_run_group_tests_name("h2_odd", tests, NULL, NULL);
}
