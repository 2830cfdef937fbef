#include "config/option.h"

#include "base/arena.h"
#include "base/check.h"
#include "base/vault.h"
#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const struct option_row option_rows[] = {
#define OPTION(field_, kind_, variable_, fallback_, min_, max_, flags_, help_) \
	{ .variable = variable_,                                               \
	  .fallback = fallback_,                                               \
	  .help = help_,                                                       \
	  .kind = OPTION_KIND_##kind_,                                         \
	  .flags = flags_,                                                     \
	  .min = min_,                                                         \
	  .max = max_,                                                         \
	  .offset = offsetof(struct config, field_) },
#include "config/option.def"
#undef OPTION
};

/* The words of an enum, in the order of its values. */
struct words {
	const char *const *names;
	size_t count;
};

static struct words words_of(enum option_kind kind)
{
	static const char *const levels[] = { "debug", "info", "warn", "error" };
	static const char *const formats[] = { "json", "text" };
	static const char *const access[] = { "off", "errors", "all" };

	switch (kind) {
	case OPTION_KIND_LEVEL:
		return (struct words){ levels, ARRAY_LEN(levels) };
	case OPTION_KIND_FORMAT:
		return (struct words){ formats, ARRAY_LEN(formats) };
	case OPTION_KIND_ACCESS:
		return (struct words){ access, ARRAY_LEN(access) };
	default:
		return (struct words){ NULL, 0 };
	}
}

size_t option_count(void)
{
	return ARRAY_LEN(option_rows);
}

const struct option_row *option_row(size_t i)
{
	CHECK(i < ARRAY_LEN(option_rows));
	return &option_rows[i];
}

static void *field_of(const struct option_row *row, struct config *config)
{
	return (char *)config + row->offset;
}

static const void *field_in(const struct option_row *row, const struct config *config)
{
	return (const char *)config + row->offset;
}

static bool has_control(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < 0x20 || text.data[i] == 0x7f)
			return true;
	}
	return false;
}

/* A secret has pages of its own; an empty one is none. */
static int set_secret(const char **field, struct span text)
{
	char *copy = text.len > 0 ? vault_alloc(text.len + 1) : NULL;

	if (text.len > 0 && !copy)
		return -ENOMEM;
	if (copy)
		memcpy(copy, text.data, text.len);
	*field = copy ? copy : "";
	return 0;
}

static int set_string(const struct option_row *row, struct config *config, struct span text,
		      struct report *report)
{
	bool secret = row->kind == OPTION_KIND_SECRET;

	if (text.len < row->min || text.len > row->max) {
		report_mistake(report, row->variable, "must have %" PRIu64 " to %" PRIu64 " bytes",
			       row->min, row->max);
		return -EINVAL;
	}
	if (secret ? span_find_byte(text, '\0') >= 0 : has_control(text)) {
		report_mistake(report, row->variable, "must not contain %s",
			       secret ? "NUL" : "control characters");
		return -EINVAL;
	}

	if (secret) {
		option_forget(row, config);
		return set_secret(field_of(row, config), text);
	}

	struct span copy = arena_copy(config->memory, text);

	if (!copy.data)
		return -ENOMEM;
	*(const char **)field_of(row, config) = (const char *)copy.data;
	return 0;
}

int option_check_dialed(const struct endpoint *endpoint, const char *where, struct report *report)
{
	const char *wrong = NULL;

	if (endpoint->kind == ENDPOINT_ANY)
		wrong = "needs a host before the port";
	else if (endpoint->kind == ENDPOINT_HOST && endpoint->port == 0)
		wrong = "port 0 cannot be connected to";
	if (!wrong)
		return 0;
	report_mistake(report, where, "%s", wrong);
	return -EINVAL;
}

static int set_endpoint(const struct option_row *row, struct config *config, struct span text,
			struct report *report)
{
	struct config_endpoint value = { .set = text.len > 0 };

	if (value.set && endpoint_parse(text, &value.endpoint) != 0) {
		report_mistake(report, row->variable,
			       "%s is no address (host:port, [v6]:port, %sunix:/path)",
			       quoted_make(text).text, row->flags & OPTION_DIALED ? "" : ":port, ");
		return -EINVAL;
	}
	if (value.set && (row->flags & OPTION_DIALED) &&
	    option_check_dialed(&value.endpoint, row->variable, report) != 0)
		return -EINVAL;
	*(struct config_endpoint *)field_of(row, config) = value;
	return 0;
}

static int set_url(const struct option_row *row, struct config *config, struct span text,
		   struct report *report)
{
	struct config_url value;
	const char *why;

	if (url_parse(text, &value, &why) != 0) {
		/* user information is a secret, and its place a guess in what did not parse */
		if (span_find_byte(text, '@') >= 0)
			report_mistake(report, row->variable, "%s", why);
		else
			report_mistake(report, row->variable, "%s %s", quoted_make(text).text, why);
		return -EINVAL;
	}
	*(struct config_url *)field_of(row, config) = value;
	return 0;
}

/* Every range that is wrong is told. Returns -EINVAL if one was. */
static int parse_cidrs(const struct option_row *row, struct span text, struct cidr *items,
		       struct report *report)
{
	int result = 0;

	for (size_t i = 0;; i++) {
		ptrdiff_t comma = span_find_byte(text, ',');
		struct span item = span_trim(comma < 0 ? text : span_first(text, (size_t)comma));

		if (cidr_parse(item, &items[i]) != 0) {
			report_mistake(report, row->variable,
				       "%s is no address range (10.0.0.0/8, fd00::/8, 192.0.2.7)",
				       quoted_make(item).text);
			result = -EINVAL;
		}
		if (comma < 0)
			return result;
		text = span_from(text, (size_t)comma + 1);
	}
}

static int set_cidrs(const struct option_row *row, struct config *config, struct span text,
		     struct report *report)
{
	struct config_cidrs value = { .count = text.len > 0 ? 1 : 0 };

	for (size_t i = 0; i < text.len; i++)
		value.count += text.data[i] == ',';
	if (value.count > CIDRS_MAX) {
		report_mistake(report, row->variable, "has more than %d address ranges", CIDRS_MAX);
		return -EINVAL;
	}
	if (value.count > 0) {
		struct cidr *items = arena_alloc(config->memory, value.count * sizeof(*items));

		if (!items)
			return -ENOMEM;
		if (parse_cidrs(row, text, items, report) != 0)
			return -EINVAL;
		value.items = items;
	}
	*(struct config_cidrs *)field_of(row, config) = value;
	return 0;
}

static int parse_number(const struct option_row *row, struct span text, uint64_t *value)
{
	if (row->kind == OPTION_KIND_DURATION)
		return value_parse_duration(text, value);
	if (row->kind == OPTION_KIND_SIZE)
		return value_parse_size(text, value);
	return span_to_uint64(text, value) ? 0 : -EINVAL;
}

static struct value_text format_number(const struct option_row *row, uint64_t value)
{
	if (row->kind == OPTION_KIND_DURATION)
		return value_format_duration(value);
	if (row->kind == OPTION_KIND_SIZE)
		return value_format_size(value);

	struct value_text out;

	snprintf(out.text, sizeof(out.text), "%" PRIu64, value);
	return out;
}

static int set_number(const struct option_row *row, struct config *config, struct span text,
		      struct report *report)
{
	const char *form = row->kind == OPTION_KIND_DURATION ? "duration (250ms, 5s, 1m30s, 0)"
			   : row->kind == OPTION_KIND_SIZE ? "size (bytes, KiB, MiB, GiB)"
							   : "whole number";
	uint64_t value;
	int error = parse_number(row, text, &value);

	if (error == -EINVAL) {
		report_mistake(report, row->variable, "%s is no %s", quoted_make(text).text, form);
		return -EINVAL;
	}
	if (error || value < row->min || value > row->max) {
		report_mistake(report, row->variable, "%s is not between %s and %s",
			       quoted_make(text).text, format_number(row, row->min).text,
			       format_number(row, row->max).text);
		return -EINVAL;
	}
	if ((row->flags & OPTION_POWER_OF_TWO) && (value & (value - 1)) != 0) {
		report_mistake(report, row->variable, "%s is no power of two",
			       quoted_make(text).text);
		return -EINVAL;
	}
	*(uint64_t *)field_of(row, config) = value;
	return 0;
}

static int set_bool(const struct option_row *row, struct config *config, struct span text,
		    struct report *report)
{
	if (value_parse_bool(text, field_of(row, config)) == 0)
		return 0;
	report_mistake(report, row->variable, "%s is none of true, false, 1, 0",
		       quoted_make(text).text);
	return -EINVAL;
}

static int set_word(const struct option_row *row, struct config *config, struct span text,
		    struct report *report)
{
	struct words words = words_of(row->kind);
	struct buf list;
	size_t i = 0;

	while (i < words.count && !span_equal(span_from_cstr(words.names[i]), text))
		i++;
	if (i == words.count) {
		buf_init(&list, QUOTED_MAX);
		option_write_range(row, &list);
		report_mistake(report, row->variable, "%s is not %.*s", quoted_make(text).text,
			       SPAN_ARGS(buf_span(&list)));
		buf_finish(&list);
		return -EINVAL;
	}
	if (row->kind == OPTION_KIND_LEVEL)
		*(enum log_level *)field_of(row, config) = (enum log_level)i;
	else if (row->kind == OPTION_KIND_FORMAT)
		*(enum log_format *)field_of(row, config) = (enum log_format)i;
	else
		*(enum access_log *)field_of(row, config) = (enum access_log)i;
	return 0;
}

int option_set(const struct option_row *row, struct config *config, struct span text,
	       struct report *report)
{
	switch (row->kind) {
	case OPTION_KIND_STRING:
	case OPTION_KIND_SECRET:
		return set_string(row, config, text, report);
	case OPTION_KIND_ENDPOINT:
		return set_endpoint(row, config, text, report);
	case OPTION_KIND_URL:
		return set_url(row, config, text, report);
	case OPTION_KIND_CIDRS:
		return set_cidrs(row, config, text, report);
	case OPTION_KIND_DURATION:
	case OPTION_KIND_SIZE:
	case OPTION_KIND_COUNT:
		return set_number(row, config, text, report);
	case OPTION_KIND_BOOL:
		return set_bool(row, config, text, report);
	case OPTION_KIND_LEVEL:
	case OPTION_KIND_FORMAT:
	case OPTION_KIND_ACCESS:
		return set_word(row, config, text, report);
	}
	UNREACHABLE("every kind has a row above");
}

const char *option_string(const struct option_row *row, const struct config *config)
{
	CHECK(row->kind == OPTION_KIND_STRING || row->kind == OPTION_KIND_SECRET);
	return *(const char *const *)field_in(row, config);
}

void option_forget(const struct option_row *row, struct config *config)
{
	const char **field = field_of(row, config);

	CHECK(row->kind == OPTION_KIND_SECRET);
	if (*field && **field)
		vault_free((void *)(uintptr_t)*field);
	*field = NULL;
}

bool option_is_filled(const struct option_row *row, const struct config *config)
{
	if (row->kind == OPTION_KIND_ENDPOINT)
		return ((const struct config_endpoint *)field_in(row, config))->set;
	if (row->kind == OPTION_KIND_URL)
		return ((const struct config_url *)field_in(row, config))->set;
	if (row->kind == OPTION_KIND_STRING || row->kind == OPTION_KIND_SECRET)
		return option_string(row, config)[0] != '\0';
	return true;
}

static size_t word_index(const struct option_row *row, const void *field)
{
	if (row->kind == OPTION_KIND_LEVEL)
		return (size_t)*(const enum log_level *)field;
	if (row->kind == OPTION_KIND_FORMAT)
		return (size_t)*(const enum log_format *)field;
	return (size_t)*(const enum access_log *)field;
}

static void write_endpoint(const struct config_endpoint *value, struct buf *out)
{
	char address[ENDPOINT_TEXT_MAX];

	if (value->set)
		buf_append(out, span_make(address, endpoint_format(&value->endpoint, address)));
}

static void write_url(const struct config_url *value, struct buf *out)
{
	char text[URL_TEXT_MAX];

	buf_append(out, span_make(text, url_format(value, text)));
}

static void write_cidrs(const struct config_cidrs *value, struct buf *out)
{
	char text[CIDR_TEXT_MAX];

	for (size_t i = 0; i < value->count; i++) {
		if (i > 0)
			buf_append_byte(out, ',');
		buf_append(out, span_make(text, cidr_format(&value->items[i], text)));
	}
}

void option_write_value(const struct option_row *row, const struct config *config, struct buf *out)
{
	const void *field = field_in(row, config);

	switch (row->kind) {
	case OPTION_KIND_STRING:
		buf_append(out, span_from_cstr(option_string(row, config)));
		break;
	case OPTION_KIND_SECRET:
		if (option_is_filled(row, config))
			buf_append(out, SPAN("********")); /* the same for every length */
		break;
	case OPTION_KIND_ENDPOINT:
		write_endpoint(field, out);
		break;
	case OPTION_KIND_URL:
		write_url(field, out);
		break;
	case OPTION_KIND_CIDRS:
		write_cidrs(field, out);
		break;
	case OPTION_KIND_DURATION:
	case OPTION_KIND_SIZE:
	case OPTION_KIND_COUNT:
		buf_printf(out, "%s", format_number(row, *(const uint64_t *)field).text);
		break;
	case OPTION_KIND_BOOL:
		buf_printf(out, "%s", *(const bool *)field ? "true" : "false");
		break;
	case OPTION_KIND_LEVEL:
	case OPTION_KIND_FORMAT:
	case OPTION_KIND_ACCESS:
		buf_printf(out, "%s", words_of(row->kind).names[word_index(row, field)]);
		break;
	}
}

void option_write_range(const struct option_row *row, struct buf *out)
{
	struct words words = words_of(row->kind);

	for (size_t i = 0; i < words.count; i++) {
		const char *before = i == 0 ? "" : i + 1 == words.count ? " or " : ", ";

		buf_printf(out, "%s%s", before, words.names[i]);
	}
	switch (row->kind) {
	case OPTION_KIND_BOOL:
		buf_append(out, SPAN("true or false"));
		break;
	case OPTION_KIND_DURATION:
	case OPTION_KIND_SIZE:
	case OPTION_KIND_COUNT:
		buf_printf(out, "%s to %s%s", format_number(row, row->min).text,
			   format_number(row, row->max).text,
			   row->flags & OPTION_POWER_OF_TWO ? ", a power of two" : "");
		break;
	default:
		break;
	}
}
