#include "gateway/record.h"

#include "codec/json.h"

#include <errno.h>
#include <stdio.h>

/* Room for the fields around an event's own: numbers, lengths, hash, signature, prefix. */
#define EVENT_OVERHEAD_BYTES 192

int record_read_session(struct session **session, struct span text, struct span id,
			const char **field)
{
	struct json_document *document;
	struct session_fields fields = {0};
	char revoked_at[24];
	int64_t number;

	*field = "record";
	int error = json_parse_object(&document, text, SESSION_RECORD_BYTES_MAX);

	if (error)
		return error;
	const struct {
		const char *name;
		struct span *value;
	} members[] = {
		{"device_session_id", &fields.device_session_id},
		{"user_id", &fields.user_id},
		{"client_public_key", &fields.client_public_key},
		{"status", &fields.status},
	};

	error = -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		*field = members[i].name;
		if (!json_get_string(document, members[i].name, members[i].value))
			goto out;
	}
	if (json_has(document, "revoked_at_ms")) {
		*field = "revoked_at_ms";
		if (!json_get_int64(document, "revoked_at_ms", &number))
			goto out;
		int len = snprintf(revoked_at, sizeof(revoked_at), "%lld", (long long)number);
		fields.revoked_at_ms = span_make(revoked_at, (size_t)len);
	}
	*field = "device_session_id";
	if (!span_equal(fields.device_session_id, id))
		goto out;
	error = session_create(session, &fields, field);
out:
	json_free(document);
	return error;
}

/* A row per field that an entry may have. */
struct field_row {
	const char *name;
	struct span *value;
	bool seen;
};

/* Unknown fields are ignored; a field that is repeated is malformed. */
static int read_fields(const struct tail_entry *entry, struct field_row *rows, size_t count,
		       const char **field)
{
	int error = 0;

	*field = "entry";
	if (entry->field_count == 0)
		return -EINVAL;
	for (size_t i = 0; i < entry->field_count; i++) {
		for (size_t row = 0; row < count; row++) {
			if (!span_equal(entry->fields[i].name, span_from_cstr(rows[row].name)))
				continue;
			if (rows[row].seen && !error) {
				*field = rows[row].name;
				error = -EINVAL;
			}
			rows[row].seen = true;
			*rows[row].value = entry->fields[i].value;
		}
	}
	return error;
}

int record_read_session_event(const struct tail_entry *entry, struct session_fields *fields,
			      const char **field)
{
	*fields = (struct session_fields){0};
	struct field_row rows[] = {
		{.name = "device_session_id", .value = &fields->device_session_id},
		{.name = "user_id", .value = &fields->user_id},
		{.name = "client_public_key", .value = &fields->client_public_key},
		{.name = "status", .value = &fields->status},
		{.name = "revoked_at_ms", .value = &fields->revoked_at_ms},
	};
	int error = read_fields(entry, rows, ARRAY_LEN(rows), field);

	if (error)
		return error;
	struct session *session;

	error = session_create(&session, fields, field);
	if (!error)
		session_put(session);
	return error;
}

int record_read_client_event(const struct tail_entry *entry, size_t event_bytes_max,
			     struct client_event *event, const char **field)
{
	*event = (struct client_event){0};
	struct field_row rows[] = {
		{.name = "user_id", .value = &event->user_id},
		{.name = "event_type", .value = &event->event.event_type},
		{.name = "event_id", .value = &event->event.event_id},
		{.name = "payload_bytes", .value = &event->event.payload_bytes},
		{.name = "device_session_id", .value = &event->device_session_id},
		{.name = "request_id", .value = &event->event.request_id},
		{.name = "trace_id", .value = &event->event.trace_id},
	};
	const size_t payload_row = 3, required_rows = 4;
	size_t bytes = EVENT_OVERHEAD_BYTES;
	int error = read_fields(entry, rows, ARRAY_LEN(rows), field);

	if (error)
		return error;
	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		*field = rows[row].name;
		if (row < required_rows && !rows[row].seen)
			return -EINVAL;
		if (row < payload_row && rows[row].value->len == 0)
			return -EINVAL;
		if (row != payload_row && !span_is_utf8(*rows[row].value))
			return -EINVAL;
		bytes += rows[row].value->len;
	}
	*field = "size";
	return bytes > event_bytes_max ? -EINVAL : 0;
}
