#include "command_store.h"

#include "base/base64.h"
#include "client/message.h"
#include "lane.h"
#include "push_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define RECORD_BYTES_MAX 1024
#define RECORD_SECONDS	 SPAN("3600")
/* What a closed loop may use up a second: twice what one CPU can verify and sign. */
#define ENVELOPES_PER_S 30000

/* ---- ids ---- */

static size_t put_hex(char *text, uint64_t value, int digits)
{
	for (int i = digits; i-- > 0; value >>= 4)
		text[i] = "0123456789abcdef"[value & 15];
	return (size_t)digits;
}

size_t command_request_id(const struct command_store *store, uint64_t index,
			  char text[COMMAND_ID_MAX])
{
	size_t len = put_hex(text, store->run, 16);

	text[len++] = '-';
	return len + put_hex(text + len, index, 12);
}

static struct span session_id(const struct command_store *store, uint32_t session,
			      char text[COMMAND_ID_MAX])
{
	int len = snprintf(text, COMMAND_ID_MAX, "bench-%016llx-%08x",
			   (unsigned long long)store->run, session);

	return span_make(text, (size_t)len);
}

/* ---- sessions ---- */

static int write_record(const struct command_store *store, struct push_store *redis,
			struct span public_key, uint32_t session)
{
	const struct options *options = store->options;
	uint32_t users = options->users ? options->users : store->sessions;
	char text[COMMAND_ID_MAX];
	struct span id = session_id(store, session, text);
	struct buf key, record;

	buf_init(&key, RECORD_BYTES_MAX);
	buf_init(&record, RECORD_BYTES_MAX);
	buf_printf(&key, "%s%.*s", options->key_prefix, SPAN_ARGS(id));
	buf_printf(&record,
		   "{\"device_session_id\":\"%.*s\",\"user_id\":\"bench-%016llx-user-%u\","
		   "\"client_public_key\":\"%.*s\",\"status\":\"active\"}",
		   SPAN_ARGS(id), (unsigned long long)store->run, session % users,
		   SPAN_ARGS(public_key));
	const struct span args[] = {SPAN("SET"), buf_span(&key), buf_span(&record), SPAN("EX"),
				    RECORD_SECONDS};
	int code = key.failed || record.failed ? -EMSGSIZE : push_store_send_all(redis, args, 5);

	buf_finish(&key);
	buf_finish(&record);
	return code;
}

static int write_all(const struct command_store *store, struct worker *worker)
{
	struct push_store redis;
	struct buf public_key;
	int code = push_store_open(&redis, worker, &store->options->redis);

	buf_init(&public_key, RECORD_BYTES_MAX);
	if (code == 0)
		code = base64_append(&public_key, span_make(signer_public_key(store->signer),
							    ENVELOPE_KEY_BYTES));
	for (uint32_t i = 0; code == 0 && i < store->sessions; i++)
		code = write_record(store, &redis, buf_span(&public_key), i);
	if (code == 0)
		code = push_store_settle(&redis);
	if (code)
		tell("session records cannot be written: %s",
		     redis.why[0] ? redis.why : strerrordesc_np(-code));
	push_store_close(&redis);
	buf_finish(&public_key);
	return code;
}

static int write_sessions(const struct command_store *store)
{
	struct worker *worker = lane_worker_create(THREADS_MAX);

	if (!worker)
		return -EIO;
	int code = worker_turn(worker, 0); /* enables the ring and reads the clock */

	if (code)
		tell("io_uring: %s", strerrordesc_np(-code));
	else
		code = write_all(store, worker);

	while (worker_ops_in_flight(worker) > 0 && worker_turn(worker, 1000) == 0)
		;
	lane_worker_destroy(worker);
	return code;
}

/* ---- envelopes ---- */

static uint64_t choose_count(const struct options *options)
{
	double seconds = options->warmup_s + options->duration_s;
	double per_s = options->rate > 0 ? options->rate * 1.02 : ENVELOPES_PER_S;

	if (options->envelopes)
		return options->envelopes;
	return (uint64_t)(seconds * per_s) + (uint64_t)options->connections * options->streams;
}

static int sign_all(struct command_store *store)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	for (uint64_t i = 0; i < store->envelope_count; i++) {
		char session[COMMAND_ID_MAX], id[COMMAND_ID_MAX];
		const struct request request = {
			.session = session_id(store, (uint32_t)(i % store->sessions), session),
			.message_type = span_from_cstr(store->options->message_type),
			.request_id = span_make(id, command_request_id(store, i, id)),
			.payload = span_make(store->payload, store->options->payload_bytes),
			.timestamp_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
		};

		store->envelopes[i] = request_write(&request, store->signer);
		if (!store->envelopes[i])
			return -ENOMEM;
	}
	return 0;
}

int command_store_init(struct command_store *store, const struct options *options)
{
	*store = (struct command_store){
		.options = options,
		.sessions = options->sessions ? options->sessions : options->connections,
		.envelope_count = choose_count(options),
		.payload = malloc(options->payload_bytes + 1),
	};
	store->envelopes = calloc(store->envelope_count, sizeof(*store->envelopes));
	if (!store->envelopes || !store->payload || signer_generate(&store->signer) != 0) {
		tell("out of memory");
		return -ENOMEM;
	}
	/* any bytes do, if getrandom gives fewer */
	memset(store->payload, 'x', options->payload_bytes);
	(void)!getrandom(store->payload, options->payload_bytes, 0);
	(void)!getrandom(&store->run, sizeof(store->run), 0);

	int code = write_sessions(store);

	if (code)
		return code;
	code = sign_all(store);
	if (code)
		tell("out of memory");
	return code;
}

void command_store_finish(struct command_store *store)
{
	for (uint64_t i = 0; store->envelopes && i < store->envelope_count; i++)
		payload_put(store->envelopes[i]);
	free(store->envelopes);
	free(store->payload);
	signer_destroy(store->signer);
	*store = (struct command_store){0};
}
