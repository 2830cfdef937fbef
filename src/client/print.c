#include "client/print.h"

#include "auth/signer.h"
#include "codec/json.h"

#include <stdarg.h>
#include <stdio.h>

void print_init(struct print *print, bool is_json)
{
	*print = (struct print){.is_json = is_json};
	buf_init(&print->out, PRINT_BYTES_MAX);
}

/* UTF-8 without control characters: a terminal shows it as it is. */
static bool is_readable(struct span value)
{
	for (size_t i = 0; i < value.len; i++)
		if ((value.data[i] < 0x20 && value.data[i] != '\n' && value.data[i] != '\t') ||
		    value.data[i] == 0x7f)
			return false;
	return span_is_utf8(value);
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
		buf_append(&print->out, value);
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
	if (is_readable(value)) {
		buf_append(&print->out, value);
		return;
	}
	buf_append(&print->out, SPAN("base64:"));
	(void)base64_append(&print->out, value);
}

void print_bytes(struct print *print, const char *name, struct span value)
{
	if (!print->is_json) {
		buf_printf(&print->out, "%s: ", name);
		print_word_bytes(print, value);
		buf_append_byte(&print->out, '\n');
	} else if (is_readable(value)) {
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

bool print_finish(struct print *print)
{
	if (print->is_json)
		buf_append(&print->out, SPAN("}\n"));

	bool is_done = !print->out.failed &&
		       fwrite(print->out.data, 1, print->out.len, stdout) == print->out.len &&
		       fflush(stdout) == 0;

	buf_finish(&print->out);
	return is_done;
}
