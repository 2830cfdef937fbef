#include "unit/base/base_test.h"

#include "base/explain.h"

#include <errno.h>

static void explain_writes_the_sentence_and_returns_the_error(void **state)
{
	char why[64];

	(void)state;
	assert_int_equal(explain(why, sizeof(why), -EIO, "%s: line %d", "a.pem", 3), -EIO);
	assert_string_equal(why, "a.pem: line 3");
}

static void explain_cuts_what_does_not_fit(void **state)
{
	char why[6] = "......";

	(void)state;
	assert_int_equal(explain(why, 5, -EINVAL, "too long"), -EINVAL);
	assert_string_equal(why, "too ");
	assert_int_equal(why[5], '.');
	assert_int_equal(explain(NULL, 0, -EINVAL, "nowhere"), -EINVAL);
}

static void errno_text_has_words_for_every_number(void **state)
{
	(void)state;
	assert_string_equal(errno_text(ECONNREFUSED), "Connection refused");
	assert_string_equal(errno_text(-1), "unknown error");
	assert_string_equal(errno_text(99999), "unknown error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(explain_writes_the_sentence_and_returns_the_error),
		cmocka_unit_test(explain_cuts_what_does_not_fit),
		cmocka_unit_test(errno_text_has_words_for_every_number),
	};

	return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}
