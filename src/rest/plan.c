#include "rest/plan.h"

#include "base/check.h"
#include "base/explain.h"
#include "config/file.h"
#include "config/rooms.h"
#include "rest/login.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Where a route comes from, for what is said of it. */
struct origin {
	struct config_place place; /* of the row, or of the service's */
	bool is_annotation;
};

struct making {
	struct plan *plan;
	const char *path; /* of the file */
	struct report *report;
	struct origin *origins; /* of plan->routes */
	size_t room;		/* for routes */
	bool no_memory;
};

static void mistake(struct making *making, struct config_place place, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void mistake(struct making *making, struct config_place place, const char *format, ...)
{
	char where[4400], text[640];
	va_list args;

	snprintf(where, sizeof(where), "%s:%" PRIu32 ":%" PRIu32, making->path, place.line,
		 place.column);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report_mistake(making->report, where, "%s", text);
}

/* ---- descriptors ---- */

static void load_descriptors(struct making *making)
{
	const struct config_texts *sets = &making->plan->rest->descriptor_sets;
	struct buf *files = calloc(sets->count + 1, sizeof(*files));
	struct span *bytes = calloc(sets->count + 1, sizeof(*bytes));
	bool good = files && bytes;

	making->no_memory |= !good;
	for (size_t i = 0; files && bytes && i < sets->count; i++) {
		int error = file_read(sets->items[i].text, SCHEMA_SET_BYTES_MAX, &files[i]);

		if (error)
			mistake(making, sets->items[i].place, "descriptor set %s: %s",
				quoted_make(span_from_cstr(sets->items[i].text)).text,
				error == -EFBIG ? "larger than 16 MiB" : errno_text(-error));
		good = good && error == 0;
		bytes[i] = buf_span(&files[i]);
	}
	if (good) {
		struct schema_error error;
		int code = schema_create(&making->plan->schema, bytes, sets->count, &error);

		if (code == -ENOMEM)
			making->no_memory = true;
		else if (code)
			mistake(making, sets->items[0].place, "descriptor sets: %s", error.text);
	}
	for (size_t i = 0; files && i < sets->count; i++)
		file_forget(&files[i]);
	free(files);
	free(bytes);
}

/* ---- routes ---- */

static struct plan_route *route_add(struct making *making, struct origin origin)
{
	struct plan *plan = making->plan;
	struct plan_route *route;

	if (plan->route_count == PLAN_ROUTES_MAX) {
		mistake(making, origin.place, "more than %d routes", PLAN_ROUTES_MAX);
		return NULL;
	}
	if (!making->origins || plan->route_count == making->room) {
		size_t room = making->room ? making->room * 2 : 64;
		struct plan_route **routes = reallocarray(plan->routes, room, sizeof(*routes));
		struct origin *origins = reallocarray(making->origins, room, sizeof(*origins));

		if (routes)
			plan->routes = routes;
		if (origins)
			making->origins = origins;
		if (!routes || !origins) {
			making->no_memory = true;
			return NULL;
		}
		making->room = room;
	}
	route = calloc(1, sizeof(*route));
	if (!route) {
		making->no_memory = true;
		return NULL;
	}
	plan->routes[plan->route_count] = route;
	making->origins[plan->route_count++] = origin;
	return route;
}

static void route_drop(struct making *making)
{
	free(making->plan->routes[--making->plan->route_count]);
}

/* What a path can carry: a scalar, an enum, or a message that JSON writes as one. */
static bool is_textual(const struct schema_field *field)
{
	if (field->is_repeated || field->type == SCHEMA_GROUP)
		return false;
	if (field->type != SCHEMA_MESSAGE)
		return true;
	return field->message->kind == SCHEMA_TIMESTAMP ||
	       field->message->kind == SCHEMA_DURATION ||
	       field->message->kind == SCHEMA_FIELD_MASK || field->message->kind == SCHEMA_WRAPPER;
}

static bool resolve_variables(struct making *making, struct plan_route *route,
			      struct config_place place)
{
	const struct schema_message *input = route->rpc->input;
	bool good = true;

	for (size_t i = 0; i < route->template.variable_count; i++) {
		struct span name = route->template.variables[i].field;
		struct plan_variable *variable = &route->variables[i];

		variable->path_count = schema_find_path(input, name, variable->path);
		if (variable->path_count == 0)
			mistake(making, place, "path %s: %.*s is no field of %.*s",
				quoted_make(span_from_cstr(route->label)).text, SPAN_ARGS(name),
				SPAN_ARGS(input->name));
		else if (!is_textual(variable->path[variable->path_count - 1]))
			mistake(making, place, "path %s: %.*s of %.*s cannot be written in a path",
				quoted_make(span_from_cstr(route->label)).text, SPAN_ARGS(name),
				SPAN_ARGS(input->name));
		else
			continue;
		good = false;
	}
	return good;
}

/* What a binding says of bodies; either may be empty. */
struct bodies {
	struct span request, response;
	struct config_place request_place, response_place;
};

static bool resolve_bodies(struct making *making, struct plan_route *route,
			   const struct bodies *bodies)
{
	const struct schema_message *input = route->rpc->input, *output = route->rpc->output;

	route->takes_body = bodies->request.len > 0;
	route->body_is_field = route->takes_body && !span_equal(bodies->request, SPAN("*"));
	if (route->body_is_field)
		route->body = schema_field_of_name(input, bodies->request);
	if (bodies->response.len > 0)
		route->response = schema_field_of_name(output, bodies->response);
	if (route->body_is_field && !route->body)
		mistake(making, bodies->request_place, "body %s is no field of %.*s",
			quoted_make(bodies->request).text, SPAN_ARGS(input->name));
	if (bodies->response.len > 0 && !route->response)
		mistake(making, bodies->response_place, "response_body %s is no field of %.*s",
			quoted_make(bodies->response).text, SPAN_ARGS(output->name));
	return (!route->body_is_field || route->body) &&
	       (bodies->response.len == 0 || route->response);
}

/* Template, fields and bodies of a route whose rpc, method and label are there. */
static bool route_resolve(struct making *making, struct plan_route *route,
			  struct config_place place, const struct bodies *bodies)
{
	const char *why = "";
	bool good = true;

	if (route->rpc->client_streams) {
		mistake(making, place, "%.*s takes a stream, which a request cannot be",
			SPAN_ARGS(route->rpc->path));
		good = false;
	}
	if (template_parse(span_from_cstr(route->label), &route->template, &why) != 0) {
		mistake(making, place, "path %s %s", quoted_make(span_from_cstr(route->label)).text,
			why);
		good = false;
	} else {
		good = resolve_variables(making, route, place) && good;
	}
	return resolve_bodies(making, route, bodies) && good;
}

static void insert(struct making *making, struct plan_route *route, struct origin origin)
{
	const struct table_entry entry = {route->method, &route->template, route};
	void *found = NULL;
	int code = table_add(making->plan->table, &entry, &found);
	size_t other = 0;

	if (code == -ENOMEM)
		making->no_memory = true;
	if (code != -EEXIST)
		return;
	while (making->plan->routes[other] != found)
		other++;
	/* Explicit rows come first, and win. */
	if (origin.is_annotation && !making->origins[other].is_annotation)
		return;
	mistake(making, origin.place, "%.*s %s collides with %s of line %" PRIu32,
		SPAN_ARGS(route->method), quoted_make(span_from_cstr(route->label)).text,
		quoted_make(span_from_cstr(((struct plan_route *)found)->label)).text,
		making->origins[other].place.line);
}

static void check_session(struct making *making, const struct plan_route *route,
			  struct config_place place)
{
	if (!route->is_public && !making->plan->rest->auth.set)
		mistake(making, place, "%s is not public, so rest needs auth",
			quoted_make(span_from_cstr(route->label)).text);
}

static void add_row(struct making *making, const struct config_rest_route *row)
{
	const struct schema_method *rpc =
		schema_find_method(making->plan->schema, span_from_cstr(row->rpc.text));
	const struct origin origin = {.place = row->path.place};

	if (!rpc) {
		mistake(making, row->rpc.place, "rpc %s is in no descriptor set",
			quoted_make(span_from_cstr(row->rpc.text)).text);
		return;
	}

	struct plan_route *route = route_add(making, origin);

	if (!route)
		return;
	route->method = span_from_cstr(row->method.text);
	route->label = row->path.text;
	route->rpc = rpc;
	route->upstream = row->upstream;
	route->permission = span_from_cstr(row->permission.text);
	route->is_public = row->is_public;
	const struct bodies bodies = {span_from_cstr(row->body.text),
				      span_from_cstr(row->response_body.text), row->body.place,
				      row->response_body.place};

	if (!route_resolve(making, route, row->path.place, &bodies)) {
		route_drop(making);
		return;
	}
	check_session(making, route, row->path.place);
	insert(making, route, origin);
}

/* base_path and the rest of a template, in memory of its own. NULL: no memory. */
static const char *label_of(struct making *making, struct span path)
{
	struct span base = span_from_cstr(making->plan->rest->base_path);
	char *label = malloc(base.len + path.len + 1);

	if (!label) {
		making->no_memory = true;
		return NULL;
	}
	memcpy(label, base.data, base.len);
	memcpy(label + base.len, path.data, path.len);
	label[base.len + path.len] = '\0';
	return label;
}

static void add_rule(struct making *making, const struct config_rest_service *row,
		     const struct schema_method *rpc, const struct schema_http_rule *rule)
{
	struct config_place place = row->service.place;
	const struct origin origin = {.place = place, .is_annotation = true};
	struct plan_route *route = route_add(making, origin);

	if (!route)
		return;
	route->method = rule->verb;
	route->label = label_of(making, rule->path);
	route->owns_label = true;
	route->rpc = rpc;
	route->upstream = row->upstream;
	route->is_public = row->is_public;
	const struct bodies bodies = {rule->body, rule->response_body, place, place};

	if (!route->label || !route_resolve(making, route, place, &bodies)) {
		free((char *)(uintptr_t)route->label);
		route_drop(making);
		return;
	}
	check_session(making, route, place);
	insert(making, route, origin);
}

static void add_service(struct making *making, const struct config_rest_service *row)
{
	const struct schema_service *service =
		schema_find_service(making->plan->schema, span_from_cstr(row->service.text));
	size_t rules = 0;

	if (!service) {
		mistake(making, row->service.place, "service %s is in no descriptor set",
			quoted_make(span_from_cstr(row->service.text)).text);
		return;
	}
	for (size_t i = 0; i < service->method_count; i++) {
		const struct schema_method *rpc = &service->methods[i];

		rules += rpc->rule_count;
		for (size_t j = 0; j < rpc->rule_count; j++)
			add_rule(making, row, rpc, &rpc->rules[j]);
	}
	if (rules == 0)
		mistake(making, row->service.place, "service %s has no google.api.http annotation",
			quoted_make(span_from_cstr(row->service.text)).text);
}

/* ---- sign-on ---- */

static void load_key(struct making *making)
{
	const struct config_text *file = &making->plan->rest->sso.cookie_key_file;
	char why[256];

	if (file->text && seal_load(&making->plan->seal, file->text, why, sizeof(why)) != 0)
		mistake(making, file->place, "cookie_key_file %s %s",
			quoted_make(span_from_cstr(file->text)).text, why);
}

/* A location that is too long could not be made: sign-on would never work. */
static void check_location(struct making *making)
{
	const struct config_rest_sso *sso = &making->plan->rest->sso;
	struct login login;
	struct buf location;

	/* told already */
	if (!sso->authorize_url)
		return;
	buf_init(&location, SIZE_MAX);
	login_begin(&login, 0, SPAN_EMPTY);
	if (login_location(&login, sso, &location) != 0)
		making->no_memory = true;
	else if (location.len > LOGIN_LOCATION_MAX)
		mistake(making, sso->place,
			"sso: what a provider is asked would be longer than %d bytes",
			LOGIN_LOCATION_MAX);
	buf_finish(&location);
}

static void add_own(struct making *making, enum plan_kind kind, struct span method,
		    struct span path)
{
	const struct origin origin = {.place = making->plan->rest->sso.place};
	struct plan_route *route = route_add(making, origin);
	const char *why = NULL;

	if (!route)
		return;
	route->kind = kind;
	route->method = method;
	route->label = label_of(making, path);
	route->owns_label = true;
	if (route->label &&
	    template_parse(span_from_cstr(route->label), &route->template, &why) == 0) {
		insert(making, route, origin);
		return;
	}
	if (why)
		mistake(making, origin.place, "path %s %s",
			quoted_make(span_from_cstr(route->label)).text, why);
	free((char *)(uintptr_t)route->label);
	route_drop(making);
}

/* api.md §4. Before all rows, so that those that collide are told. */
static void add_sign_on(struct making *making)
{
	const struct config_rest_sso *sso = &making->plan->rest->sso;
	char login[REST_TEXT_MAX + 32], callback[REST_TEXT_MAX + 32];

	if (!sso->set)
		return;
	load_key(making);
	check_location(making);
	/* Told already. */
	if (sso->provider[0] == '\0')
		return;
	snprintf(login, sizeof(login), "/auth/%s/login", sso->provider);
	snprintf(callback, sizeof(callback), "/auth/%s/callback", sso->provider);
	add_own(making, PLAN_LOGIN, SPAN("GET"), span_from_cstr(login));
	add_own(making, PLAN_CALLBACK, SPAN("GET"), span_from_cstr(callback));
	add_own(making, PLAN_LOGOUT, SPAN("POST"), SPAN("/auth/logout"));
}

/* ---- gRPC-Web ---- */

/* What all the rows and annotations that name an rpc come to. */
struct naming {
	struct plan_route *route;
	bool is_named;
};

static void name_rpc(struct naming *naming, uint32_t upstream, bool is_public)
{
	if (!naming->is_named)
		naming->route->upstream = upstream;
	naming->route->is_public = is_public && (!naming->is_named || naming->route->is_public);
	naming->is_named = true;
}

static void take_permission(struct making *making, struct plan_route *route,
			    const struct config_rest_route *row)
{
	struct span permission = span_from_cstr(row->permission.text);

	if (permission.len == 0)
		return;
	if (route->permission.len > 0 && !span_equal(route->permission, permission))
		mistake(making, row->permission.place,
			"%.*s has two permissions, and gRPC-Web does not tell which route is meant",
			SPAN_ARGS(route->rpc->path));
	route->permission = permission;
}

/* Rows of this very rpc first, then the service's. Returns whether anything names it. */
static bool resolve_web_route(struct making *making, struct plan_route *route)
{
	const struct config_rest *rest = making->plan->rest;
	struct naming naming = {.route = route};
	struct span name = span_from(route->rpc->path, 1);

	for (size_t i = 0; i < rest->route_count; i++) {
		const struct config_rest_route *row = &rest->routes[i];

		if (!span_equal(span_from_cstr(row->rpc.text), name))
			continue;
		name_rpc(&naming, row->upstream, row->is_public);
		take_permission(making, route, row);
	}
	for (size_t i = 0; i < rest->service_count; i++)
		if (span_equal(span_from_cstr(rest->services[i].service.text),
			       route->rpc->service->name))
			name_rpc(&naming, rest->services[i].upstream, rest->services[i].is_public);
	return naming.is_named;
}

/* The upstream of the first route that was found one for. Returns false when there is none. */
static bool upstream_of(const struct plan_web_service *web, const bool *is_named,
			uint32_t *upstream)
{
	for (size_t i = 0; i < web->service->method_count; i++) {
		if (!is_named[i])
			continue;
		*upstream = web->routes[i].upstream;
		return true;
	}
	return false;
}

static void add_web_routes(struct making *making, struct plan_web_service *web,
			   struct config_place place)
{
	size_t count = web->service->method_count;
	bool is_named[SCHEMA_METHODS_MAX] = {false};
	bool needs_session = false;
	uint32_t upstream = 0;

	web->routes = calloc(count + 1, sizeof(web->routes[0]));
	making->no_memory |= !web->routes;
	for (size_t i = 0; web->routes && i < count; i++) {
		web->routes[i].method = SPAN("POST");
		web->routes[i].rpc = &web->service->methods[i];
		is_named[i] = resolve_web_route(making, &web->routes[i]);
	}
	if (!web->routes)
		return;
	if (!upstream_of(web, is_named, &upstream)) {
		mistake(making, place,
			"service %s has no upstream: name it among the services or in a route",
			quoted_make(web->name).text);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (!is_named[i])
			web->routes[i].upstream = upstream;
		needs_session = needs_session || !web->routes[i].is_public;
	}
	if (needs_session && !making->plan->rest->auth.set)
		mistake(making, place, "service %s is not public, so rest needs auth",
			quoted_make(web->name).text);
}

static void add_web_service(struct making *making, const struct config_text *row)
{
	struct plan *plan = making->plan;
	struct plan_web_service *web = &plan->web_services[plan->web_service_count];

	*web = (struct plan_web_service){.name = span_from_cstr(row->text)};
	plan->web_service_count++;
	if (span_equal(web->name, SPAN(EDGE_SERVICE)))
		return;
	web->service = schema_find_service(plan->schema, web->name);
	if (web->service)
		add_web_routes(making, web, row->place);
	else
		mistake(making, row->place, "service %s is in no descriptor set",
			quoted_make(web->name).text);
}

static void add_web_services(struct making *making)
{
	struct plan *plan = making->plan;
	const struct config_texts *names = &plan->rest->grpc_web;

	if (names->count == 0)
		return;
	plan->web_services = calloc(names->count, sizeof(plan->web_services[0]));
	making->no_memory |= !plan->web_services;
	for (size_t i = 0; plan->web_services && i < names->count; i++)
		add_web_service(making, &names->items[i]);
}

const struct plan_web_service *plan_find_web_service(const struct plan *plan, struct span path,
						     struct span *method)
{
	for (size_t i = 0; i < plan->web_service_count; i++) {
		const struct plan_web_service *web = &plan->web_services[i];
		size_t len = web->name.len;

		if (path.len < len + 2 || path.data[0] != '/' || path.data[len + 1] != '/' ||
		    memcmp(path.data + 1, web->name.data, len) != 0)
			continue;
		*method = span_from(path, len + 2);
		return web;
	}
	return NULL;
}

/* ---- the whole ---- */

static void make(struct making *making)
{
	struct plan *plan = making->plan;
	const struct config_rest *rest = plan->rest;

	load_descriptors(making);
	plan->table = table_create();
	if (!plan->table) {
		making->no_memory = true;
		return;
	}
	add_sign_on(making);
	/* Without descriptors each row would only say so once more. */
	if (!plan->schema)
		return;
	for (size_t i = 0; i < rest->route_count; i++)
		add_row(making, &rest->routes[i]);
	for (size_t i = 0; i < rest->service_count; i++)
		add_service(making, &rest->services[i]);
	add_web_services(making);
}

static void plan_free(void *compiled)
{
	struct plan *plan = compiled;

	if (!plan)
		return;
	for (size_t i = 0; i < plan->route_count; i++) {
		if (plan->routes[i]->owns_label)
			free((char *)(uintptr_t)plan->routes[i]->label);
		free(plan->routes[i]);
	}
	free(plan->routes);
	for (size_t i = 0; i < plan->web_service_count; i++)
		free(plan->web_services[i].routes);
	free(plan->web_services);
	table_destroy(plan->table);
	schema_destroy(plan->schema);
	seal_destroy(plan->seal);
	free(plan);
}

int plan_compile(struct config_file *file, const char *path, struct report *report)
{
	struct making making = {.path = path, .report = report};

	if (!file->rest)
		return 0;
	making.plan = calloc(1, sizeof(*making.plan));
	if (!making.plan)
		return -ENOMEM;
	file->compiled = making.plan;
	file->release = plan_free;
	making.plan->rest = file->rest;
	make(&making);
	free(making.origins);
	return making.no_memory ? -ENOMEM : 0;
}
