/* base_test: what the tests of base share: cmocka, expected aborts, a seeded generator. */
#ifndef TESTS_BASE_TEST_H
#define TESTS_BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `body` in a child. Returns whether SIGABRT ended it; `text` is what it said to stderr. */
__attribute__((unused)) static bool aborts(void (*body)(void), char *text, size_t text_bytes)
{
	int ends[2];

	fflush(NULL);
	if (pipe(ends) != 0)
		return false;

	pid_t child = fork();

	if (child == 0) {
		struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		body();
		_exit(0);
	}
	close(ends[1]);

	size_t len = 0;
	ssize_t got;

	while (len + 1 < text_bytes && (got = read(ends[0], text + len, text_bytes - 1 - len)) > 0)
		len += (size_t)got;
	text[len] = '\0';
	close(ends[0]);

	int status = 0;

	return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGABRT;
}

/* `body` must abort, and say `wanted` on its way. */
#define assert_aborts(body, wanted)                                        \
	do {                                                               \
		char said_[1024];                                          \
		assert_true(aborts((body), said_, sizeof(said_)));         \
		if (!strstr(said_, (wanted)))                              \
			fail_msg("said \"%s\", not \"%s\"", said_, wanted); \
	} while (0)

/* xorshift64*: the same numbers on every run. */
__attribute__((unused)) static uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
