/*
 * A conn that sends large payloads by zero copy over a simulated ring, whose notifications come
 * late and in any order: every byte arrives once and in order, no memory that the kernel may still
 * read is written or freed (the ring looks), and none is kept afterwards. SEED=<number> runs
 * one seed again.
 */
#include "log/log.h"
#include "net/conn.h"
#include "net/zerocopy.h"
#include "sim/mock_ring.h"
#include "sim/seeds.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SEEDS	     300
#define PAYLOADS_MAX 512
#define BYTES_MAX    (1u << 20)
#define PIECE_MAX    40000
#define TURNS_MAX    2000000

/* How the connection ends. */
enum ending { ALL_SENT, CLOSED_BY_US, CLOSED_BY_PEER, ENDINGS };

static struct {
	struct worker worker;
	struct zerocopy zerocopy;
	struct conn_counters counters;
	struct conn sender, receiver;
	struct payload *payloads[PAYLOADS_MAX];
	size_t payload_count, to_produce, produced, received;
	enum ending ending;
	size_t ends_at; /* bytes received when one side closes */
	unsigned closed;
	enum conn_end end;
} scene;

/* Over all seeds: what was reached. */
static struct {
	uint64_t sent, copied, refused, shorts, closed_pending, plain_while_pending, switched_off;
	unsigned pending_max;
} reached;

static uint8_t byte_at(size_t position)
{
	return (uint8_t)(position * 31 + position / 251);
}

static void produce_slice(struct conn *conn, size_t len)
{
	struct payload *payload = payload_create(len);
	const struct payload_slice slice = {payload, 0, (uint32_t)len};

	CHECK(payload && scene.payload_count < PAYLOADS_MAX);
	for (size_t i = 0; i < len; i++)
		payload->data[i] = byte_at(scene.produced + i);
	/* Some are kept to be counted; of the others the conn has the only reference. */
	bool is_kept = sim_chance(500);

	if (sim_chance(500)) {
		CHECK(conn_send_slice(conn, slice) == 0);
		if (!is_kept)
			payload_put(payload);
	} else {
		payload_get(payload, is_kept);
		CHECK(conn_give_slice(conn, slice) == 0);
	}
	if (is_kept)
		scene.payloads[scene.payload_count++] = payload;
}

static void produce_bytes(struct conn *conn, size_t len)
{
	uint8_t bytes[64];

	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(scene.produced + i);
	CHECK(conn_send(conn, span_make(bytes, len)) == 0);
}

static void on_produce(struct conn *conn)
{
	while (scene.produced < scene.to_produce && conn_has_room(conn)) {
		bool is_slice = sim_chance(700) && scene.payload_count < PAYLOADS_MAX;
		size_t left = scene.to_produce - scene.produced;
		size_t len = 1 + sim_random(is_slice ? PIECE_MAX : 64);

		len = len < left ? len : left;
		if (is_slice)
			produce_slice(conn, len);
		else
			produce_bytes(conn, len < 64 ? len : (len = 64));
		scene.produced += len;
		if (sim_chance(200))
			break; /* the rest another time */
	}
	if (scene.produced == scene.to_produce && scene.ending == ALL_SENT)
		conn_finish_sending(conn);
	else if (scene.produced < scene.to_produce)
		conn_wants_flush(conn);
}

static void on_received(struct conn *conn, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		CHECK(bytes.data[i] == byte_at(scene.received + i));
	scene.received += bytes.len;
	if (scene.received < scene.ends_at)
		return;
	if (scene.ending == CLOSED_BY_US)
		conn_close(&scene.sender);
	else if (scene.ending == CLOSED_BY_PEER)
		conn_close(conn);
}

static void nothing_received(struct conn *conn, struct span bytes)
{
	(void)conn, (void)bytes;
	CHECK(false);
}

static void on_closed(struct conn *conn, enum conn_end end, int error)
{
	(void)error;
	scene.closed++;
	if (conn != &scene.sender)
		return;
	scene.end = end;
	CHECK(conn->zerocopy_pending == 0 && !conn->send && !conn->queue.first);
	/* All that the conn held is given back, and before `closed`. */
	for (size_t i = 0; i < scene.payload_count; i++)
		CHECK(scene.payloads[i]->count == 1);
}

static const struct conn_handler sending = {
	.received = nothing_received, .produce = on_produce, .closed = on_closed};
static const struct conn_handler receiving = {.received = on_received, .closed = on_closed};

static void scene_begin(const struct sim_options *options)
{
	static const struct conn_options conn_options = {.queue_bytes_max = 1 << 20,
							 .queue_bytes_room = 128 << 10};
	const struct worker_options worker_options = {
		.name = "worker-0",
		.clock = sim_clock,
		.ring = {.sq_entries = 16,
			 .cq_entries = 64,
			 .file_slots = 16,
			 .buffer_count = 8,
			 .buffer_bytes = 4096},
	};
	struct file_ref ours, its;
	char why[256];

	struct sim_options opening = *options;

	opening.queue_chance = 0;
	sim_begin(&opening);
	memset(&scene, 0, sizeof(scene));
	CHECK(worker_init(&scene.worker, &worker_options, why, sizeof(why)) == 0);
	CHECK(worker_turn(&scene.worker, 0) == 0);
	zerocopy_init(&scene.zerocopy, &scene.worker);
	CHECK(zerocopy_is_enabled(&scene.zerocopy));
	scene.counters.zerocopy = &scene.zerocopy;
	scene.to_produce = 1 + sim_random(BYTES_MAX);
	scene.ending = (enum ending)sim_random(ENDINGS);
	scene.ends_at = sim_random(scene.to_produce);
	sim_pair(scene.worker.ring, &ours, scene.worker.ring, &its);
	CHECK(conn_open(&scene.sender, &scene.worker, ours, &sending, &conn_options) == 0);
	CHECK(conn_open(&scene.receiver, &scene.worker, its, &receiving, &conn_options) == 0);
	CHECK(address_from_text(&scene.sender.peer, "198.51.100.7", 4711));
	scene.sender.counters = &scene.counters;
	conn_allow_zerocopy(&scene.sender);
	CHECK(scene.sender.may_zerocopy);
	conn_wants_flush(&scene.sender);
	sim_change(options);
}

static void look(bool *was_closing)
{
	const struct conn *conn = &scene.sender;

	if (conn->zerocopy_pending > reached.pending_max)
		reached.pending_max = conn->zerocopy_pending;
	CHECK(conn->zerocopy_pending <= CONN_ZC_PENDING_MAX);
	reached.plain_while_pending += conn->zerocopy_pending > 0 && conn->send_op.armed;
	if (!conn->close_started && conn->zerocopy_waited && conn->zerocopy_pending > 0 &&
	    !*was_closing) {
		*was_closing = true;
		reached.closed_pending++;
	}
}

static void scene_end(void)
{
	const struct zerocopy *zerocopy = &scene.zerocopy;

	CHECK(worker_ops_in_flight(&scene.worker) == 0);
	worker_finish(&scene.worker);
	for (size_t i = 0; i < scene.payload_count; i++)
		payload_put(scene.payloads[i]);
	reached.sent += metric_value(&zerocopy->sent);
	reached.copied += metric_value(&zerocopy->copied);
	reached.refused += metric_value(&zerocopy->refused);
	reached.shorts += sim_get_counts().shorts;
	reached.switched_off += !zerocopy_is_enabled(zerocopy);
	CHECK(metric_value(&zerocopy->refused) == sim_get_counts().zerocopy_refused);
	CHECK(metric_value(&zerocopy->sent) + metric_value(&zerocopy->copied) <=
	      sim_get_counts().zerocopy_notified);
	sim_end();
}

static void run_seed(const struct sim_options *options)
{
	bool was_closing = false;

	scene_begin(options);
	for (unsigned turns = 0; scene.closed < 2; turns++) {
		CHECK(turns < TURNS_MAX);
		CHECK(worker_turn(&scene.worker, 1000) == 0);
		look(&was_closing);
	}
	for (int i = 0; i < 3; i++)
		CHECK(worker_turn(&scene.worker, 0) == 0);
	if (scene.ending == ALL_SENT && options->reset_chance == 0) {
		CHECK(scene.received == scene.to_produce);
		CHECK(metric_value(&scene.counters.sent_bytes) == scene.to_produce);
		CHECK(scene.end == CONN_END_LOCAL);
	}
	scene_end();
}

static struct sim_options run_options; /* of the test; seed and stream_bytes are the seed's */

static void run_one(uint64_t seed)
{
	struct sim_options options = run_options;

	/* what a seed decides besides, as sim_options_hostile does */
	if (options.error_chance > 0) {
		options.error_chance = 2u << seed % 4;
		options.queue_chance = 1u << seed / 4 % 5;
		options.cq_entries = 1u << seed / 20 % 5;
	}
	options.seed = seed;
	options.stream_bytes = 4096u << seed % 6;
	run_seed(&options);
}

static bool run_seeds(struct sim_options options)
{
	memset(&reached, 0, sizeof(reached));
	run_options = options;
	return seeds_run("connection", SEEDS, run_one);
}

static void zero_copies_notified_late_lose_no_byte_and_no_memory(void **state)
{
	struct sim_options options = sim_options_clean(1);

	(void)state;
	options.copied_chance = 0;
	options.notify_us_max = 20000;
	if (!run_seeds(options))
		return;
	assert_true(reached.sent > 1000 && reached.shorts > 0 && reached.closed_pending > 0);
	assert_int_equal(reached.copied + reached.refused + reached.switched_off, 0);
	/* At the bound sends go on plain. */
	assert_int_equal(reached.pending_max, CONN_ZC_PENDING_MAX);
	assert_true(reached.plain_while_pending > 0);
}

static void refused_zero_copies_go_again_plain(void **state)
{
	struct sim_options options = sim_options_clean(1);

	(void)state;
	options.copied_chance = 0;
	options.refused_chance = 300;
	if (!run_seeds(options))
		return;
	/* One of four refusals says that there is no such operation. */
	assert_true(reached.sent > 0 && reached.refused > 100 && reached.switched_off > 10);
}

static void zero_copies_that_are_copied_end(void **state)
{
	struct sim_options options = sim_options_clean(1);

	(void)state;
	options.copied_chance = 1000;
	options.notify_us_max = 2000;
	if (!run_seeds(options))
		return;
	assert_int_equal(reached.sent, 0);
	assert_true(reached.switched_off > 0);
	/* Those on their way when it ended are counted too. */
	assert_true(reached.copied <= SEEDS * (ZEROCOPY_COPIES_MAX + CONN_ZC_PENDING_MAX - 1));
}

static void zero_copies_of_a_reset_connection_give_their_memory_back(void **state)
{
	struct sim_options options = sim_options_faulty(1);

	(void)state;
	options.reset_chance = 20;
	options.refused_chance = 50;
	options.notify_us_max = 20000;
	if (!run_seeds(options))
		return;
	assert_true(reached.sent > 0 && reached.refused > 0 && reached.closed_pending > 0);
}

static void every_errno_of_a_send_ends_the_connection_or_nothing_is_lost(void **state)
{
	struct sim_options options = sim_options_hostile(1);

	(void)state;
	options.notify_us_max = 20000;
	if (!run_seeds(options))
		return;
	assert_true(reached.sent + reached.copied > 0 && reached.refused > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_copies_notified_late_lose_no_byte_and_no_memory),
		cmocka_unit_test(refused_zero_copies_go_again_plain),
		cmocka_unit_test(zero_copies_that_are_copied_end),
		cmocka_unit_test(zero_copies_of_a_reset_connection_give_their_memory_back),
		cmocka_unit_test(every_errno_of_a_send_ends_the_connection_or_nothing_is_lost),
	};

	(void)argc;
	seeds_begin(argv[0]);
	log_setup(&(struct log_options){.level = LOG_ERROR + 1, .format = LOG_TEXT, .fd = 2});
	return cmocka_run_group_tests_name("conn_sim", tests, NULL, NULL);
}
