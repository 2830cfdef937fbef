#include "net/address.h"

#include "base/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

struct address address_make(const struct sockaddr_storage *storage, socklen_t len)
{
	struct address address = {0};

	if (len >= sizeof(sa_family_t) && len <= sizeof(*storage)) {
		memcpy(&address.storage, storage, len);
		address.len = len;
	}
	return address;
}

bool address_from_text(struct address *address, const char *host, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	*address = (struct address){0};
	if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
		memcpy(&address->storage, &v4, sizeof(v4));
		address->len = sizeof(v4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
		memcpy(&address->storage, &v6, sizeof(v6));
		address->len = sizeof(v6);
		return true;
	}
	return false;
}

struct address address_from_path(const char *path)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct address address = {.len = sizeof(local)};
	size_t len = strlen(path);

	CHECK(len > 0 && len < sizeof(local.sun_path));
	memcpy(local.sun_path, path, len);
	memcpy(&address.storage, &local, sizeof(local));
	return address;
}

/* Copied out, because the storage may not be read as another type. Returns false if it is none. */
static bool get_v4(const struct address *address, struct in_addr *v4, uint16_t *port)
{
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;

	if (address->len >= sizeof(in4) && address->storage.ss_family == AF_INET) {
		memcpy(&in4, &address->storage, sizeof(in4));
		*v4 = in4.sin_addr;
		*port = ntohs(in4.sin_port);
		return true;
	}
	if (address->len < sizeof(in6) || address->storage.ss_family != AF_INET6)
		return false;
	memcpy(&in6, &address->storage, sizeof(in6));
	if (!IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
		return false;
	memcpy(v4, &in6.sin6_addr.s6_addr[12], sizeof(*v4));
	*port = ntohs(in6.sin6_port);
	return true;
}

static bool get_v6(const struct address *address, struct in6_addr *v6, uint16_t *port)
{
	struct sockaddr_in6 in6;

	if (address->len < sizeof(in6) || address->storage.ss_family != AF_INET6)
		return false;
	memcpy(&in6, &address->storage, sizeof(in6));
	*v6 = in6.sin6_addr;
	*port = ntohs(in6.sin6_port);
	return true;
}

static bool is_unix(const struct address *address)
{
	return address->len >= sizeof(sa_family_t) && address->storage.ss_family == AF_UNIX;
}

size_t address_format(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN];
	struct in_addr v4;
	struct in6_addr v6;
	uint16_t port;
	int len;

	if (get_v4(address, &v4, &port))
		len = snprintf(text, ADDRESS_TEXT_MAX, "%s:%u",
			       inet_ntop(AF_INET, &v4, host, sizeof(host)), port);
	else if (get_v6(address, &v6, &port))
		len = snprintf(text, ADDRESS_TEXT_MAX, "[%s]:%u",
			       inet_ntop(AF_INET6, &v6, host, sizeof(host)), port);
	else
		len = snprintf(text, ADDRESS_TEXT_MAX, is_unix(address) ? "unix" : "unknown");
	return (size_t)len;
}

size_t address_budget_key(const struct address *address, uint8_t key[ADDRESS_KEY_MAX])
{
	struct in_addr v4;
	struct in6_addr v6;
	uint16_t port;

	if (get_v4(address, &v4, &port)) {
		memcpy(key, &v4, sizeof(v4));
		return sizeof(v4);
	}
	if (get_v6(address, &v6, &port)) {
		memcpy(key, v6.s6_addr, ADDRESS_KEY_MAX);
		return ADDRESS_KEY_MAX;
	}
	return 0;
}

size_t address_ip(const struct address *address, uint8_t bytes[ADDRESS_IP_MAX])
{
	struct in_addr v4;
	struct in6_addr v6;
	uint16_t port;

	if (get_v4(address, &v4, &port)) {
		memcpy(bytes, &v4, sizeof(v4));
		return sizeof(v4);
	}
	if (get_v6(address, &v6, &port)) {
		memcpy(bytes, &v6, sizeof(v6));
		return sizeof(v6);
	}
	return 0;
}

struct address address_from_ip(struct span bytes, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct address address = {0};

	CHECK(bytes.len == sizeof(v4.sin_addr) || bytes.len == sizeof(v6.sin6_addr));
	if (bytes.len == sizeof(v4.sin_addr)) {
		memcpy(&v4.sin_addr, bytes.data, bytes.len);
		memcpy(&address.storage, &v4, sizeof(v4));
		address.len = sizeof(v4);
	} else {
		memcpy(&v6.sin6_addr, bytes.data, bytes.len);
		memcpy(&address.storage, &v6, sizeof(v6));
		address.len = sizeof(v6);
	}
	return address;
}

bool address_is_loopback(const struct address *address)
{
	struct in_addr v4;
	struct in6_addr v6;
	uint16_t port;

	if (get_v4(address, &v4, &port))
		return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
	if (get_v6(address, &v6, &port))
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return is_unix(address);
}

uint16_t address_port(const struct address *address)
{
	struct in_addr v4;
	struct in6_addr v6;
	uint16_t port;

	return get_v4(address, &v4, &port) || get_v6(address, &v6, &port) ? port : 0;
}

void address_set_port(struct address *address, uint16_t port)
{
	/* Both have the port in network order behind the family. */
	_Static_assert(offsetof(struct sockaddr_in, sin_port) ==
			       offsetof(struct sockaddr_in6, sin6_port),
		       "one offset for both");
	const uint16_t wire = htons(port);

	if (address->len > 0 &&
	    (address->storage.ss_family == AF_INET || address->storage.ss_family == AF_INET6))
		memcpy((char *)&address->storage + offsetof(struct sockaddr_in, sin_port), &wire,
		       sizeof(wire));
}
