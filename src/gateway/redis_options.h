/*
 * redis_options: how this process reaches Redis, from the configuration: the same for the PINGs of
 * start-up, the bus and every node. Any thread. Source: edge.md §3, §7.
 */
#ifndef GATEWAY_REDIS_OPTIONS_H
#define GATEWAY_REDIS_OPTIONS_H

#include "config/config.h"
#include "redis/client.h"

/*
 * Reads the files that the configuration names for TLS with Redis. `context` is NULL where TLS is
 * off. Returns 0, or a negative code with every mistake in `report`, a line each: "<variable>: <what
 * is wrong>".
 * Owns: the caller, tls_context_destroy.
 */
int redis_tls_load(struct tls_context **context, const struct config *config, struct buf *report);

/*
 * Address, user, password, database and TLS are filled in; timeout, role, resolver, limits and
 * metrics are the caller's. Lifetime: the config's and the context's.
 */
struct redis_options redis_options_from(const struct config *config, const struct tls_context *tls);

#endif
