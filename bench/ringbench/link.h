/* link: a TCP or unix connection of the generator. Thread: its lane's. */
#ifndef RINGBENCH_LINK_H
#define RINGBENCH_LINK_H

#include "lane.h"

#include "net/conn.h"

struct link;

/* The conn's owner: conn_handler's calls get the link's conn. */
struct link_handler {
	struct conn_handler conn;
	void (*connected)(struct link *link);
};

struct link {
	struct conn conn;
	struct lane *lane;
	const struct link_handler *handler;
	struct op connect_op;
	struct op_address target;
	struct file_ref file;
};

/*
 * Connects to options->target; number `number` of the run, which chooses the source address. A
 * failure is told by lane_fail. Lifetime: until the conn's `closed`, or worker_finish.
 */
void link_open(struct link *link, struct lane *lane, uint32_t number,
	       const struct link_handler *handler);

/* Safe in any state. */
void link_close(struct link *link);

static inline struct link *link_of(struct conn *conn)
{
	return CONTAINER_OF(conn, struct link, conn);
}

/* The address to connect from, port chosen by the kernel; false: any. */
bool link_source(const struct options *options, uint32_t number, struct address *source);

#endif
