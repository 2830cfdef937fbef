/* address: socket addresses of peers and names. Any thread. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include "base/span.h"

#include <sys/socket.h>

struct address {
	struct sockaddr_storage storage;
	socklen_t len; /* 0: unknown */
};

/* "127.0.0.1:80", "[::1]:80", "unix". Returns the length; `text` has room for ADDRESS_TEXT_MAX. */
#define ADDRESS_TEXT_MAX 64
size_t address_format(const struct address *address, char text[ADDRESS_TEXT_MAX]);

/*
 * The budgets' key of a peer: IPv4 (also when v4-mapped) as 4 bytes, IPv6 as the 8 bytes of its /64; no bytes for a
 * unix socket, which is exempt. Source: edge.md §2.2. Returns the length written to `key`.
 */
#define ADDRESS_KEY_MAX 8
size_t address_budget_key(const struct address *address, uint8_t key[ADDRESS_KEY_MAX]);

bool address_is_loopback(const struct address *address);

#endif
