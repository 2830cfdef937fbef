/*
 * redis_server: a private redis-server on a unix socket in a folder of its own, and a blocking
 * connection to it for what a test does behind the gateway's back. For any C test; needs
 * codec/resp.
 */
#ifndef TESTS_REDIS_SERVER_H
#define TESTS_REDIS_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/endpoint.h"
#include "codec/resp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define REDIS_SERVER_PROGRAM "/usr/bin/redis-server"

struct redis_server {
	char folder[40];
	char socket[64];
	pid_t pid; /* 0: not running */
	int admin; /* blocking */
	bool keeps_data;
	struct resp_reader *reader; /* of admin */
	char answer[1024];	    /* text of the last answer, cut */
};

#define NEEDS_REDIS_SERVER()                                                                       \
	do {                                                                                       \
		if (access(REDIS_SERVER_PROGRAM, X_OK) != 0) {                                     \
			printf("skip: %s is not here\n", REDIS_SERVER_PROGRAM);                    \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static inline struct endpoint redis_server_endpoint(const struct redis_server *server)
{
	struct endpoint endpoint = {.kind = ENDPOINT_UNIX};

	snprintf(endpoint.path, sizeof(endpoint.path), "%s", server->socket);
	return endpoint;
}

/* The answer's text, or "(nil)", or a number; an array's elements joined by blanks. */
static inline void redis_server_note(struct redis_server *server, const struct resp_value *value)
{
	size_t used = strlen(server->answer), room = sizeof(server->answer) - used;

	switch (value->type) {
	case RESP_INTEGER:
		snprintf(server->answer + used, room, "%lld", (long long)value->integer);
		break;
	case RESP_NIL:
		snprintf(server->answer + used, room, "(nil)");
		break;
	case RESP_ARRAY:
		for (size_t i = 0; i < value->count; i++) {
			if (i > 0 && strlen(server->answer) + 2 < sizeof(server->answer))
				strncat(server->answer, " ", 2);
			redis_server_note(server, value->items[i]);
		}
		break;
	default:
		snprintf(server->answer + used, room, "%.*s", SPAN_ARGS(value->text));
	}
}

static inline void redis_server_write(struct redis_server *server, const char *const *args,
				      size_t count)
{
	struct span spans[256];
	struct buf out;

	assert_true(count <= 256);
	for (size_t i = 0; i < count; i++)
		spans[i] = span_from_cstr(args[i]);
	buf_init(&out, 1u << 20);
	assert_int_equal(resp_format(&out, spans, count), 0);
	for (size_t sent = 0; sent < out.len;) {
		ssize_t n = send(server->admin, out.data + sent, out.len - sent, MSG_NOSIGNAL);

		assert_true(n > 0);
		sent += (size_t)n;
	}
	buf_finish(&out);
}

/* Returns the answer's text; an error's too. Waits for it. */
static inline const char *redis_server_read(struct redis_server *server)
{
	struct resp_value *value = NULL;
	char bytes[4096];

	while (resp_reader_next(server->reader, &value) == 0) {
		ssize_t n = recv(server->admin, bytes, sizeof(bytes), 0);

		assert_true(n > 0);
		assert_int_equal(resp_reader_feed(server->reader, span_make(bytes, (size_t)n)), 0);
	}
	assert_non_null(value);
	server->answer[0] = '\0';
	redis_server_note(server, value);
	resp_value_free(value);
	return server->answer;
}

static inline const char *redis_server_ask(struct redis_server *server, const char *const *args,
					   size_t count)
{
	redis_server_write(server, args, count);
	return redis_server_read(server);
}

/* ASK(&server, "XADD", "s", "*", "name", "value") */
#define ASK(server, ...)                                                                           \
	redis_server_ask((server), (const char *const[]){__VA_ARGS__},                             \
			 sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static inline int redis_server_try_connect(const struct redis_server *server)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	memcpy(address.sun_path, server->socket, strlen(server->socket) + 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* A new admin connection; what the server is told is asked until it has loaded its data. */
static inline void redis_server_connect(struct redis_server *server, const char *password)
{
	/* Between two tries the death of the server is waited for, one tick long. */
	struct pollfd death = {.fd = (int)syscall(SYS_pidfd_open, server->pid, 0),
			       .events = POLLIN};
	int tries = 0;

	assert_true(death.fd >= 0);
	while ((server->admin = redis_server_try_connect(server)) < 0) {
		assert_int_equal(poll(&death, 1, 2), 0);
		assert_true(++tries < 5000);
	}
	server->reader = resp_reader_create(&(struct resp_limits){
		.value_bytes_max = 1u << 26, .items_max = 1u << 16, .depth_max = 7});
	assert_non_null(server->reader);
	if (password)
		assert_string_equal(ASK(server, "AUTH", password), "OK");
	while (strncmp(ASK(server, "PING"), "LOADING", 7) == 0)
		assert_int_equal(poll(&death, 1, 2), 0);
	assert_string_equal(server->answer, "PONG");
	close(death.fd);
}

/* `password` NULL: none. Also starts again in the same folder after redis_server_kill. */
static inline void redis_server_run(struct redis_server *server, const char *password)
{
	pid_t parent = getpid();

	fflush(NULL);
	server->pid = fork();
	assert_true(server->pid >= 0);
	if (server->pid == 0) {
		/* A test that crashes must not leave it behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);

		int null = open("/dev/null", O_RDWR);

		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execl(REDIS_SERVER_PROGRAM, REDIS_SERVER_PROGRAM, "--port", "0", "--unixsocket",
		      server->socket, "--dir", server->folder, "--save", "", "--appendonly",
		      server->keeps_data ? "yes" : "no", "--appendfsync", "always", "--loglevel",
		      "warning", password ? "--requirepass" : NULL, password, NULL);
		_exit(127);
	}
	redis_server_connect(server, password);
}

static inline void redis_server_start(struct redis_server *server)
{
	*server = (struct redis_server){.admin = -1, .folder = "/tmp/ringway-redis-XXXXXX"};
	assert_non_null(mkdtemp(server->folder));
	snprintf(server->socket, sizeof(server->socket), "%s/socket", server->folder);
	redis_server_run(server, NULL);
}

static inline void redis_server_signal(const struct redis_server *server, int number)
{
	assert_true(server->pid > 0);
	assert_int_equal(kill(server->pid, number), 0);
}

/* At once, as a crash. */
static inline void redis_server_kill(struct redis_server *server)
{
	if (server->pid <= 0)
		return;
	redis_server_signal(server, SIGKILL);
	assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
	server->pid = 0;
	close(server->admin);
	server->admin = -1;
	resp_reader_destroy(server->reader);
	server->reader = NULL;
}

/* Kills it and removes its folder. */
static inline void redis_server_finish(struct redis_server *server)
{
	char command[96];

	if (!server->folder[0])
		return;
	redis_server_kill(server);
	snprintf(command, sizeof(command), "rm -rf '%s'", server->folder);
	assert_int_equal(system(command), 0);
	server->folder[0] = '\0';
}

#endif
