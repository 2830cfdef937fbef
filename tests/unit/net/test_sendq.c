#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "net/pool.h"
#include "net/sendq.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define MODEL_BYTES (1u << 20)

/* The flat model: all bytes ever appended, and how many of them are sent. */
struct model {
	uint8_t *bytes;
	size_t appended, sent;
	uint32_t random;
};

static uint32_t model_random(struct model *model, uint32_t below)
{
	model->random = model->random * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)model->random * below >> 32);
}

static void model_fill(struct model *model, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)model_random(model, 256);
}

static void append_copy(struct model *model, struct sendq *queue)
{
	static const uint32_t sizes[] = {1, 9, 16, 100, 1024, 1025, 2100, 9000};
	uint8_t bytes[9000];
	size_t len = 1 + model_random(model, sizes[model_random(model, ARRAY_LEN(sizes))]);

	if (model->appended + len > MODEL_BYTES)
		return;
	model_fill(model, bytes, len);

	int code = sendq_append(queue, span_make(bytes, len));

	if (queue->bytes_max < model->appended - model->sent + len) {
		assert_int_equal(code, -ENOBUFS);
		return;
	}
	assert_int_equal(code, 0);
	memcpy(model->bytes + model->appended, bytes, len);
	model->appended += len;
}

static void append_slice(struct model *model, struct sendq *queue, struct payload *payload)
{
	uint32_t offset = model_random(model, payload->len);
	uint32_t len = model_random(model, payload->len - offset + 1);
	const struct payload_slice slice = {payload, offset, len};
	bool give = model_random(model, 2);
	int code;

	if (model->appended + len > MODEL_BYTES)
		return;
	if (give)
		payload_get(payload, 1);
	code = give ? sendq_give_slice(queue, slice) : sendq_append_slice(queue, slice);
	if (queue->bytes_max < model->appended - model->sent + len) {
		assert_int_equal(code, -ENOBUFS);
		if (give)
			payload_put(payload);
		return;
	}
	assert_int_equal(code, 0);
	memcpy(model->bytes + model->appended, payload->data + offset, len);
	model->appended += len;
}

/* What was gathered must read as the model, now and after later appends. */
static void compare(const struct model *model, const struct iovec *iov, size_t count, size_t bytes)
{
	size_t at = model->sent;

	for (size_t i = 0; i < count; i++) {
		assert_true(iov[i].iov_len > 0);
		assert_memory_equal(iov[i].iov_base, model->bytes + at, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	assert_int_equal(at - model->sent, bytes);
}

static void sendq_is_a_flat_queue_of_bytes(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 30; seed++) {
		struct model model = {.bytes = malloc(MODEL_BYTES), .random = seed};
		struct payload *payloads[3] = {payload_create(20), payload_create(700),
					       payload_create(40000)};
		struct iovec iov[SENDQ_IOV_MAX];
		struct sendq queue;
		size_t count = 0, bytes = 0;

		sendq_init(&queue, seed % 3 == 0 ? 3000 : 100000);
		for (size_t i = 0; i < ARRAY_LEN(payloads); i++)
			model_fill(&model, payloads[i]->data, payloads[i]->len);
		for (int step = 0; step < 2000; step++) {
			switch (model_random(&model, 4)) {
			case 0:
				append_copy(&model, &queue);
				break;
			case 1:
			case 2:
				append_slice(&model, &queue, payloads[model_random(&model, 3)]);
				break;
			case 3: /* completes the send in flight, wholly or in part, and starts the
				   next */
				compare(&model, iov, count, bytes);
				if (bytes > 0) {
					size_t sent =
						model_random(&model, 2)
							? bytes
							: model_random(&model, (uint32_t)bytes + 1);

					sendq_advance(&queue, sent);
					model.sent += sent;
				}
				count = sendq_gather(&queue, iov,
						     1 + model_random(&model, SENDQ_IOV_MAX),
						     &bytes);
				assert_true((count == 0) == (queue.bytes == 0));
				break;
			}
			assert_int_equal(queue.bytes, model.appended - model.sent);
			assert_true((queue.bytes == 0) == (queue.first == NULL));
		}
		compare(&model, iov, count, bytes);
		if (seed % 2) {
			sendq_advance(&queue, queue.bytes);
			assert_null(queue.first);
		}
		sendq_finish(&queue);
		for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
			assert_int_equal(payloads[i]->count, 1);
			payload_put(payloads[i]);
		}
		free(model.bytes);
	}
}

static void adjacent_copies_join_into_one_iovec(void **state)
{
	struct iovec iov[8];
	struct sendq queue;
	size_t bytes;

	(void)state;
	sendq_init(&queue, 100000);
	for (int i = 0; i < 50; i++)
		assert_int_equal(sendq_append(&queue, SPAN("HTTP/1.1 200 OK\r\n")), 0);
	assert_int_equal(sendq_gather(&queue, iov, 8, &bytes), 1);
	assert_int_equal(bytes, 50 * 17);
	/* Also what is appended after a gather; the iovec handed out stays as it is. */
	assert_int_equal(sendq_append(&queue, SPAN("tail")), 0);
	assert_int_equal(iov[0].iov_len, 50 * 17);
	sendq_advance(&queue, 50 * 17);
	assert_int_equal(sendq_gather(&queue, iov, 8, &bytes), 1);
	assert_memory_equal(iov[0].iov_base, "tail", 4);
	sendq_finish(&queue);
}

static void small_slices_are_not_copied(void **state)
{
	struct payload *payload = payload_copy(SPAN("event"));
	struct iovec iov[8];
	struct sendq queue;
	size_t bytes;

	(void)state;
	sendq_init(&queue, 1000);
	assert_int_equal(sendq_append(&queue, SPAN("9 bytes..")), 0);
	assert_int_equal(sendq_append_slice(&queue, (struct payload_slice){payload, 1, 3}), 0);
	assert_int_equal(sendq_append_slice(&queue, (struct payload_slice){payload, 5, 0}), 0);
	assert_int_equal(payload->count, 2);
	assert_int_equal(sendq_gather(&queue, iov, 8, &bytes), 2);
	assert_int_equal(bytes, 12);
	assert_ptr_equal(iov[1].iov_base, payload->data + 1);
	sendq_advance(&queue, 10);
	assert_int_equal(payload->count, 2);
	sendq_advance(&queue, 2);
	assert_int_equal(payload->count, 1);
	payload_put(payload);
	sendq_finish(&queue);
}

static void gather_stops_at_its_bound(void **state)
{
	struct payload *payload = payload_copy(SPAN("x"));
	struct iovec iov[SENDQ_IOV_MAX];
	struct sendq queue;
	size_t bytes;

	(void)state;
	sendq_init(&queue, 100000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(sendq_append_slice(&queue, (struct payload_slice){payload, 0, 1}),
				 0);
	assert_int_equal(sendq_gather(&queue, iov, SENDQ_IOV_MAX, &bytes), SENDQ_IOV_MAX);
	assert_int_equal(bytes, SENDQ_IOV_MAX);
	assert_int_equal(payload->count, 1001);
	sendq_finish(&queue);
	assert_int_equal(payload->count, 1);
	payload_put(payload);
}

static void empty_queue_keeps_no_memory(void **state)
{
	struct sendq queue;
	size_t kept = pool_kept(POOL_CHUNK);

	(void)state;
	sendq_init(&queue, 1 << 20);
	for (int i = 0; i < 500; i++)
		assert_int_equal(sendq_append(&queue, SPAN("0123456789abcdef0123456789abcdef")), 0);
	sendq_advance(&queue, 500 * 32);
	assert_null(queue.first);
	assert_null(queue.last);
	assert_true(pool_kept(POOL_CHUNK) >= kept);
	/* The next round takes its chunks from there. */
	kept = pool_kept(POOL_CHUNK);
	assert_int_equal(sendq_append(&queue, SPAN("x")), 0);
	assert_int_equal(pool_kept(POOL_CHUNK), kept - 1);
	sendq_finish(&queue);
	assert_int_equal(pool_kept(POOL_CHUNK), kept);
}

/* ---- pins: what a zero-copy send reads stays until its notification ---- */

static void add_slice(struct sendq *queue, struct payload *payload)
{
	assert_int_equal(
		sendq_append_slice(queue, (struct payload_slice){payload, 0, payload->len}), 0);
}

static void pinned_bytes_and_references_outlive_their_sending(void **state)
{
	struct payload *payload = payload_copy(SPAN("event"));
	struct iovec iov[8];
	struct sendq queue;
	size_t bytes, kept;

	(void)state;
	sendq_init(&queue, 1000);
	assert_int_equal(sendq_append(&queue, SPAN("head")), 0);
	add_slice(&queue, payload);
	assert_int_equal(sendq_gather(&queue, iov, 8, &bytes), 2);
	assert_int_equal(sendq_slice_bytes(&queue, 2), 5);
	assert_int_equal(sendq_slice_bytes(&queue, 1), 0);

	struct sendq_pin pin = sendq_pin(&queue, 2);

	kept = pool_kept(POOL_CHUNK);
	sendq_advance(&queue, bytes);
	assert_null(queue.first);
	assert_int_equal(payload->count, 2);
	assert_int_equal(pool_kept(POOL_CHUNK), kept);
	assert_memory_equal(iov[0].iov_base, "head", 4);
	/* The queue is empty, and takes a chunk of its own for what comes next. */
	assert_int_equal(sendq_append(&queue, SPAN("next")), 0);
	assert_memory_equal(iov[0].iov_base, "head", 4);
	sendq_unpin(pin);
	assert_int_equal(payload->count, 1);
	assert_int_equal(queue.bytes, 4);
	sendq_finish(&queue);
	payload_put(payload);
}

static void pin_of_a_short_send_holds_what_has_left(void **state)
{
	struct payload *first = payload_copy(SPAN("first")), *second = payload_copy(SPAN("second"));
	struct iovec iov[8];
	struct sendq queue;
	size_t bytes;

	(void)state;
	sendq_init(&queue, 1000);
	add_slice(&queue, first);
	add_slice(&queue, second);
	assert_int_equal(sendq_gather(&queue, iov, 8, &bytes), 2);

	struct sendq_pin pin = sendq_pin(&queue, 2);

	sendq_advance(&queue, 7);
	assert_int_equal(first->count, 2);
	/* A later send takes the rest; the kernel still reads both. */
	assert_int_equal(sendq_gather(&queue, iov, 8, &bytes), 1);
	assert_memory_equal(iov[0].iov_base, "cond", 4);
	sendq_unpin(pin);
	assert_int_equal(first->count, 1);
	assert_int_equal(second->count, 2);
	sendq_advance(&queue, 4);
	assert_int_equal(second->count, 1);
	payload_put(first);
	payload_put(second);
}

static void pins_may_end_in_any_order(void **state)
{
	(void)state;
	for (int order = 0; order < 2; order++) {
		struct payload *payloads[2] = {payload_copy(SPAN("one")), payload_copy(SPAN("two"))};
		struct sendq_pin pins[2];
		struct sendq queue;

		sendq_init(&queue, 1000);
		add_slice(&queue, payloads[0]);
		pins[0] = sendq_pin(&queue, 1);
		add_slice(&queue, payloads[1]);
		sendq_advance(&queue, 3);
		pins[1] = sendq_pin(&queue, 1);
		sendq_advance(&queue, 3);
		assert_null(queue.first);
		/* One chunk for both: the last pin on it frees it and what it holds. */
		sendq_unpin(pins[order]);
		assert_int_equal(payloads[0]->count + payloads[1]->count, 4);
		sendq_unpin(pins[1 - order]);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(payloads[i]->count, 1);
			payload_put(payloads[i]);
		}
	}
}

static void flatten(const struct iovec *iov, size_t count, uint8_t *bytes)
{
	for (size_t i = 0; i < count; i++) {
		memcpy(bytes, iov[i].iov_base, iov[i].iov_len);
		bytes += iov[i].iov_len;
	}
}

static void pin_over_many_chunks_outlives_its_queue(void **state)
{
	static uint8_t before[SENDQ_IOV_MAX * 9], after[SENDQ_IOV_MAX * 9];
	struct payload *payload = payload_copy(SPAN("x"));
	struct iovec iov[SENDQ_IOV_MAX];
	struct sendq queue;
	size_t bytes, kept;

	(void)state;
	sendq_init(&queue, 100000);
	for (int i = 0; i < 400; i++) {
		assert_int_equal(sendq_append(&queue, SPAN("9 bytes..")), 0);
		add_slice(&queue, payload);
	}

	size_t count = sendq_gather(&queue, iov, SENDQ_IOV_MAX, &bytes);
	struct sendq_pin pin = sendq_pin(&queue, count);

	flatten(iov, count, before);
	assert_true(pin.chunk_count > 2);
	kept = pool_kept(POOL_CHUNK);
	sendq_finish(&queue);
	assert_true(pool_kept(POOL_CHUNK) > kept); /* those beyond the gather */
	assert_true(payload->count > 100 && payload->count < 401);
	flatten(iov, count, after);
	assert_memory_equal(before, after, bytes);
	kept = pool_kept(POOL_CHUNK);
	sendq_unpin(pin);
	assert_int_equal(pool_kept(POOL_CHUNK), kept + pin.chunk_count);
	assert_int_equal(payload->count, 1);
	payload_put(payload);
}

/* What a thread kept is freed when it ends: the leak checker would tell. */
static void *use_a_queue(void *unused)
{
	struct sendq queue;

	(void)unused;
	sendq_init(&queue, 1 << 20);
	for (int i = 0; i < 500; i++)
		(void)sendq_append(&queue, SPAN("0123456789abcdef0123456789abcdef"));
	sendq_finish(&queue);
	return pool_kept(POOL_CHUNK) > 1 ? NULL : unused;
}

static void pool_ends_with_its_thread(void **state)
{
	int marker = 0;

	(void)state;
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		void *result = &marker;

		assert_int_equal(pthread_create(&thread, NULL, use_a_queue, &marker), 0);
		assert_int_equal(pthread_join(thread, &result), 0);
		assert_null(result);
	}
}

static bool is_blank(const uint8_t *bytes, size_t len)
{
	while (len > 0 && bytes[len - 1] == 0)
		len--;
	return len == 0;
}

/* The chunk that held it stays in the pool, where it can be looked at. */
static void secret_leaves_no_trace_sent_or_dropped(void **state)
{
	static const uint8_t secret[] = "a password between its neighbours";
	struct span bytes = span_make(secret, sizeof(secret));

	(void)state;
	for (int drop = 0; drop < 2; drop++) {
		struct sendq queue;
		struct iovec iov[4];
		size_t sum;

		sendq_init(&queue, 1 << 16);
		assert_int_equal(sendq_append(&queue, SPAN("before")), 0);
		assert_int_equal(sendq_append_secret(&queue, bytes), 0);
		assert_int_equal(sendq_append(&queue, SPAN("after")), 0);
		assert_int_equal(sendq_gather(&queue, iov, 4, &sum), 2);
		assert_int_equal(sum, 6 + sizeof(secret) + 5);
		assert_memory_equal(iov[1].iov_base, secret, sizeof(secret));
		if (!drop) {
			sendq_advance(&queue, sum - 1);
			assert_memory_equal(iov[1].iov_base, secret, sizeof(secret));
			sendq_advance(&queue, 1);
		}
		sendq_finish(&queue);
		assert_true(pool_kept(POOL_CHUNK) > 0);
		assert_true(is_blank(iov[1].iov_base, sizeof(secret)));
	}
}

static void secret_is_bounded_as_all_bytes_are(void **state)
{
	static const uint8_t secret[SENDQ_SECRET_MAX] = {1};
	struct sendq queue;

	(void)state;
	sendq_init(&queue, sizeof(secret));
	assert_int_equal(sendq_append_secret(&queue, SPAN_EMPTY), 0);
	assert_null(queue.first);
	assert_int_equal(sendq_append_secret(&queue, span_make(secret, sizeof(secret))), 0);
	assert_int_equal(sendq_append_secret(&queue, span_make(secret, 1)), -ENOBUFS);
	assert_int_equal(queue.bytes, sizeof(secret));
	sendq_finish(&queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sendq_is_a_flat_queue_of_bytes),
		cmocka_unit_test(adjacent_copies_join_into_one_iovec),
		cmocka_unit_test(small_slices_are_not_copied),
		cmocka_unit_test(gather_stops_at_its_bound),
		cmocka_unit_test(empty_queue_keeps_no_memory),
		cmocka_unit_test(pinned_bytes_and_references_outlive_their_sending),
		cmocka_unit_test(pin_of_a_short_send_holds_what_has_left),
		cmocka_unit_test(pins_may_end_in_any_order),
		cmocka_unit_test(pin_over_many_chunks_outlives_its_queue),
		cmocka_unit_test(pool_ends_with_its_thread),
		cmocka_unit_test(secret_leaves_no_trace_sent_or_dropped),
		cmocka_unit_test(secret_is_bounded_as_all_bytes_are),
	};

	return cmocka_run_group_tests_name("sendq", tests, NULL, NULL);
}
