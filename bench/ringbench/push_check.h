/*
 * push_check: what an event of this run looks like and whether a received one is right: its layout
 * (learnt from the first one, compared cheaply, parsed in full when it differs), order, nothing
 * lost, nothing twice; hash and signature of every 256th event. One thread at a time.
 */
#ifndef RINGBENCH_PUSH_CHECK_H
#define RINGBENCH_PUSH_CHECK_H

#include "base/metric.h"
#include "base/span.h"
#include "stats.h"

#define PUSH_EVENT_TYPE	  "bench.event"
#define PUSH_EVENT_ID_LEN 16 /* the sequence, hexadecimal */
#define PUSH_SAMPLE	  256

/* At the start of an event's payload, in this machine's byte order. */
struct push_mark {
	uint64_t run; /* tells this run's events from others' */
	uint64_t sequence;
	uint64_t user_sequence;
	uint64_t due_us; /* when the schedule wanted it published, monotonic */
	uint32_t user;
	uint32_t payload_len;
};

#define PUSH_PAYLOAD_MIN sizeof(struct push_mark)

/* PUSH_EVENT_ID_LEN bytes and a NUL. */
void push_event_id(char text[PUSH_EVENT_ID_LEN + 1], uint64_t sequence);

struct push_shape { /* of our events' encoding */
	uint32_t message_len; /* 0: not known yet */
	uint32_t head_len;    /* event_type, and event_id but for its value */
	uint32_t middle_at, middle_len; /* tag and length of the payload */
	uint32_t mark_at;
	uint8_t head[40], middle[8];
};

#define PUSH_SAMPLES 16

struct push_sample { /* an event that was found right: its copies need only be equal */
	uint8_t *bytes;
	size_t len;
	uint64_t sequence;
};

struct push_stream;

struct push_check {
	uint64_t run;
	const uint8_t *key; /* the gateway's; NULL: signatures are not checked */
	struct push_shape shape;
	struct push_sample samples[PUSH_SAMPLES];
	uint64_t now_us;		   /* of the receive that is being read */
	uint64_t measure_from_us, measure_to_us; /* latencies of events due in between */
	uint64_t bootstraps;
	struct histogram *latency;
	struct metric_counter wrong, duplicates, gaps, foreign, verified, parsed;
	char why[120]; /* about the first wrong one */
};

void push_check_finish(struct push_check *check);

enum push_event { PUSH_EVENT_OURS, PUSH_EVENT_BOOTSTRAP, PUSH_EVENT_OTHER };

/* One whole message (without its gRPC prefix) that came on a stream. */
enum push_event push_check_message(struct push_check *check, struct push_stream *stream,
				   struct span message);

#endif
