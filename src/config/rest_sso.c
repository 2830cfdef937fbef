/* The parts of the section `rest` that are about browsers: sign-on, origins, CORS (api.md §1, §4,
 * §5). */
#include "config/rest_internal.h"

#include <ctype.h>

#define CORS_MAX_AGE_MS_MAX 86400000 /* what browsers take is less */

#define GOOGLE_AUTHORIZE_URL "https://accounts.google.com/o/oauth2/v2/auth"
#define SCOPES_DEFAULT	     "openid email profile"

/* ---- addresses ---- */

/* What stands behind "https://" or "http://", or NULL. */
static const char *url_authority(const char *text, bool *is_https)
{
	*is_https = strncmp(text, "https://", 8) == 0;
	if (*is_https)
		return text + 8;
	return strncmp(text, "http://", 7) == 0 ? text + 7 : NULL;
}

/* Without TLS only to the own machine. RFC 8252 §8.3 */
static bool is_loopback(const char *authority)
{
	static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]"};

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		size_t len = strlen(hosts[i]);

		if (strncmp(authority, hosts[i], len) == 0 &&
		    strchr(":/", authority[len]) /* its end too */)
			return true;
	}
	return false;
}

/* An address that a browser is sent to. */
static bool take_url(struct tree *tree, const yaml_node_t *node, const char *what,
		     struct rest_reading *reading, const char **url)
{
	struct config_text text;
	bool is_https;

	if (!rest_text(tree, node, what, reading, &text))
		return false;

	const char *authority = url_authority(text.text, &is_https);

	if (!authority || strcspn(authority, "/?#") == 0 || strpbrk(text.text, "#\"<>\\")) {
		tree_mistake(tree, node, "%s must be https://host[:port]/path without a fragment",
			     what);
		return false;
	}
	if (!is_https && !is_loopback(authority)) {
		tree_mistake(tree, node, "%s must be https; http is for loopback addresses", what);
		return false;
	}
	*url = text.text;
	return true;
}

bool rest_origin(struct tree *tree, const yaml_node_t *node, const char *what,
		 struct rest_reading *reading, struct config_text *text)
{
	bool is_https;

	if (!rest_text(tree, node, what, reading, text))
		return false;

	const char *authority = url_authority(text->text, &is_https);
	bool good = authority && authority[0] != '\0' && !strpbrk(authority, "/?#@*");

	/* Browsers send it in lower case; another would never match. */
	for (const char *at = text->text; good && *at; at++)
		good = !isupper((unsigned char)*at);
	if (!good)
		tree_mistake(tree, node, "%s must be https://host[:port] in lower case, no more",
			     what);
	return good;
}

/* ---- sso ---- */

static void take_provider(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (!rest_text(tree, node, "provider", reading, &text))
		return;
	for (const char *at = text.text; *at; at++) {
		if (!islower((unsigned char)*at) && !isdigit((unsigned char)*at) && *at != '-') {
			tree_mistake(tree, node,
				     "provider must be of lower-case letters, digits and -");
			return;
		}
	}
	reading->rest->sso.provider = text.text;
}

static void take_authorize_url(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	take_url(tree, node, "authorize_url", reading, &reading->rest->sso.authorize_url);
}

static void take_redirect_url(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	struct config_rest_sso *sso = &reading->rest->sso;
	bool is_https;

	if (!take_url(tree, node, "redirect_url", reading, &sso->redirect_url))
		return;

	const char *authority = url_authority(sso->redirect_url, &is_https);
	const char *path = authority + strcspn(authority, "/");

	/* A cookie is bound to it. */
	if (path[0] != '/' || strpbrk(sso->redirect_url, "?;"))
		tree_mistake(tree, node, "redirect_url must have a path, and neither ? nor ;");
	else
		sso->callback_path = path;
}

static void take_client_id(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (rest_text(tree, node, "client_id", reading, &text))
		reading->rest->sso.client_id = text.text;
}

static void take_hosted_domain(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (rest_text(tree, node, "hosted_domain", reading, &text))
		reading->rest->sso.hosted_domain = text.text;
}

/* OpenID Connect Core §3.1.2.1: openid is one of them. */
static void take_scopes(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_texts scopes = {0};
	bool has_openid = false;
	size_t bytes = 1;

	rest_texts(tree, node, &(struct rest_list){"scopes", "a scope", REST_SCOPES_MAX, rest_text},
		   reading, &scopes);
	for (size_t i = 0; i < scopes.count; i++) {
		has_openid |= strcmp(scopes.items[i].text, "openid") == 0;
		bytes += strlen(scopes.items[i].text) + 1;
	}
	if (!has_openid) {
		tree_mistake(tree, node, "scopes must have openid");
		return;
	}

	char *joined = rest_alloc(reading, 1, bytes);

	for (size_t i = 0; joined && i < scopes.count; i++) {
		if (i > 0)
			strncat(joined, " ", bytes - strlen(joined) - 1);
		strncat(joined, scopes.items[i].text, bytes - strlen(joined) - 1);
	}
	reading->rest->sso.scopes = joined;
}

static void take_cookie_key_file(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_file(tree, node, "cookie_key_file", reading, &reading->rest->sso.cookie_key_file);
}

/* "//host" and "/\host" lead elsewhere. */
static void take_after_login(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (!rest_text(tree, node, "after_login", reading, &text))
		return;
	if (text.text[0] != '/' || text.text[1] == '/' || strchr(text.text, '\\'))
		tree_mistake(tree, node, "after_login must be a local path");
	else
		reading->rest->sso.after_login = text.text;
}

static const struct tree_key sso_keys[] = {
	{"provider", true, take_provider},
	{"authorize_url", false, take_authorize_url},
	{"client_id", true, take_client_id},
	{"scopes", false, take_scopes},
	{"hosted_domain", false, take_hosted_domain},
	{"cookie_key_file", true, take_cookie_key_file},
	{"redirect_url", true, take_redirect_url},
	{"after_login", false, take_after_login},
	{NULL, false, NULL},
};

void rest_take_sso(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_rest_sso *sso = &reading->rest->sso;

	if (!tree_is_mapping(tree, node, "sso"))
		return;
	*sso = (struct config_rest_sso){
		.set = true,
		.place = rest_place(node),
		.provider = "",
		.scopes = SCOPES_DEFAULT,
		.after_login = "/",
	};
	tree_walk(tree, node, sso_keys, reading);
	if (sso->authorize_url)
		return;
	if (strcmp(sso->provider, "google") == 0)
		sso->authorize_url = GOOGLE_AUTHORIZE_URL;
	else
		tree_mistake(tree, node,
			     "key \"authorize_url\" is missing; only the provider google has "
			     "one known here");
}

/* ---- cors ---- */

static bool origin_or_any(struct tree *tree, const yaml_node_t *node, const char *what,
			  struct rest_reading *reading, struct config_text *text)
{
	struct span bytes = span_make(node->data.scalar.value, node->data.scalar.length);

	if (node->type == YAML_SCALAR_NODE && span_equal(bytes, SPAN("*")))
		return rest_text(tree, node, what, reading, text);
	return rest_origin(tree, node, what, reading, text);
}

static void take_origins(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_texts(tree, node,
		   &(struct rest_list){"origins", "an origin", REST_ORIGINS_MAX, origin_or_any},
		   reading, &reading->rest->cors.origins);
}

static void take_credentials(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	tree_bool(tree, node, "credentials", &reading->rest->cors.credentials);
}

static void take_max_age(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	uint64_t ms;

	if (tree_duration(tree, node, (struct tree_number){"max_age", 0, CORS_MAX_AGE_MS_MAX}, &ms))
		reading->rest->cors.max_age_s = ms / 1000;
}

static const struct tree_key cors_keys[] = {
	{"origins", true, take_origins},
	{"credentials", false, take_credentials},
	{"max_age", false, take_max_age},
	{NULL, false, NULL},
};

/* Fetch §3.3.3: with credentials "*" is an origin like any other, and matches none. */
void rest_take_cors(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	const struct config_rest_cors *cors = &reading->rest->cors;

	if (!tree_is_mapping(tree, node, "cors"))
		return;
	tree_walk(tree, node, cors_keys, reading);
	for (size_t i = 0; cors->credentials && i < cors->origins.count; i++) {
		if (strcmp(cors->origins.items[i].text, "*") == 0)
			tree_mistake(tree, node, "origin * cannot have credentials");
	}
}

void rest_take_allowed_origins(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_texts(
		tree, node,
		&(struct rest_list){"allowed_origins", "an origin", REST_ORIGINS_MAX, rest_origin},
		reading, &reading->rest->allowed_origins);
}
