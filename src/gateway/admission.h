/*
 * admission: the pipeline: the checks that every signed call passes, in the contract's order
 * (edge.md §2.2), up to its route or the hub. Embedded in the call. Thread: the worker's.
 *
 *   NEW ─► SESSION ─► REPLAY ─► ADMITTED          any ─► OVER (refused, or cancelled)
 *            └ waits for a record  └ waits for the reservation
 */
#ifndef GATEWAY_ADMISSION_H
#define GATEWAY_ADMISSION_H

#include "gateway/node.h"

struct admission;

struct admission_handler {
	/* Every check passed; `session` stays the pipeline's until admission_finish. */
	void (*admitted)(struct admission *admission);
	/* The request has been answered with the refusal; the call may be freed inside. */
	void (*refused)(struct admission *admission);
};

struct admission {
	const struct admission_handler *handler;
	struct node *node;
	struct request *request;
	struct envelope envelope; /* lent by request->body */
	struct session *session;
	uint64_t checked_sequence; /* session events that the session check was based on */
	struct session_waiter waiter;
	struct redis_call reserve;
	uint8_t state;
};

/* Either callback may come before this returns. */
void admission_start(struct admission *admission, struct request *request,
		     const struct admission_handler *handler);

/* Lets go of everything; no callback follows. Safe in any state, and twice. */
void admission_finish(struct admission *admission);

/* Answers the request with a refusal and counts it. */
void admission_refuse(struct node *node, struct request *request, enum err err);

#endif
