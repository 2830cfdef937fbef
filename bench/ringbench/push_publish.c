#include "push_publish.h"

#include "push_check.h"

#include <errno.h>
#include <stdlib.h>

int push_publisher_init(struct push_publisher *publisher, struct push_setup *setup)
{
	uint32_t payload_bytes = setup->options->payload_bytes;

	*publisher = (struct push_publisher){
		.setup = setup,
		.random = setup->run | 1,
		.user_sequences = calloc(setup->users + 1, sizeof(*publisher->user_sequences)),
		.user_streams = calloc(setup->users + 1, sizeof(*publisher->user_streams)),
		.payload = calloc(1, payload_bytes + PUSH_PAYLOAD_MIN),
	};
	if (!publisher->user_sequences || !publisher->user_streams || !publisher->payload) {
		push_publisher_finish(publisher);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < payload_bytes; i++)
		publisher->payload[i] = (uint8_t)i;
	for (uint32_t i = 0; i < setup->active; i++) {
		const struct push_stream *stream = push_team_stream(&setup->team, i);

		if (!stream->stalled)
			publisher->user_streams[stream->user]++;
	}
	return 0;
}

void push_publisher_finish(struct push_publisher *publisher)
{
	free(publisher->user_sequences);
	free(publisher->user_streams);
	free(publisher->payload);
	publisher->user_sequences = NULL;
	publisher->user_streams = NULL;
	publisher->payload = NULL;
}

/* xorshift64*: nobody is to guess it, it is only to be spread. */
static uint64_t next_random(struct push_publisher *publisher)
{
	uint64_t x = publisher->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	publisher->random = x;
	return x * 0x2545f4914f6cdd1dULL;
}

bool push_publish(struct push_publisher *publisher, uint64_t due_us)
{
	const struct push_setup *setup = publisher->setup;
	const struct options *options = setup->options;
	uint64_t before = publisher->random;
	uint64_t choice = options->targeted ? next_random(publisher) >> 11 : publisher->sequence;
	uint32_t user = (uint32_t)(choice % setup->users);
	const struct push_mark mark = {
		.run = setup->run,
		.sequence = publisher->sequence,
		.user_sequence = publisher->user_sequences[user],
		.due_us = due_us,
		.user = user,
		.payload_len = options->payload_bytes,
	};
	char name[PUSH_NAME_MAX], id[PUSH_EVENT_ID_LEN + 1];

	memcpy(publisher->payload, &mark, sizeof(mark));
	push_event_id(id, mark.sequence);

	const struct span args[] = {
		SPAN("XADD"),
		span_from_cstr(options->stream_key),
		SPAN("*"),
		SPAN("user_id"),
		push_user_name(setup, name, user),
		SPAN("event_type"),
		SPAN(PUSH_EVENT_TYPE),
		SPAN("event_id"),
		span_make(id, PUSH_EVENT_ID_LEN),
		SPAN("payload_bytes"),
		span_make(publisher->payload, options->payload_bytes),
	};

	if (push_store_send(&publisher->setup->store, args, sizeof(args) / sizeof(args[0])) != 0) {
		publisher->random = before;
		return false;
	}
	publisher->sequence++;
	publisher->user_sequences[user]++;
	publisher->expected += publisher->user_streams[user];
	return true;
}
