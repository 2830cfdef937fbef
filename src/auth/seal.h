/*
 * seal: text that only holders of a key can make and read, for a cookie: XSalsa20-Poly1305
 * (libsodium secretbox) with a random nonce, in URL-safe base64. Immutable after loading: any
 * thread. The key is in locked memory, left out of core dumps, wiped at the end.
 */
#ifndef AUTH_SEAL_H
#define AUTH_SEAL_H

#include "base/buf.h"

#define SEAL_KEY_BYTES	 32
#define SEAL_PLAIN_MAX	 4096
#define SEAL_EXTRA_BYTES 40 /* nonce and tag */
/* Of sealed text: 4 for each 3 bytes, no padding. */
#define SEAL_TEXT_BYTES(plain) (((plain) + SEAL_EXTRA_BYTES) * 4 / 3 + 2)

struct seal;

/*
 * A file of exactly SEAL_KEY_BYTES random bytes.
 * Returns 0, or a negative errno with a sentence in `why`.
 */
int seal_load(struct seal **seal, const char *path, char *why, size_t why_size);
/* For tests. Returns 0 or -ENOMEM. */
int seal_from_key(struct seal **seal, const uint8_t key[SEAL_KEY_BYTES]);
void seal_destroy(struct seal *seal); /* NULL is allowed */

/* Appends the sealed text, whole or not at all. Returns buf's code, or -EMSGSIZE. */
int seal_close(const struct seal *seal, struct span plain, struct buf *out);

/* Appends what was sealed. Returns 0, -EBADMSG (not made with this key, or changed), buf's code. */
int seal_open(const struct seal *seal, struct span text, struct buf *out);

/* `bytes` random bytes in URL-safe base64 without padding, NUL-terminated. */
#define RANDOM_TEXT_BYTES(bytes) (((bytes)*4 + 2) / 3 + 1)
void random_text(char *text, size_t text_size, size_t bytes);

/* RFC 7636 §4.2: S256. */
#define PKCE_CHALLENGE_BYTES 44 /* its NUL included */
void pkce_challenge(struct span verifier, char challenge[PKCE_CHALLENGE_BYTES]);

#endif
