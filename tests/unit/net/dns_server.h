/* dns_server: a name server on a loopback port, answered from a table between two turns. */
#ifndef UNIT_NET_DNS_SERVER_H
#define UNIT_NET_DNS_SERVER_H

#include "unit/net/harness.h"

#include <arpa/inet.h>
#include <strings.h>

struct dns_row {
	const char *name;
	uint16_t type; /* 1: A, 28: AAAA */
	uint8_t rcode; /* 3: no such name, 2: failure */
	bool silent;
	const char *addresses[20];
};

struct dns_server {
	int fd;
	uint16_t port;
	const struct dns_row *rows;
	size_t row_count;
	int asked;
};

__attribute__((unused)) static void dns_server_open(struct dns_server *server,
						    const struct dns_row *rows, size_t row_count)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	*server = (struct dns_server){.rows = rows, .row_count = row_count};
	server->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(server->fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(server->fd, (struct sockaddr *)&address, &len), 0);
	server->port = ntohs(address.sin_port);
}

/* Returns the question's length in `packet`, with its dotted name and type. */
__attribute__((unused)) static size_t dns_question(const uint8_t *packet, size_t len,
						   char name[256], uint16_t *type)
{
	size_t at = 12, out = 0;

	while (at < len && packet[at] != 0) {
		size_t label = packet[at++];

		assert_true(at + label < len && out + label + 2 < 256);
		if (out > 0)
			name[out++] = '.';
		memcpy(name + out, packet + at, label);
		out += label;
		at += label;
	}
	name[out] = 0;
	assert_true(at + 5 <= len);
	*type = (uint16_t)(packet[at + 1] << 8 | packet[at + 2]);
	return at + 5 - 12;
}

static inline size_t dns_add_record(uint8_t *out, uint16_t type, const char *text)
{
	uint8_t bytes[16];
	size_t len = type == 1 ? 4 : 16;
	const uint8_t head[] = {0xc0, 12, 0, (uint8_t)type, 0, 1, 0, 0, 0, 60, 0, (uint8_t)len};

	assert_int_equal(inet_pton(type == 1 ? AF_INET : AF_INET6, text, bytes), 1);
	memcpy(out, head, sizeof(head));
	memcpy(out + sizeof(head), bytes, len);
	return sizeof(head) + len;
}

/*
 * Answers what has been asked. Unknown names do not exist; a known name has no records of other
 * types.
 */
__attribute__((unused)) static void dns_server_serve(struct dns_server *server)
{
	uint8_t packet[2048];
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	ssize_t got;

	while ((got = recvfrom(server->fd, packet, 512, 0, (struct sockaddr *)&from, &from_len)) >
	       0) {
		const struct dns_row *found = NULL;
		char name[256];
		uint16_t type;
		size_t len = 12 + dns_question(packet, (size_t)got, name, &type);
		uint8_t count = 0, rcode = 3;

		server->asked++;
		for (size_t i = 0; i < server->row_count; i++) {
			if (strcasecmp(server->rows[i].name, name) != 0)
				continue;
			rcode = 0;
			if (server->rows[i].type == type || server->rows[i].type == 0)
				found = &server->rows[i];
		}
		if (found && found->silent)
			continue;
		if (found) {
			rcode = found->rcode;
			for (; found->addresses[count]; count++)
				len += dns_add_record(packet + len, type, found->addresses[count]);
		}
		packet[2] = 0x85; /* answer, authoritative, recursion as asked */
		packet[3] = (uint8_t)(0x80 | rcode);
		memset(packet + 4, 0, 8);
		packet[5] = 1;
		packet[7] = count;
		sendto(server->fd, packet, len, 0, (struct sockaddr *)&from, from_len);
	}
}

/* "127.0.0.1:port" for dns_set_servers. */
__attribute__((unused)) static const char *dns_server_text(const struct dns_server *server,
							   char text[32])
{
	snprintf(text, 32, "127.0.0.1:%u", server->port);
	return text;
}

#endif
