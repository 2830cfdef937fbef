/* dns: names to addresses by c-ares, its sockets polled by the worker's ring. Thread: the worker's. */
#ifndef NET_DNS_H
#define NET_DNS_H

#include "net/address.h"
#include "uring/worker.h"

struct dns; /* one per worker, made at the first need */
struct dns_query;

#define DNS_ADDRESSES_MAX 16

/* status 0 with count ≥ 1, or a negative errno: -ENOENT (no such name), -ETIMEDOUT, -EIO. Called once, never inside dns_query_start. */
typedef void dns_done_fn(struct dns_query *query, int status, const struct address *addresses, size_t count);

struct dns_query {
	struct list link;
	struct dns *dns;
	dns_done_fn *done;
	uint16_t port;
	bool cancelled;
	void *internal;
};

int dns_create(struct dns **dns, struct worker *worker);

/* All queries must be done or cancelled. `closed` is called once nothing is in flight. */
void dns_destroy(struct dns *dns, void (*closed)(void *context), void *context);

/* /etc/hosts first, then DNS; both families. Every query asks anew: nothing is cached. */
void dns_query_start(struct dns *dns, struct dns_query *query, const char *host, uint16_t port);

/* `done` will not be called. */
void dns_query_cancel(struct dns_query *query);

#endif
