/* The table of edge.md §7, written by hand from it: every variable is there with the default given
 * there. */
#include "unit/config/loaded.h"

#include "base/check.h"
#include "config/option.h"

struct row {
	const char *variable;
	const char *fallback; /* NULL: required */
};

#define BUDGET(prefix, requests, window, burst)                                                    \
	{prefix "_REQUESTS", requests}, {prefix "_WINDOW", window},                                \
	{                                                                                          \
		prefix "_BURST", burst                                                             \
	}
#define CLASS(name, limit, requests, window, burst)                                                \
	{"GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_" name "_BODY_LIMIT", limit},                             \
		BUDGET("GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_" name, requests, window, burst)
#define CALLS(name, requests, window, burst)                                                       \
	BUDGET("GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_" name, requests, window, burst)

/* What the contract says in words is empty or 0 here: "system", "host", "one per CPU", "workers ×
 * …". */
static const struct row rows[] = {
	{"GATEWAY_PUBLIC_HTTP_ADDR", ":8080"},
	{"GATEWAY_AUTHENTICATED_GRPC_ADDR", ":9090"},
	{"GATEWAY_ADMIN_HTTP_ADDR", ""},
	{"GATEWAY_SESSION_CACHE_REDIS_ADDR", NULL},
	{"GATEWAY_SESSION_EVENTS_REDIS_STREAM", NULL},
	{"GATEWAY_CLIENT_EVENTS_REDIS_STREAM", NULL},
	{"GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH", NULL},
	{"GATEWAY_SESSION_CACHE_REDIS_USERNAME", ""},
	{"GATEWAY_SESSION_CACHE_REDIS_PASSWORD", ""},
	{"GATEWAY_SESSION_CACHE_REDIS_DB", "0"},
	{"GATEWAY_SESSION_CACHE_REDIS_TLS_ENABLED", "false"},
	{"GATEWAY_SESSION_CACHE_REDIS_TLS_CA_FILE", ""},
	{"GATEWAY_SESSION_CACHE_REDIS_TLS_CERT_FILE", ""},
	{"GATEWAY_SESSION_CACHE_REDIS_TLS_KEY_FILE", ""},
	{"GATEWAY_SESSION_CACHE_REDIS_TLS_SERVER_NAME", ""},
	{"GATEWAY_SESSION_CACHE_REDIS_KEY_PREFIX", "gateway:session:"},
	{"GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT", "250ms"},
	{"GATEWAY_SESSION_CACHE_MAX_ENTRIES", "100000"},
	{"GATEWAY_SESSION_CACHE_TTL", "10m"},
	{"GATEWAY_SESSION_CACHE_NEGATIVE_TTL", "1s"},
	{"GATEWAY_REPLAY_REDIS_KEY_PREFIX", "gateway:replay:"},
	{"GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT", "250ms"},
	{"GATEWAY_SESSION_EVENTS_REDIS_READ_BLOCK_TIMEOUT", "1s"},
	{"GATEWAY_CLIENT_EVENTS_REDIS_READ_BLOCK_TIMEOUT", "1s"},
	{"GATEWAY_FRESHNESS_WINDOW", "5m"},
	{"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY", "256"},
	{"GATEWAY_PUSH_MAX_QUEUED_BYTES", "1GiB"},
	{"GATEWAY_PUSH_MAX_STREAMS_PER_SESSION", "8"},
	{"GATEWAY_PUSH_HEARTBEAT_INTERVAL", "0"},
	{"GATEWAY_AUTH_SERVICE_BASE_URL", ""},
	{"GATEWAY_AUTH_SERVICE_TIMEOUT", "3s"},
	{"GATEWAY_CONFIG_FILE", ""},
	{"GATEWAY_WORKERS", "0"},
	{"GATEWAY_SHUTDOWN_TIMEOUT", "10s"},
	{"GATEWAY_SHUTDOWN_DELAY", "0s"},
	{"GATEWAY_TRUSTED_PROXIES", ""},
	{"GATEWAY_GRPC_MAX_MESSAGE_BYTES", "4MiB"},
	{"GATEWAY_GRPC_REFLECTION_ENABLED", "false"},
	{"GATEWAY_GRPC_KEEPALIVE_INTERVAL", "2h"},
	{"GATEWAY_GRPC_KEEPALIVE_TIMEOUT", "20s"},
	{"GATEWAY_GRPC_MIN_PING_INTERVAL", "5m"},
	{"GATEWAY_GRPC_MAX_CONNECTION_AGE", "0"},
	{"GATEWAY_GRPC_MAX_CONNECTION_IDLE", "0"},
	{"GATEWAY_HTTP_HEADER_TIMEOUT", "5s"},
	{"GATEWAY_HTTP_BODY_TIMEOUT", "10s"},
	{"GATEWAY_HTTP_IDLE_TIMEOUT", "75s"},
	{"GATEWAY_HTTP_MAX_HEADER_BYTES", "16KiB"},
	{"GATEWAY_MAX_CONNECTIONS", "0"},
	{"GATEWAY_MAX_CONNECTIONS_PER_IP", "0"},
	CLASS("PUBLIC_AUTH", "8KiB", "30", "1m", "10"),
	CLASS("BROWSER_BOOTSTRAP", "0", "120", "1m", "60"),
	CLASS("BROWSER_ASSET", "0", "600", "1m", "300"),
	CLASS("REST_API", "4MiB", "0", "1m", "0"),
	CLASS("PUBLIC_MISC", "8KiB", "60", "1m", "30"),
	BUDGET("GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH_IDENTITY", "5", "1m", "3"),
	CALLS("IP", "6000", "1m", "600"),
	CALLS("SESSION", "1200", "1m", "120"),
	CALLS("USER", "2400", "1m", "240"),
	CALLS("MESSAGE_TYPE", "0", "1m", "0"),
	{"GATEWAY_LOG_LEVEL", "info"},
	{"GATEWAY_LOG_FORMAT", "json"},
	{"GATEWAY_ACCESS_LOG", "errors"},
};

static const struct option_row *find(const char *variable)
{
	for (size_t i = 0; i < option_count(); i++)
		if (strcmp(option_row(i)->variable, variable) == 0)
			return option_row(i);
	return NULL;
}

static void every_variable_of_the_contract_has_its_default(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct option_row *option = find(rows[i].variable);
		const char *wanted = rows[i].fallback ? rows[i].fallback : "";

		if (!option)
			printf("missing: %s\n", rows[i].variable);
		else if (strcmp(option->fallback, wanted) != 0)
			printf("%s: default '%s', not '%s'\n", rows[i].variable, option->fallback,
			       wanted);
		else if (((option->flags & OPTION_REQUIRED) != 0) != (rows[i].fallback == NULL))
			printf("%s: required or not?\n", rows[i].variable);
		else
			continue;
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

static void queue_capacity_has_the_range_of_the_contract(void **state)
{
	const struct option_row *option = find("GATEWAY_PUSH_STREAM_QUEUE_CAPACITY");

	(void)state;
	assert_int_equal(option->min, 8);
	assert_int_equal(option->max, 65536);
	assert_true(option->flags & OPTION_POWER_OF_TWO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_variable_of_the_contract_has_its_default),
		cmocka_unit_test(queue_capacity_has_the_range_of_the_contract),
	};

	return cmocka_run_group_tests_name("contract", tests, NULL, NULL);
}
