/* fuzz_yaml: the configuration file: every fault is told, and what is taken can be used. */
#include "base/arena.h"
#include "config/routes.h"
#include "fuzz/fuzz.h"

#define REPORT_MAX (1u << 20)

static void check_file(const struct config_file *file)
{
	CHECK(file->upstream_count <= UPSTREAMS_MAX && file->command_count <= COMMANDS_MAX);
	for (size_t i = 0; i < file->upstream_count; i++)
		CHECK(config_upstream_equal(&file->upstreams[i], &file->upstreams[i]));
	for (size_t i = 0; i < file->command_count; i++) {
		const struct config_command *command = &file->commands[i];

		CHECK(command->upstream < file->upstream_count);
		if (!command->prefix)
			CHECK(config_route(file, span_from_cstr(command->message_type)) ==
			      (int)command->upstream);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf told;
	struct arena memory;

	buf_init(&told, REPORT_MAX);
	arena_init(&memory, ROUTES_FILE_MAX);

	struct config_file file = {.memory = &memory};
	struct report report = {.out = &told};
	uint8_t *copy = fuzz_copy(span_make(data, size));
	int result = routes_parse(&file, "fuzz.yaml", span_make(copy, size), &report);

	CHECK(result == 0 && (report.mistake_count == 0 || told.len > 0));
	CHECK(span_is_utf8(buf_span(&told)));
	if (report.mistake_count == 0)
		check_file(&file);
	free(copy);
	arena_finish(&memory);
	buf_finish(&told);
	return 0;
}
