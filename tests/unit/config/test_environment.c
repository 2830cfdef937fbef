/* environment: variables, defaults, required rows, secrets, unknown names. */
#include "unit/config/loaded.h"

#include "base/vault.h"

static void defaults_are_the_contract_s(void **state)
{
	(void)state;
	struct loaded loaded = load(ENVIRONMENT(REQUIRED));
	const struct config *config = loaded.config;

	assert_string_equal(loaded.report, "");
	assert_non_null(config);
	assert_true(config->public_http_addr.set);
	assert_int_equal(config->public_http_addr.endpoint.kind, ENDPOINT_ANY);
	assert_int_equal(config->public_http_addr.endpoint.port, 8080);
	assert_int_equal(config->authenticated_grpc_addr.endpoint.port, 9090);
	assert_false(config->admin_http_addr.set);
	assert_string_equal(config->redis_addr.endpoint.host, "redis");
	assert_string_equal(config->session_events_stream, "sessions");
	assert_string_equal(config->redis_password, "");
	assert_string_equal(config->redis_key_prefix, "gateway:session:");
	assert_int_equal(config->redis_lookup_timeout_ms, 250);
	assert_int_equal(config->session_cache_ttl_ms, 600000);
	assert_int_equal(config->push_queue_capacity, 256);
	assert_int_equal(config->push_max_queued_bytes, 1 << 30);
	assert_int_equal(config->grpc_max_message_bytes, 4 << 20);
	assert_int_equal(config->shutdown_timeout_ms, 10000);
	assert_int_equal(config->log_level, LOG_INFO);
	assert_int_equal(config->log_format, LOG_JSON);
	assert_int_equal(config->access_log, ACCESS_LOG_ERRORS);
	assert_int_equal(config->file->upstream_count, 0);
	assert_int_equal(config_route(config->file, SPAN("any")), -1);
	unload(&loaded);
}

static void values_of_every_kind_are_taken(void **state)
{
	(void)state;
	struct loaded loaded = load(ENVIRONMENT(
		REQUIRED, "GATEWAY_PUBLIC_HTTP_ADDR=unix:/run/ringway.sock",
		"GATEWAY_ADMIN_HTTP_ADDR=[::1]:0", "GATEWAY_SESSION_CACHE_REDIS_PASSWORD=p=w",
		"GATEWAY_SESSION_CACHE_REDIS_KEY_PREFIX=", "GATEWAY_SESSION_CACHE_REDIS_DB=7",
		"GATEWAY_FRESHNESS_WINDOW=1m30s", "GATEWAY_GRPC_MAX_MESSAGE_BYTES=1MiB",
		"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY=8", "GATEWAY_LOG_LEVEL=debug",
		"GATEWAY_LOG_FORMAT=text", "GATEWAY_ACCESS_LOG=all", "GATEWAY_WORKERS=",
		"GATEWAY_LOG_LEVEL=error", "PATH=/bin", "NOT_GATEWAY_=1", "GATEWAY_", "=x"));
	const struct config *config = loaded.config;

	assert_string_equal(loaded.report, "");
	assert_non_null(config);
	assert_string_equal(config->public_http_addr.endpoint.path, "/run/ringway.sock");
	assert_true(config->admin_http_addr.set);
	assert_string_equal(config->redis_password, "p=w");
	assert_string_equal(config->redis_key_prefix, ""); /* free text: empty is a value */
	assert_int_equal(config->redis_db, 7);
	assert_int_equal(config->freshness_window_ms, 90000);
	assert_int_equal(config->grpc_max_message_bytes, 1 << 20);
	assert_int_equal(config->push_queue_capacity, 8);
	assert_int_equal(config->log_level, LOG_DEBUG); /* the first of two, as getenv */
	assert_int_equal(config->log_format, LOG_TEXT);
	assert_int_equal(config->access_log, ACCESS_LOG_ALL);
	assert_int_equal(config->workers, 0); /* empty: as if absent */
	unload(&loaded);
}

static void nothing_configured_lists_what_is_needed(void **state)
{
	(void)state;
	assert_report(ENVIRONMENT("PATH=/bin"), false,
		      "configuration: nothing to do, no gateway is configured; the edge gateway "
		      "needs GATEWAY_SESSION_CACHE_REDIS_ADDR, "
		      "GATEWAY_SESSION_EVENTS_REDIS_STREAM, GATEWAY_CLIENT_EVENTS_REDIS_STREAM, "
		      "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH; the API gateway needs a "
		      "section rest in GATEWAY_CONFIG_FILE\n");
}

static void one_required_variable_requires_all(void **state)
{
	(void)state;
	char *const all[] = { REQUIRED };

	/* Every choice of the four but none and all. */
	for (unsigned set = 1; set < 15; set++) {
		char *some[5] = { 0 };
		size_t count = 0, lines = 0;

		for (size_t i = 0; i < 4; i++) {
			if (set & (1u << i))
				some[count++] = all[i];
		}

		struct loaded loaded = load(some);

		assert_null(loaded.config);
		for (const char *at = loaded.report; *at; at++)
			lines += *at == '\n';
		assert_int_equal(lines, 4 - count);
		for (size_t i = 0; i < 4; i++) {
			char wanted[128];

			snprintf(wanted, sizeof(wanted), "%.*s: is required, because ",
				 (int)strcspn(all[i], "="), all[i]);
			assert_int_equal(strstr(loaded.report, wanted) != NULL,
					 !(set & (1u << i)));
		}
		unload(&loaded);
	}
}

static void every_mistake_is_in_one_report(void **state)
{
	(void)state;
	assert_report(
		ENVIRONMENT(REQUIRED, "GATEWAY_PUBLIC_HTTP_ADDR=8080",
			    "GATEWAY_SESSION_CACHE_REDIS_DB=65536",
			    "GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT=0",
			    "GATEWAY_SESSION_CACHE_TTL=10",
			    "GATEWAY_PUSH_STREAM_QUEUE_CAPACITY=100", "GATEWAY_WORKERS=-1",
			    "GATEWAY_PUSH_MAX_QUEUED_BYTES=1kb",
			    "GATEWAY_SESSION_CACHE_REDIS_USERNAME=a\nb",
			    "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_USER_BURST=0",
			    "GATEWAY_LOG_LEVEL=loud", "GATEWAY_ACCESS_LOG=some"),
		false,
		"GATEWAY_PUBLIC_HTTP_ADDR: \"8080\" is no address (host:port, [v6]:port, :port, "
		"unix:/path)\n"
		"GATEWAY_SESSION_CACHE_REDIS_USERNAME: must not contain control characters\n"
		"GATEWAY_SESSION_CACHE_REDIS_DB: \"65536\" is not between 0 and 65535\n"
		"GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT: \"0\" is not between 1ms and 1m\n"
		"GATEWAY_SESSION_CACHE_TTL: \"10\" is no duration (250ms, 5s, 1m30s, 0)\n"
		"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY: \"100\" is no power of two\n"
		"GATEWAY_PUSH_MAX_QUEUED_BYTES: \"1kb\" is no size (bytes, KiB, MiB, GiB)\n"
		"GATEWAY_WORKERS: \"-1\" is no whole number\n"
		"GATEWAY_LOG_LEVEL: \"loud\" is not debug, info, warn or error\n"
		"GATEWAY_ACCESS_LOG: \"some\" is not off, errors or all\n"
		"GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_USER_BURST: must be at least 1 unless "
		"..._USER_REQUESTS is 0\n");
}

static void redis_must_be_an_address_to_connect_to(void **state)
{
	(void)state;
	static const struct {
		const char *value, *wrong;
	} rows[] = {
		{ ":6379", "needs a host before the port" },
		{ "redis:0", "port 0 cannot be connected to" },
		{ "redis", "\"redis\" is no address (host:port, [v6]:port, unix:/path)" },
		{ "redis:65536", "\"redis:65536\" is no address (host:port, [v6]:port, unix:/path)" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char variable[128], wanted[256];
		struct loaded loaded;

		snprintf(variable, sizeof(variable), "GATEWAY_SESSION_CACHE_REDIS_ADDR=%s",
			 rows[i].value);
		snprintf(wanted, sizeof(wanted), "GATEWAY_SESSION_CACHE_REDIS_ADDR: %s\n",
			 rows[i].wrong);
		loaded = load(ENVIRONMENT(variable, REQUIRED));
		assert_null(loaded.config);
		assert_non_null(strstr(loaded.report, wanted));
		unload(&loaded);
	}
}

static void unknown_names_are_warnings_with_the_nearest(void **state)
{
	(void)state;
	assert_report(ENVIRONMENT(REQUIRED, "GATEWAY_LOG_LEVLE=debug",
				  "GATEWAY_SESSION_CACHE_REDIS_PASWORD_FILE=/run/secret",
				  "GATEWAY_LOG_LEVEL_FILE=/x", "GATEWAY_WORKERZ\x1b=1"),
		      true,
		      "warning: GATEWAY_LOG_LEVLE: unknown variable; the nearest known name is "
		      "GATEWAY_LOG_LEVEL\n"
		      "warning: GATEWAY_SESSION_CACHE_REDIS_PASWORD_FILE: unknown variable; the "
		      "nearest known name is GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE\n"
		      "warning: GATEWAY_LOG_LEVEL_FILE: unknown variable; the nearest known name "
		      "is GATEWAY_LOG_LEVEL\n"
		      "warning: GATEWAY_WORKERZ\\x1b: unknown variable; the nearest known name is "
		      "GATEWAY_WORKERS\n");
}

static void secret_file_loses_one_newline_only(void **state)
{
	(void)state;
	static const struct {
		struct span bytes;
		const char *secret;
	} rows[] = {
		{ SPAN("hunter2"), "hunter2" },     { SPAN("hunter2\n"), "hunter2" },
		{ SPAN("hunter2\r\n"), "hunter2" }, { SPAN("two\n\n"), "two\n" },
		{ SPAN(" blanks \n"), " blanks " }, { SPAN("\n"), "" },
		{ SPAN(""), "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char path[] = "/tmp/test-secret-XXXXXX";
		char variable[128];

		put_file(path, rows[i].bytes);
		snprintf(variable, sizeof(variable),
			 "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=%s", path);

		struct loaded loaded = load(ENVIRONMENT(REQUIRED, variable));

		assert_string_equal(loaded.report, "");
		assert_non_null(loaded.config);
		assert_string_equal(loaded.config->redis_password, rows[i].secret);
		unload(&loaded);
		unlink(path);
	}
}

static void secret_file_that_cannot_be_taken_is_a_mistake(void **state)
{
	(void)state;
	static uint8_t large[4099];
	char with_nul[] = "/tmp/test-secret-XXXXXX", too_large[] = "/tmp/test-secret-XXXXXX";
	char just_fits[] = "/tmp/test-secret-XXXXXX";
	char variable[128];

	memset(large, 'x', sizeof(large));
	put_file(with_nul, SPAN("a\0b\n"));
	put_file(too_large, span_make(large, sizeof(large)));
	large[4096] = '\n';
	put_file(just_fits, span_make(large, 4097));

	assert_report(
		ENVIRONMENT(REQUIRED, "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=/no/such"), false,
		"GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE: cannot read \"/no/such\": "
		"No such file or directory\n");
	assert_report(ENVIRONMENT(REQUIRED, "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=/tmp"),
		      false,
		      "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE: cannot read \"/tmp\": "
		      "Is a directory\n");
	snprintf(variable, sizeof(variable), "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=%s",
		 with_nul);
	assert_report(ENVIRONMENT(REQUIRED, variable), false,
		      "GATEWAY_SESSION_CACHE_REDIS_PASSWORD: must not contain NUL\n");
	assert_report(ENVIRONMENT(REQUIRED, variable, "GATEWAY_SESSION_CACHE_REDIS_PASSWORD=x"),
		      false,
		      "GATEWAY_SESSION_CACHE_REDIS_PASSWORD: is set, and so is "
		      "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE: only one may be\n");
	snprintf(variable, sizeof(variable), "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=%s",
		 too_large);

	struct loaded loaded = load(ENVIRONMENT(REQUIRED, variable));

	assert_null(loaded.config);
	assert_non_null(strstr(loaded.report, "File too large"));
	unload(&loaded);
	snprintf(variable, sizeof(variable), "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=%s",
		 just_fits);
	assert_report(ENVIRONMENT(REQUIRED, variable), true, "");
	unlink(with_nul);
	unlink(too_large);
	unlink(just_fits);
}

static void secret_never_shows_in_a_report(void **state)
{
	(void)state;
	static char variable[5000] = "GATEWAY_SESSION_CACHE_REDIS_PASSWORD=";

	memset(variable + strlen(variable), 'S', 4097);

	struct loaded loaded = load(ENVIRONMENT(REQUIRED, variable));

	assert_null(loaded.config);
	assert_string_equal(loaded.report,
			    "GATEWAY_SESSION_CACHE_REDIS_PASSWORD: must have 0 to 4096 bytes\n");
	unload(&loaded);
}

/* The lines of systemd/ringway.env, with or without those that are commented out. */
static size_t example_lines(char **lines, size_t max, bool commented)
{
	FILE *file = fopen("systemd/ringway.env", "r");
	char *line = NULL;
	size_t cap = 0, count = 0;

	if (!file)
		return 0;
	while (getline(&line, &cap, file) > 0 && count < max) {
		const char *start = line + (commented && line[0] == '#');

		line[strcspn(line, "\n")] = '\0';
		if (strncmp(start, "GATEWAY_", 8) == 0)
			lines[count++] = strdup(start);
	}
	free(line);
	fclose(file);
	lines[count] = NULL;
	return count;
}

static void example_of_the_unit_is_valid(void **state)
{
	(void)state;
	char *lines[65];

	for (int commented = 0; commented < 2; commented++) {
		size_t count = example_lines(lines, 64, commented);

		if (count == 0) {
			printf("skip: not run from the top of the tree\n");
			skip();
		}

		struct loaded loaded = load(lines);

		/* The files that the commented ones name are not here; their names must be known. */
		assert_null(strstr(loaded.report, "unknown"));
		if (!commented)
			assert_string_equal(loaded.report, "");
		unload(&loaded);
		while (count > 0)
			free(lines[--count]);
	}
}

static void report_without_room_still_refuses(void **state)
{
	(void)state;
	struct buf report;

	buf_init(&report, 0);
	assert_null(config_load(ENVIRONMENT("GATEWAY_WORKERS=x"), NULL, &report));
	buf_finish(&report);
}

/* Stars where the secret was, of every variable of that name, and of no other. */
static void environment_forgets_secrets_and_knows_that_they_were_there(void **state)
{
	char password[] = "GATEWAY_SESSION_CACHE_REDIS_PASSWORD=p=w";
	char again[] = "GATEWAY_SESSION_CACHE_REDIS_PASSWORD=other";
	char path[] = "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=";
	char user[] = "GATEWAY_SESSION_CACHE_REDIS_USERNAME=p=w";
	char *environment[] = { REQUIRED, password, again, path, user, NULL };
	struct loaded loaded = load(environment);
	struct buf out;

	(void)state;
	assert_non_null(loaded.config);
	config_forget_environment(environment);
	assert_string_equal(password, "GATEWAY_SESSION_CACHE_REDIS_PASSWORD=***");
	assert_string_equal(again, "GATEWAY_SESSION_CACHE_REDIS_PASSWORD=*****");
	assert_string_equal(path, "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE=");
	assert_string_equal(user, "GATEWAY_SESSION_CACHE_REDIS_USERNAME=p=w");
	assert_string_equal(loaded.config->redis_password, "p=w");
	assert_int_equal(config_secrets_are_locked(loaded.config),
			 vault_is_locked(loaded.config->redis_password));
	buf_init(&out, 1 << 20);
	assert_int_equal(config_write_values(loaded.config, environment, &out), 0);
	buf_append_byte(&out, 0);
	assert_non_null(strstr((char *)out.data, "REDIS_PASSWORD=********  # environment"));
	buf_finish(&out);
	unload(&loaded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_the_contract_s),
		cmocka_unit_test(values_of_every_kind_are_taken),
		cmocka_unit_test(nothing_configured_lists_what_is_needed),
		cmocka_unit_test(one_required_variable_requires_all),
		cmocka_unit_test(every_mistake_is_in_one_report),
		cmocka_unit_test(redis_must_be_an_address_to_connect_to),
		cmocka_unit_test(unknown_names_are_warnings_with_the_nearest),
		cmocka_unit_test(secret_file_loses_one_newline_only),
		cmocka_unit_test(secret_file_that_cannot_be_taken_is_a_mistake),
		cmocka_unit_test(secret_never_shows_in_a_report),
		cmocka_unit_test(example_of_the_unit_is_valid),
		cmocka_unit_test(report_without_room_still_refuses),
		cmocka_unit_test(environment_forgets_secrets_and_knows_that_they_were_there),
	};

	return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
