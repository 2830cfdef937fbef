#include "rest/set_cookie.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

/* RFC 6265 §4.1.1: cookie-octet. */
bool set_cookie_can_hold(struct span value)
{
	for (size_t i = 0; i < value.len; i++) {
		uint8_t byte = value.data[i];

		if (byte <= 0x20 || byte >= 0x7f || byte == '"' || byte == ',' || byte == ';' ||
		    byte == '\\')
			return false;
	}
	return value.len > 0;
}

static void append_date(struct buf *out, uint64_t seconds)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t when = (time_t)seconds;
	struct tm utc;

	if (!gmtime_r(&when, &utc))
		return;
	buf_printf(out, "; Expires=%s, %02d %s %04d %02d:%02d:%02d GMT", days[utc.tm_wday],
		   utc.tm_mday, months[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min,
		   utc.tm_sec);
}

int set_cookie_write(const struct set_cookie *cookie, struct buf *out)
{
	uint64_t longest = cookie->now_s + (uint64_t)COOKIE_DAYS_MAX * 86400;
	uint64_t expires = cookie->expires_s < longest ? cookie->expires_s : longest;

	buf_append(out, span_from_cstr(cookie->name));
	buf_append_byte(out, '=');
	buf_append(out, cookie->value);
	buf_append(out, SPAN("; Path="));
	buf_append(out, span_from_cstr(cookie->path));
	if (expires > 0) {
		append_date(out, expires > cookie->now_s ? expires : 0);
		/* Counted by the browser's own clock, which may be wrong. */
		buf_printf(out, "; Max-Age=%" PRIu64,
			   expires > cookie->now_s ? expires - cookie->now_s : 0);
	}
	buf_append(out, SPAN("; HttpOnly; Secure; SameSite=Lax"));
	return out->failed ? -ENOMEM : 0;
}
