/* address: socket addresses of peers and names. Any thread. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include "base/span.h"

#include <sys/socket.h>

struct address {
	struct sockaddr_storage storage;
	socklen_t len; /* 0: unknown */
};

/* A copy of what a system call filled in; unknown when it is longer than any address. */
struct address address_make(const struct sockaddr_storage *storage, socklen_t len);

/* From "127.0.0.1" or "::1". Returns false if the text is no numeric address. */
bool address_from_text(struct address *address, const char *host, uint16_t port);

/* Path without NUL, at most sizeof(sun_path) - 1 bytes (CHECK). */
struct address address_from_path(const char *path);

/*
 * "127.0.0.1:80" (also when v4-mapped), "[::1]:80", "unix", "unknown". Returns the length; `text`
 * has room for ADDRESS_TEXT_MAX.
 */
#define ADDRESS_TEXT_MAX 64
size_t address_format(const struct address *address, char text[ADDRESS_TEXT_MAX]);

/*
 * The budgets' key of a peer: IPv4 (also when v4-mapped) as 4 bytes, IPv6 as the 8 bytes of its
 * /64; no bytes for a unix socket, which is exempt. Source: edge.md §2.2. Returns the length
 * written to `key`.
 */
#define ADDRESS_KEY_MAX 8
size_t address_budget_key(const struct address *address, uint8_t key[ADDRESS_KEY_MAX]);

/* The bytes of an IPv4 (also when v4-mapped) or IPv6 address. Returns their number; 0 for others. */
#define ADDRESS_IP_MAX 16
size_t address_ip(const struct address *address, uint8_t bytes[ADDRESS_IP_MAX]);

/* From 4 or 16 bytes (CHECK). */
struct address address_from_ip(struct span bytes, uint16_t port);

/* 127.0.0.0/8 (also when v4-mapped), ::1, or a unix socket: the peer is on this machine. */
bool address_is_loopback(const struct address *address);

/* Of an IPv4 or IPv6 address, else 0. */
uint16_t address_port(const struct address *address);

/* Of an IPv4 or IPv6 address; others stay as they are. */
void address_set_port(struct address *address, uint16_t port);

#endif
