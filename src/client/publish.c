/* publish: one client event into its Redis Stream. */
#include "client/print.h"
#include "client/store.h"

#include "base/check.h"

#define FIELDS_MAX 24

/* An optional field, if it was given. Returns the new count. */
static size_t add_given(struct span *args, size_t count, const char *field, const char *value)
{
	if (!value)
		return count;
	args[count++] = span_from_cstr(field);
	args[count++] = span_from_cstr(value);
	return count;
}

static void print_done(struct span entry)
{
	struct print print;

	print_init(&print, false);
	print_words(&print, "published ");
	print_word_bytes(&print, entry);
	print_words(&print, "\n");
	(void)print_finish(&print);
}

static int publish(const struct arguments *arguments, struct span payload)
{
	struct span args[FIELDS_MAX] = {SPAN("XADD"), argument_span(arguments, "--stream"),
					SPAN("*")};
	size_t count = 3;
	struct buf last;

	count = add_given(args, count, "user_id", argument(arguments, "--user"));
	count = add_given(args, count, "event_type", argument(arguments, "--event-type"));
	count = add_given(args, count, "event_id", argument(arguments, "--event-id"));
	count = add_given(args, count, "device_session_id", argument(arguments, "--session"));
	count = add_given(args, count, "request_id", argument(arguments, "--request-id"));
	count = add_given(args, count, "trace_id", argument(arguments, "--trace-id"));
	args[count++] = SPAN("payload_bytes");
	args[count++] = payload;

	const struct store_command command = {args, count};

	buf_init(&last, 4096);

	int code = store_run(arguments, &command, 1, &last);

	if (code == EXIT_OKAY)
		print_done(buf_span(&last));
	buf_finish(&last);
	return code;
}

int publish_run(const struct arguments *arguments)
{
	struct buf payload;
	int code = EXIT_USAGE;

	buf_init(&payload, PAYLOAD_MAX);
	if (argument_payload(arguments, "--payload", &payload))
		code = publish(arguments, buf_span(&payload));
	buf_finish(&payload);
	return code;
}
