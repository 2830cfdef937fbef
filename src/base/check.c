#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void check_failed(const char *file, int line, const char *text)
{
	char message[512];
	int len = snprintf(message, sizeof(message), "%s:%d: check failed: %s\n", file, line, text);

	if (len >= (int)sizeof(message)) {
		len = sizeof(message) - 1;
		message[len - 1] = '\n';
	}
	/* One plain write: stdio's locks and buffers may be what is broken. */
	if (len > 0 && write(STDERR_FILENO, message, (size_t)len) < 0)
		abort();
	abort();
}
