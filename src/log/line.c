#include "log/line.h"

#include "base/check.h"

/* What line_end may still write: the longest of both formats. */
#define LINE_END_JSON ",\"cut\":true}\n"
#define LINE_END_BYTES (sizeof(LINE_END_JSON) - 1)

#define LINE_SESSION_CHARS 8
#define LINE_CHAR_MAX 6 /* bytes one character can become: \u001f */
#define LINE_NAME_MAX 64

static const char line_hex[] = "0123456789abcdef";

static size_t room(const struct line *line)
{
	return LOG_LINE_MAX - LINE_END_BYTES - line->len;
}

static void put(struct line *line, struct span bytes)
{
	if (bytes.len > room(line)) {
		line->cut = true;
		return;
	}
	if (bytes.len > 0)
		memcpy(line->bytes + line->len, bytes.data, bytes.len);
	line->len += bytes.len;
}

static void put_cstr(struct line *line, const char *text)
{
	put(line, span_from_cstr(text));
}

static void put_uint(struct line *line, uint64_t value, size_t width)
{
	uint8_t digits[20]; /* 2^64 - 1 has 20 */
	size_t at = sizeof(digits);

	CHECK(width <= sizeof(digits));
	while (value != 0 || at > sizeof(digits) - width) {
		digits[--at] = (uint8_t)('0' + value % 10);
		value /= 10;
	}
	put(line, span_make(digits + at, sizeof(digits) - at));
}

static void put_int(struct line *line, int64_t value)
{
	if (value < 0)
		put_cstr(line, "-");
	put_uint(line, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 1);
}

/* Bytes of the UTF-8 character that `text` starts with, 0 if its first byte starts none. */
static size_t char_bytes(struct span text)
{
	uint8_t lead = text.data[0];
	size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

	return len <= text.len && span_is_utf8(span_first(text, len)) ? len : 0;
}

/* One character as it stands inside a JSON string. Returns its bytes in `out`. */
static size_t escape(struct span one, uint8_t out[LINE_CHAR_MAX])
{
	static const char plain[] = "\"\\\b\f\n\r\t";
	static const char letter[] = "\"\\bfnrt";
	uint8_t byte = one.data[0];
	const char *found = byte ? strchr(plain, byte) : NULL;

	if (found) {
		out[0] = '\\';
		out[1] = (uint8_t)letter[found - plain];
		return 2;
	}
	if (byte < 0x20 || byte == 0x7f) { /* DEL too: terminals act on it */
		memcpy(out, "\\u00", 4);
		out[4] = (uint8_t)line_hex[byte >> 4];
		out[5] = (uint8_t)line_hex[byte & 15];
		return 6;
	}
	memcpy(out, one.data, one.len);
	return one.len;
}

/* At most `max` bytes and `chars_max` characters, escaped, cut between characters. */
static void put_escaped(struct line *line, struct span text, size_t max, size_t chars_max)
{
	static const uint8_t replacement[] = { 0xef, 0xbf, 0xbd }; /* U+FFFD */
	size_t end = line->len + (max < room(line) ? max : room(line));

	for (size_t chars = 0; text.len > 0 && chars < chars_max; chars++) {
		size_t len = char_bytes(text);
		uint8_t out[LINE_CHAR_MAX];
		size_t out_len = escape(len ? span_first(text, len)
					    : span_make(replacement, sizeof(replacement)),
					out);

		if (out_len > end - line->len) {
			line->cut = true;
			return;
		}
		put(line, span_make(out, out_len));
		text = span_from(text, len ? len : 1);
	}
}

static void put_quoted(struct line *line, struct span text, size_t max, size_t chars_max)
{
	if (room(line) < 2) {
		line->cut = true;
		return;
	}
	put_cstr(line, "\"");

	size_t left = room(line) - 1; /* the closing quote always fits */

	put_escaped(line, text, max < left ? max : left, chars_max);
	put_cstr(line, "\"");
}

/* Whether a value of the text format can stand without quotes. */
static bool is_bare(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = text.data[i];

		if (byte <= 0x20 || byte >= 0x7f || byte == '"' || byte == '=' || byte == '\\')
			return false;
	}
	return text.len > 0;
}

static void put_value(struct line *line, struct span text, size_t chars_max)
{
	if (line->format == LOG_TEXT && is_bare(text))
		put_escaped(line, text, LOG_VALUE_MAX, chars_max);
	else
		put_quoted(line, text, LOG_VALUE_MAX, chars_max);
}

static void put_name(struct line *line, const char *name)
{
	if (line->format == LOG_JSON) {
		put_cstr(line, ",");
		put_quoted(line, span_from_cstr(name), LINE_NAME_MAX, SIZE_MAX);
		put_cstr(line, ":");
	} else {
		put_cstr(line, " ");
		put_escaped(line, span_from_cstr(name), LINE_NAME_MAX, SIZE_MAX);
		put_cstr(line, "=");
	}
}

/* Days since 1970-01-01 to a date; years counted from March, so that a leap day comes last. */
static void put_date(struct line *line, int64_t days)
{
	int64_t shifted = days + 719468; /* since 0000-03-01 */
	int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097; /* 400 years */
	int64_t day_of_era = shifted - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
			       day_of_era / 146096) / 365;
	int64_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t from_march = (5 * day_of_year + 2) / 153;
	int64_t month = from_march < 10 ? from_march + 3 : from_march - 9;
	int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);

	put_uint(line, (uint64_t)year, 4);
	put_cstr(line, "-");
	put_uint(line, (uint64_t)month, 2);
	put_cstr(line, "-");
	put_uint(line, (uint64_t)(day_of_year - (153 * from_march + 2) / 5 + 1), 2);
}

static void put_time(struct line *line, int64_t unix_ms)
{
	const int64_t day_ms = 86400000;
	int64_t days = unix_ms / day_ms;
	int64_t ms = unix_ms % day_ms;

	if (ms < 0) {
		ms += day_ms;
		days--;
	}
	put_date(line, days);
	put_cstr(line, "T");
	put_uint(line, (uint64_t)(ms / 3600000), 2);
	put_cstr(line, ":");
	put_uint(line, (uint64_t)(ms / 60000 % 60), 2);
	put_cstr(line, ":");
	put_uint(line, (uint64_t)(ms / 1000 % 60), 2);
	put_cstr(line, ".");
	put_uint(line, (uint64_t)(ms % 1000), 3);
	put_cstr(line, "Z");
}

static const char *level_capitals(enum log_level level)
{
	static const char *const names[] = { "DEBUG", "INFO", "WARN", "ERROR" };

	CHECK((size_t)level < ARRAY_LEN(names));
	return names[level];
}

void line_begin(struct line *line, enum log_format format, const struct line_head *head)
{
	struct span message = span_from_cstr(head->message);
	struct span component = span_from_cstr(head->component);

	line->format = format;
	line->cut = false;
	line->len = 0;
	if (format == LOG_JSON) {
		put_cstr(line, "{\"ts\":\"");
		put_time(line, head->unix_ms);
		put_cstr(line, "\",\"level\":\"");
		put_cstr(line, log_level_name(head->level));
		put_cstr(line, "\",\"msg\":");
		put_quoted(line, message, LOG_VALUE_MAX, SIZE_MAX);
		put_cstr(line, ",\"component\":");
		put_quoted(line, component, LINE_NAME_MAX, SIZE_MAX);
	} else {
		put_time(line, head->unix_ms);
		put_cstr(line, " ");
		put_cstr(line, level_capitals(head->level));
		put_cstr(line, " ");
		put_escaped(line, component, LINE_NAME_MAX, SIZE_MAX);
		put_cstr(line, ": ");
		put_escaped(line, message, LOG_VALUE_MAX, SIZE_MAX);
	}
	/* Before the fields: they may fill the line. */
	if (head->held_back > 0) {
		put_name(line, "held_back");
		put_uint(line, head->held_back, 1);
	}
}

void line_add(struct line *line, const struct log_field *field)
{
	size_t before = line->len;
	bool was_cut = line->cut;
	bool is_text = field->kind == LOG_FIELD_SPAN || field->kind == LOG_FIELD_SESSION;

	line->cut = false;
	put_name(line, field->name);
	/* Text may be cut, but its name, quotes and one character must be there. */
	bool named = !line->cut && (!is_text || room(line) >= 2 + LINE_CHAR_MAX);

	switch (field->kind) {
	case LOG_FIELD_SPAN:
		put_value(line, field->text, SIZE_MAX);
		break;
	case LOG_FIELD_SESSION:
		put_value(line, field->text, LINE_SESSION_CHARS);
		break;
	case LOG_FIELD_INT:
		put_int(line, field->number);
		break;
	case LOG_FIELD_UINT:
		put_uint(line, field->count, 1);
		break;
	case LOG_FIELD_MS:
		put_uint(line, field->count / 1000, 1);
		put_cstr(line, ".");
		put_uint(line, field->count % 1000, 3);
		break;
	case LOG_FIELD_BOOL:
		put_cstr(line, field->flag ? "true" : "false");
		break;
	}
	if (!named || (line->cut && !is_text)) {
		line->len = before;
		line->cut = true;
	}
	line->cut = line->cut || was_cut;
}

struct span line_end(struct line *line)
{
	const char *end = "\n";

	if (line->format == LOG_JSON)
		end = line->cut ? LINE_END_JSON : "}\n";
	else if (line->cut)
		end = " cut=true\n";

	size_t len = strlen(end);

	CHECK(len <= LOG_LINE_MAX - line->len);
	memcpy(line->bytes + line->len, end, len);
	line->len += len;
	return span_make(line->bytes, line->len);
}
