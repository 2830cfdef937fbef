#include "rest/table.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>

/* What one path's end answers to: by verb and method. */
struct table_route {
	struct table_route *next;
	struct span method;
	const struct template *template;
	void *target;
};

/* `literals` is sorted by length, then bytes. */
struct table_node {
	struct span literal;
	struct table_node **literals;
	size_t literal_count;
	struct table_node *one;
	struct table_route *routes, *rest_routes; /* that end here; that end here with "**" */
};

struct table {
	struct table_node root;
	size_t route_count;
};

static void node_free_children(struct table_node *node);

static void routes_free(struct table_route *routes)
{
	while (routes) {
		struct table_route *next = routes->next;

		free(routes);
		routes = next;
	}
}

static void node_free(struct table_node *node)
{
	if (!node)
		return;
	node_free_children(node);
	free(node);
}

/* Depth: TEMPLATE_SEGMENTS_MAX. */
static void node_free_children(struct table_node *node)
{
	for (size_t i = 0; i < node->literal_count; i++)
		node_free(node->literals[i]);
	free(node->literals);
	node_free(node->one);
	routes_free(node->routes);
	routes_free(node->rest_routes);
}

struct table *table_create(void)
{
	return calloc(1, sizeof(struct table));
}

void table_destroy(struct table *table)
{
	if (!table)
		return;
	node_free_children(&table->root);
	free(table);
}

/* ---- adding ---- */

static int literal_compare(struct span a, struct span b)
{
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return a.len > 0 ? memcmp(a.data, b.data, a.len) : 0;
}

/* The first literal that is not before this one. */
static size_t literal_place(const struct table_node *node, struct span literal)
{
	size_t low = 0, high = node->literal_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (literal_compare(node->literals[middle]->literal, literal) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct table_node *literal_find(const struct table_node *node, struct span literal)
{
	size_t at = literal_place(node, literal);

	if (!node->literals || at == node->literal_count ||
	    !span_equal(node->literals[at]->literal, literal))
		return NULL;
	return node->literals[at];
}

static struct table_node *literal_add(struct table_node *node, struct span literal)
{
	size_t at = literal_place(node, literal);
	struct table_node **grown =
		reallocarray(node->literals, node->literal_count + 1, sizeof(node->literals[0]));

	if (!grown)
		return NULL;
	node->literals = grown;

	struct table_node *child = calloc(1, sizeof(*child));

	if (!child)
		return NULL;
	child->literal = literal;
	memmove(grown + at + 1, grown + at, (node->literal_count - at) * sizeof(grown[0]));
	grown[at] = child;
	node->literal_count++;
	return child;
}

/* The child by this segment, made if it is not there. NULL: no memory. */
static struct table_node *node_child(struct table_node *node,
				     const struct template_segment *segment)
{
	if (segment->kind == TEMPLATE_LITERAL) {
		struct table_node *found = literal_find(node, segment->literal);

		return found ? found : literal_add(node, segment->literal);
	}
	if (!node->one)
		node->one = calloc(1, sizeof(*node->one));
	return node->one;
}

int table_add(struct table *table, const struct table_entry *entry, void **other)
{
	const struct template *template = entry->template;
	struct table_node *node = &table->root;
	struct table_route **routes = NULL;

	if (table->route_count == TABLE_ROUTES_MAX)
		return -ENOSPC;
	for (size_t i = 0; i < template->segment_count; i++) {
		if (template->segments[i].kind == TEMPLATE_REST) {
			routes = &node->rest_routes;
			break;
		}
		node = node_child(node, &template->segments[i]);
		if (!node)
			return -ENOMEM;
	}
	if (!routes)
		routes = &node->routes;
	for (; *routes; routes = &(*routes)->next) {
		if (!span_equal((*routes)->method, entry->method) ||
		    !span_equal((*routes)->template->verb, template->verb))
			continue;
		*other = (*routes)->target;
		return -EEXIST;
	}
	*routes = malloc(sizeof(**routes));
	if (!*routes)
		return -ENOMEM;
	**routes = (struct table_route){
		.method = entry->method,
		.template = template,
		.target = entry->target,
	};
	table->route_count++;
	return 0;
}

/* ---- finding ---- */

struct search {
	struct span method;
	struct span verb;      /* that a route must have; empty: none */
	struct span *segments; /* TABLE_SEGMENTS_MAX */
	size_t segment_count;
	const struct table_route *found; /* the best one so far */
	const struct table_route *near;	 /* the first whose path fits, whatever its method */
	char *allow;
};

static bool has_method(const char *allow, struct span method)
{
	size_t len = strlen(allow);

	for (size_t i = 0; i + method.len <= len; i++) {
		if ((i == 0 || allow[i - 1] == ' ') &&
		    memcmp(allow + i, method.data, method.len) == 0 &&
		    (allow[i + method.len] == ',' || allow[i + method.len] == '\0'))
			return true;
	}
	return false;
}

static void allow_add(char allow[TABLE_ALLOW_MAX], struct span method)
{
	size_t len = strlen(allow), gap = len > 0 ? 2 : 0;

	if (has_method(allow, method) || len + gap + method.len >= TABLE_ALLOW_MAX)
		return;
	memcpy(allow + len, ", ", gap);
	memcpy(allow + len + gap, method.data, method.len);
	allow[len + gap + method.len] = '\0';
}

static void allow_add_route(char allow[TABLE_ALLOW_MAX], struct span method)
{
	allow_add(allow, method);
	if (span_equal(method, SPAN("GET")))
		allow_add(allow, SPAN("HEAD"));
}

/* Whether one of them takes the method; a "*" only if none has it by name. */
static bool search_routes(struct search *search, const struct table_route *routes)
{
	const struct table_route *by_get = NULL, *by_any = NULL;

	for (; routes; routes = routes->next) {
		if (!span_equal(routes->template->verb, search->verb))
			continue;
		if (!search->near)
			search->near = routes;
		if (span_equal(routes->method, search->method)) {
			search->found = routes;
			return true;
		}
		if (span_equal(routes->method, SPAN("*")))
			by_any = routes;
		else if (span_equal(routes->method, SPAN("GET")) &&
			 span_equal(search->method, SPAN("HEAD")))
			by_get = routes;
		if (!by_any)
			allow_add_route(search->allow, routes->method);
	}
	search->found = by_get ? by_get : by_any;
	return search->found != NULL;
}

/* Each node is looked at once at most: its depth says which segment it is for. */
static bool search_node(struct search *search, const struct table_node *node, size_t depth)
{
	if (depth == search->segment_count)
		return search_routes(search, node->routes) ||
		       search_routes(search, node->rest_routes);

	struct span segment = search->segments[depth];
	const struct table_node *child = literal_find(node, segment);

	if (child && search_node(search, child, depth + 1))
		return true;
	if (node->one && segment.len > 0 && search_node(search, node->one, depth + 1))
		return true;
	return search_routes(search, node->rest_routes);
}

/* Returns false when there are more than the bound. */
static bool split(struct search *search, struct span path)
{
	search->segment_count = 0;
	path = span_from(path, 1);
	if (path.len == 0)
		return true; /* "/": none */
	for (;;) {
		ptrdiff_t slash = span_find_byte(path, '/');

		if (search->segment_count == TABLE_SEGMENTS_MAX)
			return false;
		search->segments[search->segment_count++] =
			slash < 0 ? path : span_first(path, (size_t)slash);
		if (slash < 0)
			return true;
		path = span_from(path, (size_t)slash + 1);
	}
}

/* The value of each variable: from its first segment's first byte to its last one's last. */
static void match_fill(struct table_match *match, const struct search *search)
{
	const struct template *template = search->found->template;

	match->target = search->found->target;
	match->template = template;
	for (size_t i = 0; i < template->variable_count; i++) {
		const struct template_variable *variable = &template->variables[i];
		size_t last = (size_t)variable->first + variable->count;
		bool is_rest = template->segments[last - 1].kind == TEMPLATE_REST;

		if (is_rest)
			last = search->segment_count;
		match->values[i] = SPAN_EMPTY;
		if (last <= variable->first)
			continue; /* "**" that matched nothing */

		const uint8_t *start = search->segments[variable->first].data;
		struct span end = search->segments[last - 1];

		match->values[i] = span_make(start, (size_t)(end.data + end.len - start));
	}
}

/* The last segment without ":verb", if it has one. */
static bool cut_verb(struct search *search)
{
	struct span *last = &search->segments[search->segment_count - 1];
	size_t at = last->len;

	while (at > 0 && last->data[at - 1] != ':')
		at--;
	if (at == 0 || at == last->len)
		return false;
	search->verb = span_from(*last, at);
	*last = span_first(*last, at - 1);
	return true;
}

enum table_outcome table_find(const struct table *table, struct span method, struct span path,
			      struct table_match *match, char allow[TABLE_ALLOW_MAX])
{
	struct span segments[TABLE_SEGMENTS_MAX]; /* by itself: 4 KB not cleared for each request */
	struct search search = {.method = method, .segments = segments, .allow = allow};

	allow[0] = '\0';
	CHECK(path.len > 0 && path.data[0] == '/');
	if (!split(&search, path))
		return TABLE_NO_PATH;
	if (search.segment_count > 0) {
		struct span whole = search.segments[search.segment_count - 1];

		if (cut_verb(&search) && search_node(&search, &table->root, 0)) {
			match_fill(match, &search);
			return TABLE_FOUND;
		}
		search.segments[search.segment_count - 1] = whole;
		search.verb = SPAN_EMPTY;
	}
	if (search_node(&search, &table->root, 0)) {
		match_fill(match, &search);
		return TABLE_FOUND;
	}
	if (allow[0] == '\0')
		return TABLE_NO_PATH;
	match->target = search.near->target;
	return TABLE_NO_METHOD;
}
