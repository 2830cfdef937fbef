/* The frames that an h2 stream becomes: data, trailers, resets, goodbyes; a client's streams. */
#include "unit/codec/h2_harness.h"

static struct call *first_call(struct end *end)
{
	return &end->calls[0];
}

/* ---- data out ---- */

static struct end *server_with_request(uint8_t flags)
{
	struct end *end = server_create();

	end->quiet = true;
	assert_int_equal(feed_request(end, 1, flags), 0);
	buf_clear(&end->events, 0);
	return end;
}

static void one_frame_spans_slices_and_a_part(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_stream *stream = &first_call(end)->stream;
	struct payload *payload = payload_of(10000);

	(void)state;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	assert_int_equal(h2_stream_push(stream, (struct payload_slice){payload, 5, 0}), 0);
	assert_int_equal(atomic_load(&payload->count), 4);
	assert_int_equal(stream->queue_bytes, 30000);
	expect_frames(end, "HEADERS 1\nDATA 1 16384\nDATA 1 13616\n");
	expect_pieces(end, "b10 b9 s10000 s6384 b9 s3616 s10000 ");
	assert_int_equal(atomic_load(&payload->count), 1);
	assert_true(stream->deferred);
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	assert_int_equal(h2_stream_finish(stream, NULL, 0), 0);
	assert_int_equal(h2_stream_finish(stream, NULL, 0), -EPIPE);
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), -EPIPE);
	expect_frames(end, "DATA 1 10000 end\n");
	expect_events(end, "closed 1 0\n");
	payload_expect_last(payload);
	end_destroy(end);
}

static void trailers_follow_the_queue(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_stream *stream = &first_call(end)->stream;
	struct payload *payload = payload_of(20000);

	(void)state;
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	expect_frames(end, "HEADERS 1\nDATA 1 16384\nDATA 1 3616\nHEADERS 1 end\n");
	expect_events(end, "closed 1 0\n");
	payload_expect_last(payload);
	end_destroy(end);
}

static void trailers_without_data_need_no_data_frame(void **state)
{
	for (int order = 0; order < 3; order++) {
		struct end *end = server_with_request(FRAME_END_STREAM);
		struct h2_stream *stream = &first_call(end)->stream;

		(void)state;
		if (order == 0)
			assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
		assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
		if (order == 2)
			expect_frames(end, "HEADERS 1\n");
		if (order > 0)
			assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
		expect_frames(end, order == 2 ? "HEADERS 1 end\n" : "HEADERS 1\nHEADERS 1 end\n");
		expect_events(end, "closed 1 0\n");
		end_destroy(end);
	}
}

static int pulls;
static struct payload *pulled;

static void pull_three_then_finish(struct call *call)
{
	pulls++;
	if (pulls <= 3)
		assert_int_equal(h2_stream_push(&call->stream, slice_of(pulled)), 0);
	else
		assert_int_equal(h2_stream_finish(&call->stream, status_trailers, 1), 0);
}

static void pull_is_asked_when_the_queue_is_empty(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);

	(void)state;
	pulls = 0;
	pulled = payload_of(100);
	end->on_pull = pull_three_then_finish;
	assert_int_equal(h2_respond(&first_call(end)->stream, ok_headers, 1, false), 0);
	expect_frames(end, "HEADERS 1\nDATA 1 100\nDATA 1 100\nDATA 1 100\nHEADERS 1 end\n");
	assert_int_equal(pulls, 4);
	payload_expect_last(pulled);
	end_destroy(end);
}

static void count_pull(struct call *call)
{
	(void)call;
	pulls++;
}

static void deferred_stream_is_pulled_again_only_when_resumed(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);

	(void)state;
	pulls = 0;
	end->on_pull = count_pull;
	assert_int_equal(h2_respond(&first_call(end)->stream, ok_headers, 1, false), 0);
	expect_frames(end, "HEADERS 1\n");
	assert_int_equal(pulls, 1);
	assert_false(h2_wants_produce(end->session));
	expect_frames(end, "");
	assert_int_equal(pulls, 1);
	h2_stream_resume(&first_call(end)->stream);
	assert_true(h2_wants_produce(end->session));
	expect_frames(end, "");
	assert_int_equal(pulls, 2);
	end_destroy(end);
}

static void pull_one(struct call *call)
{
	pulls++;
	assert_int_equal(h2_stream_push(&call->stream, slice_of(pulled)), 0);
}

static void pulled_dry_stream_is_not_asked_before_something_comes(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_stream *stream = &first_call(end)->stream;

	(void)state;
	pulls = 0;
	pulled = payload_of(100);
	end->on_pull = pull_one;
	end->pulls_all = true;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	expect_frames(end, "HEADERS 1\nDATA 1 100\n");
	assert_int_equal(pulls, 1);
	h2_stream_resume(stream);
	expect_frames(end, "DATA 1 100\n");
	assert_int_equal(pulls, 2);
	/* what was pushed from outside says nothing of what there is to pull */
	end->on_pull = count_pull;
	assert_int_equal(h2_stream_push(stream, slice_of(pulled)), 0);
	expect_frames(end, "DATA 1 100\n");
	assert_int_equal(pulls, 3);
	assert_int_equal(h2_stream_push(stream, slice_of(pulled)), 0);
	assert_int_equal(h2_stream_finish(stream, NULL, 0), 0);
	expect_frames(end, "DATA 1 100 end\n");
	payload_expect_last(pulled);
	end_destroy(end);
}

static void pulled_dry_stream_holds_back_no_other_frame(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_stream *stream = &first_call(end)->stream;

	(void)state;
	pulled = payload_of(100);
	end->on_pull = pull_one;
	end->pulls_all = true;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	expect_frames(end, "HEADERS 1\nDATA 1 100\n");
	assert_int_equal(feed_request(end, 3, FRAME_END_STREAM), 0);
	h2_stream_resume(stream);
	assert_int_equal(h2_respond(&end->calls[1].stream, ok_headers, 1, false), 0);
	assert_int_equal(h2_ping(end->session, (const uint8_t *)"12345678"), 0);
	expect_frames(end, "PING 0\nHEADERS 3\nDATA 1 100\nDATA 3 100\n");
	h2_stream_resume(&end->calls[1].stream);
	h2_stream_reset(stream, H2_CANCEL);
	expect_frames(end, "RST 1 8\nDATA 3 100\n");
	payload_expect_last(pulled);
	end_destroy(end);
}

/* Frame by frame: one that always has something to send does not hold up the others. */
static void streams_of_one_connection_take_turns(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct payload *large = payload_of(20000);

	(void)state;
	assert_int_equal(feed_request(end, 3, FRAME_END_STREAM), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(h2_respond(&end->calls[i].stream, ok_headers, 1, false), 0);
		assert_int_equal(h2_stream_push(&end->calls[i].stream, slice_of(large)), 0);
	}
	expect_frames(end, "HEADERS 1\nHEADERS 3\nDATA 1 16384\nDATA 3 16384\n"
			   "DATA 1 3616\nDATA 3 3616\n");
	end_destroy(end);
	payload_expect_last(large);
}

static const struct h2_header fixed_status = {{(const uint8_t *)"grpc-status", 11},
					      {(const uint8_t *)"0", 1}};

static void fixed_headers_go_out_as_copied_ones_do(void **state)
{
	for (int is_queued = 0; is_queued < 2; is_queued++) {
		struct end *end = server_with_request(FRAME_END_STREAM);
		struct h2_stream *stream = &first_call(end)->stream;
		struct payload *body = payload_of(10);

		(void)state;
		assert_int_equal(h2_respond_fixed(stream, ok_headers, 1), 0);
		if (is_queued)
			assert_int_equal(h2_stream_push(stream, slice_of(body)), 0);
		assert_int_equal(h2_stream_finish_fixed(stream, &fixed_status, 1), 0);
		assert_int_equal(h2_stream_finish_fixed(stream, &fixed_status, 1), -EPIPE);
		expect_frames(end, is_queued ? "HEADERS 1\nDATA 1 10\nHEADERS 1 end\n"
					     : "HEADERS 1\nHEADERS 1 end\n");
		end_destroy(end);
		payload_expect_last(body);
	}
}

static void finish_and_reset_in_pull(struct call *call)
{
	assert_int_equal(h2_stream_finish(&call->stream, NULL, 0), 0);
	h2_stream_reset(&call->stream, H2_INTERNAL_ERROR);
}

static void reset_in_pull(struct call *call)
{
	h2_stream_reset(&call->stream, H2_INTERNAL_ERROR);
}

static void pull_may_reset(void **state)
{
	for (int finish = 0; finish < 2; finish++) {
		struct end *end = server_with_request(FRAME_END_STREAM);

		(void)state;
		end->on_pull = finish ? finish_and_reset_in_pull : reset_in_pull;
		assert_int_equal(h2_respond(&first_call(end)->stream, ok_headers, 1, false), 0);
		expect_frames(end, "HEADERS 1\nRST 1 2\n");
		expect_events(end, "closed 1 2\n");
		end_destroy(end);
	}
}

static void room_is_asked_before_each_frame(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_stream *stream = &first_call(end)->stream;
	struct payload *payload = payload_of(40000);

	(void)state;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	end->room = 0;
	expect_frames(end, "");
	end->room = 1;
	expect_frames(end, "HEADERS 1\n");
	end->room = 1;
	expect_frames(end, "DATA 1 16384\n");
	assert_true(h2_wants_produce(end->session));
	end->room = 2;
	expect_frames(end, "DATA 1 16384\nDATA 1 7232\n");
	end->room = -1;
	expect_frames(end, "");
	payload_expect_last(payload);
	end_destroy(end);
}

static void failing_sink_breaks_the_session(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_stream *stream = &first_call(end)->stream;
	struct payload *payload = payload_of(100);

	(void)state;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	end->room = 1;
	expect_frames(end, "HEADERS 1\n");
	end->room = -1;
	end->sink_code = -ENOBUFS;
	assert_int_equal(end_produce(end), -ENOBUFS);
	assert_int_equal(end_produce(end), -ENOBUFS);
	assert_false(h2_wants_produce(end->session));
	assert_int_equal(h2_receive(end->session, SPAN("x")), -EPIPE);
	end_destroy(end);
	payload_expect_last(payload);
}

static void queue_grows_to_its_bound(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_stream *stream = &first_call(end)->stream;
	struct payload *payload = payload_of(2);

	(void)state;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	for (int i = 0; i < H2_QUEUE_SLICES_MAX; i++)
		assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), -ENOBUFS);
	expect_frames(end, "HEADERS 1\nDATA 1 2048\n");
	assert_int_equal(stream->queue_cap, 0);
	/* a ring that has gone round when it grows */
	for (int i = 0; i < 3; i++)
		assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	expect_frames(end, "DATA 1 6\n");
	for (int i = 0; i < 9; i++)
		assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	expect_frames(end, "DATA 1 18\n");
	payload_expect_last(payload);
	end_destroy(end);
}

/* A peer with a window of 100 has had a part of the first message. */
static struct end *server_with_part_sent(struct payload *payload)
{
	struct end *end = server_create();
	struct h2_stream *stream = &first_call(end)->stream;

	end->quiet = true;
	assert_int_equal(feed_frame(end, 4, 0, 0, SPAN("\x00\x04\x00\x00\x00\x64")), 0);
	assert_int_equal(feed_request(end, 1, FRAME_END_STREAM), 0);
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	expect_frames(end, "SETTINGS 0 ack\nHEADERS 1\nDATA 1 100\n");
	return end;
}

static void dropping_keeps_the_message_partly_sent(void **state)
{
	struct payload *payload = payload_of(150);
	struct end *end = server_with_part_sent(payload);
	struct h2_stream *stream = &first_call(end)->stream;

	(void)state;
	assert_int_equal(h2_stream_partial_bytes(stream), 50);
	assert_int_equal(h2_stream_drop_queue(stream, h2_stream_partial_bytes(stream)), 7 * 150);
	assert_int_equal(atomic_load(&payload->count), 2);
	assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
	expect_frames(end, "");
	assert_int_equal(feed_frame(end, 8, 0, 1, SPAN("\x00\x00\x10\x00")), 0);
	expect_frames(end, "DATA 1 50\nHEADERS 1 end\n");
	payload_expect_last(payload);
	end_destroy(end);
}

static void dropping_may_cut_a_slice(void **state)
{
	struct payload *payload = payload_of(150);
	struct end *end = server_with_part_sent(payload);
	struct h2_stream *stream = &first_call(end)->stream;

	(void)state;
	assert_int_equal(h2_stream_drop_queue(stream, 60), 7 * 150 - 10);
	assert_int_equal(stream->queue_count, 2);
	assert_int_equal(h2_stream_drop_queue(stream, 1000), 0);
	assert_int_equal(feed_frame(end, 8, 0, 1, SPAN("\x00\x00\x10\x00")), 0);
	expect_frames(end, "DATA 1 60\n");
	assert_int_equal(h2_stream_drop_queue(stream, 0), 0);
	payload_expect_last(payload);
	end_destroy(end);
}

static void trailers_pass_a_closed_window(void **state)
{
	for (int order = 0; order < 2; order++) {
		struct payload *payload = payload_of(100);
		struct end *end = server_with_part_sent(payload);
		struct h2_stream *stream = &first_call(end)->stream;

		(void)state;
		assert_int_equal(h2_stream_partial_bytes(stream), 0);
		if (order == 0)
			assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
		assert_int_equal(h2_stream_drop_queue(stream, 0), 7 * 100);
		if (order == 1)
			assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
		expect_frames(end, "HEADERS 1 end\n");
		payload_expect_last(payload);
		end_destroy(end);
	}
}

static void trailers_pass_a_closed_window_while_the_request_goes_on(void **state)
{
	struct end *end = server_with_request(0);
	struct h2_stream *stream = &first_call(end)->stream;

	(void)state;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	expect_frames(end, "HEADERS 1\n");
	assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
	expect_frames(end, "HEADERS 1 end\n");
	assert_int_equal(feed_frame(end, 8, 0, 1, SPAN("\x00\x00\x10\x00")), 0);
	h2_stream_resume(stream);
	expect_frames(end, "");
	expect_events(end, "");
	assert_int_equal(feed_frame(end, 0, FRAME_END_STREAM, 1, SPAN("x")), 0);
	expect_events(end, "data 1 1\nended 1\nclosed 1 0\n");
	end_destroy(end);
}

static void too_large_response_headers_reset(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	static char value[70000];
	struct h2_header headers[] = {ok_headers[0], {SPAN("x"), span_make(value, sizeof(value))}};

	(void)state;
	memset(value, 'v', sizeof(value));
	assert_int_equal(h2_respond(&first_call(end)->stream, headers, 2, true), 0);
	expect_frames(end, "RST 1 2\n");
	expect_events(end, "closed 1 2\n");
	end_destroy(end);
}

static void many_response_headers_are_sent(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct h2_header headers[100];

	(void)state;
	headers[0] = ok_headers[0];
	for (size_t i = 1; i < 100; i++)
		headers[i] = (struct h2_header){SPAN("x"), SPAN_EMPTY};
	assert_int_equal(h2_respond(&first_call(end)->stream, headers, 100, true), 0);
	expect_frames(end, "HEADERS 1 end\n");
	end_destroy(end);
}

/* ---- ends of streams ---- */

static void reset_without_error_waits_for_the_response(void **state)
{
	for (int remote_ended = 0; remote_ended < 2; remote_ended++) {
		struct end *end = server_with_request(remote_ended ? FRAME_END_STREAM : 0);
		struct h2_stream *stream = &first_call(end)->stream;
		struct payload *payload = payload_of(20000);

		(void)state;
		assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
		assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
		assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
		h2_stream_reset(stream, H2_NO_ERROR);
		expect_frames(
			end,
			remote_ended
				? "HEADERS 1\nDATA 1 16384\nDATA 1 3616\nHEADERS 1 end\n"
				: "HEADERS 1\nDATA 1 16384\nDATA 1 3616\nHEADERS 1 end\nRST 1 0\n");
		expect_events(end, "closed 1 0\n");
		payload_expect_last(payload);
		end_destroy(end);
	}
}

static void reset_gives_the_queue_back_at_once(void **state)
{
	struct end *end = server_with_request(0);
	struct h2_stream *stream = &first_call(end)->stream;
	struct payload *payload = payload_of(100);

	(void)state;
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
	h2_stream_reset(stream, H2_CANCEL);
	h2_stream_reset(stream, H2_INTERNAL_ERROR);
	assert_int_equal(atomic_load(&payload->count), 1);
	assert_int_equal(h2_stream_push(stream, slice_of(payload)), -EPIPE);
	assert_int_equal(h2_stream_finish(stream, NULL, 0), -EPIPE);
	assert_int_equal(feed_frame(end, 0, FRAME_END_STREAM, 1, SPAN("abc")), 0);
	expect_events(end, "");
	expect_frames(end, "RST 1 8\n");
	expect_events(end, "closed 1 8\n");
	payload_expect_last(payload);
	end_destroy(end);
}

static void peers_reset_is_told_with_its_code(void **state)
{
	struct end *end = server_with_request(0);

	(void)state;
	assert_int_equal(feed_frame(end, 3, 0, 1, SPAN("\x00\x00\x00\x08")), 0);
	expect_events(end, "closed 1 8\n");
	end_destroy(end);

	/* "no error" before our answer is still no answer */
	end = server_with_request(FRAME_END_STREAM);
	assert_int_equal(feed_frame(end, 3, 0, 1, SPAN("\x00\x00\x00\x00")), 0);
	expect_events(end, "closed 1 8\n");
	end_destroy(end);
}

static void destroy_closes_open_streams(void **state)
{
	struct end *end = server_with_request(0);
	struct h2_stream *stream = &first_call(end)->stream;
	struct payload *payload = payload_of(100);

	(void)state;
	assert_int_equal(feed_request(end, 3, 0), 0);
	assert_int_equal(feed_frame(end, 0, 0, 3, SPAN("abc")), 0);
	buf_clear(&end->events, 0);
	assert_int_equal(h2_respond(stream, ok_headers, 1, false), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(h2_stream_push(stream, slice_of(payload)), 0);
	assert_int_equal(h2_stream_finish(stream, status_trailers, 1), 0);
	h2_session_destroy(end->session);
	end->session = NULL;
	expect_events(end, "closed 1 8\nclosed 3 8\n");
	payload_expect_last(payload);
	h2_consume(stream, 3);
	h2_stream_resume(stream);
	h2_stream_reset(stream, H2_CANCEL);
	end_destroy(end);
}

/* ---- goodbye ---- */

static void graceful_end_takes_two_goaways(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);

	(void)state;
	h2_shutdown_notice(end->session);
	expect_frames(end, "GOAWAY 2147483647 0 \n");
	/* what was on its way is still taken */
	assert_int_equal(feed_request(end, 3, FRAME_END_STREAM), 0);
	h2_goaway(end->session, H2_NO_ERROR, SPAN_EMPTY);
	expect_frames(end, "GOAWAY 3 0 \n");
	assert_int_equal(feed_request(end, 5, FRAME_END_STREAM), 0);
	assert_false(h2_is_finished(end->session));
	assert_int_equal(h2_open_stream_count(end->session), 2);
	assert_int_equal(h2_respond(&end->calls[0].stream, ok_headers, 1, true), 0);
	assert_int_equal(h2_respond(&end->calls[1].stream, ok_headers, 1, true), 0);
	assert_false(h2_is_finished(end->session));
	expect_frames(end, "HEADERS 1 end\nHEADERS 3 end\n");
	assert_true(h2_is_finished(end->session));
	end_destroy(end);
}

/* Its client will hear that it was not served, and ask again elsewhere: so it must not be. */
static void stream_that_overtakes_the_last_goaway_is_not_opened(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);

	(void)state;
	buf_clear(&end->events, 0);
	h2_goaway(end->session, H2_NO_ERROR, SPAN_EMPTY);
	assert_int_equal(feed_request(end, 3, FRAME_END_STREAM), 0);
	expect_events(end, "");
	assert_int_equal(h2_open_stream_count(end->session), 1);
	expect_frames(end, "GOAWAY 1 0 \nRST 3 7\n");
	/* what it did was no fault */
	assert_int_equal(end->odd[H2_ODD_REFUSED] + end->odd[H2_ODD_STREAM_ERROR], 0);
	assert_int_equal(h2_respond(&first_call(end)->stream, ok_headers, 1, true), 0);
	expect_frames(end, "HEADERS 1 end\n");
	assert_true(h2_is_finished(end->session));
	end_destroy(end);
}

static void goaway_with_error_is_the_last_frame(void **state)
{
	struct end *end = server_with_request(FRAME_END_STREAM);
	struct payload *payload = payload_of(100);

	(void)state;
	assert_int_equal(h2_respond(&first_call(end)->stream, ok_headers, 1, false), 0);
	assert_int_equal(h2_stream_push(&first_call(end)->stream, slice_of(payload)), 0);
	h2_goaway(end->session, H2_ENHANCE_YOUR_CALM, SPAN("too_many_pings"));
	assert_false(h2_is_finished(end->session));
	assert_int_equal(feed_request(end, 3, 0), -EPIPE);
	expect_frames(end, "HEADERS 1\nGOAWAY 1 11 too_many_pings\n");
	assert_true(h2_is_finished(end->session));
	assert_false(h2_wants_produce(end->session));
	end_destroy(end);
	payload_expect_last(payload);
}

/* ---- client ---- */

static void client_tells_the_kinds_of_header_blocks(void **state)
{
	struct end *end = client_create();
	struct call *call = call_new(end);

	(void)state;
	end->quiet = true;
	assert_int_equal(h2_request(end->session, &call->stream, request_headers, 4, true), 0);
	expect_frames(end, "HEADERS 1 end\n");
	assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS, 1,
				    SPAN("\x08\x03"
					 "103")),
			 0);
	assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS, 1, SPAN("\x88")), 0);
	assert_int_equal(feed_frame(end, 0, 0, 1, SPAN("ab")), 0);
	assert_int_equal(
		feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, 1, SPAN("\x00\x01x\x01y")),
		0);
	expect_events(
		end,
		"informational 1\nresponse 1\ndata 1 2\ntrailers 1 end\nended 1\nclosed 1 0\n");
	end_destroy(end);
}

static void client_takes_trailers_only(void **state)
{
	struct end *end = client_create();
	struct call *call = call_new(end);

	(void)state;
	end->quiet = true;
	assert_int_equal(h2_request(end->session, &call->stream, request_headers, 4, false), 0);
	expect_frames(end, "HEADERS 1\n");
	assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, 1, SPAN("\x88")),
			 0);
	expect_events(end, "response 1 end\nended 1\n");
	/* the server does not want the rest: RFC 9113 §8.1 */
	assert_int_equal(feed_frame(end, 3, 0, 1, SPAN("\x00\x00\x00\x00")), 0);
	expect_events(end, "closed 1 0\n");
	end_destroy(end);
}

static void client_sends_trailers(void **state)
{
	for (int with_data = 0; with_data < 2; with_data++) {
		struct end *end = client_create();
		struct call *call = call_new(end);
		struct payload *payload = payload_of(100);

		(void)state;
		assert_int_equal(h2_request(end->session, &call->stream, request_headers, 4, false),
				 0);
		if (with_data)
			assert_int_equal(h2_stream_push(&call->stream, slice_of(payload)), 0);
		assert_int_equal(h2_stream_finish(&call->stream, status_trailers, 1), 0);
		expect_frames(end, with_data ? "HEADERS 1\nDATA 1 100\nHEADERS 1 end\n"
					     : "HEADERS 1\nHEADERS 1 end\n");
		payload_expect_last(payload);
		end_destroy(end);
	}
}

static void client_keeps_the_peers_stream_limit(void **state)
{
	struct end *end = client_create();

	(void)state;
	assert_int_equal(feed_frame(end, 4, 0, 0, SPAN("\x00\x03\x00\x00\x00\x02")), 0);
	assert_int_equal(h2_request_room(end->session), 2);
	assert_int_equal(h2_request(end->session, &call_new(end)->stream, request_headers, 4, true),
			 0);
	assert_int_equal(h2_request(end->session, &call_new(end)->stream, request_headers, 4, true),
			 0);
	assert_int_equal(h2_request_room(end->session), 0);

	struct call *third = call_new(end);

	assert_int_equal(h2_request(end->session, &third->stream, request_headers, 4, true),
			 -EAGAIN);
	assert_null(third->stream.session);
	expect_frames(end, "SETTINGS 0 ack\nHEADERS 1 end\nHEADERS 3 end\n");
	assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, 1, SPAN("\x88")),
			 0);
	assert_int_equal(h2_request_room(end->session), 1);
	end_destroy(end);
}

static void clients_streams_above_goaway_are_refused(void **state)
{
	struct end *end = client_create();

	(void)state;
	end->quiet = true;
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			h2_request(end->session, &call_new(end)->stream, request_headers, 4, true),
			0);
	expect_frames(end, "HEADERS 1 end\nHEADERS 3 end\nHEADERS 5 end\n");
	/* one that is not out yet */
	assert_int_equal(h2_request(end->session, &call_new(end)->stream, request_headers, 4, true),
			 0);
	assert_int_equal(feed_frame(end, 7, 0, 0, SPAN("\x00\x00\x00\x03\x00\x00\x00\x00")), 0);
	expect_frames(end, "");
	expect_events(end, "goaway 3 0\nclosed 5 7\nclosed 7 7\n");
	assert_int_equal(h2_request_room(end->session), 0);
	assert_int_equal(h2_request(end->session, &call_new(end)->stream, request_headers, 4, true),
			 -EAGAIN);
	assert_false(h2_is_finished(end->session));
	for (uint32_t id = 1; id <= 3; id += 2)
		assert_int_equal(
			feed_frame(end, 1, FRAME_END_HEADERS | FRAME_END_STREAM, id, SPAN("\x88")),
			0);
	assert_true(h2_is_finished(end->session));
	end_destroy(end);
}

static void request_reset_before_it_is_out_is_never_seen(void **state)
{
	struct end *end = client_create();
	struct call *call = call_new(end);
	struct payload *payload = payload_of(100);

	(void)state;
	assert_int_equal(h2_request(end->session, &call->stream, request_headers, 4, false), 0);
	assert_int_equal(h2_stream_push(&call->stream, slice_of(payload)), 0);
	h2_stream_reset(&call->stream, H2_CANCEL);
	expect_frames(end, "");
	expect_events(end, "closed 1 8\n");
	assert_int_equal(h2_open_stream_count(end->session), 0);
	payload_expect_last(payload);
	end_destroy(end);
}

static void clients_connection_error_is_told_at_once(void **state)
{
	struct end *end = client_create();

	(void)state;
	assert_int_equal(feed_frame(end, 6, 0, 0, SPAN("short")), -EPROTO);
	assert_int_equal(h2_request_room(end->session), 0);
	assert_int_equal(end_produce(end), 0);
	assert_true(h2_is_finished(end->session));
	end_destroy(end);
}

static void pushed_stream_is_a_connection_error(void **state)
{
	struct end *end = client_create();

	(void)state;
	assert_int_equal(h2_request(end->session, &call_new(end)->stream, request_headers, 4, true),
			 0);
	expect_frames(end, "HEADERS 1 end\n");
	assert_int_equal(feed_frame(end, 5, FRAME_END_HEADERS, 1,
				    SPAN("\x00\x00\x00\x02\x82\x86\x84\x01\x01"
					 "a")),
			 -EPROTO);
	end_destroy(end);
}

static void content_length_must_match(void **state)
{
	struct end *end = client_create();

	(void)state;
	end->quiet = true;
	assert_int_equal(h2_request(end->session, &call_new(end)->stream, request_headers, 4, true),
			 0);
	expect_frames(end, "HEADERS 1 end\n");
	assert_int_equal(feed_frame(end, 1, FRAME_END_HEADERS, 1,
				    SPAN("\x88\x0f\x0d\x01"
					 "5")),
			 0);
	assert_int_equal(feed_frame(end, 0, FRAME_END_STREAM, 1, SPAN("abc")), 0);
	expect_frames(end, "RST 1 1\n");
	end_destroy(end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_frame_spans_slices_and_a_part),
		cmocka_unit_test(trailers_follow_the_queue),
		cmocka_unit_test(trailers_without_data_need_no_data_frame),
		cmocka_unit_test(pull_is_asked_when_the_queue_is_empty),
		cmocka_unit_test(deferred_stream_is_pulled_again_only_when_resumed),
		cmocka_unit_test(pulled_dry_stream_is_not_asked_before_something_comes),
		cmocka_unit_test(pulled_dry_stream_holds_back_no_other_frame),
		cmocka_unit_test(streams_of_one_connection_take_turns),
		cmocka_unit_test(fixed_headers_go_out_as_copied_ones_do),
		cmocka_unit_test(pull_may_reset),
		cmocka_unit_test(room_is_asked_before_each_frame),
		cmocka_unit_test(failing_sink_breaks_the_session),
		cmocka_unit_test(queue_grows_to_its_bound),
		cmocka_unit_test(dropping_keeps_the_message_partly_sent),
		cmocka_unit_test(dropping_may_cut_a_slice),
		cmocka_unit_test(trailers_pass_a_closed_window),
		cmocka_unit_test(trailers_pass_a_closed_window_while_the_request_goes_on),
		cmocka_unit_test(too_large_response_headers_reset),
		cmocka_unit_test(many_response_headers_are_sent),
		cmocka_unit_test(reset_without_error_waits_for_the_response),
		cmocka_unit_test(reset_gives_the_queue_back_at_once),
		cmocka_unit_test(peers_reset_is_told_with_its_code),
		cmocka_unit_test(destroy_closes_open_streams),
		cmocka_unit_test(graceful_end_takes_two_goaways),
		cmocka_unit_test(stream_that_overtakes_the_last_goaway_is_not_opened),
		cmocka_unit_test(goaway_with_error_is_the_last_frame),
		cmocka_unit_test(client_tells_the_kinds_of_header_blocks),
		cmocka_unit_test(client_takes_trailers_only),
		cmocka_unit_test(client_sends_trailers),
		cmocka_unit_test(client_keeps_the_peers_stream_limit),
		cmocka_unit_test(clients_streams_above_goaway_are_refused),
		cmocka_unit_test(request_reset_before_it_is_out_is_never_seen),
		cmocka_unit_test(clients_connection_error_is_told_at_once),
		cmocka_unit_test(pushed_stream_is_a_connection_error),
		cmocka_unit_test(content_length_must_match),
	};

	return cmocka_run_group_tests_name("h2 stream", tests, NULL, NULL);
}
