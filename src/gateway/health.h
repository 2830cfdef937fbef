/*
 * health: grpc.health.v1.Health on the authenticated listener: Check, List, Watch. Thread: the
 * worker's. Source: edge.md §2; grpc/doc/health-checking.md.
 */
#ifndef GATEWAY_HEALTH_H
#define GATEWAY_HEALTH_H

#include "edge/request.h"

struct node;

/* Handlers of the routes; request->service is the node. */
void health_check(struct request *request);
void health_list(struct request *request);
void health_watch(struct request *request);
void health_watch_cancelled(struct request *request);

/* Shutdown has begun: every open Watch hears NOT_SERVING; the server's drain ends it. */
void health_announce(struct node *node);

#endif
