/* service: systemd played by this test: a notify socket, and children born with descriptors. */
#include "os/service.h"

#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void assert_message(int fd, const char *wanted)
{
	char text[256];
	ssize_t len = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	assert_true(len > 0);
	text[len] = '\0';
	assert_string_equal(text, wanted);
}

/* systemd wants the time of its own monotonic clock (sd_notify(3)). */
static void assert_reloading(int fd)
{
	unsigned long long usec = 0;
	struct timespec now;
	char text[256] = {0};

	assert_true(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
	assert_int_equal(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reloading", &usec),
			 1);
	assert_non_null(strstr(text, "STATUS=reloading"));
	clock_gettime(CLOCK_MONOTONIC, &now);
	unsigned long long now_usec =
		(unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;

	assert_true(usec <= now_usec && now_usec - usec < 60000000);
}

static void notify_speaks_to_the_socket_it_was_given(void **state)
{
	(void)state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char name[64];

	assert_true(fd >= 0);
	snprintf(name, sizeof(name), "@test-service-%d", (int)getpid());
	memcpy(address.sun_path + 1, name + 1, strlen(name) - 1); /* abstract */
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);

	service_notify_ready("outside systemd: nothing happens");
	setenv("NOTIFY_SOCKET", name, 1);
	service_notify_ready("serving");
	assert_message(fd, "READY=1\nSTATUS=serving");
	service_notify_reloading("reloading");
	assert_reloading(fd);
	service_notify_stopping("draining");
	assert_message(fd, "STOPPING=1\nSTATUS=draining");
	service_notify_extend(UINT64_MAX);
	assert_message(fd, "EXTEND_TIMEOUT_USEC=18446744073709551615");
	unsetenv("NOTIFY_SOCKET");
	close(fd);
}

enum { PASS_LISTENING, PASS_UNBOUND, PASS_DATAGRAM, PASS_FILE };

static int make_fd(int kind)
{
	if (kind == PASS_FILE)
		return open("/dev/null", O_RDONLY);

	int fd = socket(AF_UNIX, kind == PASS_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM, 0);
	struct sockaddr_un any = { .sun_family = AF_UNIX };

	/* The family alone: the kernel chooses an abstract name. */
	if (kind == PASS_LISTENING &&
	    (bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)) != 0 || listen(fd, 1) != 0))
		return -1;
	return fd;
}

/* In the child: descriptors 3, 4, … of these kinds, and the variables that name them. */
static int arrange(const int *kinds, int count, const char *names)
{
	char number[16];
	int made[8];

	for (int i = 0; i < count; i++) {
		int low = make_fd(kinds[i]);

		made[i] = fcntl(low, F_DUPFD, 100);
		if (made[i] < 0)
			return -1;
		close(low);
	}
	for (int i = 0; i < count; i++) {
		if (dup2(made[i], 3 + i) != 3 + i)
			return -1;
		close(made[i]);
	}
	snprintf(number, sizeof(number), "%d", (int)getpid());
	setenv("LISTEN_PID", number, 1);
	snprintf(number, sizeof(number), "%d", count);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	return 0;
}

struct ask {
	const char *name;
	int fd, error;
};

struct passing {
	const int *kinds;
	int count;
	const char *names;
	const struct ask *asks; /* until name NULL */
	size_t untaken;
};

/* Returns 0, or the number of the step that went wrong. */
static int child_check(const struct passing *passing)
{
	int step = 1;

	log_setup(&(struct log_options){ .level = LOG_ERROR, .fd = STDERR_FILENO });
	if (arrange(passing->kinds, passing->count, passing->names) != 0)
		return step;
	for (const struct ask *ask = passing->asks; ask->name; ask++) {
		int error = 12345;

		step++;
		if (service_take_socket(ask->name, &error) != ask->fd || error != ask->error)
			return step;
		if (ask->fd >= 0 && !(fcntl(ask->fd, F_GETFD) & FD_CLOEXEC))
			return step;
	}
	step++;
	if (getenv("LISTEN_FDS") || getenv("LISTEN_PID") || getenv("LISTEN_FDNAMES"))
		return step;
	step++;
	if (service_close_untaken() != passing->untaken || service_close_untaken() != 0)
		return step;
	return 0;
}

static void assert_passing(const struct passing *passing)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		_exit(child_check(passing));

	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void sockets_are_found_by_name_and_given_once(void **state)
{
	(void)state;
	assert_passing(&(struct passing){
		.kinds = (const int[]){ PASS_LISTENING, PASS_LISTENING, PASS_LISTENING },
		.count = 3,
		.names = "public:other:grpc",
		.asks = (const struct ask[]){ { "grpc", 5, 0 }, { "public", 3, 0 },
					      { "public", -1, 0 }, { "admin", -1, 0 }, { 0 } },
		.untaken = 1,
	});
}

static void same_name_twice_is_refused(void **state)
{
	(void)state;
	assert_passing(&(struct passing){
		.kinds = (const int[]){ PASS_LISTENING, PASS_LISTENING, PASS_LISTENING },
		.count = 3,
		.names = "public:grpc:public",
		.asks = (const struct ask[]){ { "public", -1, -EINVAL }, { "grpc", 4, 0 }, { 0 } },
		.untaken = 2,
	});
}

static void what_does_not_listen_is_refused(void **state)
{
	(void)state;
	assert_passing(&(struct passing){
		.kinds = (const int[]){ PASS_UNBOUND, PASS_DATAGRAM, PASS_FILE },
		.count = 3,
		.names = "public:grpc:admin",
		.asks = (const struct ask[]){ { "public", -1, -ENOTSOCK },
					      { "grpc", -1, -ENOTSOCK },
					      { "admin", -1, -ENOTSOCK }, { 0 } },
		.untaken = 3,
	});
}

static void outside_systemd_there_are_none(void **state)
{
	(void)state;
	int error = 1;

	assert_int_equal(service_take_socket("public", &error), -1);
	assert_int_equal(error, 0);
	assert_int_equal(service_close_untaken(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notify_speaks_to_the_socket_it_was_given),
		cmocka_unit_test(sockets_are_found_by_name_and_given_once),
		cmocka_unit_test(same_name_twice_is_refused),
		cmocka_unit_test(what_does_not_listen_is_refused),
		cmocka_unit_test(outside_systemd_there_are_none), /* last: reads once for good */
	};

	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
