#include "auth/seal.h"

#include "base/check.h"
#include "base/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sodium.h>

struct seal {
	uint8_t key[SEAL_KEY_BYTES];
};

_Static_assert(SEAL_KEY_BYTES == crypto_secretbox_KEYBYTES, "the key's size is secretbox's");
_Static_assert(SEAL_EXTRA_BYTES == crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES,
	       "nonce and tag go along");

int seal_from_key(struct seal **seal, const uint8_t key[SEAL_KEY_BYTES])
{
	struct seal *made = sodium_malloc(sizeof(*made));

	*seal = made;
	if (!made)
		return -ENOMEM;
	memcpy(made->key, key, sizeof(made->key));
	(void)sodium_mprotect_readonly(made);
	return 0;
}

/* Returns the bytes read, at most `size`, or a negative errno. */
static ssize_t read_all(int fd, uint8_t *bytes, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, bytes + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

int seal_load(struct seal **seal, const char *path, char *why, size_t why_size)
{
	uint8_t bytes[SEAL_KEY_BYTES + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t len = fd < 0 ? -errno : read_all(fd, bytes, sizeof(bytes));
	int error = len < 0 ? (int)len : 0;

	*seal = NULL;
	if (fd >= 0)
		close(fd);
	if (error)
		snprintf(why, why_size, "cannot be read: %s", errno_text(-error));
	else if (len != SEAL_KEY_BYTES)
		snprintf(why, why_size, "must be %d random bytes (head -c %d /dev/urandom)",
			 SEAL_KEY_BYTES, SEAL_KEY_BYTES);
	if (!error && len != SEAL_KEY_BYTES)
		error = -EINVAL;
	if (!error) {
		error = seal_from_key(seal, bytes);
		if (error)
			snprintf(why, why_size, "no memory for it");
	}
	sodium_memzero(bytes, sizeof(bytes));
	return error;
}

void seal_destroy(struct seal *seal)
{
	sodium_free(seal);
}

int seal_close(const struct seal *seal, struct span plain, struct buf *out)
{
	uint8_t sealed[SEAL_EXTRA_BYTES + SEAL_PLAIN_MAX];
	char text[SEAL_TEXT_BYTES(SEAL_PLAIN_MAX)];

	if (plain.len > SEAL_PLAIN_MAX)
		return -EMSGSIZE;
	randombytes_buf(sealed, crypto_secretbox_NONCEBYTES);
	(void)crypto_secretbox_easy(sealed + crypto_secretbox_NONCEBYTES,
				    plain.data ? plain.data : (const uint8_t *)"", plain.len,
				    sealed, seal->key);
	sodium_bin2base64(text, sizeof(text), sealed, SEAL_EXTRA_BYTES + plain.len,
			  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return buf_append(out, span_from_cstr(text));
}

int seal_open(const struct seal *seal, struct span text, struct buf *out)
{
	uint8_t sealed[SEAL_EXTRA_BYTES + SEAL_PLAIN_MAX], plain[SEAL_PLAIN_MAX];
	size_t len;

	/* to libsodium 1.0.18 a byte that is no ASCII is the alphabet's last letter */
	if (!span_is_ascii(text) ||
	    sodium_base642bin(sealed, sizeof(sealed), (const char *)text.data, text.len, NULL, &len,
			      NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
	    len < SEAL_EXTRA_BYTES ||
	    crypto_secretbox_open_easy(plain, sealed + crypto_secretbox_NONCEBYTES,
				       len - crypto_secretbox_NONCEBYTES, sealed, seal->key) != 0)
		return -EBADMSG;

	int code = buf_append(out, span_make(plain, len - SEAL_EXTRA_BYTES));

	sodium_memzero(plain, sizeof(plain));
	return code;
}

void random_text(char *text, size_t text_size, size_t bytes)
{
	uint8_t random[64];

	CHECK(bytes <= sizeof(random));
	randombytes_buf(random, bytes);
	sodium_bin2base64(text, text_size, random, bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	sodium_memzero(random, sizeof(random));
}

void pkce_challenge(struct span verifier, char challenge[PKCE_CHALLENGE_BYTES])
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(hash, verifier.data, verifier.len);
	sodium_bin2base64(challenge, PKCE_CHALLENGE_BYTES, hash, sizeof(hash),
			  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}
