/* rest: the section of the API gateway, whole, by its defaults, and with every mistake. */
#include "unit/config/loaded.h"

#define UPSTREAMS                                                                                  \
	"upstreams:\n"                                                                             \
	"  auth: { addresses: ['auth-service:50051'] }\n"                                          \
	"  ai:   { addresses: ['ai-service:50052'], deadline: 30s }\n"

/* api.md §1 */
static const char example[] =
	"descriptor_sets: [api.pb, /etc/other.pb]\n" UPSTREAMS "rest:\n"
	"  base_path: /api/v1\n"
	"  auth:\n"
	"    upstream: auth\n"
	"    cookie: session\n"
	"    validate_cache: 7s\n"
	"  services:\n"
	"    - { service: auth.v1.AuthService, upstream: auth, public: true }\n"
	"  routes:\n"
	"    - { method: GET, path: '/users/{user_id}', rpc: auth.v1.AuthService/GetUser, "
	"upstream: auth,"
	" permission: 'admin:user:list', response_body: user }\n"
	"    - { method: POST, absolute: /api/ai, rpc: ai_service.AIService/ProcessQuery, "
	"upstream: ai,"
	" body: '*', public: true }\n"
	"  json: { print_defaults: true, ignore_unknown_query: true, ignore_unknown_body: true }\n"
	"  grpc_web: [galaxy.gateway.v1.EdgeGateway, ai_service.AIService]\n"
	"  sso:\n"
	"    provider: okta-1\n"
	"    authorize_url: 'https://example.okta.com/authorize'\n"
	"    client_id: 'the-client'\n"
	"    scopes: [openid, email]\n"
	"    hosted_domain: example.com\n"
	"    cookie_key_file: sso.key\n"
	"    redirect_url: 'http://127.0.0.1:3000/api/v1/auth/okta-1/callback'\n"
	"    after_login: /dashboard\n"
	"  cors: { origins: ['https://app.example.com'], credentials: true, max_age: 5m }\n"
	"  allowed_origins: ['https://app.example.com', 'http://localhost:3000']\n";

static void everything_is_taken(void **state)
{
	(void)state;
	struct loaded loaded = load_file(span_from_cstr(example));

	assert_string_equal(loaded.report, "");
	assert_non_null(loaded.config);

	const struct config_rest *rest = loaded.config->file->rest;

	assert_non_null(rest);
	assert_string_equal(rest->base_path, "/api/v1");
	assert_int_equal(rest->descriptor_sets.count, 2);
	assert_string_equal(rest->descriptor_sets.items[0].text, "/tmp/api.pb");
	assert_int_equal(rest->descriptor_sets.items[0].place.line, 1);
	assert_int_equal(rest->descriptor_sets.items[0].place.column, 19);
	assert_string_equal(rest->descriptor_sets.items[1].text, "/etc/other.pb");
	assert_true(rest->auth.set);
	assert_int_equal(rest->auth.upstream, 0);
	assert_string_equal(rest->auth.cookie, "session");
	assert_int_equal(rest->auth.validate_cache_ms, 7000);
	assert_int_equal(rest->service_count, 1);
	assert_string_equal(rest->services[0].service.text, "auth.v1.AuthService");
	assert_true(rest->services[0].is_public);
	assert_int_equal(rest->route_count, 2);
	assert_string_equal(rest->routes[0].method.text, "GET");
	assert_string_equal(rest->routes[0].path.text, "/api/v1/users/{user_id}");
	assert_string_equal(rest->routes[0].rpc.text, "auth.v1.AuthService/GetUser");
	assert_string_equal(rest->routes[0].permission.text, "admin:user:list");
	assert_string_equal(rest->routes[0].response_body.text, "user");
	assert_null(rest->routes[0].body.text);
	assert_false(rest->routes[0].is_public);
	assert_string_equal(rest->routes[1].path.text, "/api/ai");
	assert_string_equal(rest->routes[1].body.text, "*");
	assert_int_equal(rest->routes[1].upstream, 1);
	assert_true(rest->routes[1].is_public);
	assert_true(rest->json.print_defaults && rest->json.ignore_unknown_query &&
		    rest->json.ignore_unknown_body);
	assert_int_equal(rest->grpc_web.count, 2);
	assert_string_equal(rest->grpc_web.items[1].text, "ai_service.AIService");
	assert_true(rest->sso.set);
	assert_string_equal(rest->sso.provider, "okta-1");
	assert_string_equal(rest->sso.authorize_url, "https://example.okta.com/authorize");
	assert_string_equal(rest->sso.scopes, "openid email");
	assert_string_equal(rest->sso.hosted_domain, "example.com");
	assert_string_equal(rest->sso.cookie_key_file.text, "/tmp/sso.key");
	assert_string_equal(rest->sso.callback_path, "/api/v1/auth/okta-1/callback");
	assert_int_equal(rest->sso.place.line, 19);
	assert_string_equal(rest->sso.after_login, "/dashboard");
	assert_int_equal(rest->cors.origins.count, 1);
	assert_true(rest->cors.credentials);
	assert_int_equal(rest->cors.max_age_s, 300);
	assert_int_equal(rest->allowed_origins.count, 2);
	unload(&loaded);
}

static void the_section_is_shown_as_it_was_taken(void **state)
{
	static const char wanted[] =
		"# rest: base_path=/api/v1 print_defaults=true ignore_unknown_query=true "
		"ignore_unknown_body=true descriptor_sets=/tmp/api.pb,/etc/other.pb "
		"grpc_web=galaxy.gateway.v1.EdgeGateway,ai_service.AIService\n"
		"# rest auth: upstream=auth cookie=session validate_cache=7s\n"
		"# rest sso okta-1: authorize_url=https://example.okta.com/authorize "
		"client_id=the-client scopes=\"openid email\" hosted_domain=example.com "
		"cookie_key_file=/tmp/sso.key "
		"redirect_url=http://127.0.0.1:3000/api/v1/auth/okta-1/callback "
		"after_login=/dashboard\n"
		"# rest cors: origins=https://app.example.com credentials=true max_age=5m\n"
		"# rest allowed_origins=https://app.example.com,http://localhost:3000\n"
		"# rest service auth.v1.AuthService: upstream=auth public=true\n"
		"# rest route GET /api/v1/users/{user_id}: rpc=auth.v1.AuthService/GetUser "
		"upstream=auth public=false permission=admin:user:list response_body=user\n"
		"# rest route POST /api/ai: rpc=ai_service.AIService/ProcessQuery upstream=ai "
		"public=true body=*\n";
	struct loaded loaded = load_file(span_from_cstr(example));
	struct buf out;

	(void)state;
	buf_init(&out, CONFIG_TEXT_BYTES_MAX);
	assert_int_equal(config_write_file(loaded.config->file, &out), 0);
	assert_int_equal(buf_append_byte(&out, '\0'), 0);

	const char *shown = strstr((const char *)out.data, "# rest");

	assert_non_null(shown);
	assert_string_equal(shown, wanted);
	buf_finish(&out);
	unload(&loaded);
}

static void what_is_left_out_has_its_default(void **state)
{
	(void)state;
	struct loaded loaded = load_file(SPAN("rest:\n"
					      "  sso:\n"
					      "    provider: google\n"
					      "    client_id: c\n"
					      "    cookie_key_file: /k\n"
					      "    redirect_url: 'https://a/b'\n"
					      "  auth: { upstream: auth }\n" UPSTREAMS));

	assert_string_equal(loaded.report, "");

	const struct config_rest *rest = loaded.config->file->rest;

	assert_string_equal(rest->base_path, "");
	assert_string_equal(rest->auth.cookie, "session_token");
	assert_int_equal(rest->auth.validate_cache_ms, 5000);
	assert_string_equal(rest->sso.authorize_url,
			    "https://accounts.google.com/o/oauth2/v2/auth");
	assert_string_equal(rest->sso.scopes, "openid email profile");
	assert_string_equal(rest->sso.after_login, "/");
	assert_null(rest->sso.hosted_domain);
	assert_int_equal(rest->cors.max_age_s, 600);
	assert_int_equal(rest->cors.origins.count, 0);
	unload(&loaded);
}

static void redirect_url_has_a_path_that_a_cookie_can_be_bound_to(void **state)
{
	(void)state;
	static const char *const bad[] = {"https://a", "https://a/b?c=d", "https://a?/b",
					  "https://a/b;c"};
	char text[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 "upstreams: { a: { addresses: ['h:1'] } }\n"
			 "rest:\n  auth: { upstream: a }\n"
			 "  sso: { provider: google, client_id: c, cookie_key_file: k,\n"
			 "    redirect_url: '%s' }\n",
			 bad[i]);
		assert_file(text, "F:5:19: redirect_url must have a path, and neither ? nor ;\n");
	}
}

static void without_the_section_there_is_no_api_gateway(void **state)
{
	(void)state;
	struct loaded loaded = load_file(SPAN(UPSTREAMS));

	assert_null(loaded.config->file->rest);
	unload(&loaded);
	assert_file("descriptor_sets: [a.pb]\n",
		    "F:1:18: descriptor_sets are for rest, which is not here\n");
}

static void every_mistake_has_its_place(void **state)
{
	(void)state;
	assert_file(
		UPSTREAMS
		"rest:\n"
		"  base_pth: /api\n"
		"  base_path: api/\n"
		"  auth: { upstream: nobody, cookie: 'a=b', validate_cache: 1h }\n"
		"  services:\n"
		"    - { service: 'a b', upstream: auth }\n"
		"    - text\n"
		"  routes:\n"
		"    - { method: get, path: '/a', rpc: a.B/C, upstream: auth }\n"
		"    - { method: GET, path: 'a', rpc: a.B/C, upstream: auth }\n"
		"    - { method: GET, path: '/a', absolute: '/b', rpc: a.B/C, upstream: auth }\n"
		"    - { method: GET, path: '/a', rpc: a.B, upstream: nobody }\n"
		"    - { method: GET, rpc: a.B/C, upstream: auth }\n"
		"    - { method: GET, path: '/a', rpc: a.B/C, upstream: auth, public: true, "
		"permission: p }\n",
		"F:5:3: unknown key \"base_pth\"; the nearest known one is \"base_path\"\n"
		"F:6:14: base_path must begin with / and end without, and have none of {}*:?#\n"
		"F:7:21: upstream \"nobody\" is not among the upstreams\n"
		"F:7:37: cookie \"a=b\" is no name of a cookie\n"
		"F:7:60: validate_cache must be a duration (250ms, 5s, 1m30s) from 0 to 5m\n"
		"F:9:18: service must be 1 to 1024 printable ASCII bytes without spaces\n"
		"F:10:7: a service must be a mapping\n"
		"F:12:17: method \"get\" is none (upper-case letters and -)\n"
		"F:13:28: path must begin with /\n"
		"F:13:7: key \"path\" or \"absolute\" is missing\n"
		"F:14:44: path and absolute exclude each other\n"
		"F:15:39: rpc \"a.B\" must be <package>.<Service>/<Method>\n"
		"F:15:54: upstream \"nobody\" is not among the upstreams\n"
		"F:16:7: key \"path\" or \"absolute\" is missing\n"
		"F:17:7: a public route asks for no permission\n"
		"F:5:3: rest needs descriptor_sets for its services and routes\n");
}

static void mistakes_about_browsers_have_their_place(void **state)
{
	(void)state;
	assert_file("rest:\n"
		    "  sso:\n"
		    "    provider: Google\n"
		    "    authorize_url: 'http://example.com/a'\n"
		    "    scopes: [email]\n"
		    "    redirect_url: 'https://a/b#c'\n"
		    "    after_login: //evil\n"
		    "  cors: { origins: ['*', 'https://A', 'https://a/', 'https://a', 'https://a'],"
		    " credentials: true }\n"
		    "  allowed_origins: ['*', 'ftp://a']\n",
		    "F:3:15: provider must be of lower-case letters, digits and -\n"
		    "F:4:20: authorize_url must be https; http is for loopback addresses\n"
		    "F:5:13: scopes must have openid\n"
		    "F:6:19: redirect_url must be https://host[:port]/path without a fragment\n"
		    "F:7:18: after_login must be a local path\n"
		    "F:3:5: key \"client_id\" is missing\n"
		    "F:3:5: key \"cookie_key_file\" is missing\n"
		    "F:3:5: key \"authorize_url\" is missing; only the provider google has one "
		    "known here\n"
		    "F:8:26: an origin must be https://host[:port] in lower case, no more\n"
		    "F:8:39: an origin must be https://host[:port] in lower case, no more\n"
		    "F:8:66: \"https://a\" is here twice\n"
		    "F:8:9: origin * cannot have credentials\n"
		    "F:9:21: an origin must be https://host[:port] in lower case, no more\n"
		    "F:9:26: an origin must be https://host[:port] in lower case, no more\n"
		    "F:2:3: sso needs auth\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_taken),
		cmocka_unit_test(the_section_is_shown_as_it_was_taken),
		cmocka_unit_test(what_is_left_out_has_its_default),
		cmocka_unit_test(without_the_section_there_is_no_api_gateway),
		cmocka_unit_test(every_mistake_has_its_place),
		cmocka_unit_test(mistakes_about_browsers_have_their_place),
		cmocka_unit_test(redirect_url_has_a_path_that_a_cookie_can_be_bound_to),
	};

	return cmocka_run_group_tests_name("config/rest", tests, NULL, NULL);
}
