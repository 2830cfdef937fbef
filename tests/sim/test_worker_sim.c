/*
 * The worker over a simulated ring: clients on one worker, an echo server on another, one virtual
 * clock. Whatever the seed does with order, sizes and faults, bytes come back once and in order,
 * every connection ends, and nothing is in flight or open at the end. SEED=<number> runs one
 * seed again.
 */
#include "log/log.h"
#include "sim/mock_ring.h"
#include "sim/seeds.h"
#include "uring/worker_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SEEDS		400
#define SEEDS_HOSTILE	1200
#define CONNECTIONS_MAX 12
#define BYTES_MAX	40000
#define ACCEPTS		3
#define PORT		4711
#define TURNS_MAX	2000000

enum world { CLEAN, FAULTY, HOSTILE };

struct scene;

/* Told to the other worker when an end has closed. */
struct farewell {
	struct letter letter;
	struct scene *scene;
};

struct end {
	struct scene *scene;
	struct worker *worker;
	struct file_ref file;
	struct op connect, receive, send, close, cancel;
	struct worker_starved starved;
	struct deadline give_up;
	struct task flush;
	struct msghdr message;
	struct iovec iov[3];
	uint8_t *queue;
	size_t queued, sent, in_flight, received, wanted;
	bool is_client, open, failed, closing, closed, peer_ended, zero_copy, complete;
	struct farewell farewell;
};

struct scene {
	struct worker server, client;
	struct file_ref listener;
	struct op accept[ACCEPTS], listener_close;
	struct op_address accept_from[ACCEPTS], to;
	struct end clients[CONNECTIONS_MAX];
	struct end *servers[CONNECTIONS_MAX * 2];
	unsigned count, accepted, clients_closed, servers_closed, farewells;
	bool faulty, hostile, stopping, listener_closed;
	unsigned complete;
};

static struct scene scene;

static uint8_t byte_at(size_t position, size_t salt)
{
	return (uint8_t)((position * 31 + position / 251) ^ salt);
}

static void end_send(struct end *end);

/* ── closing: cancel or shut down, wait for every op, then close is over ── */

static void end_stop_if_idle(struct end *end)
{
	if (!end->closed || end->receive.armed || end->send.armed || end->connect.armed ||
	    end->cancel.armed)
		return;
	CHECK(end->open);
	end->open = false;
	free(end->queue);
	if (end->is_client) {
		end->scene->clients_closed++;
		end->scene->complete += end->complete;
		letter_post(end->worker, &end->scene->server, &end->farewell.letter);
	} else {
		end->scene->servers_closed++;
		letter_post(end->worker, &end->scene->client, &end->farewell.letter);
	}
}

static void on_close(struct op *op, const struct completion *completion)
{
	struct end *end = CONTAINER_OF(op, struct end, close);

	CHECK(completion->result == 0 || end->scene->hostile);
	CHECK(!completion->more);
	end->closed = true;
	end_stop_if_idle(end);
}

static void on_cancel(struct op *op, const struct completion *completion)
{
	struct end *end = CONTAINER_OF(op, struct end, cancel);
	enum op_outcome outcome = op_classify(op->kind, completion->result);

	CHECK(outcome == OP_OK || outcome == OP_GONE);
	end_stop_if_idle(end);
}

static void end_close(struct end *end)
{
	if (end->closing)
		return;
	end->closing = true;
	list_remove(&end->starved.link);
	list_remove(&end->flush.link);
	deadline_disarm(end->worker, &end->give_up);
	/* Either way is right: a shutdown ends the receive, so does a cancel. */
	if (end->receive.armed && sim_chance(300)) {
		CHECK(op_cancel(end->worker, &end->cancel, &end->receive) == 0);
		if (end->send.armed || end->connect.armed || sim_chance(500))
			CHECK(op_shutdown_close(end->worker, &end->close, end->file) == 0);
		else
			CHECK(op_close(end->worker, &end->close, end->file) == 0);
		return;
	}
	CHECK(op_shutdown_close(end->worker, &end->close, end->file) == 0);
}

static void end_fail(struct end *end, int32_t result)
{
	CHECK(end->scene->faulty || end->closing || end->scene->stopping);
	CHECK(end->scene->hostile || (result != -EBADF && result != -EINVAL));
	end->failed = true;
	end_close(end);
}

static void on_give_up(struct deadline *deadline)
{
	struct end *end = CONTAINER_OF(deadline, struct end, give_up);

	CHECK(end->scene->faulty);
	end_close(end);
}

/* ── bytes ── */

static void on_send(struct op *op, const struct completion *completion)
{
	struct end *end = CONTAINER_OF(op, struct end, send);

	if (completion->notification) {
		CHECK(!completion->more);
	} else if (completion->result < 0) {
		end_fail(end, completion->result);
	} else {
		CHECK((size_t)completion->result <= end->in_flight);
		end->sent += (size_t)completion->result;
	}
	if (op->armed)
		return;
	end_stop_if_idle(end);
	if (end->closing)
		return;
	if (end->sent < end->queued)
		worker_flush_later(end->worker, &end->flush);
	else if (end->peer_ended)
		end_close(end);
}

static void on_flush(struct task *task)
{
	end_send(CONTAINER_OF(task, struct end, flush));
}

/* In up to three pieces, so that a gather is cut everywhere. */
static void end_send(struct end *end)
{
	size_t left = end->queued - end->sent, at = end->sent, count = 0;

	if (end->send.armed || left == 0 || end->closing)
		return;
	end->in_flight = left;
	while (left > 0) {
		size_t piece = count == 2 ? left : 1 + sim_random(left);

		end->iov[count++] = (struct iovec){end->queue + at, piece};
		at += piece;
		left -= piece;
	}
	end->message = (struct msghdr){.msg_iov = end->iov, .msg_iovlen = count};
	if (end->zero_copy)
		CHECK(op_send_zc(end->worker, &end->send, end->file, &end->message) == 0);
	else
		CHECK(op_send(end->worker, &end->send, end->file, &end->message) == 0);
}

static void end_receive(struct end *end)
{
	CHECK(op_receive(end->worker, &end->receive, end->file) == 0);
}

static void on_retry(struct worker_starved *starved)
{
	end_receive(CONTAINER_OF(starved, struct end, starved));
}

static void end_take(struct end *end, struct span bytes)
{
	size_t salt = end->wanted;

	if (end->is_client) {
		CHECK(end->received + bytes.len <= end->wanted);
		for (size_t i = 0; i < bytes.len; i++)
			CHECK(bytes.data[i] == byte_at(end->received + i, salt));
	} else {
		CHECK(end->queued + bytes.len <= BYTES_MAX);
		memcpy(end->queue + end->queued, bytes.data, bytes.len);
		end->queued += bytes.len;
		worker_flush_later(end->worker, &end->flush);
	}
	end->received += bytes.len;
	if (end->is_client && end->received == end->wanted) {
		end->complete = true;
		end_close(end);
	}
}

static void on_receive(struct op *op, const struct completion *completion)
{
	struct end *end = CONTAINER_OF(op, struct end, receive);

	if (end->closing) {
		end_stop_if_idle(end);
		return;
	}
	switch (op_classify(op->kind, completion->result)) {
	case OP_OK:
		if (completion->result > 0) {
			end_take(end, completion->bytes);
			if (!op->armed && !end->closing)
				end_receive(end);
			break;
		}
		end->peer_ended = true;
		CHECK(!end->is_client || end->scene->faulty);
		if (end->sent == end->queued && !end->send.armed)
			end_close(end);
		break;
	case OP_STARVED:
		worker_starve(end->worker, &end->starved);
		break;
	default:
		end_fail(end, completion->result);
	}
}

/* ── opening ── */

static void on_farewell(struct worker *to, struct letter *letter)
{
	(void)to;
	CONTAINER_OF(letter, struct farewell, letter)->scene->farewells++;
}

static void end_init(struct end *end, struct worker *worker, struct file_ref file)
{
	*end = (struct end){.scene = &scene, .worker = worker, .file = file, .open = true};
	end->receive.done = on_receive;
	end->send.done = on_send;
	end->close.done = on_close;
	end->cancel.done = on_cancel;
	end->zero_copy = sim_chance(300);
	end->farewell.scene = &scene;
	end->farewell.letter.deliver = on_farewell;
	worker_starved_init(&end->starved, on_retry);
	deadline_init(&end->give_up, on_give_up);
	task_init(&end->flush, on_flush);
	end->queue = malloc(BYTES_MAX);
	CHECK(end->queue != NULL);
}

static void on_accept(struct op *op, const struct completion *completion)
{
	size_t which = (size_t)(op - scene.accept);

	switch (op_classify(op->kind, completion->result)) {
	case OP_OK:
		CHECK(scene.accepted < ARRAY_LEN(scene.servers));
		CHECK(scene.accept_from[which].len == sizeof(struct sockaddr_in));
		struct end *end = calloc(1, sizeof(*end));

		CHECK(end != NULL);
		scene.servers[scene.accepted++] = end;
		end_init(end, &scene.server,
			 (struct file_ref){.index = completion->result, .direct = true});
		end_receive(end);
		break;
	case OP_CANCELLED:
		CHECK(scene.stopping);
		return;
	default:
		CHECK(scene.faulty);
	}
	if (!scene.stopping)
		CHECK(op_accept(&scene.server, op, scene.listener, &scene.accept_from[which]) == 0);
}

static void on_connect(struct op *op, const struct completion *completion)
{
	struct end *end = CONTAINER_OF(op, struct end, connect);

	if (end->closing) {
		end_stop_if_idle(end);
		return;
	}
	if (completion->result < 0) {
		end_fail(end, completion->result);
		return;
	}
	end->queued = end->wanted;
	end_receive(end);
	worker_flush_later(end->worker, &end->flush);
}

static void client_start(struct end *end)
{
	end_init(end, &scene.client, sim_socket(scene.client.ring));
	end->is_client = true;
	end->wanted = 1 + sim_random(sim_chance(500) ? 200 : BYTES_MAX - 1);
	for (size_t i = 0; i < end->wanted; i++)
		end->queue[i] = byte_at(i, end->wanted);
	end->connect.done = on_connect;
	CHECK(op_connect(end->worker, &end->connect, end->file, &scene.to) == 0);
	/* Now and then a client loses patience in the middle. */
	if (scene.faulty && sim_chance(200))
		deadline_arm(end->worker, &end->give_up, sim_random(20));
}

static void on_listener_close(struct op *op, const struct completion *completion)
{
	(void)op;
	CHECK(completion->result == 0 || scene.hostile);
	scene.listener_closed = true;
}

static void scene_begin(uint64_t seed, enum world world)
{
	struct sim_options sim_options = world == CLEAN	   ? sim_options_clean(seed)
					 : world == FAULTY ? sim_options_faulty(seed)
							   : sim_options_hostile(seed);
	char why[64];

	/* Submissions that find no room are for those who try again: test_story_sim. */
	sim_options.queue_chance = 0;
	sim_begin(&sim_options);
	scene = (struct scene){.faulty = world != CLEAN,
			       .hostile = world == HOSTILE,
			       .count = 1 + (unsigned)sim_random(CONNECTIONS_MAX)};
	for (unsigned i = 0; i < 2; i++) {
		const struct worker_options options = {
			.name = i ? "client" : "server",
			.index = i,
			.clock = sim_clock,
			.ring =
				{
					.sq_entries = 4u << sim_random(5),
					.cq_entries = 64,
					.file_slots = 128,
					.buffer_count = 1u << sim_random(5),
					.buffer_bytes = 16u << sim_random(8),
				},
		};

		CHECK(worker_init(i ? &scene.client : &scene.server, &options, why, sizeof(why)) ==
		      0);
	}
	scene.listener = sim_listener(scene.server.ring, PORT);
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(PORT),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	memcpy(&scene.to.storage, &address, sizeof(address));
	scene.to.len = sizeof(address);
	for (unsigned i = 0; i < ACCEPTS; i++) {
		scene.accept[i].done = on_accept;
		CHECK(op_accept(&scene.server, &scene.accept[i], scene.listener,
				&scene.accept_from[i]) == 0);
	}
	for (unsigned i = 0; i < scene.count; i++)
		client_start(&scene.clients[i]);
}

/* All clients are done: no new ones come, what the server still has ends by itself. */
static void scene_stop(void)
{
	scene.stopping = true;
	scene.listener_close.done = on_listener_close;
	CHECK(op_shutdown_close(&scene.server, &scene.listener_close, scene.listener) == 0);
	worker_stop(&scene.server);
	worker_stop(&scene.client);
}

static bool worker_is_idle(const struct worker *worker)
{
	return worker_ops_in_flight(worker) == 0;
}

static bool scene_is_over(void)
{
	unsigned letters = scene.clients_closed + scene.servers_closed;

	return scene.stopping && scene.listener_closed && scene.clients_closed == scene.count &&
	       scene.servers_closed == scene.accepted && scene.farewells == letters &&
	       worker_is_idle(&scene.server) && worker_is_idle(&scene.client) &&
	       scene.server.wake_retry_us == 0 && scene.client.wake_retry_us == 0;
}

static void scene_end(void)
{
	/* Completions of quiet submissions that failed. */
	for (unsigned i = 0; i < 20; i++) {
		sim_sleep_us(1000);
		CHECK(worker_turn(&scene.server, 1000) == 0);
		CHECK(worker_turn(&scene.client, 1000) == 0);
	}
	CHECK(scene.faulty || scene.complete == scene.count);
	CHECK(metric_value(&scene.server.metrics.late_completions) == 0);
	CHECK(metric_value(&scene.client.metrics.late_completions) == 0);
	for (unsigned i = 0; i < scene.accepted; i++)
		free(scene.servers[i]);
	worker_finish(&scene.server);
	worker_finish(&scene.client);
	sim_end();
}

static struct sim_counts sum; /* over the seeds of one test */

static void add_counts(void)
{
	const struct sim_counts counts = sim_get_counts();

	sum.shorts += counts.shorts;
	sum.starvations += counts.starvations;
	sum.multishot_ends += counts.multishot_ends;
	sum.resets += counts.resets;
	sum.accept_failures += counts.accept_failures;
	sum.connect_failures += counts.connect_failures;
	sum.messages_refused += counts.messages_refused;
	sum.bytes += counts.bytes;
	sum.cq_overflows += counts.cq_overflows;
	sum.cancel_races += counts.cancel_races;
}

static void run_world(uint64_t seed, enum world world)
{
	unsigned turns = 0;

	scene_begin(seed, world);
	while (!scene_is_over()) {
		bool server = sim_chance(500);

		CHECK(turns++ < TURNS_MAX);
		/* Between its turns the other worker may still be in its wait. */
		if (sim_chance(500))
			mailbox_set_asleep(server ? &scene.client : &scene.server, true);
		CHECK(worker_turn(server ? &scene.server : &scene.client,
				  sim_chance(500) ? RING_WAIT_FOREVER : sim_random(2000)) == 0);
		if (!scene.stopping && scene.clients_closed == scene.count)
			scene_stop();
	}
	scene_end();
	add_counts();
}

static void run_clean(uint64_t seed)
{
	run_world(seed, CLEAN);
}

static void run_faulty(uint64_t seed)
{
	run_world(seed, FAULTY);
}

static void run_hostile(uint64_t seed)
{
	run_world(seed, HOSTILE);
}

static void echo_returns_every_byte_in_order_whatever_the_order_of_completions(void **state)
{
	(void)state;
	sum = (struct sim_counts){0};
	bool all = seeds_run("clean", SEEDS, run_clean);

	assert_true(sum.bytes > 0);
	if (all)
		assert_true(sum.shorts > 0 && sum.starvations > 0);
}

static void echo_with_faults_loses_connections_but_never_order_files_or_operations(void **state)
{
	(void)state;
	sum = (struct sim_counts){0};
	if (!seeds_run("faulty", SEEDS, run_faulty))
		return;
	/* The seeds do reach every fault. */
	assert_true(sum.resets > 0 && sum.accept_failures > 0 && sum.connect_failures > 0);
	assert_true(sum.multishot_ends > 0 && sum.messages_refused > 0);
}

static void echo_survives_every_errno_full_queues_and_late_cancels(void **state)
{
	static const enum ring_opcode used[] = {RING_ACCEPT,  RING_RECEIVE, RING_SEND,
						RING_SEND_ZC, RING_CONNECT, RING_SHUTDOWN,
						RING_CLOSE,   RING_MESSAGE};

	(void)state;
	sum = (struct sim_counts){0};
	if (!seeds_run("hostile", SEEDS_HOSTILE, run_hostile))
		return;
	assert_true(sum.cq_overflows > 0 && sum.cancel_races > 0);
	for (size_t i = 0; i < ARRAY_LEN(used); i++)
		assert_int_equal(sim_errno_reached(used[i]), sim_errno_count(used[i]));
}

static void the_same_seed_runs_the_same_way(void **state)
{
	(void)state;
	uint64_t ends_us[2];
	struct sim_counts counts[2];

	for (unsigned i = 0; i < 2; i++) {
		run_world(4242, HOSTILE);
		ends_us[i] = sim_now_us();
		counts[i] = sim_get_counts();
	}
	assert_int_equal(ends_us[0], ends_us[1]);
	assert_memory_equal(&counts[0], &counts[1], sizeof(counts[0]));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			echo_returns_every_byte_in_order_whatever_the_order_of_completions),
		cmocka_unit_test(
			echo_with_faults_loses_connections_but_never_order_files_or_operations),
		cmocka_unit_test(echo_survives_every_errno_full_queues_and_late_cancels),
		cmocka_unit_test(the_same_seed_runs_the_same_way),
	};

	(void)argc;
	seeds_begin(argv[0]);
	log_setup(&(struct log_options){.level = LOG_ERROR + 1, .format = LOG_TEXT, .fd = 2});
	return cmocka_run_group_tests_name("worker_sim", tests, NULL, NULL);
}
