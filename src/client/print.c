#include "client/print.h"

#include "auth/signer.h"
#include "base/base64.h"
#include "codec/json.h"

#include <stdarg.h>

void print_init(struct print *print, bool is_json)
{
	*print = (struct print){.is_json = is_json};
	buf_init(&print->out, PRINT_BYTES_MAX);
}

/* Control characters, C1 among them, could tell a terminal to do things. */
static bool is_control(struct span text, size_t at)
{
	uint8_t byte = text.data[at];

	return byte < 0x20 || byte == 0x7f ||
	       (byte == 0xc2 && at + 1 < text.len && text.data[at + 1] < 0xa0);
}

/* UTF-8 that a terminal shows as it is: on one line, or on several. */
static bool is_readable(struct span value, bool is_one_line)
{
	for (size_t i = 0; i < value.len; i++)
		if (is_control(value, i) && value.data[i] != '\t' &&
		    (is_one_line || value.data[i] != '\n'))
			return false;
	return span_is_utf8(value);
}

static void append_readable(struct print *print, struct span value, bool is_one_line)
{
	if (is_readable(value, is_one_line)) {
		buf_append(&print->out, value);
		return;
	}
	buf_append(&print->out, SPAN("base64:"));
	(void)base64_append(&print->out, value);
}

static void begin_member(struct print *print, const char *name, const char *suffix)
{
	buf_printf(&print->out, "%c\"%s%s\":", print->has_fields ? ',' : '{', name, suffix);
	print->has_fields = true;
}

void print_text(struct print *print, const char *name, struct span value)
{
	if (print->is_json) {
		begin_member(print, name, "");
		(void)json_append_string(&print->out, value);
	} else {
		buf_printf(&print->out, "%s: ", name);
		append_readable(print, value, true);
		buf_append_byte(&print->out, '\n');
	}
}

void print_number(struct print *print, const char *name, int64_t value)
{
	if (print->is_json)
		begin_member(print, name, "");
	else
		buf_printf(&print->out, "%s: ", name);
	buf_printf(&print->out, "%lld%s", (long long)value, print->is_json ? "" : "\n");
}

void print_word_bytes(struct print *print, struct span value)
{
	append_readable(print, value, true);
}

void print_bytes(struct print *print, const char *name, struct span value)
{
	if (!print->is_json) {
		buf_printf(&print->out, "%s: ", name);
		append_readable(print, value, false);
		buf_append_byte(&print->out, '\n');
	} else if (is_readable(value, false)) {
		print_text(print, name, value);
	} else {
		begin_member(print, name, "_base64");
		buf_append_byte(&print->out, '"');
		(void)base64_append(&print->out, value);
		buf_append_byte(&print->out, '"');
	}
}

void print_words(struct print *print, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buf_append(&print->out, span_from_cstr(text));
}

bool print_finish_to(struct print *print, FILE *out)
{
	if (print->is_json)
		buf_append(&print->out, SPAN("}\n"));

	bool is_done = !print->out.failed &&
		       fwrite(print->out.data, 1, print->out.len, out) == print->out.len &&
		       fflush(out) == 0;

	buf_finish(&print->out);
	return is_done;
}

bool print_finish(struct print *print)
{
	return print_finish_to(print, stdout);
}
