#include "net/listener.h"

#include "base/check.h"
#include "base/explain.h"
#include "net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIX_MODE 0660
/* of 10 ms: who holds the directory's lock for longer is not a gateway that starts */
#define LOCK_TRIES 100
#define BIND_TRIES 3 /* a stale file may vanish, or a live one appear, between look and bind */

struct complaint {
	char *text;
	size_t size;
};

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* ---- TCP ---- */

static struct address any_address(int family, uint16_t port)
{
	struct address address;

	CHECK(address_from_text(&address, family == AF_INET6 ? "::" : "0.0.0.0", port));
	return address;
}

/* As dns_done_fn has them. */
static int resolve_error(int code)
{
	switch (code) {
	case EAI_SYSTEM:
		return -errno;
	case EAI_MEMORY:
		return -ENOMEM;
	case EAI_AGAIN:
	case EAI_FAIL:
		return -EIO;
	default:
		return -ENOENT;
	}
}

/* A name's first address, v4 before v6, as the resolver's order has it. */
static int resolve(const struct endpoint *endpoint, struct address *address)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *results = NULL;

	if (address_from_text(address, endpoint->host, endpoint->port))
		return 0;

	int code = getaddrinfo(endpoint->host, NULL, &hints, &results);

	if (code != 0 || !results)
		return resolve_error(code);

	const struct addrinfo *chosen = results;

	for (const struct addrinfo *result = results; result; result = result->ai_next) {
		if (result->ai_family == AF_INET) {
			chosen = result;
			break;
		}
	}

	char host[NI_MAXHOST];

	code = getnameinfo(chosen->ai_addr, chosen->ai_addrlen, host, sizeof(host), NULL, 0,
			   NI_NUMERICHOST);

	freeaddrinfo(results);
	return code == 0 && address_from_text(address, host, endpoint->port) ? 0 : -EADDRNOTAVAIL;
}

/* Returns the descriptor of a bound socket that does not listen yet, or a negative errno. */
static int tcp_bind(const struct address *address, bool v6_only, bool first)
{
	int family = address->storage.ss_family;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int code;

	if (fd < 0)
		return -errno;
	code = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (code == 0 && family == AF_INET6)
		code = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6_only);
	/*
	 * The first binds without SO_REUSEPORT, so that a port on which another process listens is
	 * refused even if that one allows sharing; set before listen it still makes the group.
	 */
	if (code == 0 && !first)
		code = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (code == 0 && bind(fd, (const struct sockaddr *)&address->storage, address->len) != 0)
		code = -errno;
	if (code == 0 && first)
		code = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (code) {
		close(fd);
		return code;
	}
	socket_set_tcp(fd, family);
	socket_bound_send(fd, family);
	return fd;
}

static int tcp_listen(struct listen_socket *sockets, struct address *address, bool v6_only,
		      bool first)
{
	int fd = tcp_bind(address, v6_only, first);

	if (fd < 0)
		return fd;
	sockets->fds[sockets->fd_count++] = fd;
	address->len = sizeof(address->storage);
	if (listen(fd, LISTEN_BACKLOG) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address->storage, &address->len) != 0)
		return -errno;
	return 0;
}

/* All of them on one address; what the kernel chose for the first (port 0) is the others' too. */
static int tcp_listen_all(struct listen_socket *sockets, struct address address, bool v6_only,
			  uint32_t worker_count)
{
	for (uint32_t i = 0; i < worker_count; i++) {
		int code = tcp_listen(sockets, &address, v6_only, i == 0);

		if (code) {
			listen_socket_close(sockets);
			return code;
		}
	}
	return address_port(&address);
}

static int tcp_open(struct listen_socket *sockets, const struct endpoint *endpoint,
		    uint32_t worker_count)
{
	struct endpoint bound = *endpoint;
	struct address address;
	int port;

	if (endpoint->kind == ENDPOINT_ANY) {
		port = tcp_listen_all(sockets, any_address(AF_INET6, endpoint->port), false,
				      worker_count);
		if (port == -EAFNOSUPPORT || port == -EADDRNOTAVAIL)
			port = tcp_listen_all(sockets, any_address(AF_INET, endpoint->port), false,
					      worker_count);
	} else {
		int code = resolve(endpoint, &address);

		if (code)
			return code;
		port = tcp_listen_all(sockets, address, true, worker_count);
	}
	if (port < 0)
		return port;
	bound.port = (uint16_t)port;
	endpoint_format(&bound, sockets->text);
	return 0;
}

/* ---- unix ---- */

/*
 * Two gateways that start on one stale file must not both find it stale and remove each other's. A
 * lock on the directory leaves nothing behind. Returns a descriptor to close, or -1: then it goes
 * on without.
 */
static int lock_directory(const char *path)
{
	char directory[ENDPOINT_PATH_MAX + 1];
	size_t len = (size_t)(strrchr(path, '/') - path);

	memcpy(directory, path, len);
	directory[len] = 0;

	int fd = open(len ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;
		poll(NULL, 0, 10);
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/*
 * Returns 0 if the file is a socket that nobody listens on (or is gone), else a negative errno with
 * `why`.
 */
static int check_stale(const struct address *address, const char *path, const struct complaint *why)
{
	struct stat file;

	if (lstat(path, &file) != 0)
		return errno == ENOENT ? 0 : explain(why->text, why->size, -errno, "%s: %m", path);
	if (!S_ISSOCK(file.st_mode))
		return explain(why->text, why->size, -EADDRINUSE, "%s exists and is not a socket",
			       path);

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return explain(why->text, why->size, -errno, "socket: %m");

	int code = connect(fd, (const struct sockaddr *)&address->storage, address->len) == 0
			   ? 0
			   : -errno;

	close(fd);
	if (code == -ECONNREFUSED || code == -ENOENT)
		return 0;
	/* Connected, or a full backlog (EAGAIN), or a file that we may not even ask (EACCES). */
	return explain(why->text, why->size, -EADDRINUSE, "%s is in use by another process", path);
}

static int unix_bind(int fd, const char *path, const struct complaint *why)
{
	struct address address = address_from_path(path);
	int code = -EADDRINUSE;

	/*
	 * The file is born with the mode of the socket less the umask: never wider than meant, not
	 * even for a moment.
	 */
	if (fchmod(fd, UNIX_MODE) != 0)
		return explain(why->text, why->size, -errno, "fchmod: %m");
	for (int i = 0; i < BIND_TRIES && code == -EADDRINUSE; i++) {
		if (bind(fd, (const struct sockaddr *)&address.storage, address.len) == 0)
			return 0;
		code = -errno;
		if (code != -EADDRINUSE)
			break;
		code = check_stale(&address, path, why);
		if (code)
			return code;
		if (unlink(path) != 0 && errno != ENOENT)
			return explain(why->text, why->size, -errno,
				       "%s: cannot remove the stale socket: %m", path);
		code = -EADDRINUSE;
	}
	return explain(why->text, why->size, code, "cannot bind unix:%s: %s", path,
		       errno_text(-code));
}

static int unix_listen(struct listen_socket *sockets, int fd, const char *path,
		       const struct complaint *why)
{
	struct stat file;
	int code = unix_bind(fd, path, why);

	if (code)
		return code;
	/* Nobody can connect before listen: the umask is made up for in time. */
	if (lstat(path, &file) != 0 || chmod(path, UNIX_MODE) != 0) {
		code = explain(why->text, why->size, -errno, "unix:%s: %m", path);
		unlink(path);
		return code;
	}
	memcpy(sockets->unlink_path, path, strlen(path) + 1);
	sockets->unlink_device = file.st_dev;
	sockets->unlink_inode = file.st_ino;
	if (listen(fd, LISTEN_BACKLOG) != 0)
		return explain(why->text, why->size, -errno, "cannot listen on unix:%s: %m", path);
	return 0;
}

static int unix_open(struct listen_socket *sockets, const struct endpoint *endpoint,
		     const struct complaint *why)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return explain(why->text, why->size, -errno, "socket: %m");

	/* Held until it listens: until then a bound socket looks stale. */
	int lock = lock_directory(endpoint->path);

	sockets->fds[0] = fd;
	sockets->fd_count = 1;
	sockets->shared = true;
	socket_bound_send(fd, AF_UNIX);

	int code = unix_listen(sockets, fd, endpoint->path, why);

	if (code)
		listen_socket_close(sockets);
	else
		endpoint_format(endpoint, sockets->text);
	if (lock >= 0)
		close(lock);
	return code;
}

/* ---- both ---- */

int listen_socket_open(struct listen_socket *sockets, const struct endpoint *endpoint,
		       uint32_t worker_count, char *why, size_t why_size)
{
	const struct complaint complaint = {why, why_size};
	char text[ENDPOINT_TEXT_MAX];

	CHECK(worker_count >= 1 && worker_count <= WORKERS_MAX);
	*sockets = (struct listen_socket){0};
	if (endpoint->kind == ENDPOINT_UNIX)
		return unix_open(sockets, endpoint, &complaint);

	int code = tcp_open(sockets, endpoint, worker_count);

	if (code) {
		endpoint_format(endpoint, text);
		explain(complaint.text, complaint.size, code, "cannot listen on %s: %s", text,
			endpoint_error_text(endpoint, code));
	}
	return code;
}

static bool has_option(int fd, int option, int wanted)
{
	int value;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

int listen_socket_inherit(struct listen_socket *sockets, int fd, char *why, size_t why_size)
{
	const struct complaint complaint = {why, why_size};
	struct sockaddr_storage storage = {0};
	socklen_t len = sizeof(storage);

	*sockets = (struct listen_socket){0};
	if (!has_option(fd, SO_TYPE, SOCK_STREAM) || !has_option(fd, SO_ACCEPTCONN, 1) ||
	    getsockname(fd, (struct sockaddr *)&storage, &len) != 0)
		return explain(complaint.text, complaint.size, -EINVAL,
			       "descriptor %d is not a listening stream socket", fd);

	/* On a non-blocking socket the ring's accept gives EAGAIN instead of waiting. */
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
		return explain(complaint.text, complaint.size, -EINVAL, "descriptor %d: %m", fd);
	socket_set_tcp(fd, storage.ss_family);
	socket_bound_send(fd, storage.ss_family);
	sockets->fds[0] = fd;
	sockets->fd_count = 1;
	sockets->shared = true;

	struct address address = address_make(&storage, len);

	if (storage.ss_family == AF_UNIX) {
		const char *path = (const char *)&storage + offsetof(struct sockaddr, sa_data);

		snprintf(sockets->text, sizeof(sockets->text), "unix:%.*s", ENDPOINT_PATH_MAX,
			 len > sizeof(sa_family_t) ? path : "");
	} else {
		address_format(&address, sockets->text);
	}
	return 0;
}

static void unlink_own(const struct listen_socket *sockets)
{
	struct stat file;

	if (lstat(sockets->unlink_path, &file) == 0 && S_ISSOCK(file.st_mode) &&
	    file.st_dev == sockets->unlink_device && file.st_ino == sockets->unlink_inode)
		unlink(sockets->unlink_path);
}

void listen_socket_close(struct listen_socket *sockets)
{
	/* First: the next gateway shall not find a file that nobody listens on. */
	if (sockets->unlink_path[0])
		unlink_own(sockets);
	sockets->unlink_path[0] = 0;
	for (uint32_t i = 0; i < sockets->fd_count; i++)
		close(sockets->fds[i]);
	sockets->fd_count = 0;
}
