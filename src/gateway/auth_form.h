/*
 * auth_form: what the public sign-in routes take, checked and written anew for the auth service.
 * Pure; any thread. Source: edge.md §5.
 *
 * Members that the contract does not name are ignored and not forwarded: what reaches the service
 * has been looked at here. The body's content-type is not asked for; it must be a JSON object.
 *
 * | member            | what it may be                                                          |
 * |-------------------|-------------------------------------------------------------------------|
 * | email             | local@domain in ASCII, blanks around it dropped; see auth_form_read     |
 * | challenge_id      | 1 to 128 visible ASCII characters                                       |
 * | code              | 1 to 64 printable ASCII characters                                      |
 * | client_public_key | standard base64 of 32 bytes, canonical                                  |
 * | time_zone         | optional; at most 64 printable ASCII characters, not forwarded if empty |
 */
#ifndef GATEWAY_AUTH_FORM_H
#define GATEWAY_AUTH_FORM_H

#include "base/buf.h"
#include "base/err.h"

enum auth_form { AUTH_SEND_CODE, AUTH_CONFIRM_CODE, AUTH_FORM_COUNT };

/* Room for what is appended below, whatever the body. */
#define AUTH_FORM_BYTES_MAX 4096

/*
 * Checks the body. Appends to `forward` the JSON object for the service and to `identity` the key
 * of the identity budget: different spellings of one identity give one key.
 *
 * E-mail: a dot-atom of at most 64 bytes, '@', a domain of at least two labels, 254 bytes in all;
 * no quoted local parts, no address literals, no bytes beyond ASCII (international domains come as
 * xn--): each would give one mailbox many spellings. Its key is the address in lower case; tags
 * ("name+tag") and dots stay, for they are other mailboxes with most providers.
 * Challenge: its key is its letters and digits, in lower case, for services that compare ids as
 * UUIDs take them in any case, with hyphens or without.
 *
 * Returns ERR_NONE; ERR_BAD_REQUEST with the reason in `why` (static, fit for the client), or
 * ERR_OUT_OF_MEMORY.
 */
enum err auth_form_read(enum auth_form form, struct span body, struct buf *forward,
			struct buf *identity, const char **why);

/* The one member of the service's answer: "challenge_id", "device_session_id". */
const char *auth_form_answer(enum auth_form form);

/* 1 to 128 visible ASCII characters, as every id. */
bool auth_id_is_valid(struct span id);

/* Error code and message of the service that clients may see: `^[a-z_]{1,64}$`; UTF-8 of 1 to 512
 * bytes without controls. */
bool auth_code_is_safe(struct span code);
bool auth_message_is_safe(struct span message);

#endif
