/*
 * digest: SHA-256 by OpenSSL EVP, the algorithm fetched once, a context kept per owner.
 * One thread at a time per context.
 */
#ifndef AUTH_DIGEST_H
#define AUTH_DIGEST_H

#include "base/span.h"

#define SHA256_BYTES 32

struct digest;

/* Returns NULL without memory, or if OpenSSL refuses. */
struct digest *digest_create(void);
void digest_destroy(struct digest *digest);

/* Returns 0 or -EIO (OpenSSL refused). */
int digest_sha256(struct digest *digest, struct span bytes, uint8_t hash[SHA256_BYTES]);

#endif
