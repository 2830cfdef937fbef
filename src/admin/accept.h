/* accept: which text of the metrics a scraper prefers. Any thread. Source: RFC 9110 §12.5.1. */
#ifndef ADMIN_ACCEPT_H
#define ADMIN_ACCEPT_H

#include "base/span.h"

/*
 * Whether this Accept header names application/openmetrics-text, and no text/plain with a higher
 * weight. A weight that is no weight counts as 0.
 */
bool accept_prefers_openmetrics(struct span accept);

#endif
