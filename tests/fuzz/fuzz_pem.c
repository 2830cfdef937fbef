/* fuzz_pem: a key file of any bytes: a signer that signs, or a sentence. */
#include "auth/signer.h"
#include "fuzz/fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void check_signer(const struct signer *signer)
{
	uint8_t signature[ENVELOPE_SIGNATURE_BYTES];
	struct buf pem;

	signer_sign(signer, SPAN("input"), signature);
	CHECK(envelope_verify(SPAN("input"), span_make(signature, sizeof(signature)),
			      signer_public_key(signer)));
	buf_init(&pem, 4096);
	CHECK(signer_public_pem(signer, &pem) == 0 && pem.len > 0);
	buf_finish(&pem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64], why[512] = "";
	uint8_t key[ENVELOPE_KEY_BYTES];
	struct signer *signer = NULL;
	int fd = memfd_create("key", MFD_CLOEXEC);

	CHECK(auth_init() == 0 && fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

	int result = signer_load(&signer, path, why, sizeof(why));

	if (result == 0)
		check_signer(signer);
	else
		CHECK(!signer && why[0]);
	signer_destroy(signer);
	why[0] = '\0';
	CHECK(public_key_load(key, path, why, sizeof(why)) == 0 || why[0]);
	(void)key_from_base64(span_make(data, size), key);
	close(fd);
	return 0;
}
