/*
 * proxy: the header of the PROXY protocol, version 2, as a load balancer sends it before anything
 * else. Pure. Source: the HAProxy PROXY protocol specification, §2.2.
 */
#ifndef CODEC_PROXY_H
#define CODEC_PROXY_H

#include "base/span.h"

/*
 * Longest header that is taken, TLVs included. The specification would allow 64 KiB; what balancers
 * send has a few hundred bytes.
 */
#define PROXY_HEADER_BYTES_MAX 4096

enum proxy_source {
	PROXY_NONE, /* LOCAL, or an unspecified family: the connection's own peer counts */
	PROXY_V4,
	PROXY_V6,
	PROXY_UNIX, /* the balancer's peer came by a unix socket */
};

struct proxy_header {
	enum proxy_source source;
	uint8_t address[16]; /* of the source; 4 bytes of IPv4 */
	uint16_t port;
};

/*
 * One header at the beginning of `bytes`. TLVs are skipped, but they must be well-formed, and a
 * CRC32C among them right.
 * Returns bytes taken, 0: need more, -EPROTO: none, malformed or of version 1, -EMSGSIZE: over
 * PROXY_HEADER_BYTES_MAX. What cannot become a header is told at its first wrong byte.
 */
ptrdiff_t proxy_parse(struct span bytes, struct proxy_header *header);

#endif
