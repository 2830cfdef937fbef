#include "config/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int read_all(int fd, uint8_t *bytes, size_t size, size_t *len)
{
	*len = 0;
	while (*len < size) {
		ssize_t got = read(fd, bytes + *len, size - *len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		*len += (size_t)got;
	}
	return 0;
}

int file_read(const char *path, size_t max, struct buf *out)
{
	buf_init(out, max + 1); /* one more tells a file that is too large */

	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;

	uint8_t *bytes = buf_reserve(out, max + 1);
	size_t len = 0;
	int error = bytes ? read_all(fd, bytes, max + 1, &len) : -ENOMEM;

	close(fd);
	if (bytes)
		buf_claim(out, len);
	if (!error && len > max)
		error = -EFBIG;
	return error;
}

void file_forget(struct buf *bytes)
{
	if (bytes->data)
		explicit_bzero(bytes->data, bytes->cap);
	buf_finish(bytes);
}
