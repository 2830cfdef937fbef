#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind {
	KIND_TEXT,
	KIND_COUNT,
	KIND_NUMBER,
	KIND_SWITCH,
	KIND_FILE,
	KIND_TARGET,
	KIND_REDIS,
	KIND_PID,
	KIND_CPU
};

enum { FOR_HTTP = 1, FOR_H2 = 2, FOR_COMMAND = 4, FOR_PUSH = 8, FOR_STORM = 16 };
#define FOR_SIGNED (FOR_COMMAND | FOR_PUSH | FOR_STORM)
#define FOR_ALL	   (FOR_HTTP | FOR_H2 | FOR_SIGNED)

static const struct {
	const char *name;
	unsigned bit;
} works[] = {
	{"http", FOR_HTTP}, {"h2", FOR_H2},	  {"command", FOR_COMMAND},
	{"push", FOR_PUSH}, {"storm", FOR_STORM},
};

struct row {
	const char *name;
	enum kind kind;
	size_t at; /* in struct options */
	unsigned works;
	double min, max;
	const char *help;
};

#define AT(member) offsetof(struct options, member)
#define MANY	   1e9

static const struct row rows[] = {
	{"--target", KIND_TARGET, AT(target), FOR_ALL, 0, 0,
	 "ADDRESS of the server: 127.0.0.1:8080, unix:/path"},
	{"--redis", KIND_REDIS, AT(redis), FOR_SIGNED, 0, 0, "ADDRESS of the server's Redis"},
	{"--connections", KIND_COUNT, AT(connections), FOR_ALL, 1, 1e6, "connections (16)"},
	{"--streams", KIND_COUNT, AT(streams), FOR_H2 | FOR_COMMAND | FOR_PUSH, 1, 1e6,
	 "h2, command: at a time on each connection (32); push: in all"},
	{"--streams-per-connection", KIND_COUNT, AT(streams_per_connection), FOR_PUSH, 1, 1000,
	 "(1)"},
	{"--path", KIND_TEXT, AT(path), FOR_HTTP | FOR_H2, 0, 0,
	 "of a GET, a POST or a call (/healthz)"},
	{"--method", KIND_TEXT, AT(method), FOR_H2, 0, 0,
	 "health: gRPC health Check; get; call: gRPC, --body to --path (health)"},
	{"--body", KIND_FILE, AT(body), FOR_HTTP | FOR_H2, 0, 0,
	 "FILE: http: POST of this JSON; h2: a call's message"},
	{"--answer", KIND_FILE, AT(answer), FOR_HTTP | FOR_H2, 0, 0,
	 "FILE: body or message of every right answer (what the first one is)"},
	{"--sessions", KIND_COUNT, AT(sessions), FOR_SIGNED, 1, 1e7,
	 "session records (one a connection)"},
	{"--users", KIND_COUNT, AT(users), FOR_SIGNED, 1, 1e7, "users of the sessions"},
	{"--key-prefix", KIND_TEXT, AT(key_prefix), FOR_SIGNED, 0, 0,
	 "of session records (gateway:session:)"},
	{"--stream-key", KIND_TEXT, AT(stream_key), FOR_PUSH, 0, 0,
	 "of client events (gateway:client_events)"},
	{"--gateway-key", KIND_TEXT, AT(gateway_key), FOR_SIGNED, 0, 0,
	 "PUB.pem: checks one signature of 256"},
	{"--message-type", KIND_TEXT, AT(message_type), FOR_COMMAND, 0, 0,
	 "of the commands (echo.x)"},
	{"--payload", KIND_COUNT, AT(payload_bytes), FOR_COMMAND | FOR_PUSH, 0, 1 << 20,
	 "bytes (200)"},
	{"--envelopes", KIND_COUNT, AT(envelopes), FOR_COMMAND, 1, 1e8,
	 "signed before the run (30,000 a second of it, or what the rate needs)"},
	{"--targeted", KIND_SWITCH, AT(targeted), FOR_PUSH, 0, 0,
	 "each event goes to one user, at random"},
	{"--burst", KIND_COUNT, AT(burst), FOR_PUSH, 1, 1e7, "events, published flat out"},
	{"--prefill", KIND_SWITCH, AT(prefill), FOR_PUSH, 0, 0,
	 "the servers are stopped (SIGSTOP) until the burst is in Redis"},
	{"--at-once", KIND_COUNT, AT(at_once), FOR_PUSH | FOR_STORM, 1, 1e6,
	 "connections opening at the same time (push: 256, storm: all)"},
	{"--stall", KIND_NUMBER, AT(stall), FOR_PUSH, 0, 1, "FRACTION of the streams stop reading"},
	{"--idle", KIND_COUNT, AT(idle), FOR_PUSH, 0, 1e6, "extra streams that hear nothing"},
	{"--hold", KIND_SWITCH, AT(hold), FOR_PUSH, 0, 0,
	 "open, report, wait for the end of standard input"},
	{"--steps", KIND_SWITCH, AT(steps), FOR_PUSH, 0, 0,
	 "says \"open\" and \"delivered\", and waits each time for a line of standard input"},
	{"--rounds", KIND_COUNT, AT(rounds), FOR_STORM, 1, 1000, "(2)"},
	{"--warmup", KIND_NUMBER, AT(warmup_s), FOR_ALL, 0, 3600, "seconds (0.5)"},
	{"--duration", KIND_NUMBER, AT(duration_s), FOR_ALL, 0.01, 3600, "seconds measured (3)"},
	{"--rate", KIND_NUMBER, AT(rate), FOR_ALL, 0, MANY,
	 "units a second, on a schedule; 0: closed loop (0)"},
	{"--threads", KIND_COUNT, AT(threads), FOR_ALL, 1, THREADS_MAX, "of the generator (1)"},
	{"--cpu", KIND_CPU, AT(cpu), FOR_ALL, 0, 1023, "pins the generator"},
	{"--server-pid", KIND_PID, AT(server_pids), FOR_ALL, 1, MANY,
	 "whose CPU time counts; may be repeated"},
	{"--source-addresses", KIND_COUNT, AT(source_addresses), FOR_ALL, 0, 250,
	 "127.0.0.2 and on, to connect from"},
};

#define ROW_COUNT (sizeof(rows) / sizeof(*rows))

void tell(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	flockfile(stderr);
	fputs("ringbench: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	funlockfile(stderr);
	va_end(arguments);
}

void options_help(void)
{
	puts("usage: ringbench WORK --target ADDRESS [options]");
	for (size_t i = 0; i < ROW_COUNT; i++) {
		printf("  %-26s %s [", rows[i].name, rows[i].help);
		if (rows[i].works == FOR_ALL)
			fputs("all", stdout);
		for (size_t w = 0, any = 0; w < sizeof(works) / sizeof(*works); w++)
			if (rows[i].works != FOR_ALL && rows[i].works & works[w].bit)
				printf("%s%s", any++ ? " " : "", works[w].name);
		puts("]");
	}
}

/* ---- values ---- */

static bool to_number(const struct row *row, const char *text, double *value)
{
	char *end;

	errno = 0;
	*value = strtod(text, &end);
	return errno == 0 && end != text && *end == 0 && *value >= row->min && *value <= row->max;
}

static bool take_target(struct options *options, const char *text)
{
	struct endpoint *endpoint = &options->target_endpoint;

	if (endpoint_parse(span_from_cstr(text), endpoint) != 0 || endpoint->kind == ENDPOINT_ANY)
		return false;
	if (endpoint->kind == ENDPOINT_UNIX) {
		options->target = address_from_path(endpoint->path);
		return true;
	}
	return address_from_text(&options->target, endpoint->host, endpoint->port);
}

static bool take_redis(struct options *options, const char *text)
{
	options->has_redis = endpoint_parse(span_from_cstr(text), &options->redis) == 0 &&
			     options->redis.kind != ENDPOINT_ANY;
	return options->has_redis;
}

/* Stays mapped until the end. */
static bool take_file(struct span *content, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *bytes = NULL;

	if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
		bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		close(fd);
	if (!bytes || bytes == MAP_FAILED)
		return false;
	*content = span_make(bytes, (size_t)status.st_size);
	return true;
}

static bool take_value(struct options *options, const struct row *row, const char *text)
{
	void *at = (uint8_t *)options + row->at;
	double number;

	switch (row->kind) {
	case KIND_TEXT:
		*(const char **)at = text;
		return true;
	case KIND_FILE:
		return take_file(at, text);
	case KIND_TARGET:
		return take_target(options, text);
	case KIND_REDIS:
		return take_redis(options, text);
	case KIND_SWITCH:
		*(bool *)at = true;
		return true;
	case KIND_NUMBER:
		return to_number(row, text, at);
	case KIND_COUNT:
	case KIND_CPU:
	case KIND_PID:
		break;
	}
	if (!to_number(row, text, &number) || number != (double)(uint32_t)number)
		return false;
	if (row->kind == KIND_COUNT)
		*(uint32_t *)at = (uint32_t)number;
	else if (row->kind == KIND_CPU)
		*(int *)at = (int)number;
	else if (options->server_pid_count < SERVER_PIDS_MAX)
		options->server_pids[options->server_pid_count++] = (pid_t)number;
	else
		return false;
	return true;
}

/* ---- the whole line ---- */

static const struct row *find_row(const char *name, unsigned work)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (strcmp(rows[i].name, name) == 0 && rows[i].works & work)
			return &rows[i];
	return NULL;
}

static int parse_words(struct options *options, unsigned work, char **words)
{
	for (; *words; words++) {
		const struct row *row = find_row(*words, work);

		if (!row) {
			tell("'%s' is no option of %s", *words, options->work);
			return -EINVAL;
		}
		if (row->kind != KIND_SWITCH && !words[1]) {
			tell("%s needs a value", row->name);
			return -EINVAL;
		}
		if (!take_value(options, row, row->kind == KIND_SWITCH ? "" : *++words)) {
			tell("%s: '%s' is not possible", row->name, *words);
			return -EINVAL;
		}
	}
	return 0;
}

static unsigned find_work(const char *name)
{
	for (size_t i = 0; i < sizeof(works) / sizeof(*works); i++)
		if (strcmp(works[i].name, name) == 0)
			return works[i].bit;
	return 0;
}

int options_parse(struct options *options, int argc, char **argv)
{
	*options = (struct options){
		.connections = 16,
		.streams = 32,
		.streams_per_connection = 1,
		.payload_bytes = 200,
		.warmup_s = 0.5,
		.duration_s = 3,
		.rounds = 2,
		.method = "health",
		.path = "/healthz",
		.key_prefix = "gateway:session:",
		.stream_key = "gateway:client_events",
		.message_type = "echo.x",
		.cpu = -1,
		.threads = 1,
	};
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0)
			return -ECANCELED;
	unsigned work = argc > 1 ? find_work(argv[1]) : 0;

	if (!work) {
		tell("the first word is the work: http, h2, command, push or storm (--help)");
		return -EINVAL;
	}
	options->work = argv[1];
	int code = parse_words(options, work, argv + 2);

	if (code)
		return code;
	if (options->target.len == 0) {
		tell("--target is missing");
		return -EINVAL;
	}
	if (work & FOR_SIGNED && !options->has_redis) {
		tell("--redis is missing");
		return -EINVAL;
	}
	return 0;
}
