#include "base/cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#define V4_BYTES     4
#define V6_BYTES     16
#define MAPPED_BYTES 12 /* ::ffff:0:0/96 */

/* Returns the address's bytes, or 0. */
static uint8_t parse_address(struct span text, uint8_t bytes[CIDR_BYTES_MAX])
{
	char copy[INET6_ADDRSTRLEN];

	if (text.len == 0 || text.len >= sizeof(copy) || span_find_byte(text, '\0') >= 0)
		return 0;
	memcpy(copy, text.data, text.len);
	copy[text.len] = '\0';
	if (inet_pton(AF_INET, copy, bytes) == 1)
		return V4_BYTES;
	return inet_pton(AF_INET6, copy, bytes) == 1 ? V6_BYTES : 0;
}

static uint8_t mask_of(const struct cidr *cidr, size_t byte)
{
	size_t before = byte * 8;

	if (cidr->bits <= before)
		return 0;
	if (cidr->bits >= before + 8)
		return 0xff;
	return (uint8_t)(0xff << (8 - (cidr->bits - before)));
}

static void unmap(struct cidr *cidr)
{
	static const uint8_t mapped[MAPPED_BYTES] = {[10] = 0xff, [11] = 0xff};

	if (cidr->len != V6_BYTES || cidr->bits < MAPPED_BYTES * 8 ||
	    memcmp(cidr->bytes, mapped, sizeof(mapped)) != 0)
		return;
	memmove(cidr->bytes, cidr->bytes + MAPPED_BYTES, V4_BYTES);
	memset(cidr->bytes + V4_BYTES, 0, MAPPED_BYTES);
	cidr->len = V4_BYTES;
	cidr->bits = (uint8_t)(cidr->bits - MAPPED_BYTES * 8);
}

int cidr_parse(struct span text, struct cidr *cidr)
{
	ptrdiff_t slash = span_find_byte(text, '/');
	struct cidr parsed = {0};
	uint64_t bits;

	parsed.len =
		parse_address(slash < 0 ? text : span_first(text, (size_t)slash), parsed.bytes);
	bits = (uint64_t)parsed.len * 8;
	if (parsed.len == 0)
		return -EINVAL;
	if (slash >= 0 && (!span_to_uint64(span_from(text, (size_t)slash + 1), &bits) ||
			   bits > (uint64_t)parsed.len * 8))
		return -EINVAL;
	parsed.bits = (uint8_t)bits;
	for (size_t i = 0; i < parsed.len; i++)
		if ((parsed.bytes[i] & ~mask_of(&parsed, i)) != 0)
			return -EINVAL;
	unmap(&parsed);
	*cidr = parsed;
	return 0;
}

bool cidr_contains(const struct cidr *cidr, struct span address)
{
	if (address.len != cidr->len)
		return false;
	for (size_t i = 0; i < cidr->len; i++)
		if (((address.data[i] ^ cidr->bytes[i]) & mask_of(cidr, i)) != 0)
			return false;
	return true;
}

size_t cidr_format(const struct cidr *cidr, char text[CIDR_TEXT_MAX])
{
	char address[INET6_ADDRSTRLEN] = "";

	inet_ntop(cidr->len == V4_BYTES ? AF_INET : AF_INET6, cidr->bytes, address,
		  sizeof(address));
	return (size_t)snprintf(text, CIDR_TEXT_MAX, "%s/%u", address, cidr->bits);
}
