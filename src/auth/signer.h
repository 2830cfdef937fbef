/*
 * signer: an Ed25519 private key. Immutable after loading: any thread may sign.
 * PEM by OpenSSL (PKCS#8 only; an encrypted key is refused, never asked for), signatures by
 * libsodium. The key lives in sodium_malloc memory: locked, guarded, left out of core dumps, wiped
 * by signer_destroy.
 */
#ifndef AUTH_SIGNER_H
#define AUTH_SIGNER_H

#include "auth/envelope.h"

#define SIGNER_FILE_MAX (64u << 10) /* a key is 119 bytes; comments and chains are still far below */

struct signer;

/* Before any other call into auth or OpenSSL. Returns secrets_init's codes or -EIO. */
int auth_init(void);

/*
 * The first private key of the file; what is not a private key is passed over.
 * Returns 0, or a negative errno with a sentence in `why`: unreadable, not a regular file, over
 * SIGNER_FILE_MAX, not PEM, encrypted, not PKCS#8, not Ed25519.
 */
int signer_load(struct signer **signer, const char *pem_path, char *why, size_t why_size);

/* For clients and tests. Return 0 or -ENOMEM. */
int signer_from_seed(struct signer **signer, const uint8_t seed[32]);
int signer_generate(struct signer **signer);

/*
 * Writes a new PKCS#8 PEM file, mode 0600, never over an existing one (-EEXIST).
 * Returns 0 or a negative errno with `why`; then no file is left behind.
 */
int signer_save(const struct signer *signer, const char *pem_path, char *why, size_t why_size);

/* NULL is allowed. */
void signer_destroy(struct signer *signer);

/* Whether it is kept out of swap; false where RLIMIT_MEMLOCK refused that. */
bool signer_is_locked(const struct signer *signer);

void signer_sign(const struct signer *signer, struct span input,
		 uint8_t signature[ENVELOPE_SIGNATURE_BYTES]);

/* Lifetime: the signer's. */
const uint8_t *signer_public_key(const struct signer *signer);

/* SubjectPublicKeyInfo PEM, appended. Returns buf's code or -EIO. */
int signer_public_pem(const struct signer *signer, struct buf *out);

/* Reads such a PEM (for clients). Returns 0 or a negative errno with `why`. */
int public_key_load(uint8_t key[ENVELOPE_KEY_BYTES], const char *pem_path, char *why,
		    size_t why_size);

/* "SHA256:<hex>" of the 32 raw key bytes; room for SIGNER_FINGERPRINT_MAX. */
#define SIGNER_FINGERPRINT_MAX 80
void signer_fingerprint(const struct signer *signer, char text[SIGNER_FINGERPRINT_MAX]);

/* Standard base64 of exactly 32 bytes (padded, canonical). Returns false otherwise. */
bool key_from_base64(struct span text, uint8_t key[ENVELOPE_KEY_BYTES]);

#endif
