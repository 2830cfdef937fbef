/* What services call, over a face that only takes notes. */
#include "edge/request.h"

#include "base/buf.h"
#include "base/check.h"
#include "edge/connection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct notes {
	struct request request;
	struct worker worker;
	int status;
	uint64_t retry_after_ms;
	size_t header_count;
	char text[1024];
	char calls[64]; /* a letter each: r(eply) s(end) f(inish) d(rop) u (resume) */
};

static struct notes *notes_of(struct request *request, char call)
{
	struct notes *notes = CONTAINER_OF(request, struct notes, request);
	size_t len = strlen(notes->calls);

	notes->calls[len] = call;
	return notes;
}

static void note_reply(struct request *request, const struct reply *reply)
{
	struct notes *notes = notes_of(request, 'r');

	notes->status = reply->status;
	notes->header_count = reply->header_count;
	snprintf(notes->text, sizeof(notes->text), "%.*s", SPAN_ARGS(reply->body));
	request->ended = true;
}

static bool note_send(struct request *request, struct payload_slice slice)
{
	(void)slice;
	notes_of(request, 's');
	return true;
}

static void note_finish(struct request *request, int grpc_status, struct span message,
			uint64_t retry_after_ms)
{
	struct notes *notes = notes_of(request, 'f');

	notes->status = grpc_status;
	notes->retry_after_ms = retry_after_ms;
	snprintf(notes->text, sizeof(notes->text), "%.*s", SPAN_ARGS(message));
	request->ended = true;
}

static void note_drop(struct request *request)
{
	notes_of(request, 'd');
}

static void note_resume(struct request *request)
{
	notes_of(request, 'u');
}

static const struct face_operations note_operations = {
	.reply = note_reply,
	.give = note_send,
	.finish = note_finish,
	.drop_queue = note_drop,
	.resume = note_resume,
};

static void notes_init(struct notes *notes)
{
	memset(notes, 0, sizeof(*notes));
	notes->request.face = &note_operations;
	notes->request.worker = &notes->worker;
}

static void every_row_becomes_a_json_body(void **state)
{
	(void)state;
	for (int err = 1; err < ERR_COUNT; err++) {
		struct notes notes;
		char wanted[1024];
		const struct err_row *row = err_row((enum err)err);

		notes_init(&notes);
		request_reply_error(&notes.request, (enum err)err, NULL, 0);
		snprintf(wanted, sizeof(wanted), "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}",
			 row->http_code, row->text);
		assert_string_equal(notes.text, wanted);
		assert_int_equal(notes.status, row->http_status);
	}
}

static void rows_become_statuses(void **state)
{
	static const struct {
		enum err err;
		const char *argument;
		uint64_t retry_after_ms;
		int status;
		const char *text;
	} rows[] = {
		{ERR_ENVELOPE_EMPTY_FIELD, "request_id", 0, GRPC_INVALID_ARGUMENT,
		 "request_id must not be empty"},
		{ERR_ENVELOPE_EMPTY_FIELD, NULL, 0, GRPC_INVALID_ARGUMENT, " must not be empty"},
		{ERR_SESSION_UNKNOWN, NULL, 0, GRPC_UNAUTHENTICATED, "unknown device session"},
		{ERR_SESSION_UNKNOWN, "ignored", 0, GRPC_UNAUTHENTICATED, "unknown device session"},
		{ERR_RATE_LIMITED, NULL, 77, GRPC_RESOURCE_EXHAUSTED,
		 "authenticated request rate limit exceeded"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct notes notes;

		notes_init(&notes);
		rpc_fail(&notes.request, rows[i].err, rows[i].argument, rows[i].retry_after_ms);
		assert_int_equal(notes.status, rows[i].status);
		assert_int_equal(notes.retry_after_ms, rows[i].retry_after_ms);
		assert_string_equal(notes.text, rows[i].text);
	}
}

static void cut_drops_before_it_finishes(void **state)
{
	struct notes notes;

	(void)state;
	notes_init(&notes);
	rpc_cut(&notes.request, ERR_SHUTTING_DOWN);
	assert_string_equal(notes.calls, "df");
	assert_string_equal(notes.text, "gateway is shutting down");
}

static void an_ended_request_reaches_no_face(void **state)
{
	struct notes notes;

	(void)state;
	notes_init(&notes);
	notes.request.ended = true;
	request_reply(&notes.request, &(struct reply){.status = 200});
	request_reply_error(&notes.request, ERR_INTERNAL, NULL, 0);
	assert_false(rpc_send(&notes.request, (struct payload_slice){0}));
	rpc_finish(&notes.request, 0, SPAN_EMPTY);
	rpc_fail(&notes.request, ERR_INTERNAL, NULL, 0);
	rpc_cut(&notes.request, ERR_INTERNAL);
	rpc_resume(&notes.request);
	assert_string_equal(notes.calls, "");
}

static void time_left_is_at_least_a_millisecond(void **state)
{
	static const struct {
		uint64_t now_us, deadline_us, left_ms;
	} rows[] = {
		{1000, 0, 0},	     {1000, 1000, 1},
		{5000, 1000, 1},     {1000, 1999, 1},
		{1000, 2999, 1},     {1000, 3000, 2},
		{1000, 251000, 250}, {1, UINT64_MAX, (UINT64_MAX - 1) / 1000},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct notes notes;

		notes_init(&notes);
		notes.worker.now_us = rows[i].now_us;
		notes.request.deadline_us = rows[i].deadline_us;
		assert_int_equal(request_time_left_ms(&notes.request), rows[i].left_ms);
	}
}

/* As browsers cut a cookie field over HTTP/2; whoever asks may ask again. */
static void field_in_many_pieces_is_joined_within_the_request_s_memory(void **state)
{
	struct request request = {.method = SPAN("GET")};
	struct buf whole;

	(void)state;
	arena_init(&request.arena, REQUEST_ARENA_BYTES_MAX);
	buf_init(&whole, 1u << 16);
	for (int i = 0; i < 120; i++) {
		char piece[96];
		int len = snprintf(piece, sizeof(piece), "cookie-%03d=%080d", i, i);

		buf_printf(&whole, "%s%s", i > 0 ? "; " : "", piece);
		request_keep_header(&request, SPAN("cookie"), span_make(piece, (size_t)len));
		request_keep_header(&request, SPAN("other"), SPAN("1"));
	}
	for (int i = 0; i < 3; i++)
		assert_true(span_equal(request_find_header(&request, SPAN("cookie")),
				       buf_span(&whole)));
	assert_true(
		span_starts_with(request_find_header(&request, SPAN("other")), SPAN("1, 1, 1")));
	assert_int_equal(request_find_header(&request, SPAN("none")).len, 0);
	buf_finish(&whole);
	arena_finish(&request.arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_becomes_a_json_body),
		cmocka_unit_test(rows_become_statuses),
		cmocka_unit_test(cut_drops_before_it_finishes),
		cmocka_unit_test(an_ended_request_reaches_no_face),
		cmocka_unit_test(field_in_many_pieces_is_joined_within_the_request_s_memory),
		cmocka_unit_test(time_left_is_at_least_a_millisecond),
	};

	return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
