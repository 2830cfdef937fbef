/* classes: which anti-abuse class a public request is of, and what each was configured to. */
#include "base/check.h"
#include "gateway/classes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void classes_go_by_path(void **state)
{
	static const struct {
		const char *method, *path, *rest_base;
		enum public_class class;
	} rows[] = {
		{"POST", "/api/v1/public/auth/send-email-code", "", CLASS_PUBLIC_AUTH},
		{"POST", "/api/v1/public/auth/confirm-email-code", "", CLASS_PUBLIC_AUTH},
		{"POST", "/api/v1/public/auth/send-email-code", "/api", CLASS_PUBLIC_AUTH},
		{"GET", "/api/v1/public/auth/send-email-code", "", CLASS_PUBLIC_MISC},
		{"GET", "/api/v1/public/auth/send-email-code", "/api", CLASS_REST_API},
		{"POST", "/api/v1/public/auth/send-email-code/", "", CLASS_PUBLIC_MISC},
		{"GET", "/", "", CLASS_BROWSER_BOOTSTRAP},
		{"HEAD", "/index.html", "", CLASS_BROWSER_BOOTSTRAP},
		{"POST", "/", "", CLASS_BROWSER_BOOTSTRAP},
		{"GET", "/index.htm", "", CLASS_PUBLIC_MISC},
		{"GET", "/assets/app.js", "", CLASS_BROWSER_ASSET},
		{"GET", "/assets/", "", CLASS_BROWSER_ASSET},
		{"GET", "/assets", "", CLASS_PUBLIC_MISC},
		{"GET", "/Assets/app.js", "", CLASS_PUBLIC_MISC},
		{"GET", "/healthz", "", CLASS_EXEMPT},
		{"HEAD", "/readyz", "", CLASS_EXEMPT},
		{"GET", "/healthz", "/", CLASS_EXEMPT},
		{"GET", "/healthz/x", "", CLASS_PUBLIC_MISC},
		{"GET", "/api/v2", "/api/v2", CLASS_REST_API},
		{"GET", "/api/v2/x", "/api/v2", CLASS_REST_API},
		{"GET", "/api/v2/x", "/api/v2/", CLASS_REST_API},
		{"GET", "/api/v20", "/api/v2", CLASS_PUBLIC_MISC},
		{"GET", "/", "/", CLASS_REST_API},
		{"GET", "/nowhere", "", CLASS_PUBLIC_MISC},
		{"OPTIONS", "*", "", CLASS_PUBLIC_MISC},
		{"BREW", "", "", CLASS_PUBLIC_MISC},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum public_class class =
			classes_of(span_from_cstr(rows[i].method), span_from_cstr(rows[i].path),
				   span_from_cstr(rows[i].rest_base));

		if (class != rows[i].class)
			fail_msg("%s %s is of class %d", rows[i].method, rows[i].path, class);
	}
}

/* Five rows of four numbers, each in its place. */
static void classes_are_as_configured(void **state)
{
	struct config config = {0};
	struct class_rule rules[CLASS_COUNT];

	(void)state;
#define FILL(name, number)                                                                         \
	config.abuse_##name##_body_limit = (number)*10;                                            \
	config.abuse_##name##_requests = (number)*10 + 1;                                          \
	config.abuse_##name##_window_ms = (number)*10 + 2;                                         \
	config.abuse_##name##_burst = (number)*10 + 3
	FILL(auth, 1);
	FILL(bootstrap, 2);
	FILL(asset, 3);
	FILL(rest, 4);
	FILL(misc, 5);
#undef FILL
	classes_init(rules, &config, 9);
	for (uint8_t class = 0; class < CLASS_COUNT; class ++) {
		unsigned base = (class + 1u) * 10;

		assert_int_equal(rules[class].body_bytes_max, base);
		assert_int_equal(rules[class].bucket.requests, base + 1);
		assert_int_equal(rules[class].bucket.window_ms, base + 2);
		assert_int_equal(rules[class].bucket.burst, base + 3);
		assert_int_equal(rules[class].bucket.kind, 9 + class);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_go_by_path),
		cmocka_unit_test(classes_are_as_configured),
	};

	return cmocka_run_group_tests_name("classes", tests, NULL, NULL);
}
