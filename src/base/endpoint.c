#include "base/endpoint.h"

#include "base/explain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#define LABEL_MAX 63 /* RFC 1035 §2.3.4 */

static bool parse_port(struct span text, uint16_t *port)
{
	uint64_t value;

	if (text.len > 5 || !span_to_uint64(text, &value) || value > UINT16_MAX)
		return false;
	*port = (uint16_t)value;
	return true;
}

static bool label_byte(uint8_t byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

/*
 * Labels of letters, digits, '-' and '_'. Sets whether the last one is a number: then it cannot be
 * a name.
 */
static bool name_is_valid(struct span name, bool *ends_in_number)
{
	size_t label_len = 0;

	*ends_in_number = true;
	for (size_t i = 0; i < name.len; i++) {
		uint8_t byte = name.data[i];

		if (byte == '.') {
			if (label_len == 0)
				return false;
			if (i + 1 == name.len)
				return true; /* the root's dot: an absolute name, which resolvers
						treat apart */
			label_len = 0;
			*ends_in_number = true;
			continue;
		}
		if (!label_byte(byte) || ++label_len > LABEL_MAX)
			return false;
		if (byte < '0' || byte > '9')
			*ends_in_number = false;
	}
	return label_len > 0;
}

static int parse_host(struct span host, struct endpoint *endpoint)
{
	bool ends_in_number;
	struct in_addr v4;

	if (host.len > ENDPOINT_HOST_MAX || !name_is_valid(host, &ends_in_number))
		return -EINVAL;
	memcpy(endpoint->host, host.data, host.len);
	if (ends_in_number && inet_pton(AF_INET, endpoint->host, &v4) != 1)
		return -EINVAL;
	return 0;
}

static int parse_v6(struct span host, struct endpoint *endpoint)
{
	struct in6_addr v6;

	if (host.len > ENDPOINT_HOST_MAX || (host.len > 0 && memchr(host.data, 0, host.len)))
		return -EINVAL;
	if (host.len > 0)
		memcpy(endpoint->host, host.data, host.len);
	return inet_pton(AF_INET6, endpoint->host, &v6) == 1 ? 0 : -EINVAL;
}

static int parse_unix(struct span path, struct endpoint *endpoint)
{
	if (path.len < 2 || path.len > ENDPOINT_PATH_MAX || path.data[0] != '/' ||
	    memchr(path.data, 0, path.len))
		return -EINVAL;
	memcpy(endpoint->path, path.data, path.len);
	endpoint->kind = ENDPOINT_UNIX;
	return 0;
}

int endpoint_parse(struct span text, struct endpoint *endpoint)
{
	*endpoint = (struct endpoint){.kind = ENDPOINT_HOST};
	if (span_starts_with(text, SPAN("unix:")))
		return parse_unix(span_from(text, 5), endpoint);
	if (text.len == 0)
		return -EINVAL;
	if (text.data[0] == '[') {
		ptrdiff_t end = span_find_byte(text, ']');

		if (end < 0 || (size_t)end + 1 >= text.len || text.data[end + 1] != ':' ||
		    !parse_port(span_from(text, (size_t)end + 2), &endpoint->port))
			return -EINVAL;
		return parse_v6(span_make(text.data + 1, (size_t)end - 1), endpoint);
	}

	ptrdiff_t colon = span_find_byte(text, ':');

	if (colon < 0 || !parse_port(span_from(text, (size_t)colon + 1), &endpoint->port))
		return -EINVAL;
	if (colon == 0) {
		endpoint->kind = ENDPOINT_ANY;
		return 0;
	}
	return parse_host(span_first(text, (size_t)colon), endpoint);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->kind == b->kind && a->port == b->port && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->path, b->path) == 0;
}

size_t endpoint_format(const struct endpoint *endpoint, char text[ENDPOINT_TEXT_MAX])
{
	int len = 0;

	switch (endpoint->kind) {
	case ENDPOINT_ANY:
		len = snprintf(text, ENDPOINT_TEXT_MAX, ":%u", endpoint->port);
		break;
	case ENDPOINT_HOST:
		len = snprintf(text, ENDPOINT_TEXT_MAX,
			       strchr(endpoint->host, ':') ? "[%s]:%u" : "%s:%u", endpoint->host,
			       endpoint->port);
		break;
	case ENDPOINT_UNIX:
		len = snprintf(text, ENDPOINT_TEXT_MAX, "unix:%s", endpoint->path);
		break;
	}
	return (size_t)len;
}

const char *endpoint_error_text(const struct endpoint *endpoint, int error)
{
	if (endpoint->kind == ENDPOINT_HOST && error == -ENOENT)
		return "no such host";
	if (endpoint->kind == ENDPOINT_HOST && error == -EIO)
		return "no name server gave an answer";
	return errno_text(-error);
}
