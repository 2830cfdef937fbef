/*
 * public_auth: the two public sign-in routes. No auth service can be configured yet, so both answer 503 as the contract says for
 * that case. Thread: the worker's. Source: edge.md §5.
 */
#ifndef GATEWAY_PUBLIC_AUTH_H
#define GATEWAY_PUBLIC_AUTH_H

#include "edge/request.h"

#define PUBLIC_AUTH_SEND_PATH "/api/v1/public/auth/send-email-code"
#define PUBLIC_AUTH_CONFIRM_PATH "/api/v1/public/auth/confirm-email-code"
#define PUBLIC_AUTH_BODY_MAX 8192

void public_auth_start(struct request *request);

#endif
