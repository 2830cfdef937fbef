/* sandbox: in children, because there is no way out of it. */
#include "os/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Each question: 0 when the call did what it should inside the sandbox, else what it did instead.
 */
typedef int question(void);

static int refused(long result)
{
	return result == -1 && errno == EPERM ? 0 : 1;
}

static int new_ring(void)
{
	struct io_uring_params params = {0};

	return refused(syscall(SYS_io_uring_setup, 4, &params));
}

static int new_program(void)
{
	char *const words[] = {(char[]){"true"}, NULL};

	return refused(execv("/bin/true", words));
}

static int new_process(void)
{
	return refused(fork());
}

static void *nothing(void *argument)
{
	return argument;
}

static int new_thread(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, nothing, NULL) == EPERM ? 0 : 1;
}

static int file_for_writing(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/tmp/sandbox-%d", getpid());

	int created = refused(open(path, O_WRONLY | O_CREAT, 0600));

	return created || refused(open("/dev/null", O_RDWR)) ||
	       refused(open("/dev/null", O_WRONLY));
}

static int executable_memory(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED || refused(mprotect(page, 4096, PROT_READ | PROT_EXEC)) ||
	       refused((long)(intptr_t)mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
					    0));
}

static int other_sockets(void)
{
	return refused(socket(AF_PACKET, SOCK_RAW, 0)) || refused(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int other_process(void)
{
	return refused(syscall(SYS_ptrace, 0, 0, 0, 0)) || refused(kill(getppid(), 0)) ||
	       refused(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}

static int what_is_needed(void)
{
	const int families[] = {AF_UNIX, AF_INET, AF_INET6};
	char byte;
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, &byte, 1) != 1 || close(fd))
		return 1;
	for (size_t i = 0; i < 3; i++) {
		fd = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
		/* v6 may be off */
		if (fd < 0 && errno == EPERM)
			return 2;
		if (fd >= 0)
			close(fd);
	}

	void *memory = malloc(1 << 20);

	if (!memory)
		return 3;
	memset(memory, 1, 1 << 20);
	free(memory);
	return 0;
}

static pthread_barrier_t closed;

static void *ask_in_a_thread(void *argument)
{
	(void)argument;
	pthread_barrier_wait(&closed);
	return (void *)(intptr_t)new_ring();
}

/* The thread was there before: it is inside all the same. */
static int other_thread(void)
{
	return 0; /* see ask: it needs the thread first */
}

/* Exit code of a child that closed its sandbox and asked; 100: no sandbox; -1: it died. */
static int ask(question *asked)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		char why[256];
		pthread_t thread;
		void *answer;

		pthread_barrier_init(&closed, NULL, 2);
		if (asked == other_thread && pthread_create(&thread, NULL, ask_in_a_thread, NULL))
			_exit(101);
		if (sandbox_enter(why, sizeof(why)))
			_exit(100);
		if (asked != other_thread)
			_exit(asked());
		pthread_barrier_wait(&closed);
		pthread_join(thread, &answer);
		_exit((int)(intptr_t)answer);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(question *asked)
{
	int answer = ask(asked);

	if (answer == 100) {
		printf("skip: no sandbox in this build or on this kernel\n");
		skip();
	}
	assert_int_equal(answer, 0);
}

#define SENTENCE(name, asked)                                                                      \
	static void name(void **state)                                                             \
	{                                                                                          \
		(void)state;                                                                       \
		expect(asked);                                                                     \
	}

SENTENCE(sandbox_makes_no_ring, new_ring)
SENTENCE(sandbox_runs_no_program, new_program)
SENTENCE(sandbox_makes_no_process, new_process)
SENTENCE(sandbox_makes_no_thread, new_thread)
SENTENCE(sandbox_opens_nothing_for_writing, file_for_writing)
SENTENCE(sandbox_makes_no_memory_executable, executable_memory)
SENTENCE(sandbox_has_no_other_sockets, other_sockets)
SENTENCE(sandbox_touches_no_other_process, other_process)
SENTENCE(sandbox_leaves_what_serving_needs, what_is_needed)
SENTENCE(sandbox_closes_around_threads_that_were_there, other_thread)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sandbox_makes_no_ring),
		cmocka_unit_test(sandbox_runs_no_program),
		cmocka_unit_test(sandbox_makes_no_process),
		cmocka_unit_test(sandbox_makes_no_thread),
		cmocka_unit_test(sandbox_opens_nothing_for_writing),
		cmocka_unit_test(sandbox_makes_no_memory_executable),
		cmocka_unit_test(sandbox_has_no_other_sockets),
		cmocka_unit_test(sandbox_touches_no_other_process),
		cmocka_unit_test(sandbox_leaves_what_serving_needs),
		cmocka_unit_test(sandbox_closes_around_threads_that_were_there),
	};

	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
