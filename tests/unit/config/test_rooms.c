/* rooms: which gateways are on by what is configured, and what is then said to no effect. */
#include "unit/config/loaded.h"

#define ADDRESS "GATEWAY_SESSION_CACHE_REDIS_ADDR=redis:6379"
#define NOTHING                                                                                    \
	"configuration: nothing to do, no gateway is configured; the edge gateway needs "          \
	"GATEWAY_SESSION_CACHE_REDIS_ADDR, GATEWAY_SESSION_EVENTS_REDIS_STREAM, "                  \
	"GATEWAY_CLIENT_EVENTS_REDIS_STREAM, GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH; the "   \
	"API gateway needs a section rest in GATEWAY_CONFIG_FILE\n"

#define UPSTREAMS "upstreams: { one: { addresses: [\"one:1\"] } }\n"
#define COMMANDS  "commands:\n  - { message_type: a, upstream: one }\n"
/* The third line, where it comes behind the two. */
#define REST	  "rest: { base_path: /api }\n"
#define REST_EDGE "rest: { grpc_web: [galaxy.gateway.v1.EdgeGateway] }\n"

static const char *write_file(const char *text)
{
	static char path[64];

	snprintf(path, sizeof(path), "/tmp/test-rooms-XXXXXX");
	put_file(path, span_from_cstr(text));
	return path;
}

/* The report with the file's path replaced by "F". */
static struct loaded load_with(const char *file, char *const *more)
{
	const char *path = file ? write_file(file) : "";
	char variable[128], *environment[16];
	size_t count = 0, len = strlen(path);

	snprintf(variable, sizeof(variable), "GATEWAY_CONFIG_FILE=%s", path);
	environment[count++] = variable;
	for (; *more; more++)
		environment[count++] = *more;
	environment[count] = NULL;
	struct loaded loaded = load(environment);

	for (char *at = loaded.report; len > 0 && (at = strstr(at, path)) != NULL; at++) {
		*at = 'F';
		memmove(at + 1, at + len, strlen(at + len) + 1);
	}
	if (file)
		unlink(path);
	return loaded;
}

static void gateways_are_on_by_what_is_configured(void **state)
{
	const struct {
		const char *file; /* NULL: none */
		char *const *variables;
		bool has_config, has_edge, has_rest;
		const char *report;
	} rows[] = {
		{NULL, ENVIRONMENT(REQUIRED), true, true, false, ""},
		{UPSTREAMS COMMANDS, ENVIRONMENT(REQUIRED), true, true, false, ""},
		{UPSTREAMS COMMANDS REST_EDGE, ENVIRONMENT(REQUIRED), true, true, true, ""},
		{UPSTREAMS REST, ENVIRONMENT("PATH=/bin"), true, false, true, ""},
		{NULL, ENVIRONMENT("PATH=/bin"), false, false, false, NOTHING},
		{"", ENVIRONMENT("PATH=/bin"), false, false, false, NOTHING},
		{UPSTREAMS COMMANDS, ENVIRONMENT("PATH=/bin"), false, false, false, NOTHING},
		/* not even with other variables of its own */
		{NULL, ENVIRONMENT("GATEWAY_FRESHNESS_WINDOW=1m"), false, false, false, NOTHING},
		{UPSTREAMS REST, ENVIRONMENT("GATEWAY_SESSION_CACHE_REDIS_ADDR="), true, false,
		 true, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct loaded loaded = load_with(rows[i].file, rows[i].variables);

		assert_string_equal(loaded.report, rows[i].report);
		assert_int_equal(loaded.config != NULL, rows[i].has_config);
		if (loaded.config) {
			assert_int_equal(config_has_edge(loaded.config), rows[i].has_edge);
			assert_int_equal(loaded.config->file->rest != NULL, rows[i].has_rest);
		}
		unload(&loaded);
	}
}

/* The API gateway does not make up for what the edge gateway lacks. */
static void one_required_variable_requires_all_beside_rest_too(void **state)
{
	(void)state;
	struct loaded loaded = load_with(UPSTREAMS COMMANDS REST, ENVIRONMENT(ADDRESS));

	assert_null(loaded.config);
	assert_string_equal(loaded.report,
			    "GATEWAY_SESSION_EVENTS_REDIS_STREAM: is required, because "
			    "GATEWAY_SESSION_CACHE_REDIS_ADDR is set\n"
			    "GATEWAY_CLIENT_EVENTS_REDIS_STREAM: is required, because "
			    "GATEWAY_SESSION_CACHE_REDIS_ADDR is set\n"
			    "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH: is required, because "
			    "GATEWAY_SESSION_CACHE_REDIS_ADDR is set\n");
	unload(&loaded);
}

#define NO_EFFECT "has no effect, because the edge gateway is not configured\n"

static void what_only_the_edge_gateway_uses_is_warned_of(void **state)
{
	(void)state;
	struct loaded loaded =
		load_with(UPSTREAMS COMMANDS REST_EDGE,
			  ENVIRONMENT("GATEWAY_AUTHENTICATED_GRPC_ADDR=:9090", "GATEWAY_WORKERS=1",
				      "GATEWAY_SESSION_CACHE_REDIS_TLS_KEY_FILE=k",
				      "GATEWAY_GRPC_MAX_MESSAGE_BYTES=1MiB"));

	assert_non_null(loaded.config);
	assert_string_equal(loaded.report,
			    "warning: F:3:3: commands " NO_EFFECT
			    "warning: F:4:20: grpc_web: galaxy.gateway.v1.EdgeGateway " NO_EFFECT
			    "warning: GATEWAY_AUTHENTICATED_GRPC_ADDR: " NO_EFFECT
			    "warning: GATEWAY_SESSION_CACHE_REDIS_TLS_KEY_FILE: " NO_EFFECT);
	unload(&loaded);
}

/* A broken file may have had what is asked for; a broken variable might have been the one. */
static void beside_other_mistakes_there_is_no_guess(void **state)
{
	(void)state;
	struct loaded loaded = load_with("rest: [\n", ENVIRONMENT("GATEWAY_FRESHNESS_WINDOW=1m"));

	assert_null(loaded.config);
	assert_null(strstr(loaded.report, "nothing to do"));
	assert_null(strstr(loaded.report, "no effect"));
	unload(&loaded);
	loaded = load_with(REST, ENVIRONMENT("GATEWAY_SESSION_CACHE_REDIS_ADDR=nowhere",
					     "GATEWAY_FRESHNESS_WINDOW=1m"));
	assert_null(loaded.config);
	assert_null(strstr(loaded.report, "no effect"));
	unload(&loaded);
}

/* Whether the file may take the place of the one in use; its report. */
static bool reload(struct config *config, const char *text, struct buf *report)
{
	char path[] = "/tmp/test-rooms-XXXXXX";

	put_file(path, span_from_cstr(text));
	config->config_file = path;

	struct config_file *file = config_file_reload(config, NULL, report);

	unlink(path);
	config_file_put(file);
	buf_append_byte(report, '\0');
	return file != NULL;
}

static void reload_may_not_leave_nothing_to_do(void **state)
{
	const struct {
		char *const *variables;
		const char *file;
		bool is_taken;
		const char *report; /* in it */
	} rows[] = {
		{ENVIRONMENT("PATH=/bin"), UPSTREAMS, false, NOTHING},
		{ENVIRONMENT("PATH=/bin"), UPSTREAMS REST, true, ""},
		{ENVIRONMENT("PATH=/bin"), UPSTREAMS COMMANDS REST, true,
		 ":3:3: commands " NO_EFFECT},
		{ENVIRONMENT(REQUIRED), UPSTREAMS, true, ""},
		{ENVIRONMENT(REQUIRED), UPSTREAMS COMMANDS REST, true, ""},
		{ENVIRONMENT(REQUIRED), "", true, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct loaded loaded = load_with(REST, rows[i].variables);
		struct buf report;

		assert_non_null(loaded.config);
		buf_init(&report, 1 << 20);
		assert_int_equal(reload(loaded.config, rows[i].file, &report), rows[i].is_taken);
		assert_non_null(strstr((char *)report.data, rows[i].report));
		assert_int_equal(report.len > 1, rows[i].report[0] != '\0');
		buf_finish(&report);
		unload(&loaded);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gateways_are_on_by_what_is_configured),
		cmocka_unit_test(one_required_variable_requires_all_beside_rest_too),
		cmocka_unit_test(what_only_the_edge_gateway_uses_is_warned_of),
		cmocka_unit_test(beside_other_mistakes_there_is_no_guess),
		cmocka_unit_test(reload_may_not_leave_nothing_to_do),
	};

	return cmocka_run_group_tests_name("config/rooms", tests, NULL, NULL);
}
