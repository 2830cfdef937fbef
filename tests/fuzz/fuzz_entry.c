/*
 * fuzz_entry: an entry of the streams of session events and of client events: "name\nvalue\n…", so
 * that names may repeat, be missing or be anything.
 */
#include "fuzz/fuzz.h"
#include "gateway/record.h"

#define EVENT_BYTES_MAX 1024

static void read_session_event(const struct tail_entry *entry)
{
	struct session_fields fields;
	struct session *session = NULL;
	const char *field = NULL;

	if (record_read_session_event(entry, &fields, &field) == 0) {
		/* what it takes, the cache takes */
		CHECK(session_create(&session, &fields, &field) == 0);
		session_put(session);
	} else {
		CHECK(field);
	}
}

static void read_client_event(const struct tail_entry *entry)
{
	struct client_event client;
	const char *field = NULL;

	if (record_read_client_event(entry, EVENT_BYTES_MAX, &client, &field)) {
		CHECK(field);
		return;
	}
	CHECK(client.user_id.len > 0 && client.event.event_type.len > 0 &&
	      client.event.event_id.len > 0);
	CHECK(span_is_utf8(client.event.event_type) && span_is_utf8(client.event.event_id));
	CHECK(client.event.payload_bytes.len <= EVENT_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(span_make(data, size));
	struct span input = span_make(copy, size);
	struct tail_field fields[TAIL_FIELDS_MAX];
	struct tail_entry entry = {.id = SPAN("1-0"), .id_ms = 1, .fields = fields};

	while (entry.field_count < TAIL_FIELDS_MAX && input.len > 0) {
		struct span name = fuzz_until(&input, '\n');

		fields[entry.field_count++] = (struct tail_field){name, fuzz_until(&input, '\n')};
	}
	read_session_event(&entry);
	read_client_event(&entry);
	free(copy);
	return 0;
}
