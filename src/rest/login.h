/*
 * login: what one browser must remember between the way to the provider and back, sealed into a
 * cookie, and the address it is sent to. Pure but for random bytes. Source: api.md §4, RFC 6749
 * §4.1.1, RFC 7636, OpenID Connect Core §3.1.2.1.
 */
#ifndef REST_LOGIN_H
#define REST_LOGIN_H

#include "auth/seal.h"
#include "config/rest.h"

#define LOGIN_MINUTES	   10
#define LOGIN_RANDOM_BYTES 32 /* of state, nonce and verifier each */
#define LOGIN_TEXT_BYTES   RANDOM_TEXT_BYTES(LOGIN_RANDOM_BYTES)
#define LOGIN_NEXT_MAX	   1024
#define LOGIN_COOKIE	   "ringway_login"
#define LOGIN_LOCATION_MAX 8192

struct login {
	char state[LOGIN_TEXT_BYTES], nonce[LOGIN_TEXT_BYTES], verifier[LOGIN_TEXT_BYTES];
	uint64_t expires_s;	       /* since 1970 */
	char next[LOGIN_NEXT_MAX + 1]; /* a local path, or "" */
};

/* `next`: path_is_local and ≤ LOGIN_NEXT_MAX, or empty. */
void login_begin(struct login *login, uint64_t now_s, struct span next);

/* Appends the cookie's value. Returns buf's code. */
int login_seal(const struct login *login, const struct seal *seal, struct buf *out);

enum login_fault {
	LOGIN_GOOD,
	LOGIN_UNREADABLE,
	LOGIN_EXPIRED,
	LOGIN_OTHER_STATE,
	LOGIN_NO_MEMORY
};

/* `login` is whole only when LOGIN_GOOD. States are compared in constant time. */
enum login_fault login_open(struct login *login, const struct seal *seal, struct span cookie,
			    uint64_t now_s, struct span state);

/* What a provider sends a browser back with. Source: RFC 6749 §4.1.2. */
struct callback {
	struct buf code, state, error; /* decoded; empty: not there */
};

#define CALLBACK_CODE_MAX  4096
#define CALLBACK_ERROR_MAX 64

/* Returns 0, -EINVAL (one that is there twice, badly encoded or too long) or buf's code;
 * callback_finish, whatever was returned. */
int callback_read(struct callback *callback, struct span query);
void callback_finish(struct callback *callback);

/* Appends the provider's address with everything it is asked. Returns buf's code. */
int login_location(const struct login *login, const struct config_rest_sso *sso, struct buf *out);

/* Appends a local path as a Location can hold it. Returns buf's code. */
int location_of_path(struct span path, struct buf *out);

#endif
