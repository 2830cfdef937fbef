/*
 * listener: accepts on the ring. The sockets are made before the workers start (bind errors end
 * start-up); each worker then accepts from its own (SO_REUSEPORT) or from a shared one (unix,
 * systemd).
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "base/endpoint.h"
#include "net/address.h"
#include "uring/worker.h"

/* ---- making sockets (listen_socket.c); thread: main, before the workers run ---- */

/* a burst of clients that reconnect; the kernel cuts it to net.core.somaxconn */
#define LISTEN_BACKLOG 4096

struct listen_socket {
	int fds[WORKERS_MAX]; /* one a worker when not shared; else fds[0] for all */
	uint32_t fd_count;
	bool shared; /* unix or inherited: every worker accepts from fds[0] */
	/* unix: removed by listen_socket_close if it is still ours */
	char unlink_path[ENDPOINT_PATH_MAX + 1];
	uint64_t unlink_device, unlink_inode; /* by which that is told */
	char text[ENDPOINT_TEXT_MAX];	      /* the address it is bound to, for the log */
};

/*
 * Binds and listens, `worker_count` sockets with SO_REUSEPORT for TCP, one for unix (mode 0660; a
 * stale file that nobody listens on is replaced, a live one is -EADDRINUSE). ":port" binds v6 and
 * v4, v4 alone where v6 is off; "[v6]:port" binds v6 only; of a name's addresses the first is
 * taken, v4 before v6. Port 0 is chosen once and shared by all of them. Another process that
 * listens is -EADDRINUSE even if it uses SO_REUSEPORT too. Sets TCP_NODELAY, keepalive,
 * TCP_USER_TIMEOUT, SO_SNDBUF, TCP_NOTSENT_LOWAT: inherited by what is accepted. May wait for a
 * name server. Returns 0 or a negative errno with a sentence in `why`.
 */
int listen_socket_open(struct listen_socket *sockets, const struct endpoint *endpoint,
		       uint32_t worker_count, char *why, size_t why_size);

/*
 * Takes over a listening descriptor from systemd. Owns: `fd` from now on, unless it fails.
 * Returns 0 or -EINVAL (not a listening stream socket).
 */
int listen_socket_inherit(struct listen_socket *sockets, int fd, char *why, size_t why_size);

/* Safe on what listen_socket_open failed on, and twice. */
void listen_socket_close(struct listen_socket *sockets);

/* The descriptor for the worker with this index. */
static inline int listen_socket_fd(const struct listen_socket *sockets, uint32_t worker_index)
{
	return sockets->fds[sockets->shared ? 0 : worker_index];
}

/* ---- accepting; thread: the worker's ---- */

/* Single accepts armed on a worker's own socket, each with its own address; 1 on a shared one. */
#define LISTENER_ACCEPTS 8

struct listener;

/* Owns: the file from now on. Lifetime of `peer`: the call. listener_stop inside is allowed. */
typedef void listener_accepted_fn(struct listener *listener, struct file_ref file,
				  const struct address *peer);

struct listener_accept {
	struct op op, cancel_op;
	struct op_address address;
	struct listener *listener;
};

struct listener {
	const char *name; /* "public", "grpc", "admin" */
	struct worker *worker;
	struct file_ref file;
	bool shared, paused, stopping;
	listener_accepted_fn *accepted;
	void (*stopped)(struct listener *listener);
	void *context;
	struct listener_accept accepts[LISTENER_ACCEPTS];
	struct deadline retry; /* after EMFILE, ENFILE, ENOBUFS, ENOMEM: 100 ms, or listener_room */
	struct task sweep;
	struct metric_counter accepted_count, failed_count;
};

/*
 * Set name, accepted, stopped and context first. `fd` stays the socket's owner's. Returns 0 or a
 * negative errno (nothing could be armed): `stopped` is then not called.
 */
int listener_start(struct listener *listener, struct worker *worker, int fd, bool shared);

/* A connection was closed: accepting that paused for want of descriptors goes on. */
void listener_room(struct listener *listener);

/*
 * Cancels the accepts; `stopped` follows once, later, when none is in flight; `accepted` is not
 * called any more. What the kernel hands out meanwhile is closed. Once for every listener_start
 * that returned 0; again is a no-op until `stopped`.
 */
void listener_stop(struct listener *listener);

#endif
