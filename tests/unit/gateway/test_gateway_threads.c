/*
 * A thread whose ring fails - the kernel had no memory for a completion - takes the process with
 * it: a worker that stands still would keep its share of the clients, a bus every revocation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/node.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static int turn_code, run_code;

static int turn_once(struct worker *worker)
{
	(void)worker;
	return turn_code;
}

static int run_to_the_end(struct worker *worker)
{
	(void)worker;
	return run_code;
}

/* There is no ring here, and nothing that starts on it. */
#define worker_turn(worker, wait_us) turn_once(worker)
#define worker_run(worker)	     run_to_the_end(worker)
#define node_start(node)	     ((void)(node))
#define bus_start(bus)		     ((void)(bus))
#include "gateway/gateway.c"
#undef worker_turn
#undef worker_run
#undef node_start
#undef bus_start

/* What a process ends with in which the thread has run; -1: it went on. */
static int status_after(bool is_bus)
{
	static struct gateway gateway;
	static struct node node;
	static struct gateway_thread thread = {.gateway = &gateway, .name = "worker-0"};
	int status;

	thread.node = is_bus ? NULL : &node;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		log_setup(&(struct log_options){.level = LOG_ERROR, .format = LOG_TEXT, .fd = 2});
		thread_main(&thread);
		_exit(77);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 77 ? -1 : WEXITSTATUS(status);
}

static void ring_that_fails_ends_the_process(void **state)
{
	static const struct {
		int turn_code, run_code, status;
	} rows[] = {
		{0, -EOVERFLOW, 1},
		{0, -EBADR, 1},
		{-EBADFD, 0, 1}, /* it cannot even be enabled */
		{0, 0, -1},	 /* the end as it should be */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		turn_code = rows[i].turn_code;
		run_code = rows[i].run_code;
		assert_int_equal(status_after(false), rows[i].status);
		assert_int_equal(status_after(true), rows[i].status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring_that_fails_ends_the_process),
	};

	return cmocka_run_group_tests_name("gateway_threads", tests, NULL, NULL);
}
