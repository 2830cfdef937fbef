#include "unit/uring/rig.h"

#include "uring/ring_internal.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

/* ── echo over TCP, server and client in one worker, both with direct descriptors ── */

#define ECHO_CONNECTIONS 20
#define ECHO_BYTES	 300000

struct echo_end {
	struct worker *worker;
	struct file_ref file;
	struct op receive, send, close;
	struct worker_starved starved;
	struct msghdr message;
	struct iovec iov;
	uint8_t *queue; /* what is still to be sent */
	size_t queued, sent;
	size_t received;
	bool is_client, closing, closed, peer_ended;
	struct echo_run *run;
};

struct echo_run {
	struct worker worker;
	struct op accept[4];
	struct op_address accept_from[4];
	struct op listener_close;
	struct file_ref listener;
	struct echo_end ends[ECHO_CONNECTIONS * 2];
	struct op connects[ECHO_CONNECTIONS];
	struct op_address to;
	unsigned accepted, clients_done;
	uint64_t starvations;
};

static void echo_send(struct echo_end *end);
static void echo_close(struct echo_end *end);

static uint8_t echo_byte(size_t position)
{
	return (uint8_t)(position * 31 + position / 251);
}

static void echo_on_close(struct op *op, const struct completion *completion)
{
	struct echo_end *end = CONTAINER_OF(op, struct echo_end, close);

	assert_int_equal(completion->result, 0);
	end->closed = true;
}

static void echo_on_send(struct op *op, const struct completion *completion)
{
	struct echo_end *end = CONTAINER_OF(op, struct echo_end, send);

	assert_true(completion->result > 0);
	end->sent += (size_t)completion->result;
	if (end->sent < end->queued)
		echo_send(end);
	else if (end->peer_ended && !end->closing)
		echo_close(end);
}

static void echo_send(struct echo_end *end)
{
	end->iov = (struct iovec){end->queue + end->sent, end->queued - end->sent};
	end->message = (struct msghdr){.msg_iov = &end->iov, .msg_iovlen = 1};
	assert_int_equal(op_send(end->worker, &end->send, end->file, &end->message), 0);
}

static void echo_close(struct echo_end *end)
{
	end->closing = true;
	list_remove(&end->starved.link);
	assert_int_equal(op_shutdown_close(end->worker, &end->close, end->file), 0);
}

static void echo_receive(struct echo_end *end)
{
	assert_int_equal(op_receive(end->worker, &end->receive, end->file), 0);
}

static void echo_on_retry(struct worker_starved *starved)
{
	echo_receive(CONTAINER_OF(starved, struct echo_end, starved));
}

static void echo_take_in(struct echo_end *end, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		assert_int_equal(bytes.data[i], echo_byte(end->received + i));
	if (!end->is_client) {
		memcpy(end->queue + end->queued, bytes.data, bytes.len);
		end->queued += bytes.len;
		if (!end->send.armed)
			echo_send(end);
	}
	end->received += bytes.len;
	if (end->is_client && end->received == ECHO_BYTES) {
		end->run->clients_done++;
		echo_close(end);
	}
}

static void echo_on_receive(struct op *op, const struct completion *completion)
{
	struct echo_end *end = CONTAINER_OF(op, struct echo_end, receive);

	if (completion->result > 0) {
		echo_take_in(end, completion->bytes);
	} else if (completion->result == -ENOBUFS) {
		end->run->starvations++;
		if (!end->closing)
			worker_starve(end->worker, &end->starved);
		return;
	} else {
		assert_int_equal(completion->result, 0);
		end->peer_ended = true;
		if (!end->closing && !end->send.armed)
			echo_close(end);
		return;
	}
	if (!completion->more && !end->closing)
		echo_receive(end);
}

static struct echo_end *echo_open(struct echo_run *run, unsigned index, struct file_ref file)
{
	struct echo_end *end = &run->ends[index];

	*end = (struct echo_end){.worker = &run->worker, .file = file, .run = run};
	end->receive.done = echo_on_receive;
	end->send.done = echo_on_send;
	end->close.done = echo_on_close;
	worker_starved_init(&end->starved, echo_on_retry);
	end->queue = malloc(ECHO_BYTES);
	assert_non_null(end->queue);
	return end;
}

static struct echo_run *echo_current; /* the run whose listener accepts */

static void echo_accepted(struct op *op, const struct completion *completion)
{
	struct echo_run *run = echo_current;
	ptrdiff_t which = op - run->accept;

	if (completion->result == -ECANCELED || completion->result == -EINVAL)
		return;
	assert_true(completion->result >= 0);
	const struct sockaddr_in *from = (const void *)&run->accept_from[which].storage;

	assert_int_equal(from->sin_family, AF_INET);
	assert_int_equal(from->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	bool direct = ring_get_features(run->worker.ring)->direct_files;
	struct echo_end *end =
		echo_open(run, ECHO_CONNECTIONS + run->accepted,
			  (struct file_ref){.index = completion->result, .direct = direct});

	run->accepted++;
	echo_receive(end);
	assert_int_equal(op_accept(&run->worker, op, run->listener, &run->accept_from[which]), 0);
}

static void echo_connected(struct op *op, const struct completion *completion)
{
	struct echo_run *run = echo_current;
	struct echo_end *end = &run->ends[op - run->connects];

	assert_int_equal(completion->result, 0);
	for (size_t i = 0; i < ECHO_BYTES; i++)
		end->queue[i] = echo_byte(i);
	end->queued = ECHO_BYTES;
	echo_send(end);
	echo_receive(end);
}

static bool echo_is_over(const struct echo_run *run)
{
	for (unsigned i = 0; i < ECHO_CONNECTIONS * 2; i++) {
		if (!run->ends[i].closed)
			return false;
	}
	return true;
}

static bool echo_one_shot; /* as on a kernel without multishot receive */

/* Returns how often a receive starved. */
static uint64_t echo_run(const struct ring_options *options)
{
	struct echo_run *run = aligned_alloc(64, sizeof(*run));
	struct sockaddr_in address;

	assert_non_null(run);
	memset(run, 0, sizeof(*run));
	echo_current = run;
	rig_worker_init(&run->worker, 0, options);
	if (echo_one_shot)
		run->worker.ring->features.multishot_receive = false;
	/* A queue that overflows submits, which only an enabled ring takes. */
	assert_int_equal(worker_turn(&run->worker, 0), 0);
	run->listener = ring_adopt(run->worker.ring, rig_listen(&address));
	for (unsigned i = 0; i < 4; i++) {
		run->accept[i].done = echo_accepted;
		assert_int_equal(op_accept(&run->worker, &run->accept[i], run->listener,
					   &run->accept_from[i]),
				 0);
	}
	memcpy(&run->to.storage, &address, sizeof(address));
	run->to.len = sizeof(address);
	for (unsigned i = 0; i < ECHO_CONNECTIONS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct echo_end *end = echo_open(run, i, ring_adopt(run->worker.ring, fd));

		end->is_client = true;
		run->connects[i].done = echo_connected;
		assert_int_equal(op_connect(&run->worker, &run->connects[i], end->file, &run->to),
				 0);
	}
	uint64_t end_us = worker_clock_system.monotonic_us(NULL) + 60000000;

	while (!echo_is_over(run)) {
		assert_int_equal(worker_turn(&run->worker, 100000), 0);
		assert_true(worker_clock_system.monotonic_us(NULL) < end_us);
	}
	assert_int_equal(run->clients_done, ECHO_CONNECTIONS);

	/* The listener ends its accepts by being shut down. */
	struct rig_op closing;

	rig_op_init(&closing);
	assert_int_equal(op_shutdown_close(&run->worker, &closing.op, run->listener), 0);
	rig_drain(&run->worker);
	assert_int_equal(closing.result, 0);
	for (unsigned i = 0; i < ECHO_CONNECTIONS * 2; i++)
		free(run->ends[i].queue);
	uint64_t starvations = run->starvations;

	assert_int_equal(metric_value(&run->worker.metrics.buffer_starvations), starvations);
	assert_int_equal(metric_value(&run->worker.metrics.late_completions), 0);
	worker_finish(&run->worker);
	free(run);
	return starvations;
}

static void echo_over_tcp_with_direct_files(void **state)
{
	(void)state;
	int before = descriptor_count();

	echo_run(&rig_ring_options);
	assert_int_equal(descriptor_count(), before);
}

static void echo_without_a_file_table(void **state)
{
	(void)state;
	int before = descriptor_count();
	struct ring_options options = rig_ring_options;

	options.file_slots = 0;
	echo_run(&options);
	assert_int_equal(descriptor_count(), before);
}

static void starved_receives_resume_and_lose_nothing(void **state)
{
	(void)state;
	struct ring_options options = rig_ring_options;

	options.buffer_count = 2;
	options.buffer_bytes = 512;
	assert_true(echo_run(&options) > 0);
}

static void echo_with_a_tiny_submission_queue(void **state)
{
	(void)state;
	struct ring_options options = rig_ring_options;

	options.sq_entries = 2;
	echo_run(&options);
}

static void echo_with_one_shot_receives(void **state)
{
	(void)state;
	echo_one_shot = true;
	echo_run(&rig_ring_options);
	echo_one_shot = false;
}

/* ── tasks ── */

static struct worker tasked;

struct counted_task {
	struct task task;
	unsigned runs;
	unsigned reschedule; /* from within the step, so many times */
	unsigned order;	     /* of its last run */
	bool sweeps;
};

static unsigned task_order;

static void counted_run(struct task *task)
{
	struct counted_task *counted = CONTAINER_OF(task, struct counted_task, task);

	counted->runs++;
	counted->order = ++task_order;
	if (counted->reschedule > 0) {
		counted->reschedule--;
		if (counted->sweeps)
			worker_sweep_later(&tasked, task);
		else
			worker_flush_later(&tasked, task);
	}
}

static void a_task_runs_once_however_often_it_is_scheduled(void **state)
{
	(void)state;
	struct counted_task flush = {0}, sweep = {.sweeps = true};

	rig_worker_init(&tasked, 0, &rig_ring_options);
	task_init(&flush.task, counted_run);
	task_init(&sweep.task, counted_run);
	worker_sweep_later(&tasked, &sweep.task);
	for (int i = 0; i < 3; i++)
		worker_flush_later(&tasked, &flush.task);
	assert_int_equal(worker_turn(&tasked, 0), 0);
	assert_int_equal(flush.runs, 1);
	assert_int_equal(sweep.runs, 1);
	assert_true(flush.order < sweep.order);
	assert_int_equal(worker_turn(&tasked, 0), 0);
	assert_int_equal(flush.runs, 1);
	worker_finish(&tasked);
}

static void a_task_scheduled_within_its_step_runs_next_turn_without_a_wait(void **state)
{
	(void)state;
	struct counted_task flush = {.reschedule = 2}, sweep = {.reschedule = 2, .sweeps = true};

	rig_worker_init(&tasked, 0, &rig_ring_options);
	task_init(&flush.task, counted_run);
	task_init(&sweep.task, counted_run);
	worker_flush_later(&tasked, &flush.task);
	worker_sweep_later(&tasked, &sweep.task);
	alarm(10);
	for (unsigned turn = 1; turn <= 3; turn++) {
		uint64_t wait = turn < 3 ? RING_WAIT_FOREVER : 0;

		assert_int_equal(worker_turn(&tasked, wait), 0);
		assert_int_equal(flush.runs, turn);
		assert_int_equal(sweep.runs, turn);
	}
	alarm(0);
	worker_finish(&tasked);
}

static void a_step_runs_a_batch_and_leaves_the_rest_in_order(void **state)
{
	(void)state;
	static struct counted_task tasks[WORKER_BATCH * 2 + 10];

	rig_worker_init(&tasked, 0, &rig_ring_options);
	for (size_t i = 0; i < ARRAY_LEN(tasks); i++) {
		task_init(&tasks[i].task, counted_run);
		worker_flush_later(&tasked, &tasks[i].task);
	}
	/* Removed before its turn: not run. */
	list_remove(&tasks[300].task.link);
	alarm(10);
	assert_int_equal(worker_turn(&tasked, RING_WAIT_FOREVER), 0);
	assert_int_equal(tasks[WORKER_BATCH - 1].runs, 1);
	assert_int_equal(tasks[WORKER_BATCH].runs, 0);
	assert_int_equal(worker_turn(&tasked, RING_WAIT_FOREVER), 0);
	assert_int_equal(worker_turn(&tasked, 0), 0);
	alarm(0);
	for (size_t i = 1; i < ARRAY_LEN(tasks); i++) {
		assert_int_equal(tasks[i].runs, i != 300);
		if (i != 300 && i != 301)
			assert_true(tasks[i - 1].order < tasks[i].order);
	}
	worker_finish(&tasked);
}

struct submitting_task {
	struct task task;
	struct op op;
	int fd;
	unsigned runs, completions;
};

static void submitting_done(struct op *op, const struct completion *completion)
{
	(void)completion;
	CONTAINER_OF(op, struct submitting_task, op)->completions++;
}

static void submitting_run(struct task *task)
{
	struct submitting_task *submitting = CONTAINER_OF(task, struct submitting_task, task);

	submitting->runs++;
	op_init(&submitting->op);
	submitting->op.done = submitting_done;
	assert_int_equal(op_poll(&tasked, &submitting->op, file_from_fd(submitting->fd), POLLIN),
			 0);
}

static void flushes_that_submit_much_go_on_in_the_next_turn(void **state)
{
	(void)state;
	static struct submitting_task tasks[WORKER_SUBMISSIONS_MAX + 40];
	int fd = eventfd(1, EFD_CLOEXEC);

	rig_worker_init(&tasked, 0, &rig_ring_options);
	for (size_t i = 0; i < ARRAY_LEN(tasks); i++) {
		tasks[i] = (struct submitting_task){.fd = fd};
		task_init(&tasks[i].task, submitting_run);
		worker_flush_later(&tasked, &tasks[i].task);
	}
	alarm(10);
	assert_int_equal(worker_turn(&tasked, RING_WAIT_FOREVER), 0);
	assert_int_equal(tasks[WORKER_SUBMISSIONS_MAX - 1].runs, 1);
	assert_int_equal(tasks[WORKER_SUBMISSIONS_MAX].runs, 0);
	assert_int_equal(worker_turn(&tasked, RING_WAIT_FOREVER), 0);
	assert_int_equal(tasks[ARRAY_LEN(tasks) - 1].runs, 1);
	rig_drain(&tasked);
	alarm(0);
	for (size_t i = 0; i < ARRAY_LEN(tasks); i++)
		assert_int_equal(tasks[i].runs + tasks[i].completions, 2);
	worker_finish(&tasked);
	close(fd);
}

/* ── what a turn may take ── */

#define COSTLY_US 300 /* of what is received */

struct costly {
	struct op op;
	unsigned calls;
	int pair[2];
};

static uint64_t costly_now_us;

static uint64_t costly_monotonic_us(void *context)
{
	(void)context;
	return costly_now_us;
}

static void costly_done(struct op *op, const struct completion *completion)
{
	if (completion->result <= 0)
		return;
	CONTAINER_OF(op, struct costly, op)->calls++;
	costly_now_us += COSTLY_US;
}

/* Commands are verified where they are received: one look at the clock after all was far too late. */
static void receives_that_take_their_time_go_on_in_the_next_turn(void **state)
{
	static struct costly costly[16];
	static const uint8_t bytes[WORKER_REAP_BYTES];
	const unsigned turn_max = WORKER_TURN_US / COSTLY_US + 1;
	unsigned sum = 0, before;

	(void)state;
	rig_worker_init(&tasked, 0, &rig_ring_options);
	costly_now_us = tasked.now_us;
	tasked.clock.monotonic_us = costly_monotonic_us;
	for (size_t i = 0; i < ARRAY_LEN(costly); i++) {
		assert_int_equal(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, costly[i].pair), 0);
		op_init(&costly[i].op);
		costly[i].op.done = costly_done;
		assert_int_equal(
			op_receive(&tasked, &costly[i].op, file_from_fd(costly[i].pair[0])), 0);
	}
	assert_int_equal(worker_turn(&tasked, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(costly); i++)
		assert_int_equal(write(costly[i].pair[1], bytes, sizeof(bytes)), sizeof(bytes));
	alarm(10);
	while (sum < ARRAY_LEN(costly)) {
		bool is_rest_left = ARRAY_LEN(costly) - sum > turn_max;

		before = sum;
		/* what is left keeps a turn from waiting */
		assert_int_equal(worker_turn(&tasked, is_rest_left ? RING_WAIT_FOREVER : 0), 0);
		sum = 0;
		for (size_t i = 0; i < ARRAY_LEN(costly); i++)
			sum += costly[i].calls;
		assert_true(sum - before <= turn_max);
	}
	for (size_t i = 0; i < ARRAY_LEN(costly); i++) {
		assert_int_equal(costly[i].calls, 1);
		close(costly[i].pair[1]);
	}
	rig_drain(&tasked);
	alarm(0);
	worker_finish(&tasked);
	for (size_t i = 0; i < ARRAY_LEN(costly); i++)
		close(costly[i].pair[0]);
}

/* ── stopping ── */

struct stopper {
	struct worker worker;
	struct rig_op receive, poll, cancel_receive, cancel_poll;
	struct deadline deadline;
};

static void stopper_expired(struct deadline *deadline)
{
	struct stopper *stopper = CONTAINER_OF(deadline, struct stopper, deadline);

	worker_stop(&stopper->worker);
	assert_int_equal(
		op_cancel(&stopper->worker, &stopper->cancel_receive.op, &stopper->receive.op), 0);
	assert_int_equal(op_cancel(&stopper->worker, &stopper->cancel_poll.op, &stopper->poll.op),
			 0);
}

static void a_stopped_worker_returns_when_the_last_operation_has_ended(void **state)
{
	(void)state;
	static struct stopper stopper;
	int before = descriptor_count();
	int pair[2];

	rig_worker_init(&stopper.worker, 0, &rig_ring_options);
	rig_tcp_pair(pair);
	rig_op_init(&stopper.receive);
	rig_op_init(&stopper.poll);
	rig_op_init(&stopper.cancel_receive);
	rig_op_init(&stopper.cancel_poll);
	deadline_init(&stopper.deadline, stopper_expired);
	deadline_arm(&stopper.worker, &stopper.deadline, 5);
	assert_int_equal(op_receive(&stopper.worker, &stopper.receive.op, file_from_fd(pair[0])),
			 0);
	assert_int_equal(op_poll(&stopper.worker, &stopper.poll.op, file_from_fd(pair[0]), POLLIN),
			 0);
	alarm(10);
	assert_int_equal(worker_run(&stopper.worker), 0);
	alarm(0);
	assert_int_equal(stopper.receive.result, -ECANCELED);
	assert_int_equal(stopper.poll.result, -ECANCELED);
	assert_true(stopper.cancel_receive.finished && stopper.cancel_poll.finished);
	assert_int_equal(worker_ops_in_flight(&stopper.worker), 0);
	worker_finish(&stopper.worker);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(descriptor_count(), before);
}

/* As main does: the parts are built first, the threads come later. */
struct prepared {
	struct worker worker;
	struct op poll, close;
	struct file_ref file;
	int poll_result, close_result, run_result;
};

static void prepared_closed(struct op *op, const struct completion *completion)
{
	struct prepared *prepared = CONTAINER_OF(op, struct prepared, close);

	prepared->close_result = completion->result;
	worker_stop(&prepared->worker);
}

static void prepared_polled(struct op *op, const struct completion *completion)
{
	struct prepared *prepared = CONTAINER_OF(op, struct prepared, poll);

	prepared->poll_result = completion->result;
	prepared->close_result = op_close(&prepared->worker, &prepared->close, prepared->file);
}

static void *prepared_run(void *argument)
{
	struct prepared *prepared = argument;

	prepared->run_result = worker_run(&prepared->worker);
	return NULL;
}

static void a_worker_prepared_by_one_thread_runs_in_another(void **state)
{
	(void)state;
	static struct prepared prepared;
	pthread_t thread;

	rig_worker_init(&prepared.worker, 0, &rig_ring_options);
	prepared.file = ring_adopt(prepared.worker.ring, eventfd(1, EFD_CLOEXEC));
	assert_true(prepared.file.direct);
	prepared.poll.done = prepared_polled;
	prepared.close.done = prepared_closed;
	assert_int_equal(op_poll(&prepared.worker, &prepared.poll, prepared.file, POLLIN), 0);
	alarm(10);
	assert_int_equal(pthread_create(&thread, NULL, prepared_run, &prepared), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	alarm(0);
	assert_int_equal(prepared.run_result, 0);
	assert_int_equal(prepared.poll_result, POLLIN);
	assert_int_equal(prepared.close_result, 0);
	worker_finish(&prepared.worker);
}

static void a_worker_stopped_before_it_runs_returns_at_once(void **state)
{
	(void)state;
	static struct worker worker;

	rig_worker_init(&worker, 0, &rig_ring_options);
	worker_stop(&worker);
	alarm(10);
	assert_int_equal(worker_run(&worker), 0);
	alarm(0);
	worker_finish(&worker);
}

/* ── metrics ── */

static void metrics_carry_the_worker_s_name_and_leave_with_it(void **state)
{
	(void)state;
	static struct worker worker;
	struct metric_registry *registry = metric_registry_create();
	const struct worker_options options = {
		.name = "worker-7",
		.index = 7,
		.ring = rig_ring_options,
		.clock = worker_clock_system,
		.metrics = registry,
	};
	static const char *const lines[] = {
		"gateway_ring_submissions_total{worker=\"worker-7\"} 1\n",
		"gateway_ring_completions_total{worker=\"worker-7\"} 1\n",
		"gateway_ring_cq_overflows_total{worker=\"worker-7\"} 0\n",
		"gateway_ring_buffer_starvations_total{worker=\"worker-7\"} 0\n",
		"gateway_worker_loop_seconds_count{worker=\"worker-7\"} ",
		"gateway_ring_operations_in_flight{worker=\"worker-7\"} 0\n",
	};
	char why[256];
	struct rig_op poll_op;
	int fd = eventfd(1, EFD_CLOEXEC);
	struct buf text;

	assert_int_equal(worker_init(&worker, &options, why, sizeof(why)), 0);
	rig_op_init(&poll_op);
	assert_int_equal(op_poll(&worker, &poll_op.op, file_from_fd(fd), POLLIN), 0);
	rig_drain(&worker);
	assert_int_equal(worker_turn(&worker, 0), 0);
	buf_init(&text, 1 << 20);
	metric_render(registry, &text);
	assert_int_equal(buf_append_byte(&text, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		assert_non_null(strstr((const char *)text.data, lines[i]));
	buf_finish(&text);
	worker_finish(&worker);
	metric_registry_destroy(registry);
	close(fd);
}

/* ── a completion queue that is too small for what arrives ── */

static void completions_that_overflow_the_queue_are_late_not_lost(void **state)
{
	(void)state;
	static struct worker worker;
	struct ring_options options = rig_ring_options;
	static struct rig_op polls[300];
	int fd = eventfd(0, EFD_CLOEXEC);

	options.sq_entries = 16;
	options.cq_entries = 32;
	rig_worker_init(&worker, 0, &options);
	assert_int_equal(worker_turn(&worker, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(polls); i++) {
		rig_op_init(&polls[i]);
		assert_int_equal(op_poll(&worker, &polls[i].op, file_from_fd(fd), POLLIN), 0);
	}
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_equal(eventfd_write(fd, 1), 0);
	/* Fetch more than the queue holds, without reaping. */
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(ring_enter(worker.ring, 0), 0);
	assert_true(ring_get_counts(worker.ring).cq_overflows > 0);
	rig_drain(&worker);
	assert_true(metric_value(&worker.metrics.cq_overflows) > 0);
	for (size_t i = 0; i < ARRAY_LEN(polls); i++)
		assert_int_equal(polls[i].calls, 1);
	worker_finish(&worker);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(echo_over_tcp_with_direct_files),
		cmocka_unit_test(echo_without_a_file_table),
		cmocka_unit_test(starved_receives_resume_and_lose_nothing),
		cmocka_unit_test(echo_with_a_tiny_submission_queue),
		cmocka_unit_test(echo_with_one_shot_receives),
		cmocka_unit_test(a_worker_prepared_by_one_thread_runs_in_another),
		cmocka_unit_test(a_task_runs_once_however_often_it_is_scheduled),
		cmocka_unit_test(a_task_scheduled_within_its_step_runs_next_turn_without_a_wait),
		cmocka_unit_test(a_step_runs_a_batch_and_leaves_the_rest_in_order),
		cmocka_unit_test(flushes_that_submit_much_go_on_in_the_next_turn),
		cmocka_unit_test(receives_that_take_their_time_go_on_in_the_next_turn),
		cmocka_unit_test(a_stopped_worker_returns_when_the_last_operation_has_ended),
		cmocka_unit_test(a_worker_stopped_before_it_runs_returns_at_once),
		cmocka_unit_test(metrics_carry_the_worker_s_name_and_leave_with_it),
		cmocka_unit_test(completions_that_overflow_the_queue_are_late_not_lost),
	};
	return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
