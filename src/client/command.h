/* command: the commands of ringway-client, their options, and what was given on the command line.
 */
#ifndef CLIENT_COMMAND_H
#define CLIENT_COMMAND_H

#include "base/buf.h"
#include "base/endpoint.h"

#include <stdio.h>

enum exit_code { EXIT_OKAY = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define OPTIONS_MAX	20
#define POSITIONALS_MAX 2
#define PAYLOAD_MAX	(64u << 20) /* no message may be larger */

struct option_row {
	const char *name;     /* "--gateway"; NULL ends the table */
	const char *value;    /* "ADDRESS"; NULL: a switch */
	const char *fallback; /* NULL: none */
	bool required;
	const char *help;
};

struct arguments;

struct command {
	const char *name;
	const char *positionals; /* "PRIVATE.pem [PUBLIC.pem]", or "" */
	size_t positional_min, positional_max;
	const char *summary;
	const struct option_row *options;
	int (*run)(const struct arguments *arguments); /* returns an exit code */
};

struct arguments {
	const struct command *command;
	const char *values[OPTIONS_MAX]; /* by the row's index; a given switch is "" */
	const char *positionals[POSITIONALS_MAX];
	size_t positional_count;
};

/* Returns 0, or an exit code with a sentence on standard error. `words` are those behind the
 * command's name. */
int arguments_parse(struct arguments *arguments, const struct command *command, char **words);

/* "usage: …" and the options. */
void command_help(const struct command *command, FILE *out);

/* NULL: not given and no fallback. The name must be in the command's table (CHECK). */
const char *argument(const struct arguments *arguments, const char *name);
struct span argument_span(const struct arguments *arguments, const char *name);

/* These say on standard error what is wrong and return false. */
bool argument_endpoint(const struct arguments *arguments, const char *name,
		       struct endpoint *endpoint);
/* "250ms", "5s", "1m30s". */
bool argument_ms(const struct arguments *arguments, const char *name, uint64_t *ms);
bool argument_count(const struct arguments *arguments, const char *name, uint64_t *count);
/* The text itself, or the bytes of the file behind '@'. */
bool argument_payload(const struct arguments *arguments, const char *name, struct buf *payload);

/* "ringway-client: …" on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One for each command, in a file of its name. */
int execute_run(const struct arguments *arguments);
int subscribe_run(const struct arguments *arguments);
int keygen_run(const struct arguments *arguments);
int publish_run(const struct arguments *arguments);
int revoke_run(const struct arguments *arguments);
int session_run(const struct arguments *arguments);

#endif
