/* origins: which pages may write with a cookie, and which may read. */
#include "rest/origins.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct config_text ours[] = {{"https://app.example.com", {0, 0}},
				    {"http://localhost:3000", {0, 0}}};
static const struct config_texts allowed = {ours, 2};

static void writes_are_vouched_for_by_origin_or_referer(void **state)
{
	(void)state;
	static const struct {
		const char *origin, *referer;
		bool vouched;
	} rows[] = {
		{"https://app.example.com", "", true},
		{"http://localhost:3000", "", true},
		{"", "https://app.example.com/page?x", true},
		{"", "https://app.example.com", true},
		{"", "", false},
		{"null", "", false},
		{"null", "https://app.example.com/", false},
		{"https://evil.example", "https://app.example.com/", false},
		{"https://app.example.com.evil", "", false},
		{"https://app.example.com/", "", false},
		{"http://app.example.com", "", false},
		{"", "https://app.example.com.evil/", false},
		{"", "https://app.example.com@evil/", false},
		{"", "https://evil/https://app.example.com/", false},
		{"", "app.example.com", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(origins_vouch(&allowed, span_from_cstr(rows[i].origin),
					       span_from_cstr(rows[i].referer)),
				 rows[i].vouched);
}

static void answers_are_read_by_the_origins_of_the_list(void **state)
{
	(void)state;
	struct config_rest_cors rules = {.origins = allowed, .credentials = true};
	struct cors cors = cors_judge(&rules, SPAN("http://localhost:3000"));

	assert_true(span_equal(cors.allow_origin, SPAN("http://localhost:3000")));
	assert_true(cors.allow_credentials && cors.vary);
	cors = cors_judge(&rules, SPAN("https://evil"));
	assert_true(cors.allow_origin.len == 0 && !cors.allow_credentials && cors.vary);
	cors = cors_judge(&rules, SPAN_EMPTY);
	assert_true(cors.allow_origin.len == 0 && cors.vary);
	rules.credentials = false;
	assert_false(cors_judge(&rules, SPAN("http://localhost:3000")).allow_credentials);

	struct config_text star[] = {{"*", {0, 0}}};

	rules.origins = (struct config_texts){star, 1};
	cors = cors_judge(&rules, SPAN("https://anyone"));
	assert_true(span_equal(cors.allow_origin, SPAN("*")) && !cors.vary);
	rules.origins = (struct config_texts){0};
	cors = cors_judge(&rules, SPAN("https://anyone"));
	assert_true(cors.allow_origin.len == 0 && !cors.vary);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_are_vouched_for_by_origin_or_referer),
		cmocka_unit_test(answers_are_read_by_the_origins_of_the_list),
	};

	return cmocka_run_group_tests_name("rest/origins", tests, NULL, NULL);
}
