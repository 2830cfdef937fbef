#include "codec/json.h"

#include "base/check.h"

#include <errno.h>
#include <jansson.h>

#define LEVELS_MAX                                                                                 \
	32 /* jansson recurses up to 2048 levels: far more than a document of ours has             \
	    */

static const json_t *root_of(const struct json_document *document)
{
	return (const json_t *)document;
}

/* Whether brackets nest deeper than allowed; says nothing about the rest of the syntax. */
static bool is_too_deep(struct span text)
{
	int levels = 0;
	bool in_string = false;

	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = text.data[i];

		if (in_string) {
			if (byte == '\\')
				i++;
			else if (byte == '"')
				in_string = false;
		} else if (byte == '"') {
			in_string = true;
		} else if (byte == '{' || byte == '[') {
			if (++levels > LEVELS_MAX)
				return true;
		} else if (byte == '}' || byte == ']') {
			levels--;
		}
	}
	return false;
}

int json_parse_object(struct json_document **document, struct span text, size_t bytes_max)
{
	json_error_t error;

	*document = NULL;
	if (text.len == 0 || text.len > bytes_max || is_too_deep(text))
		return -EINVAL;

	json_t *root =
		json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &error);

	/* jansson has a code for it that it never sets; without memory its text is empty, mostly */
	if (!root)
		return error.text[0] == 0 ? -ENOMEM : -EINVAL;
	if (!json_is_object(root)) {
		json_decref(root);
		return -EINVAL;
	}
	*document = (struct json_document *)root;
	return 0;
}

void json_free(struct json_document *document)
{
	json_decref((json_t *)document);
}

bool json_get_string(const struct json_document *document, const char *name, struct span *value)
{
	const json_t *member = json_object_get(root_of(document), name);

	if (!json_is_string(member))
		return false;
	*value = span_make(json_string_value(member), json_string_length(member));
	return true;
}

bool json_get_int64(const struct json_document *document, const char *name, int64_t *value)
{
	const json_t *member = json_object_get(root_of(document), name);
	struct span text;

	if (json_is_integer(member)) {
		*value = json_integer_value(member);
		return true;
	}
	return json_get_string(document, name, &text) && span_to_int64(text, value);
}

const struct json_document *json_get_object(const struct json_document *document, const char *name)
{
	const json_t *member = json_object_get(root_of(document), name);

	return json_is_object(member) ? (const struct json_document *)member : NULL;
}

bool json_has(const struct json_document *document, const char *name)
{
	return json_object_get(root_of(document), name) != NULL;
}

/* ---- writing ---- */

/* Bytes of the well-formed character at the start of `text`, or 0. */
static size_t character_bytes(struct span text)
{
	uint8_t lead = text.data[0];
	size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

	return len <= text.len && span_is_utf8(span_first(text, len)) ? len : 0;
}

static bool is_plain(uint8_t byte)
{
	return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

static int append_escape(struct buf *out, uint8_t byte)
{
	static const char letters[32] = {
		['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
	};
	uint8_t pair[2] = {'\\', byte};

	if (byte < 0x20 && !letters[byte])
		return buf_printf(out, "\\u%04x", byte);
	if (byte < 0x20)
		pair[1] = (uint8_t)letters[byte];
	return buf_append(out, span_make(pair, 2));
}

/* Appends the text up to and including its first byte that is not plain ASCII. Returns the bytes
 * taken or buf's code. */
static ptrdiff_t append_run(struct buf *out, struct span text)
{
	size_t run = 0;

	while (run < text.len && is_plain(text.data[run]))
		run++;

	int error = buf_append(out, span_first(text, run));
	struct span rest = span_from(text, run);

	if (error || rest.len == 0)
		return error ? error : (ptrdiff_t)run;
	if (rest.data[0] < 0x80) {
		error = append_escape(out, rest.data[0]);
		return error ? error : (ptrdiff_t)(run + 1);
	}

	size_t len = character_bytes(rest);

	error = buf_append(out, len > 0 ? span_first(rest, len) : SPAN("\xef\xbf\xbd"));
	return error ? error : (ptrdiff_t)(run + (len > 0 ? len : 1));
}

int json_append_string(struct buf *out, struct span text)
{
	int error = buf_append_byte(out, '"');

	while (!error && text.len > 0) {
		ptrdiff_t taken = append_run(out, text);

		if (taken < 0)
			return (int)taken;
		text = span_from(text, (size_t)taken);
	}
	return error ? error : buf_append_byte(out, '"');
}
