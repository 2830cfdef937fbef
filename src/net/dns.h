/*
 * dns: names to addresses by c-ares, its sockets polled by the worker's ring. Thread: the worker's.
 */
#ifndef NET_DNS_H
#define NET_DNS_H

#include "net/address.h"
#include "uring/worker.h"

struct dns; /* one per worker; c-ares is set up at the first need */
struct dns_query;

#define DNS_ADDRESSES_MAX 16
/* asked at once: far more than a worker has upstreams; beyond it -ENOBUFS */
#define DNS_LOOKUPS_MAX 256

/*
 * status 0 with count ≥ 1, or a negative errno: -ENOENT (no such name), -ETIMEDOUT, -EIO (no server
 * answers, or nonsense), -ENOBUFS, -ENOMEM. Called once, never inside dns_query_start. The query
 * may be started or freed inside. Lifetime of the addresses: the call.
 */
typedef void dns_done_fn(struct dns_query *query, int status, const struct address *addresses,
			 size_t count);

struct dns_query { /* set `done` before dns_query_start */
	struct list link;
	struct dns *dns;
	dns_done_fn *done;
	uint16_t port;
	bool active; /* between dns_query_start and done or cancel */
	int status;
	void *internal;
};

/* Returns 0 or -ENOMEM. */
int dns_create(struct dns **dns, struct worker *worker);

/*
 * All queries must be done or cancelled (CHECK). `closed` (may be NULL) is called once, later, with
 * nothing in flight.
 */
void dns_destroy(struct dns *dns, void (*closed)(void *context), void *context);

/*
 * Asks these servers ("10.0.0.1,[::1]:5353") instead of those of resolv.conf, from the next query
 * that starts while no other is in flight. Returns 0, -EINVAL or -ENOMEM.
 */
int dns_set_servers(struct dns *dns, const char *servers);

/*
 * /etc/hosts first, then DNS; both families. Every query asks anew: nothing is cached; resolv.conf
 * is read again if it changed.
 */
void dns_query_start(struct dns *dns, struct dns_query *query, const char *host, uint16_t port);

/*
 * `done` will not be called; the query's memory is the caller's again. Safe on one that is not
 * active.
 */
void dns_query_cancel(struct dns_query *query);

#endif
