/* ringway-client: a client of the edge gateway for the command line, and what its operators and
 * tests put into Redis. */
#include "auth/signer.h"
#include "client/command.h"
#include "log/log.h"

#include <signal.h>
#include <unistd.h>

#define GATEWAY                                                                                    \
	{                                                                                          \
		"--gateway", "ADDRESS", NULL, true, "authenticated listener of the gateway"        \
	}
#define CLIENT_KEY                                                                                 \
	{                                                                                          \
		"--key", "CLIENT.pem", NULL, true, "private key of the session"                    \
	}
#define SESSION                                                                                    \
	{                                                                                          \
		"--session", "ID", NULL, true, "device session id"                                 \
	}
#define REQUEST_ID                                                                                 \
	{                                                                                          \
		"--request-id", "ID", NULL, false, "request id; random if not given"               \
	}
#define TRACE_ID                                                                                   \
	{                                                                                          \
		"--trace-id", "ID", NULL, false, "trace id"                                        \
	}
#define GATEWAY_KEY                                                                                \
	{                                                                                          \
		"--gateway-key", "PUBLIC.pem", NULL, false,                                        \
			"public key that answers are checked with"                                 \
	}
#define TIMEOUT                                                                                    \
	{                                                                                          \
		"--timeout", "DURATION", "5s", false, "longest wait"                               \
	}
#define FIRST_TIMEOUT                                                                              \
	{                                                                                          \
		"--timeout", "DURATION", "5s", false, "longest wait for the stream to begin"       \
	}
#define JSON                                                                                       \
	{                                                                                          \
		"--json", NULL, NULL, false, "print JSON, one object a line"                       \
	}
#define REDIS                                                                                      \
	{"--redis", "ADDRESS", NULL, true, "Redis"},                                               \
		{"--username", "NAME", NULL, false, "Redis ACL user"},                             \
		{"--password-file", "FILE", NULL, false, "file with the Redis password"},          \
		{"--db", "N", "0", false, "Redis database"},                                       \
		{"--tls", NULL, NULL, false, "Redis speaks TLS"},                                  \
		{"--tls-ca", "FILE", NULL, false, "CA certificates; the system's if not given"},   \
		{"--tls-cert", "FILE", NULL, false, "certificate to show, with --tls-key"},        \
		{"--tls-key", "FILE", NULL, false, "its private key"},                             \
	{                                                                                          \
		"--tls-name", "NAME", NULL, false,                                                 \
			"name in Redis's certificate; the host if not given"                       \
	}
#define PREFIX                                                                                     \
	{                                                                                          \
		"--prefix", "TEXT", "gateway:session:", false,                                     \
			"what session record keys begin with"                                      \
	}
#define PAYLOAD(required, fallback)                                                                \
	{                                                                                          \
		"--payload", "TEXT|@FILE", fallback, required, "payload, as text or from a file"   \
	}
#define END                                                                                        \
	{                                                                                          \
		0                                                                                  \
	}

static const struct option_row execute_options[] = {
	GATEWAY,
	CLIENT_KEY,
	SESSION,
	{"--type", "TYPE", NULL, true, "message type, which chooses the route"},
	PAYLOAD(true, NULL),
	REQUEST_ID,
	TRACE_ID,
	GATEWAY_KEY,
	TIMEOUT,
	JSON,
	END};

static const struct option_row subscribe_options[] = {
	GATEWAY,
	CLIENT_KEY,
	SESSION,
	{"--type", "TYPE", "gateway.subscribe", false, "message type"},
	{"--count", "N", "0", false, "end after so many events; 0 is never"},
	REQUEST_ID,
	TRACE_ID,
	GATEWAY_KEY,
	FIRST_TIMEOUT,
	JSON,
	END};

static const struct option_row no_options[] = {END};

static const struct option_row publish_options[] = {
	REDIS,
	{"--stream", "KEY", NULL, true, "stream of client events"},
	{"--user", "ID", NULL, true, "user whose streams get the event"},
	{"--event-type", "TYPE", NULL, true, "event type"},
	{"--event-id", "ID", NULL, true, "event id"},
	PAYLOAD(true, NULL),
	{"--session", "ID", NULL, false, "only to the streams of this session"},
	{"--request-id", "ID", NULL, false, "request id of the event"},
	TRACE_ID,
	TIMEOUT,
	END};

static const struct option_row revoke_options[] = {
	REDIS,
	{"--stream", "KEY", NULL, true, "stream of session events"},
	SESSION,
	{"--user", "ID", NULL, false, "user of the session; as in its record if not given"},
	{"--key", "KEY.pem", NULL, false, "key of the session; as in its record if not given"},
	PREFIX,
	TIMEOUT,
	END};

static const struct option_row session_options[] = {
	REDIS,
	SESSION,
	{"--user", "ID", NULL, true, "user of the session"},
	{"--key", "KEY.pem", NULL, true, "private or public key of the session"},
	PREFIX,
	TIMEOUT,
	END};

static const struct command commands[] = {
	{"execute", "", 0, 0, "Signs a command, sends it, checks and prints the answer.",
	 execute_options, execute_run},
	{"subscribe", "", 0, 0, "Opens the session's event stream and prints each event, checked.",
	 subscribe_options, subscribe_run},
	{"keygen", "PRIVATE.pem [PUBLIC.pem]", 1, 2,
	 "Makes an Ed25519 key pair; the public key goes to standard output if no file is given.",
	 no_options, keygen_run},
	{"publish", "", 0, 0, "Adds a client event to its Redis Stream.", publish_options,
	 publish_run},
	{"revoke", "", 0, 0, "Writes the revoked session record, then the session event.",
	 revoke_options, revoke_run},
	{"session", "", 0, 0, "Writes an active session record.", session_options, session_run},
	{0}};

static int help(FILE *out)
{
	fputs("usage: ringway-client COMMAND [option …]\n\n", out);
	for (const struct command *command = commands; command->name; command++)
		fprintf(out, "  %-10s %s\n", command->name, command->summary);
	fputs("\nringway-client COMMAND --help lists a command's options; --version prints the "
	      "version.\n",
	      out);
	fputs("Exit code 0: done, 1: failed, 2: not understood.\n", out);
	return out == stdout ? EXIT_OKAY : EXIT_USAGE;
}

static bool asks_for_help(char **words)
{
	for (; *words && strcmp(*words, "--") != 0; words++)
		if (strcmp(*words, "--help") == 0)
			return true;
	return false;
}

static int run(const struct command *command, char **words)
{
	struct arguments arguments;

	if (asks_for_help(words)) {
		command_help(command, stdout);
		return EXIT_OKAY;
	}
	int code = arguments_parse(&arguments, command, words);

	if (code)
		return code;
	if (auth_init() != 0) {
		complain("libsodium cannot be used");
		return EXIT_FAILED;
	}
	return command->run(&arguments);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	log_setup(
		&(struct log_options){.level = LOG_ERROR, .format = LOG_TEXT, .fd = STDERR_FILENO});
	if (argc < 2)
		return help(stderr);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
		return help(stdout);
	if (strcmp(argv[1], "--version") == 0) {
		printf("ringway-client %s (%s)\n", RINGWAY_VERSION, RINGWAY_COMMIT);
		return EXIT_OKAY;
	}
	for (const struct command *command = commands; command->name; command++)
		if (strcmp(argv[1], command->name) == 0)
			return run(command, argv + 2);
	complain("no such command: %s", argv[1]);
	fputs("See ringway-client --help.\n", stderr);
	return EXIT_USAGE;
}
