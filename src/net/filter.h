/*
 * filter: what may stand between a conn's socket and its handler and transform the bytes both ways:
 * TLS. Private to net/. Thread: the worker's.
 *
 *   socket ─ received ─► filter ─ conn_filter_deliver ─► handler
 *   socket ◄─ conn_filter_queue ─ filter ◄─ send ─ conn_send…
 *
 * Until conn_filter_open the handler has no room to send; the filter talks with its like at the
 * other end.
 */
#ifndef NET_FILTER_H
#define NET_FILTER_H

#include "net/conn.h"

/* All are called while the conn is open, but for `flush`. */
struct conn_filter_ops {
	/* From the socket. All are taken; lent until return. */
	void (*received)(struct conn_filter *filter, struct span bytes);
	/* From the handler. Returns as conn_send. */
	int (*send)(struct conn_filter *filter, struct span bytes);
	/* In every flush step of the conn, first of all: the place to begin. */
	void (*flush)(struct conn_filter *filter);
	/* We will send no more: queue the goodbye. */
	void (*finish)(struct conn_filter *filter);
	/* FIN without a goodbye of the peer's filter: fail, or conn_filter_fail is for nothing. */
	void (*cut_off)(struct conn_filter *filter);
};

struct conn_filter {
	const struct conn_filter_ops *ops;
	struct conn *conn;
	size_t room_bytes; /* the handler's, once open */
};

/*
 * After conn_open, before its first turn is over. Lifetime: until the conn's `closed`. No callback
 * comes from inside.
 */
void conn_set_filter(struct conn *conn, struct conn_filter *filter);

/* The way is free: the handler has room, `produce` follows. */
void conn_filter_open(struct conn *conn);

/* To the handler. The conn must be open, and may not be so afterwards. */
void conn_filter_deliver(struct conn *conn, struct span bytes);

/* For the wire. Returns as sendq_append. */
int conn_filter_queue(struct conn *conn, struct span bytes);

/* How many bytes for the wire would be taken now. */
size_t conn_filter_queue_room(const struct conn *conn);

/* The peer's filter said goodbye: as its FIN for the handler. Once or more. */
void conn_filter_peer_finished(struct conn *conn);

/* Ends the conn as CONN_END_SECURITY; what is queued (an alert) is still sent. */
void conn_filter_fail(struct conn *conn, int error);

#endif
