#include "log/log.h"

#include "base/check.h"
#include "log/line.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LOG_WINDOW_MS 1000 /* LOG_SITE_BURST is per second */

enum sink { SINK_ASKED_FIRST, SINK_PIPE, SINK_SOCKET, SINK_FILE };

/* Written before the first thread starts, or relaxed: each is a word of its own. */
static struct {
	_Atomic int level;
	_Atomic int format;
	_Atomic int fd;
	_Atomic int sink;
	_Atomic int torn; /* the last line was written in part: a disk was full */
	_Atomic uint64_t dropped_count;
} log_state = {
	.level = LOG_INFO,
	.format = LOG_JSON,
	.fd = STDERR_FILENO,
	.sink = SINK_ASKED_FIRST,
};

static int state_get(_Atomic int *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void state_set(_Atomic int *word, int value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static enum sink sink_of(int fd)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
		return SINK_ASKED_FIRST;
	if (S_ISFIFO(status.st_mode))
		return SINK_PIPE;
	if (S_ISSOCK(status.st_mode))
		return SINK_SOCKET;
	return S_ISREG(status.st_mode) ? SINK_FILE : SINK_ASKED_FIRST;
}

void log_setup(const struct log_options *options)
{
	state_set(&log_state.level, (int)options->level);
	state_set(&log_state.format, (int)options->format);
	state_set(&log_state.fd, options->fd);
	state_set(&log_state.sink, (int)sink_of(options->fd));
	state_set(&log_state.torn, 0);
}

bool log_enabled(enum log_level level)
{
	return (int)level >= state_get(&log_state.level);
}

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = { "debug", "info", "warn", "error" };

	CHECK((size_t)level < ARRAY_LEN(names));
	return names[level];
}

uint64_t log_dropped_count(void)
{
	return atomic_load_explicit(&log_state.dropped_count, memory_order_relaxed);
}

static int64_t clock_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Whether this line may be written; `*held_back` then says how many before it were not. Every call is
 * either admitted or counted in held_back, whatever the interleaving. Threads that meet at a window's
 * edge may get a few lines more or fewer than the burst. Relaxed: the words guard only themselves.
 */
static bool site_admit(struct log_site *site, uint32_t *held_back)
{
	uint64_t now = (uint64_t)clock_ms(CLOCK_MONOTONIC_COARSE);
	uint64_t window = atomic_load_explicit(&site->window_ms, memory_order_relaxed);

	if (now >= window + LOG_WINDOW_MS &&
	    atomic_compare_exchange_strong_explicit(&site->window_ms, &window, now,
						    memory_order_relaxed, memory_order_relaxed))
		atomic_store_explicit(&site->count, 0, memory_order_relaxed);
	/* Looked at before it is counted: a flood for hours must not wrap the counter round to 0. */
	if (atomic_load_explicit(&site->count, memory_order_relaxed) >= LOG_SITE_BURST ||
	    atomic_fetch_add_explicit(&site->count, 1, memory_order_relaxed) >= LOG_SITE_BURST) {
		atomic_fetch_add_explicit(&site->held_back, 1, memory_order_relaxed);
		return false;
	}
	*held_back = atomic_exchange_explicit(&site->held_back, 0, memory_order_relaxed);
	return true;
}

static ssize_t write_asked_first(int fd, struct span bytes)
{
	struct pollfd ready = { .fd = fd, .events = POLLOUT };

	if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT)) {
		errno = EAGAIN;
		return -1;
	}
	return write(fd, bytes.data, bytes.len);
}

static ssize_t write_pipe(int fd, struct span bytes)
{
	struct iovec part = { .iov_base = (void *)(uintptr_t)bytes.data, .iov_len = bytes.len };
	ssize_t sent = pwritev2(fd, &part, 1, -1, RWF_NOWAIT);

	/* Kernels before 6.4 refuse the flag on pipes; a filter may refuse the call. */
	if (sent < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM))
		return write_asked_first(fd, bytes);
	return sent;
}

static ssize_t write_once(int fd, enum sink sink, struct span bytes)
{
	switch (sink) {
	case SINK_PIPE:
		return write_pipe(fd, bytes);
	case SINK_SOCKET:
		return send(fd, bytes.data, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	case SINK_FILE:
		return write(fd, bytes.data, bytes.len);
	case SINK_ASKED_FIRST:
		break;
	}
	return write_asked_first(fd, bytes);
}

/* Returns whether it was written whole. What was cut off ends there: the next line begins anew. */
static bool write_line(struct span bytes)
{
	int fd = state_get(&log_state.fd);
	enum sink sink = (enum sink)state_get(&log_state.sink);

	if (state_get(&log_state.torn) &&
	    atomic_exchange_explicit(&log_state.torn, 0, memory_order_relaxed) &&
	    write_once(fd, sink, SPAN("\n")) != 1) {
		state_set(&log_state.torn, 1);
		return false;
	}

	ssize_t sent = write_once(fd, sink, bytes);

	if (sent > 0 && (size_t)sent != bytes.len)
		state_set(&log_state.torn, 1);
	return sent == (ssize_t)bytes.len;
}

void log_write(struct log_site *site, enum log_level level, const char *component,
	       const char *message, const struct log_field *fields)
{
	int saved = errno; /* a log line in an error path must not change what it reports on */
	struct line_head head = {
		.unix_ms = clock_ms(CLOCK_REALTIME),
		.level = level,
		.component = component,
		.message = message,
	};

	if (!site || site_admit(site, &head.held_back)) {
		struct line line;

		line_begin(&line, (enum log_format)state_get(&log_state.format), &head);
		for (const struct log_field *field = fields; field && field->name; field++)
			line_add(&line, field);

		if (!write_line(line_end(&line))) {
			atomic_fetch_add_explicit(&log_state.dropped_count, 1,
						  memory_order_relaxed);
			if (site) /* what this line would have told, the next one tells */
				atomic_fetch_add_explicit(&site->held_back, head.held_back,
							  memory_order_relaxed);
		}
	}
	errno = saved;
}
