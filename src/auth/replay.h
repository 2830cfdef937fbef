/* replay: the key and the life time of a reservation. Pure. Source: edge.md §3. */
#ifndef AUTH_REPLAY_H
#define AUTH_REPLAY_H

#include "base/buf.h"

/* Appends <prefix><len(session)>:<session>:<request_id>, whole or not at all. Returns buf's code. */
int replay_key(struct buf *out, struct span prefix, struct span session, struct span request_id);

/* Milliseconds until the timestamp leaves the freshness window, plus 1 s. At least 1,000. */
uint64_t replay_ttl_ms(int64_t now_ms, int64_t timestamp_ms, uint64_t window_ms);

#endif
