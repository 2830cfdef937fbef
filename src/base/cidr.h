/* cidr: address ranges ("10.0.0.0/8", "fd00::/8", "192.0.2.7"). Any thread. */
#ifndef BASE_CIDR_H
#define BASE_CIDR_H

#include "base/span.h"

#define CIDR_BYTES_MAX 16

struct cidr {
	uint8_t bytes[CIDR_BYTES_MAX]; /* network order; zero behind `bits` */
	uint8_t len;		       /* 4 or 16 */
	uint8_t bits;
};

/*
 * An address, or one with a prefix length and no bit set behind it ("10.0.0.1/8" is more likely a
 * mistake than meant). A v4-mapped range of /96 or longer is the IPv4 range.
 * Returns 0 or -EINVAL.
 */
int cidr_parse(struct span text, struct cidr *cidr);

/* `address`: 4 or 16 bytes; v4-mapped ones are the caller's to unmap. */
bool cidr_contains(const struct cidr *cidr, struct span address);

/* "10.0.0.0/8". Returns the length; `text` has room for CIDR_TEXT_MAX. */
#define CIDR_TEXT_MAX 64
size_t cidr_format(const struct cidr *cidr, char text[CIDR_TEXT_MAX]);

#endif
