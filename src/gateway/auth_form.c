#include "gateway/auth_form.h"

#include "auth/signer.h"
#include "base/check.h"
#include "codec/json.h"

#include <errno.h>

#define EMAIL_BYTES_MAX	       254 /* RFC 5321 §4.5.3.1.3, without the angle brackets */
#define LOCAL_BYTES_MAX	       64  /* §4.5.3.1.1 */
#define LABEL_BYTES_MAX	       63
#define ID_BYTES_MAX	       128
#define CODE_BYTES_MAX	       64
#define TIME_ZONE_BYTES_MAX    64
#define SAFE_CODE_BYTES_MAX    64
#define SAFE_MESSAGE_BYTES_MAX 512

static bool is_alphanumeric(uint8_t byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9');
}

static uint8_t lower(uint8_t byte)
{
	return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte - 'A' + 'a') : byte;
}

/* ---- members ---- */

static bool all_between(struct span text, uint8_t low, uint8_t high)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] < low || text.data[i] > high)
			return false;
	return true;
}

bool auth_id_is_valid(struct span id)
{
	return id.len >= 1 && id.len <= ID_BYTES_MAX && all_between(id, 0x21, 0x7e);
}

static bool is_code(struct span text)
{
	return span_trim(text).len >= 1 && text.len <= CODE_BYTES_MAX &&
	       all_between(text, 0x20, 0x7e);
}

static bool is_key(struct span text)
{
	uint8_t key[ENVELOPE_KEY_BYTES];

	return key_from_base64(text, key);
}

static bool is_time_zone(struct span text)
{
	return text.len <= TIME_ZONE_BYTES_MAX && all_between(text, 0x20, 0x7e);
}

static bool is_atom_byte(uint8_t byte)
{
	return is_alphanumeric(byte) || (byte != 0 && memchr("!#$%&'*+-/=?^_`{|}~", byte, 19));
}

static bool is_label_byte(uint8_t byte)
{
	return is_alphanumeric(byte) || byte == '-';
}

/* Parts of allowed bytes with dots between them, none empty. Returns how many, 0 when it is not so.
 */
static size_t count_parts(struct span text, bool (*is_allowed)(uint8_t byte), size_t part_max)
{
	size_t count = 0, start = 0;

	for (size_t i = 0; i <= text.len; i++) {
		if (i < text.len && text.data[i] != '.') {
			if (!is_allowed(text.data[i]))
				return 0;
			continue;
		}
		if (i == start || i - start > part_max)
			return 0;
		count++;
		start = i + 1;
	}
	return count;
}

/* No label begins or ends with a hyphen. */
static bool has_plain_ends(struct span domain)
{
	for (size_t i = 0; i < domain.len; i++) {
		bool at_edge = i == 0 || i + 1 == domain.len || domain.data[i - 1] == '.' ||
			       domain.data[i + 1] == '.';

		if (domain.data[i] == '-' && at_edge)
			return false;
	}
	return true;
}

static bool is_email(struct span text)
{
	ptrdiff_t at = span_find_byte(text, '@');

	if (at < 1 || at > LOCAL_BYTES_MAX || text.len > EMAIL_BYTES_MAX)
		return false;
	struct span domain = span_from(text, (size_t)at + 1);

	return count_parts(span_first(text, (size_t)at), is_atom_byte, LOCAL_BYTES_MAX) > 0 &&
	       count_parts(domain, is_label_byte, LABEL_BYTES_MAX) >= 2 && has_plain_ends(domain);
}

/* ---- identities ---- */

static void append_address(struct buf *out, struct span email)
{
	for (size_t i = 0; i < email.len; i++)
		buf_append_byte(out, lower(email.data[i]));
}

static void append_challenge(struct buf *out, struct span id)
{
	for (size_t i = 0; i < id.len; i++)
		if (is_alphanumeric(id.data[i]))
			buf_append_byte(out, lower(id.data[i]));
}

/* ---- forms ---- */

struct form_member {
	const char *name;
	bool is_optional; /* then not forwarded when empty, either */
	bool is_trimmed;
	bool (*is_valid)(struct span value);
	void (*append_identity)(struct buf *out, struct span value); /* NULL: it is none */
	const char *wrong;
};

struct form {
	const char *answer;
	const struct form_member *members;
	size_t count;
};

static const struct form_member send_members[] = {
	{.name = "email",
	 .is_trimmed = true,
	 .is_valid = is_email,
	 .append_identity = append_address,
	 .wrong = "email must be an e-mail address"},
};

static const struct form_member confirm_members[] = {
	{.name = "challenge_id",
	 .is_valid = auth_id_is_valid,
	 .append_identity = append_challenge,
	 .wrong = "challenge_id must be 1 to 128 visible ASCII characters"},
	{.name = "code",
	 .is_valid = is_code,
	 .wrong = "code must be 1 to 64 printable ASCII characters"},
	{.name = "client_public_key",
	 .is_valid = is_key,
	 .wrong = "client_public_key must be the standard base64 of 32 bytes"},
	{.name = "time_zone",
	 .is_optional = true,
	 .is_valid = is_time_zone,
	 .wrong = "time_zone must be at most 64 printable ASCII characters"},
};

static const struct form forms[AUTH_FORM_COUNT] = {
	[AUTH_SEND_CODE] = {"challenge_id", send_members, ARRAY_LEN(send_members)},
	[AUTH_CONFIRM_CODE] = {"device_session_id", confirm_members, ARRAY_LEN(confirm_members)},
};

const char *auth_form_answer(enum auth_form form)
{
	return forms[form].answer;
}

/* Returns NULL or what is wrong. */
static const char *read_member(const struct form_member *member,
			       const struct json_document *document, struct buf *forward,
			       struct buf *identity)
{
	struct span value = SPAN_EMPTY;

	if (member->is_optional && !json_has(document, member->name))
		return NULL;
	if (!json_get_string(document, member->name, &value))
		return member->wrong;
	if (member->is_trimmed)
		value = span_trim(value);
	if (!member->is_valid(value))
		return member->wrong;
	if (member->append_identity)
		member->append_identity(identity, value);
	if (member->is_optional && value.len == 0)
		return NULL;
	buf_printf(forward, "%s\"%s\":", forward->len > 1 ? "," : "", member->name);
	(void)json_append_string(forward, value);
	return NULL;
}

enum err auth_form_read(enum auth_form form, struct span body, struct buf *forward,
			struct buf *identity, const char **why)
{
	const struct form *rows = &forms[form];
	struct json_document *document;
	int code = json_parse_object(&document, body, body.len);

	*why = code ? "body must be a JSON object" : NULL;
	if (code)
		return code == -ENOMEM ? ERR_OUT_OF_MEMORY : ERR_BAD_REQUEST;
	buf_append_byte(forward, '{');
	for (size_t i = 0; i < rows->count && !*why; i++)
		*why = read_member(&rows->members[i], document, forward, identity);
	buf_append_byte(forward, '}');
	json_free(document);
	if (*why)
		return ERR_BAD_REQUEST;
	return forward->failed || identity->failed ? ERR_OUT_OF_MEMORY : ERR_NONE;
}

/* ---- what the service says ---- */

bool auth_code_is_safe(struct span code)
{
	for (size_t i = 0; i < code.len; i++)
		if ((code.data[i] < 'a' || code.data[i] > 'z') && code.data[i] != '_')
			return false;
	return code.len >= 1 && code.len <= SAFE_CODE_BYTES_MAX;
}

bool auth_message_is_safe(struct span message)
{
	if (message.len < 1 || message.len > SAFE_MESSAGE_BYTES_MAX || !span_is_utf8(message))
		return false;
	for (size_t i = 0; i < message.len; i++) {
		uint8_t byte = message.data[i];
		/* U+0080 to U+009F are controls too */
		bool is_c1 = byte == 0xc2 && message.data[i + 1] < 0xa0;

		if (byte < 0x20 || byte == 0x7f || is_c1)
			return false;
	}
	return true;
}
