#include "rest/login.h"

#include "rest/fields.h"

#include <errno.h>
#include <stddef.h>

#define LOGIN_FIXED_BYTES offsetof(struct login, next)

void login_begin(struct login *login, uint64_t now_s, struct span next)
{
	*login = (struct login){.expires_s = now_s + LOGIN_MINUTES * 60};
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
		return LOGIN_UNREADABLE;
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
