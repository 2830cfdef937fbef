/*
 * tls_rig: a conn with TLS under test, and OpenSSL's own server as its peer, which speaks through
 * memory, so that every byte of it can be cut off, changed or held back.
 */
#ifndef UNIT_NET_TLS_RIG_H
#define UNIT_NET_TLS_RIG_H

#include "unit/net/harness.h"
#include "unit/net/tls_certificates.h"

#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#define PATTERN(i) ((uint8_t)((i)*31 + (i) / 251))

/* ── the peer ── */

struct peer_options {
	const char *certificate; /* NULL: "server" */
	const char *client_ca;	 /* a client certificate is required; NULL: none */
	int version;		 /* 0: any from 1.2 */
};

struct peer {
	int fd;
	SSL_CTX *context;
	SSL *session; /* over two memory BIOs */
	BIO *in, *out;
	bool is_open, closed, said_goodbye;
	unsigned long error;	 /* the first that its OpenSSL ended with */
	size_t received, wrong; /* plain bytes */
	size_t to_send, sent;	/* plain bytes */
	size_t said;		/* to the socket */
	size_t read_max;	 /* from the socket at once; 0: any */
};

static inline void peer_open(struct peer *peer, int fd, const struct peer_options *options)
{
	char name[64];
	const char *certificate = options->certificate ? options->certificate : "server";

	*peer = (struct peer){.fd = fd, .context = SSL_CTX_new(TLS_server_method())};
	assert_non_null(peer->context);
	if (options->version) {
		/* What is too old for us is too old for OpenSSL's idea of security as well. */
		assert_int_equal(SSL_CTX_set_cipher_list(peer->context, "DEFAULT@SECLEVEL=0"), 1);
		assert_int_equal(SSL_CTX_set_min_proto_version(peer->context, options->version), 1);
		assert_int_equal(SSL_CTX_set_max_proto_version(peer->context, options->version), 1);
	}
	snprintf(name, sizeof(name), "%s.pem", certificate);
	assert_int_equal(
		SSL_CTX_use_certificate_chain_file(peer->context, certificate_path(name)), 1);
	snprintf(name, sizeof(name), "%s.key", certificate);
	assert_int_equal(SSL_CTX_use_PrivateKey_file(peer->context, certificate_path(name),
						     SSL_FILETYPE_PEM),
			 1);
	if (options->client_ca) {
		assert_int_equal(SSL_CTX_load_verify_locations(
					 peer->context, certificate_path(options->client_ca), NULL),
				 1);
		SSL_CTX_set_verify(peer->context,
				   SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	}
	peer->session = SSL_new(peer->context);
	peer->in = BIO_new(BIO_s_mem());
	peer->out = BIO_new(BIO_s_mem());
	SSL_set_bio(peer->session, peer->in, peer->out);
	SSL_set_accept_state(peer->session);
}

static inline void peer_finish(struct peer *peer)
{
	SSL_free(peer->session);
	SSL_CTX_free(peer->context);
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

static inline void peer_judge(struct peer *peer, int result)
{
	int what = SSL_get_error(peer->session, result);

	if (what == SSL_ERROR_ZERO_RETURN)
		peer->said_goodbye = true;
	else if (what != SSL_ERROR_WANT_READ && !peer->error)
		peer->error = ERR_peek_error() ? ERR_peek_error() : 1;
	ERR_clear_error();
}

static inline void peer_hear(struct peer *peer)
{
	uint8_t bytes[8192];
	size_t max = peer->read_max ? peer->read_max : sizeof(bytes);
	ssize_t n = recv(peer->fd, bytes, max < sizeof(bytes) ? max : sizeof(bytes), 0);

	if (n > 0)
		assert_int_equal(BIO_write(peer->in, bytes, (int)n), n);
	else if (n == 0 || errno != EAGAIN)
		peer->closed = true;
}

/* Takes what came and thinks; what it has to say stays in peer->out. */
static inline void peer_think(struct peer *peer)
{
	uint8_t bytes[16384];
	int n;

	ERR_clear_error();
	peer_hear(peer);
	if (!peer->is_open && !peer->error) {
		n = SSL_do_handshake(peer->session);
		peer->is_open = n == 1;
		if (n != 1)
			peer_judge(peer, n);
	}
	if (!peer->is_open || peer->error)
		return;
	while ((n = SSL_read(peer->session, bytes, sizeof(bytes))) > 0) {
		for (int i = 0; i < n; i++)
			peer->wrong += bytes[i] != PATTERN(peer->received + (size_t)i);
		peer->received += (size_t)n;
	}
	peer_judge(peer, n);
}

static inline void peer_write(struct peer *peer, size_t len)
{
	uint8_t bytes[16384];

	assert_true(len <= sizeof(bytes));
	for (size_t i = 0; i < len; i++)
		bytes[i] = PATTERN(peer->sent + i);
	assert_int_equal(SSL_write(peer->session, bytes, (int)len), (int)len);
	peer->sent += len;
}

/* At most `max` bytes of what there is to say. Returns how many the socket took. */
static inline size_t peer_say(struct peer *peer, size_t max)
{
	char *data;
	long pending = BIO_get_mem_data(peer->out, &data);
	size_t len = pending > 0 && (size_t)pending < max ? (size_t)pending : max;
	uint8_t taken[16384];

	if (pending <= 0)
		return 0;
	if (len > sizeof(taken))
		len = sizeof(taken);

	ssize_t n = send(peer->fd, data, len, MSG_NOSIGNAL);

	if (n <= 0)
		return 0;
	assert_int_equal(BIO_read(peer->out, taken, (int)n), n);
	peer->said += (size_t)n;
	return (size_t)n;
}

/* Always true: one step of a peer in good health, for a loop's condition. */
static inline bool peer_turn(struct peer *peer)
{
	peer_think(peer);
	while (peer->is_open && peer->sent < peer->to_send && BIO_pending(peer->out) < 65536)
		peer_write(peer, peer->to_send - peer->sent < 16000 ? peer->to_send - peer->sent
								      : 16000);
	while (peer_say(peer, SIZE_MAX) > 0)
		;
	return true;
}

/* ── the subject ── */

struct rig {
	struct worker worker;
	struct conn conn;
	struct conn_counters counters;
	struct tls tls;
	struct tls_context *context;
	struct peer peer;
	size_t received, received_wrong; /* plain bytes */
	int received_calls, peer_finished_calls, produce_calls, closed_calls;
	enum conn_end end;
	int error;
	size_t to_produce, produced, piece; /* plain bytes */
	bool slices, close_in_received, pause_in_received, close_in_peer_finished;
	int fds_before;
};

static struct rig rig;

/* The peer is no part of the ring. */
#define RIG_TURNS(condition) TURN_UNTIL_WAITING(&rig.worker, 50, condition)

static inline void rig_received(struct conn *conn, struct span bytes)
{
	rig.received_calls++;
	for (size_t i = 0; i < bytes.len; i++)
		rig.received_wrong += bytes.data[i] != PATTERN(rig.received + i);
	rig.received += bytes.len;
	if (rig.pause_in_received)
		conn_pause_receive(conn);
	if (rig.close_in_received)
		conn_close(conn);
}

static inline void rig_peer_finished(struct conn *conn)
{
	rig.peer_finished_calls++;
	if (rig.close_in_peer_finished)
		conn_close(conn);
}

static inline int rig_send(size_t len)
{
	struct payload *payload = payload_create(len);
	int code;

	assert_non_null(payload);
	for (size_t i = 0; i < len; i++)
		payload->data[i] = PATTERN(rig.produced + i);
	if (rig.slices) {
		struct payload_slice slice = {payload, 0, (uint32_t)len};

		code = len % 2 ? conn_send_slice(&rig.conn, slice)
			       : conn_give_slice(&rig.conn, slice);
		if (len % 2 || code)
			payload_put(payload);
	} else {
		code = conn_send(&rig.conn, payload_span(payload));
		payload_put(payload);
	}
	return code;
}

static inline void rig_produce(struct conn *conn)
{
	rig.produce_calls++;
	while (rig.produced < rig.to_produce && conn_has_room(conn)) {
		size_t left = rig.to_produce - rig.produced;
		size_t len = left < rig.piece ? left : rig.piece;

		assert_int_equal(rig_send(len), 0);
		rig.produced += len;
		assert_true(conn->queue.bytes <= conn->queue.bytes_max);
	}
}

static inline void rig_closed(struct conn *conn, enum conn_end end, int error)
{
	assert_ptr_equal(conn, &rig.conn);
	rig.closed_calls++;
	rig.end = end;
	rig.error = error;
	tls_finish(&rig.tls);
}

static const struct conn_handler rig_handler = {
	.received = rig_received,
	.peer_finished = rig_peer_finished,
	.produce = rig_produce,
	.closed = rig_closed,
};

static const struct conn_handler rig_plain_handler = {
	.received = rig_received,
	.produce = rig_produce,
	.closed = rig_closed,
};

static const struct conn_options rig_conn_options = {
	.queue_bytes_max = 256 << 10,
	.queue_bytes_room = 64 << 10,
	.linger_ms = 2000,
};

/* ── a story ── */

struct rig_options {
	const char *name;	 /* NULL: "redis.test" */
	const char *ca;		 /* NULL: "ca.pem" */
	const char *certificate; /* our own, or NULL */
	bool plain_handler;	 /* without peer_finished */
	struct peer_options peer;
};

static inline struct tls_context *rig_context(const char *ca, const char *certificate)
{
	struct tls_context *context;
	char why[256] = "", name[64];

	assert_int_equal(tls_context_create(&context), 0);
	if (tls_context_trust(context, certificate_path(ca), why, sizeof(why)))
		fail_msg("%s", why);
	if (!certificate)
		return context;
	snprintf(name, sizeof(name), "%s.pem", certificate);
	if (tls_context_use_certificate(context, certificate_path(name), why, sizeof(why)))
		fail_msg("%s", why);
	snprintf(name, sizeof(name), "%s.key", certificate);
	if (tls_context_use_key(context, certificate_path(name), why, sizeof(why)))
		fail_msg("%s", why);
	return context;
}

static inline void rig_connect(const struct rig_options *options)
{
	int ours, peer;

	harness_tcp_pair(&ours, &peer);
	harness_set_int(ours, SOL_SOCKET, SO_SNDBUF, 8192);
	harness_set_int(peer, IPPROTO_TCP, 1 /* TCP_NODELAY */, 1);
	peer_open(&rig.peer, peer, &options->peer);
	assert_int_equal(conn_open(&rig.conn, &rig.worker, ring_adopt(rig.worker.ring, ours),
				   options->plain_handler ? &rig_plain_handler : &rig_handler,
				   &rig_conn_options),
			 0);
	rig.counters = (struct conn_counters){0};
	rig.conn.counters = &rig.counters;
	assert_int_equal(tls_open(&rig.tls, &rig.conn, rig.context,
				  options->name ? options->name : "redis.test"),
			 0);
	assert_false(conn_has_room(&rig.conn));
}

static inline void rig_open(const struct rig_options *options)
{
	rig = (struct rig){.fds_before = descriptor_count(), .piece = 300};
	harness_worker_init(&rig.worker, 64, 64);
	rig.context = rig_context(options->ca ? options->ca : "ca.pem", options->certificate);
	rig_connect(options);
}

/* The connection is over, or ended here; another may be opened by rig_connect. */
static inline void rig_disconnect(void)
{
	conn_close(&rig.conn);
	RIG_TURNS(rig.closed_calls > 0);
	assert_int_equal(rig.closed_calls, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(worker_turn(&rig.worker, 0), 0);
	assert_int_equal(rig.closed_calls, 1);
	assert_int_equal(worker_ops_in_flight(&rig.worker), 0);
	assert_null(rig.conn.queue.first);
	peer_finish(&rig.peer);
	assert_int_equal(rig.received_wrong, 0);
}

static inline void rig_close(void)
{
	rig_disconnect();
	tls_context_destroy(rig.context);
	harness_worker_finish(&rig.worker);
	assert_int_equal(descriptor_count(), rig.fds_before);
	assert_int_equal(ERR_peek_error(), 0);
}

#define RIG_UNTIL(condition) RIG_TURNS(peer_turn(&rig.peer) && (condition))

#endif
