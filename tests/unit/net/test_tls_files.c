/* What tls_context_… takes and refuses of the files that it is given. */
#include "unit/net/harness.h"
#include "unit/net/tls_certificates.h"

#include "net/tls.h"

#include <openssl/err.h>
#include <sys/stat.h>

static struct tls_context *context;
static char why[512];

static int set_up(void **state)
{
	(void)state;
	why[0] = '\0';
	return tls_context_create(&context);
}

static int tear_down(void **state)
{
	(void)state;
	tls_context_destroy(context);
	assert_int_equal(ERR_peek_error(), 0);
	return 0;
}

static int files_make(void **state)
{
	int error = certificates_make(state);

	certificate_shell(": >empty.pem; mkdir folder.pem; mkfifo fifo.pem; "
			  "echo nothing of the kind >text.pem; "
			  "cat ca.pem other.pem >two.pem; cat client.pem ca.pem >chain.pem; "
			  "(cat ca.pem; head -3 other.pem) >cut.pem; "
			  "(cat client.pem; head -3 ca.pem) >cut-chain.pem; "
			  "(cat ca.pem; sed s/M/!/ other.pem) >damaged.pem; "
			  "truncate -s 4194305 large.pem; truncate -s 4194304 full.pem; "
			  "openssl pkey -in client.key -aes256 -passout pass:word -out locked.key; "
			  "(cat client.key; echo) >client2.key; cat client.pem client.key >both.pem; "
			  "openssl genpkey -algorithm ed25519 -out ed.key");
	return error;
}

typedef int take_fn(struct tls_context *into, const char *path, char *text, size_t text_size);

/* `expected` is what follows the path; NULL: the file is taken. */
static void check(take_fn *take, const char *name, const char *expected)
{
	char sentence[256] = "";
	const char *path = certificate_path(name);

	why[0] = '\0';

	int code = take(context, path, why, sizeof(why));

	if (expected)
		snprintf(sentence, sizeof(sentence), "%s: %s", path, expected);
	assert_string_equal(why, sentence);
	assert_int_equal(code != 0, expected != NULL);
	assert_true(code <= 0);
	assert_int_equal(ERR_peek_error(), 0);
}

struct row {
	const char *name, *expected;
};

static const struct row common[] = {
	{"nowhere.pem", "cannot open: No such file or directory"},
	{"folder.pem", "not a regular file"},
	{"fifo.pem", "not a regular file"},
	{"empty.pem", "no readable PEM certificate"},
	{"text.pem", "no readable PEM certificate"},
	{"full.pem", "no readable PEM certificate"},
	{"client.key", "no readable PEM certificate"},
	{"large.pem", "changes, or is larger than 4 MiB"},
};

static void tls_context_trusts_what_a_file_holds(void **state)
{
	static const struct row rows[] = {
		{"ca.pem", NULL},
		{"two.pem", NULL},
		{"cut.pem", "a certificate in it cannot be read"},
		{"damaged.pem", "a certificate in it cannot be read"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(common); i++)
		check(tls_context_trust, common[i].name, common[i].expected);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check(tls_context_trust, rows[i].name, rows[i].expected);
}

static void tls_context_trusts_the_system_without_a_file(void **state)
{
	(void)state;
	assert_int_equal(tls_context_trust(context, "", why, sizeof(why)), 0);
	assert_int_equal(tls_context_trust(context, NULL, why, sizeof(why)), 0);
	assert_int_equal(setenv("SSL_CERT_FILE", certificate_path("ca.pem"), 1), 0);
	assert_int_equal(tls_context_trust(context, "", why, sizeof(why)), 0);
	assert_int_equal(unsetenv("SSL_CERT_FILE"), 0);
}

static void tls_context_takes_a_certificate_and_its_chain(void **state)
{
	static const struct row rows[] = {
		{"client.pem", NULL},
		{"chain.pem", NULL},
		{"both.pem", NULL},
		{"cut-chain.pem", "a certificate in it cannot be read"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(common) + ARRAY_LEN(rows); i++) {
		const struct row *row =
			i < ARRAY_LEN(common) ? &common[i] : &rows[i - ARRAY_LEN(common)];

		check(tls_context_use_certificate, row->name, row->expected);
		tls_context_destroy(context);
		assert_int_equal(tls_context_create(&context), 0);
	}
}

static void tls_context_takes_the_key_of_the_certificate_alone(void **state)
{
	static const struct row rows[] = {
		{"nowhere.key", "cannot open: No such file or directory"},
		{"folder.pem", "not a regular file"},
		{"fifo.pem", "not a regular file"},
		{"empty.pem", "no readable PEM private key"},
		{"client.pem", "no readable PEM private key"},
		{"ca.key", "not the private key of the certificate"},
		{"ed.key", "not the private key of the certificate"},
		{"locked.key", "the private key is encrypted; it must be without a password"},
		{"client.key", NULL},
		{"client2.key", NULL},
		{"both.pem", NULL},
	};

	(void)state;
	check(tls_context_use_certificate, "client.pem", NULL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check(tls_context_use_key, rows[i].name, rows[i].expected);
}

static void tls_context_says_that_a_file_may_not_be_read(void **state)
{
	(void)state;
	if (geteuid() == 0) {
		printf("skip: root may read every file\n");
		skip();
	}
	assert_int_equal(chmod(certificate_path("two.pem"), 0), 0);
	check(tls_context_trust, "two.pem", "cannot open: Permission denied");
	assert_int_equal(chmod(certificate_path("two.pem"), 0600), 0);
}

static void tls_context_leaves_no_descriptor_open(void **state)
{
	int before = descriptor_count();

	tls_context_trusts_what_a_file_holds(state);
	tls_context_takes_the_key_of_the_certificate_alone(state);
	assert_int_equal(descriptor_count(), before);
}

#define FILES_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILES_TEST(tls_context_trusts_what_a_file_holds),
		FILES_TEST(tls_context_trusts_the_system_without_a_file),
		FILES_TEST(tls_context_takes_a_certificate_and_its_chain),
		FILES_TEST(tls_context_takes_the_key_of_the_certificate_alone),
		FILES_TEST(tls_context_says_that_a_file_may_not_be_read),
		FILES_TEST(tls_context_leaves_no_descriptor_open),
	};

	return cmocka_run_group_tests_name("net/tls files", tests, files_make, certificates_remove);
}
