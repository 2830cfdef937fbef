/* seal: what was sealed comes back, nothing else does. */
#include "auth/seal.h"
#include "auth/signer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t key_a[SEAL_KEY_BYTES] = "0123456789abcdef0123456789abcdef",
		     key_b[SEAL_KEY_BYTES] = "0123456789abcdef0123456789abcdeX";

static struct seal *seal_of(const uint8_t key[SEAL_KEY_BYTES])
{
	struct seal *seal;

	assert_int_equal(auth_init(), 0);
	assert_int_equal(seal_from_key(&seal, key), 0);
	return seal;
}

static void what_was_sealed_comes_back(void **state)
{
	(void)state;
	static uint8_t plain[SEAL_PLAIN_MAX + 1];
	struct seal *seal = seal_of(key_a);
	struct buf text, back;

	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 7);
	for (size_t len = 0; len <= SEAL_PLAIN_MAX; len += len < 70 ? 1 : 1003) {
		buf_init(&text, 1 << 14);
		buf_init(&back, 1 << 14);
		assert_int_equal(seal_close(seal, span_make(plain, len), &text), 0);
		assert_true(text.len < SEAL_TEXT_BYTES(len));
		assert_int_equal(seal_open(seal, buf_span(&text), &back), 0);
		assert_true(span_equal(buf_span(&back), span_make(plain, len)));
		buf_finish(&text);
		buf_finish(&back);
	}
	buf_init(&text, 1 << 14);
	assert_int_equal(seal_close(seal, span_make(plain, sizeof(plain)), &text), -EMSGSIZE);
	assert_int_equal(text.len, 0);
	buf_finish(&text);
	seal_destroy(seal);
}

static void anything_changed_or_cut_is_refused(void **state)
{
	(void)state;
	struct seal *seal = seal_of(key_a), *other = seal_of(key_b);
	struct buf text, back;

	buf_init(&text, 1 << 14);
	buf_init(&back, 1 << 14);
	/* one with a '_', which three of four have */
	do {
		buf_clear(&text, 1 << 14);
		assert_int_equal(seal_close(seal, SPAN("the plain text"), &text), 0);
	} while (!memchr(text.data, '_', text.len));
	for (size_t len = 0; len < text.len; len++)
		assert_int_equal(seal_open(seal, span_first(buf_span(&text), len), &back),
				 -EBADMSG);
	for (size_t i = 0; i < text.len; i++) {
		uint8_t was = text.data[i];

		text.data[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(seal_open(seal, buf_span(&text), &back), -EBADMSG);
		text.data[i] = '=';
		assert_int_equal(seal_open(seal, buf_span(&text), &back), -EBADMSG);
		/* to libsodium 1.0.18 these are '_' */
		for (unsigned byte = 0x80; was == '_' && byte <= 0xff; byte++) {
			text.data[i] = (uint8_t)byte;
			assert_int_equal(seal_open(seal, buf_span(&text), &back), -EBADMSG);
		}
		text.data[i] = was;
	}
	assert_int_equal(seal_open(other, buf_span(&text), &back), -EBADMSG);
	assert_int_equal(back.len, 0);
	assert_int_equal(seal_open(seal, buf_span(&text), &back), 0);
	buf_finish(&text);
	buf_finish(&back);
	seal_destroy(seal);
	seal_destroy(other);
}

static void no_two_seals_are_the_same(void **state)
{
	(void)state;
	struct seal *seal = seal_of(key_a);
	struct buf one, two;

	buf_init(&one, 1 << 14);
	buf_init(&two, 1 << 14);
	assert_int_equal(seal_close(seal, SPAN("x"), &one), 0);
	assert_int_equal(seal_close(seal, SPAN("x"), &two), 0);
	assert_false(span_equal(buf_span(&one), buf_span(&two)));
	buf_finish(&one);
	buf_finish(&two);
	seal_destroy(seal);
}

static void key_file_has_just_its_bytes(void **state)
{
	(void)state;
	char path[] = "/tmp/test-seal-XXXXXX", why[256];
	struct seal *seal;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	for (size_t len = 0; len <= SEAL_KEY_BYTES + 1; len++) {
		assert_int_equal(pwrite(fd, "0123456789abcdef0123456789abcdef!", len, 0), len);
		why[0] = '\0';
		int code = seal_load(&seal, path, why, sizeof(why));

		assert_int_equal(code, len == SEAL_KEY_BYTES ? 0 : -EINVAL);
		if (code)
			assert_string_equal(why,
					    "must be 32 random bytes (head -c 32 /dev/urandom)");
		seal_destroy(seal);
	}
	close(fd);
	unlink(path);
	assert_int_equal(seal_load(&seal, path, why, sizeof(why)), -ENOENT);
	assert_string_equal(why, "cannot be read: No such file or directory");
	assert_null(seal);
}

/* RFC 7636, appendix B */
static void challenge_is_the_rfc_s(void **state)
{
	(void)state;
	char challenge[PKCE_CHALLENGE_BYTES], text[RANDOM_TEXT_BYTES(32)];

	pkce_challenge(SPAN("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), challenge);
	assert_string_equal(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
	random_text(text, sizeof(text), 32);
	assert_int_equal(strlen(text), 43);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_sealed_comes_back),
		cmocka_unit_test(anything_changed_or_cut_is_refused),
		cmocka_unit_test(no_two_seals_are_the_same),
		cmocka_unit_test(key_file_has_just_its_bytes),
		cmocka_unit_test(challenge_is_the_rfc_s),
	};

	return cmocka_run_group_tests_name("auth/seal", tests, NULL, NULL);
}
