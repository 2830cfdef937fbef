/*
 * fuzz_sign_on: what browsers bring to a sign-on: the login's cookie and what is sealed in it, the
 * callback's query, where to go afterwards, and the token of a session.
 */
#include "auth/signer.h"
#include "fuzz/fuzz.h"
#include "rest/fields.h"
#include "rest/login.h"
#include "rest/set_cookie.h"

#include <errno.h>

#define OUT_MAX (1u << 20)
#define NOW_S	1700000000u

static const struct seal *sealing(void)
{
	static const uint8_t key[SEAL_KEY_BYTES] = {1};
	static struct seal *seal;

	if (!seal)
		CHECK(auth_init() == 0 && seal_from_key(&seal, key) == 0);
	return seal;
}

/* Nothing in it ends a header's line, or is read otherwise than as it stands there. */
static void check_header(struct span value)
{
	for (size_t i = 0; i < value.len; i++)
		CHECK(value.data[i] >= 0x20 && value.data[i] < 0x7f);
}

/* ---- the login's cookie ---- */

static void check_opened(struct span cookie, struct span state)
{
	struct login login;
	enum login_fault fault = login_open(&login, sealing(), cookie, NOW_S, state);

	CHECK(fault != LOGIN_NO_MEMORY);
	if (fault != LOGIN_GOOD)
		return;
	CHECK(span_equal(span_from_cstr(login.state), state) && login.expires_s > NOW_S);
	CHECK(memchr(login.next, '\0', sizeof(login.next)));
}

static void check_header_cookie(struct span input)
{
	struct span state = fuzz_until(&input, '\n'), cookie;

	if (cookie_find(input, SPAN(LOGIN_COOKIE), &cookie))
		check_opened(cookie, state);
}

/* What another version of us may have sealed. */
static void check_sealed(struct span input)
{
	struct span state = fuzz_until(&input, '\n');
	struct buf text;

	buf_init(&text, OUT_MAX);
	if (seal_close(sealing(), input, &text) == 0)
		check_opened(buf_span(&text), state);
	else
		CHECK(input.len > SEAL_PLAIN_MAX);
	buf_finish(&text);
}

/* One byte of it changed: nothing is opened but what was sealed. */
static void check_changed(const struct login *login, struct span sealed, struct span input)
{
	size_t at = ((size_t)fuzz_byte(&input) << 8 | fuzz_byte(&input)) % sealed.len;
	uint8_t *copy = fuzz_copy(sealed);
	struct login opened;

	copy[at] = fuzz_byte(&input);

	bool is_same = copy[at] == sealed.data[at];
	enum login_fault fault = login_open(&opened, sealing(), span_make(copy, sealed.len), NOW_S,
					    span_from_cstr(login->state));

	CHECK(fault == (is_same ? LOGIN_GOOD : LOGIN_UNREADABLE));
	free(copy);
}

/* ---- the way to the provider and back ---- */

static void check_way(struct span next, struct span input)
{
	static const struct config_rest_sso sso = {
		.authorize_url = "https://provider.example/authorize",
		.client_id = "client & more",
		.scopes = "openid email",
		.redirect_url = "https://our.example/auth/google/callback",
		.callback_path = "/auth/google/callback",
	};
	struct login login, back;
	struct buf sealed, location;

	buf_init(&sealed, SEAL_TEXT_BYTES(SEAL_PLAIN_MAX));
	buf_init(&location, LOGIN_LOCATION_MAX);
	login_begin(&login, NOW_S, next);
	CHECK(login_seal(&login, sealing(), &sealed) == 0);
	CHECK(set_cookie_can_hold(buf_span(&sealed)));
	CHECK(login_open(&back, sealing(), buf_span(&sealed), NOW_S, span_from_cstr(login.state)) ==
	      LOGIN_GOOD);
	CHECK(span_equal(span_from_cstr(back.next), next) && strcmp(back.nonce, login.nonce) == 0 &&
	      strcmp(back.verifier, login.verifier) == 0);
	CHECK(login_open(&back, sealing(), buf_span(&sealed), login.expires_s,
			 span_from_cstr(login.state)) == LOGIN_EXPIRED);
	check_changed(&login, buf_span(&sealed), input);
	CHECK(login_location(&login, &sso, &location) == 0);
	check_header(buf_span(&location));
	buf_finish(&sealed);
	buf_finish(&location);
}

/* The query of the way there. A browser is sent to a path of ours, if anywhere. */
static void check_next(struct span query)
{
	struct buf next, location;

	buf_init(&next, LOGIN_NEXT_MAX);
	buf_init(&location, OUT_MAX);
	if (query_find(query, SPAN("next"), &next) == 0 && path_is_local(buf_span(&next))) {
		check_way(buf_span(&next), query);
		CHECK(location_of_path(buf_span(&next), &location) == 0);
		check_header(buf_span(&location));
		CHECK(location.data[0] == '/' &&
		      (location.len == 1 || (location.data[1] != '/' && location.data[1] != '\\')));
	}
	buf_finish(&next);
	buf_finish(&location);
}

/* ---- the callback's query ---- */

static void write_parameter(struct buf *out, const char *name, struct span value)
{
	buf_append(out, span_from_cstr(name));
	CHECK(percent_encode(value, out) == 0);
}

/* What is taken is taken again from our own text, and not when any of it is there twice. */
static void check_again(const struct callback *first)
{
	struct callback again, twice;
	struct buf query;

	buf_init(&query, OUT_MAX);
	write_parameter(&query, "code=", buf_span(&first->code));
	write_parameter(&query, "&state=", buf_span(&first->state));
	write_parameter(&query, "&error=", buf_span(&first->error));
	CHECK(callback_read(&again, buf_span(&query)) == 0);
	CHECK(span_equal(buf_span(&first->code), buf_span(&again.code)));
	CHECK(span_equal(buf_span(&first->state), buf_span(&again.state)));
	CHECK(span_equal(buf_span(&first->error), buf_span(&again.error)));
	callback_finish(&again);
	write_parameter(&query, "&state=", buf_span(&first->state));
	CHECK(callback_read(&twice, buf_span(&query)) == -EINVAL);
	callback_finish(&twice);
	buf_finish(&query);
}

static void check_callback(struct span query)
{
	struct callback callback;
	int code = callback_read(&callback, query);

	CHECK(code == 0 || code == -EINVAL);
	CHECK(callback.code.len <= CALLBACK_CODE_MAX && callback.state.len <= LOGIN_TEXT_BYTES &&
	      callback.error.len <= CALLBACK_ERROR_MAX);
	if (code == 0)
		check_again(&callback);
	callback_finish(&callback);
}

/* ---- a session's cookie ---- */

static void check_token(struct span input)
{
	struct set_cookie cookie = {.name = "session_token", .path = "/", .now_s = NOW_S};
	struct span found;
	struct buf out;

	for (size_t i = 0; i < sizeof(cookie.expires_s); i++)
		cookie.expires_s = cookie.expires_s << 8 | fuzz_byte(&input);
	cookie.value = input;
	if (!set_cookie_can_hold(input))
		return;
	buf_init(&out, OUT_MAX);
	CHECK(set_cookie_write(&cookie, &out) == 0);
	check_header(buf_span(&out));
	CHECK(cookie_find(buf_span(&out), span_from_cstr(cookie.name), &found) &&
	      span_equal(found, input));
	buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const checks[])(struct span input) = {
		check_header_cookie, check_sealed, check_next, check_callback, check_token,
	};
	struct span input = span_make(data, size);
	uint8_t kind = fuzz_byte(&input) % ARRAY_LEN(checks);
	uint8_t *copy = fuzz_copy(input);

	checks[kind](span_make(copy, input.len));
	free(copy);
	return 0;
}
