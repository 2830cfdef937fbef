#include "edge/router.h"

#include "base/check.h"
#include "base/list.h"

#include <errno.h>
#include <stdlib.h>

struct router_entry {
	struct list by_path;  /* in router_path.entries */
	struct list by_order; /* in router.entries */
	const struct route *route;
};

struct router_path {
	struct hash_node node;
	struct list entries;
	const char *path; /* the first route's */
};

struct router {
	struct hash_table paths;
	struct list entries;
};

static bool path_matches(const struct hash_node *node, struct span key)
{
	const struct router_path *path = CONTAINER_OF(node, struct router_path, node);

	return span_equal(span_from_cstr(path->path), key);
}

struct router *router_create(struct hash_secret secret)
{
	struct router *router = malloc(sizeof(*router));

	if (!router)
		return NULL;
	hash_init(&router->paths, path_matches, secret);
	list_init(&router->entries);
	return router;
}

static bool free_path(struct hash_node *node, void *context)
{
	struct router *router = context;

	hash_remove(&router->paths, node);
	free(CONTAINER_OF(node, struct router_path, node));
	return true;
}

void router_destroy(struct router *router)
{
	if (!router)
		return;
	LIST_FOR_EACH (&router->entries, link)
		free(CONTAINER_OF(link, struct router_entry, by_order));
	(void)hash_each(&router->paths, free_path, router);
	hash_finish(&router->paths);
	free(router);
}

static struct router_path *path_find(const struct router *router, struct span path)
{
	struct hash_node *node = hash_find(&router->paths, path);

	return node ? CONTAINER_OF(node, struct router_path, node) : NULL;
}

static const struct route *path_find_method(const struct router_path *path, struct span method)
{
	LIST_FOR_EACH (&path->entries, link) {
		const struct route *route = CONTAINER_OF(link, struct router_entry, by_path)->route;

		if (span_equal(span_from_cstr(route->method), method))
			return route;
	}
	return NULL;
}

static struct router_path *path_create(struct router *router, const struct route *route)
{
	struct router_path *path = malloc(sizeof(*path));

	if (!path)
		return NULL;
	list_init(&path->entries);
	path->path = route->path;
	if (hash_insert(&router->paths, &path->node, span_from_cstr(route->path)) != 0) {
		free(path);
		return NULL;
	}
	return path;
}

int router_add(struct router *router, const struct route *route)
{
	struct router_path *path = path_find(router, span_from_cstr(route->path));

	if (path && path_find_method(path, span_from_cstr(route->method)))
		return -EEXIST;

	struct router_entry *entry = malloc(sizeof(*entry));

	if (!entry)
		return -ENOMEM;
	if (!path)
		path = path_create(router, route);
	if (!path) {
		free(entry);
		return -ENOMEM;
	}
	entry->route = route;
	list_push_back(&path->entries, &entry->by_path);
	list_push_back(&router->entries, &entry->by_order);
	return 0;
}

/* "GET, HEAD, POST"; a name that does not fit whole is left out. */
static void allow_append(char allow[ROUTER_ALLOW_MAX], const char *method)
{
	size_t len = strlen(allow), add = strlen(method), gap = len > 0 ? 2 : 0;

	if (len + gap + add >= ROUTER_ALLOW_MAX)
		return;
	memcpy(allow + len, ", ", gap);
	memcpy(allow + len + gap, method, add + 1);
}

static void allow_write(const struct router_path *path, char allow[ROUTER_ALLOW_MAX])
{
	allow[0] = '\0';
	LIST_FOR_EACH (&path->entries, link) {
		const char *method =
			CONTAINER_OF(link, struct router_entry, by_path)->route->method;

		allow_append(allow, method);
		if (strcmp(method, "GET") == 0 && !path_find_method(path, SPAN("HEAD")))
			allow_append(allow, "HEAD");
	}
}

const struct route *router_find(const struct router *router, struct span method, struct span path,
				enum err *err, char allow[ROUTER_ALLOW_MAX])
{
	const struct router_path *found = path_find(router, path);

	if (!found) {
		*err = ERR_NOT_FOUND;
		return NULL;
	}

	const struct route *route = path_find_method(found, method);

	if (!route && span_equal(method, SPAN("HEAD")))
		route = path_find_method(found, SPAN("GET"));
	if (!route) {
		*err = ERR_METHOD_NOT_ALLOWED;
		allow_write(found, allow);
	}
	return route;
}

void router_each(const struct router *router,
		 void (*visit)(const struct route *route, void *context), void *context)
{
	LIST_FOR_EACH (&router->entries, link)
		visit(CONTAINER_OF(link, struct router_entry, by_order)->route, context);
}
