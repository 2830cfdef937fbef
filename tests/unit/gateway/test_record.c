#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "auth/signer.h"
#include "base/check.h"
#include "gateway/record.h"

#include <errno.h>
#include <stdio.h>

#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define RECORD(id, user, key, status, rest)                                                        \
	"{\"device_session_id\":\"" id "\",\"user_id\":\"" user "\",\"client_public_key\":\"" key  \
	"\",\"status\":\"" status "\"" rest "}"

static void well_formed_record_becomes_a_session(void **state)
{
	(void)state;
	struct session *session;
	const char *field;

	assert_int_equal(
		record_read_session(&session,
				    SPAN(RECORD("s", "u", KEY, "active", ",\"more\":[1,{}]")),
				    SPAN("s"), &field),
		0);
	assert_true(span_equal(session_id(session), SPAN("s")));
	assert_true(span_equal(session_user(session), SPAN("u")));
	assert_int_equal(session->status, SESSION_ACTIVE);
	for (uint8_t i = 0; i < 32; i++)
		assert_int_equal(session->public_key[i], i);
	session_put(session);
}

static void time_of_revocation_is_a_number_or_a_decimal_string(void **state)
{
	(void)state;
	struct session *session;
	const char *field;

	assert_int_equal(
		record_read_session(&session,
				    SPAN(RECORD("s", "u", KEY, "revoked", ",\"revoked_at_ms\":17")),
				    SPAN("s"), &field),
		0);
	assert_int_equal(session->status, SESSION_REVOKED);
	assert_int_equal(session->revoked_at_ms, 17);
	session_put(session);
	assert_int_equal(record_read_session(&session,
					     SPAN(RECORD("s", "u", KEY, "revoked",
							 ",\"revoked_at_ms\":\"18\"")),
					     SPAN("s"), &field),
			 0);
	assert_int_equal(session->revoked_at_ms, 18);
	session_put(session);
}

static void malformed_record_is_refused_by_its_field(void **state)
{
	(void)state;
	static const struct {
		const char *text, *field;
	} rows[] = {
		{"", "record"},
		{"null", "record"},
		{"[1]", "record"},
		{"{\"a\":1,\"a\":2}", "record"},
		{RECORD("s", "u", KEY, "active", "") "x", "record"},
		{"{}", "device_session_id"},
		{RECORD("other", "u", KEY, "active", ""), "device_session_id"},
		{RECORD("s", "", KEY, "active", ""), "user_id"},
		{RECORD("s", "u", "AAAA", "active", ""), "client_public_key"},
		{RECORD("s", "u", "", "active", ""), "client_public_key"},
		{RECORD("s", "u", KEY, "Active", ""), "status"},
		{RECORD("s", "u", KEY, "active", ",\"revoked_at_ms\":\"soon\""), "revoked_at_ms"},
		{RECORD("s", "u", KEY, "active", ",\"revoked_at_ms\":null"), "revoked_at_ms"},
		{"{\"device_session_id\":\"s\",\"user_id\":7}", "user_id"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct session *session;
		const char *field = NULL;

		assert_int_equal(record_read_session(&session, span_from_cstr(rows[i].text),
						     SPAN("s"), &field),
				 -EINVAL);
		assert_string_equal(field, rows[i].field);
	}
}

#define FIELD(n, v)                                                                                \
	{                                                                                          \
		SPAN(n), SPAN(v)                                                                   \
	}

struct entry_row {
	struct tail_field fields[8];
	const char *field; /* at fault; NULL: well formed */
};

static struct tail_entry entry_of(const struct entry_row *row)
{
	struct tail_entry entry = {.id = SPAN("1-0"), .fields = row->fields};

	while (entry.field_count < ARRAY_LEN(row->fields) &&
	       row->fields[entry.field_count].name.data)
		entry.field_count++;
	return entry;
}

static void session_event_is_read_or_its_field_named(void **state)
{
	(void)state;
	static const struct entry_row rows[] = {
		{{FIELD("device_session_id", "s"), FIELD("user_id", "u"),
		  FIELD("client_public_key", KEY), FIELD("status", "active")},
		 NULL},
		{{FIELD("status", "revoked"), FIELD("revoked_at_ms", "5"),
		  FIELD("device_session_id", "s"), FIELD("user_id", "u"),
		  FIELD("client_public_key", KEY), FIELD("unknown", "x")},
		 NULL},
		{{{SPAN_EMPTY, SPAN_EMPTY}}, "entry"},
		{{FIELD("device_session_id", "s")}, "user_id"},
		{{FIELD("device_session_id", "s"), FIELD("user_id", "u"),
		  FIELD("client_public_key", KEY)},
		 "status"},
		{{FIELD("device_session_id", "s"), FIELD("user_id", "u"),
		  FIELD("client_public_key", KEY), FIELD("status", "active"),
		  FIELD("status", "revoked")},
		 "status"},
		{{FIELD("user_id", "u"), FIELD("client_public_key", KEY),
		  FIELD("status", "active")},
		 "device_session_id"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tail_entry entry = entry_of(&rows[i]);
		struct session_fields fields;
		const char *field = NULL;
		int error = record_read_session_event(&entry, &fields, &field);

		assert_int_equal(error, rows[i].field ? -EINVAL : 0);
		if (rows[i].field)
			assert_string_equal(field, rows[i].field);
		/* whoever it names is known also from a malformed entry */
		if (entry.field_count &&
		    span_equal(entry.fields[0].name, SPAN("device_session_id")))
			assert_true(span_equal(fields.device_session_id, SPAN("s")));
	}
}

static void client_event_is_read_or_its_field_named(void **state)
{
	(void)state;
	static const struct entry_row rows[] = {
		{{FIELD("user_id", "u"), FIELD("event_type", "t"), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "p")},
		 NULL},
		{{FIELD("user_id", "u"), FIELD("event_type", "t"), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "")},
		 NULL},
		{{FIELD("user_id", "u"), FIELD("event_type", "t"), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "\xff\0"), FIELD("request_id", "r"),
		  FIELD("trace_id", "t"), FIELD("device_session_id", "s")},
		 NULL},
		{{FIELD("event_type", "t"), FIELD("event_id", "e"), FIELD("payload_bytes", "p")},
		 "user_id"},
		{{FIELD("user_id", ""), FIELD("event_type", "t"), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "p")},
		 "user_id"},
		{{FIELD("user_id", "u"), FIELD("event_type", ""), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "p")},
		 "event_type"},
		{{FIELD("user_id", "u"), FIELD("event_type", "t"), FIELD("payload_bytes", "p")},
		 "event_id"},
		{{FIELD("user_id", "u"), FIELD("event_type", "t"), FIELD("event_id", "e")},
		 "payload_bytes"},
		{{FIELD("user_id", "u"), FIELD("event_type", "\xff"), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "p")},
		 "event_type"},
		{{FIELD("user_id", "u"), FIELD("event_type", "t"), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "p"), FIELD("trace_id", "\xff")},
		 "trace_id"},
		{{FIELD("user_id", "u"), FIELD("event_type", "t"), FIELD("event_id", "e"),
		  FIELD("payload_bytes", "p"), FIELD("event_id", "f")},
		 "event_id"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tail_entry entry = entry_of(&rows[i]);
		struct client_event event;
		const char *field = NULL;

		assert_int_equal(record_read_client_event(&entry, 1024, &event, &field),
				 rows[i].field ? -EINVAL : 0);
		if (rows[i].field)
			assert_string_equal(field, rows[i].field);
	}
}

static void client_event_over_the_message_limit_is_refused(void **state)
{
	(void)state;
	static const struct entry_row row = {{FIELD("user_id", "u"), FIELD("event_type", "t"),
					      FIELD("event_id", "e"),
					      FIELD("payload_bytes", "0123456789")},
					     NULL};
	struct tail_entry entry = entry_of(&row);
	struct client_event event;
	const char *field;

	assert_int_equal(record_read_client_event(&entry, 1024, &event, &field), 0);
	assert_int_equal(record_read_client_event(&entry, 100, &event, &field), -EINVAL);
	assert_string_equal(field, "size");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(well_formed_record_becomes_a_session),
		cmocka_unit_test(time_of_revocation_is_a_number_or_a_decimal_string),
		cmocka_unit_test(malformed_record_is_refused_by_its_field),
		cmocka_unit_test(session_event_is_read_or_its_field_named),
		cmocka_unit_test(client_event_is_read_or_its_field_named),
		cmocka_unit_test(client_event_over_the_message_limit_is_refused),
	};

	if (auth_init())
		return 1;
	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
