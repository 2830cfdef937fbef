/* execute: ExecuteCommand: admission, route, downstream call, signed answer. Thread: the worker's.
 * Source: edge.md §2.2, §2.3. */
#ifndef GATEWAY_EXECUTE_H
#define GATEWAY_EXECUTE_H

#include "edge/request.h"

/* How a command goes out (edge.md §2.3). */
#define UPSTREAM_HANDLE_PATH SPAN("/galaxy.gateway.v1.CommandHandler/Handle")

/* Handlers of the route; request->service is the node. */
void execute_start(struct request *request);
void execute_cancelled(struct request *request);

#endif
