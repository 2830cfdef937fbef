#include "admin/process.h"

#include "log/log.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct metric_family build_family = {
	"gateway_build_info", "Version and commit of this program.", METRIC_GAUGE};

static void render_gauge(struct buf *out, const char *name, const char *help, uint64_t value)
{
	const struct metric_family family = {name, help, METRIC_GAUGE};

	metric_render_head(&family, METRIC_PROMETHEUS,
			   out); /* a gauge's is the same in both formats */
	buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void render_cpu(struct buf *out, enum metric_format format)
{
	static const struct metric_family family = {"process_cpu_seconds_total",
						    "User and system CPU time.", METRIC_COUNTER};
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		return;
	long seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec;
	long micros = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;

	metric_render_head(&family, format, out);
	buf_printf(out, "%s %ld.%06ld\n", family.name, seconds + micros / 1000000,
		   micros % 1000000);
}

static void render_memory(struct buf *out)
{
	uint64_t virtual_pages, resident_pages;
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return;
	if (fscanf(file, "%" SCNu64 " %" SCNu64, &virtual_pages, &resident_pages) == 2) {
		render_gauge(out, "process_virtual_memory_bytes", "Virtual memory.",
			     virtual_pages * page_bytes);
		render_gauge(out, "process_resident_memory_bytes", "Resident memory.",
			     resident_pages * page_bytes);
	}
	fclose(file);
}

static void render_descriptors(struct buf *out)
{
	/* Kept open: when no descriptor is left, the number is wanted most. */
	static DIR *directory;
	struct rlimit limit;
	uint64_t open_count = 0;

	if (!directory)
		directory = opendir("/proc/self/fd");
	if (directory) {
		rewinddir(directory);
		while (readdir(directory))
			open_count++;
		render_gauge(
			out, "process_open_fds",
			"Open descriptors; direct descriptors of the rings are not among them.",
			open_count - 2);
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		render_gauge(out, "process_max_fds", "Soft limit of open descriptors.",
			     limit.rlim_cur);
}

/* Seconds since 1970 at which the kernel started this process; 0 if /proc does not say. */
static uint64_t start_time(void)
{
	char line[1024];
	uint64_t boot_time = 0, start_ticks = 0;
	FILE *file = fopen("/proc/stat", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "btime %" SCNu64, &boot_time) == 1)
			break;
	if (file)
		fclose(file);
	file = fopen("/proc/self/stat", "re");
	if (file && fgets(line, sizeof(line), file)) {
		const char *after_name = strrchr(line, ')'); /* the name may hold anything */

		if (after_name)
			sscanf(after_name + 1,
			       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			       "%*d %*d %*d %" SCNu64,
			       &start_ticks);
	}
	if (file)
		fclose(file);
	return boot_time && start_ticks ? boot_time + start_ticks / (uint64_t)sysconf(_SC_CLK_TCK)
					: 0;
}

static void render_log(struct buf *out, enum metric_format format)
{
	static const struct metric_family family = {
		"gateway_log_lines_dropped_total",
		"Log lines lost because standard error took no more.", METRIC_COUNTER};

	metric_render_head(&family, format, out);
	buf_printf(out, "%s %" PRIu64 "\n", family.name, log_dropped_count());
}

int process_render(enum metric_format format, struct buf *out)
{
	static uint64_t started;

	if (!started)
		started = start_time();
	render_cpu(out, format);
	render_memory(out);
	render_descriptors(out);
	if (started)
		render_gauge(out, "process_start_time_seconds",
			     "Start of the process, seconds since 1970.", started);
	render_log(out, format);
	metric_render_head(&build_family, format, out);
	return buf_printf(out, "%s{version=\"%s\",commit=\"%s\"} 1\n", build_family.name,
			  RINGWAY_VERSION, RINGWAY_COMMIT);
}
