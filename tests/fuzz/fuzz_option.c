/*
 * fuzz_option: one variable of the table set to any text: it is taken or told, and what was taken
 * is shown as a value that is taken again and shown the same.
 */
#include "base/arena.h"
#include "config/option.h"
#include "fuzz/fuzz.h"

#define REPORT_MAX (1u << 20)
#define CONFIG_MAX (1u << 20)

struct outcome {
	int result;
	size_t mistake_count;
	struct buf shown;
};

static struct outcome set(const struct option_row *row, struct span text)
{
	struct arena memory;
	struct buf told;
	struct outcome outcome = {0};

	arena_init(&memory, CONFIG_MAX);
	buf_init(&told, REPORT_MAX);
	buf_init(&outcome.shown, REPORT_MAX);

	struct config config = {.memory = &memory};
	struct report report = {.out = &told};

	outcome.result = option_set(row, &config, text, &report);
	outcome.mistake_count = report.mistake_count;
	CHECK((outcome.result == 0) == (report.mistake_count == 0));
	CHECK(span_is_utf8(buf_span(&told)));
	if (outcome.result == 0)
		option_write_value(row, &config, &outcome.shown);
	if (row->kind == OPTION_KIND_SECRET)
		option_forget(row, &config); /* the vault is bounded */
	buf_finish(&told);
	arena_finish(&memory);
	return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	const struct option_row *row = option_row(fuzz_byte(&input) % option_count());
	uint8_t *copy = fuzz_copy(input);
	struct outcome first = set(row, span_make(copy, input.len));

	if (first.result == 0 && row->kind != OPTION_KIND_SECRET) {
		struct outcome again = set(row, buf_span(&first.shown));

		CHECK(again.result == 0 &&
		      span_equal(buf_span(&first.shown), buf_span(&again.shown)));
		buf_finish(&again.shown);
	}
	buf_finish(&first.shown);
	free(copy);
	return 0;
}
