/*
 * glitches: what peers do wrong or to excess, by kind, and the score that one HTTP/2 connection has
 * of it. Private to edge. Pure: the caller brings the time and does what is due.
 *
 * Each glitch adds its kind's weight to the score; at GLITCHES_THRESHOLD the connection is ended
 * with GOAWAY ENHANCE_YOUR_CALM. Answers pay: each HEADERS or DATA frame sent takes
 * GLITCHES_PER_ANSWER off, so that a client may cancel, ping and open windows in proportion to what
 * it gets. Below zero is credit, which grows by answers only; above it time takes
 * GLITCHES_DRAIN_PER_S off. What every client does now and then (`is_tolerated`) is a glitch only
 * as far as credit does not pay for it: neither counted nor held against the client before.
 *
 * So a connection may cancel all its 1,000 streams at once, and half of its calls for ever; send a
 * burst of 1,200 PINGs or 120 SETTINGS; have 118 streams reset for its own faults.
 *
 * What a kind bounds is how often; how much is bounded elsewhere: frames of one header block and
 * entries of one SETTINGS (codec/h2.c), header list, windows, streams (face_h2.c), body (call.c).
 */
#ifndef EDGE_GLITCHES_H
#define EDGE_GLITCHES_H

#include <stdbool.h>
#include <stdint.h>

enum glitch {
	/* the connection's end, or nothing that a score could do something about */
	GLITCH_PREFACE,	  /* neither protocol that the listener speaks */
	GLITCH_HTTP1,	  /* a request that is refused as malformed */
	GLITCH_HTTP2,	  /* a connection error */
	GLITCH_CALLS,	  /* calls of one worker over their bound */
	GLITCH_PIPELINE,  /* bytes sent ahead over their bound */
	GLITCH_AHEAD,	  /* HTTP/1.1: receiving paused, as its answers are not read */
	GLITCH_PINGS,	  /* one bad ping too many: edge.md §2 */
	GLITCH_KEEPALIVE, /* our ping was not answered in time */
	GLITCH_PROXY,	  /* no PROXY protocol header, or a wrong one, from a trusted proxy */
	GLITCH_SCORE,	  /* the score is at its threshold */
	/* faults of an HTTP/2 client; the first three of others, too */
	GLITCH_TIMEOUT,	     /* a request that took too long to arrive */
	GLITCH_SLOW,	     /* a body below GATEWAY_HTTP_MIN_BODY_RATE */
	GLITCH_STALL,	     /* a stream or connection ended because its peer did not read */
	GLITCH_BODY_MEMORY,  /* bodies or answers of one connection over their bound */
	GLITCH_HEADER_LIST,  /* over GATEWAY_HTTP_MAX_HEADER_BYTES */
	GLITCH_STREAM_ERROR, /* a stream reset for its peer's fault: CVE-2025-8671 */
	/* tolerated */
	GLITCH_RESET,	      /* a stream given up young and unanswered: CVE-2023-44487 */
	GLITCH_LATE_HEADERS,  /* for a stream that is over: trailers, or what nobody would see */
	GLITCH_REFUSED,	      /* a stream over the limit that SETTINGS told */
	GLITCH_PING,	      /* any */
	GLITCH_SETTINGS,      /* any */
	GLITCH_PRIORITY,      /* any */
	GLITCH_UNKNOWN_FRAME, /* of a type that we do not know */
	GLITCH_CONTINUATION,  /* any */
	GLITCH_EMPTY_DATA,    /* DATA without bytes and without END_STREAM */
	GLITCH_SMALL_WINDOW,  /* DATA cut to a few bytes, as its window allows no more */
	GLITCH_SMALL_FRAME,   /* WINDOW_UPDATE, RST_STREAM, a few bytes of DATA */
	GLITCH_COUNT
};

#define GLITCHES_THRESHOLD   10000
#define GLITCHES_DRAIN_PER_S 500 /* a full score is forgotten in 20 s */
#define GLITCHES_PER_ANSWER  4	 /* of an answer's two or three frames */
#define GLITCHES_CREDIT_MAX  2000
/* A stream that is given up at this age has done its client some good. */
#define GLITCHES_YOUNG_MS 1000

struct glitch_row {
	const char *name; /* gateway_glitches_total{kind} */
	uint16_t weight;
	bool is_tolerated;
};

const struct glitch_row *glitch_row(enum glitch glitch);

struct glitches {
	int32_t score;	       /* -GLITCHES_CREDIT_MAX … GLITCHES_THRESHOLD */
	uint32_t drained_ms;   /* low bits of when it was */
	uint32_t answer_count; /* low bits of what was told last */
};

/* With all the credit there can be. */
void glitches_init(struct glitches *glitches, uint64_t now_ms);

enum glitches_verdict {
	GLITCHES_PAID,	   /* by credit: not worth counting */
	GLITCHES_COUNTED,  /* count it */
	GLITCHES_TOO_MANY, /* count it and end the connection */
};

/* `answer_count`: HEADERS and DATA frames sent on the connection so far. */
enum glitches_verdict glitches_take(struct glitches *glitches, enum glitch glitch,
				    uint64_t answer_count, uint64_t now_ms);

#endif
