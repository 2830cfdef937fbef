/* fuzz_session: the JSON of a session record, as publishers write it. */
#include "fuzz/fuzz.h"
#include "gateway/record.h"

static void check_session(const struct session *session, struct span id)
{
	CHECK(span_equal(session_id(session), id));
	CHECK(session->user_len > 0 && session->user_len <= SESSION_USER_MAX);
	CHECK(session->status == SESSION_ACTIVE || session->status == SESSION_REVOKED);
	CHECK(envelope_text_is_valid(session_user(session)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(span_make(data, size));
	struct session *session = NULL;
	const char *field = NULL;
	int result = record_read_session(&session, span_make(copy, size), SPAN("s1"), &field);

	if (result == 0)
		check_session(session, SPAN("s1"));
	else
		CHECK(!session && field);
	session_put(session);
	free(copy);
	return 0;
}
