#include "client/loop.h"

#include "base/explain.h"
#include "client/command.h"

#include <stdlib.h>

int loop_create(struct loop *loop)
{
	const struct worker_options options = {
		.name = "client",
		.ring = {.sq_entries = 64,
			 .cq_entries = 16384,
			 .file_slots = 64,
			 .buffer_count = 64,
			 .buffer_bytes = 16384},
		.clock = worker_clock_system,
	};
	char why[256] = "";

	*loop = (struct loop){.exit_code = EXIT_FAILED};
	loop->worker = aligned_alloc(64, (sizeof(*loop->worker) + 63) / 64 * 64);
	if (!loop->worker) {
		complain("out of memory");
		return EXIT_FAILED;
	}
	memset(loop->worker, 0, sizeof(*loop->worker));
	if (worker_init(loop->worker, &options, why, sizeof(why)) != 0) {
		complain("%s", why);
		goto no_worker;
	}
	if (dns_create(&loop->dns, loop->worker) != 0) {
		complain("out of memory");
		goto no_dns;
	}
	/* the first turn enables the ring and reads the clock */
	if (worker_turn(loop->worker, 0) != 0) {
		complain("io_uring: the ring cannot be used");
		loop_destroy(loop);
		return EXIT_FAILED;
	}
	return 0;

no_dns:
	worker_finish(loop->worker);
no_worker:
	free(loop->worker);
	loop->worker = NULL;
	return EXIT_FAILED;
}

/* Returns the ring's code. */
static int turn(struct loop *loop)
{
	int code = worker_turn(loop->worker, RING_WAIT_FOREVER);

	if (code)
		complain("io_uring: %s", errno_text(-code));
	return code;
}

int loop_run(struct loop *loop)
{
	while (!loop->is_ending)
		if (turn(loop) != 0)
			return EXIT_FAILED;
	return loop->exit_code;
}

void loop_end(struct loop *loop, int exit_code)
{
	if (!loop->is_ending)
		loop->exit_code = exit_code;
	loop->is_ending = true;
	worker_stop(loop->worker); /* a turn with nothing left in flight does not wait */
}

static void dns_closed(void *context)
{
	struct loop *loop = context;

	loop->dns = NULL;
}

void loop_destroy(struct loop *loop)
{
	if (!loop->worker)
		return;
	dns_destroy(loop->dns, dns_closed, loop);
	worker_stop(loop->worker);
	while ((loop->dns || worker_ops_in_flight(loop->worker) > 0) && turn(loop) == 0)
		;
	worker_finish(loop->worker);
	free(loop->worker);
	loop->worker = NULL;
}
