#include "unit/base/base_test.h"

#include "unit/base/failing_alloc.h"

#include "base/buf.c"

static void assert_text(const struct buf *buf, const char *wanted)
{
	assert_int_equal(buf->len, strlen(wanted));
	assert_true(span_equal(buf_span(buf), span_from_cstr(wanted)));
}

static void buf_allocates_nothing_before_the_first_append(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 100);
	assert_null(buf.data);
	assert_int_equal(buf_append(&buf, SPAN_EMPTY), 0);
	assert_null(buf.data);
	assert_int_equal(buf_span(&buf).len, 0);
	buf_finish(&buf);
}

static void buf_appends_every_kind(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 1000);
	assert_int_equal(buf_append(&buf, SPAN("ab")), 0);
	assert_int_equal(buf_append_byte(&buf, '-'), 0);
	assert_int_equal(buf_append_uint(&buf, 0), 0);
	assert_int_equal(buf_append_byte(&buf, ' '), 0);
	assert_int_equal(buf_append_uint(&buf, UINT64_MAX), 0);
	assert_int_equal(buf_printf(&buf, " %s=%d", "x", -7), 0);
	assert_text(&buf, "ab-0 18446744073709551615 x=-7");
	buf_finish(&buf);
	assert_null(buf.data);
	assert_int_equal(buf.max, 1000);
}

static void buf_takes_exactly_max_and_not_a_byte_more(void **state)
{
	(void)state;
	for (size_t max = 0; max < 300; max++) {
		struct buf buf;

		buf_init(&buf, max);
		for (size_t i = 0; i < max; i++)
			assert_int_equal(buf_append_byte(&buf, (uint8_t)i), 0);
		assert_false(buf.failed);
		assert_int_equal(buf_append_byte(&buf, 'x'), -EMSGSIZE);
		assert_true(buf.failed);
		assert_int_equal(buf.len, max);
		assert_true(buf.cap <= max || max == 0);
		for (size_t i = 0; i < max; i++)
			assert_int_equal(buf.data[i], (uint8_t)i);
		buf_finish(&buf);
	}
}

static void buf_failure_leaves_the_bytes_and_sticks_until_clear(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 4);
	buf_append(&buf, SPAN("abc"));
	assert_int_equal(buf_append(&buf, SPAN("de")), -EMSGSIZE);
	assert_text(&buf, "abc");
	assert_int_equal(buf_append(&buf, SPAN("f")), 0);
	assert_text(&buf, "abcf");
	assert_true(buf.failed);
	buf_clear(&buf, 100);
	assert_false(buf.failed);
	assert_int_equal(buf.len, 0);
	assert_non_null(buf.data);
	buf_finish(&buf);
}

static void buf_clear_frees_what_is_larger_than_keep(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 1000);
	buf_reserve(&buf, 500);
	assert_true(buf.cap >= 500);
	buf_clear(&buf, buf.cap);
	assert_non_null(buf.data);
	buf_clear(&buf, buf.cap - 1);
	assert_null(buf.data);
	assert_int_equal(buf.cap, 0);
	assert_int_equal(buf_append(&buf, SPAN("again")), 0);
	assert_text(&buf, "again");
	buf_finish(&buf);
}

static void buf_printf_prints_every_length_up_to_max(void **state)
{
	char text[600];

	(void)state;
	for (size_t len = 0; len < sizeof(text); len++) {
		struct buf buf;

		memset(text, 'a' + (int)(len % 26), len);
		text[len] = '\0';
		buf_init(&buf, len + 1);
		assert_int_equal(buf_append_byte(&buf, '<'), 0);
		assert_int_equal(buf_printf(&buf, "%s", text), 0);
		assert_int_equal(buf.len, len + 1);
		assert_memory_equal(buf.data + 1, text, len);
		buf_finish(&buf);

		buf_init(&buf, len);
		assert_int_equal(buf_append(&buf, span_make("<", len ? 1 : 0)), 0);
		assert_int_equal(buf_printf(&buf, "%s", text), len ? -EMSGSIZE : 0);
		assert_int_equal(buf.len, len ? 1 : 0);
		buf_finish(&buf);
	}
}

static void buf_reserve_and_claim_write_in_place(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 10);
	assert_non_null(buf_reserve(&buf, 0));

	uint8_t *room = buf_reserve(&buf, 10);

	assert_non_null(room);
	memcpy(room, "0123456789", 10);
	buf_claim(&buf, 4);
	assert_text(&buf, "0123");
	assert_null(buf_reserve(&buf, 7));
	assert_true(buf.failed);
	assert_null(buf_reserve(&buf, SIZE_MAX));
	assert_ptr_equal(buf_reserve(&buf, 6), buf.data + 4);
	buf_finish(&buf);
}

static void claim_too_much(void)
{
	struct buf buf;

	buf_init(&buf, 10);
	buf_reserve(&buf, 10);
	buf_claim(&buf, 11);
}

static void consume_too_much(void)
{
	struct buf buf;

	buf_init(&buf, 10);
	buf_append(&buf, SPAN("abc"));
	buf_consume(&buf, 4);
}

static void buf_claim_and_consume_check_their_lengths(void **state)
{
	(void)state;
	assert_aborts(claim_too_much, "check failed");
	assert_aborts(consume_too_much, "check failed: len <= buf->len");
}

static void buf_consume_drops_the_front_at_every_length(void **state)
{
	(void)state;
	for (size_t len = 0; len <= 6; len++) {
		struct buf buf;

		buf_init(&buf, 100);
		buf_append(&buf, SPAN("abcdef"));
		buf_consume(&buf, len);
		assert_text(&buf, &"abcdef"[len]);
		buf_finish(&buf);
	}

	struct buf none;

	buf_init(&none, 100);
	buf_consume(&none, 0);
	assert_int_equal(none.len, 0);
}

static void buf_survives_failing_memory(void **state)
{
	char long_text[400];

	(void)state;
	memset(long_text, 'y', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	for (long good = 0; good < 2; good++) {
		struct buf buf;

		buf_init(&buf, 10000);
		allocs_until_failure = good;
		if (good)
			assert_int_equal(buf_append(&buf, SPAN("kept")), 0);
		assert_int_equal(buf_printf(&buf, "%s", long_text), -ENOMEM);
		assert_null(buf_reserve(&buf, 5000));
		assert_true(buf.failed);
		assert_text(&buf, good ? "kept" : "");
		allocs_until_failure = -1;
		assert_int_equal(buf_append(&buf, SPAN("!")), 0);
		assert_text(&buf, good ? "kept!" : "!");
		buf_finish(&buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_allocates_nothing_before_the_first_append),
		cmocka_unit_test(buf_appends_every_kind),
		cmocka_unit_test(buf_takes_exactly_max_and_not_a_byte_more),
		cmocka_unit_test(buf_failure_leaves_the_bytes_and_sticks_until_clear),
		cmocka_unit_test(buf_clear_frees_what_is_larger_than_keep),
		cmocka_unit_test(buf_printf_prints_every_length_up_to_max),
		cmocka_unit_test(buf_reserve_and_claim_write_in_place),
		cmocka_unit_test(buf_claim_and_consume_check_their_lengths),
		cmocka_unit_test(buf_consume_drops_the_front_at_every_length),
		cmocka_unit_test(buf_survives_failing_memory),
	};

	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
