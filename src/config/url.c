#include "config/url.h"

#include <errno.h>
#include <stdio.h>

#define PORT_DEFAULT 80

static bool has_scheme(struct span text, struct span scheme)
{
	return text.len >= scheme.len && span_equal_nocase(span_first(text, scheme.len), scheme);
}

static bool is_hex_digit(uint8_t byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') ||
	       (byte >= 'A' && byte <= 'F');
}

/* What may stand in a path. RFC 3986 §3.3 */
static bool is_path(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = text.data[i];

		if (byte == '%' && (text.len - i < 3 || !is_hex_digit(text.data[i + 1]) ||
				    !is_hex_digit(text.data[i + 2])))
			return false;
		if (byte <= 0x20 || byte >= 0x7f || memchr("\"<>\\^`{|}", byte, 9))
			return false;
	}
	return true;
}

/* "." and ".." would name another place than they seem to. */
static bool has_dot_segment(struct span path)
{
	while (path.len > 0) {
		struct span rest = span_from(path, 1);
		ptrdiff_t end = span_find_byte(rest, '/');
		struct span segment = end < 0 ? rest : span_first(rest, (size_t)end);

		if (span_equal(segment, SPAN(".")) || span_equal(segment, SPAN("..")))
			return true;
		path = span_from(rest, segment.len);
	}
	return false;
}

static const char *parse_authority(struct span text, struct endpoint *endpoint)
{
	static const char wrong[] = "has no host, or a bad one: http://host[:port][/path]";
	char whole[ENDPOINT_TEXT_MAX];
	bool has_port = span_find_byte(text, ':') >= 0;

	if (text.len > 0 && text.data[0] == '[')
		has_port = text.data[text.len - 1] != ']';
	if (span_find_byte(text, '@') >= 0)
		return "has user information, which is not supported";
	if (text.len == 0 || text.len > ENDPOINT_HOST_MAX + 8 || span_find_byte(text, '\0') >= 0)
		return wrong;

	int len = snprintf(whole, sizeof(whole), has_port ? "%.*s" : "%.*s:80", SPAN_ARGS(text));

	if (endpoint_parse(span_make(whole, (size_t)len), endpoint) != 0 ||
	    endpoint->kind != ENDPOINT_HOST)
		return wrong;
	return endpoint->port == 0 ? "has port 0, which cannot be connected to" : NULL;
}

static const char *parse(struct span text, struct config_url *url)
{
	struct span scheme = SPAN("http://");
	size_t end = 0;

	if (has_scheme(text, SPAN("https:")))
		return "is https, which is not spoken to services: use http, or a TLS proxy beside "
		       "the service";
	if (!has_scheme(text, scheme))
		return "is no http://host[:port][/path]";
	text = span_from(text, scheme.len);
	if (span_find_byte(text, '?') >= 0 || span_find_byte(text, '#') >= 0)
		return "has a query or a fragment, which a base URL cannot have";
	while (end < text.len && text.data[end] != '/')
		end++;

	struct span path = span_from(text, end);
	const char *why = parse_authority(span_first(text, end), &url->endpoint);

	while (path.len > 0 && path.data[path.len - 1] == '/')
		path.len--;
	if (why)
		return why;
	if (path.len > URL_PATH_MAX)
		return "has a path of more than 512 bytes";
	if (!is_path(path) || has_dot_segment(path))
		return "has a bad path";
	if (path.len > 0)
		memcpy(url->path, path.data, path.len);
	return NULL;
}

int url_parse(struct span text, struct config_url *url, const char **why)
{
	*url = (struct config_url){.set = text.len > 0};
	*why = text.len > 0 ? parse(text, url) : NULL;
	return *why ? -EINVAL : 0;
}

size_t url_format(const struct config_url *url, char text[URL_TEXT_MAX])
{
	char address[ENDPOINT_TEXT_MAX];

	text[0] = '\0';
	if (!url->set)
		return 0;
	endpoint_format(&url->endpoint, address);
	if (url->endpoint.port == PORT_DEFAULT)
		*strrchr(address, ':') = '\0';
	return (size_t)snprintf(text, URL_TEXT_MAX, "http://%s%s", address, url->path);
}
