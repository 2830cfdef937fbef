/* fuzz_resp: Redis replies, whole and byte by byte; commands as we write them are arrays that we
 * can read. */
#include "base/buf.h"
#include "codec/resp.h"
#include "fuzz/fuzz.h"

#define OUT_MAX (1u << 24)

static const struct resp_limits limits = {.value_bytes_max = 4096, .items_max = 64, .depth_max = 7};

static void write_value(struct buf *out, const struct resp_value *value)
{
	CHECK(value->text.len <= limits.value_bytes_max && value->count <= limits.items_max);
	buf_printf(out, "%d,%lld,%zu:", (int)value->type, (long long)value->integer,
		   value->text.len);
	CHECK(buf_append(out, value->text) == 0);
	if (value->type == RESP_STRING || value->type == RESP_STATUS || value->type == RESP_ERROR)
		CHECK(value->text.data[value->text.len] == '\0');
	for (size_t i = 0; i < value->count; i++)
		write_value(out, value->items[i]);
}

/* Returns 0 or the reader's code. */
static int read_all(struct span bytes, size_t step, struct buf *out)
{
	struct resp_reader *reader = resp_reader_create(&limits);
	struct resp_value *value;
	int result = 0;

	CHECK(reader);
	while (result == 0 && bytes.len > 0) {
		size_t len = bytes.len < step ? bytes.len : step;

		result = resp_reader_feed(reader, span_first(bytes, len));
		bytes = span_from(bytes, len);

		int more;

		while ((more = resp_reader_next(reader, &value)) > 0) {
			write_value(out, value);
			resp_value_free(value);
		}
		if (more < 0)
			result = more;
	}
	resp_reader_destroy(reader);
	return result;
}

static void check_replies(struct span bytes)
{
	struct buf whole, cut;

	buf_init(&whole, OUT_MAX);
	buf_init(&cut, OUT_MAX);
	CHECK(read_all(bytes, SIZE_MAX, &whole) == read_all(bytes, 1, &cut));
	CHECK(span_equal(buf_span(&whole), buf_span(&cut)));
	buf_finish(&whole);
	buf_finish(&cut);
}

static void check_command(struct span words)
{
	struct span args[16];
	size_t count = 0;
	struct buf command, read;

	buf_init(&command, OUT_MAX);
	buf_init(&read, OUT_MAX);
	while (count < ARRAY_LEN(args) && words.len > 0)
		args[count++] = fuzz_until(&words, '\n');
	if (count > 0) {
		CHECK(resp_format(&command, args, count) == 0);
		if (command.len < limits.value_bytes_max)
			CHECK(read_all(buf_span(&command), SIZE_MAX, &read) == 0 && read.len > 0);
	}
	buf_finish(&command);
	buf_finish(&read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	bool is_command = fuzz_byte(&input) & 1;
	uint8_t *copy = fuzz_copy(input);

	if (is_command)
		check_command(span_make(copy, input.len));
	else
		check_replies(span_make(copy, input.len));
	free(copy);
	return 0;
}
