/*
 * record: what publishers write into Redis, read strictly: session records, session events, client
 * events. Pure; any thread. Source: edge.md §3.
 */
#ifndef GATEWAY_RECORD_H
#define GATEWAY_RECORD_H

#include "auth/session.h"
#include "gateway/wire.h"
#include "redis/tail.h"

#define SESSION_RECORD_BYTES_MAX 16384 /* a record is ~300 bytes; more is not one of ours */

/*
 * Parses the JSON record found under `id`. Returns 0 with a session (count 1), -EINVAL (malformed,
 * or it names another session:
 * `*field` says what, static text) or -ENOMEM.
 */
int record_read_session(struct session **session, struct span text, struct span id,
			const char **field);

/*
 * Fields of a session event, lent by the entry. device_session_id is set whenever the entry has
 * one, also on failure. Returns 0, or -EINVAL when session_create would refuse them or a field is
 * repeated.
 */
int record_read_session_event(const struct tail_entry *entry, struct session_fields *fields,
			      const char **field);

struct client_event {
	struct span user_id;
	struct span device_session_id; /* empty: every stream of the user */
	struct wire_event event;       /* timestamp_ms left for the gateway's clock */
};

/* Returns 0 or -EINVAL with the field at fault. `event_bytes_max` bounds the event as a message. */
int record_read_client_event(const struct tail_entry *entry, size_t event_bytes_max,
			     struct client_event *event, const char **field);

#endif
