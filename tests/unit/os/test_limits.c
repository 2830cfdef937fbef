/* limits: CPU quotas as the kernel writes them, in trees made here. */
#include "os/limits.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static void cpu_max_rounds_up_and_knows_max(void **state)
{
	(void)state;
	static const struct {
		struct span text;
		uint32_t cpus;
	} rows[] = {
		{ SPAN("max 100000\n"), UINT32_MAX },
		{ SPAN("100000 100000\n"), 1 },
		{ SPAN("100000 100000"), 1 },
		{ SPAN("100001 100000\n"), 2 },
		{ SPAN("150000 100000\n"), 2 },
		{ SPAN("200000 100000\n"), 2 },
		{ SPAN("1000 100000\n"), 1 },
		{ SPAN("0 100000\n"), 1 },
		{ SPAN("1600000 50000\n"), 32 },
		{ SPAN("18446744073709551615 1\n"), UINT32_MAX },
		{ SPAN("18446744073709551616 1\n"), UINT32_MAX },
		{ SPAN("100000 0\n"), UINT32_MAX },
		{ SPAN("100000\n"), UINT32_MAX },
		{ SPAN("100000\n 1"), UINT32_MAX },
		{ SPAN("-1 100000\n"), UINT32_MAX },
		{ SPAN(" 100000\n"), UINT32_MAX },
		{ SPAN("\n"), UINT32_MAX },
		{ SPAN(""), UINT32_MAX },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(limits_parse_cpu_max(rows[i].text), rows[i].cpus);
}

static void put_quota(const char *root, const char *path, const char *text)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s%s/cpu.max", root, path);

	FILE *file = fopen(name, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void cgroup_takes_the_smallest_quota_on_the_way_up(void **state)
{
	(void)state;
	char root[] = "/tmp/test-limits-XXXXXX";
	char name[PATH_MAX];
	static const char *const folders[] = { "/a", "/a/b.slice", "/a/b.slice/c.service" };

	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s%s", root, folders[i]);
		assert_int_equal(mkdir(name, 0700), 0);
	}

	struct span self = SPAN("12:pids:/elsewhere\n0::/a/b.slice/c.service\n");

	assert_int_equal(limits_cgroup_cpus(root, self), UINT32_MAX);
	put_quota(root, "/a/b.slice/c.service", "max 100000\n");
	assert_int_equal(limits_cgroup_cpus(root, self), UINT32_MAX);
	put_quota(root, "/a", "350000 100000\n");
	assert_int_equal(limits_cgroup_cpus(root, self), 4);
	put_quota(root, "/a/b.slice/c.service", "600000 100000\n");
	assert_int_equal(limits_cgroup_cpus(root, self), 4);
	put_quota(root, "", "100000 100000\n"); /* a container's root has one */
	assert_int_equal(limits_cgroup_cpus(root, self), 1);
	assert_int_equal(limits_cgroup_cpus(root, SPAN("0::/")), 1);
	assert_int_equal(limits_cgroup_cpus(root, SPAN("")), 1);
	put_quota(root, "", "max 100000\n");
	assert_int_equal(limits_cgroup_cpus(root, SPAN("0::/a")), 4);
	assert_int_equal(limits_cgroup_cpus(root, SPAN("0::/../../a")), UINT32_MAX);
	assert_int_equal(limits_cgroup_cpus(root, SPAN("1:cpu:/a\n")), UINT32_MAX);

	snprintf(name, sizeof(name), "rm -r %s", root);
	assert_int_equal(system(name), 0);
}

static void cpu_count_respects_the_affinity(void **state)
{
	(void)state;
	cpu_set_t before, one;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	assert_in_range(limits_cpu_count(), 1, (unsigned)CPU_COUNT(&before));

	CPU_ZERO(&one);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &before)) {
			CPU_SET(cpu, &one);
			break;
		}
	}
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(limits_cpu_count(), 1);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void nofile_is_raised_to_the_hard_limit(void **state)
{
	(void)state;
	struct rlimit before, after;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);

	struct rlimit low = { .rlim_cur = 256, .rlim_max = before.rlim_max };

	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(limits_raise_nofile(), before.rlim_max);
	assert_int_equal(limits_raise_nofile(), before.rlim_max);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
	assert_int_equal(after.rlim_cur, before.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void closed_standard_descriptors_are_filled(void **state)
{
	(void)state;
	int kept[3], next;

	for (int fd = 0; fd < 3; fd++)
		assert_true((kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 10)) >= 10);
	close(STDIN_FILENO);
	close(STDERR_FILENO);
	limits_fill_standard();
	next = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close(next);

	bool are_open = fcntl(STDIN_FILENO, F_GETFD) == 0 && fcntl(STDERR_FILENO, F_GETFD) == 0;

	for (int fd = 0; fd < 3; fd++) {
		dup2(kept[fd], fd);
		close(kept[fd]);
	}
	assert_true(are_open);
	assert_true(next > STDERR_FILENO);
}

static void random_fills_all_and_no_more(void **state)
{
	(void)state;
	static uint8_t bytes[70000], again[70000]; /* more than one getrandom promises at once */
	bool tail = false;

	bytes[sizeof(bytes) - 1] = 0xa5;
	limits_random(bytes, sizeof(bytes) - 1);
	assert_int_equal(bytes[sizeof(bytes) - 1], 0xa5);
	for (size_t i = sizeof(bytes) - 65; i < sizeof(bytes) - 1; i++)
		tail = tail || bytes[i] != 0;
	assert_true(tail); /* wrong once in 2^512 */
	limits_random(again, sizeof(again) - 1);
	assert_memory_not_equal(bytes, again, 64);
	limits_random(bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cpu_max_rounds_up_and_knows_max),
		cmocka_unit_test(cgroup_takes_the_smallest_quota_on_the_way_up),
		cmocka_unit_test(cpu_count_respects_the_affinity),
		cmocka_unit_test(nofile_is_raised_to_the_hard_limit),
		cmocka_unit_test(closed_standard_descriptors_are_filled),
		cmocka_unit_test(random_fills_all_and_no_more),
	};

	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
