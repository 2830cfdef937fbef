/* fuzz_grpc_web: base64 text of gRPC-Web whole and cut, media types, trailers of any texts. */
#include "base/base64.h"
#include "codec/grpc.h"
#include "codec/grpc_web.h"
#include "fuzz/fuzz.h"

#define OUT_MAX (1u << 22)

static int decode(struct span text, size_t step, struct buf *out)
{
	struct grpc_web_text decoder = {0};
	int code = 0;

	while (text.len > 0 && code == 0) {
		struct span part = span_first(text, text.len < step ? text.len : step);

		code = grpc_web_text_take(&decoder, part, out);
		text = span_from(text, part.len);
	}
	return code ? code : !grpc_web_text_is_idle(&decoder);
}

/* What is taken says the same whole and cut, and comes back through our own text. */
static void check_text(struct span text, size_t step)
{
	struct buf whole, cut, again;

	buf_init(&whole, OUT_MAX);
	buf_init(&cut, OUT_MAX);
	buf_init(&again, OUT_MAX);

	int code = decode(text, SIZE_MAX, &whole);

	CHECK(decode(text, step, &cut) == code);
	if (code >= 0)
		CHECK(span_equal(buf_span(&whole), buf_span(&cut)));
	size_t len = BASE64_CHARS(whole.len);
	uint8_t *written = malloc(len + 1);

	CHECK(written);
	(void)base64_write(written, buf_span(&whole));
	CHECK(decode(span_make(written, len), step, &again) == 0);
	CHECK(span_equal(buf_span(&again), buf_span(&whole)));
	free(written);
	buf_finish(&whole);
	buf_finish(&cut);
	buf_finish(&again);
}

/* Each line is one of ours: nothing in a value makes another. */
static void check_trailers(struct span input)
{
	struct grpc_web_trailers trailers = {.status = fuzz_byte(&input) % 17};
	struct buf out;

	trailers.message = fuzz_until(&input, '|');
	trailers.details = input;
	buf_init(&out, OUT_MAX);
	CHECK(grpc_web_append_trailers(&out, &trailers) == 0);
	CHECK(out.len >= GRPC_PREFIX_BYTES && out.data[0] == GRPC_WEB_TRAILERS);
	CHECK(grpc_read_prefix(out.data) == out.len - GRPC_PREFIX_BYTES);
	struct span lines = span_from(buf_span(&out), GRPC_PREFIX_BYTES);
	size_t count = 0;

	while (lines.len > 0) {
		ptrdiff_t end = span_find_byte(lines, '\n');

		CHECK(end > 0 && lines.data[end - 1] == '\r');
		CHECK(span_starts_with(lines, SPAN("grpc-status: ")) ||
		      span_starts_with(lines, SPAN("grpc-message: ")) ||
		      span_starts_with(lines, SPAN("grpc-status-details-bin: ")));
		lines = span_from(lines, (size_t)end + 1);
		count++;
	}
	CHECK(count >= 1 && count <= 3);
	buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	uint8_t kind = fuzz_byte(&input) % 3;
	size_t step = (size_t)fuzz_byte(&input) + 1;
	uint8_t *copy = fuzz_copy(input);
	struct span bytes = span_make(copy, input.len);

	if (kind == 0)
		check_text(bytes, step);
	else if (kind == 1)
		check_trailers(bytes);
	else
		(void)grpc_web_answer_kind(bytes, grpc_web_kind_of(bytes));
	free(copy);
	return 0;
}
