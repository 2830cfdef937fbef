/* session: writes an active session record. */
#include "client/store.h"

#include "base/check.h"

static int write_session(const struct arguments *arguments, const struct record *record)
{
	struct buf key, value, last;
	int code = EXIT_FAILED;

	buf_init(&key, RECORD_BYTES_MAX);
	buf_init(&value, RECORD_BYTES_MAX);
	buf_init(&last, RECORD_BYTES_MAX);
	if (record_key(record, arguments, &key) != 0 || record_write(record, &value) != 0) {
		complain("session: ids are too long, or out of memory");
	} else {
		const struct span set[] = {SPAN("SET"), buf_span(&key), buf_span(&value)};
		const struct store_command command = {set, ARRAY_LEN(set)};

		code = store_run(arguments, &command, 1, &last);
	}
	if (code == EXIT_OKAY)
		printf("session %.*s of user %.*s is active\n", SPAN_ARGS(record->session),
		       SPAN_ARGS(record->user));
	buf_finish(&last);
	buf_finish(&value);
	buf_finish(&key);
	return code;
}

int session_run(const struct arguments *arguments)
{
	struct record record;
	int code = record_init(&record, arguments, "active");

	if (code == 0)
		code = write_session(arguments, &record);
	record_finish(&record);
	return code;
}
