#include "net/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#define KEEPALIVE_IDLE_S     60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_PROBES     4
/*
 * Unacknowledged bytes, and a closed window, for so long: the peer is gone. Above the 30 s that a
 * push stream is given to open its window (edge.md §4), and as long as keepalive takes after its
 * idle time.
 */
#define USER_TIMEOUT_MS 60000

#define SEND_BUFFER_BYTES  (64 * 1024) /* a stalled reader then costs ~160 KB instead of 3.8 MB */
#define NOT_SENT_LOW_BYTES (32 * 1024) /* what waits here can no longer be overtaken or dropped */

static void set_int(int fd, int level, int option, int value)
{
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

void socket_set_tcp(int fd, int family)
{
	if (family != AF_INET && family != AF_INET6)
		return;
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
}

void socket_bound_send(int fd, int family)
{
	set_int(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES);
	if (family == AF_INET || family == AF_INET6)
		set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOT_SENT_LOW_BYTES);
}

void socket_discard(struct worker *worker, struct file_ref file)
{
	op_discard(worker, file);
}
