/* fuzz_http1: a request or response head and its body, whole and cut at every byte. */
#include "base/buf.h"
#include "codec/http1.h"
#include "fuzz/fuzz.h"

#define INPUT_MAX   4096 /* every cut is tried: quadratic */
#define CONTENT_MAX (1u << 20)

static const struct http1_limits limits = {.head_bytes_max = 2048, .line_bytes_max = 512};

static ptrdiff_t parse(struct span bytes, bool is_response, struct http1_head *head)
{
	return is_response ? http1_parse_response(bytes, &limits, SPAN("GET"), head)
			   : http1_parse_request(bytes, &limits, head);
}

static void check_lent(struct span part, struct span bytes)
{
	CHECK(part.len == 0 ||
	      (part.data >= bytes.data && part.data + part.len <= bytes.data + bytes.len));
}

static void check_head(const struct http1_head *head, struct span bytes)
{
	CHECK(head->header_count <= HTTP1_HEADERS_MAX && head->minor_version <= 1);
	check_lent(head->method, bytes);
	check_lent(head->target, bytes);
	/* an absolute target without one has the parser's own */
	if (!span_equal(head->path, SPAN("/")))
		check_lent(head->path, bytes);
	check_lent(head->query, bytes);
	for (size_t i = 0; i < head->header_count; i++) {
		check_lent(head->headers[i].name, bytes);
		check_lent(head->headers[i].value, bytes);
		CHECK(head->headers[i].name.len > 0);
		CHECK(!memchr(head->headers[i].name.data, ' ', head->headers[i].name.len));
	}
}

/* Reads the body, `step` bytes at a time. Returns bytes taken, or the reader's code. */
static ptrdiff_t read_body(const struct http1_head *head, struct span bytes, size_t step,
			   struct buf *content)
{
	struct http1_body_reader reader;
	struct span rest = bytes;

	http1_body_init(&reader, head);
	while (!reader.finished && rest.len > 0) {
		struct span run = SPAN_EMPTY,
			    part = span_first(rest, rest.len < step ? rest.len : step);
		ptrdiff_t taken = http1_body_take(&reader, part, &run);

		if (taken < 0)
			return taken;
		CHECK((size_t)taken <= part.len && (taken > 0 || reader.finished));
		check_lent(run, part);
		CHECK(buf_append(content, run) == 0);
		rest = span_from(rest, (size_t)taken);
	}
	return (ptrdiff_t)(bytes.len - rest.len);
}

static void check_body(const struct http1_head *head, struct span bytes)
{
	struct buf whole, cut;

	buf_init(&whole, CONTENT_MAX);
	buf_init(&cut, CONTENT_MAX);
	CHECK(read_body(head, bytes, SIZE_MAX, &whole) == read_body(head, bytes, 1, &cut));
	CHECK(span_equal(buf_span(&whole), buf_span(&cut)));
	buf_finish(&whole);
	buf_finish(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size < INPUT_MAX ? size : INPUT_MAX);
	bool is_response = fuzz_byte(&input) & 1;
	struct http1_head head, cut_head;
	uint8_t *copy = fuzz_copy(input);
	struct span bytes = span_make(copy, input.len);
	ptrdiff_t taken = parse(bytes, is_response, &head);

	CHECK(taken <= (ptrdiff_t)bytes.len);
	for (size_t cut = 0; cut < bytes.len; cut++) {
		uint8_t *part = fuzz_copy(span_first(bytes, cut));
		ptrdiff_t early = parse(span_make(part, cut), is_response, &cut_head);

		if (taken > 0)
			CHECK(early == (cut < (size_t)taken ? 0 : taken));
		else
			CHECK(early <= 0);
		free(part);
	}
	if (taken > 0) {
		check_head(&head, bytes);
		check_body(&head, span_from(bytes, (size_t)taken));
	}
	free(copy);
	return 0;
}
