/*
 * subscribe: SubscribeEvents: admission, registration with the bus, then the feed into the HTTP/2
 * stream until one of them ends. Thread: the worker's. Source: edge.md §4, DESIGN §4.
 *
 *   ADMISSION ─► REGISTERING ─┬─► OPEN ─► LEAVING ─► (freed)
 *      ▲ recheck ◄───────────┘ refused: freed
 *
 * The request may go in any state; the stream stays until the bus has let go of it.
 */
#ifndef GATEWAY_SUBSCRIBE_H
#define GATEWAY_SUBSCRIBE_H

#include "edge/request.h"

struct node;
struct survey;

#define SUBSCRIBE_STREAM_BYTES 448	  /* of one stream in node->stream_slab */
#define SUBSCRIBE_STREAMS_MAX  (1u << 20) /* of one worker: as its calls, edge's SERVER_CALLS_MAX  \
					   */

/* Handlers of the route; request->service is the node. */
void subscribe_start(struct request *request);
void subscribe_cancelled(struct request *request);
void subscribe_pull(struct request *request);

/*
 * Looks after feeds that the bus has queued for this worker, some at a time: what they send leaves
 * before more are looked at: to be called once in each turn, before its flush step. node->drain is a
 * flush task while any are left, so that the next turn does not wait.
 */
void subscribe_drain(struct node *node);
void subscribe_drain_init(struct node *node);

/* Tells of the open streams of this worker. Looks at each one, some nanoseconds a stream. */
void subscribe_survey(const struct node *node, struct survey *survey);

#endif
