#include "uring/op.h"

#include "base/check.h"
#include "base/explain.h"
#include "log/log.h"

#include <errno.h>
#include <stdatomic.h>

static const char *const kind_names[RING_OPCODE_COUNT] = {
	[RING_ACCEPT] = "accept",   [RING_RECEIVE] = "receive", [RING_SEND] = "send",
	[RING_SEND_ZC] = "send_zc", [RING_CONNECT] = "connect", [RING_SHUTDOWN] = "shutdown",
	[RING_CLOSE] = "close",	    [RING_CANCEL] = "cancel",	[RING_POLL] = "poll",
	[RING_READ] = "read",	    [RING_MESSAGE] = "message",
};

const char *op_kind_name(uint8_t kind)
{
	return kind < RING_OPCODE_COUNT ? kind_names[kind] : "unknown";
}

const char *op_outcome_name(enum op_outcome outcome)
{
	static const char *const names[] = {
		[OP_OK] = "ok",
		[OP_PEER_GONE] = "peer_gone",
		[OP_CANCELLED] = "cancelled",
		[OP_STARVED] = "starved",
		[OP_RETRY] = "retry",
		[OP_LOCAL_LIMIT] = "local_limit",
		[OP_UNSUPPORTED] = "unsupported",
		[OP_GONE] = "gone",
		[OP_BUG] = "bug",
		[OP_UNKNOWN] = "unknown",
	};

	return (size_t)outcome < ARRAY_LEN(names) ? names[outcome] : "unknown";
}

/*
 * Every errno that an operation can give, by kind: the first row that fits counts, so a kind's own
 * rows stand before those of all kinds. Sources: accept(2), recv(2), send(2), connect(2),
 * shutdown(2), close(2), read(2), io_uring_enter(2), ip(7), tcp(7), unix(7).
 */
#define KIND(kind) (1u << (kind))
#define ANY	   (KIND(RING_OPCODE_COUNT) - 1)
#define SENDS	   (KIND(RING_SEND) | KIND(RING_SEND_ZC))
#define MOVES	   (SENDS | KIND(RING_RECEIVE) | KIND(RING_READ)) /* bytes */
#define REACHES	   (MOVES | KIND(RING_CONNECT))			  /* needs a peer */

static const struct errno_row {
	uint32_t kinds;
	int code;
	enum op_outcome outcome;
} errno_rows[] = {
	/* accept: a connection that died in the queue; the next may be well */
	{KIND(RING_ACCEPT), ECONNABORTED, OP_RETRY},
	{KIND(RING_ACCEPT), EPROTO, OP_RETRY},
	{KIND(RING_ACCEPT), ENETDOWN, OP_RETRY},
	{KIND(RING_ACCEPT), ENETUNREACH, OP_RETRY},
	{KIND(RING_ACCEPT), EHOSTDOWN, OP_RETRY},
	{KIND(RING_ACCEPT), EHOSTUNREACH, OP_RETRY},
	{KIND(RING_ACCEPT), ENOPROTOOPT, OP_RETRY},
	{KIND(RING_ACCEPT), ENONET, OP_RETRY},
	{KIND(RING_ACCEPT), EPERM, OP_RETRY}, /* a firewall rule */
	{KIND(RING_ACCEPT), ETIMEDOUT, OP_RETRY},
	{KIND(RING_ACCEPT), EMFILE, OP_LOCAL_LIMIT},
	{KIND(RING_ACCEPT), ENFILE, OP_LOCAL_LIMIT}, /* also: the direct table is full */
	{KIND(RING_ACCEPT), ENOBUFS, OP_LOCAL_LIMIT},
	{KIND(RING_ACCEPT), EINVAL, OP_CANCELLED}, /* the listener was shut down */

	/* receive */
	{KIND(RING_RECEIVE), ENOBUFS, OP_STARVED},
	{KIND(RING_RECEIVE), ENOTCONN, OP_PEER_GONE},
	{KIND(RING_RECEIVE), EIO, OP_PEER_GONE},     /* kernel TLS: a broken record */
	{KIND(RING_RECEIVE), EBADMSG, OP_PEER_GONE}, /* kernel TLS: it does not decrypt */
	{KIND(RING_READ), EIO, OP_PEER_GONE},
	{KIND(RING_READ), EISDIR, OP_BUG},

	/* send */
	{SENDS, EPIPE, OP_PEER_GONE},
	{SENDS, ENOTCONN, OP_PEER_GONE},
	{SENDS, ESHUTDOWN, OP_PEER_GONE},
	{SENDS, ENOBUFS, OP_LOCAL_LIMIT}, /* zero-copy: RLIMIT_MEMLOCK, optmem_max */
	{SENDS, EMSGSIZE, OP_BUG},
	{SENDS, EDESTADDRREQ, OP_BUG},
	{SENDS, EPERM, OP_PEER_GONE}, /* a firewall rule */
	{SENDS, EACCES, OP_PEER_GONE},

	/* connect */
	{KIND(RING_CONNECT), ENOENT, OP_PEER_GONE},  /* unix: no such socket */
	{KIND(RING_CONNECT), ENOTDIR, OP_PEER_GONE}, /* unix: nor such a directory */
	{KIND(RING_CONNECT), EACCES, OP_PEER_GONE},  /* unix: permission; ip: a firewall rule */
	{KIND(RING_CONNECT), EPERM, OP_PEER_GONE},
	{KIND(RING_CONNECT), ELOOP, OP_PEER_GONE},
	{KIND(RING_CONNECT), ENXIO, OP_PEER_GONE},
	{KIND(RING_CONNECT), EPROTOTYPE, OP_PEER_GONE},	     /* unix: not a stream */
	{KIND(RING_CONNECT), EADDRNOTAVAIL, OP_LOCAL_LIMIT}, /* no local port left */
	{KIND(RING_CONNECT), EADDRINUSE, OP_LOCAL_LIMIT},
	{KIND(RING_CONNECT), ENOBUFS, OP_LOCAL_LIMIT},
	{KIND(RING_CONNECT), EINPROGRESS,
	 OP_RETRY}, /* a non-blocking descriptor: poll for writing first */
	{KIND(RING_CONNECT), EALREADY, OP_RETRY},
	{KIND(RING_CONNECT), EISCONN, OP_BUG},
	{KIND(RING_CONNECT), EAFNOSUPPORT, OP_UNSUPPORTED},
	{KIND(RING_CONNECT), EINVAL,
	 OP_PEER_GONE}, /* linux: the connection was refused before (tcp), or shut down */

	/* shutdown, cancel: too late is as good */
	{KIND(RING_SHUTDOWN), ENOTCONN, OP_GONE},
	{KIND(RING_CANCEL), ENOENT, OP_GONE},
	{KIND(RING_CANCEL), EALREADY, OP_GONE}, /* it runs already and will end by itself */

	/* close: the descriptor is gone whatever it says (close(2)) */
	{KIND(RING_CLOSE), EIO, OP_OK},
	{KIND(RING_CLOSE), EINTR, OP_OK},
	{KIND(RING_CLOSE), ENOSPC, OP_OK},
	{KIND(RING_CLOSE), EDQUOT, OP_OK},

	/* message: the target ring */
	{KIND(RING_MESSAGE), EOVERFLOW, OP_RETRY},  /* its completion queue is full */
	{KIND(RING_MESSAGE), EBADFD, OP_RETRY},	    /* not enabled yet */
	{KIND(RING_MESSAGE), EOWNERDEAD, OP_RETRY}, /* its thread has ended */

	/* the peer or the network, for whatever needs them */
	{REACHES, ECONNRESET, OP_PEER_GONE},
	{REACHES, ECONNREFUSED, OP_PEER_GONE},
	{REACHES, ECONNABORTED, OP_PEER_GONE},
	{REACHES, ETIMEDOUT, OP_PEER_GONE},
	{REACHES, EHOSTUNREACH, OP_PEER_GONE},
	{REACHES, EHOSTDOWN, OP_PEER_GONE},
	{REACHES, ENETUNREACH, OP_PEER_GONE},
	{REACHES, ENETDOWN, OP_PEER_GONE},
	{REACHES, ENETRESET, OP_PEER_GONE},
	{REACHES, ENONET, OP_PEER_GONE},
	{REACHES, EPROTO, OP_PEER_GONE},
	{REACHES, ENOPROTOOPT, OP_PEER_GONE},
	{REACHES, EPIPE, OP_PEER_GONE},

	/* all kinds */
	{ANY, ECANCELED, OP_CANCELLED},
	{ANY, EAGAIN, OP_RETRY},
	{ANY, EINTR, OP_RETRY},
	{ANY, ENOMEM, OP_LOCAL_LIMIT},
	{ANY, EMFILE, OP_LOCAL_LIMIT},
	{ANY, ENFILE, OP_LOCAL_LIMIT},
	{ANY, EOPNOTSUPP, OP_UNSUPPORTED},
	{ANY, ENOSYS, OP_UNSUPPORTED},
	{ANY, EACCES, OP_BUG}, /* not among the ring's allowed operations */
	{ANY, EBADF, OP_BUG},
	{ANY, EFAULT, OP_BUG},
	{ANY, EINVAL, OP_BUG},
	{ANY, ENOTSOCK, OP_BUG},
	{ANY, ENXIO, OP_BUG},
};

#define ERRNO_WORDS 3 /* Linux errno values end below 192 */
#define ERRNO_BITS  ((size_t)ERRNO_WORDS * 64)

/* Logs a kind and errno the first time they meet. */
static void log_unknown(uint8_t kind, int code)
{
	static _Atomic uint64_t seen[RING_OPCODE_COUNT + 1][ERRNO_WORDS];
	size_t row = kind < RING_OPCODE_COUNT ? kind : RING_OPCODE_COUNT;
	size_t bit = (size_t)code < ERRNO_BITS ? (size_t)code : ERRNO_BITS - 1;
	uint64_t mask = UINT64_C(1) << bit % 64;

	/* Relaxed: nothing is read by virtue of this flag. */
	if (atomic_fetch_or_explicit(&seen[row][bit / 64], mask, memory_order_relaxed) & mask)
		return;
	LOG(LOG_ERROR, "uring", "an operation gave an error that its table does not have",
	    LOG_TEXT("operation", op_kind_name(kind)), LOG_INT("error", code),
	    LOG_TEXT("text", errno_text(code)));
}

enum op_outcome op_classify(uint8_t kind, int32_t result)
{
	if (result >= 0)
		return OP_OK;
	/* Only failures come here: a walk over the rows is cheap enough. */
	for (size_t i = 0; i < ARRAY_LEN(errno_rows); i++) {
		const struct errno_row *row = &errno_rows[i];

		if (row->code == -result && kind < RING_OPCODE_COUNT && row->kinds & KIND(kind))
			return row->outcome;
	}
	log_unknown(kind, -result);
	return OP_UNKNOWN;
}
