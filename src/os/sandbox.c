#include "os/sandbox.h"

#include "base/check.h"
#include "base/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

/* Without a condition: the kernel answers these from a bitmap, without running the filter (5.11).
 */
static const int allowed[] = {
	/* the rings at work; registering serves adopted descriptors */
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	/* memory: malloc, the locked pages of a key that a reload brings, giving them back */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(mlock),
	SCMP_SYS(munlock),
	/* threads that are there: locks, their end */
	SCMP_SYS(futex),
	SCMP_SYS(sched_yield),
	SCMP_SYS(set_robust_list), /* a thread that has only just begun */
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(sched_getaffinity),
	/* signals */
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	/* time and chance, where the kernel's page for them does not serve */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	/* files that are open, and looking at others: the configuration file, /proc, resolv.conf,
	   certificates */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pwritev2), /* the log, where it must not wait */
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(access),
	SCMP_SYS(faccessat2),
	SCMP_SYS(getdents64),
	/* a unix listener's file, at the end */
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	/* sockets outside the ring: dialling, look-ups of names, sd_notify */
	SCMP_SYS(connect),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendmmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	/* what the process says of itself in its metrics, and libraries ask */
	SCMP_SYS(getrusage),
	SCMP_SYS(prlimit64),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
};

/* Allowed where `argument` & `mask` is `value`. */
struct condition {
	int call;
	unsigned argument;
	uint64_t mask, value;
};

static const struct condition conditions[] = {
	{SCMP_SYS(open), 1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY},
	{SCMP_SYS(openat), 2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY},
	{SCMP_SYS(mmap), 2, PROT_EXEC, 0},
	{SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
	{SCMP_SYS(socket), 0, UINT32_MAX, AF_UNIX},
	{SCMP_SYS(socket), 0, UINT32_MAX, AF_INET},
	{SCMP_SYS(socket), 0, UINT32_MAX, AF_INET6},
};

/* Signals to our own threads only: abort raises one. */
static int add_own_signals(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				SCMP_CMP(0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
}

static int add_rules(scmp_filter_ctx filter)
{
	int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	for (size_t i = 0; i < ARRAY_LEN(allowed) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; i < ARRAY_LEN(conditions) && !error; i++) {
		const struct condition *row = &conditions[i];

		error = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, row->call, 1,
			SCMP_CMP(row->argument, SCMP_CMP_MASKED_EQ, row->mask, row->value));
	}
	return error ? error : add_own_signals(filter);
}

void sandbox_refuse_privileges(void)
{
	/* Cannot fail with these arguments since Linux 3.5. */
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
}

int sandbox_enter(char *why, size_t why_size)
{
	if (IS_SANITIZED)
		return explain(why, why_size, -EOPNOTSUPP, "built with a sanitizer");

	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));

	if (!filter)
		return explain(why, why_size, -ENOMEM, "out of memory");

	int error = add_rules(filter);

	if (!error)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error ? explain(why, why_size, error, "%s", errno_text(-error)) : 0;
}
