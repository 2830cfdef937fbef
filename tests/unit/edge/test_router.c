#include "edge/router.h"

#include "base/check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct route routes[] = {
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/a"},
	{.kind = ROUTE_HTTP, .method = "POST", .path = "/a"},
	{.kind = ROUTE_HTTP, .method = "POST", .path = "/b"},
	{.kind = ROUTE_HTTP, .method = "GET", .path = "/c"},
	{.kind = ROUTE_HTTP, .method = "HEAD", .path = "/c"},
	{.kind = ROUTE_GRPC, .method = "POST", .path = "/t.S/Do"},
};

static struct router *router_of_routes(void)
{
	struct router *router = router_create((struct hash_secret){{3}});

	assert_non_null(router);
	for (size_t i = 0; i < ARRAY_LEN(routes); i++)
		assert_int_equal(router_add(router, &routes[i]), 0);
	return router;
}

static void router_finds_exact_path_and_method(void **state)
{
	static const struct {
		const char *method, *path;
		int index; /* -1: none */
		enum err err;
		const char *allow;
	} rows[] = {
		{"GET", "/a", 0, ERR_NONE, NULL},
		{"POST", "/a", 1, ERR_NONE, NULL},
		{"HEAD", "/a", 0, ERR_NONE, NULL},
		{"HEAD", "/c", 4, ERR_NONE, NULL},
		{"POST", "/t.S/Do", 5, ERR_NONE, NULL},
		{"PUT", "/a", -1, ERR_METHOD_NOT_ALLOWED, "GET, HEAD, POST"},
		{"HEAD", "/b", -1, ERR_METHOD_NOT_ALLOWED, "POST"},
		{"POST", "/c", -1, ERR_METHOD_NOT_ALLOWED, "GET, HEAD"},
		{"get", "/a", -1, ERR_METHOD_NOT_ALLOWED, "GET, HEAD, POST"},
		{"GET", "/", -1, ERR_NOT_FOUND, NULL},
		{"GET", "", -1, ERR_NOT_FOUND, NULL},
		{"GET", "/a/", -1, ERR_NOT_FOUND, NULL},
		{"GET", "/A", -1, ERR_NOT_FOUND, NULL},
		{"GET", "/aa", -1, ERR_NOT_FOUND, NULL},
	};
	struct router *router = router_of_routes();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char allow[ROUTER_ALLOW_MAX] = "";
		enum err err = ERR_NONE;
		const struct route *route = router_find(router, span_from_cstr(rows[i].method),
							span_from_cstr(rows[i].path), &err, allow);

		assert_ptr_equal(route, rows[i].index < 0 ? NULL : &routes[rows[i].index]);
		assert_int_equal(err, rows[i].err);
		if (rows[i].allow)
			assert_string_equal(allow, rows[i].allow);
	}
	router_destroy(router);
}

static void router_refuses_a_second_route_of_one_name(void **state)
{
	struct router *router = router_of_routes();

	(void)state;
	assert_int_equal(router_add(router, &routes[0]), -EEXIST);
	router_destroy(router);
}

static void router_cuts_allow_at_whole_names(void **state)
{
	static const char *const methods[] = {"GET",	  "POST",      "PUT",	  "PATCH",
					      "DELETE",	  "TRACE",     "OPTIONS", "CONNECT",
					      "PROPFIND", "MKCALENDAR"};
	struct route many[ARRAY_LEN(methods)];
	struct router *router = router_create((struct hash_secret){{3}});
	char allow[ROUTER_ALLOW_MAX];
	enum err err = ERR_NONE;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		many[i] = (struct route){.method = methods[i], .path = "/x"};
		assert_int_equal(router_add(router, &many[i]), 0);
	}
	assert_null(router_find(router, SPAN("LOCK"), SPAN("/x"), &err, allow));
	assert_string_equal(allow, "GET, HEAD, POST, PUT, PATCH, DELETE, TRACE, OPTIONS, CONNECT");
	router_destroy(router);
}

struct visits {
	const struct route *seen[16];
	size_t count;
};

static void note_visit(const struct route *route, void *context)
{
	struct visits *visits = context;

	visits->seen[visits->count++] = route;
}

static void router_visits_in_the_order_added(void **state)
{
	struct router *router = router_of_routes();
	struct visits visits = {.count = 0};

	(void)state;
	router_each(router, note_visit, &visits);
	assert_int_equal(visits.count, ARRAY_LEN(routes));
	for (size_t i = 0; i < ARRAY_LEN(routes); i++)
		assert_ptr_equal(visits.seen[i], &routes[i]);
	router_destroy(router);
}

static void router_holds_a_thousand_paths(void **state)
{
	static struct route many[1000];
	static char paths[1000][16];
	struct router *router = router_create((struct hash_secret){{3}});
	char allow[ROUTER_ALLOW_MAX];
	enum err err;

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		snprintf(paths[i], sizeof(paths[i]), "/p/%zu", i);
		many[i] = (struct route){.method = "GET", .path = paths[i]};
		assert_int_equal(router_add(router, &many[i]), 0);
	}
	for (size_t i = 0; i < 1000; i++)
		assert_ptr_equal(
			router_find(router, SPAN("GET"), span_from_cstr(paths[i]), &err, allow),
			&many[i]);
	router_destroy(router);
	router_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(router_finds_exact_path_and_method),
		cmocka_unit_test(router_refuses_a_second_route_of_one_name),
		cmocka_unit_test(router_cuts_allow_at_whole_names),
		cmocka_unit_test(router_visits_in_the_order_added),
		cmocka_unit_test(router_holds_a_thousand_paths),
	};

	return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
