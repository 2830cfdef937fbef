#include "base/buf.h"

#include "base/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_BYTES 64 /* a header line fits; smaller would soon grow */

void buf_init(struct buf *buf, size_t max)
{
	*buf = (struct buf){ .max = max };
}

void buf_finish(struct buf *buf)
{
	free(buf->data);
	buf_init(buf, buf->max);
}

void buf_clear(struct buf *buf, size_t keep)
{
	if (buf->cap > keep)
		buf_finish(buf);
	buf->len = 0;
	buf->failed = false;
}

static int refuse(struct buf *buf, int error)
{
	buf->failed = true;
	return error;
}

/* Makes `cap` at least `need`: doubled, but not beyond max unless `need` is. */
static int grow(struct buf *buf, size_t need)
{
	if (buf->data && need <= buf->cap)
		return 0;

	size_t cap = buf->cap ? buf->cap : BUF_FIRST_BYTES / 2;

	cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
	if (cap > buf->max)
		cap = buf->max;
	if (cap < need)
		cap = need;

	uint8_t *data = realloc(buf->data, cap ? cap : 1);

	if (!data)
		return refuse(buf, -ENOMEM);
	buf->data = data;
	buf->cap = cap;
	return 0;
}

static int make_room(struct buf *buf, size_t len)
{
	if (len > buf->max - buf->len)
		return refuse(buf, -EMSGSIZE);
	return grow(buf, buf->len + len);
}

int buf_append_growing(struct buf *buf, struct span bytes)
{
	if (bytes.len == 0)
		return 0;

	int error = make_room(buf, bytes.len);

	if (error)
		return error;
	memcpy(buf->data + buf->len, bytes.data, bytes.len);
	buf->len += bytes.len;
	return 0;
}

int buf_append_uint(struct buf *buf, uint64_t value)
{
	char digits[SPAN_DECIMAL_BYTES];

	return buf_append(buf, span_write_uint64(digits, value));
}

int buf_printf(struct buf *buf, const char *format, ...)
{
	char text[256];
	va_list args, again;
	int error;

	va_start(args, format);
	va_copy(again, args);

	int len = vsnprintf(text, sizeof(text), format, args);

	CHECK(len >= 0); /* a format that we wrote ourselves */
	if ((size_t)len < sizeof(text)) {
		error = buf_append(buf, span_make(text, (size_t)len));
	} else if ((size_t)len > buf->max - buf->len) {
		error = refuse(buf, -EMSGSIZE);
	} else {
		error = grow(buf, buf->len + (size_t)len + 1); /* vsnprintf writes a NUL */
		if (!error) {
			vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, format, again);
			buf->len += (size_t)len;
		}
	}
	va_end(again);
	va_end(args);
	return error;
}

uint8_t *buf_reserve(struct buf *buf, size_t len)
{
	return make_room(buf, len) ? NULL : buf->data + buf->len;
}

void buf_claim(struct buf *buf, size_t len)
{
	CHECK(len <= buf->cap - buf->len && len <= buf->max - buf->len);
	buf->len += len;
}

void buf_consume(struct buf *buf, size_t len)
{
	CHECK(len <= buf->len);
	if (len == 0)
		return;
	buf->len -= len;
	memmove(buf->data, buf->data + len, buf->len);
}
