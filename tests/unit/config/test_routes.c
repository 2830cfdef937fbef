/* routes: the YAML file, good and bad, and which command a message type takes. */
#include "config/routes.h"

#include "unit/config/loaded.h"

static const char example[] =
	"upstreams:\n"
	"  fleet:\n"
	"    addresses: [\"127.0.0.1:9200\", \"unix:/run/fleet.sock\"]   # round robin\n"
	"    deadline: 1m30s\n"
	"    connections: 3\n"
	"    max_in_flight: 77\n"
	"    health: false\n"
	"    health_interval: 250ms\n"
	"    breaker: { enabled: false, failures: 3, ratio: 50, calls: 4, window: 1s, open: 20ms }\n"
	"  chat: { addresses: [\"[::1]:1\"] }\n"
	"commands:\n"
	"  - { message_type: \"fleet.move\", upstream: chat }\n"
	"  - { message_type: \"fleet.*\",    upstream: fleet }\n";

static void example_of_the_contract_is_taken(void **state)
{
	(void)state;
	struct loaded loaded = load_file(span_from_cstr(example));
	const struct config *config = loaded.config;

	assert_string_equal(loaded.report, "");
	assert_non_null(config);
	assert_int_equal(config->file->upstream_count, 2);

	const struct config_upstream *fleet = &config->file->upstreams[0];
	const struct config_upstream *chat = &config->file->upstreams[1];

	assert_string_equal(fleet->name, "fleet");
	assert_int_equal(fleet->address_count, 2);
	assert_string_equal(fleet->addresses[0].host, "127.0.0.1");
	assert_int_equal(fleet->addresses[0].port, 9200);
	assert_string_equal(fleet->addresses[1].path, "/run/fleet.sock");
	assert_int_equal(fleet->deadline_ms, 90000);
	assert_int_equal(fleet->connections, 3);
	assert_int_equal(fleet->max_in_flight, 77);
	assert_false(fleet->health);
	assert_int_equal(fleet->health_interval_ms, 250);
	assert_string_equal(chat->name, "chat");
	assert_string_equal(chat->addresses[0].host, "::1");
	assert_int_equal(chat->deadline_ms, 2000);
	assert_int_equal(chat->connections, 2);
	assert_int_equal(chat->max_in_flight, 1024);
	assert_true(chat->health);
	assert_int_equal(chat->health_interval_ms, 5000);
	assert_false(fleet->breaker.enabled);
	assert_int_equal(fleet->breaker.failures, 3);
	assert_int_equal(fleet->breaker.ratio, 50);
	assert_int_equal(fleet->breaker.calls, 4);
	assert_int_equal(fleet->breaker.window_ms, 1000);
	assert_int_equal(fleet->breaker.open_ms, 20);
	assert_true(chat->breaker.enabled);
	assert_int_equal(chat->breaker.failures, 10);
	assert_int_equal(chat->breaker.ratio, 80);
	assert_int_equal(chat->breaker.calls, 20);
	assert_int_equal(chat->breaker.window_ms, 10000);
	assert_int_equal(chat->breaker.open_ms, 2000);
	assert_int_equal(config->file->command_count, 2);
	assert_int_equal(config_route(config->file, SPAN("fleet.move")), 1);
	assert_int_equal(config_route(config->file, SPAN("fleet.moves")), 0);
	assert_int_equal(config_route(config->file, SPAN("fleet.")), 0);
	assert_int_equal(config_route(config->file, SPAN("fleet")), -1);
	assert_int_equal(config_route(config->file, SPAN("")), -1);
	unload(&loaded);
}

static void longest_match_wins_and_exact_beats_prefix(void **state)
{
	(void)state;
	struct loaded loaded = load_file(SPAN("commands:\n"
					      "- { message_type: '*', upstream: all }\n"
					      "- { message_type: 'a*', upstream: a }\n"
					      "- { message_type: 'a.b.*', upstream: ab }\n"
					      "- { message_type: 'a.b.', upstream: exact }\n"
					      "- { message_type: 'a.b.c', upstream: exact }\n"
					      "- { message_type: 'a.b.c*', upstream: abc }\n"
					      "- { message_type: 'a.a', upstream: exact }\n"
					      "- { message_type: 'b.*', upstream: b }\n"
					      "upstreams:\n"
					      "  all: { addresses: ['h:1'] }\n"
					      "  a: { addresses: ['h:1'] }\n"
					      "  ab: { addresses: ['h:1'] }\n"
					      "  abc: { addresses: ['h:1'] }\n"
					      "  b: { addresses: ['h:1'] }\n"
					      "  exact: { addresses: ['h:1'] }\n"));
	static const struct {
		const char *type, *upstream;
	} rows[] = {
		{ "", "all" },        { "0", "all" },       { "z", "all" },      { "b", "all" },
		{ "b.", "b" },        { "b.x", "b" },       { "a", "a" },        { "a.", "a" },
		{ "a.a", "exact" },   { "a.aa", "a" },      { "a.b", "a" },      { "a.b.", "exact" },
		{ "a.b.b", "ab" },    { "a.b.c", "exact" }, { "a.b.cc", "abc" }, { "a.b.d", "ab" },
		{ "a.b.\x7f", "ab" }, { "a.c", "a" },       { "a~", "a" },       { "B.x", "all" },
	};

	assert_string_equal(loaded.report, "");
	assert_non_null(loaded.config);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int index = config_route(loaded.config->file, span_from_cstr(rows[i].type));

		assert_true(index >= 0);
		assert_string_equal(loaded.config->file->upstreams[index].name, rows[i].upstream);
	}
	assert_int_equal(config_route(loaded.config->file, SPAN("a.b.c\0")), 3); /* no string's end */
	unload(&loaded);
}

/* What the header promises, said slowly. */
static int route_slowly(const struct config_file *file, const char *type)
{
	int best = -1;
	size_t best_len = 0;

	for (size_t i = 0; i < file->command_count; i++) {
		const struct config_command *command = &file->commands[i];
		size_t len = strlen(command->message_type);
		bool hit = command->prefix ? strncmp(type, command->message_type, len) == 0
					   : strcmp(type, command->message_type) == 0;

		if (hit && (best < 0 || len > best_len || (len == best_len && !command->prefix))) {
			best = (int)command->upstream;
			best_len = len;
		}
	}
	return best;
}

static void route_agrees_with_a_slow_search(void **state)
{
	(void)state;
	enum { WORDS = 120 }; /* every word over {a,b,c} of up to 4 letters */
	static char words[WORDS + 1][8];
	static char texts[WORDS * 2][8];
	size_t count = 1;
	unsigned seed = 1;

	for (size_t from = 0; count < WORDS + 1 && from < count; from++) {
		for (char letter = 'a'; letter <= 'c' && count < WORDS + 1; letter++, count++) {
			memcpy(words[count], words[from], 8);
			words[count][strlen(words[from])] = letter;
		}
	}
	for (int round = 0; round < 200; round++) {
		static struct config_command commands[WORDS * 2];
		struct config_file file = { .commands = commands };

		for (size_t i = 0; i < count; i++) {
			for (int prefix = 0; prefix < 2; prefix++) {
				seed = seed * 1103515245u + 12345u;
				if ((seed >> 16) % 8 != 0 || (i == 0 && !prefix))
					continue;

				size_t n = file.command_count++;

				memcpy(texts[n], words[i], 8);
				commands[n] = (struct config_command){ .message_type = texts[n],
								       .prefix = prefix,
								       .upstream = (uint32_t)n };
			}
		}
		routes_link(commands, file.command_count);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(config_route(&file, span_from_cstr(words[i])),
					 route_slowly(&file, words[i]));
	}
}

static void empty_files_are_fine(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"", "\n", "# nothing\n", "---\n", "{}", "upstreams: {}\ncommands: []\n", "~",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_file(rows[i], "");
}

static void every_mistake_has_its_place(void **state)
{
	(void)state;
	assert_file("upstreams:\n"
		    "  fleet:\n"
		    "    addresses: [\":9200\", \"a:0\", \"a:1\", \"a:1\", ~, {}, \"a\"]\n"
		    "    deadlin: 2s\n"
		    "    connections: \"2\"\n"
		    "    max_in_flight: 0\n"
		    "    health: maybe\n"
		    "    health_interval: 5\n"
		    "  fleet: { addresses: [] }\n"
		    "  \"sp ace\": []\n"
		    "  none: { deadline: 0, deadline: 1s }\n"
		    "  ? [x]\n"
		    "  : { addresses: { a: 1 } }\n"
		    "commands:\n"
		    "  - { message_type: \"fleet.move\", upstream: chat }\n"
		    "  - { message_type: \"fleet.*\", upstream: fleet }\n"
		    "  - { message_type: \"fleet.*\", upstream: fleet }\n"
		    "  - { message_type: \"fl*eet\", upstream: none, x: y }\n"
		    "  - foo\n"
		    "  - { message_type: \"\" }\n"
		    "  - { message_type: \"a\\u00e9\", upstream: ~ }\n"
		    "  - { message_type: \"fleet.*\", upstream: none }\n"
		    "leftovers: {}\n"
		    "things: []\n",
		    "F:23:1: unknown key \"leftovers\"\n"
		    "F:24:1: unknown key \"things\"\n"
		    "F:3:17: \":9200\" needs a host before the port\n"
		    "F:3:26: \"a:0\": port 0 cannot be connected to\n"
		    "F:3:40: address \"a:1\" is here twice\n"
		    "F:3:47: an address must be a text\n"
		    "F:3:50: an address must be a text\n"
		    "F:3:54: \"a\" is no address (host:port, [v6]:port, unix:/path)\n"
		    "F:4:5: unknown key \"deadlin\"; the nearest known one is \"deadline\"\n"
		    "F:5:18: connections must be a whole number from 1 to 64\n"
		    "F:6:20: max_in_flight must be a whole number from 1 to 1000000\n"
		    "F:7:13: health must be true or false\n"
		    "F:8:22: health_interval must be a duration (250ms, 5s, 1m30s) from 10ms to 1h\n"
		    "F:9:3: upstream \"fleet\" is here twice\n"
		    "F:9:23: addresses must not be empty\n"
		    "F:10:3: \"sp ace\" is no upstream name (1 to 64 of letters, digits, _ - .)\n"
		    "F:10:13: an upstream must be a mapping\n"
		    "F:11:21: deadline must be a duration (250ms, 5s, 1m30s) from 1ms to 1h\n"
		    "F:11:24: key \"deadline\" is here twice\n"
		    "F:11:9: key \"addresses\" is missing\n"
		    "F:12:5: an upstream's name must be a text\n"
		    "F:13:18: addresses must be a sequence\n"
		    "F:15:45: upstream \"chat\" is not among the upstreams\n"
		    "F:18:21: message_type \"fl*eet\" may have a * only at its end\n"
		    "F:18:47: unknown key \"x\"\n"
		    "F:19:5: a command must be a mapping\n"
		    "F:20:21: message_type \"\" must not be empty\n"
		    "F:20:5: key \"upstream\" is missing\n"
		    "F:21:21: message_type \"a\\xc3\\xa9\" must be printable ASCII\n"
		    "F:21:42: upstream must be a text\n"
		    "F:17:21: message_type \"fleet.*\" is routed already, in line 16\n"
		    "F:22:21: message_type \"fleet.*\" is routed already, in line 16\n");
}

static void every_mistake_of_a_breaker_has_its_place(void **state)
{
	(void)state;
	assert_file("upstreams:\n"
		    "  a:\n"
		    "    addresses: [\"a:1\"]\n"
		    "    breaker: { enabled: y, failures: 0, ratio: 101, calls: x,\n"
		    "               window: 99ms, open: 2h, opens: 1s }\n"
		    "  b: { addresses: [\"b:1\"], breaker: false }\n"
		    "  c: { addresses: [\"c:1\"], breaker: {} }\n",
		    "F:4:25: enabled must be true or false\n"
		    "F:4:38: failures must be a whole number from 1 to 1000000\n"
		    "F:4:48: ratio must be a whole number from 1 to 100\n"
		    "F:4:60: calls must be a whole number from 1 to 1000000\n"
		    "F:5:24: window must be a duration (250ms, 5s, 1m30s) from 100ms to 1h\n"
		    "F:5:36: open must be a duration (250ms, 5s, 1m30s) from 10ms to 1h\n"
		    "F:5:40: unknown key \"opens\"; the nearest known one is \"open\"\n"
		    "F:6:37: breaker must be a mapping\n");
}

static void roots_of_the_wrong_kind_are_refused(void **state)
{
	(void)state;
	assert_file("- a\n", "F:1:1: the file must be a mapping\n");
	assert_file("text\n", "F:1:1: the file must be a mapping\n");
	assert_file("upstreams: []\ncommands: {}\n", "F:1:12: upstreams must be a mapping\n"
						     "F:2:11: commands must be a sequence\n");
	assert_file("upstreams:\n", "F:1:11: upstreams must be a mapping\n");
	assert_file("upstreams: !!set {}\n", "F:1:12: upstreams must be a mapping\n");
	assert_file("{}\n---\n{}\n", "F:3:1: only one document may be here\n");
	assert_file("commands: []\ncommands: []\n", "F:2:1: key \"commands\" is here twice\n");
	assert_file("{ [a]: b }", "F:1:3: a key must be a text\n");
}

static void broken_yaml_has_its_place(void **state)
{
	(void)state;
	static const struct {
		struct span text;
		const char *begins;
	} rows[] = {
		{ SPAN("upstreams: [\n"), "F:2:1: " },
		{ SPAN("a: b: c\n"), "F:1:5: " },
		{ SPAN("upstreams:\n\tx: 1\n"), "F:2:1: " },
		{ SPAN("upstreams: *nobody\n"), "F:1:12: " },
		{ SPAN("a: 1\nb: \xff\n"), "F:2:4: " },
		{ SPAN("a: \x01\n"), "F:1:4: " },
		{ SPAN("{}\n---\n]\n"), "F:3:1: " },
		{ SPAN("a: \"unclosed\n"), "F:2:1: " },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct loaded loaded = load_file(rows[i].text);

		assert_null(loaded.config);
		if (strncmp(loaded.report, rows[i].begins, strlen(rows[i].begins)) != 0)
			fail_msg("%s instead of %s", loaded.report, rows[i].begins);
		unload(&loaded);
	}
}

/* Every beginning of a good file is loaded or refused, and never anything else. */
static void every_beginning_is_taken_or_refused(void **state)
{
	(void)state;
	for (size_t len = 0; len < sizeof(example); len++) {
		struct loaded loaded = load_file(span_make(example, len));

		assert_int_equal(loaded.config == NULL, loaded.report[0] != '\0');
		unload(&loaded);
	}
}

static void aliases_that_multiply_stay_bounded(void **state)
{
	(void)state;
	struct buf text;

	/* 300 upstreams that share one list of 64 addresses; and one that holds itself. */
	buf_init(&text, 1 << 20);
	buf_printf(&text, "upstreams:\n  u0: &u { addresses: [");
	for (int i = 0; i < UPSTREAM_ADDRESSES_MAX; i++)
		buf_printf(&text, "%s\"h%d:1\"", i ? "," : "", i);
	buf_printf(&text, "] }\n");
	for (int i = 1; i < UPSTREAMS_MAX; i++)
		buf_printf(&text, "  u%d: *u\n", i);

	struct loaded loaded = load_file(buf_span(&text));

	assert_string_equal(loaded.report, "");
	assert_int_equal(loaded.config->file->upstream_count, UPSTREAMS_MAX);
	unload(&loaded);
	buf_printf(&text, "  one_more: *u\n");
	loaded = load_file(buf_span(&text));
	assert_string_equal(loaded.report, "F:258:3: more than 256 upstreams\n");
	unload(&loaded);
	buf_finish(&text);
	assert_file("upstreams: &a\n  x: *a\n", "F:2:3: unknown key \"x\"\n"
						"F:1:12: key \"addresses\" is missing\n");
}

static void limits_hold(void **state)
{
	(void)state;
	struct buf text;

	buf_init(&text, 8 << 20);
	buf_printf(&text, "upstreams: { u: { addresses: [");
	for (int i = 0; i <= UPSTREAM_ADDRESSES_MAX; i++)
		buf_printf(&text, "\"h:%d\",", i + 1);
	buf_printf(&text, "] } }\ncommands:\n");
	for (int i = 0; i <= COMMANDS_MAX; i++)
		buf_printf(&text, "- { message_type: m%d, upstream: u }\n", i);

	struct loaded loaded = load_file(buf_span(&text));

	assert_string_equal(loaded.report, "F:1:30: more than 64 addresses\n"
					   "F:4099:3: more than 4096 commands\n");
	unload(&loaded);
	buf_clear(&text, SIZE_MAX);
	for (size_t i = 0; i <= ROUTES_FILE_MAX; i++)
		buf_append_byte(&text, '#');
	loaded = load_file(buf_span(&text));
	assert_null(loaded.config);
	assert_non_null(strstr(loaded.report, "is larger than 4 MiB"));
	unload(&loaded);
	buf_finish(&text);
	assert_report(ENVIRONMENT(REQUIRED, "GATEWAY_CONFIG_FILE=/no/such.yaml"), false,
		      "GATEWAY_CONFIG_FILE: cannot read \"/no/such.yaml\": No such file or "
		      "directory\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(example_of_the_contract_is_taken),
		cmocka_unit_test(longest_match_wins_and_exact_beats_prefix),
		cmocka_unit_test(route_agrees_with_a_slow_search),
		cmocka_unit_test(empty_files_are_fine),
		cmocka_unit_test(every_mistake_has_its_place),
		cmocka_unit_test(every_mistake_of_a_breaker_has_its_place),
		cmocka_unit_test(roots_of_the_wrong_kind_are_refused),
		cmocka_unit_test(broken_yaml_has_its_place),
		cmocka_unit_test(every_beginning_is_taken_or_refused),
		cmocka_unit_test(aliases_that_multiply_stay_bounded),
		cmocka_unit_test(limits_hold),
	};

	return cmocka_run_group_tests_name("routes", tests, NULL, NULL);
}
