/* push_publish: the publisher of a push run: XADD by a schedule or flat out. Thread: the first
 * crew's. */
#ifndef RINGBENCH_PUSH_PUBLISH_H
#define RINGBENCH_PUSH_PUBLISH_H

#include "push_setup.h"

struct push_publisher {
	struct push_setup *setup;
	uint64_t sequence; /* of the next event: so many were published */
	uint64_t expected; /* deliveries that they should make, to streams that read */
	uint64_t random;
	uint64_t *user_sequences; /* events published to each user */
	uint32_t *user_streams;	  /* streams of each that are open and read */
	uint8_t *payload;
};

/* The streams are open. Returns 0 or -ENOMEM. */
int push_publisher_init(struct push_publisher *publisher, struct push_setup *setup);
void push_publisher_finish(struct push_publisher *publisher);

/* One event. Returns false when Redis has too many waiting: later. */
bool push_publish(struct push_publisher *publisher, uint64_t due_us);

#endif
