/* accept: which of two media types a client prefers. Any thread. Source: RFC 9110 §12.5.1. */
#ifndef CODEC_ACCEPT_H
#define CODEC_ACCEPT_H

#include "base/span.h"

/*
 * Whether this Accept header names `wanted`, and not `other` with a higher weight. Ranges with a star
 * name neither. A weight that is no weight counts as 0.
 */
bool accept_prefers(struct span accept, struct span wanted, struct span other);

#endif
