#include "rest/login.h"

#include "rest/fields.h"

#include <errno.h>
#include <stddef.h>

#define LOGIN_FIXED_BYTES offsetof(struct login, next)

void login_begin(struct login *login, uint64_t now_s, struct span next)
{
	*login = (struct login){.expires_s = now_s + (uint64_t)LOGIN_MINUTES * 60};
	random_text(login->state, sizeof(login->state), LOGIN_RANDOM_BYTES);
	random_text(login->nonce, sizeof(login->nonce), LOGIN_RANDOM_BYTES);
	random_text(login->verifier, sizeof(login->verifier), LOGIN_RANDOM_BYTES);
	if (next.len > 0)
		memcpy(login->next, next.data, next.len);
}

/* Sealed as it lies in memory, `next` cut to its length: "1" is the form's version. All instances
 * that share a key are of one kind of machine, or at worst refuse each other's. */
int login_seal(const struct login *login, const struct seal *seal, struct buf *out)
{
	uint8_t plain[1 + sizeof(*login)];
	size_t len = LOGIN_FIXED_BYTES + strlen(login->next);

	plain[0] = '1';
	memcpy(plain + 1, login, len);
	return seal_close(seal, span_make(plain, 1 + len), out);
}

static bool equal_slowly(struct span a, struct span b)
{
	unsigned difference = 0;

	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		difference |= a.data[i] ^ b.data[i];
	return difference == 0;
}

enum login_fault login_open(struct login *login, const struct seal *seal, struct span cookie,
			    uint64_t now_s, struct span state)
{
	struct buf plain;

	*login = (struct login){0};
	buf_init(&plain, 1 + sizeof(*login));
	int code = seal_open(seal, cookie, &plain);
	bool is_whole = code == 0 && plain.len > LOGIN_FIXED_BYTES &&
			plain.len <= 1 + LOGIN_FIXED_BYTES + LOGIN_NEXT_MAX && plain.data[0] == '1';

	if (is_whole)
		memcpy(login, plain.data + 1, plain.len - 1);
	buf_finish(&plain);
	if (!is_whole)
		return code == -ENOMEM ? LOGIN_NO_MEMORY : LOGIN_UNREADABLE;
	if (now_s >= login->expires_s)
		return LOGIN_EXPIRED;
	return equal_slowly(span_from_cstr(login->state), state) ? LOGIN_GOOD : LOGIN_OTHER_STATE;
}

static void append_parameter(struct buf *out, const char *name, const char *value)
{
	if (!value)
		return;
	buf_append_byte(out, '&');
	buf_append(out, span_from_cstr(name));
	buf_append_byte(out, '=');
	(void)percent_encode(span_from_cstr(value), out);
}

int login_location(const struct login *login, const struct config_rest_sso *sso, struct buf *out)
{
	char challenge[PKCE_CHALLENGE_BYTES];

	pkce_challenge(span_from_cstr(login->verifier), challenge);
	buf_append(out, span_from_cstr(sso->authorize_url));
	buf_append(out, strchr(sso->authorize_url, '?') ? SPAN("&") : SPAN("?"));
	buf_append(out, SPAN("response_type=code"));
	append_parameter(out, "client_id", sso->client_id);
	append_parameter(out, "redirect_uri", sso->redirect_url);
	append_parameter(out, "scope", sso->scopes);
	append_parameter(out, "state", login->state);
	append_parameter(out, "nonce", login->nonce);
	append_parameter(out, "code_challenge", challenge);
	append_parameter(out, "code_challenge_method", "S256");
	append_parameter(out, "hd", sso->hosted_domain);
	return out->failed ? -ENOMEM : 0;
}

/* ---- back from the provider ---- */

static int take(struct span query, struct span name, struct buf *value)
{
	struct span twice = query, key, encoded;
	int seen = 0, code;

	/* RFC 6749 §3.1: none more than once. */
	while (query_next(&twice, &key, &encoded))
		seen += span_equal(key, name);
	code = query_find(query, name, value);
	if (seen > 1 || code == -EMSGSIZE)
		return -EINVAL;
	return code == -ENOENT ? 0 : code;
}

int callback_read(struct callback *callback, struct span query)
{
	buf_init(&callback->code, CALLBACK_CODE_MAX);
	buf_init(&callback->state, LOGIN_TEXT_BYTES);
	buf_init(&callback->error, CALLBACK_ERROR_MAX);

	int code = take(query, SPAN("state"), &callback->state);

	if (code == 0)
		code = take(query, SPAN("error"), &callback->error);
	if (code == 0)
		code = take(query, SPAN("code"), &callback->code);
	/* the service that is asked could not read it */
	if (code == 0 && !span_is_utf8(buf_span(&callback->code)))
		code = -EINVAL;
	return code;
}

void callback_finish(struct callback *callback)
{
	buf_finish(&callback->code);
	buf_finish(&callback->state);
	buf_finish(&callback->error);
}

/* ---- what is sent back ---- */

int location_of_path(struct span path, struct buf *out)
{
	for (size_t i = 0; i < path.len; i++) {
		/* Its own percent signs are encoding already. */
		if (path.data[i] > 0x20 && path.data[i] < 0x7f)
			buf_append_byte(out, path.data[i]);
		else
			(void)percent_encode(span_make(path.data + i, 1), out);
	}
	return out->failed ? -ENOMEM : 0;
}
