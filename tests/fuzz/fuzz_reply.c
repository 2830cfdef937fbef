/*
 * fuzz_reply: what Redis answers to XREAD, XINFO STREAM and GET, from bytes to entries, events,
 * positions and sessions. Redis is no attacker, but it may be the wrong one.
 */
#include "fuzz/fuzz.h"
#include "gateway/record.h"
#include "redis/entry.h"

#define EVENT_BYTES_MAX 1024

static const struct resp_limits limits = {
	.value_bytes_max = 1 << 16, .items_max = 256, .depth_max = 7};

static void read_record(const struct tail_entry *entry)
{
	struct session_fields fields;
	struct client_event client;
	const char *field = NULL;

	CHECK(entry->field_count <= TAIL_FIELDS_MAX);
	CHECK(record_read_session_event(entry, &fields, &field) == 0 || field);
	field = NULL;
	CHECK(record_read_client_event(entry, EVENT_BYTES_MAX, &client, &field) == 0 || field);
}

static void read_entries(const struct resp_value *value, struct position *position)
{
	const struct resp_value *entries = tail_entries_of(value);

	for (size_t i = 0; entries && i < entries->count; i++) {
		struct tail_field fields[TAIL_FIELDS_MAX];
		struct tail_entry entry;
		struct stream_id before = position->last;
		int result = tail_entry_read(entries->items[i], position, fields, &entry);

		/* an id is never handled twice */
		CHECK(stream_id_compare(position->last, before) >= (result >= 0));
		if (result > 0)
			read_record(&entry);
	}
}

static void read_info(const struct resp_value *value, struct position *position)
{
	struct stream_info info;

	if (!stream_info_parse(value, &info))
		return;

	struct stream_id before = position->last;
	enum position_verdict verdict = position_judge(position, &info);

	if (verdict == POSITION_RECREATED)
		return;
	CHECK(stream_id_compare(position->last, before) == 0);
	/* with the counters, a gap is told once */
	if (position->has_counter && info.has_counter)
		CHECK(position_judge(position, &info) == POSITION_FINE);
}

static void read_session(const struct resp_value *value)
{
	struct session *session = NULL;
	const char *field = NULL;

	if (value->type != RESP_STRING)
		return;
	CHECK(record_read_session(&session, value->text, SPAN("s1"), &field) == 0 || field);
	session_put(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(span_make(data, size));
	struct resp_reader *reader = resp_reader_create(&limits);
	struct position position = {.has_counter = true};
	struct resp_value *value;

	CHECK(reader);
	if (resp_reader_feed(reader, span_make(copy, size)) == 0) {
		while (resp_reader_next(reader, &value) > 0) {
			read_entries(value, &position);
			read_info(value, &position);
			read_session(value);
			resp_value_free(value);
		}
	}
	resp_reader_destroy(reader);
	free(copy);
	return 0;
}
