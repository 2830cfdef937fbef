/* login: a login cookie is good once, for its state and its time; the provider is asked the right
 * things. */
#include "auth/signer.h"
#include "base/check.h"
#include "rest/fields.h"
#include "rest/login.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct seal *seal;

static int make_seal(void **state)
{
	(void)state;
	return auth_init() ||
	       seal_from_key(&seal, (const uint8_t *)"0123456789abcdef0123456789abcdef");
}

static int drop_seal(void **state)
{
	(void)state;
	seal_destroy(seal);
	return 0;
}

static void login_comes_back_from_its_cookie(void **state)
{
	(void)state;
	static char longest[LOGIN_NEXT_MAX + 1];
	const char *const nexts[] = {"", "/dashboard", longest};

	memset(longest, 'a', LOGIN_NEXT_MAX);
	for (size_t i = 0; i < 3; i++) {
		struct login login, back;
		struct buf cookie;

		buf_init(&cookie, 4096);
		login_begin(&login, 1000, span_from_cstr(nexts[i]));
		assert_int_equal(login_seal(&login, seal, &cookie), 0);
		assert_true(cookie.len < 4000); /* what browsers keep: RFC 6265 §6.1 */
		assert_int_equal(login_open(&back, seal, buf_span(&cookie), 1599,
					    span_from_cstr(login.state)),
				 LOGIN_GOOD);
		assert_string_equal(back.next, nexts[i]);
		assert_string_equal(back.verifier, login.verifier);
		assert_string_equal(back.nonce, login.nonce);
		assert_string_not_equal(login.state, login.nonce);
		assert_string_not_equal(login.state, login.verifier);
		buf_finish(&cookie);
	}
}

static void cookie_that_is_late_or_another_s_is_refused(void **state)
{
	(void)state;
	struct login login, other, back;
	struct buf cookie;

	buf_init(&cookie, 4096);
	login_begin(&login, 1000, SPAN("/"));
	login_begin(&other, 1000, SPAN("/"));
	assert_int_equal(login_seal(&login, seal, &cookie), 0);
	struct span text = buf_span(&cookie), right = span_from_cstr(login.state);

	assert_int_equal(login_open(&back, seal, text, 1600, right), LOGIN_EXPIRED);
	assert_int_equal(login_open(&back, seal, text, 1000, span_from_cstr(other.state)),
			 LOGIN_OTHER_STATE);
	assert_int_equal(login_open(&back, seal, text, 1000, SPAN_EMPTY), LOGIN_OTHER_STATE);
	assert_int_equal(login_open(&back, seal, SPAN_EMPTY, 1000, right), LOGIN_UNREADABLE);
	for (size_t len = 0; len < text.len; len++)
		assert_int_equal(login_open(&back, seal, span_first(text, len), 1000, right),
				 LOGIN_UNREADABLE);
	buf_finish(&cookie);
}

/* Sealed with our key, but by something else. */
static void other_contents_are_refused(void **state)
{
	(void)state;
	static uint8_t plain[2 + sizeof(struct login)];
	struct login back;

	for (size_t len = 0; len <= sizeof(plain); len += 7) {
		struct buf cookie;

		memset(plain, '1', sizeof(plain));
		plain[0] = len < sizeof(plain) / 2 ? '1' : '2';
		buf_init(&cookie, 4096);
		assert_int_equal(seal_close(seal, span_make(plain, len), &cookie), 0);
		if (plain[0] == '2' || len < 140)
			assert_int_equal(login_open(&back, seal, buf_span(&cookie), 0, SPAN("x")),
					 LOGIN_UNREADABLE);
		buf_finish(&cookie);
	}
}

static void provider_is_asked_for_what_is_needed(void **state)
{
	(void)state;
	struct config_rest_sso sso = {
		.authorize_url = "https://p/authorize",
		.client_id = "a b&c",
		.scopes = "openid email",
		.redirect_url = "https://app/cb?x=1",
		.hosted_domain = "example.com",
	};
	struct login login;
	struct buf out;
	char wanted[1024], challenge[PKCE_CHALLENGE_BYTES];

	login_begin(&login, 0, SPAN_EMPTY);
	pkce_challenge(span_from_cstr(login.verifier), challenge);
	snprintf(wanted, sizeof(wanted),
		 "https://p/authorize?response_type=code&client_id=a%%20b%%26c"
		 "&redirect_uri=https%%3A%%2F%%2Fapp%%2Fcb%%3Fx%%3D1&scope=openid%%20email"
		 "&state=%s&nonce=%s&code_challenge=%s&code_challenge_method=S256&hd=example.com",
		 login.state, login.nonce, challenge);
	buf_init(&out, LOGIN_LOCATION_MAX);
	assert_int_equal(login_location(&login, &sso, &out), 0);
	assert_true(span_equal(buf_span(&out), span_from_cstr(wanted)));
	buf_clear(&out, 0);
	sso.authorize_url = "https://p/authorize?tenant=1";
	sso.hosted_domain = NULL;
	assert_int_equal(login_location(&login, &sso, &out), 0);
	assert_true(span_starts_with(buf_span(&out),
				     SPAN("https://p/authorize?tenant=1&response_type=code&")));
	buf_finish(&out);
}

static void callback_is_read_or_refused(void **state)
{
	(void)state;
	static char long_code[CALLBACK_CODE_MAX + 16], long_state[LOGIN_TEXT_BYTES + 16];
	static const struct {
		const char *query;
		int code;
		const char *parts[3]; /* code, state, error */
	} rows[] = {
		{"", 0, {"", "", ""}},
		{"code=a%2Fb&state=s", 0, {"a/b", "s", ""}},
		{"state=s&session_state=x&iss=https%3A%2F%2Fp&code=c", 0, {"c", "s", ""}},
		{"error=access_denied&error_description=no+more&state=s",
		 0,
		 {"", "s", "access_denied"}},
		{"&&code=&state", 0, {"", "", ""}},
		{"code=a&code=a", -EINVAL, {NULL}},
		{"state=a&code=a&state=a", -EINVAL, {NULL}},
		{"error=a&error=b", -EINVAL, {NULL}},
		{"code=%4", -EINVAL, {NULL}},
		{"code=%c3%28", -EINVAL, {NULL}},
		{"code=%c3%bc&state=s", 0, {"\xc3\xbc", "s", ""}},
		{"state=%gg", -EINVAL, {NULL}},
		{long_code, -EINVAL, {NULL}},
		{long_state, -EINVAL, {NULL}},
		{"error=0123456789012345678901234567890123456789012345678901234567890123456789",
		 -EINVAL,
		 {NULL}},
	};

	memset(long_code, 'a', sizeof(long_code) - 1);
	memcpy(long_code, "code=", 5);
	memset(long_state, 'a', sizeof(long_state) - 1);
	memcpy(long_state, "state=", 6);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct callback callback;

		assert_int_equal(callback_read(&callback, span_from_cstr(rows[i].query)),
				 rows[i].code);
		if (rows[i].code == 0) {
			const struct buf *bufs[] = {&callback.code, &callback.state,
						    &callback.error};

			for (size_t j = 0; j < 3; j++)
				assert_true(span_equal(buf_span(bufs[j]),
						       span_from_cstr(rows[i].parts[j])));
		}
		callback_finish(&callback);
	}
}

static void location_has_only_what_a_header_can_hold(void **state)
{
	(void)state;
	for (int byte = 1; byte < 256; byte++) {
		uint8_t path[] = {'/', (uint8_t)byte};
		struct buf out;

		buf_init(&out, 16);
		assert_int_equal(location_of_path(span_make(path, 2), &out), 0);
		assert_int_equal(out.len, byte > 0x20 && byte < 0x7f ? 2 : 4);
		for (size_t i = 0; i < out.len; i++)
			assert_in_range(out.data[i], 0x21, 0x7e);
		buf_finish(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(login_comes_back_from_its_cookie),
		cmocka_unit_test(cookie_that_is_late_or_another_s_is_refused),
		cmocka_unit_test(other_contents_are_refused),
		cmocka_unit_test(provider_is_asked_for_what_is_needed),
		cmocka_unit_test(callback_is_read_or_refused),
		cmocka_unit_test(location_has_only_what_a_header_can_hold),
	};

	return cmocka_run_group_tests_name("rest/login", tests, make_seal, drop_seal);
}
