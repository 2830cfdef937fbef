/*
 * face_proxy: a connection of a trusted proxy before its PROXY protocol header is whole. What the
 * header says is the peer is the peer from then on. Thread: the worker's. Source: edge.md §1.
 *
 *   accepted ─► header comes ─┬─ right ─► sniffing, with the bytes behind it
 *                             └─ wrong, late, none ─► closed, counted
 */
#include "codec/proxy.h"

#include "edge/connection.h"

/* A part of a header, and the receive in which the rest of it comes. */
#define BYTES_MAX (PROXY_HEADER_BYTES_MAX + (64u << 10))

void proxy_open(struct connection *connection)
{
	connection->face = &face_proxy;
	buf_init(&connection->proxy, BYTES_MAX);
}

static void proxy_refuse(struct connection *connection)
{
	account_glitch(connection->server->account, GLITCH_PROXY);
	connection_set_outcome(connection, OUTCOME_PROTOCOL);
	conn_close(&connection->conn);
}

static struct address address_of(const struct proxy_header *header)
{
	size_t len = header->source == PROXY_V4 ? 4 : 16;

	if (header->source == PROXY_UNIX)
		return address_from_path("/"); /* like every unix peer: without an address */
	return address_from_ip(span_make(header->address, len), header->port);
}

/* The header was `taken` bytes of these. */
static void proxy_hand_over(struct connection *connection, const struct proxy_header *header,
			    struct span rest)
{
	if (header->source != PROXY_NONE)
		connection->conn.peer = address_of(header);
	if (connection_begin_sniffing(connection) && rest.len > 0)
		connection->face->received(connection, rest);
}

static void proxy_received(struct connection *connection, struct span bytes)
{
	struct buf buf = connection->proxy; /* whatever follows takes its place */
	struct proxy_header header;

	if (buf.len > 0) {
		if (buf_append(&connection->proxy, bytes) != 0) {
			connection_set_outcome(connection, OUTCOME_RESOURCE);
			conn_close(&connection->conn);
			return;
		}
		buf = connection->proxy;
		bytes = buf_span(&buf);
	}

	ptrdiff_t taken = proxy_parse(bytes, &header);

	if (taken < 0) {
		proxy_refuse(connection);
	} else if (taken > 0) {
		buf_init(&connection->proxy, 0);
		proxy_hand_over(connection, &header, span_from(bytes, (size_t)taken));
		buf_finish(&buf);
	} else if (buf.len == 0 && buf_append(&connection->proxy, bytes) != 0) {
		connection_set_outcome(connection, OUTCOME_RESOURCE);
		conn_close(&connection->conn);
	}
}

/* Balancers look whether a port answers by connecting and no more: that is no fault. */
static void proxy_peer_finished(struct connection *connection)
{
	if (connection->proxy.len > 0) {
		proxy_refuse(connection);
		return;
	}
	connection_set_outcome(connection, OUTCOME_PEER);
	conn_close(&connection->conn);
}

static void proxy_produce(struct connection *connection)
{
	(void)connection;
}

static void proxy_expired(struct connection *connection)
{
	account_glitch(connection->server->account, GLITCH_TIMEOUT);
	connection_set_outcome(connection, OUTCOME_TIMEOUT);
	conn_close(&connection->conn);
}

/* With a part of the header there, a request is on the way. */
static void proxy_drain(struct connection *connection)
{
	if (connection->proxy.len == 0) {
		connection_hurry(connection);
		conn_finish_sending(&connection->conn);
	} else {
		connection->draining = false;
	}
}

static void proxy_release(struct connection *connection)
{
	buf_finish(&connection->proxy);
}

const struct face face_proxy = {
	.received = proxy_received,
	.peer_finished = proxy_peer_finished,
	.produce = proxy_produce,
	.expired = proxy_expired,
	.drain = proxy_drain,
	.release = proxy_release,
};
