/*
 * sink: where a codec puts the bytes that it makes. A connection is one (net/conn: conn_sink).
 * Thread: the owner's.
 */
#ifndef BASE_SINK_H
#define BASE_SINK_H

#include "base/payload.h"
#include "base/span.h"

struct sink {
	void *context;
	/* Copied. Returns 0, or a negative code, as the two below; then nothing was taken. */
	int (*bytes)(void *context, struct span bytes);
	/* A borrowed slice: takes a reference of its own. */
	int (*slice)(void *context, struct payload_slice slice);
	/* As `slice`, but takes over the caller's reference if it returns 0. NULL: as `slice`. */
	int (*give)(void *context, struct payload_slice slice);
	/* Asked before each piece (of HTTP/2: a frame), which may then be larger than the room. */
	bool (*has_room)(void *context);
};

#endif
