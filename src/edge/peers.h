/*
 * peers: open connections by peer address, for GATEWAY_MAX_CONNECTIONS_PER_IP: IPv6 by /64, unix
 * sockets exempt. One table for the process. Any thread; a lock is held for one look-up, per
 * connection and never per request.
 *
 * Memory: an entry for each address that has a connection now, so no more than there are
 * connections. Source: edge.md §5, §7.
 */
#ifndef EDGE_PEERS_H
#define EDGE_PEERS_H

#include "base/hash.h"
#include "net/address.h"

struct peers;

/* Returns NULL without memory. `connections_max`: of one peer, at least 1. */
struct peers *peers_create(struct hash_secret secret, uint64_t connections_max);

/* All released (CHECK). NULL is allowed. */
void peers_destroy(struct peers *peers);

enum peers_answer {
	PEERS_EXEMPT,	/* nothing was counted */
	PEERS_ADMITTED, /* counted: peers_release is due, with the same address */
	PEERS_REFUSED,	/* it has as many as it may, or there is no memory to count it */
};

enum peers_answer peers_admit(struct peers *peers, const struct address *address);
void peers_release(struct peers *peers, const struct address *address);

#endif
