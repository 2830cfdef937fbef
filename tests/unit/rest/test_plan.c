/* plan: what a file and its descriptors come to, and what is said of each mistake, all at once. */
#include "auth/signer.h"
#include "unit/rest/planned.h"

#define ROW(path, rest) "    - { method: GET, path: '" path "', rpc: " rest " }\n"
#define GET_RPC		"ringway.test.Shop/Get, upstream: shop"

static const struct plan_route *route(const struct planned *planned, const char *method,
				      const char *path)
{
	struct table_match match;

	return planned_find(planned, method, path, &match);
}

static void rows_are_routes(void **state)
{
	(void)state;
	struct planned planned = plan_rest("  base_path: /api\n"
					   "  routes:\n" ROW("/orders/{name}", GET_RPC)
		ROW("/near/{near.city}", GET_RPC ", permission: 'p', response_body: lines")
		"    - { method: POST, absolute: /x, rpc: " GET_RPC ", body: near, public: true }\n"
		"    - { method: PUT, absolute: /y, rpc: ringway.test.Shop/Put, upstream: shop,"
		" body: '*' }\n");

	assert_string_equal(planned.report, "");

	const struct plan_route *found = route(&planned, "GET", "/api/orders/7");

	assert_non_null(found);
	assert_string_equal(found->label, "/api/orders/{name}");
	assert_true(span_equal(found->rpc->path, SPAN("/ringway.test.Shop/Get")));
	assert_int_equal(found->variables[0].path_count, 1);
	assert_false(found->takes_body || found->is_public);
	assert_int_equal(found->permission.len, 0);
	found = route(&planned, "GET", "/api/near/here");
	assert_int_equal(found->variables[0].path_count, 2);
	assert_true(span_equal(found->permission, SPAN("p")));
	assert_true(span_equal(found->response->name, SPAN("lines")));
	found = route(&planned, "POST", "/x");
	assert_true(found->is_public && found->takes_body && found->body_is_field);
	assert_true(span_equal(found->body->name, SPAN("near")));
	found = route(&planned, "PUT", "/y");
	assert_true(found->takes_body && !found->body_is_field && !found->response);
	assert_null(route(&planned, "PUT", "/api/y"));
	planned_finish(&planned);
}

/* wide.proto: verbs, custom, additional_bindings, bodies and their responses. */
static void annotations_are_routes(void **state)
{
	(void)state;
	struct planned planned = plan_rest(
		"  base_path: /api\n  services: [{ service: ringway.test.Shop, upstream: shop }]\n");

	assert_string_equal(planned.report, "");
	assert_int_equal(planned.plan->route_count, 7);

	const struct plan_route *found = route(&planned, "GET", "/api/v1/orders/7");

	assert_string_equal(found->label, "/api/v1/{name=orders/*}");
	assert_string_equal(route(&planned, "GET", "/api/v1/orders:find")->label,
			    "/api/v1/orders:find");
	found = route(&planned, "POST", "/api/v1/orders:find");
	assert_true(found->body_is_field && span_equal(found->body->name, SPAN("near")));
	assert_true(span_equal(found->response->name, SPAN("lines")));
	assert_true(route(&planned, "PUT", "/api/v1/orders/7")->takes_body);
	assert_true(span_equal(route(&planned, "HEAD", "/api/v1/orders")->rpc->name, SPAN("Probe")));
	assert_null(route(&planned, "GET", "/api/v1/watch"));
	planned_finish(&planned);
}

static void rows_win_over_annotations(void **state)
{
	(void)state;
	struct planned planned =
		plan_rest("  services: [{ service: ringway.test.Shop, upstream: shop }]\n"
			  "  routes:\n"
			  "    - { method: PUT, path: '/v1/orders/{order_id=*}', rpc: "
			  "ringway.test.Shop/Put, upstream: shop, permission: 'ours' }\n");

	assert_string_equal(planned.report, "");
	assert_true(span_equal(route(&planned, "PUT", "/v1/orders/7")->permission, SPAN("ours")));
	planned_finish(&planned);
}

static void file_without_rest_has_no_plan(void **state)
{
	(void)state;
	struct planned planned = plan_text("upstreams: {}\n# %s\n", SPAN_EMPTY);

	assert_non_null(planned.file);
	assert_null(planned.plan);
	planned_finish(&planned);
}

/* Each row alone: what stands from line 6 on, and what is said of it. */
static void each_mistake_is_told_with_its_place(void **state)
{
	(void)state;
	static const struct {
		const char *text, *report;
	} rows[] = {
		{"  routes:\n" ROW("/a/{nothing}", GET_RPC),
		 "7:28: path \"/a/{nothing}\": nothing is no field of ringway.test.GetRequest\n"},
		{"  routes:\n" ROW("/a/{near.nothing}", GET_RPC),
		 "7:28: path \"/a/{near.nothing}\": near.nothing is no field of "
		 "ringway.test.GetRequest\n"},
		{"  routes:\n" ROW("/a/{near}", GET_RPC),
		 "7:28: path \"/a/{near}\": near of ringway.test.GetRequest cannot be written in a "
		 "path\n"},
		{"  routes:\n" ROW("/a/{lines}", "ringway.test.Shop/Put, upstream: shop"),
		 "7:28: path \"/a/{lines}\": lines of ringway.test.Order cannot be written in a "
		 "path\n"},
		{"  routes:\n" ROW("/a/{scores}", "ringway.test.Shop/Put, upstream: shop"),
		 "7:28: path \"/a/{scores}\": scores of ringway.test.Order cannot be written in a "
		 "path\n"},
		{"  routes:\n" ROW("/a/{name", GET_RPC),
		 "7:28: path \"/a/{name\" has a { without its }\n"},
		{"  routes:\n" ROW("/a//b", GET_RPC), "7:28: path \"/a//b\" has an empty segment\n"},
		{"  routes:\n" ROW("/a", "ringway.test.Shop/None, upstream: shop"),
		 "7:39: rpc \"ringway.test.Shop/None\" is in no descriptor set\n"},
		{"  routes:\n" ROW("/a", "no.Such/Get, upstream: shop"),
		 "7:39: rpc \"no.Such/Get\" is in no descriptor set\n"},
		{"  routes:\n" ROW("/a", "ringway.test.Shop/Talk, upstream: shop"),
		 "7:28: /ringway.test.Shop/Talk takes a stream, which a request cannot be\n"},
		{"  routes:\n" ROW("/a", GET_RPC ", body: nobody"),
		 "7:84: body \"nobody\" is no field of ringway.test.GetRequest\n"},
		{"  routes:\n" ROW("/a", GET_RPC ", response_body: none"),
		 "7:93: response_body \"none\" is no field of ringway.test.Order\n"},
		{"  routes:\n" ROW("/a/{name}", GET_RPC) ROW("/a/*", GET_RPC),
		 "8:28: GET \"/a/*\" collides with \"/a/{name}\" of line 7\n"},
		{"  routes:\n" ROW("/a/{name=**}", GET_RPC) ROW("/a/**", GET_RPC),
		 "8:28: GET \"/a/**\" collides with \"/a/{name=**}\" of line 7\n"},
		{"  services: [{ service: no.Such, upstream: shop }]\n",
		 "6:25: service \"no.Such\" is in no descriptor set\n"},
		{"  services: [{ service: ringway.test.Shop, upstream: shop }, { service: "
		 "ringway.test.Shop, upstream: shop }]\n",
		 "6:73: GET \"/v1/{name=orders/*}\" collides with \"/v1/{name=orders/*}\" of line 6\n"
		 "6:73: GET \"/v1/orders:find\" collides with \"/v1/orders:find\" of line 6\n"
		 "6:73: POST \"/v1/orders:find\" collides with \"/v1/orders:find\" of line 6\n"
		 "6:73: PUT \"/v1/orders/{order_id}\" collides with \"/v1/orders/{order_id}\" of "
		 "line 6\n"
		 "6:73: HEAD \"/v1/orders\" collides with \"/v1/orders\" of line 6\n"
		 "6:73: PATCH \"/v1/orders/{order_id}\" collides with \"/v1/orders/{order_id}\" of "
		 "line 6\n"
		 "6:73: POST \"/v1/orders/{order_id}:change\" collides with "
		 "\"/v1/orders/{order_id}:change\" of line 6\n"},
		{"  routes:\n" ROW("/a", GET_RPC ", nobody: x"),
		 "7:78: unknown key \"nobody\"; the nearest known one is \"body\"\n"},
		{"  routes:\n" ROW("/a", "ringway.test.Shop/Get, upstream: shoop"),
		 "7:72: upstream \"shoop\" is not among the upstreams\n"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct planned planned = plan_rest(rows[i].text);

		assert_null(planned.file);
		assert_string_equal(planned.report, rows[i].report);
	}
}

static void mistakes_are_told_all_at_once(void **state)
{
	(void)state;
	struct planned planned =
		plan_rest("  routes:\n" ROW("/a/{nothing}", GET_RPC ", body: x, response_body: y")
				  ROW("/b/{name", GET_RPC) ROW("/c", "no.Such/Get, upstream: shop")
					  ROW("/d/{name}", GET_RPC) ROW("/d/*", GET_RPC)
			  "  services: [{ service: no.Such, upstream: shop }]\n");

	assert_null(planned.file);
	assert_string_equal(
		planned.report,
		"7:28: path \"/a/{nothing}\": nothing is no field of ringway.test.GetRequest\n"
		"7:94: body \"x\" is no field of ringway.test.GetRequest\n"
		"7:112: response_body \"y\" is no field of ringway.test.Order\n"
		"8:28: path \"/b/{name\" has a { without its }\n"
		"9:39: rpc \"no.Such/Get\" is in no descriptor set\n"
		"11:28: GET \"/d/*\" collides with \"/d/{name}\" of line 10\n"
		"12:25: service \"no.Such\" is in no descriptor set\n");
}

static void routes_without_auth_are_public_or_a_mistake(void **state)
{
	(void)state;
	static const char head[] = "descriptor_sets: ['%s']\n"
				   "upstreams: { shop: { addresses: ['127.0.0.1:1'] } }\n"
				   "rest:\n";
	char text[1024];

	snprintf(text, sizeof(text), "%s  routes:\n%s%s", head, ROW("/a", GET_RPC ", public: true"),
		 ROW("/b", GET_RPC));
	struct planned planned = plan_text(text, test_descriptors());

	assert_null(planned.file);
	assert_string_equal(planned.report, "6:28: \"/b\" is not public, so rest needs auth\n");
	snprintf(text, sizeof(text), "%s  routes:\n%s", head, ROW("/a", GET_RPC ", public: true"));
	planned = plan_text(text, test_descriptors());
	assert_string_equal(planned.report, "");
	planned_finish(&planned);
}

/* And of the rows, which can then only be wrong, nothing. */
/* Its user would be told so at each sign-in, and nobody before. */
static void sign_on_that_fits_no_location_is_a_mistake(void **state)
{
	char amps[1001], text[4096], key[64];

	(void)state;
	assert_int_equal(auth_init(), 0);
	memset(amps, '&', 1000); /* three bytes each, encoded */
	write_temporary(key, SPAN("0123456789abcdef0123456789abcdef"));
	for (int size = 100; size <= 1000; size += 900) {
		amps[size] = '\0';
		snprintf(text, sizeof(text),
			 "  sso: { provider: google, client_id: '%s', hosted_domain: '%s', "
			 "cookie_key_file: '%s', redirect_url: 'https://a/%s' }\n",
			 amps, amps, key, amps + size / 10);

		struct planned planned = plan_rest(text);

		assert_string_equal(planned.report,
				    size < 1000 ? ""
						: "6:8: sso: what a provider is asked would be "
						  "longer than 8192 bytes\n");
		planned_finish(&planned);
		amps[size] = '&';
	}
	unlink(key);
}

static void descriptors_that_are_none_are_one_mistake(void **state)
{
	(void)state;
	static const char text[] = PLANNED_HEAD "  routes:\n" ROW("/a", "no.Such/Get, upstream: shop");
	struct planned planned =
		plan_text(text, span_first(test_descriptors(), test_descriptors().len / 2));

	assert_null(planned.file);
	assert_true(strncmp(planned.report, "1:19: descriptor sets: ", 23) == 0);
	assert_ptr_equal(strchr(planned.report, '\n') + 1,
			 planned.report + strlen(planned.report));
	planned = plan_text("descriptor_sets: ['%s.none', /none/such]\n"
			    "upstreams: { shop: { addresses: ['127.0.0.1:1'] } }\n"
			    "rest:\n  auth: { upstream: shop }\n",
			    SPAN_EMPTY);
	assert_null(planned.file);
	assert_string_equal(planned.report,
			    "1:19: descriptor set \"SET.none\": No such file or directory\n"
			    "1:49: descriptor set \"/none/such\": No such file or directory\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_routes),
		cmocka_unit_test(annotations_are_routes),
		cmocka_unit_test(rows_win_over_annotations),
		cmocka_unit_test(file_without_rest_has_no_plan),
		cmocka_unit_test(each_mistake_is_told_with_its_place),
		cmocka_unit_test(mistakes_are_told_all_at_once),
		cmocka_unit_test(routes_without_auth_are_public_or_a_mistake),
		cmocka_unit_test(sign_on_that_fits_no_location_is_a_mistake),
		cmocka_unit_test(descriptors_that_are_none_are_one_mistake),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
