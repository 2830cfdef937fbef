/*
 * listeners: the sockets that clients come by: systemd's where it passes them, else our own.
 * Thread: main's. Source: edge.md §1.
 */
#ifndef PROGRAM_LISTENERS_H
#define PROGRAM_LISTENERS_H

#include "config/config.h"
#include "net/listener.h"

enum listener_kind { LISTENER_PUBLIC, LISTENER_GRPC, LISTENER_ADMIN, LISTENER_COUNT };

struct listeners {
	struct listen_socket sockets[LISTENER_COUNT];
	bool bound[LISTENER_COUNT];
};

/*
 * `count` sockets for each address of ours, one for the admin listener; each starts out zero. That
 * of gRPC is the edge gateway's: without it there is none, and systemd's counts as not taken.
 * Returns 0, or a negative errno that the log explains; what is open then stays to be closed.
 */
int listeners_open(struct listeners *listeners, const struct config *config, uint32_t count);

/* One line for each; `response_key` with that of gRPC. */
void listeners_log(const struct listeners *listeners, const char *response_key);

void listeners_close(struct listeners *listeners, enum listener_kind kind);
void listeners_close_all(struct listeners *listeners);

#endif
