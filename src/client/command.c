#include "client/command.h"

#include "base/check.h"
#include "base/explain.h"

#include <errno.h>
#include <stdarg.h>

#define HELP_COLUMN 30
#define READ_BYTES  65536

void complain(const char *format, ...)
{
	va_list args;

	fputs("ringway-client: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* ---- parsing ---- */

/* Returns the row's index, or -1. */
static int find_option(const struct command *command, struct span name)
{
	for (int i = 0; command->options[i].name; i++)
		if (span_equal(name, span_from_cstr(command->options[i].name)))
			return i;
	return -1;
}

static int usage_error(const struct command *command, const char *what, const char *word)
{
	complain("%s: %s %s", command->name, what, word);
	fprintf(stderr, "See ringway-client %s --help.\n", command->name);
	return EXIT_USAGE;
}

/* One option and its value, which may be the next word. Returns words taken, or minus an exit code.
 */
static int take_option(struct arguments *arguments, char **words)
{
	const struct command *command = arguments->command;
	struct span word = span_from_cstr(words[0]);
	ptrdiff_t equals = span_find_byte(word, '=');
	int at = find_option(command, equals < 0 ? word : span_first(word, (size_t)equals));

	if (at < 0)
		return -usage_error(command, "unknown option", words[0]);
	if (arguments->values[at])
		return -usage_error(command, "given twice:", command->options[at].name);
	if (!command->options[at].value) {
		if (equals >= 0)
			return -usage_error(command, "takes no value:", command->options[at].name);
		arguments->values[at] = "";
		return 1;
	}
	if (equals >= 0) {
		arguments->values[at] = words[0] + equals + 1;
		return 1;
	}
	if (!words[1])
		return -usage_error(command, "needs a value:", command->options[at].name);
	arguments->values[at] = words[1];
	return 2;
}

static int complete(struct arguments *arguments)
{
	const struct command *command = arguments->command;

	if (arguments->positional_count < command->positional_min)
		return usage_error(command, "needs", command->positionals);
	for (int i = 0; command->options[i].name; i++) {
		if (arguments->values[i])
			continue;
		if (command->options[i].required)
			return usage_error(command, "needs", command->options[i].name);
		arguments->values[i] = command->options[i].fallback;
	}
	return 0;
}

int arguments_parse(struct arguments *arguments, const struct command *command, char **words)
{
	bool only_positionals = false;

	*arguments = (struct arguments){.command = command};
	while (*words) {
		if (!only_positionals && strcmp(*words, "--") == 0) {
			only_positionals = true;
			words++;
		} else if (!only_positionals && words[0][0] == '-' && words[0][1] != '\0') {
			int taken = take_option(arguments, words);

			if (taken < 0)
				return -taken;
			words += taken;
		} else if (arguments->positional_count == command->positional_max) {
			return usage_error(command, "takes no", *words);
		} else {
			arguments->positionals[arguments->positional_count++] = *words++;
		}
	}
	return complete(arguments);
}

void command_help(const struct command *command, FILE *out)
{
	fprintf(out, "usage: ringway-client %s%s%s", command->name,
		*command->positionals ? " " : "", command->positionals);
	for (const struct option_row *row = command->options; row->name; row++)
		if (row->required)
			fprintf(out, " %s %s", row->name, row->value);
	fprintf(out, "%s\n\n%s\n", command->options[0].name ? " [option …]" : "", command->summary);
	if (command->options[0].name)
		fputs("\n", out);
	for (const struct option_row *row = command->options; row->name; row++) {
		int width = fprintf(out, "  %s%s%s", row->name, row->value ? " " : "",
				    row->value ? row->value : "");

		fprintf(out, "%*s%s", width < HELP_COLUMN ? HELP_COLUMN - width : 1, "", row->help);
		if (row->fallback)
			fprintf(out, " (%s)", row->fallback);
		fputs("\n", out);
	}
}

/* ---- values ---- */

const char *argument(const struct arguments *arguments, const char *name)
{
	int at = find_option(arguments->command, span_from_cstr(name));

	CHECK(at >= 0);
	return arguments->values[at];
}

struct span argument_span(const struct arguments *arguments, const char *name)
{
	return span_from_cstr(argument(arguments, name));
}

static bool bad_value(const struct arguments *arguments, const char *name, const char *what)
{
	complain("%s: %s: '%s' is %s", arguments->command->name, name, argument(arguments, name),
		 what);
	return false;
}

bool argument_endpoint(const struct arguments *arguments, const char *name,
		       struct endpoint *endpoint)
{
	if (endpoint_parse(argument_span(arguments, name), endpoint) != 0)
		return bad_value(arguments, name, "no address: host:port, [v6]:port or unix:/path");
	if (endpoint->kind == ENDPOINT_ANY) { /* ":9090" as a listener has it: this machine */
		endpoint->kind = ENDPOINT_HOST;
		snprintf(endpoint->host, sizeof(endpoint->host), "127.0.0.1");
	}
	return endpoint->kind == ENDPOINT_UNIX || endpoint->port != 0 ||
	       bad_value(arguments, name, "an address without a port");
}

/* One number and its unit at the front of `text`. Returns bytes taken, 0 if there is none. */
static size_t take_duration(struct span text, uint64_t *ms)
{
	static const struct {
		struct span name;
		uint64_t ms;
	} units[] = {{SPAN("ms"), 1}, {SPAN("s"), 1000}, {SPAN("m"), 60000}, {SPAN("h"), 3600000}};
	size_t digits = 0;
	uint64_t number;

	while (digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9')
		digits++;
	if (!span_to_uint64(span_first(text, digits), &number) || number > INT32_MAX)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (span_starts_with(span_from(text, digits), units[i].name)) {
			*ms += number * units[i].ms;
			return digits + units[i].name.len;
		}
	}
	return 0;
}

bool argument_ms(const struct arguments *arguments, const char *name, uint64_t *ms)
{
	struct span rest = argument_span(arguments, name);

	*ms = 0;
	do {
		size_t taken = take_duration(rest, ms);

		if (taken == 0)
			return bad_value(arguments, name, "no duration, such as 250ms or 5s");
		rest = span_from(rest, taken);
	} while (rest.len > 0);
	return *ms > 0 || bad_value(arguments, name, "too short");
}

bool argument_count(const struct arguments *arguments, const char *name, uint64_t *count)
{
	return span_to_uint64(argument_span(arguments, name), count) ||
	       bad_value(arguments, name, "no number");
}

/* Returns 0 or a negative errno. */
static int read_file(const char *path, struct buf *out)
{
	FILE *file = fopen(path, "re");
	size_t got = 0;

	if (!file)
		return -errno;
	do {
		uint8_t *at = buf_reserve(out, READ_BYTES);

		if (!at)
			break;
		got = fread(at, 1, READ_BYTES, file);
		buf_claim(out, got);
	} while (got > 0);

	int code = ferror(file) ? -EIO : out->failed ? -EFBIG : 0;

	fclose(file);
	return code;
}

bool argument_payload(const struct arguments *arguments, const char *name, struct buf *payload)
{
	const char *text = argument(arguments, name);
	int code = text[0] == '@' ? read_file(text + 1, payload)
				  : buf_append(payload, span_from_cstr(text));

	if (code)
		complain("%s: %s: %s: %s", arguments->command->name, name,
			 text[0] == '@' ? text + 1 : "text", errno_text(-code));
	return code == 0;
}
