/* socket: what every socket of ours is given. Private to net/. Any thread unless said. */
#ifndef NET_SOCKET_H
#define NET_SOCKET_H

#include "uring/worker.h"

/*
 * TCP_NODELAY, keepalive, TCP_USER_TIMEOUT. Best effort: a kernel that refuses one of them still
 * makes connections that work. Nothing for other families. Set on a listener they are inherited by
 * what it accepts.
 */
void socket_set_tcp(int fd, int family);

/* Bounds what the kernel holds for a peer that does not read: SO_SNDBUF, TCP_NOTSENT_LOWAT. */
void socket_bound_send(int fd, int family);

/* Closes a file that no connection owns and nothing is in flight on. Thread: the worker's. */
void socket_discard(struct worker *worker, struct file_ref file);

#endif
