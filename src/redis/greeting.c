#include "base/check.h"
#include "redis/client_internal.h"

#include <errno.h>
#include <stdio.h>

/* The longest greeting but for user and password: three commands of a few words. */
#define GREETING_WORDS_BYTES 256

static int append_auth(struct redis_client *client)
{
	const struct redis_options *options = &client->options;
	const struct span with_user[] = {SPAN("AUTH"), options->username, options->password};
	const struct span password_only[] = {SPAN("AUTH"), options->password};

	if (options->username.len)
		return resp_format(&client->out, with_user, ARRAY_LEN(with_user));
	return resp_format(&client->out, password_only, ARRAY_LEN(password_only));
}

static int append_select(struct redis_client *client)
{
	char db[16];

	snprintf(db, sizeof(db), "%u", client->options.db);

	const struct span args[] = {SPAN("SELECT"), span_from_cstr(db)};

	return resp_format(&client->out, args, ARRAY_LEN(args));
}

static int append_ping(struct redis_client *client)
{
	const struct span args[] = {SPAN("PING")};

	return resp_format(&client->out, args, ARRAY_LEN(args));
}

int greeting_begin(struct redis_client *client)
{
	const struct redis_options *options = &client->options;
	struct greeting *greeting = &client->greeting;

	/* At once, so that growing leaves no copy of the password behind. */
	if (!buf_reserve(&client->out,
			 GREETING_WORDS_BYTES + options->username.len + options->password.len))
		return -ENOMEM;

	int error = 0;

	*greeting = (struct greeting){0};
	if (options->username.len || options->password.len) {
		greeting->steps[greeting->count++] = GREETING_AUTH;
		error = append_auth(client);
	}
	if (options->db && !error) {
		greeting->steps[greeting->count++] = GREETING_SELECT;
		error = append_select(client);
	}
	greeting->steps[greeting->count++] = GREETING_PING;
	return error ? error : append_ping(client);
}

/*
 * Our own words and Redis's code, never its text: that of an unknown command repeats the arguments,
 * and AUTH may have been renamed.
 */
static void describe_refusal(const struct redis_client *client, enum greeting_step step,
			     const struct resp_value *value, char text[LAST_ERROR_MAX])
{
	static const char *const step_names[] = {
		[GREETING_AUTH] = "AUTH",
		[GREETING_SELECT] = "SELECT",
		[GREETING_PING] = "PING",
	};
	static const struct {
		struct span code;
		const char *text;
	} rows[] = {
		{SPAN("WRONGPASS"), "Redis refused the user name or the password"},
		{SPAN("NOAUTH"), "Redis asks for a password and none is configured"},
		{SPAN("NOPERM"), "the Redis user lacks permission"},
		{SPAN("LOADING"), "Redis is loading its data"},
		{SPAN("MASTERDOWN"), "this Redis is a replica without its master"},
		{SPAN("DENIED"), "Redis is in protected mode"},
	};
	struct span code = redis_error_code(value);

	if (step == GREETING_SELECT && span_equal(code, SPAN("ERR"))) {
		snprintf(text, LAST_ERROR_MAX, "Redis has no database %u", client->options.db);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (span_equal(code, rows[i].code)) {
			snprintf(text, LAST_ERROR_MAX, "%s (%s: %.*s)", rows[i].text,
				 step_names[step], SPAN_ARGS(code));
			return;
		}
	}
	snprintf(text, LAST_ERROR_MAX, "Redis refused %s (%.*s)", step_names[step],
		 SPAN_ARGS(code));
}

void greeting_answer(struct redis_client *client, const struct resp_value *value)
{
	struct greeting *greeting = &client->greeting;
	enum greeting_step step = greeting->steps[greeting->answered];

	if (value->type == RESP_ERROR) {
		char text[LAST_ERROR_MAX];

		describe_refusal(client, step, value, text);
		client_drop(client, text);
		return;
	}
	if (COUNT_IF(!resp_is_status(value, step == GREETING_PING ? "PONG" : "OK"),
		     &client->metrics.protocol_errors)) {
		client_drop(client, "what answers there is not Redis");
		return;
	}
	greeting->answered++;
	if (greeting->answered == greeting->count)
		client_become_ready(client);
}
