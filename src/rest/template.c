#include "rest/template.h"

#include <errno.h>

struct reader {
	struct span left;
	struct template *template;
	const char *why; /* NULL: no mistake yet */
	bool in_variable;
};

static bool fail(struct reader *reader, const char *why)
{
	if (!reader->why)
		reader->why = why;
	return false;
}

static bool is_next(const struct reader *reader, uint8_t byte)
{
	return reader->left.len > 0 && reader->left.data[0] == byte;
}

static bool take(struct reader *reader, uint8_t byte)
{
	if (!is_next(reader, byte))
		return false;
	reader->left = span_from(reader->left, 1);
	return true;
}

static bool is_hex(uint8_t byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'F') ||
	       (byte >= 'a' && byte <= 'f');
}

/* RFC 3986 §3.3 pchar, without ':' and '*', which mean something here. */
static bool is_literal_byte(uint8_t byte)
{
	bool is_alnum = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
			(byte >= 'a' && byte <= 'z');

	return is_alnum || (byte > 0x20 && byte < 0x7f && memchr("-._~!$&'()+,;=@%", byte, 16));
}

static bool take_literal(struct reader *reader, struct span *literal)
{
	struct span left = reader->left;
	size_t len = 0;

	while (len < left.len && is_literal_byte(left.data[len]) &&
	       !(reader->in_variable && left.data[len] == '}')) {
		if (left.data[len] == '%' && (left.len - len < 3 || !is_hex(left.data[len + 1]) ||
					      !is_hex(left.data[len + 2])))
			return fail(reader, "has a % without two hexadecimal digits");
		len++;
	}
	if (len == 0)
		return fail(reader, left.len == 0 || left.data[0] == '/'
					    ? "has an empty segment"
					    : "has a byte that no segment may have");
	*literal = span_first(left, len);
	reader->left = span_from(left, len);
	if (span_equal(*literal, SPAN(".")) || span_equal(*literal, SPAN("..")))
		return fail(reader, "has a segment . or .., which no request has");
	return true;
}

static bool add_segment(struct reader *reader, struct template_segment segment)
{
	struct template *template = reader->template;

	if (template->segment_count == TEMPLATE_SEGMENTS_MAX)
		return fail(reader, "has more than 32 segments");
	if (template->segment_count > 0 &&
	    template->segments[template->segment_count - 1].kind == TEMPLATE_REST)
		return fail(reader, "has something behind **");
	template->segments[template->segment_count++] = segment;
	return true;
}

static bool is_identifier(struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		uint8_t byte = name.data[i];
		bool is_letter =
			(byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';

		if (!is_letter && (i == 0 || byte < '0' || byte > '9'))
			return false;
	}
	return name.len > 0;
}

/* "a.b_c": names with dots between. */
static bool is_field_path(struct span path)
{
	for (;;) {
		ptrdiff_t dot = span_find_byte(path, '.');

		if (!is_identifier(dot < 0 ? path : span_first(path, (size_t)dot)))
			return false;
		if (dot < 0)
			return true;
		path = span_from(path, (size_t)dot + 1);
	}
}

static bool read_segments(struct reader *reader);

static bool add_variable(struct reader *reader, struct template_variable variable)
{
	struct template *template = reader->template;

	for (uint8_t i = 0; i < template->variable_count; i++) {
		if (span_equal(template->variables[i].field, variable.field))
			return fail(reader, "has a variable twice");
	}
	if (template->variable_count == TEMPLATE_VARIABLES_MAX)
		return fail(reader, "has more than 16 variables");
	template->variables[template->variable_count++] = variable;
	return true;
}

static bool read_variable(struct reader *reader)
{
	struct template *template = reader->template;
	struct template_variable variable = {.first = template->segment_count};
	size_t len = 0;

	if (reader->in_variable)
		return fail(reader, "has a variable in a variable");
	while (len < reader->left.len && !memchr("=}", reader->left.data[len], 2))
		len++;
	variable.field = span_first(reader->left, len);
	reader->left = span_from(reader->left, len);
	if (!is_field_path(variable.field))
		return fail(reader, "has a variable that is no field path");
	reader->in_variable = true;

	bool good =
		take(reader, '=')
			? read_segments(reader)
			: add_segment(reader, (struct template_segment){TEMPLATE_ONE, SPAN_EMPTY});

	reader->in_variable = false;
	if (!good)
		return false;
	if (!take(reader, '}'))
		return fail(reader, "has a { without its }");
	variable.count = (uint8_t)(template->segment_count - variable.first);
	variable.is_one =
		variable.count == 1 && template->segments[variable.first].kind == TEMPLATE_ONE;
	return add_variable(reader, variable);
}

static bool read_segment(struct reader *reader)
{
	struct template_segment segment = {.kind = TEMPLATE_LITERAL};

	if (take(reader, '{'))
		return read_variable(reader);
	if (take(reader, '*'))
		segment.kind = take(reader, '*') ? TEMPLATE_REST : TEMPLATE_ONE;
	else if (!take_literal(reader, &segment.literal))
		return false;
	return add_segment(reader, segment);
}

static bool read_segments(struct reader *reader)
{
	do {
		if (!read_segment(reader))
			return false;
	} while (take(reader, '/'));
	return true;
}

static bool read_template(struct reader *reader)
{
	if (!take(reader, '/'))
		return fail(reader, "does not begin with /");
	if (reader->left.len == 0)
		return true; /* "/" alone */
	if (!read_segments(reader))
		return false;
	if (take(reader, ':') && !take_literal(reader, &reader->template->verb))
		return false;
	return reader->left.len == 0 || fail(reader, "has a byte that no segment may have");
}

int template_parse(struct span text, struct template *template, const char **why)
{
	struct reader reader = {.left = text, .template = template};

	*template = (struct template){0};
	if (read_template(&reader))
		return 0;
	*why = reader.why;
	return -EINVAL;
}
