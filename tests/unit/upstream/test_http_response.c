/* Responses that the HTTP client pool reads: every framing, every split, every bound, every lie. */
#include "unit/upstream/http_rig.h"

struct row {
	const char *response;
	int status;
	const char *body;
	bool is_kept; /* the connection */
};

static const struct row good_rows[] = {
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true},
	{"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nX: y\r\n\r\n", 200, "", true},
	{"HTTP/1.1 404\r\nContent-Length:2\r\n\r\n{}", 404, "{}", true},
	{"HTTP/1.1 204 No Content\r\n\r\n", 204, "", true},
	{"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", true},
	{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, "ok",
	 true},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nhel\r\n2\r\nlo\r\n"
	 "0\r\nTrailer: 1\r\n\r\n",
	 200, "hello", true},
	{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	 "HTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\nx",
	 500, "x", true},
	{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
	{"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", 503, "no", false},
};

/* Each piece is there by itself. */
static void write_in_pieces(struct rig *rig, int fd, const char *text, size_t cut)
{
	struct span bytes = span_from_cstr(text);

	peer_write_bytes(fd, span_first(bytes, cut));
	turns(rig, 2);
	peer_write_bytes(fd, span_from(bytes, cut));
}

static void check_row(struct rig *rig, const struct row *row)
{
	assert_int_equal(wait_told(rig, 0), HTTP_ANSWERED);
	assert_int_equal(rig->told[0].status, row->status);
	assert_string_equal(rig->told[0].body, row->body);
}

static void response_is_read_at_every_split(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_LEN(good_rows); i++) {
		const struct row *row = &good_rows[i];
		int fd = -1;

		for (size_t cut = 1; cut < strlen(row->response); cut++) {
			assert_int_equal(ask(rig, 0), 0);
			if (fd < 0)
				fd = peer_accept(rig);
			peer_read(rig, fd);
			write_in_pieces(rig, fd, row->response, cut);
			check_row(rig, row);
			if (!row->is_kept) {
				peer_sees_end(rig, fd);
				fd = -1;
			}
		}
		if (fd >= 0) {
			close(fd);
			WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
		}
	}
}

static void response_may_come_byte_by_byte(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_LEN(good_rows); i++) {
		assert_int_equal(ask(rig, 0), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		for (const char *at = good_rows[i].response; *at; at++) {
			peer_write_bytes(fd, span_make(at, 1));
			turns(rig, 1);
		}
		check_row(rig, &good_rows[i]);
		close(fd);
		WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
	}
}

static void body_may_end_with_the_connection(void **state)
{
	struct rig *rig = *state;
	static const char response[] = "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello";

	for (size_t cut = 1; cut < sizeof(response) - 1; cut++) {
		assert_int_equal(ask(rig, 0), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		write_in_pieces(rig, fd, response, cut);
		turns(rig, 2);
		assert_false(rig->told[0].done);
		close(fd);
		check_row(rig, &(struct row){.status = 200, .body = "hello"});
	}
}

static void truncated_response_is_none_at_every_cut(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_LEN(good_rows); i++) {
		const char *response = good_rows[i].response;

		for (size_t cut = 0; cut < strlen(response); cut++) {
			assert_int_equal(ask(rig, 0), 0);

			int fd = peer_accept(rig);

			peer_read(rig, fd);
			peer_write_bytes(fd, span_make(response, cut));
			close(fd);
			assert_int_equal(wait_told(rig, 0),
					 cut == 0 ? HTTP_UNAVAILABLE : HTTP_MALFORMED);
		}
	}
	peer_is_not_asked(rig);
}

static void body_cut_by_a_reset_is_none(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask(rig, 0), 0);

	int fd = peer_accept(rig);

	peer_read(rig, fd);
	peer_write(fd, "HTTP/1.1 200 OK\r\n\r\nhello");
	turns(rig, 5);
	peer_reset(fd);
	assert_int_equal(wait_told(rig, 0), HTTP_MALFORMED);
}

static void head_response_has_no_body(void **state)
{
	struct rig *rig = *state;
	const struct http_request request = {.method = "HEAD",
					     .path = SPAN("/"),
					     .headers =
						     &(struct http1_header){SPAN("x"), SPAN("{}")},
					     .header_count = 1};
	size_t len = 0;

	assert_int_equal(ask_for(rig, 0, &request), 0);

	int fd = peer_accept(rig);

	TURN_UNTIL(rig->worker,
		   (peer_has_request(rig, fd, &len), strstr(rig->request, "\r\n\r\n") != NULL));
	peer_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
	check_row(rig, &(struct row){.status = 200, .body = ""});
	assert_int_equal(ask(rig, 0), 0);
	peer_read(rig, fd); /* the connection is kept */
	close(fd);
}

static void malformed_response_is_none(void **state)
{
	struct rig *rig = *state;
	static const char *const responses[] = {
		"\r\n\r\n",
		"SSH-2.0-OpenSSH_9\r\n",
		"HTTP/2 200 OK\r\n\r\n",
		"HTTP/1.1 99 No\r\n\r\n",
		"HTTP/1.1 600 No\r\n\r\n",
		"HTTP/1.1 20x OK\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
		 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(responses); i++) {
		char line[96];

		assert_int_equal(ask(rig, 0), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		peer_write(fd, responses[i]);
		assert_int_equal(wait_told(rig, 0), HTTP_MALFORMED);
		peer_sees_end(rig, fd);
		snprintf(line, sizeof(line),
			 "gateway_glitches_total{kind=\"upstream_protocol\"} %zu\n", i + 1);
		assert_true(has_metric(rig, line));
	}
	peer_is_not_asked(rig);
}

static void interim_responses_are_bounded(void **state)
{
	struct rig *rig = *state;

	for (int extra = 0; extra < 2; extra++) {
		assert_int_equal(ask(rig, 0), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		for (int i = 0; i < HTTP_INTERIM_MAX + extra; i++)
			peer_write(fd, "HTTP/1.1 102 Processing\r\n\r\n");
		peer_write(fd, OK_EMPTY);
		assert_int_equal(wait_told(rig, 0), extra ? HTTP_MALFORMED : HTTP_ANSWERED);
		close(fd);
		WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
	}
}

static void fill(struct buf *out, size_t bytes)
{
	uint8_t *room = buf_reserve(out, bytes);

	assert_non_null(room);
	memset(room, 'x', bytes);
	buf_claim(out, bytes);
}

/* The body in this framing, `extra` bytes over the bound. */
static void write_body(struct buf *out, int framing, size_t extra)
{
	size_t bytes = BODY_BYTES_MAX + extra;

	buf_append(out, SPAN("HTTP/1.1 200 OK\r\n"));
	if (framing == 0)
		buf_printf(out, "Content-Length: %zu\r\n\r\n", bytes);
	else if (framing == 1)
		buf_printf(out, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", bytes);
	else
		buf_append(out, SPAN("\r\n"));
	fill(out, bytes);
	if (framing == 1)
		buf_append(out, SPAN("\r\n0\r\n\r\n"));
	assert_false(out->failed);
}

static void body_over_its_bound_is_refused(void **state)
{
	struct rig *rig = *state;

	for (int framing = 0; framing < 3; framing++) {
		for (size_t extra = 0; extra < 2; extra++) {
			struct buf response;

			assert_int_equal(ask(rig, 0), 0);

			int fd = peer_accept(rig);

			peer_read(rig, fd);
			buf_init(&response, 1u << 20);
			write_body(&response, framing, extra);
			peer_write_bytes(fd, buf_span(&response));
			buf_finish(&response);
			shutdown(fd, SHUT_WR);
			assert_int_equal(wait_told(rig, 0), extra ? HTTP_MALFORMED : HTTP_ANSWERED);
			assert_int_equal(rig->told[0].body_len, extra ? 0 : BODY_BYTES_MAX);
			close(fd);
			WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
		}
	}
}

static void long_body_that_is_announced_is_not_waited_for(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(ask(rig, 0), 0);

	int fd = peer_accept(rig);

	peer_read(rig, fd);
	peer_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n");
	assert_int_equal(wait_told(rig, 0), HTTP_MALFORMED);
	peer_sees_end(rig, fd);
}

static void head_is_bounded(void **state)
{
	struct rig *rig = *state;
	static const char start[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ";

	for (size_t extra = 0; extra < 2; extra++) {
		struct buf response;

		assert_int_equal(ask(rig, 0), 0);

		int fd = peer_accept(rig);

		peer_read(rig, fd);
		buf_init(&response, 1u << 20);
		buf_append(&response, span_from_cstr(start));
		fill(&response, HTTP_HEAD_BYTES_MAX - sizeof(start) + 1 - 4 + extra);
		buf_append(&response, SPAN("\r\n\r\n"));
		assert_int_equal(response.len, HTTP_HEAD_BYTES_MAX + extra);
		peer_write_bytes(fd, buf_span(&response));
		buf_finish(&response);
		assert_int_equal(wait_told(rig, 0), extra ? HTTP_MALFORMED : HTTP_ANSWERED);
		close(fd);
		WAIT_METRIC(rig, "upstream_http_connections{upstream=\"auth\"} 0\n");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(response_is_read_at_every_split),
		TEST(response_may_come_byte_by_byte),
		TEST(body_may_end_with_the_connection),
		TEST(truncated_response_is_none_at_every_cut),
		TEST(body_cut_by_a_reset_is_none),
		TEST(head_response_has_no_body),
		TEST(malformed_response_is_none),
		TEST(interim_responses_are_bounded),
		TEST(body_over_its_bound_is_refused),
		TEST(long_body_that_is_announced_is_not_waited_for),
		TEST(head_is_bounded),
	};

	return cmocka_run_group_tests_name("upstream/http_response", tests, NULL, NULL);
}
