/*
 * grpc_web: what gRPC-Web adds to gRPC's framing: media types, base64 of text streams, trailers as
 * a frame of the body. Without I/O. One thread at a time.
 *
 *   body = (0x00 length message)* 0x80 length "grpc-status: 0\r\n…"     each length 4 bytes
 *   text = base64 of it, of any pieces of it: padding may stand at the end of each
 *
 * Source: grpc/doc/PROTOCOL-WEB.md
 */
#ifndef CODEC_GRPC_WEB_H
#define CODEC_GRPC_WEB_H

#include "base/buf.h"

#define GRPC_WEB_TRAILERS 0x80 /* a frame's first byte: trailers, not compressed */

enum grpc_web_kind { GRPC_WEB_NONE, GRPC_WEB_BINARY, GRPC_WEB_TEXT };

/*
 * "application/grpc-web", "application/grpc-web-text", each with "+proto" or without; parameters
 * are not looked at. NONE: anything else.
 */
enum grpc_web_kind grpc_web_kind_of(struct span media_type);

/* The kind of answer to a request of `kind`: the first that its Accept names, else the same. */
enum grpc_web_kind grpc_web_answer_kind(struct span accept, enum grpc_web_kind kind);

/* "application/grpc-web+proto" or "application/grpc-web-text+proto". Static. */
const char *grpc_web_media_type(enum grpc_web_kind kind);

/* ---- text ---- */

/* Takes standard base64 cut anywhere, which base/base64 has whole. Zeroed memory is a beginning. */
struct grpc_web_text {
	uint32_t bits;	/* of the digits of the group that is being read */
	uint8_t digits; /* of it, 0 to 3, padding included */
	uint8_t pads;	/* of them */
};

/*
 * Appends what the text says. Returns 0, -EPROTO (no digit, padding in the wrong place, bits that
 * mean nothing), or buf's code; after a failure nothing more is taken.
 */
int grpc_web_text_take(struct grpc_web_text *text, struct span bytes, struct buf *out);

/* Whether the text may end here: no group is half read. */
static inline bool grpc_web_text_is_idle(const struct grpc_web_text *text)
{
	return text->digits == 0;
}

/* ---- trailers ---- */

struct grpc_web_trailers {
	int status;
	struct span message;	 /* as it is read; empty: none */
	struct span details;	 /* grpc-status-details-bin, in base64; empty: none */
	uint64_t retry_after_ms; /* 0: none */
};

/* Appends the frame. Returns 0 or -ENOMEM (or over its bound). */
int grpc_web_append_trailers(struct buf *out, const struct grpc_web_trailers *trailers);

#endif
