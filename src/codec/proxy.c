#include "codec/proxy.h"

#include <errno.h>

/*
 *   0 … 11  signature
 *   12      version (high half), command (low half)
 *   13      family (high half), transport (low half)
 *   14, 15  length of what follows: addresses, then TLVs
 */
#define SIGNATURE_BYTES 12
#define HEAD_BYTES	16
#define TLV_HEAD_BYTES	3
#define CRC_BYTES	4

#define VERSION_2	  2
#define TYPE_CRC32C	  0x03
#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected: RFC 3720 §12.1 */

enum command { COMMAND_LOCAL, COMMAND_PROXY, COMMAND_COUNT };
enum transport { TRANSPORT_UNSPEC, TRANSPORT_STREAM, TRANSPORT_DGRAM, TRANSPORT_COUNT };

static const uint8_t signature[SIGNATURE_BYTES] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
						   0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

/* By the family's number. Source and destination address, then both ports. */
static const struct family {
	enum proxy_source source;
	uint8_t address_bytes; /* of one address, as far as it is kept */
	uint8_t port_at;       /* of the source's */
	uint16_t block_bytes;
} families[] = {
	{PROXY_NONE, 0, 0, 0},
	{PROXY_V4, 4, 8, 12},
	{PROXY_V6, 16, 32, 36},
	{PROXY_UNIX, 0, 0, 216},
};
#define FAMILY_COUNT (sizeof(families) / sizeof(families[0]))

static size_t get_u16(const uint8_t *at)
{
	return (size_t)at[0] << 8 | at[1];
}

static uint32_t crc32c_add(uint32_t crc, uint8_t byte)
{
	crc ^= byte;
	for (unsigned bit = 0; bit < 8; bit++)
		crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
	return crc;
}

/* Over the whole header, with the checksum's own bytes (at `at`) as zeros. */
static bool crc_is_right(struct span header, size_t at)
{
	uint32_t crc = UINT32_MAX, wanted = 0;

	for (size_t i = 0; i < header.len; i++)
		crc = crc32c_add(crc, i >= at && i < at + CRC_BYTES ? 0 : header.data[i]);
	for (size_t i = 0; i < CRC_BYTES; i++)
		wanted = wanted << 8 | header.data[at + i];
	return ~crc == wanted;
}

/* The TLVs begin at `at` and end with the header. */
static bool tlvs_are_right(struct span header, size_t at)
{
	while (at < header.len) {
		if (header.len - at < TLV_HEAD_BYTES)
			return false;

		size_t len = get_u16(header.data + at + 1);
		size_t value = at + TLV_HEAD_BYTES;

		if (len > header.len - value)
			return false;
		if (header.data[at] == TYPE_CRC32C &&
		    (len != CRC_BYTES || !crc_is_right(header, value)))
			return false;
		at = value + len;
	}
	return true;
}

/* Whether the first 14 bytes, as far as they are there, can be a header's. */
static bool can_begin(struct span bytes)
{
	size_t known = bytes.len < SIGNATURE_BYTES ? bytes.len : SIGNATURE_BYTES;

	if (known > 0 && memcmp(bytes.data, signature, known) != 0)
		return false;
	if (bytes.len > 12 &&
	    (bytes.data[12] >> 4 != VERSION_2 || (bytes.data[12] & 0xf) >= COMMAND_COUNT))
		return false;
	return bytes.len <= 13 || (bytes.data[12] & 0xf) == COMMAND_LOCAL ||
	       (bytes.data[13] >> 4 < FAMILY_COUNT && (bytes.data[13] & 0xf) < TRANSPORT_COUNT);
}

ptrdiff_t proxy_parse(struct span bytes, struct proxy_header *header)
{
	if (!can_begin(bytes))
		return -EPROTO;
	if (bytes.len < HEAD_BYTES)
		return 0;

	bool is_local = (bytes.data[12] & 0xf) == COMMAND_LOCAL;
	/* What a LOCAL one says of addresses is to be ignored, the family too. */
	const struct family *family = &families[is_local ? 0 : bytes.data[13] >> 4];
	size_t len = HEAD_BYTES + get_u16(bytes.data + 14);

	if (len > PROXY_HEADER_BYTES_MAX)
		return -EMSGSIZE;
	if (len < HEAD_BYTES + (size_t)family->block_bytes)
		return -EPROTO;
	if (bytes.len < len)
		return 0;

	const uint8_t *block = bytes.data + HEAD_BYTES;

	/* Of an unspecified family nothing is known about what lies before the TLVs. */
	if (family->source != PROXY_NONE &&
	    !tlvs_are_right(span_first(bytes, len), HEAD_BYTES + (size_t)family->block_bytes))
		return -EPROTO;
	*header = (struct proxy_header){.source = family->source};
	memcpy(header->address, block, family->address_bytes);
	if (family->address_bytes > 0)
		header->port = (uint16_t)get_u16(block + family->port_at);
	return (ptrdiff_t)len;
}
