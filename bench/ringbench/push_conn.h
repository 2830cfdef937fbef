/*
 * push_conn: a connection that subscribes and from then on only receives; made so small and cheap
 * that one generator carries tens of thousands. HTTP/2 by hand, as far as that needs: frame heads,
 * DATA to its stream, header blocks by codec/hpack (the peer is told to keep no table), SETTINGS
 * and PING answered, windows of 2^31-1 renewed in time. Thread: its crew's.
 *
 *   CLOSED ─ push_conn_open ─► CONNECTING ─► OPEN ─ push_conn_close, error ─► CLOSING ─► CLOSED
 */
#ifndef RINGBENCH_PUSH_CONN_H
#define RINGBENCH_PUSH_CONN_H

#include "net/address.h"
#include "uring/worker.h"

struct push_crew;
struct push_out;

/* With its own requests sent ahead of the peer's window: 100 × 400 bytes stay below 65,535. */
#define PUSH_CONN_STREAMS_MAX 100

enum push_conn_state {
	PUSH_CONN_CLOSED,
	PUSH_CONN_CONNECTING,
	PUSH_CONN_OPEN,
	PUSH_CONN_CLOSING
};

struct push_conn { /* zeroed, then push_conn_init */
	struct push_crew *crew;
	struct op receive_op, send_op, close_op; /* send_op connects first; close_op may cancel */
	struct worker_starved starved;
	struct file_ref file;
	uint64_t opened_us;	 /* when its connect began */
	struct push_out *out;	 /* being sent; NULL: nothing */
	struct push_out *queued; /* goes next */
	uint8_t *carry;		 /* of a frame other than DATA that came in pieces */
	uint32_t carry_len;
	uint32_t first_stream; /* in crew->streams */
	uint32_t window_used;  /* of the connection's, not yet given back */
	uint32_t frame_left;   /* bytes of the frame still to come */
	uint32_t frame_len, frame_stream;
	uint8_t frame_type, frame_flags;
	uint8_t head[9], head_len; /* a frame head that came in pieces */
	uint8_t state, stream_count;
	uint8_t pending; /* streams that are not yet open or refused */
	bool is_to_stall;  /* will be told to: the kernel is to keep little for it */
	bool stalled;	   /* reads nothing */
	bool close_wanted; /* once the cancel is through */
};

void push_conn_init(struct push_conn *conn, struct push_crew *crew);

/*
 * Connects, then sends `opening` (push_opening_make). Owns: the opening, also on failure.
 * Returns 0 or a negative errno. What comes of it: the crew's handler.
 */
int push_conn_open(struct push_conn *conn, const struct op_address *target,
		   const struct op_address *source, struct push_out *opening);

/* Safe in any state and from any callback; the handler's `closed` follows if it was open. */
void push_conn_close(struct push_conn *conn);

/* Stops reading, and reads again. Only while open. */
void push_conn_stall(struct push_conn *conn);
void push_conn_unstall(struct push_conn *conn);

/* ---- what is sent ---- */

struct push_out {
	struct msghdr message;
	struct iovec part;
	size_t len, cap, sent;
	uint8_t data[];
};

/* Preface, SETTINGS, the connection's window. Returns NULL without memory. */
struct push_out *push_opening_make(size_t cap);

/* SubscribeEvents with this message, its gRPC prefix included; the n-th call is stream 2n + 1. */
void push_opening_subscribe(struct push_out *opening, uint32_t index, struct span authority,
			    struct span message);

#define PUSH_OPENING_BYTES   128 /* of an opening without streams */
#define PUSH_SUBSCRIBE_BYTES 256 /* of a request beside its message */

#endif
