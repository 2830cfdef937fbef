#include "codec/accept.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static const struct {
	const char *accept;
	bool wanted;
} rows[] = {
	{"", false},
	{"*/*", false},
	{"text/plain", false},
	{"text/plain;version=0.0.4;q=1,*/*;q=0.1", false},
	{"application/openmetrics-text", true},
	{"Application/OpenMetrics-Text", true},
	{" application/openmetrics-text ; version=1.0.0 ; charset=utf-8 ", true},
	{"application/openmetrics-text;version=1.0.0,application/"
	 "openmetrics-text;version=0.0.1;q=0.75,"
	 "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
	 true},
	{"text/plain, application/openmetrics-text", true},
	{"text/plain;q=0.5, application/openmetrics-text;q=0.5", true},
	{"text/plain;q=0.501, application/openmetrics-text;q=0.5", false},
	{"text/plain;q=0.1, application/openmetrics-text;q=0.001", false},
	{"application/openmetrics-text;q=0.001", true},
	{"application/openmetrics-text;q=0.0001", false},
	{"application/openmetrics-text;q=0", false},
	{"application/openmetrics-text;q=0.000", false},
	{"application/openmetrics-text;Q=1.000", true},
	{"application/openmetrics-text;q=1.001", false},
	{"application/openmetrics-text;q=2", false},
	{"application/openmetrics-text;q=", false},
	{"application/openmetrics-text;q", false},
	{"application/openmetrics-text;q=-1", false},
	{"application/openmetrics-text;q=0x1", false},
	{"application/openmetrics-text;q=0.5x", false},
	{"application/openmetrics-textual", false},
	{"xapplication/openmetrics-text", false},
	{",,;,;;q=1,=,application/openmetrics-text", true},
	{";application/openmetrics-text", false},
};

static bool is_chosen(struct span accept)
{
	return accept_prefers(accept, SPAN("application/openmetrics-text"), SPAN("text/plain"));
}

static void type_is_chosen_by_name_and_weight(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (is_chosen(span_from_cstr(rows[i].accept)) != rows[i].wanted)
			fail_msg("%s", rows[i].accept);
}

/* Each in memory of its own size, so that a byte read behind it is found. */
static void every_beginning_of_every_row_is_survived(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct span row = span_from_cstr(rows[i].accept);

		for (size_t len = 0; len <= row.len; len++) {
			uint8_t *copy = test_malloc(len + 1);

			if (len > 0)
				memcpy(copy + 1, row.data, len);
			is_chosen(span_make(copy + 1, len));
			test_free(copy);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(type_is_chosen_by_name_and_weight),
		cmocka_unit_test(every_beginning_of_every_row_is_survived),
	};

	return cmocka_run_group_tests_name("accept", tests, NULL, NULL);
}
