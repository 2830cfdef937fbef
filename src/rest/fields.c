#include "rest/fields.h"

#include <errno.h>

/* ---- cookies and tokens ---- */

static struct span take_until(struct span *text, uint8_t separator)
{
	ptrdiff_t at = span_find_byte(*text, separator);
	struct span part = at < 0 ? *text : span_first(*text, (size_t)at);

	*text = at < 0 ? SPAN_EMPTY : span_from(*text, (size_t)at + 1);
	return part;
}

static struct span unquote(struct span value)
{
	if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
		return span_make(value.data + 1, value.len - 2);
	return value;
}

bool cookie_find(struct span header, struct span name, struct span *value)
{
	while (header.len > 0) {
		struct span rest = take_until(&header, ';');
		struct span key = span_trim(take_until(&rest, '='));

		if (!span_equal(key, name))
			continue;
		*value = unquote(span_trim(rest));
		return true;
	}
	return false;
}

bool bearer_find(struct span header, struct span *token)
{
	static const size_t scheme = sizeof("Bearer ") - 1;

	header = span_trim(header);
	if (header.len <= scheme || !span_equal_nocase(span_first(header, scheme), SPAN("Bearer ")))
		return false;
	*token = span_trim(span_from(header, scheme));
	return token->len > 0;
}

/* ---- percent-encoding ---- */

static int hex_value(uint8_t byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	byte |= 0x20;
	return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* One "%XX" at the front. Returns the byte, or -EINVAL. */
static int decode_one(struct span text)
{
	if (text.len < 3)
		return -EINVAL;

	int high = hex_value(text.data[1]), low = hex_value(text.data[2]);

	return high < 0 || low < 0 ? -EINVAL : high * 16 + low;
}

int percent_decode(struct span text, enum percent_form form, struct buf *out)
{
	int code = 0;

	while (text.len > 0 && code == 0) {
		size_t plain = 0;

		while (plain < text.len && text.data[plain] != '%' && text.data[plain] != '+')
			plain++;
		if (plain > 0) {
			code = buf_append(out, span_first(text, plain));
			text = span_from(text, plain);
			continue;
		}
		if (text.data[0] == '+') {
			code = buf_append_byte(out, form == PERCENT_QUERY ? ' ' : '+');
			text = span_from(text, 1);
			continue;
		}

		int byte = decode_one(text);

		if (byte < 0)
			return byte;
		code = form == PERCENT_PATH_MANY && byte == '/'
			       ? buf_append(out, span_first(text, 3))
			       : buf_append_byte(out, (uint8_t)byte);
		text = span_from(text, 3);
	}
	return code;
}

static bool is_unreserved(uint8_t byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= 'a' && byte <= 'z') || byte == '-' || byte == '.' || byte == '_' ||
	       byte == '~';
}

int percent_encode(struct span text, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = text.data[i];
		char encoded[3] = {'%', digits[byte >> 4], digits[byte & 15]};

		if (is_unreserved(byte))
			buf_append_byte(out, byte);
		else
			buf_append(out, span_make(encoded, sizeof(encoded)));
	}
	return out->failed ? -ENOMEM : 0;
}

/* ---- queries ---- */

bool query_next(struct span *query, struct span *name, struct span *value)
{
	while (query->len > 0) {
		struct span pair = take_until(query, '&');

		if (pair.len == 0)
			continue;
		*name = take_until(&pair, '=');
		*value = pair;
		return true;
	}
	return false;
}

/* Whether the encoded name is this one. */
static bool name_is(struct span encoded, struct span name)
{
	struct buf decoded;
	bool same;

	if (span_equal(encoded, name))
		return true;
	if (span_find_byte(encoded, '%') < 0)
		return false;
	buf_init(&decoded, encoded.len);
	same = percent_decode(encoded, PERCENT_QUERY, &decoded) == 0 &&
	       span_equal(buf_span(&decoded), name);
	buf_finish(&decoded);
	return same;
}

int query_find(struct span query, struct span name, struct buf *value)
{
	struct span key, encoded;

	while (query_next(&query, &key, &encoded)) {
		if (name_is(key, name))
			return percent_decode(encoded, PERCENT_QUERY, value);
	}
	return -ENOENT;
}

bool path_is_local(struct span path)
{
	if (path.len == 0 || path.data[0] != '/' || (path.len > 1 && path.data[1] == '/'))
		return false;
	for (size_t i = 0; i < path.len; i++) {
		if (path.data[i] < 0x20 || path.data[i] == 0x7f || path.data[i] == '\\')
			return false;
	}
	return true;
}

bool text_is_printable(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < 0x20 || text.data[i] > 0x7e)
			return false;
	}
	return true;
}
