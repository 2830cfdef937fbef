#include "client/store.h"

#include "auth/signer.h"
#include "base/base64.h"
#include "base/check.h"
#include "base/explain.h"
#include "client/loop.h"
#include "client/print.h"
#include "codec/json.h"
#include "redis/client.h"

#include <errno.h>

#define LOOK_MS 20 /* how soon a failed connection is noticed */

struct store {
	const struct arguments *arguments;
	struct loop loop;
	struct tls_context *tls; /* NULL: plain */
	struct redis_client *client;
	struct redis_call call;
	struct deadline look;
	const struct store_command *commands;
	size_t count, done_count;
	struct buf password;
	struct buf *last;
	uint64_t timeout_ms, due_ms;
	bool is_over;
};

/* ---- the end ---- */

static void store_stopped(void *context)
{
	struct store *store = context;

	loop_end(&store->loop, store->done_count == store->count ? EXIT_OKAY : EXIT_FAILED);
}

static void store_end(struct store *store)
{
	if (store->is_over)
		return;
	store->is_over = true;
	deadline_disarm(store->loop.worker, &store->look);
	redis_call_cancel(&store->call);
	redis_client_stop(store->client, store_stopped, store);
}

/* ---- commands ---- */

static void store_next(struct store *store);

static void complain_of_refusal(struct span words)
{
	struct print print;

	print_init(&print, false);
	print_words(&print, "ringway-client: Redis refused: ");
	print_word_bytes(&print, words);
	print_words(&print, "\n");
	(void)print_finish_to(&print, stderr);
}

static void store_answered(struct redis_call *call, enum redis_outcome outcome,
			   const struct resp_value *value)
{
	struct store *store = CONTAINER_OF(call, struct store, call);

	switch (outcome) {
	case REDIS_REPLY:
		if (value->type == RESP_STRING || value->type == RESP_STATUS) {
			buf_clear(store->last, 0);
			buf_append(store->last, value->text);
		}
		store->done_count++;
		store_next(store);
		return;
	case REDIS_REFUSED:
		complain_of_refusal(value->text);
		break;
	case REDIS_TIMEOUT:
		complain("Redis did not answer in time");
		break;
	case REDIS_LOST:
	case REDIS_OUTCOME_COUNT:
		complain("the connection to Redis was lost");
		break;
	}
	store_end(store);
}

static void store_next(struct store *store)
{
	if (store->done_count == store->count) {
		store_end(store);
		return;
	}
	const struct redis_command command = {
		.args = store->commands[store->done_count].args,
		.count = store->commands[store->done_count].count,
		.role = REDIS_SESSION,
		.timeout_ms = (uint32_t)store->timeout_ms,
	};

	if (redis_call_start(store->client, &store->call, store_answered, &command) != 0) {
		complain("the command cannot be sent to Redis");
		store_end(store);
	}
}

static void store_changed(struct redis_client *client, bool ready, void *context)
{
	struct store *store = context;

	(void)client;
	if (ready && !store->is_over)
		store_next(store);
}

/* The client would try for ever; a person would not. */
static void store_look(struct deadline *deadline)
{
	struct store *store = CONTAINER_OF(deadline, struct store, look);
	const char *error = redis_client_last_error(store->client);
	bool is_late = store->loop.worker->now_ms >= store->due_ms;

	if (redis_client_is_ready(store->client))
		return;
	if (*error || is_late) {
		complain("%s", *error ? error : "cannot connect to Redis in time");
		store_end(store);
		return;
	}
	deadline_arm(store->loop.worker, &store->look, LOOK_MS);
}

/* ---- the beginning ---- */

static bool read_password(struct store *store)
{
	const char *path = argument(store->arguments, "--password-file");
	char name[4096];

	buf_init(&store->password, 4096);
	if (!path)
		return true;
	FILE *file = fopen(path, "re");

	if (!file || !fgets(name, sizeof(name), file)) {
		complain("--password-file: %s: %s", path,
			 file ? "is empty" : errno_text(errno));
		if (file)
			fclose(file);
		return false;
	}
	fclose(file);
	buf_append(&store->password, span_make(name, strcspn(name, "\r\n")));
	explicit_bzero(name, sizeof(name));
	return true;
}

typedef int take_fn(struct tls_context *context, const char *path, char *why, size_t why_size);

/* The file of an option, if it was given. */
static bool take_file(const struct store *store, const char *option, take_fn *take)
{
	const char *path = argument(store->arguments, option);
	char why[512];

	if (!path || take(store->tls, path, why, sizeof(why)) == 0)
		return true;
	complain("%s: %s", option, why);
	return false;
}

/* Those of the system, unless --tls-ca says whom to trust. */
static bool take_trust(const struct store *store)
{
	char why[512];

	if (argument(store->arguments, "--tls-ca"))
		return take_file(store, "--tls-ca", tls_context_trust);
	if (tls_context_trust(store->tls, "", why, sizeof(why)) == 0)
		return true;
	complain("--tls: %s", why);
	return false;
}

static bool refuse_tls_options(const struct arguments *arguments)
{
	static const char *const companions[] = {"--tls-ca", "--tls-cert", "--tls-key",
						 "--tls-name"};

	for (size_t i = 0; i < ARRAY_LEN(companions); i++) {
		if (argument(arguments, companions[i])) {
			complain("%s: %s needs --tls", arguments->command->name, companions[i]);
			return true;
		}
	}
	return false;
}

static bool load_tls(struct store *store)
{
	const struct arguments *arguments = store->arguments;

	if (!argument(arguments, "--tls"))
		return !refuse_tls_options(arguments);
	if (!argument(arguments, "--tls-cert") != !argument(arguments, "--tls-key")) {
		complain("%s: --tls-cert and --tls-key need each other", arguments->command->name);
		return false;
	}
	if (tls_context_create(&store->tls) != 0) {
		complain("out of memory");
		return false;
	}
	return take_trust(store) &&
	       take_file(store, "--tls-cert", tls_context_use_certificate) &&
	       take_file(store, "--tls-key", tls_context_use_key);
}

static int open_client(struct store *store)
{
	struct redis_options options = {.role = REDIS_SESSION, .dns = store->loop.dns};
	uint64_t db;

	if (!argument_endpoint(store->arguments, "--redis", &options.endpoint) ||
	    !argument_count(store->arguments, "--db", &db))
		return EXIT_USAGE;
	if (db > UINT32_MAX) {
		complain("%s: --db: '%s' is too large", store->arguments->command->name,
			 argument(store->arguments, "--db"));
		return EXIT_USAGE;
	}
	if (!read_password(store) || !load_tls(store))
		return EXIT_USAGE;
	options.tls = store->tls;
	options.tls_name = argument(store->arguments, "--tls-name");
	options.db = (uint32_t)db;
	options.username = argument_span(store->arguments, "--username");
	options.password = buf_span(&store->password);
	options.connect_timeout_ms = (uint32_t)store->timeout_ms;
	if (redis_client_create(&store->client, store->loop.worker, &options) == 0)
		return 0;
	complain("out of memory");
	return EXIT_FAILED;
}

int store_run(const struct arguments *arguments, const struct store_command *commands, size_t count,
	      struct buf *last)
{
	struct store store = {
		.arguments = arguments,
		.commands = commands,
		.count = count,
		.last = last,
	};

	if (!argument_ms(arguments, "--timeout", &store.timeout_ms))
		return EXIT_USAGE;
	if (store.timeout_ms > INT32_MAX)
		store.timeout_ms = INT32_MAX;

	int code = loop_create(&store.loop);

	if (code == 0)
		code = open_client(&store);
	if (code == 0) {
		store.due_ms = store.loop.worker->now_ms + store.timeout_ms;
		deadline_init(&store.look, store_look);
		deadline_arm(store.loop.worker, &store.look, LOOK_MS);
		redis_client_start(store.client, store_changed, &store);
		code = loop_run(&store.loop);
	}
	redis_client_destroy(store.client);
	loop_destroy(&store.loop);
	tls_context_destroy(store.tls);
	if (store.password.data)
		explicit_bzero(store.password.data, store.password.len);
	buf_finish(&store.password);
	return code;
}

/* ---- session records ---- */

/* The private key of a PEM file has the public one in it; either will do. */
static int take_key(struct record *record, const char *path)
{
	struct signer *signer;
	uint8_t key[ENVELOPE_KEY_BYTES];
	char why[256] = "", why_not_public[256];

	if (signer_load(&signer, path, why, sizeof(why)) == 0) {
		memcpy(key, signer_public_key(signer), sizeof(key));
		signer_destroy(signer);
	} else if (public_key_load(key, path, why_not_public, sizeof(why_not_public)) != 0) {
		complain("--key: %s", why);
		return EXIT_USAGE;
	}
	(void)base64_append(&record->key, span_make(key, sizeof(key)));
	return 0;
}

int record_init(struct record *record, const struct arguments *arguments, const char *status)
{
	const char *user = argument(arguments, "--user");
	const char *path = argument(arguments, "--key");

	*record = (struct record){
		.session = argument_span(arguments, "--session"),
		.user = user ? span_from_cstr(user) : SPAN_EMPTY,
		.status = status,
	};
	buf_init(&record->key, 4096);
	buf_init(&record->user_read, RECORD_BYTES_MAX);
	return path ? take_key(record, path) : 0;
}

void record_finish(struct record *record)
{
	buf_finish(&record->key);
	buf_finish(&record->user_read);
}

/* Returns whether the record has what is missing. */
static bool take_missing(struct record *record, struct span text)
{
	struct json_document *document;
	struct span user, key;

	if (json_parse_object(&document, text, RECORD_BYTES_MAX) != 0)
		return false;

	bool is_whole = json_get_string(document, "user_id", &user) &&
			json_get_string(document, "client_public_key", &key);

	if (is_whole && record->user.len == 0) {
		is_whole = buf_append(&record->user_read, user) == 0;
		record->user = buf_span(&record->user_read);
	}
	if (is_whole && record->key.len == 0)
		is_whole = buf_append(&record->key, key) == 0;
	json_free(document);
	return is_whole;
}

static int read_record(struct record *record, const struct arguments *arguments, struct span key)
{
	const struct span get[] = {SPAN("GET"), key};
	const struct store_command command = {get, ARRAY_LEN(get)};
	struct buf text;

	buf_init(&text, RECORD_BYTES_MAX);

	int code = store_run(arguments, &command, 1, &text);

	if (code == EXIT_OKAY && !take_missing(record, buf_span(&text))) {
		complain("%s: %.*s: %s", arguments->command->name, SPAN_ARGS(key),
			 text.len == 0 ? "no such session record; --user and --key are needed"
				       : "the session record is malformed");
		code = EXIT_FAILED;
	}
	buf_finish(&text);
	return code;
}

int record_complete(struct record *record, const struct arguments *arguments)
{
	struct buf key;
	int code = EXIT_FAILED;

	if (argument(arguments, "--user") && argument(arguments, "--key"))
		return 0;
	buf_init(&key, RECORD_BYTES_MAX);
	if (record_key(record, arguments, &key) == 0)
		code = read_record(record, arguments, buf_span(&key));
	else
		complain("%s: ids are too long, or out of memory", arguments->command->name);
	buf_finish(&key);
	return code;
}

int record_write(const struct record *record, struct buf *out)
{
	buf_append(out, SPAN("{\"device_session_id\":"));
	(void)json_append_string(out, record->session);
	buf_append(out, SPAN(",\"user_id\":"));
	(void)json_append_string(out, record->user);
	buf_append(out, SPAN(",\"client_public_key\":"));
	(void)json_append_string(out, buf_span(&record->key));
	buf_printf(out, ",\"status\":\"%s\"", record->status);
	if (record->revoked_at_ms > 0)
		buf_printf(out, ",\"revoked_at_ms\":%lld", (long long)record->revoked_at_ms);
	buf_append_byte(out, '}');
	return out->failed ? -ENOMEM : 0;
}

int record_key(const struct record *record, const struct arguments *arguments, struct buf *out)
{
	buf_append(out, argument_span(arguments, "--prefix"));
	buf_append(out, record->session);
	return out->failed ? -ENOMEM : 0;
}
