/*
 * dial: a connection to an endpoint, by a deadline. Names are looked up anew at every dial; the
 * addresses are tried in turn, each with its share of the time. One that accepted but was of no use
 * (a listener of somebody else's, a frozen host, a replica) is tried last the next time, so that
 * every address of a name has its turn. Thread: the worker's.
 *
 *   IDLE ─ dial_start ─► STARTED ─► (RESOLVING ─►) CONNECTING ─► IDLE, done(0)
 *   CONNECTING ─ failed ─► CLOSING ─► CONNECTING to the next address, or IDLE, done(error)
 *   dial_cancel: what is in flight is cancelled or closed; then IDLE, idle()
 */
#ifndef NET_DIAL_H
#define NET_DIAL_H

#include "base/endpoint.h"
#include "net/dns.h"

struct dial;

/*
 * error 0: `file` is connected and the caller's (TCP_NODELAY, keepalive, TCP_USER_TIMEOUT set),
 * `peer` lent until return. Else a negative errno, `file` none and `peer` NULL: -ETIMEDOUT,
 * -ECONNREFUSED, -ENOENT (no such name or unix socket), … of the last address tried. The dial is
 * idle again: it may be started or freed inside.
 */
typedef void dial_done_fn(struct dial *dial, int error, struct file_ref file,
			  const struct address *peer);

struct dial { /* zeroed memory is an idle dial */
	struct worker *worker;
	struct dns *dns;
	dial_done_fn *done;
	struct endpoint endpoint;
	struct dns_query query;
	struct address addresses[DNS_ADDRESSES_MAX];
	size_t address_count, address_next;
	struct file_ref file;
	struct op connect_op, cancel_op, close_op;
	struct op_address target;
	struct deadline deadline;
	struct task begin;
	uint64_t due_ms;
	uint8_t state;
	bool cancelled;
	bool is_blamed; /* `blamed` goes last the next time; outlives dial_start */
	struct address blamed;
	void (*idle)(struct dial *dial); /* after dial_cancel: nothing in flight any more, memory is
					    free to go */
	int last_error;
};

/*
 * The dial must be idle. `dns` may be NULL when the endpoint is numeric or unix (else the dial ends
 * -EINVAL). `done` is called once, later, unless cancelled.
 */
void dial_start(struct dial *dial, struct worker *worker, struct dns *dns,
		const struct endpoint *endpoint, uint32_t timeout_ms, dial_done_fn *done);

/*
 * `done` will not be called; `idle` (may be NULL) is, when nothing is in flight: at once or later.
 */
void dial_cancel(struct dial *dial, void (*idle)(struct dial *dial));

/* The connection that the last dial made was of no use: its name's other addresses go first in the
 * next one. No-op unless the last dial succeeded. */
void dial_blame(struct dial *dial);

bool dial_is_idle(const struct dial *dial);

#endif
