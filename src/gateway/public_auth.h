/*
 * public_auth: the two public sign-in routes: the body is checked (auth_form), the identity budget
 * charged, and the request handed to the auth service over HTTP/1.1. Thread: the worker's.
 * Source: edge.md §5.
 *
 *   no GATEWAY_AUTH_SERVICE_BASE_URL     503 service_unavailable, whatever the body
 *   the body is not what it should be     400 invalid_request, the message says what
 *   the identity's budget is spent        429 rate_limited, Retry-After
 *   service: 2xx with the id              200 with the id and nothing else
 *   service: 4xx, safe code and message   as it is; a Retry-After in seconds too
 *   service: 4xx otherwise                its status; code and message of our own
 *   service: 5xx                          its status; code and message of our own
 *   service: 3xx, 2xx without the id      503 service_unavailable
 *   service: no HTTP, or too much of it   503 service_unavailable
 *   not to be reached, too many wait      503 service_unavailable
 *   no whole answer in its timeout        504 upstream_timeout
 *
 * A request that was charged stays charged, whatever becomes of it. Replies carry the x-request-id
 * that the service got: the client's own (1 to 128 visible ASCII characters) or a new one.
 */
#ifndef GATEWAY_PUBLIC_AUTH_H
#define GATEWAY_PUBLIC_AUTH_H

#include "edge/request.h"

struct http_pool;
struct node;

#define PUBLIC_AUTH_SEND_PATH	 "/api/v1/public/auth/send-email-code"
#define PUBLIC_AUTH_CONFIRM_PATH "/api/v1/public/auth/confirm-email-code"
#define PUBLIC_AUTH_BODY_MAX	 SIZE_MAX /* bounded by the anti-abuse class public_auth */

/* The worker's connections to the auth service; NULL without one. Returns 0 or -ENOMEM. */
int public_auth_open(struct node *node, struct http_pool **pool);

/* Routes: `start` and `cancelled`. */
void public_auth_send(struct request *request);
void public_auth_confirm(struct request *request);
void public_auth_cancelled(struct request *request);

#endif
