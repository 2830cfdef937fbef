#include "net/dns.h"

#include "base/check.h"

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ATTEMPT_MS    1000 /* one server, one try; the dial's deadline is the real bound */
#define ATTEMPTS      3
#define POLL_RETRY_MS 10 /* a poll found no operation slot */
#define RESOLV_CONF   "/etc/resolv.conf"

/* A socket of c-ares. It is closed by c-ares; the entry lives until its poll has completed. */
struct dns_socket {
	struct list link;
	struct dns *dns;
	int fd;
	uint32_t events; /* wanted: POLLIN | POLLOUT */
	uint32_t armed_events;
	bool gone;
	struct op poll_op, cancel_op;
};

/* A question to c-ares. It cannot be taken back: a cancelled query leaves it behind. */
struct lookup {
	struct dns *dns;
	struct dns_query *query; /* NULL: cancelled */
	uint16_t port;
	size_t count;
	struct address addresses[DNS_ADDRESSES_MAX];
};

struct dns {
	struct worker *worker;
	ares_channel channel;
	bool has_channel, destroyed;
	bool channel_stale;	 /* other servers were set since */
	char *servers;		 /* or NULL: resolv.conf's */
	struct stat resolv_conf; /* as the channel read it */
	struct list sockets;
	struct list ready;     /* queries whose answer is there */
	uint32_t lookup_count; /* asked of c-ares */
	uint32_t active_count;
	struct deadline timeout;
	struct task deliver, sweep;
	void (*closed)(void *context);
	void *context;
};

/* ---- sockets ---- */

static void socket_free(struct dns_socket *socket)
{
	list_remove(&socket->link);
	free(socket);
}

static void dns_settle(struct dns *dns);

static void socket_polled(struct op *op, const struct completion *completion)
{
	struct dns_socket *socket = CONTAINER_OF(op, struct dns_socket, poll_op);
	struct dns *dns = socket->dns;

	if (!socket->gone && completion->result > 0) {
		uint32_t events = (uint32_t)completion->result;
		/* An error is found by whichever it does next. */
		bool failed = events & (POLLERR | POLLHUP);
		bool readable = events & POLLIN || (failed && socket->events & POLLIN);
		bool writable = events & POLLOUT || (failed && socket->events & POLLOUT);

		ares_process_fd(dns->channel, readable ? socket->fd : ARES_SOCKET_BAD,
				writable ? socket->fd : ARES_SOCKET_BAD);
	}
	dns_settle(dns);
}

static void socket_cancelled(struct op *op, const struct completion *completion)
{
	(void)completion;
	dns_settle(CONTAINER_OF(op, struct dns_socket, cancel_op)->dns);
}

static struct dns_socket *socket_find(struct dns *dns, int fd)
{
	LIST_FOR_EACH (&dns->sockets, node) {
		struct dns_socket *socket = CONTAINER_OF(node, struct dns_socket, link);

		if (socket->fd == fd && !socket->gone)
			return socket;
	}
	return NULL;
}

/*
 * Called by c-ares from inside its functions: only notes; dns_settle acts after every call into
 * c-ares.
 */
static void socket_state(void *context, ares_socket_t fd, int readable, int writable)
{
	struct dns *dns = context;
	struct dns_socket *socket = socket_find(dns, fd);

	if (!socket) {
		if (!readable && !writable)
			return;
		socket = calloc(1, sizeof(*socket));
		/* Without memory nobody reads this socket: its questions time out. */
		if (!socket)
			return;
		socket->dns = dns;
		socket->fd = fd;
		socket->poll_op.done = socket_polled;
		socket->cancel_op.done = socket_cancelled;
		list_push_back(&dns->sockets, &socket->link);
	}
	socket->events = (readable ? POLLIN : 0u) | (writable ? POLLOUT : 0u);
	socket->gone = socket->events == 0;
}

/* Makes the poll what c-ares wants. Returns false if there was no operation slot. */
static bool socket_settle(struct dns *dns, struct dns_socket *socket)
{
	if (socket->cancel_op.armed)
		return true;
	if (socket->poll_op.armed) {
		if (!socket->gone && socket->events == socket->armed_events)
			return true;
		return op_cancel(dns->worker, &socket->cancel_op, &socket->poll_op) == 0;
	}
	if (socket->gone) {
		socket_free(socket);
		return true;
	}
	socket->armed_events = socket->events;
	return op_poll(dns->worker, &socket->poll_op, file_from_fd(socket->fd), socket->events) ==
	       0;
}

static void dns_arm_timeout(struct dns *dns, bool retry)
{
	struct timeval wait;
	uint64_t after_ms = UINT64_MAX;

	if (dns->has_channel && ares_timeout(dns->channel, NULL, &wait))
		after_ms = (uint64_t)wait.tv_sec * 1000 + (uint64_t)wait.tv_usec / 1000 + 1;
	if (retry && after_ms > POLL_RETRY_MS)
		after_ms = POLL_RETRY_MS;
	if (after_ms == UINT64_MAX)
		deadline_disarm(dns->worker, &dns->timeout);
	else
		deadline_arm(dns->worker, &dns->timeout, after_ms);
}

/* After every call into c-ares and every completion. */
static void dns_settle(struct dns *dns)
{
	bool retry = false;

	LIST_FOR_EACH (&dns->sockets, node) {
		if (!socket_settle(dns, CONTAINER_OF(node, struct dns_socket, link)))
			retry = true;
	}
	dns_arm_timeout(dns, retry);
	if (dns->destroyed && list_is_empty(&dns->sockets))
		worker_sweep_later(dns->worker, &dns->sweep);
}

static void dns_timeout(struct deadline *deadline)
{
	struct dns *dns = CONTAINER_OF(deadline, struct dns, timeout);

	if (dns->has_channel)
		ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	dns_settle(dns);
}

/* ---- the channel ---- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_status;

static void library_init(void)
{
	library_status = ares_library_init(ARES_LIB_INIT_ALL);
}

static int error_of_status(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return 0;
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
	case ARES_EBADNAME:
		return -ENOENT;
	case ARES_ETIMEOUT:
		return -ETIMEDOUT;
	case ARES_ENOMEM:
		return -ENOMEM;
	case ARES_ECANCELLED:
	case ARES_EDESTRUCTION:
		return -ECANCELED;
	default:
		return -EIO;
	}
}

static void resolv_conf_stat(struct stat *file)
{
	if (stat(RESOLV_CONF, file) != 0)
		memset(file, 0, sizeof(*file));
}

static bool resolv_conf_changed(const struct dns *dns)
{
	struct stat now;

	resolv_conf_stat(&now);
	return now.st_ino != dns->resolv_conf.st_ino || now.st_dev != dns->resolv_conf.st_dev ||
	       now.st_size != dns->resolv_conf.st_size ||
	       now.st_mtim.tv_sec != dns->resolv_conf.st_mtim.tv_sec ||
	       now.st_mtim.tv_nsec != dns->resolv_conf.st_mtim.tv_nsec;
}

static void channel_close(struct dns *dns)
{
	if (!dns->has_channel)
		return;
	dns->has_channel = false;
	ares_destroy(dns->channel);
	dns_settle(dns);
}

/*
 * c-ares before 1.32 asks for A and AAAA of a name over one socket. Where nobody listens, the ICMP
 * refusal of the first question is told to the send of the second, c-ares takes it for the
 * second's own, and the first waits for its timeout. An error that was told is gone: the second
 * send leaves, and its refusal is heard by the read, which ends both.
 */
#if ARES_VERSION < 0x012000
static ares_socket_t open_socket(int family, int type, int protocol, void *context)
{
	(void)context;
	return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

static int close_socket(ares_socket_t fd, void *context)
{
	(void)context;
	return close(fd);
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *address, ares_socklen_t len,
			  void *context)
{
	(void)context;
	return connect(fd, address, len);
}

static ares_ssize_t receive(ares_socket_t fd, void *bytes, size_t size, int flags,
			    struct sockaddr *from, ares_socklen_t *len, void *context)
{
	(void)context;
	return recvfrom(fd, bytes, size, flags, from, len);
}

static ares_ssize_t send_parts(ares_socket_t fd, const struct iovec *parts, int count,
			       void *context)
{
	struct msghdr message = {
		.msg_iov = (struct iovec *)(uintptr_t)parts,
		.msg_iovlen = (size_t)count,
	};
	ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);

	(void)context;
	if (sent < 0 && errno == ECONNREFUSED)
		sent = sendmsg(fd, &message, MSG_NOSIGNAL);
	return sent;
}

static void channel_heed_refusals(struct dns *dns)
{
	static const struct ares_socket_functions functions = {
		.asocket = open_socket,
		.aclose = close_socket,
		.aconnect = connect_socket,
		.arecvfrom = receive,
		.asendv = send_parts,
	};

	ares_set_socket_functions(dns->channel, &functions, NULL);
}
#else
static void channel_heed_refusals(struct dns *dns)
{
	(void)dns;
}
#endif

static int channel_open(struct dns *dns)
{
	char lookups[] = "fb"; /* the file, then DNS */
	struct ares_options options = {
		.timeout = ATTEMPT_MS,
		.tries = ATTEMPTS,
		.lookups = lookups,
		.sock_state_cb = socket_state,
		.sock_state_cb_data = dns,
	};
	int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;

#ifdef ARES_OPT_QUERY_CACHE
	options.qcache_max_ttl = 0; /* every dial asks anew */
	mask |= ARES_OPT_QUERY_CACHE;
#endif
	resolv_conf_stat(&dns->resolv_conf);

	int status = ares_init_options(&dns->channel, &options, mask);

	if (status != ARES_SUCCESS)
		return error_of_status(status);
	channel_heed_refusals(dns);
	if (dns->servers)
		status = ares_set_servers_ports_csv(dns->channel, dns->servers);
	if (status != ARES_SUCCESS) {
		ares_destroy(dns->channel);
		return status == ARES_ENOMEM ? -ENOMEM : -EINVAL;
	}
	dns->has_channel = true;
	dns->channel_stale = false;
	return 0;
}

/*
 * The channel to ask by: made at the first need, and anew when resolv.conf has changed and nobody
 * waits.
 */
static int channel_prepare(struct dns *dns)
{
	if (dns->has_channel && dns->lookup_count == 0 &&
	    (dns->channel_stale || (!dns->servers && resolv_conf_changed(dns))))
		channel_close(dns);
	return dns->has_channel ? 0 : channel_open(dns);
}

/* ---- queries ---- */

static void query_finish(struct dns_query *query, int status)
{
	query->status = status;
	list_push_back(&query->dns->ready, &query->link);
	/* Later: c-ares is on the stack here, perhaps below dns_query_start. */
	worker_flush_later(query->dns->worker, &query->dns->deliver);
}

static void dns_deliver(struct task *task)
{
	struct dns *dns = CONTAINER_OF(task, struct dns, deliver);
	struct list *node = list_pop_front(&dns->ready);

	if (!node)
		return;
	/* One a call: whatever `done` does to other queries is seen by the next. */
	if (!list_is_empty(&dns->ready))
		worker_flush_later(dns->worker, &dns->deliver);

	struct dns_query *query = CONTAINER_OF(node, struct dns_query, link);
	struct lookup *lookup = query->internal;

	query->internal = NULL;
	query->active = false;
	dns->active_count--;
	if (query->status == 0)
		query->done(query, 0, lookup->addresses, lookup->count);
	else
		query->done(query, query->status, NULL, 0);
	free(lookup);
}

static void lookup_take(struct lookup *lookup, const struct ares_addrinfo *result)
{
	for (const struct ares_addrinfo_node *node = result->nodes; node; node = node->ai_next) {
		struct sockaddr_storage storage = {0};
		struct address *address = &lookup->addresses[lookup->count];

		if (lookup->count == DNS_ADDRESSES_MAX)
			return;
		if ((node->ai_family != AF_INET && node->ai_family != AF_INET6) ||
		    (size_t)node->ai_addrlen > sizeof(storage))
			continue;
		memcpy(&storage, node->ai_addr, node->ai_addrlen);
		*address = address_make(&storage, node->ai_addrlen);
		address_set_port(address, lookup->port);
		lookup->count++;
	}
}

static void lookup_done(void *context, int status, int timeouts, struct ares_addrinfo *result)
{
	struct lookup *lookup = context;
	int error = error_of_status(status);

	(void)timeouts;
	lookup->dns->lookup_count--;
	if (result) {
		if (error == 0)
			lookup_take(lookup, result);
		ares_freeaddrinfo(result);
	}
	if (!lookup->query) {
		free(lookup);
		return;
	}
	if (error == 0 && lookup->count == 0)
		error = -ENOENT;
	query_finish(lookup->query, error);
}

void dns_query_start(struct dns *dns, struct dns_query *query, const char *host, uint16_t port)
{
	const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC,
						  .ai_socktype = SOCK_STREAM};

	CHECK(!query->active && !dns->destroyed);
	query->dns = dns;
	query->port = port;
	query->active = true;
	query->internal = NULL;
	list_init(&query->link);
	dns->active_count++;
	if (dns->lookup_count >= DNS_LOOKUPS_MAX) {
		query_finish(query, -ENOBUFS);
		return;
	}

	struct lookup *lookup = calloc(1, sizeof(*lookup));
	int code = lookup ? channel_prepare(dns) : -ENOMEM;

	if (code) {
		free(lookup);
		query_finish(query, code);
		return;
	}
	*lookup = (struct lookup){.dns = dns, .query = query, .port = port};
	query->internal = lookup;
	dns->lookup_count++;
	ares_getaddrinfo(dns->channel, host, NULL, &hints, lookup_done, lookup);
	dns_settle(dns);
}

void dns_query_cancel(struct dns_query *query)
{
	struct lookup *lookup = query->internal;

	if (!query->active)
		return;
	query->active = false;
	query->internal = NULL;
	query->dns->active_count--;
	if (!list_is_empty(&query->link)) {
		list_remove(&query->link);
		free(lookup);
	} else {
		lookup->query = NULL;
	}
}

/* ---- life ---- */

int dns_set_servers(struct dns *dns, const char *servers)
{
	char *before = dns->servers;

	dns->servers = strdup(servers);
	if (!dns->servers) {
		dns->servers = before;
		return -ENOMEM;
	}
	dns->channel_stale = true;

	/* Tried out at once where that disturbs nobody. */
	int code = dns->lookup_count == 0 ? channel_prepare(dns) : 0;

	if (code) {
		free(dns->servers);
		dns->servers = before;
	} else {
		free(before);
	}
	return code;
}

static void dns_run_sweep(struct task *task)
{
	struct dns *dns = CONTAINER_OF(task, struct dns, sweep);
	void (*closed)(void *context) = dns->closed;
	void *context = dns->context;

	deadline_disarm(dns->worker, &dns->timeout);
	list_remove(&dns->deliver.link);
	free(dns->servers);
	free(dns);
	if (closed)
		closed(context);
}

int dns_create(struct dns **dns, struct worker *worker)
{
	struct dns *made = calloc(1, sizeof(*made));

	*dns = NULL;
	if (!made || pthread_once(&library_once, library_init) != 0 ||
	    library_status != ARES_SUCCESS) {
		free(made);
		return -ENOMEM;
	}
	made->worker = worker;
	list_init(&made->sockets);
	list_init(&made->ready);
	deadline_init(&made->timeout, dns_timeout);
	task_init(&made->deliver, dns_deliver);
	task_init(&made->sweep, dns_run_sweep);
	*dns = made;
	return 0;
}

void dns_destroy(struct dns *dns, void (*closed)(void *context), void *context)
{
	CHECK(dns->active_count == 0 && !dns->destroyed);
	dns->destroyed = true;
	dns->closed = closed;
	dns->context = context;
	channel_close(dns);
	dns_settle(dns);
}
