#include "auth/signer.h"

#include "auth/secrets.h"
#include "base/check.h"
#include "base/explain.h"
#include "base/vault.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEED_BYTES 32

static_assert(SEED_BYTES == crypto_sign_SEEDBYTES, "seed");

struct signer {
	uint8_t secret_key[crypto_sign_SECRETKEYBYTES]; /* seed, then public key */
	uint8_t public_key[ENVELOPE_KEY_BYTES];
	bool is_locked;
};

int auth_init(void)
{
	int error = secrets_init();

	if (error)
		return error;
	return sodium_init() < 0 ? -EIO : 0;
}

/* ---- files ---- */

struct key_file {
	const char *path;
	char *why;
	size_t why_size;
	uint8_t *data; /* SIGNER_FILE_MAX + 1 bytes; wiped before the free */
	size_t len;
};

static void key_file_finish(struct key_file *file)
{
	if (file->data)
		OPENSSL_cleanse(file->data, SIGNER_FILE_MAX + 1);
	free(file->data);
	file->data = NULL;
}

static int read_all(struct key_file *file, int fd)
{
	while (file->len <= SIGNER_FILE_MAX) {
		ssize_t got = read(fd, file->data + file->len, SIGNER_FILE_MAX + 1 - file->len);

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
	return explain(file->why, file->why_size, -EFBIG, "%s: larger than %u KiB", file->path,
		       SIGNER_FILE_MAX >> 10);
}

static int key_file_read(struct key_file *file)
{
	/* O_NONBLOCK: a FIFO without a writer must not hold up the start. */
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat status;
	int error;

	if (fd < 0) {
		error = errno;
		return explain(file->why, file->why_size, -error, "%s: cannot open: %s", file->path,
			       errno_text(error));
	}
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
		error = explain(file->why, file->why_size, -EINVAL, "%s: not a regular file",
				file->path);
		goto close_fd;
	}
	file->data = malloc(SIGNER_FILE_MAX + 1);
	error = file->data ? read_all(file, fd)
			   : explain(file->why, file->why_size, -ENOMEM, "%s: out of memory",
				     file->path);
close_fd:
	close(fd);
	return error;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t put = write(fd, data, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		data += put;
		len -= (size_t)put;
	}
	/* A key that is used and then lost in a crash locks its owner out. */
	return fsync(fd) == 0 ? 0 : -errno;
}

/* ---- PEM blocks ---- */

struct pem_block {
	char *name, *header;
	uint8_t *data;
	long len;
};

static void pem_block_finish(struct pem_block *block)
{
	OPENSSL_free(block->name);
	OPENSSL_free(block->header);
	OPENSSL_clear_free(block->data, block->len > 0 ? (size_t)block->len : 0);
	*block = (struct pem_block){.name = NULL};
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/*
 * The first block whose name ends so. PEM_read_bio takes the armour off and nothing more, so that
 * no password can ever be asked for.
 */
static bool pem_find(const struct key_file *file, const char *end, struct pem_block *block)
{
	BIO *bio = BIO_new_mem_buf(file->data, (int)file->len);
	bool found = false;

	*block = (struct pem_block){.name = NULL};
	if (!bio)
		return false;
	while (!found &&
	       PEM_read_bio(bio, &block->name, &block->header, &block->data, &block->len) == 1) {
		found = ends_with(block->name, end);
		if (!found)
			pem_block_finish(block);
	}
	BIO_free(bio);
	return found;
}

/* Returns NULL unless the DER bytes are one PKCS#8 structure and nothing behind it. */
static EVP_PKEY *pkcs8_parse(const struct pem_block *block)
{
	const uint8_t *at = block->data;
	PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, block->len);
	EVP_PKEY *key = NULL;

	if (info && at == block->data + block->len)
		key = EVP_PKCS82PKEY(info);
	PKCS8_PRIV_KEY_INFO_free(info);
	return key;
}

static int block_judge(const struct key_file *file, const struct pem_block *block)
{
	char *why = file->why;
	size_t size = file->why_size;

	if (strcmp(block->name, PEM_STRING_PKCS8) == 0 || strstr(block->header, "ENCRYPTED"))
		return explain(why, size, -EINVAL,
			       "%s: the private key is encrypted; it must be PKCS#8 without a "
			       "password",
			       file->path);
	if (strcmp(block->name, PEM_STRING_PKCS8INF) != 0 || block->header[0])
		return explain(why, size, -EINVAL,
			       "%s: the private key is not PKCS#8 "
			       "(expected -----BEGIN PRIVATE KEY-----)",
			       file->path);
	return 0;
}

static int seed_from_block(const struct key_file *file, const struct pem_block *block,
			   uint8_t seed[SEED_BYTES])
{
	int error = block_judge(file, block);

	if (error)
		return error;

	EVP_PKEY *key = pkcs8_parse(block);
	size_t len = SEED_BYTES;

	if (!key)
		error = explain(file->why, file->why_size, -EINVAL,
				"%s: the private key is not a valid PKCS#8 structure", file->path);
	else if (EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
		 EVP_PKEY_get_raw_private_key(key, seed, &len) != 1 || len != SEED_BYTES)
		error = explain(file->why, file->why_size, -EINVAL,
				"%s: the private key is not Ed25519", file->path);
	EVP_PKEY_free(key);
	return error;
}

static int seed_load(struct key_file *file, uint8_t seed[SEED_BYTES])
{
	struct pem_block block;
	int error = key_file_read(file);

	if (error)
		goto finish;
	if (!pem_find(file, "PRIVATE KEY", &block)) {
		error = explain(file->why, file->why_size, -EINVAL,
				"%s: no readable PEM private key "
				"(expected -----BEGIN PRIVATE KEY-----)",
				file->path);
		goto finish;
	}
	error = seed_from_block(file, &block, seed);
	pem_block_finish(&block);
finish:
	key_file_finish(file);
	/* A left error would be read by the next TLS call of this thread as its own. */
	ERR_clear_error();
	return error;
}

/* ---- signer ---- */

int signer_load(struct signer **signer, const char *pem_path, char *why, size_t why_size)
{
	struct key_file file = {.path = pem_path, .why = why, .why_size = why_size};
	uint8_t seed[SEED_BYTES];
	int error = seed_load(&file, seed);

	if (!error) {
		error = signer_from_seed(signer, seed);
		if (error)
			explain(why, why_size, error, "%s: no locked memory for the key: %s",
				pem_path, errno_text(-error));
	}
	sodium_memzero(seed, sizeof(seed));
	vault_clear_registers();
	return error;
}

int signer_from_seed(struct signer **signer, const uint8_t seed[32])
{
	struct signer *made = sodium_malloc(sizeof(*made));

	if (!made)
		return -ENOMEM;
	/* sodium_malloc has tried it and does not say how that went. */
	made->is_locked = sodium_mlock(made, sizeof(*made)) == 0;
	crypto_sign_seed_keypair(made->public_key, made->secret_key, seed);
	/* Nothing may write to it from now on; where that is not possible it is only less guarded.
	 */
	(void)sodium_mprotect_readonly(made);
	*signer = made;
	return 0;
}

int signer_generate(struct signer **signer)
{
	uint8_t seed[SEED_BYTES];

	randombytes_buf(seed, sizeof(seed));

	int error = signer_from_seed(signer, seed);

	sodium_memzero(seed, sizeof(seed));
	return error;
}

bool signer_is_locked(const struct signer *signer)
{
	return signer->is_locked;
}

void signer_destroy(struct signer *signer)
{
	sodium_free(signer);
}

/* The key as a PEM text in `bio`. */
static int private_pem(const struct signer *signer, BIO *bio)
{
	/* libsodium's secret key begins with the seed, which is what PKCS#8 holds. */
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, signer->secret_key,
						     SEED_BYTES);
	bool done = key && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;

	EVP_PKEY_free(key);
	return done ? 0 : -EIO;
}

static int save_file(const char *path, const uint8_t *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;

	int error = write_all(fd, data, len);

	if (close(fd) != 0 && !error)
		error = -errno;
	if (error)
		unlink(path);
	return error;
}

int signer_save(const struct signer *signer, const char *pem_path, char *why, size_t why_size)
{
	BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */
	char *text = NULL;
	int error = bio ? private_pem(signer, bio) : -ENOMEM;

	if (!error) {
		long len = BIO_get_mem_data(bio, &text);

		error = save_file(pem_path, (const uint8_t *)text, (size_t)len);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (error)
		explain(why, why_size, error, "%s: cannot save: %s", pem_path, errno_text(-error));
	return error;
}

void signer_sign(const struct signer *signer, struct span input,
		 uint8_t signature[ENVELOPE_SIGNATURE_BYTES])
{
	/* Cannot fail in libsodium: it has no failing step. */
	crypto_sign_detached(signature, NULL, input.data, input.len, signer->secret_key);
}

const uint8_t *signer_public_key(const struct signer *signer)
{
	return signer->public_key;
}

int signer_public_pem(const struct signer *signer, struct buf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, signer->public_key,
						    ENVELOPE_KEY_BYTES);
	int error = -EIO;

	if (bio && key && PEM_write_bio_PUBKEY(bio, key) == 1) {
		char *text = NULL;
		long len = BIO_get_mem_data(bio, &text);

		error = buf_append(out, span_make(text, (size_t)len));
	}
	EVP_PKEY_free(key);
	BIO_free(bio);
	ERR_clear_error();
	return error;
}

static int public_from_block(const struct pem_block *block, uint8_t key[ENVELOPE_KEY_BYTES])
{
	const uint8_t *at = block->data;
	EVP_PKEY *parsed = d2i_PUBKEY(NULL, &at, block->len);
	size_t len = ENVELOPE_KEY_BYTES;
	bool is_key = parsed && at == block->data + block->len &&
		      EVP_PKEY_get_id(parsed) == EVP_PKEY_ED25519 &&
		      EVP_PKEY_get_raw_public_key(parsed, key, &len) == 1 &&
		      len == ENVELOPE_KEY_BYTES;

	EVP_PKEY_free(parsed);
	return is_key ? 0 : -EINVAL;
}

int public_key_load(uint8_t key[ENVELOPE_KEY_BYTES], const char *pem_path, char *why,
		    size_t why_size)
{
	struct key_file file = {.path = pem_path, .why = why, .why_size = why_size};
	struct pem_block block;
	int error = key_file_read(&file);

	if (error)
		goto finish;
	if (!pem_find(&file, PEM_STRING_PUBLIC, &block)) {
		error = explain(
			why, why_size, -EINVAL,
			"%s: no readable PEM public key (expected -----BEGIN PUBLIC KEY-----)",
			pem_path);
		goto finish;
	}
	error = public_from_block(&block, key);
	if (error)
		explain(why, why_size, error, "%s: the public key is not Ed25519", pem_path);
	pem_block_finish(&block);
finish:
	key_file_finish(&file);
	ERR_clear_error();
	return error;
}

void signer_fingerprint(const struct signer *signer, char text[SIGNER_FINGERPRINT_MAX])
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	char hex[2 * crypto_hash_sha256_BYTES + 1];

	/* libsodium's, because this one cannot fail. */
	crypto_hash_sha256(hash, signer->public_key, ENVELOPE_KEY_BYTES);
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	snprintf(text, SIGNER_FINGERPRINT_MAX, "SHA256:%s", hex);
}

/* ---- base64 ---- */

#define KEY_BASE64_CHARS 44 /* of 32 bytes, padded */

bool key_from_base64(struct span text, uint8_t key[ENVELOPE_KEY_BYTES])
{
	size_t len = 0;

	/* Without an end pointer libsodium refuses anything behind; it refuses loose bits too. But to
	 * 1.0.18 a byte that is no ASCII is the alphabet's last letter. */
	return text.len == KEY_BASE64_CHARS && span_is_ascii(text) &&
	       sodium_base642bin(key, ENVELOPE_KEY_BYTES, (const char *)text.data, text.len, NULL,
				 &len, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       len == ENVELOPE_KEY_BYTES;
}
