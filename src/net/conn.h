/*
 * conn: one byte connection on the ring, server's or client's. Embedded in its owner. Thread: the
 * worker's.
 *
 *   conn_open ─► OPEN ─┬─ conn_finish_sending, or the peer's FIN without a peer_finished ─► DRAINING
 *                      └─ conn_close, error ─► CLOSING
 *   DRAINING ─┬─ queue empty: SHUT_WR ─► LINGERING ─ peer's FIN, or CONN_LINGER_READ_MS ─► CLOSING
 *             └─ queue empty and the peer's FIN is there, error, linger_ms over ─► CLOSING
 *   CLOSING ─ shutdown and close, last completion ─► closed()
 *
 * Exactly one `closed` follows every conn_open that returned 0; until then the memory is the
 * conn's. One receive (multishot) and one gather send are in flight at most, and notifications of
 * up to CONN_ZC_PENDING_MAX zero-copy sends that have their results: CLOSING and `closed` wait for
 * those too, which come when the peer has acknowledged or the connection is reset.
 * Callbacks come from the worker's turn, never from inside conn_open or another conn_ function.
 * While lingering, what the peer still sends is read and dropped: closing over unread bytes would
 * make the kernel reset the connection and destroy our last bytes on their way.
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "base/metric.h"
#include "base/sink.h"
#include "net/address.h"
#include "net/sendq.h"
#include "uring/worker.h"

struct conn;
struct conn_filter; /* net/filter.h */

enum conn_end {
	CONN_END_LOCAL,	  /* conn_close or conn_finish_sending by the owner */
	CONN_END_PEER,	  /* the peer finished and everything of ours was sent */
	CONN_END_RESET,	  /* reset, broken pipe, unreachable */
	CONN_END_TIMEOUT, /* TCP_USER_TIMEOUT, or unsent bytes at the linger deadline */
	CONN_END_RESOURCE, /* no memory, no operation slot */
	CONN_END_SECURITY, /* the filter's refusal, ours or the peer's; the filter's words say why */
};

struct conn_handler {
	/*
	 * Bytes from the peer, in order; all are taken. Lent until return. conn_close inside is
	 * allowed. (A filter may bring several pieces of one receive, also after a pause.)
	 */
	void (*received)(struct conn *conn, struct span bytes);
	/* The peer will send no more (FIN). NULL: the conn closes itself. */
	void (*peer_finished)(struct conn *conn);
	/*
	 * In the flush step of a turn in which conn_wants_flush was called, and when a send has made
	 * room again: append what there is to send (conn_send…) while conn_has_room; what stays
	 * behind is asked for again by itself. NULL: nothing to add.
	 */
	void (*produce)(struct conn *conn);
	/* Last call. `error` is a negative errno or 0. The owner may free the conn inside. */
	void (*closed)(struct conn *conn, enum conn_end end, int error);
};

struct conn_options {
	size_t queue_bytes_max;	 /* hard bound of the send queue */
	size_t queue_bytes_room; /* conn_has_room while fewer are queued: producers' bound */
	uint32_t linger_ms;	 /* how long unsent bytes are waited for; 0: CONN_LINGER_MS */
	uint32_t linger_read_ms; /* and then the peer's FIN; 0: CONN_LINGER_READ_MS */
};

/* long enough for a slow mobile peer, short against the shutdown's 10 s */
#define CONN_LINGER_MS 5000
#define CONN_LINGER_READ_MS 1000 /* for the peer's FIN after ours, at most linger_ms */

/*
 * Payload bytes of a gather from which it goes by zero copy. Pinning pages and a second completion
 * cost about what copying 10 KiB does (MSG_ZEROCOPY's documentation in the kernel names the same
 * size); IOURING.md's floor says 16 KiB.
 */
#define CONN_ZC_BYTES_MIN ((size_t)16 << 10)
/* An iovec costs its own pin and place in the packet: below this mean copying is cheaper. */
#define CONN_ZC_IOV_BYTES_MIN ((size_t)1 << 10)
/* A peer that acknowledges slowly holds so many gathers' memory at most; then sends are plain. */
#define CONN_ZC_PENDING_MAX 4
/*
 * How long a closing connection waits for the peer to acknowledge what zero copy has sent; then it is
 * reset, which gives the memory back. Within the second that a shutdown's cut leaves.
 */
#define CONN_ZC_CLOSE_MS 500

struct conn_counters { /* shared by the connections of one owner kind and worker; may be NULL */
	struct metric_counter received_bytes, sent_bytes;
	struct metric_counter *copied_bytes; /* of payloads, in user space; NULL: not counted */
	struct zerocopy *zerocopy; /* net/zerocopy.h; NULL: these never send by zero copy */
};

struct conn {
	const struct conn_handler *handler;
	struct conn_filter *filter; /* NULL: bytes pass as they are. Set by tls_open */
	struct worker *worker;
	struct file_ref file;
	struct address peer; /* unknown; the owner's to set, after conn_open; so is `counters` */
	uint8_t state;	     /* zeroed memory is a closed conn */
	uint8_t end;	     /* enum conn_end, once known */
	bool peer_finished, receive_paused;
	bool producing, close_started, close_done;
	bool send_refused; /* an append found no place: its producer waits for room */
	bool may_zerocopy : 1; /* conn_allow_zerocopy */
	bool zerocopy_refused : 1; /* the next send is plain */
	bool zerocopy_waited : 1, zerocopy_reset : 1; /* closing: the steps behind it */
	uint8_t zerocopy_pending; /* sends whose last completion has not come */
	int error;
	struct sendq queue;
	struct conn_options options;
	struct conn_counters *counters;
	struct op receive_op, send_op, close_op, cancel_op;
	struct conn_send *send; /* the one without a result, plain or zero-copy; NULL: none */
	struct task flush, sweep;
	struct worker_starved starved;
	struct deadline linger;
};

/*
 * Starts to receive on `file`. Owns: the file from now on, also on failure (closed then).
 * Returns 0, or a negative errno (no operation slot): `closed` is not called.
 */
int conn_open(struct conn *conn, struct worker *worker, struct file_ref file,
	      const struct conn_handler *handler, const struct conn_options *options);

/*
 * Copies bytes into the queue; they leave in this turn's flush step. Returns 0, -ENOBUFS (bound),
 * -ENOMEM, or -EPIPE when no longer open; on failure nothing was taken. Behind a filter the bytes
 * are copied transformed, the bounds count what goes over the wire, and until the filter has opened
 * the way there is no room (-ENOBUFS): `produce` is called then.
 */
int conn_send(struct conn *conn, struct span bytes);

/* As conn_send; no copy is left once they are sent. Limits: SENDQ_SECRET_MAX. */
int conn_send_secret(struct conn *conn, struct span bytes);

/* As conn_send; takes a reference of its own. */
int conn_send_slice(struct conn *conn, struct payload_slice slice);

/* As conn_send_slice, but takes over the caller's reference. On failure it stays the caller's. */
int conn_give_slice(struct conn *conn, struct payload_slice slice);

/*
 * Large sends may go by zero copy, if the counters' zerocopy and `peer`, as they are now, allow it.
 * Not for one that will have a filter.
 */
void conn_allow_zerocopy(struct conn *conn);

/* A send waits for its result. */
bool conn_is_sending(const struct conn *conn);

/* Asks for `produce` in this turn's flush step. Cheap, any number of times. */
void conn_wants_flush(struct conn *conn);

bool conn_has_room(const struct conn *conn);

/* The connection for a codec to write to, as long as it lives. */
struct sink conn_sink(struct conn *conn);

/*
 * Stops and resumes receiving (backpressure): bytes stay in the kernel. What is already lent may
 * still arrive once.
 */
void conn_pause_receive(struct conn *conn);
void conn_resume_receive(struct conn *conn);

/*
 * Sends what is queued, then closes. No more appends; bytes still received are dropped. No-op when
 * no longer open.
 */
void conn_finish_sending(struct conn *conn);

/* Drops what is queued and closes. Safe in any state and in any callback. */
void conn_close(struct conn *conn);

/* Whether appends are taken. */
bool conn_is_open(const struct conn *conn);

#endif
