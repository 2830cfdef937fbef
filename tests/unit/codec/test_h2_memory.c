/* Sessions in blocks of their own: what they touch, what they give back, and each of their
 * allocations refused in turn. */
#include "unit/codec/h2_harness.h"

#include "codec/h2_memory_internal.h"

#include <sys/mman.h>
#include <unistd.h>

static struct h2_memory *memory_create(void)
{
	struct h2_memory *memory;

	assert_int_equal(h2_memory_create(&memory), 0);
	return memory;
}

static int64_t used(const struct h2_memory *memory)
{
	return metric_gauge_value(h2_memory_used_bytes(memory));
}

static struct h2_options options_in(struct h2_memory *memory)
{
	struct h2_options options = end_options(H2_SERVER);

	options.memory = memory;
	return options;
}

static bool is_page_there(const uint8_t *page)
{
	unsigned char there;

	assert_int_equal(mincore((void *)(uintptr_t)page, 1, &there), 0);
	return there & 1;
}

static size_t pages_there(const uint8_t *first, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), count = 0;

	for (size_t at = 0; at < bytes; at += page)
		count += is_page_there(first + at);
	return count;
}

/* ---- one block ---- */

static void objects_are_aligned_apart_and_used_again(void **state)
{
	enum { OBJECTS = 3000 };
	struct h2_memory *memory = memory_create();
	struct h2_block *block = h2_block_take(memory);
	nghttp2_mem hooks = h2_block_hooks(block);
	static uint8_t *objects[OBJECTS];
	static size_t sizes[OBJECTS];
	unsigned seed = 5;

	(void)state;
	h2_block_end_birth(block);
	/* more than fits, so that some come from malloc; given back and taken in any order */
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < OBJECTS; i++) {
			if (objects[i] && rand_r(&seed) % 2) {
				for (size_t at = 0; at < sizes[i]; at++)
					assert_int_equal(objects[i][at], (uint8_t)i);
				hooks.free(objects[i], hooks.mem_user_data);
				objects[i] = NULL;
			} else if (!objects[i] && rand_r(&seed) % 50 < 3) {
				sizes[i] = (size_t)rand_r(&seed) % (i % 20 ? 300 : 20000);
				objects[i] = hooks.malloc(sizes[i], hooks.mem_user_data);
				assert_non_null(objects[i]);
				assert_int_equal((uintptr_t)objects[i] % 16, 0);
				memset(objects[i], (uint8_t)i, sizes[i]);
			}
		}
	}
	for (size_t i = 0; i < OBJECTS; i++)
		hooks.free(objects[i], hooks.mem_user_data);
	assert_int_equal(used(memory), 0);
	h2_block_give(block);
	h2_memory_destroy(memory);
}

static void calloc_clears_what_was_used_before(void **state)
{
	struct h2_memory *memory = memory_create();
	struct h2_block *block = h2_block_take(memory);
	nghttp2_mem hooks = h2_block_hooks(block);
	uint8_t *object = hooks.malloc(200, hooks.mem_user_data);

	(void)state;
	memset(object, 0xff, 200);
	hooks.free(object, hooks.mem_user_data);

	uint8_t *again = hooks.calloc(20, 10, hooks.mem_user_data);

	assert_ptr_equal(again, object);
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(again[i], 0);
	assert_null(hooks.calloc(SIZE_MAX / 2, 3, hooks.mem_user_data));
	hooks.free(again, hooks.mem_user_data);
	h2_block_give(block);
	h2_memory_destroy(memory);
}

static void realloc_keeps_the_bytes(void **state)
{
	static const size_t sizes[] = {1,     8,     24,    25,	   264, 265, 1024, 5000,
				       16394, 16395, 40000, 16394, 300, 200, 16};
	struct h2_memory *memory = memory_create();
	struct h2_block *block = h2_block_take(memory);
	nghttp2_mem hooks = h2_block_hooks(block);
	uint8_t *object = hooks.realloc(NULL, 1, hooks.mem_user_data);
	size_t before = 1;

	(void)state;
	h2_block_end_birth(block);
	object[0] = 0;
	for (size_t i = 1; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t kept = before < sizes[i] ? before : sizes[i];

		object = hooks.realloc(object, sizes[i], hooks.mem_user_data);
		assert_non_null(object);
		for (size_t at = 0; at < kept; at++)
			assert_int_equal(object[at], (uint8_t)(at * 7));
		for (size_t at = 0; at < sizes[i]; at++)
			object[at] = (uint8_t)(at * 7);
		before = sizes[i];
	}
	hooks.free(object, hooks.mem_user_data);
	assert_int_equal(used(memory), 0);
	h2_block_give(block);
	h2_memory_destroy(memory);
}

/* Two at once: nghttp2 has one, but takes a larger one before it gives the old one back. */
static void a_second_frame_buffer_comes_from_malloc(void **state)
{
	struct h2_memory *memory = memory_create();
	struct h2_block *block = h2_block_take(memory);
	nghttp2_mem hooks = h2_block_hooks(block);
	uint8_t *first = hooks.malloc(16394, block), *second = hooks.malloc(16394, block);

	(void)state;
	memset(first, 1, 16394);
	memset(second, 2, 16394);
	assert_int_equal(first[16393], 1);
	hooks.free(first, block);
	assert_ptr_equal(hooks.malloc(16394, block), first);
	hooks.free(first, block);
	hooks.free(second, block);
	h2_block_give(block);
	h2_memory_destroy(memory);
}

/* ---- sessions ---- */

/* A response of one message, the stream stays open. */
static void serve_one(struct end *end)
{
	struct payload *payload = payload_of(200);

	assert_int_equal(feed_request(end, 1, FRAME_END_STREAM), 0);
	assert_int_equal(h2_respond(&end->calls[0].stream, ok_headers, 1, false), 0);
	assert_int_equal(h2_stream_push(&end->calls[0].stream, slice_of(payload)), 0);
	assert_int_equal(end_produce(end), 0);
	payload_put(payload);
}

static void a_session_touches_only_its_dense_pages(void **state)
{
	struct h2_memory *memory = memory_create();
	struct h2_block *probe = h2_block_take(memory); /* the next block lies behind it */
	struct end *end = server_create_with(options_in(memory));
	size_t dense = h2_memory_block_bytes(memory);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const uint8_t *block = (const uint8_t *)probe + dense + 16384;

	(void)state;
	serve_one(end);
	/* W7's share of nghttp2: bench/README.md */
	assert_true(dense <= 12288);
	assert_true(used(memory) > 4096 && used(memory) < (int64_t)dense);
	assert_int_equal(pages_there(block, dense), dense / page);
	assert_int_equal(pages_there(block + dense, 16384), 0);
	end_destroy(end);
	assert_int_equal(used(memory), 0);
	h2_block_give(probe);
	h2_memory_destroy(memory);
}

static void trim_gives_back_pages_of_what_is_free_for_longest(void **state)
{
	enum { BLOCKS = 1000, IN_USE = 800 };
	struct h2_memory *memory = memory_create();
	static struct h2_block *blocks[BLOCKS];
	size_t there = 0;

	(void)state;
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = h2_block_take(memory);
	for (size_t i = IN_USE; i < BLOCKS; i++)
		h2_block_give(blocks[i]);
	/* of 200 free ones an eighth of 800 is kept */
	assert_true(h2_memory_watch(memory));
	assert_true(h2_memory_trim(memory, 60));
	assert_false(h2_memory_trim(memory, 60));
	assert_false(h2_memory_trim(memory, 60));
	for (size_t i = IN_USE; i < BLOCKS; i++)
		there += is_page_there((const uint8_t *)blocks[i]);
	assert_int_equal(there, 100);
	assert_true(is_page_there((const uint8_t *)blocks[BLOCKS - 1]));
	/* the newest of the free is the next, the coldest come last; all serve again */
	assert_ptr_equal(h2_block_take(memory), blocks[BLOCKS - 1]);
	h2_block_give(blocks[BLOCKS - 1]);
	for (size_t i = 0; i < IN_USE; i++)
		h2_block_give(blocks[i]);
	assert_true(h2_memory_watch(memory));
	while (h2_memory_trim(memory, 1))
		;
	assert_false(h2_memory_watch(memory));
	there = 0;
	for (size_t i = 0; i < BLOCKS; i++)
		there += is_page_there((const uint8_t *)blocks[i]);
	assert_int_equal(there, 64);
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = h2_block_take(memory);
	for (size_t i = 0; i < BLOCKS; i++)
		h2_block_give(blocks[i]);
	h2_memory_destroy(memory);
}

/* In one step, not by a fault for each; what no session touches is not among them. */
static void a_cold_block_comes_with_the_pages_in_use(void **state)
{
	struct h2_memory *memory = memory_create();
	struct h2_block *block = h2_block_take(memory);
	size_t dense = h2_memory_block_bytes(memory), page = (size_t)sysconf(_SC_PAGESIZE);

	(void)state;
	assert_int_equal(pages_there((const uint8_t *)block, dense), dense / page);
	assert_int_equal(pages_there((const uint8_t *)block + dense, 16384), 0);
	h2_block_give(block);
	h2_memory_destroy(memory);
}

static void trim_spares_what_was_in_use_meanwhile(void **state)
{
	enum { BLOCKS = 400, BACK = 250 };
	struct h2_memory *memory = memory_create();
	static struct h2_block *blocks[BLOCKS], *all[BLOCKS];
	size_t there = 0;

	(void)state;
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = all[i] = h2_block_take(memory);
	for (size_t i = 0; i < BLOCKS; i++)
		h2_block_give(blocks[i]);
	assert_true(h2_memory_watch(memory));
	/* most clients come back, and leave again */
	for (size_t i = 0; i < BACK; i++)
		blocks[i] = h2_block_take(memory);
	for (size_t i = 0; i < BACK; i++)
		h2_block_give(blocks[i]);
	assert_false(h2_memory_trim(memory, BLOCKS));
	for (size_t i = 0; i < BLOCKS; i++)
		there += is_page_there((const uint8_t *)all[i]);
	assert_int_equal(there, BACK);
	/* those stay for a while, and go when nobody comes */
	assert_true(h2_memory_watch(memory));
	assert_false(h2_memory_trim(memory, BLOCKS));
	there = 0;
	for (size_t i = 0; i < BLOCKS; i++)
		there += is_page_there((const uint8_t *)all[i]);
	assert_int_equal(there, 64);
	h2_memory_destroy(memory);
}

static void sessions_share_nothing_and_blocks_serve_again(void **state)
{
	struct h2_memory *memory = memory_create();

	(void)state;
	for (int round = 0; round < 5; round++) {
		struct end *one = server_create_with(options_in(memory));
		struct end *two = server_create_with(options_in(memory));

		serve_one(one);
		serve_one(two);
		end_destroy(one);
		assert_int_equal(h2_open_stream_count(two->session), 1);
		expect_frames(two, "HEADERS 1\nDATA 1 200\n");
		end_destroy(two);
		assert_int_equal(used(memory), 0);
	}
	h2_memory_destroy(memory);
}

/* ---- failures ---- */

/*
 * A session's life, its nth allocation and all after it refused. Whatever fails: no crash, and in
 * the end everything is given back. Returns whether it came to that.
 */
static bool life_with_failure(struct h2_memory *memory, uint64_t nth)
{
	struct h2_options options = options_in(memory);
	struct end *end = calloc(1, sizeof(*end));
	struct payload *payload = payload_of(200);
	struct frame block = {.len = 0};
	bool failed;

	end->room = -1;
	buf_init(&end->events, 1 << 20);
	buf_init(&end->wire, 1 << 20);
	buf_init(&end->pieces, 1 << 20);
	living_ends[0] = end;
	h2_memory_fail_after(memory, nth);
	if (h2_session_create(&end->session, &options, &end_handler, end) != 0) {
		end->session = NULL;
		goto out;
	}
	if (h2_receive(end->session, SPAN(H2_PREFACE)) != 0 ||
	    feed_frame(end, 4, 0, 0, SPAN_EMPTY) != 0 || end_produce(end) != 0)
		goto out;
	request_put(&block);
	for (int i = 0; i < 4; i++)
		field_put(&block, SPAN("x-one-name"), SPAN("a value of some length"), true);
	if (feed_frame(end, 1, FRAME_END_STREAM | FRAME_END_HEADERS, 1,
		       span_make(block.bytes, block.len)) != 0)
		goto out;
	if (end->calls[0].is_used && end->calls[0].closed_count == 0 &&
	    h2_respond(&end->calls[0].stream, ok_headers, 1, false) == 0 &&
	    h2_stream_push(&end->calls[0].stream, slice_of(payload)) == 0)
		(void)h2_stream_finish(&end->calls[0].stream, status_trailers, 1);
	(void)end_produce(end);
	(void)h2_ping(end->session, (const uint8_t *)"12345678");
	h2_goaway(end->session, H2_NO_ERROR, SPAN("bye"));
	(void)end_produce(end);
out:
	if (end->session)
		h2_session_destroy(end->session);
	/* one more: whether there would have been one left */
	struct h2_block *probe = h2_block_take(memory);

	failed = !probe;
	if (probe)
		h2_block_give(probe);
	h2_memory_fail_after(memory, UINT64_MAX);
	living_ends[0] = NULL;
	buf_finish(&end->events);
	buf_finish(&end->wire);
	buf_finish(&end->pieces);
	free(end);
	payload_expect_last(payload);
	return failed;
}

static void every_allocation_may_be_refused(void **state)
{
	uint64_t nth = 0;

	(void)state;
	for (;; nth++) {
		struct h2_memory *memory = memory_create();
		bool failed = life_with_failure(memory, nth);

		assert_int_equal(used(memory), 0);
		h2_memory_destroy(memory);
		if (!failed)
			break;
	}
	assert_true(nth > 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_aligned_apart_and_used_again),
		cmocka_unit_test(calloc_clears_what_was_used_before),
		cmocka_unit_test(realloc_keeps_the_bytes),
		cmocka_unit_test(a_second_frame_buffer_comes_from_malloc),
		cmocka_unit_test(a_session_touches_only_its_dense_pages),
		cmocka_unit_test(trim_gives_back_pages_of_what_is_free_for_longest),
		cmocka_unit_test(a_cold_block_comes_with_the_pages_in_use),
		cmocka_unit_test(trim_spares_what_was_in_use_meanwhile),
		cmocka_unit_test(sessions_share_nothing_and_blocks_serve_again),
		cmocka_unit_test(every_allocation_may_be_refused),
	};

	return cmocka_run_group_tests_name("h2_memory", tests, NULL, NULL);
}
