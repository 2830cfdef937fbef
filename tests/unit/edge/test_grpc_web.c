/* grpc_web: a gRPC method's handlers behind an HTTP request, whose face is the test's. */
#include "edge/grpc_web.h"

#include "unit/edge/rig.h"

struct fixture {
	struct rig rig;
	struct request http;
	struct route http_route;
	struct metric_counter copied, calls[GRPC_STATUS_COUNT];
	struct reply_header headers[1];
	/* the answer */
	struct buf head, body;
	int status;
	bool has_begun, has_ended, is_whole, has_room;
	unsigned drops, resumes, settles;
};

static struct fixture *fixture_of(struct request *http)
{
	return CONTAINER_OF(http, struct fixture, http);
}

static void note_head(struct fixture *fixture, const struct reply *reply)
{
	fixture->status = reply->status;
	buf_printf(&fixture->head, "content-type: %s\n", reply->content_type);
	for (size_t i = 0; i < reply->header_count; i++)
		buf_printf(&fixture->head, "%s: %.*s\n", reply->headers[i].name,
			   SPAN_ARGS(reply->headers[i].value));
}

static void face_reply(struct request *http, const struct reply *reply)
{
	struct fixture *fixture = fixture_of(http);

	assert_false(fixture->has_begun);
	note_head(fixture, reply);
	buf_append(&fixture->body, reply->body);
	http->ended = fixture->has_ended = fixture->is_whole = true;
}

static void face_begin(struct request *http, const struct reply *reply)
{
	assert_false(fixture_of(http)->has_begun);
	fixture_of(http)->has_begun = true;
	note_head(fixture_of(http), reply);
}

static bool face_give(struct request *http, struct payload_slice slice)
{
	struct fixture *fixture = fixture_of(http);

	assert_true(fixture->has_begun && !http->ended);
	buf_append(&fixture->body, span_make(slice.payload->data + slice.offset, slice.len));
	payload_put(slice.payload);
	return fixture->has_room;
}

static void face_end(struct request *http, bool whole)
{
	http->ended = fixture_of(http)->has_ended = true;
	fixture_of(http)->is_whole = whole;
}

static void face_drop_queue(struct request *http)
{
	fixture_of(http)->drops++;
}

static void face_resume(struct request *http)
{
	fixture_of(http)->resumes++;
}

static void face_settle(struct request *http)
{
	fixture_of(http)->settles++;
}

static const struct face_operations face = {
	.reply = face_reply,
	.begin = face_begin,
	.give = face_give,
	.end = face_end,
	.drop_queue = face_drop_queue,
	.resume = face_resume,
	.settle = face_settle,
};

static const struct route *route_of(const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(rig_routes); i++)
		if (strcmp(rig_routes[i].path, path) == 0)
			return &rig_routes[i];
	fail_msg("no route %s", path);
	return NULL;
}

static void put_header(struct fixture *fixture, const char *name, const char *value)
{
	struct request_header *header = arena_alloc(&fixture->http.arena, sizeof(*header));

	assert_non_null(header);
	*header = (struct request_header){.next = fixture->http.headers,
					  .name = span_from_cstr(name),
					  .value = span_from_cstr(value)};
	fixture->http.headers = header;
}

static void fixture_open(struct fixture *fixture)
{
	*fixture = (struct fixture){.has_room = true};
	rig_open(&fixture->rig, SERVER_HTTP1);
	buf_init(&fixture->head, 65536);
	buf_init(&fixture->body, 1u << 20);
	fixture->http_route = (struct route){
		.kind = ROUTE_HTTP,
		.method = "POST",
		.path = "/t.S/*",
		.cancelled = grpc_web_cancelled,
		.pull = grpc_web_pull,
		.long_lived = true,
	};
	fixture->http = (struct request){
		.route = &fixture->http_route,
		.face = &face,
		.worker = &fixture->rig.worker,
		.service = &fixture->rig,
		.context = fixture,
		.method = SPAN("POST"),
		.body = SPAN("\0\0\0\0\2ab"),
		.request_id = SPAN("r-1"),
	};
	arena_init(&fixture->http.arena, 65536);
}

static void fixture_close(struct fixture *fixture)
{
	assert_true(fixture->http.ended || fixture->http.context == fixture);
	arena_finish(&fixture->http.arena);
	buf_finish(&fixture->head);
	buf_finish(&fixture->body);
	rig_close(&fixture->rig);
}

static void start(struct fixture *fixture, const char *path, enum grpc_web_kind kind)
{
	fixture->headers[0] = (struct reply_header){"x-a", SPAN("b")};
	grpc_web_start(&fixture->http, &(struct grpc_web_options){
					       .kind = kind,
					       .route = route_of(path),
					       .headers = fixture->headers,
					       .header_count = 1,
					       .copied_bytes = &fixture->copied,
					       .calls = fixture->calls,
				       });
}

static void expect(struct fixture *fixture, const char *head, struct span body)
{
	assert_int_equal(fixture->status, 200);
	assert_true(fixture->has_ended && fixture->is_whole);
	assert_int_equal(fixture->head.len, strlen(head));
	assert_memory_equal(fixture->head.data, head, strlen(head));
	assert_int_equal(fixture->body.len, body.len);
	if (body.len > 0)
		assert_memory_equal(fixture->body.data, body.data, body.len);
}

#define BINARY_HEAD "content-type: application/grpc-web+proto\nx-a: b\n"
#define TEXT_HEAD   "content-type: application/grpc-web-text+proto\nx-a: b\n"
#define OK_FRAME    "\x80\0\0\0\x10grpc-status: 0\r\n"

static void message_comes_back_with_trailers_as_the_last_frame(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	start(&fixture, "/t.S/Echo", GRPC_WEB_BINARY);
	expect(&fixture, BINARY_HEAD, SPAN("\0\0\0\0\2ab" OK_FRAME));
	assert_int_equal(fixture.copied.value, 0);
	assert_int_equal(fixture.calls[GRPC_OK].value, 1);
	fixture_close(&fixture);
}

static void text_is_encoded_piece_by_piece_and_counted(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	fixture.http.body = SPAN("AAAAAA==AmFi");
	start(&fixture, "/t.S/Echo", GRPC_WEB_TEXT);
	expect(&fixture, TEXT_HEAD, SPAN("AAAAAAJhYg==gAAAABBncnBjLXN0YXR1czogMA0K"));
	assert_int_equal(fixture.copied.value, 7);
	fixture_close(&fixture);
}

static void refusal_without_a_message_is_the_head_alone(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	start(&fixture, "/t.S/Refuse", GRPC_WEB_BINARY);
	expect(&fixture,
	       BINARY_HEAD "grpc-status: 8\n"
			   "grpc-message: authenticated request rate limit exceeded\n"
			   "retry-after-ms: 250\n",
	       SPAN_EMPTY);
	assert_int_equal(fixture.calls[GRPC_RESOURCE_EXHAUSTED].value, 1);
	fixture_close(&fixture);
}

static void wrong_body_never_reaches_the_method(void **state)
{
	static const struct {
		enum grpc_web_kind kind;
		struct span body;
		enum grpc_status status;
	} rows[] = {
		{GRPC_WEB_BINARY, {NULL, 0}, GRPC_UNIMPLEMENTED},
		{GRPC_WEB_BINARY, {(const uint8_t *)"\0\0\0\0", 4}, GRPC_INTERNAL},
		{GRPC_WEB_BINARY, {(const uint8_t *)"\0\0\0\0\2a", 6}, GRPC_INTERNAL},
		{GRPC_WEB_BINARY, {(const uint8_t *)"\0\0\0\0\0\0", 6}, GRPC_UNIMPLEMENTED},
		{GRPC_WEB_BINARY, {(const uint8_t *)"\1\0\0\0\0", 5}, GRPC_INTERNAL},
		{GRPC_WEB_BINARY, {(const uint8_t *)"\x80\0\0\0\0", 5}, GRPC_INTERNAL},
		{GRPC_WEB_BINARY, {(const uint8_t *)"\0\0\2\0\0", 5}, GRPC_RESOURCE_EXHAUSTED},
		{GRPC_WEB_TEXT, {(const uint8_t *)"AAAAAA", 6}, GRPC_INTERNAL},
		{GRPC_WEB_TEXT, {(const uint8_t *)"A!AAAA==", 8}, GRPC_INTERNAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fixture fixture;

		fixture_open(&fixture);
		fixture.http.body = rows[i].body;
		start(&fixture, "/t.S/Echo", rows[i].kind);
		assert_true(fixture.has_ended && fixture.body.len == 0);
		assert_int_equal(fixture.calls[rows[i].status].value, 1);
		assert_int_equal(fixture.rig.started, 0);
		fixture_close(&fixture);
	}
}

static void deadline_cancels_the_call_and_tells_the_client(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	put_header(&fixture, "grpc-timeout", "20m");
	start(&fixture, "/t.S/Hold", GRPC_WEB_BINARY);
	assert_int_equal(fixture.rig.held_count, 1);
	assert_int_equal(request_time_left_ms(fixture.rig.held[0]), 20);
	rig_advance(&fixture.rig, 19);
	assert_false(fixture.has_ended);
	rig_advance(&fixture.rig, 2);
	assert_int_equal(fixture.rig.cancelled, 1);
	expect(&fixture, BINARY_HEAD "grpc-status: 4\ngrpc-message: deadline exceeded\n",
	       SPAN_EMPTY);
	fixture_close(&fixture);
}

static void deadline_behind_a_message_is_a_frame(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	put_header(&fixture, "grpc-timeout", "20m");
	start(&fixture, "/t.S/Hold", GRPC_WEB_BINARY);
	(void)message_send(fixture.rig.held[0], SPAN("x"));
	rig_advance(&fixture.rig, 21);
	expect(&fixture, BINARY_HEAD,
	       SPAN("\0\0\0\0\1x"
		    "\x80\0\0\0\x31grpc-status: 4\r\ngrpc-message: deadline exceeded\r\n"));
	fixture_close(&fixture);
}

static void client_that_goes_away_cancels_the_call(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	start(&fixture, "/t.S/Hold", GRPC_WEB_BINARY);
	assert_ptr_not_equal(fixture.http.context, &fixture);
	grpc_web_cancelled(&fixture.http);
	assert_int_equal(fixture.rig.cancelled, 1);
	assert_int_equal(fixture.calls[GRPC_CANCELLED].value, 1);
	assert_ptr_equal(fixture.http.context, &fixture);
	assert_false(fixture.has_ended);
	fixture_close(&fixture);
}

static void stream_is_pulled_while_its_client_takes_more(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	fixture.rig.stream_left = 3;
	fixture.rig.stream_ends = true;
	fixture.has_room = false;
	start(&fixture, "/t.S/Stream", GRPC_WEB_BINARY);
	assert_true(fixture.has_begun && fixture.resumes == 1);
	grpc_web_pull(&fixture.http);
	assert_int_equal(fixture.rig.stream_left, 2);
	fixture.has_room = true;
	grpc_web_pull(&fixture.http);
	assert_int_equal(fixture.rig.stream_left, 0);
	assert_true(fixture.has_ended && fixture.is_whole);
	fixture_close(&fixture);
}

static void settled_call_has_begun_and_gives_its_request_back(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	put_header(&fixture, "a", "b");
	start(&fixture, "/t.S/Watch", GRPC_WEB_BINARY);
	struct request *call = fixture.rig.held[0];

	call->request_id = arena_copy(&call->arena, SPAN("r-2"));
	request_settle(call);
	assert_true(fixture.has_begun);
	assert_int_equal(fixture.settles, 1);
	assert_null(fixture.http.headers);
	assert_true(span_equal(fixture.http.request_id, SPAN("r-2")));
	assert_int_equal(request_find_header(call, SPAN("a")).len, 0);
	(void)message_send(call, SPAN("x"));
	rpc_finish(call, GRPC_OK, SPAN_EMPTY);
	expect(&fixture, BINARY_HEAD, SPAN("\0\0\0\0\1x" OK_FRAME));
	fixture_close(&fixture);
}

static void only_a_binary_queue_can_be_dropped(void **state)
{
	static const enum grpc_web_kind kinds[] = {GRPC_WEB_BINARY, GRPC_WEB_TEXT};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct fixture fixture;

		fixture_open(&fixture);
		if (kinds[i] == GRPC_WEB_TEXT)
			fixture.http.body = SPAN("AAAAAAJhYg==");
		start(&fixture, "/t.S/Hold", kinds[i]);
		(void)message_send(fixture.rig.held[0], SPAN("x"));
		rpc_cut(fixture.rig.held[0], ERR_STREAM_OVERFLOWED);
		assert_int_equal(fixture.drops, kinds[i] == GRPC_WEB_BINARY);
		assert_true(fixture.has_ended && fixture.is_whole);
		fixture_close(&fixture);
	}
}

static void details_of_a_status_go_along(void **state)
{
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture);
	start(&fixture, "/t.S/Hold", GRPC_WEB_BINARY);
	grpc_web_finish(fixture.rig.held[0], GRPC_NOT_FOUND, SPAN("\xc3\xa4"), SPAN("CAU"));
	expect(&fixture,
	       BINARY_HEAD "grpc-status: 5\ngrpc-message: %C3%A4\ngrpc-status-details-bin: CAU\n",
	       SPAN_EMPTY);
	fixture_close(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(message_comes_back_with_trailers_as_the_last_frame),
		cmocka_unit_test(text_is_encoded_piece_by_piece_and_counted),
		cmocka_unit_test(refusal_without_a_message_is_the_head_alone),
		cmocka_unit_test(wrong_body_never_reaches_the_method),
		cmocka_unit_test(deadline_cancels_the_call_and_tells_the_client),
		cmocka_unit_test(deadline_behind_a_message_is_a_frame),
		cmocka_unit_test(client_that_goes_away_cancels_the_call),
		cmocka_unit_test(stream_is_pulled_while_its_client_takes_more),
		cmocka_unit_test(settled_call_has_begun_and_gives_its_request_back),
		cmocka_unit_test(only_a_binary_queue_can_be_dropped),
		cmocka_unit_test(details_of_a_status_go_along),
	};

	return cmocka_run_group_tests_name("grpc_web", tests, NULL, NULL);
}
