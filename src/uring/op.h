/*
 * op: one operation in flight, embedded in the object it works for. Thread: the worker's.
 *
 *   idle ─op_*()─► armed ─last completion─► idle (`done` is called, armed == false)
 *                    └─completion, more─► armed (`done` is called, more to come)
 *
 * An owner must not free an armed op: it cancels and waits for the last completion.
 * user_data is kind, generation and slot; a completion whose slot has moved on is a counted no-op.
 */
#ifndef URING_OP_H
#define URING_OP_H

#include "uring/ring.h"

struct worker;
struct op;

struct completion {
	int32_t result;	   /* ≥ 0, or a negative errno of this kind's table (op_table.c) */
	bool more;	   /* the op is still armed */
	bool notification; /* zero-copy send: memory is free now */
	bool zc_copied;
	struct span bytes; /* RING_RECEIVE: lent until `done` returns */
};

typedef void op_done_fn(struct op *op, const struct completion *completion);

struct op {
	op_done_fn *done;
	uint32_t slot; /* in the worker's table while armed */
	uint8_t kind;  /* enum ring_opcode */
	bool armed;
};

static inline void op_init(struct op *op)
{
	*op = (struct op){0};
}

/*
 * Each arms an idle op. Returns 0, -ENOBUFS (operation table full: WORKER_OPS_MAX) or an errno of
 * the submit (rare: before the first turn, or no memory for requests); on failure the op stays idle
 * and `done` is not called: try again from a later turn.
 */

/* What an accept needs to live until its completion. */
struct op_address {
	struct sockaddr_storage storage;
	socklen_t len;
};

/* One shot. Result: index of the new file (direct if the ring has a table), or -errno. */
int op_accept(struct worker *worker, struct op *op, struct file_ref listener,
	      struct op_address *address);
/*
 * Multishot where the kernel has it (more says so). Result: bytes, 0 at the end, -ENOBUFS: starved;
 * the owner arms it again when worker_starve calls back.
 */
int op_receive(struct worker *worker, struct op *op, struct file_ref file);
/*
 * One send per file at a time. `message` and its iovecs live until the completion.
 * Result: bytes sent, may be short.
 */
int op_send(struct worker *worker, struct op *op, struct file_ref file,
	    const struct msghdr *message);
/*
 * As op_send; first completion is the result with more, then one with notification.
 * A failed one may have its result alone, without more. -EOPNOTSUPP: not on this kernel.
 */
int op_send_zc(struct worker *worker, struct op *op, struct file_ref file,
	       const struct msghdr *message);
int op_connect(struct worker *worker, struct op *op, struct file_ref file,
	       const struct op_address *address);
/*
 * SHUT_RDWR hard-linked to close: ends a multishot receive, sends FIN, frees the file.
 * One completion: the close's.
 */
int op_shutdown_close(struct worker *worker, struct op *op, struct file_ref file);
/* SHUT_WR only. */
int op_shutdown_send(struct worker *worker, struct op *op, struct file_ref file);
/* Close without shutdown (listeners, descriptors that are no sockets). */
int op_close(struct worker *worker, struct op *op, struct file_ref file);
/*
 * Shuts down and closes a file that nobody waits for and nothing is in flight on. Owns: the file.
 * Cannot fail: a close that finds no room is tried again each turn.
 */
void op_discard(struct worker *worker, struct file_ref file);
/*
 * Asks for `target` to end; `target` still gets its own last completion (-ECANCELED, or its result
 * if it was first). -ENOENT at once if `target` is idle.
 */
int op_cancel(struct worker *worker, struct op *op, const struct op *target);
/* One shot; poll(2) events. Result: revents. */
int op_poll(struct worker *worker, struct op *op, struct file_ref file, uint32_t events);
int op_read(struct worker *worker, struct op *op, struct file_ref file, struct iovec into);

/* "receive", "send", … */
const char *op_kind_name(uint8_t kind);

/* What a result means to the owner; the table in op_table.c has a row for every errno of a kind. */
enum op_outcome {
	OP_OK,	      /* result ≥ 0 */
	OP_PEER_GONE, /* the peer or the way to it ended the connection: close; no fault of ours */
	OP_CANCELLED, /* we asked for it, or the file was shut down */
	OP_STARVED,   /* a receive without a buffer: worker_starve, then arm again */
	OP_RETRY,     /* nothing happened; arm again */
	OP_LOCAL_LIMIT, /* files, ports or memory of this host; a listener lives on */
	OP_UNSUPPORTED, /* not with this kernel or this kind of file: use the plain form */
	OP_GONE,	/* a cancel or shutdown came too late: as good as done */
	OP_BUG,		/* our own mistake: bad descriptor, bad memory; close */
	OP_UNKNOWN,	/* no row: logged once per kind and errno; close */
};

/* Thread: any. */
enum op_outcome op_classify(uint8_t kind, int32_t result);

/* "peer_gone", … */
const char *op_outcome_name(enum op_outcome outcome);

static inline bool op_outcome_is_fatal(enum op_outcome outcome)
{
	return outcome != OP_OK && outcome != OP_STARVED && outcome != OP_RETRY;
}

#endif
