/*
 * grpc: message framing, metadata texts and timeouts of gRPC over HTTP/2, without I/O.
 * One thread at a time.
 *
 * Source: grpc/doc/PROTOCOL-HTTP2.md
 */
#ifndef CODEC_GRPC_H
#define CODEC_GRPC_H

#include "base/buf.h"
#include "base/err.h"
#include "base/payload.h"

#define GRPC_PREFIX_BYTES 5

enum grpc_encoding { GRPC_IDENTITY, GRPC_GZIP };

/* Puts messages together from DATA frames cut anywhere. */
struct grpc_deframer {
	uint8_t prefix[GRPC_PREFIX_BYTES];
	uint8_t prefix_len;
	bool compressed;
	enum grpc_encoding encoding;
	uint32_t message_len; /* of the message being read */
	uint32_t message_max; /* bytes, decompressed */
	struct buf message;
};

/* `message_max` bounds a message before and after decompression. */
void grpc_deframer_init(struct grpc_deframer *deframer, enum grpc_encoding encoding,
			uint32_t message_max);
void grpc_deframer_finish(struct grpc_deframer *deframer);

/*
 * Takes bytes up to the end of the next message. `*message` is set when one is complete: lent until
 * the next call; data is not NULL then, even when empty. A message that lies whole in `bytes` is
 * lent in place.
 *
 * Returns bytes taken, or a negative code: -EMSGSIZE (over message_max), -EPROTO (framing, flag, or
 * not gzip), -ENOMEM.
 */
ptrdiff_t grpc_deframer_take(struct grpc_deframer *deframer, struct span bytes,
			     struct span *message);

/* Whether the stream may end here: no message is half read. */
bool grpc_deframer_is_idle(const struct grpc_deframer *deframer);

void grpc_write_prefix(uint8_t prefix[GRPC_PREFIX_BYTES], uint32_t message_len);

/* Bytes of the message behind a prefix. */
uint32_t grpc_read_prefix(const uint8_t prefix[GRPC_PREFIX_BYTES]);

/*
 * Of messages one behind the other, each behind its prefix, those before `offset` have left.
 * Returns how much of the one that has begun is still to leave: 0 at a border.
 */
size_t grpc_rest_of_message(struct span messages, size_t offset);

/* "1S", "100m" … Returns microseconds, rounded up, or -1 when malformed. */
int64_t grpc_parse_timeout(struct span text);

/*
 * Rounds up, in the finest unit that needs at most 8 digits; 0 is "1n", for it must be positive.
 * Returns the length without the NUL behind it.
 */
size_t grpc_format_timeout(uint64_t us, char text[16]);

/* Percent-encoding of grpc-message: bytes outside 0x20…0x7e and '%' as %XX. */
int grpc_encode_message(struct buf *out, struct span text);
/* Malformed escapes are kept as they are. */
int grpc_decode_message(struct buf *out, struct span text);

/* Strict decimal 0…16; anything else is GRPC_UNKNOWN. */
enum grpc_status grpc_parse_status(struct span text);

/*
 * The status of a response without grpc-status, from its HTTP status.
 * Source: grpc/doc/http-grpc-status-mapping.md
 */
enum grpc_status grpc_status_from_http(int http_status);

#endif
