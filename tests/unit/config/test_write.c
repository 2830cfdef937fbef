/* write: --help, --print-config and the README's table come from one table. */
#include "config/option.h"

#include "unit/config/loaded.h"

static char *text_of(struct buf *out)
{
	buf_append_byte(out, '\0');
	assert_false(out->failed);
	return (char *)out->data;
}

static void help_and_markdown_name_every_variable_once(void **state)
{
	(void)state;
	struct buf help, markdown;

	buf_init(&help, 1 << 20);
	buf_init(&markdown, 1 << 20);
	assert_int_equal(config_write_help(&help, "ringway"), 0);
	assert_int_equal(config_write_markdown(&markdown), 0);

	const char *help_text = text_of(&help), *markdown_text = text_of(&markdown);

	assert_memory_equal(help_text, "Usage: ringway [OPTION]\n", 24);
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);
		char line[256];

		snprintf(line, sizeof(line), "\n  %s%s\n      %s [", row->variable,
			 row->kind == OPTION_KIND_SECRET ? " (or ..._FILE)" : "", row->help);
		assert_non_null(strstr(help_text, line));
		snprintf(line, sizeof(line), "\n| `%s` | ", row->variable);

		const char *at = strstr(markdown_text, line);

		assert_non_null(at);
		assert_null(strstr(at + 1, line));
	}
	assert_non_null(strstr(help_text, "[default 256; 8 to 65536, a power of two]"));
	assert_non_null(strstr(help_text, "[required by the edge gateway]"));
	assert_non_null(strstr(markdown_text, "| `4MiB` | 1KiB to 64MiB | largest gRPC message |"));
	buf_finish(&help);
	buf_finish(&markdown);
}

static void values_show_origin_and_mask_secrets(void **state)
{
	(void)state;
	char routes[] = "/tmp/test-write-XXXXXX", secret[] = "/tmp/test-write-XXXXXX";
	char file_variable[128], secret_variable[128];
	struct buf out;

	put_file(routes, SPAN("upstreams: { fleet: { addresses: ['h:1', 'unix:/s'] } }\n"
			      "commands: [{ message_type: 'f.*', upstream: fleet }]\n"));
	put_file(secret, SPAN("hunter2\n"));
	snprintf(file_variable, sizeof(file_variable), "GATEWAY_CONFIG_FILE=%s", routes);
	snprintf(secret_variable, sizeof(secret_variable),
		 "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=%s", secret);

	char *const environment[] = { REQUIRED,
				      file_variable,
				      secret_variable,
				      "GATEWAY_LOG_LEVEL=debug",
				      "GATEWAY_HTTP_IDLE_TIMEOUT=90s",
				      "GATEWAY_ADMIN_HTTP_ADDR=127.0.0.1:9100",
				      NULL };
	struct loaded loaded = load(environment);

	assert_string_equal(loaded.report, "");
	buf_init(&out, 1 << 20);
	assert_int_equal(config_write_values(loaded.config, environment, &out), 0);
	assert_int_equal(config_write_file(loaded.config->file, &out), 0);

	const char *text = text_of(&out);
	static const char *const lines[] = {
		"GATEWAY_PUBLIC_HTTP_ADDR=:8080  # default\n",
		"GATEWAY_ADMIN_HTTP_ADDR=127.0.0.1:9100  # environment, default empty\n",
		"GATEWAY_SESSION_CACHE_REDIS_ADDR=redis:6379  # environment, required by the edge "
		"gateway\n",
		"GATEWAY_SESSION_CACHE_REDIS_PASSWORD=********  # file, default empty\n",
		"GATEWAY_LOG_LEVEL=debug  # environment, default info\n",
		"GATEWAY_HTTP_IDLE_TIMEOUT=1m30s  # environment, default 75s\n",
		"GATEWAY_GRPC_MAX_MESSAGE_BYTES=4MiB  # default\n",
		("# upstream fleet: addresses=h:1,unix:/s deadline=2s connections=2 "
		 "max_in_flight=1024 health=true health_interval=5s "
		 "breaker=failures:10,ratio:80,calls:20,window:10s,open:2s\n"),
		"# command f.*: upstream=fleet\n",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (!strstr(text, lines[i]))
			fail_msg("missing: %s in\n%s", lines[i], text);
	}
	assert_null(strstr(text, "hunter2"));
	buf_finish(&out);
	unload(&loaded);
	unlink(routes);
	unlink(secret);
}

static void writing_without_room_says_so(void **state)
{
	(void)state;
	struct loaded loaded = load(ENVIRONMENT(REQUIRED));
	struct buf out;

	buf_init(&out, 100);
	assert_true(config_write_help(&out, "ringway") < 0);
	buf_clear(&out, 0);
	assert_true(config_write_markdown(&out) < 0);
	buf_clear(&out, 0);
	assert_true(config_write_values(loaded.config, ENVIRONMENT(REQUIRED), &out) < 0);
	buf_finish(&out);
	unload(&loaded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(help_and_markdown_name_every_variable_once),
		cmocka_unit_test(values_show_origin_and_mask_secrets),
		cmocka_unit_test(writing_without_room_says_so),
	};

	return cmocka_run_group_tests_name("write", tests, NULL, NULL);
}
