#include "net/tls.h"

#include "base/check.h"
#include "base/explain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a record may be longer than its plain bytes, at the most: header, nonce, tag, padding. */
#define RECORD_PLAIN_BYTES SSL3_RT_MAX_PLAIN_LENGTH
#define RECORD_EXTRA_BYTES (SSL3_RT_HEADER_LENGTH + SSL3_RT_MAX_ENCRYPTED_OVERHEAD)

struct tls_context {
	SSL_CTX *shared;
	BIO_METHOD *bio;
	X509 *certificate; /* ours, or NULL */
};

/* ---- files ---- */

struct pem_file {
	const char *path;
	char *why;
	size_t why_size;
	uint8_t *data; /* TLS_FILE_MAX + 1 bytes at most; wiped before the free */
	size_t len, cap;
	BIO *bio; /* over data */
};

static void pem_file_finish(struct pem_file *file)
{
	BIO_free(file->bio);
	if (file->data)
		OPENSSL_cleanse(file->data, file->len);
	free(file->data);
	/* A left error would be read by the next call of this thread as its own. */
	ERR_clear_error();
}

/* The file may have grown since it was looked at. */
static int pem_file_fill(struct pem_file *file, int fd)
{
	while (file->len < file->cap) {
		ssize_t got = read(fd, file->data + file->len, file->cap - file->len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int error = errno;

			return explain(file->why, file->why_size, -error, "%s: cannot read: %s",
				       file->path, errno_text(error));
		}
		if (got == 0)
			return 0;
		file->len += (size_t)got;
	}
	return explain(file->why, file->why_size, -EFBIG, "%s: changes, or is larger than %u MiB",
		       file->path, TLS_FILE_MAX >> 20);
}

static int pem_file_load(struct pem_file *file, int fd)
{
	struct stat status;

	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
		return explain(file->why, file->why_size, -EINVAL, "%s: not a regular file",
			       file->path);
	file->cap = (uint64_t)status.st_size < TLS_FILE_MAX ? (size_t)status.st_size + 1
							    : (size_t)TLS_FILE_MAX + 1;
	file->data = malloc(file->cap);
	if (!file->data)
		return explain(file->why, file->why_size, -ENOMEM, "%s: out of memory", file->path);

	int error = pem_file_fill(file, fd);

	if (error)
		return error;
	file->bio = BIO_new_mem_buf(file->data, (int)file->len);
	if (!file->bio)
		return explain(file->why, file->why_size, -ENOMEM, "%s: out of memory", file->path);
	return 0;
}

/* Returns 0, or a negative errno with the sentence. pem_file_finish either way. */
static int pem_file_open(struct pem_file *file)
{
	/* O_NONBLOCK: a FIFO without a writer must not hold up the start. */
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0) {
		int error = errno;

		return explain(file->why, file->why_size, -error, "%s: cannot open: %s", file->path,
			       errno_text(error));
	}

	int error = pem_file_load(file, fd);

	close(fd);
	return error;
}

/* For a key with a password, and for a certificate that claims to need one. */
static int refuse_password(char *text, int size, int writing, void *asked)
{
	(void)text;
	(void)size;
	(void)writing;
	*(bool *)asked = true;
	return -1;
}

/* The next certificate, the caller's; NULL at the end or where it cannot be read. */
static X509 *pem_file_next_certificate(struct pem_file *file)
{
	bool asked = false;

	return PEM_read_bio_X509(file->bio, NULL, refuse_password, &asked);
}

/* After the last certificate: whether that was the end, not a block that is damaged. */
static bool pem_file_is_over(void)
{
	return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
}

/* ---- the context ---- */

static BIO_METHOD *bio_method_make(void);

int tls_context_create(struct tls_context **context)
{
	struct tls_context *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->shared = SSL_CTX_new(TLS_client_method());
	made->bio = bio_method_make();
	if (!made->shared || !made->bio ||
	    SSL_CTX_set_min_proto_version(made->shared, TLS1_2_VERSION) != 1) {
		tls_context_destroy(made);
		ERR_clear_error();
		return -ENOMEM;
	}
	SSL_CTX_set_options(made->shared,
			    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
	SSL_CTX_set_mode(made->shared, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(made->shared, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(made->shared, SSL_VERIFY_PEER, NULL);
	*context = made;
	return 0;
}

void tls_context_destroy(struct tls_context *context)
{
	if (!context)
		return;
	X509_free(context->certificate);
	SSL_CTX_free(context->shared);
	BIO_meth_free(context->bio);
	free(context);
}

/*
 * OpenSSL reads its folder of CAs while it verifies, which would be file access on a worker; so the
 * distribution's bundle of the same certificates is preferred, which is read here and now.
 */
static int trust_system(struct tls_context *context, char *why, size_t why_size)
{
	char bundle[256];

	snprintf(bundle, sizeof(bundle), "%s/ca-certificates.crt", X509_get_default_cert_dir());
	if (!getenv(X509_get_default_cert_file_env()) && !getenv(X509_get_default_cert_dir_env()) &&
	    access(bundle, R_OK) == 0)
		return tls_context_trust(context, bundle, why, why_size);

	bool set = SSL_CTX_set_default_verify_paths(context->shared) == 1;

	ERR_clear_error();
	return set ? 0
		   : explain(why, why_size, -ENOMEM, "the system's certificates: out of memory");
}

int tls_context_trust(struct tls_context *context, const char *path, char *why, size_t why_size)
{
	struct pem_file file = {.path = path, .why = why, .why_size = why_size};
	X509_STORE *store = SSL_CTX_get_cert_store(context->shared);
	size_t count = 0;
	X509 *certificate;

	if (!path || !path[0])
		return trust_system(context, why, why_size);

	int error = pem_file_open(&file);

	while (!error && (certificate = pem_file_next_certificate(&file)) != NULL) {
		if (X509_STORE_add_cert(store, certificate) != 1)
			error = explain(why, why_size, -ENOMEM, "%s: out of memory", path);
		X509_free(certificate);
		count++;
	}
	if (!error && (count == 0 || !pem_file_is_over()))
		error = explain(why, why_size, -EINVAL, "%s: %s", path,
				count == 0 ? "no readable PEM certificate"
					   : "a certificate in it cannot be read");
	pem_file_finish(&file);
	return error;
}

int tls_context_use_certificate(struct tls_context *context, const char *path, char *why,
				size_t why_size)
{
	struct pem_file file = {.path = path, .why = why, .why_size = why_size};
	X509 *certificate = NULL, *next;
	int error = pem_file_open(&file);

	if (error)
		goto finish;
	certificate = pem_file_next_certificate(&file);
	if (!certificate) {
		error = explain(why, why_size, -EINVAL, "%s: no readable PEM certificate", path);
		goto finish;
	}
	if (SSL_CTX_use_certificate(context->shared, certificate) != 1) {
		error = explain(why, why_size, -EINVAL, "%s: the certificate cannot be used: %s",
				path, ERR_reason_error_string(ERR_peek_error()));
		goto finish;
	}
	while (!error && (next = pem_file_next_certificate(&file)) != NULL) {
		if (SSL_CTX_add1_chain_cert(context->shared, next) != 1)
			error = explain(why, why_size, -EINVAL,
					"%s: a certificate behind the first cannot be used", path);
		X509_free(next);
	}
	if (!error && !pem_file_is_over())
		error = explain(why, why_size, -EINVAL, "%s: a certificate in it cannot be read",
				path);
	if (!error) {
		context->certificate = certificate;
		certificate = NULL;
	}
finish:
	X509_free(certificate);
	pem_file_finish(&file);
	return error;
}

static int key_judge(const struct tls_context *context, EVP_PKEY *key, struct pem_file *file)
{
	if (X509_check_private_key(context->certificate, key) != 1)
		return explain(file->why, file->why_size, -EINVAL,
			       "%s: not the private key of the certificate", file->path);
	if (SSL_CTX_use_PrivateKey(context->shared, key) != 1)
		return explain(file->why, file->why_size, -EINVAL,
			       "%s: the private key cannot be used", file->path);
	return 0;
}

int tls_context_use_key(struct tls_context *context, const char *path, char *why, size_t why_size)
{
	struct pem_file file = {.path = path, .why = why, .why_size = why_size};
	bool asked = false;
	int error = pem_file_open(&file);

	CHECK(context->certificate);
	if (!error) {
		EVP_PKEY *key = PEM_read_bio_PrivateKey(file.bio, NULL, refuse_password, &asked);

		if (key)
			error = key_judge(context, key, &file);
		else
			error = explain(why, why_size, -EINVAL, "%s: %s", path,
					asked ? "the private key is encrypted; it must be without "
						"a password"
					      : "no readable PEM private key");
		EVP_PKEY_free(key);
	}
	pem_file_finish(&file);
	return error;
}

/* ---- OpenSSL's two ends ---- */

static int bio_read(BIO *bio, char *into, int size)
{
	struct tls *tls = BIO_get_data(bio);
	size_t len = tls->input.len < (size_t)size ? tls->input.len : (size_t)size;

	BIO_clear_retry_flags(bio);
	if (len == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(into, tls->input.data, len);
	tls->input = span_from(tls->input, len);
	return (int)len;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
	struct tls *tls = BIO_get_data(bio);
	int error = conn_filter_queue(tls->filter.conn, span_make(bytes, (size_t)len));

	BIO_clear_retry_flags(bio);
	if (error) {
		tls->queue_error = error;
		return -1;
	}
	return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method_make(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "conn");

	if (method && BIO_meth_set_read(method, bio_read) == 1 &&
	    BIO_meth_set_write(method, bio_write) == 1 && BIO_meth_set_ctrl(method, bio_ctrl) == 1)
		return method;
	BIO_meth_free(method);
	return NULL;
}

/* ---- what went wrong ---- */

__attribute__((format(printf, 2, 3))) static void set_error(struct tls *tls, const char *format,
							    ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(tls->error, sizeof(tls->error), format, args);
	va_end(args);
}

static void describe_verify(struct tls *tls)
{
	long result = SSL_get_verify_result(tls->session);

	if (result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH)
		set_error(tls, "certificate is for another host");
	else
		set_error(tls, "certificate verify failed: %s",
			  X509_verify_cert_error_string(result));
}

static void describe_session_error(struct tls *tls, unsigned long error)
{
	const char *reason = ERR_reason_error_string(error);
	const char *alert = reason ? strstr(reason, " alert ") : NULL;
	int number = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;

	if (number == SSL_R_CERTIFICATE_VERIFY_FAILED)
		describe_verify(tls);
	else if (number == SSL_R_WRONG_VERSION_NUMBER && !tls->is_open)
		set_error(tls, "what answers there does not speak TLS");
	else if (number > SSL_AD_REASON_OFFSET && alert)
		set_error(tls, "the peer refused the TLS connection: %s",
			  alert + strlen(" alert "));
	else
		set_error(tls, "%s: %s", tls->is_open ? "TLS failed" : "TLS handshake failed",
			  reason ? reason : "unknown reason");
}

/* What OpenSSL ended with; the first error of its list is the cause, the others follow from it. */
static void tls_fail(struct tls *tls)
{
	tls->failed = true;
	if (tls->queue_error)
		set_error(tls, "no memory or room for TLS");
	else
		describe_session_error(tls, ERR_peek_error());
	ERR_clear_error();
	conn_filter_fail(tls->filter.conn, tls->queue_error ? tls->queue_error : -EPROTO);
}

/* ---- the filter ---- */

static struct tls *tls_of(struct conn_filter *filter)
{
	return CONTAINER_OF(filter, struct tls, filter);
}

/* As far as the bytes that are here lead. */
static void tls_shake_hands(struct tls *tls)
{
	ERR_clear_error();

	int result = SSL_do_handshake(tls->session);

	if (result == 1) {
		tls->is_open = true;
		conn_filter_open(tls->filter.conn);
	} else if (SSL_get_error(tls->session, result) != SSL_ERROR_WANT_READ) {
		tls_fail(tls);
	}
}

/* Records that are whole. Inside, the handler may have closed the conn, or a send have failed. */
static void tls_read(struct tls *tls)
{
	struct conn *conn = tls->filter.conn;
	uint8_t plain[RECORD_PLAIN_BYTES];
	int got = 0;

	while (conn_is_open(conn)) {
		ERR_clear_error();
		got = SSL_read(tls->session, plain, sizeof(plain));
		if (got <= 0)
			break;
		conn_filter_deliver(conn, span_make(plain, (size_t)got));
	}
	if (!conn_is_open(conn))
		return;
	switch (SSL_get_error(tls->session, got)) {
	case SSL_ERROR_WANT_READ:
		CHECK(tls->input.len == 0);
		break;
	case SSL_ERROR_ZERO_RETURN:
		conn_filter_peer_finished(conn);
		break;
	default:
		tls_fail(tls);
	}
}

static void filter_received(struct conn_filter *filter, struct span bytes)
{
	struct tls *tls = tls_of(filter);

	tls->input = bytes;
	if (!tls->is_open)
		tls_shake_hands(tls);
	if (tls->is_open)
		tls_read(tls);
	tls->input = SPAN_EMPTY;
}

static int filter_send(struct conn_filter *filter, struct span bytes)
{
	struct tls *tls = tls_of(filter);
	size_t room = conn_filter_queue_room(filter->conn);
	size_t records = bytes.len / RECORD_PLAIN_BYTES + 1;
	size_t written;

	if (bytes.len == 0)
		return 0;
	/* All or nothing: OpenSSL does not take back the first of several records. */
	if (!tls->is_open || bytes.len > room || records * RECORD_EXTRA_BYTES > room - bytes.len)
		return -ENOBUFS;
	ERR_clear_error();
	if (SSL_write_ex(tls->session, bytes.data, bytes.len, &written) == 1) {
		CHECK(written == bytes.len);
		return 0;
	}
	tls_fail(tls);
	return -EPIPE;
}

static void filter_flush(struct conn_filter *filter)
{
	struct tls *tls = tls_of(filter);

	if (tls->begun || !conn_is_open(filter->conn))
		return;
	tls->begun = true;
	tls_shake_hands(tls);
}

static void filter_finish(struct conn_filter *filter)
{
	struct tls *tls = tls_of(filter);

	if (!tls->is_open || tls->failed)
		return;
	ERR_clear_error();
	if (SSL_shutdown(tls->session) < 0)
		tls_fail(tls);
}

static void filter_cut_off(struct conn_filter *filter)
{
	struct tls *tls = tls_of(filter);

	tls->failed = true;
	set_error(tls, tls->is_open ? "connection cut off without a TLS close_notify"
				    : "connection closed during the TLS handshake");
	conn_filter_fail(filter->conn, -ECONNRESET);
}

static const struct conn_filter_ops tls_ops = {
	.received = filter_received,
	.send = filter_send,
	.flush = filter_flush,
	.finish = filter_finish,
	.cut_off = filter_cut_off,
};

/* ---- life ---- */

/* Whom the certificate must be for. SNI is for names only: RFC 6066 §3. */
static int expect_name(SSL *session, const char *name)
{
	char host[TLS_PEER_NAME_MAX + 1];
	uint8_t address[16];
	size_t len = strlen(name);

	if (inet_pton(AF_INET, name, address) == 1)
		return X509_VERIFY_PARAM_set1_ip(SSL_get0_param(session), address, 4) == 1
			       ? 0
			       : -ENOMEM;
	if (inet_pton(AF_INET6, name, address) == 1)
		return X509_VERIFY_PARAM_set1_ip(SSL_get0_param(session), address, 16) == 1
			       ? 0
			       : -ENOMEM;
	/* The root's dot is for the resolver; certificates do not have it. */
	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len == 0 || len > TLS_PEER_NAME_MAX)
		return -EINVAL;
	memcpy(host, name, len);
	host[len] = '\0';
	SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (SSL_set1_host(session, host) != 1 || SSL_set_tlsext_host_name(session, host) != 1)
		return -ENOMEM;
	return 0;
}

int tls_open(struct tls *tls, struct conn *conn, const struct tls_context *context,
	     const char *name)
{
	SSL *session = SSL_new(context->shared);
	BIO *bio = BIO_new(context->bio);
	int error = session && bio ? expect_name(session, name) : -ENOMEM;

	if (error) {
		BIO_free(bio);
		SSL_free(session);
		ERR_clear_error();
		return error;
	}
	*tls = (struct tls){.filter.ops = &tls_ops, .session = session};
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(session, bio, bio);
	SSL_set_connect_state(session);
	conn_set_filter(conn, &tls->filter);
	return 0;
}

void tls_finish(struct tls *tls)
{
	SSL_free(tls->session);
	tls->session = NULL;
	tls->is_open = false;
}

bool tls_is_open(const struct tls *tls)
{
	return tls->is_open;
}

const char *tls_error(const struct tls *tls)
{
	return tls->error;
}
