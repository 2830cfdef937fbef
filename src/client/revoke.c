/* revoke: writes the revoked session record, then the session event (edge.md §3: the record comes
 * first). */
#include "client/print.h"
#include "client/store.h"

#include "base/check.h"

#include <time.h>

static void print_done(struct span session, struct span entry)
{
	struct print print;

	print_init(&print, false);
	print_words(&print, "session ");
	print_word_bytes(&print, session);
	print_words(&print, " is revoked, event ");
	print_word_bytes(&print, entry);
	print_words(&print, "\n");
	(void)print_finish(&print);
}

static int write_both(const struct arguments *arguments, const struct record *record,
		      const struct buf *bufs)
{
	char revoked_at[24];
	struct buf last;

	snprintf(revoked_at, sizeof(revoked_at), "%lld", (long long)record->revoked_at_ms);

	const struct span set[] = {SPAN("SET"), buf_span(&bufs[0]), buf_span(&bufs[1])};
	const struct span add[] = {
		SPAN("XADD"),
		argument_span(arguments, "--stream"),
		SPAN("*"),
		SPAN("device_session_id"),
		record->session,
		SPAN("user_id"),
		record->user,
		SPAN("client_public_key"),
		buf_span(&record->key),
		SPAN("status"),
		SPAN("revoked"),
		SPAN("revoked_at_ms"),
		span_from_cstr(revoked_at),
	};
	const struct store_command commands[] = {{set, ARRAY_LEN(set)}, {add, ARRAY_LEN(add)}};

	buf_init(&last, RECORD_BYTES_MAX);

	int code = store_run(arguments, commands, ARRAY_LEN(commands), &last);

	if (code == EXIT_OKAY)
		print_done(record->session, buf_span(&last));
	buf_finish(&last);
	return code;
}

int revoke_run(const struct arguments *arguments)
{
	struct record record;
	struct timespec now;
	struct buf bufs[2]; /* key and value of the record */
	int code = record_init(&record, arguments, "revoked");

	if (code == 0)
		code = record_complete(&record, arguments);
	clock_gettime(CLOCK_REALTIME, &now);
	record.revoked_at_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	buf_init(&bufs[0], RECORD_BYTES_MAX);
	buf_init(&bufs[1], RECORD_BYTES_MAX);
	if (code == 0 && (record_key(&record, arguments, &bufs[0]) != 0 ||
			  record_write(&record, &bufs[1]) != 0)) {
		complain("revoke: ids are too long, or out of memory");
		code = EXIT_FAILED;
	}
	if (code == 0)
		code = write_both(arguments, &record, bufs);
	buf_finish(&bufs[0]);
	buf_finish(&bufs[1]);
	record_finish(&record);
	return code;
}
