/*
 * secrets: how this process's cryptography handles memory. Thread: main, before any other call into
 * OpenSSL.
 *
 * OpenSSL's memory is wiped when it is freed, and what OpenSSL itself takes for secret (private keys'
 * numbers) lives in its secure heap: locked, guarded, left out of core dumps. An RSA key's primes are
 * beyond that once it has signed: OpenSSL keeps a form of them in ordinary memory. Prefer ECDSA or
 * Ed25519 for client certificates.
 */
#ifndef AUTH_SECRETS_H
#define AUTH_SECRETS_H

#include <stdbool.h>

/*
 * Once per process; again it does nothing. Returns 0, -EBUSY (OpenSSL has memory already) or -ENOMEM
 * (no secure heap): keys then are in ordinary memory.
 */
int secrets_init(void);

/* Whether the secure heap is there and out of swap; false where RLIMIT_MEMLOCK refused it. */
bool secrets_are_locked(void);

#endif
