/* log: levels, rate of a site, pipes that are full, threads. */
#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static int pipe_ends[2];

static void use(int fd, enum log_level level)
{
	log_setup(&(struct log_options){ .level = level, .format = LOG_JSON, .fd = fd });
}

static int open_pipe(void **state)
{
	(void)state;
	if (pipe2(pipe_ends, O_CLOEXEC) != 0)
		return -1;
	if (fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK) != 0) /* the reading end alone */
		return -1;
	use(pipe_ends[1], LOG_INFO);
	return 0;
}

static int close_pipe(void **state)
{
	(void)state;
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	use(STDERR_FILENO, LOG_INFO);
	return 0;
}

/* All that is in the pipe, NUL-terminated; for the caller to free. */
static char *drain(int fd)
{
	size_t len = 0, cap = 1 << 20;
	char *text = malloc(cap);

	assert_non_null(text);
	for (;;) {
		ssize_t got = read(fd, text + len, cap - 1 - len);

		if (got <= 0)
			break;
		len += (size_t)got;
	}
	text[len] = '\0';
	return text;
}

static size_t lines_in(const char *text)
{
	size_t count = 0;

	for (; *text; text++)
		count += *text == '\n';
	return count;
}

static uint64_t held_in(const char *text)
{
	uint64_t sum = 0;

	while ((text = strstr(text, "\"held_back\":")) != NULL) {
		text += strlen("\"held_back\":");
		sum += strtoull(text, NULL, 10);
	}
	return sum;
}

static void log_leaves_out_what_is_below_its_level(void **state)
{
	(void)state;
	static const enum log_level levels[] = { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

	for (size_t i = 0; i < 4; i++) {
		use(pipe_ends[1], levels[i]);
		LOG(LOG_DEBUG, "test", "debug");
		LOG(LOG_INFO, "test", "info");
		LOG(LOG_WARN, "test", "warn");
		LOG(LOG_ERROR, "test", "error");

		char *text = drain(pipe_ends[0]);

		assert_int_equal(lines_in(text), 4 - i);
		free(text);
	}
}

static void log_macro_takes_any_number_of_fields(void **state)
{
	(void)state;
	LOG(LOG_INFO, "test", "none");
	LOG(LOG_INFO, "test", "two", LOG_TEXT("a", "b"), LOG_TEXT("null", NULL));

	char *text = drain(pipe_ends[0]);

	assert_non_null(strstr(text, "\"msg\":\"none\",\"component\":\"test\"}\n"));
	assert_non_null(strstr(text, "\"component\":\"test\",\"a\":\"b\",\"null\":\"\"}\n"));
	free(text);
}

static void log_leaves_errno_alone(void **state)
{
	(void)state;
	use(-1, LOG_INFO);
	errno = 42;
	LOG(LOG_INFO, "test", "nowhere");
	assert_int_equal(errno, 42);
}

static void site_holds_back_a_flood_and_says_so(void **state)
{
	(void)state;
	static struct log_site site;

	for (int i = 0; i < 1000; i++)
		log_write(&site, LOG_INFO, "test", "flood", NULL);

	char *text = drain(pipe_ends[0]);
	size_t lines = lines_in(text);

	assert_in_range(lines, LOG_SITE_BURST, LOG_SITE_BURST * 4); /* a slow machine: a few windows */
	assert_int_equal(lines + held_in(text) + site.held_back, 1000);
	free(text);

	site.window_ms = 0; /* as if a second had passed */
	uint64_t held = site.held_back;

	assert_true(held > 0);
	log_write(&site, LOG_INFO, "test", "after", NULL);
	text = drain(pipe_ends[0]);
	assert_int_equal(held_in(text), held);
	free(text);
	log_write(&site, LOG_INFO, "test", "quiet", NULL);
	text = drain(pipe_ends[0]);
	assert_null(strstr(text, "held_back"));
	free(text);
}

static void sites_do_not_hold_each_other_back(void **state)
{
	(void)state;
	static struct log_site flooding, quiet;

	for (int i = 0; i < 100; i++)
		log_write(&flooding, LOG_INFO, "test", "flood", NULL);
	log_write(&quiet, LOG_INFO, "test", "quiet", NULL);
	log_write(NULL, LOG_INFO, "test", "never held", NULL);

	char *text = drain(pipe_ends[0]);

	assert_non_null(strstr(text, "quiet"));
	assert_non_null(strstr(text, "never held"));
	free(text);
}

/* Fills `fd` through the log until a line is dropped; the test's alarm ends it if one waits. */
static void fill(int fd)
{
	uint64_t before = log_dropped_count();

	use(fd, LOG_INFO);
	alarm(20);
	for (int i = 0; i < 1000000 && log_dropped_count() == before; i++)
		log_write(NULL, LOG_INFO, "test", "fill", NULL);
	alarm(0);
	assert_int_equal(log_dropped_count(), before + 1);
}

static void full_pipe_drops_and_counts_and_recovers(void **state)
{
	(void)state;
	static struct log_site site = { .held_back = 7 };

	fill(pipe_ends[1]);
	log_write(&site, LOG_INFO, "test", "lost", NULL);

	char *text = drain(pipe_ends[0]);

	assert_null(strstr(text, "lost"));
	assert_int_equal(text[strlen(text) - 1], '\n'); /* no line is torn */
	free(text);
	log_write(&site, LOG_INFO, "test", "again", NULL);
	text = drain(pipe_ends[0]);
	assert_int_equal(lines_in(text), 1);
	assert_int_equal(held_in(text), 7); /* told by the line that got through */
	free(text);
}

static void full_pipe_with_o_nonblock_drops_too(void **state)
{
	(void)state;
	assert_int_equal(fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK), 0);
	fill(pipe_ends[1]);
}

static void full_socket_drops_too(void **state)
{
	(void)state;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	fill(ends[1]);
	close(ends[0]);

	uint64_t before = log_dropped_count();

	log_write(NULL, LOG_INFO, "test", "reader gone", NULL);
	assert_int_equal(log_dropped_count(), before + 1);
	close(ends[1]);
}

static void reader_that_left_counts_as_full(void **state)
{
	(void)state;
	int ends[2];
	uint64_t before = log_dropped_count();

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[0]);
	use(ends[1], LOG_INFO);
	log_write(NULL, LOG_INFO, "test", "nobody", NULL);
	assert_int_equal(log_dropped_count(), before + 1);
	close(ends[1]);
	signal(SIGPIPE, SIG_DFL);
}

static void file_gets_every_line(void **state)
{
	(void)state;
	FILE *file = tmpfile();

	assert_non_null(file);
	use(fileno(file), LOG_INFO);
	for (int i = 0; i < 1000; i++)
		log_write(NULL, LOG_INFO, "test", "line", NULL);
	lseek(fileno(file), 0, SEEK_SET);

	char *text = drain(fileno(file));

	assert_int_equal(lines_in(text), 1000);
	free(text);
	fclose(file);
}

/* By RLIMIT_FSIZE, which cuts a write as a full disk does. */
static void line_that_a_full_disk_cut_does_not_spoil_the_next(void **state)
{
	(void)state;
	FILE *file = tmpfile();
	struct rlimit before;
	uint64_t dropped = log_dropped_count();

	assert_non_null(file);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_IGN);
	use(fileno(file), LOG_INFO);

	struct rlimit small = {.rlim_cur = 200, .rlim_max = before.rlim_max};

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 5; i++) /* some 82 bytes each */
		log_write(NULL, LOG_INFO, "test", "early", NULL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(log_dropped_count(), dropped + 3);
	log_write(NULL, LOG_INFO, "test", "late", NULL);
	log_write(NULL, LOG_INFO, "test", "last", NULL);
	assert_int_equal(log_dropped_count(), dropped + 3);
	lseek(fileno(file), 0, SEEK_SET);

	char *text = drain(fileno(file));

	assert_int_equal(lines_in(text), 2 + 1 + 2);
	assert_non_null(strstr(text, "\n{\"ts\":\""));
	assert_non_null(strstr(strstr(text, "late") + 1, "\n{"));
	*strstr(text, "\"late\"") = '\0';
	assert_int_equal(strncmp(strrchr(text, '\n') + 1, "{\"ts\":", 6), 0);
	free(text);
	fclose(file);
	signal(SIGXFSZ, SIG_DFL);
}

#define WRITERS 4
#define WRITES  2000

static struct log_site shared_site;

static void *writer_run(void *argument)
{
	const char *name = argument;

	for (int i = 0; i < WRITES; i++) {
		if (i % 100 == 0) /* windows end now and then */
			atomic_store(&shared_site.window_ms, 0);
		log_write(&shared_site, LOG_INFO, name, "threads", NULL);
		LOG(LOG_INFO, name, "macro", LOG_INT("i", i));
	}
	return NULL;
}

struct reader {
	size_t lines, bad;
	uint64_t held;
};

static void *reader_run(void *argument)
{
	struct reader *reader = argument;
	FILE *file = fdopen(pipe_ends[0], "r");
	char *line = NULL;
	size_t cap = 0;

	while (getline(&line, &cap, file) > 0) {
		if (strncmp(line, "{\"ts\":\"", 7) != 0 || !strstr(line, "}\n"))
			reader->bad++;
		if (!strstr(line, "\"threads\""))
			continue;
		reader->lines++;
		reader->held += held_in(line);
	}
	free(line);
	fclose(file);
	return NULL;
}

static void threads_lose_no_line_uncounted(void **state)
{
	(void)state;
	static char names[WRITERS][2] = { "a", "b", "c", "d" };
	pthread_t writers[WRITERS], reading;
	struct reader reader = { 0 };
	uint64_t dropped = log_dropped_count();

	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	use(pipe_ends[1], LOG_INFO);
	atomic_store(&shared_site.count, 0);
	pthread_create(&reading, NULL, reader_run, &reader);
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&writers[i], NULL, writer_run, names[i]);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	close(pipe_ends[1]);
	pthread_join(reading, NULL);
	use(STDERR_FILENO, LOG_INFO);

	uint64_t lost = log_dropped_count() - dropped;
	uint64_t seen = reader.lines + reader.held + shared_site.held_back;

	assert_int_equal(reader.bad, 0);
	assert_true(reader.lines > LOG_SITE_BURST);
	assert_in_range(seen, WRITERS * WRITES - lost, WRITERS * WRITES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(log_leaves_out_what_is_below_its_level, open_pipe,
						close_pipe),
		cmocka_unit_test_setup_teardown(log_macro_takes_any_number_of_fields, open_pipe,
						close_pipe),
		cmocka_unit_test_setup_teardown(log_leaves_errno_alone, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(site_holds_back_a_flood_and_says_so, open_pipe,
						close_pipe),
		cmocka_unit_test_setup_teardown(sites_do_not_hold_each_other_back, open_pipe,
						close_pipe),
		cmocka_unit_test_setup_teardown(full_pipe_drops_and_counts_and_recovers, open_pipe,
						close_pipe),
		cmocka_unit_test_setup_teardown(full_pipe_with_o_nonblock_drops_too, open_pipe,
						close_pipe),
		cmocka_unit_test(full_socket_drops_too),
		cmocka_unit_test(reader_that_left_counts_as_full),
		cmocka_unit_test(file_gets_every_line),
		cmocka_unit_test(line_that_a_full_disk_cut_does_not_spoil_the_next),
		cmocka_unit_test(threads_lose_no_line_uncounted),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
