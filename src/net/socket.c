#include "net/socket.h"

#include "base/check.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

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

/* A close that has no owner. */
struct discard {
	struct op op;
};

static void discard_done(struct op *op, const struct completion *completion)
{
	(void)completion;
	free(CONTAINER_OF(op, struct discard, op));
}

void socket_discard(struct worker *worker, struct file_ref file)
{
	if (file.index < 0)
		return;
	if (!file.direct) {
		close(file.index);
		return;
	}

	struct discard *discard = malloc(sizeof(*discard));

	if (discard) {
		op_init(&discard->op);
		discard->op.done = discard_done;
		if (op_close(worker, &discard->op, file) == 0)
			return;
		free(discard);
	}
	/*
	 * No slot for it: the file is closed all the same, unless even the submission queue is
	 * stuck.
	 */
	(void)ring_queue(worker->ring,
			 &(struct ring_submission){
				 .opcode = RING_CLOSE,
				 .file = file,
				 .user_data = user_data_make(RING_CLOSE, 0, USER_DATA_NO_SLOT),
				 .quiet = true});
}
