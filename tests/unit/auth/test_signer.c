#include "auth/signer.h"
#include "base/check.h"
#include "vectors.h"

#include "hex.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define WHY_MAX 256

static char folder[] = "/tmp/test_signer.XXXXXX";
static char path[64], why[WHY_MAX];

static void write_file(const char *text, size_t len)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

/* How a key may stand in a file. */
enum form {
	FORM_PKCS8,
	FORM_PKCS8_ENCRYPTED,
	FORM_TRADITIONAL,
	FORM_TRADITIONAL_ENCRYPTED,
	FORM_PUBLIC,
};

static void write_key(EVP_PKEY *key, enum form form)
{
	BIO *bio = BIO_new_file(path, "w");
	char word[] = "word";
	int done = 0;

	assert_non_null(key);
	assert_non_null(bio);
	switch (form) {
	case FORM_PKCS8:
		done = PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
		break;
	case FORM_PKCS8_ENCRYPTED:
		done = PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_128_cbc(), word, 4, NULL,
						     NULL);
		break;
	case FORM_TRADITIONAL:
		done = PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL);
		break;
	case FORM_TRADITIONAL_ENCRYPTED:
		done = PEM_write_bio_PrivateKey_traditional(bio, key, EVP_aes_128_cbc(),
							    (unsigned char *)word, 4, NULL, NULL);
		break;
	case FORM_PUBLIC:
		done = PEM_write_bio_PUBKEY(bio, key);
		break;
	}
	assert_int_equal(done, 1);
	BIO_free(bio);
	EVP_PKEY_free(key);
}

static EVP_PKEY *ed25519_key(const uint8_t seed[32])
{
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
}

static EVP_PKEY *ec_key(void)
{
	return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
}

static void assert_refused(int error, const char *sentence)
{
	struct signer *signer = NULL;

	assert_int_equal(signer_load(&signer, path, why, sizeof(why)), error);
	assert_null(signer);
	assert_true(strncmp(why, path, strlen(path)) == 0);
	if (!strstr(why, sentence))
		fail_msg("'%s' does not say '%s'", why, sentence);
}

static void signer_loads_pkcs8(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good_vectors); i++) {
		struct bytes seed = bytes_from_hex(good_vectors[i].seed);
		struct bytes key = bytes_from_hex(good_vectors[i].public_key);
		struct bytes input = bytes_from_hex(good_vectors[i].event_input);
		struct bytes want = bytes_from_hex(good_vectors[i].event_signature);
		uint8_t signature[64];
		struct signer *signer;

		write_key(ed25519_key(seed.data), FORM_PKCS8);
		assert_int_equal(signer_load(&signer, path, why, sizeof(why)), 0);
		assert_memory_equal(signer_public_key(signer), key.data, 32);
		signer_sign(signer, bytes_span(&input), signature);
		assert_memory_equal(signature, want.data, 64);
		signer_destroy(signer);
	}
}

/* The key of RFC 8410 §10.3. */
static void signer_loads_a_key_amid_other_text(void **state)
{
	static const char text[] = "a comment\n"
				   "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
				   "-----BEGIN PRIVATE KEY-----\n"
				   "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
				   "-----END PRIVATE KEY-----\nmore\n";
	static const char public_hex[] =
		"19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
	struct bytes key = bytes_from_hex(public_hex);
	struct signer *signer;

	(void)state;
	write_file(text, sizeof(text) - 1);
	assert_int_equal(signer_load(&signer, path, why, sizeof(why)), 0);
	assert_memory_equal(signer_public_key(signer), key.data, 32);
	signer_destroy(signer);
}

static void signer_refuses_an_encrypted_key_without_asking(void **state)
{
	static const uint8_t seed[32] = { 1 };

	(void)state;
	write_key(ed25519_key(seed), FORM_PKCS8_ENCRYPTED);
	assert_refused(-EINVAL, "is encrypted");
	write_key(ec_key(), FORM_TRADITIONAL_ENCRYPTED);
	assert_refused(-EINVAL, "is encrypted");
}

static void signer_refuses_other_forms_and_kinds(void **state)
{
	static const uint8_t seed[32] = { 1 };

	(void)state;
	write_key(ec_key(), FORM_TRADITIONAL);
	assert_refused(-EINVAL, "is not PKCS#8");
	write_key(ec_key(), FORM_PKCS8);
	assert_refused(-EINVAL, "is not Ed25519");
	write_key(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024), FORM_PKCS8);
	assert_refused(-EINVAL, "is not Ed25519");
	write_key(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), FORM_PKCS8);
	assert_refused(-EINVAL, "is not Ed25519");
	write_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), FORM_PKCS8);
	assert_refused(-EINVAL, "is not Ed25519");
	write_key(ed25519_key(seed), FORM_PUBLIC);
	assert_refused(-EINVAL, "no readable PEM private key");
}

static void signer_refuses_what_is_no_key(void **state)
{
	static const struct {
		const char *text, *sentence;
	} rows[] = {
		{ "", "no readable PEM" },
		{ "hello\n", "no readable PEM" },
		{ "-----BEGIN PRIVATE KEY-----\n", "no readable PEM" },
		{ "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", "no readable PEM" },
		{ "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		  "not a valid PKCS#8" },
		/* a seed of 31 bytes */
		{ "-----BEGIN PRIVATE KEY-----\n"
		  "MC0CAQAwBQYDK2VwBCEEH9Tuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVg=\n"
		  "-----END PRIVATE KEY-----\n",
		  "not a valid PKCS#8" },
		/* a byte behind the structure */
		{ "-----BEGIN PRIVATE KEY-----\n"
		  "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhCAA==\n"
		  "-----END PRIVATE KEY-----\n",
		  "not a valid PKCS#8" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		write_file(rows[i].text, strlen(rows[i].text));
		assert_refused(-EINVAL, rows[i].sentence);
	}
}

/* No prefix of a good file is a key, and none makes trouble. */
static void signer_refuses_every_truncation(void **state)
{
	static const uint8_t seed[32] = { 9 };
	char text[256];
	FILE *file;

	(void)state;
	write_key(ed25519_key(seed), FORM_PKCS8);
	file = fopen(path, "r");

	size_t len = fread(text, 1, sizeof(text), file);

	fclose(file);
	assert_int_equal(len, 119);
	/* The last byte is the newline, which may be missing. */
	for (size_t cut = 0; cut < len - 1; cut++) {
		struct signer *signer = NULL;

		write_file(text, cut);
		assert_int_equal(signer_load(&signer, path, why, sizeof(why)), -EINVAL);
		assert_null(signer);
	}
}

static void signer_says_why_a_file_cannot_be_read(void **state)
{
	static char big[SIGNER_FILE_MAX + 1];

	(void)state;
	unlink(path);
	assert_refused(-ENOENT, "cannot open: No such file");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_refused(-EINVAL, "not a regular file");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(-EINVAL, "not a regular file");
	unlink(path);
	memset(big, '\n', sizeof(big));
	write_file(big, sizeof(big));
	assert_refused(-EFBIG, "larger than 64 KiB");
	write_file(big, sizeof(big) - 1);
	assert_refused(-EINVAL, "no readable PEM");
}

static void signer_keeps_to_the_room_for_why(void **state)
{
	struct signer *signer = NULL;
	char small[8];

	(void)state;
	unlink(path);
	memset(small, 'x', sizeof(small));
	assert_int_equal(signer_load(&signer, path, small, 4), -ENOENT);
	assert_memory_equal(small, "/tm\0xxxx", 8);
	assert_int_equal(signer_load(&signer, path, NULL, 0), -ENOENT);
}

static void signer_saves_what_it_loads_again(void **state)
{
	struct signer *made, *loaded;
	struct stat status;
	uint8_t one[64], two[64];

	(void)state;
	unlink(path);
	assert_int_equal(signer_generate(&made), 0);
	assert_int_equal(signer_save(made, path, why, sizeof(why)), 0);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(signer_load(&loaded, path, why, sizeof(why)), 0);
	signer_sign(made, SPAN("text"), one);
	signer_sign(loaded, SPAN("text"), two);
	assert_memory_equal(one, two, 64);
	signer_destroy(made);
	signer_destroy(loaded);
	signer_destroy(NULL);
}

static void signer_never_saves_over_a_file(void **state)
{
	struct signer *signer;
	char text[8] = "";
	FILE *file;

	(void)state;
	write_file("keep", 4);
	assert_int_equal(signer_generate(&signer), 0);
	assert_int_equal(signer_save(signer, path, why, sizeof(why)), -EEXIST);
	assert_non_null(strstr(why, "File exists"));
	file = fopen(path, "r");
	assert_int_equal(fread(text, 1, sizeof(text), file), 4);
	fclose(file);
	assert_string_equal(text, "keep");
	signer_destroy(signer);
}

static void signer_generates_a_new_key_each_time(void **state)
{
	struct signer *one, *two;

	(void)state;
	assert_int_equal(signer_generate(&one), 0);
	assert_int_equal(signer_generate(&two), 0);
	assert_memory_not_equal(signer_public_key(one), signer_public_key(two), 32);
	signer_destroy(one);
	signer_destroy(two);
}

static void public_key_is_loaded_from_what_signer_prints(void **state)
{
	struct signer *signer;
	struct buf pem;
	uint8_t key[32];

	(void)state;
	buf_init(&pem, 1024);
	assert_int_equal(signer_generate(&signer), 0);
	assert_int_equal(signer_public_pem(signer, &pem), 0);
	assert_true(span_starts_with(buf_span(&pem), SPAN("-----BEGIN PUBLIC KEY-----\n")));
	write_file((char *)pem.data, pem.len);
	assert_int_equal(public_key_load(key, path, why, sizeof(why)), 0);
	assert_memory_equal(key, signer_public_key(signer), 32);
	buf_finish(&pem);
	buf_init(&pem, 10);
	assert_int_equal(signer_public_pem(signer, &pem), -EMSGSIZE);
	buf_finish(&pem);
	signer_destroy(signer);
}

static void public_key_load_refuses_the_rest(void **state)
{
	static const uint8_t seed[32] = { 1 };
	uint8_t key[32];

	(void)state;
	write_key(ec_key(), FORM_PUBLIC);
	assert_int_equal(public_key_load(key, path, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "not Ed25519"));
	write_key(ed25519_key(seed), FORM_PKCS8);
	assert_int_equal(public_key_load(key, path, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "no readable PEM public key"));
	unlink(path);
	assert_int_equal(public_key_load(key, path, why, sizeof(why)), -ENOENT);
}

static void signer_fingerprint_is_the_hash_of_the_raw_key(void **state)
{
	struct bytes seed = bytes_from_hex(good_vectors[0].seed);
	struct bytes key = bytes_from_hex(good_vectors[0].public_key);
	char text[SIGNER_FINGERPRINT_MAX], hex[65];
	struct signer *signer;
	uint8_t hash[32];

	(void)state;
	assert_int_equal(signer_from_seed(&signer, seed.data), 0);
	signer_fingerprint(signer, text);
	assert_int_equal(EVP_Digest(key.data, 32, hash, NULL, EVP_sha256(), NULL), 1);
	sodium_bin2hex(hex, sizeof(hex), hash, 32);
	assert_int_equal(strncmp(text, "SHA256:", 7), 0);
	assert_string_equal(text + 7, hex);
	signer_destroy(signer);
}

static void key_from_base64_is_strict(void **state)
{
	static const struct {
		struct span text;
		bool valid;
	} rows[] = {
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), true },
		{ SPAN("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), true },
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"), false },   /* no padding */
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbh="), false },  /* loose bits */
		{ SPAN("A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), false },  /* URL letters */
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n"), false },
		{ SPAN(" A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), false },
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCb Q1fHdyGZBJVMbg="), false },
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCb\0Q1fHdyGZBJVMbg="), false },
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMQ=="), false },  /* 31 bytes */
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbgA"), false },  /* 33 bytes */
		{ SPAN("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMb=="), false },
		/* to libsodium 1.0.18 such bytes are slashes */
		{ SPAN("A6EHv\xff" "POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), false },
		{ SPAN("A6EHv\xc3\xa9" "OEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), false },
		{ SPAN("============================================"), false },
		{ SPAN(""), false },
	};
	uint8_t key[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(key_from_base64(rows[i].text, key), rows[i].valid);
	assert_false(key_from_base64(SPAN_EMPTY, key));
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/key.pem", folder);
	return auth_init();
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signer_loads_pkcs8),
		cmocka_unit_test(signer_loads_a_key_amid_other_text),
		cmocka_unit_test(signer_refuses_an_encrypted_key_without_asking),
		cmocka_unit_test(signer_refuses_other_forms_and_kinds),
		cmocka_unit_test(signer_refuses_what_is_no_key),
		cmocka_unit_test(signer_refuses_every_truncation),
		cmocka_unit_test(signer_says_why_a_file_cannot_be_read),
		cmocka_unit_test(signer_keeps_to_the_room_for_why),
		cmocka_unit_test(signer_saves_what_it_loads_again),
		cmocka_unit_test(signer_never_saves_over_a_file),
		cmocka_unit_test(signer_generates_a_new_key_each_time),
		cmocka_unit_test(public_key_is_loaded_from_what_signer_prints),
		cmocka_unit_test(public_key_load_refuses_the_rest),
		cmocka_unit_test(signer_fingerprint_is_the_hash_of_the_raw_key),
		cmocka_unit_test(key_from_base64_is_strict),
	};

	return cmocka_run_group_tests_name("signer", tests, set_up, tear_down);
}
