#include "auth/digest.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
	EVP_MD *algorithm;
	EVP_MD_CTX *context;
};

struct digest *digest_create(void)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (!digest)
		return NULL;
	digest->algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	digest->context = EVP_MD_CTX_new();
	if (!digest->algorithm || !digest->context) {
		ERR_clear_error();
		digest_destroy(digest);
		return NULL;
	}
	return digest;
}

void digest_destroy(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->context);
	EVP_MD_free(digest->algorithm);
	free(digest);
}

int digest_sha256(struct digest *digest, struct span bytes, uint8_t hash[SHA256_BYTES])
{
	unsigned len = 0;

	if (EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL) == 1 &&
	    EVP_DigestUpdate(digest->context, bytes.data, bytes.len) == 1 &&
	    EVP_DigestFinal_ex(digest->context, hash, &len) == 1 && len == SHA256_BYTES)
		return 0;
	/* A left error would be read by the next TLS call of this thread as its own. */
	ERR_clear_error();
	return -EIO;
}
