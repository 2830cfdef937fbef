#include "config/rest.h"

#include "base/check.h"
#include "config/rest_internal.h"

#include <errno.h>

#define VALIDATE_CACHE_MS_MAX 300000 /* longer, and a permission withdrawn would stay too long */

/* ---- values ---- */

struct config_place rest_place(const yaml_node_t *node)
{
	return (struct config_place){
		.line = (uint32_t)node->start_mark.line + 1,
		.column = (uint32_t)node->start_mark.column + 1,
	};
}

void *rest_alloc(struct rest_reading *reading, size_t count, size_t size)
{
	void *memory = arena_alloc(reading->file->memory, count * size);

	if (!memory)
		reading->no_memory = true;
	return memory;
}

static const char *copy_text(struct rest_reading *reading, struct span text)
{
	struct span copy = arena_copy(reading->file->memory, text);

	if (!copy.data)
		reading->no_memory = true;
	return (const char *)copy.data;
}

static bool is_printable(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] <= 0x20 || text.data[i] > 0x7e)
			return false;
	}
	return true;
}

bool rest_text(struct tree *tree, const yaml_node_t *node, const char *what,
	       struct rest_reading *reading, struct config_text *text)
{
	struct span bytes;

	if (!tree_text(tree, node, what, &bytes))
		return false;
	if (bytes.len == 0 || bytes.len > REST_TEXT_MAX || !is_printable(bytes)) {
		tree_mistake(tree, node, "%s must be 1 to %d printable ASCII bytes without spaces",
			     what, REST_TEXT_MAX);
		return false;
	}
	text->text = copy_text(reading, bytes);
	text->place = rest_place(node);
	return text->text != NULL;
}

bool rest_upstream(struct tree *tree, const yaml_node_t *node, struct rest_reading *reading,
		   uint32_t *index)
{
	struct span name;

	if (!tree_text(tree, node, "upstream", &name))
		return false;

	int found = config_upstream_find(reading->file, name);

	if (found < 0) {
		tree_mistake(tree, node, "upstream %s is not among the upstreams",
			     quoted_make(name).text);
		return false;
	}
	*index = (uint32_t)found;
	return true;
}

bool rest_file(struct tree *tree, const yaml_node_t *node, const char *what,
	       struct rest_reading *reading, struct config_text *path)
{
	struct span bytes;

	if (!tree_text(tree, node, what, &bytes))
		return false;
	if (bytes.len == 0 || span_find_byte(bytes, 0) >= 0) {
		tree_mistake(tree, node, "%s must name a file", what);
		return false;
	}

	const char *slash = strrchr(tree->path, '/');
	size_t folder = bytes.data[0] == '/' || !slash ? 0 : (size_t)(slash - tree->path) + 1;
	char *joined = rest_alloc(reading, 1, folder + bytes.len + 1);

	if (!joined)
		return false;
	memcpy(joined, tree->path, folder);
	memcpy(joined + folder, bytes.data, bytes.len);
	*path = (struct config_text){joined, rest_place(node)};
	return true;
}

static bool is_there(const struct config_texts *texts, const char *text)
{
	for (size_t i = 0; i < texts->count; i++) {
		if (strcmp(texts->items[i].text, text) == 0)
			return true;
	}
	return false;
}

void rest_texts(struct tree *tree, const yaml_node_t *node, const struct rest_list *list,
		struct rest_reading *reading, struct config_texts *texts)
{
	if (!tree_is_sequence(tree, node, list->what))
		return;

	const yaml_node_item_t *item = node->data.sequence.items.start;
	size_t count = (size_t)(node->data.sequence.items.top - item);

	if (count > list->max) {
		tree_mistake(tree, node, "more than %zu of %s", list->max, list->what);
		count = list->max;
	}
	if (count == 0)
		return;
	texts->items = rest_alloc(reading, count, sizeof(texts->items[0]));
	for (size_t i = 0; texts->items && i < count; i++) {
		struct config_text *text = &texts->items[texts->count];
		const yaml_node_t *at = tree_node(tree, item[i]);

		if (!list->take(tree, at, list->item, reading, text))
			continue;
		if (is_there(texts, text->text))
			tree_mistake(tree, at, "%s is here twice",
				     quoted_make(span_from_cstr(text->text)).text);
		else
			texts->count++;
	}
}

/* ---- base_path ---- */

static void take_base_path(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (!rest_text(tree, node, "base_path", reading, &text))
		return;

	size_t len = strlen(text.text);

	if (text.text[0] != '/' || text.text[len - 1] == '/' || strpbrk(text.text, "{}*:?#"))
		tree_mistake(tree, node,
			     "base_path must begin with / and end without, and have none "
			     "of {}*:?#");
	else
		reading->rest->base_path = text.text;
}

/* ---- auth ---- */

static void take_auth_upstream(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	if (rest_upstream(tree, node, reading, &reading->rest->auth.upstream))
		reading->rest->auth.set = true;
}

/* RFC 6265 §4.1.1: a token. */
static void take_cookie(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (!rest_text(tree, node, "cookie", reading, &text))
		return;
	if (strpbrk(text.text, "()<>@,;:\\\"/[]?={}"))
		tree_mistake(tree, node, "cookie %s is no name of a cookie",
			     quoted_make(span_from_cstr(text.text)).text);
	else
		reading->rest->auth.cookie = text.text;
}

static void take_validate_cache(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	tree_duration(tree, node, (struct tree_number){"validate_cache", 0, VALIDATE_CACHE_MS_MAX},
		      &reading->rest->auth.validate_cache_ms);
}

static const struct tree_key auth_keys[] = {
	{"upstream", true, take_auth_upstream},
	{"cookie", false, take_cookie},
	{"validate_cache", false, take_validate_cache},
	{NULL, false, NULL},
};

static void take_auth(struct tree *tree, const yaml_node_t *node, void *target)
{
	if (tree_is_mapping(tree, node, "auth"))
		tree_walk(tree, node, auth_keys, target);
}

/* ---- services ---- */

static void take_service_name(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_text(tree, node, "service", reading, &reading->service->service);
}

static void take_service_upstream(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_upstream(tree, node, reading, &reading->service->upstream);
}

static void take_service_public(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	tree_bool(tree, node, "public", &reading->service->is_public);
}

static const struct tree_key service_keys[] = {
	{"service", true, take_service_name},
	{"upstream", true, take_service_upstream},
	{"public", false, take_service_public},
	{NULL, false, NULL},
};

/* Room for the items of a sequence, at most `max`. NULL: nothing to read. */
static void *take_items(struct tree *tree, const yaml_node_t *node, struct tree_number rows,
			struct rest_reading *reading, size_t size, size_t *count)
{
	*count = 0;
	if (!tree_is_sequence(tree, node, rows.what))
		return NULL;

	const yaml_node_item_t *item = node->data.sequence.items.start;

	*count = (size_t)(node->data.sequence.items.top - item);
	if (*count > rows.max) {
		tree_mistake(tree, tree_node(tree, item[rows.max]), "more than %zu %s",
			     (size_t)rows.max, rows.what);
		*count = rows.max;
	}
	return *count > 0 ? rest_alloc(reading, *count, size) : NULL;
}

static void take_services(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_rest *rest = reading->rest;
	size_t count;

	rest->services =
		take_items(tree, node, (struct tree_number){"services", 0, REST_SERVICES_MAX},
			   reading, sizeof(rest->services[0]), &count);
	for (size_t i = 0; rest->services && i < count; i++) {
		const yaml_node_t *body = tree_node(tree, node->data.sequence.items.start[i]);

		reading->service = &rest->services[rest->service_count];
		if (!tree_is_mapping(tree, body, "a service"))
			continue;
		tree_walk(tree, body, service_keys, reading);
		if (reading->service->service.text)
			rest->service_count++;
		else
			*reading->service = (struct config_rest_service){0};
	}
}

/* ---- routes ---- */

/* RFC 9110 §5.6.2, upper case as every method in use. */
static void take_method(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (!rest_text(tree, node, "method", reading, &text))
		return;
	for (const char *at = text.text; *at; at++) {
		if ((*at < 'A' || *at > 'Z') && *at != '-') {
			tree_mistake(tree, node, "method %s is none (upper-case letters and -)",
				     quoted_make(span_from_cstr(text.text)).text);
			return;
		}
	}
	reading->route->method = text;
}

static void take_route_path(struct tree *tree, const yaml_node_t *node, const char *what,
			    struct rest_reading *reading)
{
	struct config_text text;

	if (!rest_text(tree, node, what, reading, &text))
		return;
	if (text.text[0] != '/')
		tree_mistake(tree, node, "%s must begin with /", what);
	else if (reading->route->path.text)
		tree_mistake(tree, node, "path and absolute exclude each other");
	else
		reading->route->path = text;
}

static void take_path(struct tree *tree, const yaml_node_t *node, void *target)
{
	take_route_path(tree, node, "path", target);
}

static void take_absolute(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	reading->is_absolute = true;
	take_route_path(tree, node, "absolute", reading);
}

static void take_rpc(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_text text;

	if (!rest_text(tree, node, "rpc", reading, &text))
		return;

	const char *slash = strchr(text.text, '/');

	if (!slash || slash == text.text || slash[1] == '\0' || strchr(slash + 1, '/'))
		tree_mistake(tree, node, "rpc %s must be <package>.<Service>/<Method>",
			     quoted_make(span_from_cstr(text.text)).text);
	else
		reading->route->rpc = text;
}

static void take_route_upstream(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_upstream(tree, node, reading, &reading->route->upstream);
}

static void take_permission(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_text(tree, node, "permission", reading, &reading->route->permission);
}

static void take_body(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_text(tree, node, "body", reading, &reading->route->body);
}

static void take_response_body(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_text(tree, node, "response_body", reading, &reading->route->response_body);
}

static void take_route_public(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	tree_bool(tree, node, "public", &reading->route->is_public);
}

static const struct tree_key route_keys[] = {
	{"method", true, take_method},
	{"path", false, take_path},
	{"absolute", false, take_absolute},
	{"rpc", true, take_rpc},
	{"upstream", true, take_route_upstream},
	{"permission", false, take_permission},
	{"body", false, take_body},
	{"response_body", false, take_response_body},
	{"public", false, take_route_public},
	{NULL, false, NULL},
};

/* Whether the route is whole; base_path comes later, it may stand below. */
static bool read_route(struct tree *tree, const yaml_node_t *body, struct rest_reading *reading)
{
	struct config_rest_route *route = reading->route;

	if (!tree_is_mapping(tree, body, "a route"))
		return false;
	reading->is_absolute = false;
	tree_walk(tree, body, route_keys, reading);
	if (!route->path.text) {
		if (!reading->is_absolute)
			tree_mistake(tree, body, "key \"path\" or \"absolute\" is missing");
		return false;
	}
	if (route->is_public && route->permission.text)
		tree_mistake(tree, body, "a public route asks for no permission");
	route->is_absolute = reading->is_absolute;
	return route->method.text && route->rpc.text;
}

static void take_routes(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;
	struct config_rest *rest = reading->rest;
	size_t count;

	rest->routes = take_items(tree, node, (struct tree_number){"routes", 0, REST_ROUTES_MAX},
				  reading, sizeof(rest->routes[0]), &count);
	for (size_t i = 0; rest->routes && i < count; i++) {
		reading->route = &rest->routes[rest->route_count];
		if (read_route(tree, tree_node(tree, node->data.sequence.items.start[i]), reading))
			rest->route_count++;
		else
			*reading->route = (struct config_rest_route){0};
	}
}

/* ---- json, grpc_web ---- */

static void take_print_defaults(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	tree_bool(tree, node, "print_defaults", &reading->rest->json.print_defaults);
}

static void take_ignore_unknown_query(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	tree_bool(tree, node, "ignore_unknown_query", &reading->rest->json.ignore_unknown_query);
}

static void take_ignore_unknown_body(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	tree_bool(tree, node, "ignore_unknown_body", &reading->rest->json.ignore_unknown_body);
}

static const struct tree_key json_keys[] = {
	{"print_defaults", false, take_print_defaults},
	{"ignore_unknown_query", false, take_ignore_unknown_query},
	{"ignore_unknown_body", false, take_ignore_unknown_body},
	{NULL, false, NULL},
};

static void take_json(struct tree *tree, const yaml_node_t *node, void *target)
{
	if (tree_is_mapping(tree, node, "json"))
		tree_walk(tree, node, json_keys, target);
}

static void take_grpc_web(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct rest_reading *reading = target;

	rest_texts(tree, node,
		   &(struct rest_list){"grpc_web", "a service", REST_GRPC_WEB_MAX, rest_text},
		   reading, &reading->rest->grpc_web);
}

/* ---- the section ---- */

static const struct tree_key rest_keys[] = {
	{"base_path", false, take_base_path},
	{"auth", false, take_auth},
	{"services", false, take_services},
	{"routes", false, take_routes},
	{"json", false, take_json},
	{"grpc_web", false, take_grpc_web},
	{"sso", false, rest_take_sso},
	{"cors", false, rest_take_cors},
	{"allowed_origins", false, rest_take_allowed_origins},
	{NULL, false, NULL},
};

static void add_base_path(struct rest_reading *reading)
{
	const char *base = reading->rest->base_path;
	size_t len = strlen(base);

	for (size_t i = 0; len > 0 && i < reading->rest->route_count; i++) {
		struct config_rest_route *route = &reading->rest->routes[i];
		size_t rest = strlen(route->path.text);

		if (route->is_absolute)
			continue;

		char *whole = rest_alloc(reading, 1, len + rest + 1);

		if (!whole)
			return;
		memcpy(whole, base, len);
		memcpy(whole + len, route->path.text, rest);
		route->path.text = whole;
	}
}

static void read_section(struct rest_reading *reading, struct tree *tree,
			 const yaml_node_t *descriptor_sets, const yaml_node_t *node)
{
	struct config_rest *rest = reading->rest;

	*rest = (struct config_rest){
		.base_path = "",
		.auth = {.cookie = "session_token", .validate_cache_ms = 5000},
		.cors = {.max_age_s = 600},
	};
	if (descriptor_sets)
		rest_texts(tree, descriptor_sets,
			   &(struct rest_list){"descriptor_sets", "a descriptor set",
					       REST_DESCRIPTOR_SETS_MAX, rest_file},
			   reading, &rest->descriptor_sets);
	tree_walk(tree, node, rest_keys, reading);
	add_base_path(reading);
	if ((rest->service_count > 0 || rest->route_count > 0) &&
	    rest->descriptor_sets.count == 0 && !descriptor_sets)
		tree_mistake(tree, node, "rest needs descriptor_sets for its services and routes");
	if (rest->sso.set && !rest->auth.set)
		tree_mistake(tree, node, "sso needs auth");
}

int rest_read(struct config_file *file, struct tree *tree, const yaml_node_t *descriptor_sets,
	      const yaml_node_t *rest)
{
	struct rest_reading reading = {.file = file};

	if (!rest) {
		if (descriptor_sets)
			tree_mistake(tree, descriptor_sets,
				     "descriptor_sets are for rest, which is not "
				     "here");
		return 0;
	}
	if (!tree_is_mapping(tree, rest, "rest"))
		return 0;
	reading.rest = rest_alloc(&reading, 1, sizeof(*reading.rest));
	if (reading.rest)
		read_section(&reading, tree, descriptor_sets, rest);
	file->rest = reading.rest;
	return reading.no_memory ? -ENOMEM : 0;
}
