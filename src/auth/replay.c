#include "auth/replay.h"

#define REPLAY_SPARE_MS 1000

int replay_key(struct buf *out, struct span prefix, struct span session, struct span request_id)
{
	size_t before = out->len;
	int error = buf_append(out, prefix);

	error = error ? error : buf_append_uint(out, session.len);
	error = error ? error : buf_append_byte(out, ':');
	error = error ? error : buf_append(out, session);
	error = error ? error : buf_append_byte(out, ':');
	error = error ? error : buf_append(out, request_id);
	if (error)
		out->len = before; /* half a key would name another reservation */
	return error;
}

uint64_t replay_ttl_ms(int64_t now_ms, int64_t timestamp_ms, uint64_t window_ms)
{
	/* 128 bits: no input can wrap. */
	__int128 left = (__int128)timestamp_ms + window_ms - now_ms;

	if (left < 0)
		left = 0;
	left += REPLAY_SPARE_MS;
	return left > UINT64_MAX ? UINT64_MAX : (uint64_t)left;
}
