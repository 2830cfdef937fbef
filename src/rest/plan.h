/*
 * plan: what a configuration file makes of the API gateway: descriptors loaded, every route
 * compiled and in the tree. Immutable once made, shared by all workers, counted; any thread reads.
 * Source: api.md §1, §3.
 */
#ifndef REST_PLAN_H
#define REST_PLAN_H

#include "auth/seal.h"
#include "codec/schema.h"
#include "config/config.h"
#include "config/report.h"
#include "rest/table.h"

#define PLAN_ROUTES_MAX 16384

/* A path variable and the field it fills. */
struct plan_variable {
	const struct schema_field *path[SCHEMA_PATH_MAX];
	size_t path_count;
};

/* Who serves a route. */
enum plan_kind { PLAN_RPC, PLAN_LOGIN, PLAN_CALLBACK, PLAN_LOGOUT };

struct plan_route {
	enum plan_kind kind;
	struct span method; /* "GET", or "*" */
	struct template template;
	const char *label; /* the template as written, base_path included: for metrics */
	bool owns_label;
	const struct schema_method *rpc;			/* NULL unless PLAN_RPC */
	struct plan_variable variables[TEMPLATE_VARIABLES_MAX]; /* as the template's */
	uint32_t upstream;					/* index in the file's upstreams */
	struct span permission;					/* empty: a session is enough */
	bool is_public;						/* no session either */
	bool takes_body, body_is_field;
	const struct schema_field *body;     /* with body_is_field */
	const struct schema_field *response; /* response_body; NULL: the whole message */
};

/* A service that browsers call by gRPC-Web. */
struct plan_web_service {
	struct span name;
	const struct schema_service *service; /* NULL: the edge gateway's own */
	/* Of each of its methods what the strictest of all that names it asks for: upstream,
	 * permission, is_public. Label: "/pkg.Service/Method". */
	struct plan_route *routes;
};

struct plan {
	const struct config_rest *rest;
	struct schema *schema;
	struct table *table;
	struct plan_route **routes;
	size_t route_count;
	struct plan_web_service *web_services;
	size_t web_service_count;
	struct seal *seal; /* NULL: no sign-on */
};

/*
 * Makes it of file->rest, if there is one, as a config_compile_fn: file->compiled. Every mistake is
 * reported with its place.
 */
int plan_compile(struct config_file *file, const char *path, struct report *report);

/*
 * The service of rest.grpc_web that a path "/<service>/<method>" is of, and the path's method, which
 * may be none of it. NULL: of none.
 */
const struct plan_web_service *plan_find_web_service(const struct plan *plan, struct span path,
						     struct span *method);

/* NULL: the file says nothing of an API gateway. Lifetime: the file's. */
static inline const struct plan *plan_of(const struct config_file *file)
{
	return file->compiled;
}

#endif
