/* fuzz_grpc: the de-framer of gRPC messages, whole and cut; grpc-timeout and grpc-message texts. */
#include "base/buf.h"
#include "codec/grpc.h"
#include "fuzz/fuzz.h"

#define MESSAGE_MAX 4096
#define OUT_MAX	    (1u << 22)

/* What came out: each message with its length before it. Returns 0 or the de-framer's code. */
static ptrdiff_t deframe(enum grpc_encoding encoding, struct span bytes, size_t step,
			 struct buf *out)
{
	struct grpc_deframer deframer;
	ptrdiff_t taken = 0;

	grpc_deframer_init(&deframer, encoding, MESSAGE_MAX);
	while (bytes.len > 0) {
		struct span message = SPAN_EMPTY,
			    part = span_first(bytes, bytes.len < step ? bytes.len : step);

		taken = grpc_deframer_take(&deframer, part, &message);
		if (taken < 0)
			break;
		CHECK((size_t)taken <= part.len && (taken > 0 || message.data));
		CHECK(message.len <= MESSAGE_MAX);
		if (message.data) {
			buf_printf(out, "%zu:", message.len);
			CHECK(buf_append(out, message) == 0);
		}
		bytes = span_from(bytes, (size_t)taken);
	}
	if (taken >= 0)
		buf_printf(out, "%s", grpc_deframer_is_idle(&deframer) ? "idle" : "open");
	grpc_deframer_finish(&deframer);
	return taken < 0 ? taken : 0;
}

static void check_framing(enum grpc_encoding encoding, struct span bytes)
{
	struct buf whole, cut;

	buf_init(&whole, OUT_MAX);
	buf_init(&cut, OUT_MAX);
	CHECK(deframe(encoding, bytes, SIZE_MAX, &whole) == deframe(encoding, bytes, 1, &cut));
	CHECK(span_equal(buf_span(&whole), buf_span(&cut)));
	buf_finish(&whole);
	buf_finish(&cut);
}

static void check_texts(struct span text)
{
	struct buf encoded, decoded;
	int64_t us = grpc_parse_timeout(text);
	char formatted[16];

	CHECK(us >= -1);
	if (us >= 0) {
		size_t len = grpc_format_timeout((uint64_t)us, formatted);

		CHECK(grpc_parse_timeout(span_make(formatted, len)) >= us);
	}
	(void)grpc_parse_status(text);
	buf_init(&encoded, OUT_MAX);
	buf_init(&decoded, OUT_MAX);
	CHECK(grpc_encode_message(&encoded, text) == 0);
	CHECK(grpc_decode_message(&decoded, buf_span(&encoded)) == 0);
	CHECK(span_equal(buf_span(&decoded), text));
	buf_clear(&decoded, 0);
	CHECK(grpc_decode_message(&decoded, text) == 0);
	buf_finish(&encoded);
	buf_finish(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	uint8_t kind = fuzz_byte(&input) % 3;
	uint8_t *copy = fuzz_copy(input);
	struct span bytes = span_make(copy, input.len);

	if (kind == 2)
		check_texts(bytes);
	else
		check_framing(kind ? GRPC_GZIP : GRPC_IDENTITY, bytes);
	free(copy);
	return 0;
}
