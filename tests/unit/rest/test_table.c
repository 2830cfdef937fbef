/* template and table: which paths a template takes, which route wins, what a path allows. */
#include "rest/table.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROWS_MAX 16

static void templates_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int segments, variables;
		const char *verb;
	} rows[] = {
		{"/", 0, 0, ""},
		{"/v1", 1, 0, ""},
		{"/v1/users", 2, 0, ""},
		{"/v1/users:list", 2, 0, "list"},
		{"/v1/{user_id}", 2, 1, ""},
		{"/v1/{a.b.c}/x/{d=shelves/*}:get", 5, 2, "get"},
		{"/v1/{name=**}", 2, 1, ""},
		{"/v1/*/**", 3, 0, ""},
		{"/%41-._~!$&'()+,;=@", 1, 0, ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct template template;
		const char *why = NULL;

		assert_int_equal(template_parse(span_from_cstr(rows[i].text), &template, &why), 0);
		assert_int_equal(template.segment_count, rows[i].segments);
		assert_int_equal(template.variable_count, rows[i].variables);
		assert_true(span_equal(template.verb, span_from_cstr(rows[i].verb)));
	}
}

static void bad_templates_say_why(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{"", "does not begin with /"},
		{"v1", "does not begin with /"},
		{"//", "has an empty segment"},
		{"/a/", "has an empty segment"},
		{"/a//b", "has an empty segment"},
		{"/a:", "has an empty segment"},
		{"/a:b/c", "has a byte that no segment may have"},
		{"/a b", "has a byte that no segment may have"},
		{"/a?b", "has a byte that no segment may have"},
		{"/a{b}", "has a byte that no segment may have"},
		{"/{a", "has a { without its }"},
		{"/{a=b", "has a { without its }"},
		{"/{}", "has a variable that is no field path"},
		{"/{a.}", "has a variable that is no field path"},
		{"/{1a}", "has a variable that is no field path"},
		{"/{a={b}}", "has a variable in a variable"},
		{"/{a}/{a}", "has a variable twice"},
		{"/**/a", "has something behind **"},
		{"/{a=**}/b", "has something behind **"},
		{"/***", "has a byte that no segment may have"},
		{"/%4", "has a % without two hexadecimal digits"},
		{"/%zz", "has a % without two hexadecimal digits"},
		{"/a/../b", "has a segment . or .., which no request has"},
		{"/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3",
		 "has more than 32 segments"},
		{"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}",
		 "has more than 16 variables"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct template template;
		const char *why = NULL;

		assert_int_not_equal(template_parse(span_from_cstr(rows[i][0]), &template, &why),
				     0);
		assert_string_equal(why, rows[i][1]);
	}
}

/* A table of "METHOD /template" rows; the target of each is its text. */
struct rig {
	struct table *table;
	struct template templates[ROWS_MAX];
	size_t count;
};

static int rig_add(struct rig *rig, const char *row, void **other)
{
	const char *space = strchr(row, ' ');
	const char *why;
	struct template *template = &rig->templates[rig->count++];

	assert_true(rig->count <= ROWS_MAX);
	assert_int_equal(template_parse(span_from_cstr(space + 1), template, &why), 0);
	return table_add(rig->table,
			 &(struct table_entry){span_make(row, (size_t)(space - row)), template,
					       (void *)(uintptr_t)row},
			 other);
}

static void rig_open(struct rig *rig, const char *const *rows)
{
	void *other;

	*rig = (struct rig){.table = table_create()};
	assert_non_null(rig->table);
	for (; *rows; rows++)
		assert_int_equal(rig_add(rig, *rows, &other), 0);
}

static void rig_close(struct rig *rig)
{
	table_destroy(rig->table);
}

/* What "METHOD /path" takes: the route's text, with "field=value" behind it for each variable. */
static void rig_find(const struct rig *rig, const char *request, char *out, size_t size)
{
	const char *space = strchr(request, ' ');
	struct table_match match = {.target = NULL};
	char allow[TABLE_ALLOW_MAX];
	enum table_outcome outcome =
		table_find(rig->table, span_make(request, (size_t)(space - request)),
			   span_from_cstr(space + 1), &match, allow);
	int len;

	if (outcome == TABLE_NO_PATH) {
		snprintf(out, size, "404");
		return;
	}
	if (outcome == TABLE_NO_METHOD) {
		/* one of the path's routes: 405 is counted by its template */
		assert_non_null(match.target);
		snprintf(out, size, "405 %s", allow);
		return;
	}
	len = snprintf(out, size, "%s", (const char *)match.target);
	for (size_t i = 0; i < match.template->variable_count; i++)
		len += snprintf(out + len, size - (size_t)len, " %.*s=%.*s",
				SPAN_ARGS(match.template->variables[i].field),
				SPAN_ARGS(match.values[i]));
}

static const char *const routes[] = {
	"GET /",
	"GET /users",
	"POST /users",
	"GET /users/{id}",
	"DELETE /users/{id}",
	"GET /users/me",
	"POST /users/{id}:ban",
	"GET /files/{name=**}",
	"GET /files/{name=a/*}/meta",
	"PATCH /shelves/{book.name=s/*/b/*}",
	"* /any/{x}",
	"PUT /any/{x}",
	"GET /tree/**",
	"POST /tree/**:prune",
	NULL,
};

static void the_most_literal_route_wins(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{"GET /", "GET /"},
		{"GET /users", "GET /users"},
		{"HEAD /users", "GET /users"},
		{"POST /users", "POST /users"},
		{"GET /users/me", "GET /users/me"},
		{"GET /users/7", "GET /users/{id} id=7"},
		{"GET /users/a%2Fb", "GET /users/{id} id=a%2Fb"},
		{"DELETE /users/me", "DELETE /users/{id} id=me"},
		{"POST /users/7:ban", "POST /users/{id}:ban id=7"},
		{"GET /users/7:ban", "GET /users/{id} id=7:ban"},
		{"GET /users/7:", "GET /users/{id} id=7:"},
		{"GET /files", "GET /files/{name=**} name="},
		{"GET /files/x", "GET /files/{name=**} name=x"},
		{"GET /files/x/y/z", "GET /files/{name=**} name=x/y/z"},
		{"GET /files/a/b/meta", "GET /files/{name=a/*}/meta name=a/b"},
		{"GET /files/a/b/other", "GET /files/{name=**} name=a/b/other"},
		{"PATCH /shelves/s/1/b/2", "PATCH /shelves/{book.name=s/*/b/*} book.name=s/1/b/2"},
		{"PUT /any/1", "PUT /any/{x} x=1"},
		{"QUERY /any/1", "* /any/{x} x=1"},
		{"GET /tree", "GET /tree/**"},
		{"GET /tree/a/b", "GET /tree/**"},
		{"POST /tree/a/b:prune", "POST /tree/**:prune"},
		{"GET /nowhere", "404"},
		{"GET /users/", "404"},
		{"GET //users", "404"},
		{"GET /users/7/x", "404"},
		{"PATCH /users", "405 GET, HEAD, POST"},
		{"PATCH /users/7", "405 GET, HEAD, DELETE"},
		{"PATCH /users/me", "405 GET, HEAD, DELETE"},
		{"PUT /tree/x", "405 GET, HEAD"},
		{"PUT /tree/x:prune", "405 POST, GET, HEAD"},
	};
	struct rig rig;
	char got[512];

	rig_open(&rig, routes);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rig_find(&rig, rows[i][0], got, sizeof(got));
		assert_string_equal(got, rows[i][1]);
	}
	rig_close(&rig);
}

static void routes_of_the_same_paths_collide(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{"GET /users/{other}", "GET /users/{id}"},
		{"GET /users/*", "GET /users/{id}"},
		{"GET /files/**", "GET /files/{name=**}"},
		{"GET /files/a/{x}/meta", "GET /files/{name=a/*}/meta"},
		{"POST /users/{x}:ban", "POST /users/{id}:ban"},
		{"POST /users/{x}", NULL},
		{"POST /users/{x}:unban", NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig rig;
		void *other = NULL;

		rig_open(&rig, routes);
		assert_int_equal(rig_add(&rig, rows[i][0], &other), rows[i][1] ? -EEXIST : 0);
		if (rows[i][1])
			assert_string_equal(other, rows[i][1]);
		rig_close(&rig);
	}
}

static void path_of_too_many_segments_is_not_found(void **state)
{
	(void)state;
	char path[2 * TABLE_SEGMENTS_MAX + 16] = "GET /tree";
	size_t len = strlen(path);
	struct rig rig;
	char got[512];

	rig_open(&rig, routes);
	for (int i = 1; i < TABLE_SEGMENTS_MAX; i++)
		len += (size_t)snprintf(path + len, sizeof(path) - len, "/a");
	rig_find(&rig, path, got, sizeof(got));
	assert_string_equal(got, "GET /tree/**");
	snprintf(path + len, sizeof(path) - len, "/a");
	rig_find(&rig, path, got, sizeof(got));
	assert_string_equal(got, "404");
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(templates_are_read),
		cmocka_unit_test(bad_templates_say_why),
		cmocka_unit_test(the_most_literal_route_wins),
		cmocka_unit_test(routes_of_the_same_paths_collide),
		cmocka_unit_test(path_of_too_many_segments_is_not_found),
	};

	return cmocka_run_group_tests_name("rest/table", tests, NULL, NULL);
}
