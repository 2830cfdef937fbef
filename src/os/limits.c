#include "os/limits.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#define LIMITS_CPUS_MAX   (1 << 20) /* the kernel's masks are far smaller */
#define LIMITS_FILE_MAX   8192      /* /proc/self/cgroup: one line per hierarchy */
#define LIMITS_CGROUP_MNT "/sys/fs/cgroup"

/* Returns the bytes read, negative errno when there is no such file. */
static ssize_t read_file(const char *path, uint8_t *bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;

	size_t len = 0;
	ssize_t got;

	while (len < size && (got = read(fd, bytes + len, size - len)) > 0)
		len += (size_t)got;
	close(fd);
	return (ssize_t)len;
}

uint32_t limits_parse_cpu_max(struct span text)
{
	ptrdiff_t blank = span_find_byte(text, ' ');
	ptrdiff_t newline = span_find_byte(text, '\n');
	uint64_t quota_us, period_us;

	if (newline >= 0)
		text = span_first(text, (size_t)newline);
	if (blank < 0 || (size_t)blank >= text.len)
		return UINT32_MAX;
	if (!span_to_uint64(span_first(text, (size_t)blank), &quota_us) ||
	    !span_to_uint64(span_from(text, (size_t)blank + 1), &period_us) || period_us == 0)
		return UINT32_MAX;

	uint64_t cpus = quota_us / period_us + (quota_us % period_us != 0);

	if (cpus == 0)
		return 1;
	return cpus < UINT32_MAX ? (uint32_t)cpus : UINT32_MAX;
}

/* The path of the v2 hierarchy: the line "0::/path". */
static struct span unified_path(struct span self)
{
	while (self.len > 0) {
		ptrdiff_t newline = span_find_byte(self, '\n');
		size_t line_len = newline < 0 ? self.len : (size_t)newline;
		struct span line = span_first(self, line_len);

		if (span_starts_with(line, SPAN("0::/")))
			return span_from(line, 3);
		self = span_from(self, newline < 0 ? line_len : line_len + 1);
	}
	return SPAN("/"); /* no such line: the mount's own limit may still be there */
}

uint32_t limits_cgroup_cpus(const char *mount, struct span self)
{
	struct span path = unified_path(self);
	uint32_t least = UINT32_MAX;

	for (;;) {
		char name[PATH_MAX];
		uint8_t text[64]; /* two numbers of at most 20 digits */
		int len = snprintf(name, sizeof(name), "%s%.*s/cpu.max", mount, SPAN_ARGS(path));

		if (len > 0 && (size_t)len < sizeof(name)) {
			ssize_t got = read_file(name, text, sizeof(text));
			uint32_t cpus = got > 0 ? limits_parse_cpu_max(span_make(text, (size_t)got))
						: UINT32_MAX;

			if (cpus < least)
				least = cpus;
		}
		if (path.len == 0)
			return least;
		do
			path.len--;
		while (path.len > 0 && path.data[path.len] != '/');
	}
}

static uint32_t affinity_cpus(void)
{
	/* A mask shorter than the kernel's own is refused: longer ones are tried. */
	for (int cpus = 1024; cpus <= LIMITS_CPUS_MAX; cpus *= 2) {
		cpu_set_t *set = CPU_ALLOC((size_t)cpus);
		size_t size = CPU_ALLOC_SIZE((size_t)cpus);

		if (!set)
			return 1;

		int failed = sched_getaffinity(0, size, set) != 0 ? errno : 0;
		int count = failed ? 0 : CPU_COUNT_S(size, set);

		CPU_FREE(set);
		if (!failed)
			return count > 0 ? (uint32_t)count : 1;
		if (failed != EINVAL)
			return 1;
	}
	return 1;
}

uint32_t limits_cpu_count(void)
{
	static uint8_t text[LIMITS_FILE_MAX];
	uint32_t affinity = affinity_cpus();
	ssize_t got = read_file("/proc/self/cgroup", text, sizeof(text));
	struct span self = got > 0 ? span_make(text, (size_t)got) : SPAN_EMPTY;
	uint32_t quota = limits_cgroup_cpus(LIMITS_CGROUP_MNT, self);

	return quota < affinity ? quota : affinity;
}

uint64_t limits_raise_nofile(void)
{
	struct rlimit limit;

	/* Neither call can fail with a valid resource; raising to the hard limit needs no privilege. */
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = { .rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max };

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	return limit.rlim_cur;
}

void limits_fill_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

void limits_random(void *bytes, uint64_t len)
{
	uint8_t *at = bytes;

	while (len > 0) {
		ssize_t got = getrandom(at, len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		CHECK(got > 0);
		at += got;
		len -= (uint64_t)got;
	}
}
