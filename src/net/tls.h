/*
 * tls: TLS 1.2 and 1.3 over a conn, as its filter: the handler gets and gives plain bytes, the ring
 * carries records. No system call is made here but reading the files at start-up.
 *
 *   conn_open ─► tls_open ─► handshake ─► produce, received as ever ─► closed ─► tls_finish
 *
 * Only the client's side so far. The peer's certificate is always verified, its name too. Refused:
 * renegotiation, compression, resumption. Who opens it sets the deadline for the handshake: until it
 * is over nothing of the handler's is sent.
 * Limits: a record of 16 KiB each way and a certificate list of 100 KiB, held by OpenSSL; an idle
 * connection holds no record.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "net/filter.h"

/* Whom we trust and who we are. Immutable once set up; then any thread. */
struct tls_context;

#define TLS_FILE_MAX	  (4u << 20) /* a system's bundle of CAs is some 220 KB */
#define TLS_PEER_NAME_MAX 253	     /* RFC 1035 §2.3.4, without the root's dot */

/* Trusts nobody yet. Returns 0 or -ENOMEM. */
int tls_context_create(struct tls_context **context);

/*
 * Trusts the certificates of a PEM file; `path` empty: those of the system (SSL_CERT_FILE and
 * SSL_CERT_DIR where they are set, as OpenSSL does). Returns 0 or a negative errno with a sentence
 * in `why` that begins with the path: unreadable, not a regular file, over TLS_FILE_MAX, no
 * certificate.
 */
int tls_context_trust(struct tls_context *context, const char *path, char *why, size_t why_size);

/* Our own certificate, then those between it and a CA, PEM. Returns as tls_context_trust. */
int tls_context_use_certificate(struct tls_context *context, const char *path, char *why,
				size_t why_size);

/*
 * Its private key, PEM, after the certificate. Returns as tls_context_trust; also encrypted (never
 * asked for), or not that certificate's.
 */
int tls_context_use_key(struct tls_context *context, const char *path, char *why, size_t why_size);

/* NULL is allowed. Before it every connection must be finished. */
void tls_context_destroy(struct tls_context *context);

#define TLS_ERROR_MAX 160

struct tls { /* zeroed memory is a finished one */
	struct conn_filter filter;
	struct ssl_st *session;
	struct span input;   /* of the receive under way */
	bool begun, is_open; /* the handshake */
	bool failed;
	int queue_error;
	char error[TLS_ERROR_MAX];
};

/*
 * Puts TLS between a conn that was opened just now and its handler. The peer's certificate must be
 * for `name`: a host name or a numeric address.
 * Returns 0, -EINVAL (no such name can be), or -ENOMEM; then the conn is as it was.
 * Lifetime: `context` until tls_finish, `tls` until the conn's `closed`.
 */
int tls_open(struct tls *tls, struct conn *conn, const struct tls_context *context,
	     const char *name);

/* In `closed` or after it. Safe on a finished one. tls_error stays. */
void tls_finish(struct tls *tls);

/* Whether the handshake is over. */
bool tls_is_open(const struct tls *tls);

/*
 * Why TLS ended the conn, in a few words ("certificate verify failed: self-signed certificate"), or
 * "". The peer's words are never part of it.
 */
const char *tls_error(const struct tls *tls);

#endif
