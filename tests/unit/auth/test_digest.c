#include "auth/digest.h"
#include "vectors.h"

#include "hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void digest_reproduces_the_vectors(void **state)
{
	struct digest *digest = digest_create();
	uint8_t hash[SHA256_BYTES];

	(void)state;
	assert_non_null(digest);
	for (size_t i = 0; i < sizeof(good_vectors) / sizeof(good_vectors[0]); i++) {
		struct bytes payload = bytes_from_hex(good_vectors[i].payload);
		struct bytes want = bytes_from_hex(good_vectors[i].payload_hash);

		assert_int_equal(digest_sha256(digest, bytes_span(&payload), hash), 0);
		assert_memory_equal(hash, want.data, SHA256_BYTES);
	}
	digest_destroy(digest);
}

/* Every length around the block size; libsodium's own SHA-256 is the witness. */
static void digest_agrees_with_another_library_at_every_length(void **state)
{
	struct digest *digest = digest_create();
	uint8_t text[300], hash[SHA256_BYTES], want[SHA256_BYTES];

	(void)state;
	randombytes_buf(text, sizeof(text));
	for (size_t len = 0; len <= sizeof(text); len++) {
		assert_int_equal(digest_sha256(digest, span_make(text, len), hash), 0);
		crypto_hash_sha256(want, text, len);
		assert_memory_equal(hash, want, SHA256_BYTES);
	}
	digest_destroy(digest);
}

static void digest_of_the_empty_span_needs_no_data(void **state)
{
	struct digest *digest = digest_create();
	uint8_t hash[SHA256_BYTES], want[SHA256_BYTES];

	(void)state;
	assert_int_equal(digest_sha256(digest, SPAN_EMPTY, hash), 0);
	crypto_hash_sha256(want, (const uint8_t *)"", 0);
	assert_memory_equal(hash, want, SHA256_BYTES);
	digest_destroy(digest);
	digest_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_reproduces_the_vectors),
		cmocka_unit_test(digest_agrees_with_another_library_at_every_length),
		cmocka_unit_test(digest_of_the_empty_span_needs_no_data),
	};

	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
